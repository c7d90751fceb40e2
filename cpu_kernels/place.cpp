// Where the largest and smallest elements are, and reductions of rows that take two passes.
#include <limits>

#include "reduce.h"
#include "vector_math.h"

using namespace reduce;

namespace {

// The first place of the element that wins; NaN wins over numbers.
template <class Op, class T> int64_t place_in_row(const T* x, int64_t n) {
    const T best = fold_row<Op>(x, n);
    int64_t i = 0;
    if (best != best)
        while (x[i] == x[i]) ++i;
    else
        while (x[i] != best) ++i;
    return i;
}

template <class Op, class T>
void place_in_columns(const T* x, int64_t n, int64_t inner, int32_t* RESTRICT y) {
    T best[WIDTH];
    for (int64_t first = 0; first < inner; first += WIDTH) {
        int64_t width = std::min(WIDTH, inner - first);
        std::memcpy(best, x + first, width * sizeof(T));
        std::fill_n(y + first, width, 0);
        for (int64_t r = 1; r < n; ++r) {
            const T* row = x + r * inner + first;
            for (int64_t j = 0; j < width; ++j) {
                T winner = Op::of(best[j], row[j]);
                // Other than the best so far, and that is a number: then the new one won.
                bool changed = (winner != best[j]) & (best[j] == best[j]);
                y[first + j] = changed ? static_cast<int32_t>(r) : y[first + j];
                best[j] = winner;
            }
        }
    }
}

// arrays: x, y (int32); sizes: outer, n, inner.
template <class Op, class T> int places(void* const* arrays, const int64_t* sizes) {
    const T* x = static_cast<const T*>(arrays[0]);
    int32_t* y = static_cast<int32_t*>(arrays[1]);
    const int64_t n = sizes[1], inner = sizes[2];
    parallel(sizes[0], std::max<int64_t>(1, GRAIN / (n * inner)),
             [&](int64_t begin, int64_t end, int64_t) {
                 for (int64_t o = begin; o < end; ++o) {
                     if (inner == 1)
                         y[o] = static_cast<int32_t>(place_in_row<Op>(x + o * n, n));
                     else
                         place_in_columns<Op>(x + o * n * inner, n, inner, y + o * inner);
                 }
             });
    return 0;
}

// Rows in two passes: the mean, then the squares of the distances from it, over n.
template <class T> T row_variance(const T* x, int64_t n, T* squares) {
    const T middle = fold_row<Sum>(x, n) / T(n);
    typename Wide<T>::type total = 0;
    for (int64_t first = 0; first < n; first += WIDTH) {
        int64_t width = std::min(WIDTH, n - first);
        for (int64_t j = 0; j < width; ++j) {
            T d = x[first + j] - middle;
            squares[j] = d * d;
        }
        total += fold_lanes<Sum>(squares, width);
    }
    return T(total / n);
}

template <class T> T row_logsumexp(const T* x, int64_t n, T* powers) {
    T top = fold_row<Largest>(x, n);
    top = std::fabs(top) <= std::numeric_limits<T>::max() ? top : T(0);
    typename Wide<T>::type total = 0;
    for (int64_t first = 0; first < n; first += WIDTH) {
        int64_t width = std::min(WIDTH, n - first);
        for (int64_t j = 0; j < width; ++j) powers[j] = vexp(x[first + j] - top);
        total += fold_lanes<Sum>(powers, width);
    }
    return std::log(T(total)) + top;
}

// arrays: x, y; sizes: rows, n.
template <class T, class F> int over_rows(void* const* arrays, const int64_t* sizes, const F& f) {
    const T* x = static_cast<const T*>(arrays[0]);
    T* y = static_cast<T*>(arrays[1]);
    const int64_t n = sizes[1];
    parallel(sizes[0], std::max<int64_t>(1, GRAIN / (4 * n)),
             [&](int64_t begin, int64_t end, int64_t) {
                 T buffer[WIDTH];
                 for (int64_t o = begin; o < end; ++o) y[o] = f(x + o * n, n, buffer);
             });
    return 0;
}

}  // namespace

#define PLACES(suffix, T)                                                \
    KERNEL(argmax_##suffix) { return places<Largest, T>(arrays, sizes); } \
    KERNEL(argmin_##suffix) { return places<Smallest, T>(arrays, sizes); }
PLACES(f32, float)
PLACES(f64, double)
PLACES(i32, int32_t)
PLACES(i64, int64_t)

KERNEL(var_f32) { return over_rows<float>(arrays, sizes, row_variance<float>); }
KERNEL(var_f64) { return over_rows<double>(arrays, sizes, row_variance<double>); }
KERNEL(logsumexp_f32) { return over_rows<float>(arrays, sizes, row_logsumexp<float>); }
KERNEL(logsumexp_f64) { return over_rows<double>(arrays, sizes, row_logsumexp<double>); }

// How many are true. arrays: x (bool), y (int32); sizes: outer, n, inner.
KERNEL(count) {
    const uint8_t* x = static_cast<const uint8_t*>(arrays[0]);
    int32_t* y = static_cast<int32_t*>(arrays[1]);
    const int64_t n = sizes[1], inner = sizes[2];
    for (int64_t o = 0; o < sizes[0]; ++o) {
        if (inner == 1) {
            int32_t total = 0;
            for (int64_t i = 0; i < n; ++i) total += x[o * n + i];
            y[o] = total;
            continue;
        }
        std::fill_n(y + o * inner, inner, 0);
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < inner; ++j) y[o * inner + j] += x[(o * n + i) * inner + j];
    }
    return 0;
}
