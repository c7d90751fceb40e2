// Matrix products: batches of them, of operands with any strides, split over threads.
#include "gemm.h"

namespace {

constexpr double WORTH_A_THREAD = 1 << 19;  // multiplications: some microseconds

// -- operands whose axes cannot be read in place --------------------------------------------------

// An array with axes (length, stride), in the order in which a copy has them.
struct Axes {
    int64_t count;
    const int64_t* lengths;
    const int64_t* strides;

    int64_t size() const {
        int64_t n = 1;
        for (int64_t i = 0; i < count; ++i) n *= lengths[i];
        return n;
    }
};

// Writes the elements of x one after the other.
template <class T> void copy(const T* x, const Axes& axes, T* to) {
    if (axes.size() == 0) return;
    int64_t last = axes.count - 1, length = axes.lengths[last], stride = axes.strides[last];
    int64_t rows = axes.size() / length;
    parallel(rows, 16384 / length + 1, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t row = begin; row < end; ++row) {
            int64_t rest = row, offset = 0;
            for (int64_t i = last - 1; i >= 0; --i) {
                offset += rest % axes.lengths[i] * axes.strides[i];
                rest /= axes.lengths[i];
            }
            const T* from = x + offset;
            T* out = to + row * length;
            if (stride == 1)
                std::memcpy(out, from, length * sizeof(T));
            else
                for (int64_t j = 0; j < length; ++j) out[j] = from[j * stride];
        }
    });
}

// -- products -------------------------------------------------------------------------------------

// One product. Each thread takes some of the columns or rows; or, where both are few and the sum is
// long, a part of the sum: then there is room for partial sums, which are added up in order.
template <class T>
void split(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc,
           T* partial) {
    double work = double(m) * double(n) * double(k);
    int64_t wanted = std::clamp<int64_t>(int64_t(work / WORTH_A_THREAD), 1, threads());
    constexpr int64_t ROWS = tiles::ROWS, WIDTH = 2 * tiles::LANES<T>;
    if (partial) {
        int64_t parts = threads();
        parallel(parts, 1, [&](int64_t begin, int64_t end, int64_t) {
            for (int64_t i = begin; i < end; ++i) {
                int64_t p = k * i / parts, depth = k * (i + 1) / parts - p;
                T* to = i ? partial + (i - 1) * m * n : c;
                product(m, n, depth, a.at(0, p), b.at(p, 0), to, n);
            }
        });
        for (int64_t i = 0; i + 1 < parts; ++i)
            for (int64_t j = 0; j < m * n; ++j) c[j] += partial[i * m * n + j];
        return;
    }
    auto grain = [&](int64_t length, int64_t unit) {
        return std::max<int64_t>((length / wanted + unit - 1) / unit * unit, unit);
    };
    // Columns: no thread copies what another one does. Rows: those copies are a small part of it.
    if (n >= WIDTH * wanted && (n >= m || m < 2 * ROWS * wanted))
        parallel(n, grain(n, WIDTH), [&](int64_t begin, int64_t end, int64_t) {
            product(m, end - begin, k, a, b.at(0, begin), c + begin, ldc);
        });
    else
        parallel(m, grain(m, ROWS), [&](int64_t begin, int64_t end, int64_t) {
            product(end - begin, n, k, a.at(begin, 0), b, c + begin * ldc, ldc);
        });
}

// The axes of a batch: for each its length, and its strides in a, b and c.
struct Batch {
    int64_t axes;
    const int64_t* table;

    int64_t size() const {
        int64_t n = 1;
        for (int64_t i = 0; i < axes; ++i) n *= table[4 * i];
        return n;
    }
    int64_t place(int64_t number, int which) const {
        int64_t offset = 0;
        for (int64_t i = axes - 1; i >= 0; --i) {
            offset += number % table[4 * i] * table[4 * i + 1 + which];
            number /= table[4 * i];
        }
        return offset;
    }
};

// The copy that the next of the sizes describe, or x where there is none.
template <class T> const T* read(const T* x, const int64_t*& next, T*& spare) {
    Axes axes{next[0], next + 1, next + 1 + next[0]};
    next += 1 + 2 * axes.count;
    if (axes.count == 0) return x;
    T* to = spare;
    spare += (axes.size() + 15) / 16 * 16;
    copy(x, axes, to);
    return to;
}

template <class T> int matmul(void* const* arrays, const int64_t* s) {
    int64_t m = s[0], n = s[1], k = s[2], ldc = s[7], swapped = s[8];
    Batch batch{s[10], s + 11};
    const int64_t* next = s + 11 + 4 * batch.axes;
    T *c = static_cast<T*>(arrays[2]), *spare = static_cast<T*>(arrays[3]);
    Matrix<T> a{read(static_cast<const T*>(arrays[swapped]), next, spare), s[3], s[4]};
    Matrix<T> b{read(static_cast<const T*>(arrays[1 - swapped]), next, spare), s[5], s[6]};
    int64_t products = batch.size();
    auto from = [&](Matrix<T> x, int64_t i, int which) {
        return Matrix<T>{x.data + batch.place(i, which), x.row, x.column};
    };
    if (products < threads()) {
        for (int64_t i = 0; i < products; ++i)
            split(m, n, k, from(a, i, 0), from(b, i, 1), c + batch.place(i, 2), ldc,
                  s[9] ? spare : nullptr);
        return 0;
    }
    double work = double(m) * double(n) * double(k) + 1000;  // and what a call takes
    int64_t grain = int64_t(WORTH_A_THREAD / work) + 1;
    parallel(products, grain, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i)
            product(m, n, k, from(a, i, 0), from(b, i, 1), c + batch.place(i, 2), ldc);
    });
    return 0;
}

}  // namespace

// c = a b, of rows m, columns n, a sum of k; arrays may be read through copies in another order.
// arrays: a, b, c, scratch for copies and partial sums
// sizes: m, n, k; strides of rows and columns of a, of b, of rows of c; whether a and b have
// changed places; whether there is room for partial sums; how many axes the batch has, and of each
// the length and the strides in a, b and c; and of a, then of b, how many axes a copy has (0: there
// is none), their lengths, their strides.
KERNEL(matmul_f32) { return matmul<float>(arrays, sizes); }
KERNEL(matmul_f64) { return matmul<double>(arrays, sizes); }
