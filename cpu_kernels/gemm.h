// Products of matrices on one thread: C = A B, or C += A B, for any strides of A and B.
//
// Kernels split products over threads and call `product` for each part. It sums over blocks of
// columns of A that fit the caches, keeps a tile of C in registers, and copies a block of A or B
// into the order in which tiles read it where that is faster than reading it as it lies.
// Source: Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", TOMS 2008
#pragma once
#include "runtime.h"

// A matrix: element (i, j) is data[i * row + j * column].
template <class T> struct Matrix {
    const T* data;
    int64_t row, column;

    Matrix at(int64_t i, int64_t j) const { return {data + i * row + j * column, row, column}; }
    Matrix transposed() const { return {data, column, row}; }
};

namespace tiles {

#if defined(__AVX512F__)
constexpr int BYTES = 64, ROWS = 8;
#elif defined(__AVX__)
constexpr int BYTES = 32, ROWS = 4;
#elif defined(__aarch64__)
constexpr int BYTES = 16, ROWS = 8;
#else
constexpr int BYTES = 16, ROWS = 4;
#endif

constexpr int WIDE = 3;          // vectors of a full tile
constexpr int64_t DEPTH = 256;   // columns of A at a time: a panel of B stays in the first cache
constexpr int64_t HEIGHT = 128;  // rows of A at a time, which stay in the second one
constexpr int64_t WIDTH = 480;   // columns of B at a time, likewise
constexpr int64_t SHALLOW = 128;  // sums so short that writing C takes as long

template <class T> constexpr int LANES = BYTES / int(sizeof(T));

template <class T> struct Vector {
    typedef T Type __attribute__((vector_size(BYTES)));
};

// -- tiles ----------------------------------------------------------------------------------------

// Here a product and the sum it is added to are rounded once, where the processor can.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#endif

template <class T> inline typename Vector<T>::Type load(const T* x) {
    typename Vector<T>::Type v;
    std::memcpy(&v, x, BYTES);
    return v;
}
template <class T> inline void store(T* x, typename Vector<T>::Type v) {
    std::memcpy(x, &v, BYTES);
}

// R rows of A times V vectors of each of `depth` rows of B: a tile of C.
template <class T, int R, int V>
void tile(int64_t depth, const T* a, int64_t row, int64_t column, const T* b, int64_t step, T* c,
          int64_t ldc, bool add) {
#if defined(__clang__)
#pragma clang fp contract(fast)
#endif
    typename Vector<T>::Type sums[R][V] = {};
    for (int64_t p = 0; p < depth; ++p, a += column, b += step) {
        typename Vector<T>::Type line[V];
        for (int v = 0; v < V; ++v) line[v] = load(b + v * LANES<T>);
        for (int i = 0; i < R; ++i)
            for (int v = 0; v < V; ++v) sums[i][v] += a[i * row] * line[v];
    }
    for (int i = 0; i < R; ++i)
        for (int v = 0; v < V; ++v) {
            T* to = c + i * ldc + v * LANES<T>;
            store(to, add ? load(to) + sums[i][v] : sums[i][v]);
        }
}

// The sum of the products of two rows.
template <class T> T dot(int64_t n, const T* a, const T* b) {
#if defined(__clang__)
#pragma clang fp contract(fast)
#endif
    constexpr int N = LANES<T>;
    typename Vector<T>::Type sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * N <= n; i += 4 * N)
        for (int v = 0; v < 4; ++v) sums[v] += load(a + i + v * N) * load(b + i + v * N);
    for (; i + N <= n; i += N) sums[0] += load(a + i) * load(b + i);
    sums[0] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    T lanes[N];
    store(lanes, sums[0]);
    for (int half = N / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    T total = lanes[0];
    for (; i < n; ++i) total += a[i] * b[i];
    return total;
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

// -- copies ---------------------------------------------------------------------------------------

// The elements of two vectors in turn: of their first halves, or of their second ones.
template <class T, int SECOND>
inline typename Vector<T>::Type zip(typename Vector<T>::Type a, typename Vector<T>::Type b) {
    constexpr int N = LANES<T>, FIRST = SECOND * N / 2;
    using Whole = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    typename Vector<Whole>::Type order;
    for (int i = 0; i < N; ++i) order[i] = FIRST + i / 2 + i % 2 * N;
#if defined(__clang__)
    typename Vector<T>::Type y;
    for (int i = 0; i < N; ++i) y[i] = i % 2 ? b[FIRST + i / 2] : a[FIRST + i / 2];
    return y;
#else
    return __builtin_shuffle(a, b, order);
#endif
}

// A square of LANES columns, each `column` apart and contiguous, as rows that are `step` apart.
template <class T>
inline void transpose_square(const T* from, int64_t column, T* to, int64_t step) {
    constexpr int N = LANES<T>;
    typename Vector<T>::Type x[N], y[N];
    for (int i = 0; i < N; ++i) x[i] = load(from + i * column);
    for (int done = 1; done < N; done *= 2) {
        for (int i = 0; i < N / 2; ++i) {
            y[2 * i] = zip<T, 0>(x[i], x[i + N / 2]);
            y[2 * i + 1] = zip<T, 1>(x[i], x[i + N / 2]);
        }
        for (int i = 0; i < N; ++i) x[i] = y[i];
    }
    for (int i = 0; i < N; ++i) store(to + i * step, x[i]);
}

// Columns [0, columns) of `depth` rows of B as rows of `width`, filled up with zeros.
template <class T>
void pack_columns(Matrix<T> b, int64_t depth, int64_t columns, int64_t width, T* RESTRICT to) {
    constexpr int64_t N = LANES<T>;
    int64_t j = 0;
    if (b.column == 1 && columns == ROWS && width == ROWS) {
        for (int64_t p = 0; p < depth; ++p)
            std::memcpy(to + p * ROWS, b.data + p * b.row, ROWS * sizeof(T));
    } else if (b.column == 1) {
        for (int64_t p = 0; p < depth; ++p)
            for (j = 0; j < columns; ++j) to[p * width + j] = b.data[p * b.row + j];
    } else {
        int64_t squares = b.row == 1 ? depth / N * N : 0;
        for (; squares && j + N <= columns; j += N) {
            for (int64_t p = 0; p < squares; p += N)
                transpose_square(b.at(p, j).data, b.column, to + p * width + j, width);
            for (int64_t p = squares; p < depth; ++p)
                for (int64_t i = j; i < j + N; ++i) to[p * width + i] = *b.at(p, i).data;
        }
        for (; j < columns; ++j)
            for (int64_t p = 0; p < depth; ++p) to[p * width + j] = *b.at(p, j).data;
    }
    if (columns < width)
        for (int64_t p = 0; p < depth; ++p)
            for (j = columns; j < width; ++j) to[p * width + j] = T(0);
}

// Memory for copies, which a thread keeps: its pages stay in its caches.
template <class T> struct Copies {
    alignas(64) T b[DEPTH * (WIDTH + WIDE * LANES<T>)];
    alignas(64) T a[DEPTH * (HEIGHT + ROWS)];
    alignas(64) T c[ROWS * WIDE * LANES<T>];
};

template <class T> Copies<T>& copies() {
    static thread_local Copies<T> memory;
    return memory;
}

// -- products of blocks ---------------------------------------------------------------------------

template <class T>
void run_tile(int rows, int vectors, int64_t depth, Matrix<T> a, const T* b, int64_t step, T* c,
              int64_t ldc, bool add) {
    constexpr decltype(&tile<T, 1, 1>) TILES[2][WIDE] = {
        {tile<T, 1, 1>, tile<T, 1, 2>, tile<T, 1, 3>},
        {tile<T, ROWS, 1>, tile<T, ROWS, 2>, tile<T, ROWS, 3>}};
    TILES[rows > 1][vectors - 1](depth, a.data, a.row, a.column, b, step, c, ldc, add);
}

// The same for a tile that C has only some rows and columns of.
template <class T>
void run_part(int rows, int vectors, int64_t depth, Matrix<T> a, const T* b, int64_t step, T* c,
              int64_t ldc, bool add, int64_t columns) {
    T* whole = copies<T>().c;
    int64_t width = vectors * LANES<T>;
    run_tile(rows, vectors, depth, a, b, step, whole, width, false);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
            c[i * ldc + j] = add ? c[i * ldc + j] + whole[i * width + j] : whole[i * width + j];
}

// How many of the vectors that are left the next panel takes: 3, or 2 so that no single one is
// last.
inline int next_panel(int64_t vectors) {
    return vectors == 4 || vectors == 2 ? 2 : int(std::min<int64_t>(vectors, WIDE));
}

// C (rows, columns) = or += A (rows, depth) B (depth, columns), blocks that fit the caches.
template <class T>
void block(int64_t rows, int64_t columns, int64_t depth, Matrix<T> a, bool pack_a, Matrix<T> b,
           const T* packed, T* c, int64_t ldc, bool add) {
    Copies<T>& memory = copies<T>();
    int64_t full = rows / ROWS * ROWS;
    T* tail = memory.a;
    if (pack_a) {
        for (int64_t i = 0; i < full; i += ROWS)
            pack_columns(a.at(i, 0).transposed(), depth, ROWS, ROWS, memory.a + i * depth);
        tail += full * depth;
    }
    if (full + 1 < rows) pack_columns(a.at(full, 0).transposed(), depth, rows - full, ROWS, tail);
    auto one = [&](int64_t i, int64_t j, int vectors) {
        int64_t width = vectors * LANES<T>, present = std::min(width, columns - j);
        int64_t step = packed ? width : b.row;
        int height = int(std::min<int64_t>(ROWS, rows - i));
        const T* panel = packed ? packed + j * depth : b.data + j;
        Matrix<T> left = pack_a ? Matrix<T>{memory.a + i * depth, 1, ROWS} : a.at(i, 0);
        if (i == full) left = height > 1 ? Matrix<T>{tail, 1, ROWS} : a.at(i, 0);
        T* to = c + i * ldc + j;
        if (present == width && (height == ROWS || height == 1))
            run_tile(height, vectors, depth, left, panel, step, to, ldc, add);
        else
            run_part(height, vectors, depth, left, panel, step, to, ldc, add, present);
    };
    auto panels = [&](const auto& f) {
        for (int64_t j = 0; j < columns;) {
            int vectors = next_panel((columns - j + LANES<T> - 1) / LANES<T>);
            f(j, vectors);
            j += vectors * LANES<T>;
        }
    };
    if (depth <= SHALLOW)  // rows of C are written as a whole
        for (int64_t i = 0; i < rows; i += ROWS) panels([&](int64_t j, int v) { one(i, j, v); });
    else
        panels([&](int64_t j, int v) {
            for (int64_t i = 0; i < rows; i += ROWS) one(i, j, v);
        });
}

template <class T>
void pack_panels(Matrix<T> b, int64_t depth, int64_t columns, T* to) {
    for (int64_t j = 0; j < columns;) {
        int64_t width = next_panel((columns - j + LANES<T> - 1) / LANES<T>) * LANES<T>;
        pack_columns(b.at(0, j), depth, std::min(width, columns - j), width, to + j * depth);
        j += width;
    }
}

}  // namespace tiles

// C = A B, or C += A B: A is (m, k), B (k, n), and C (m, n) has rows that are ldc apart.
template <class T>
void product(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc,
             bool add = false) {
    using namespace tiles;
    if (k == 0 && !add)
        for (int64_t i = 0; i < m; ++i) std::fill(c + i * ldc, c + i * ldc + n, T(0));
    if (m == 0 || n == 0 || k == 0) return;
    if (n == 1 && m > 1 && ldc == 1)
        return product(n, m, k, b.transposed(), a.transposed(), c, m, add);
    if (m == 1 && a.column == 1 && b.row == 1 && b.column != 1) {
        for (int64_t j = 0; j < n; ++j) {
            T sum = dot(k, a.data, b.at(0, j).data);
            c[j] = add ? c[j] + sum : sum;
        }
        return;
    }
    T* memory = copies<T>().b;
    // Few rows do not repay a copy of B; but tiles read whole vectors, up to the end of a row.
    bool as_it_lies = b.column == 1 && n % LANES<T> == 0 && m <= 4 * ROWS;
    bool pack_a = a.column != 1 && m >= ROWS && n > 2 * WIDE * LANES<T>;
    int64_t depths = (k + DEPTH - 1) / DEPTH, widths = (n + WIDTH - 1) / WIDTH;
    constexpr int64_t PANEL = WIDE * LANES<T>;
    int64_t width = (n / widths + PANEL) / PANEL * PANEL;
    for (int64_t j = 0; j < n; j += width) {
        int64_t columns = std::min(width, n - j);
        for (int64_t part = 0; part < depths; ++part) {
            int64_t p = k * part / depths, depth = k * (part + 1) / depths - p;
            if (!as_it_lies) pack_panels(b.at(p, j), depth, columns, memory);
            for (int64_t i = 0; i < m; i += HEIGHT)
                block(std::min(HEIGHT, m - i), columns, depth, a.at(i, p), pack_a, b.at(p, j),
                      as_it_lies ? nullptr : memory, c + i * ldc + j, ldc, add || part > 0);
        }
    }
}
