// Reductions by sums, products, extrema and logic, along any axes.
#include "reduce.h"

using namespace reduce;

namespace {

// One stage: (outer, n, inner) to (outer, inner), in `chunks` parts of the middle axis, whose
// results are in `partial` in between.
struct Stage {
    int64_t outer, n, inner, chunks;
};

template <class Op, class T> void fold(const Stage& s, const T* x, T* y, T* partial) {
    if (s.inner == 1 && s.chunks == 1) {
        parallel(s.outer, std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, s.n)),
                 [&](int64_t begin, int64_t end, int64_t) {
                     for (int64_t o = begin; o < end; ++o) y[o] = fold_row<Op>(x + o * s.n, s.n);
                 });
        return;
    }
    T* to = s.chunks == 1 ? y : partial;
    int64_t slices = (s.inner + SLICE - 1) / SLICE, units = s.outer * s.chunks * slices;
    int64_t each = s.n / s.chunks * std::min(s.inner, SLICE);
    parallel(units, std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, each)),
             [&](int64_t begin, int64_t end, int64_t) {
                 for (int64_t k = begin; k < end; ++k) {
                     int64_t slice = k % slices * SLICE, part = k / slices;
                     int64_t c = part % s.chunks, o = part / s.chunks;
                     int64_t first = s.n * c / s.chunks, last = s.n * (c + 1) / s.chunks;
                     const T* from = x + (o * s.n + first) * s.inner + slice;
                     T* result = to + part * s.inner + slice;
                     if (s.inner == 1)
                         *result = fold_row<Op>(from, last - first);
                     else
                         fold_columns<Op>(from, last - first, std::min(SLICE, s.inner - slice),
                                          s.inner, result);
                 }
             });
    if (s.chunks > 1) fold<Op>(Stage{s.outer, s.chunks, s.inner, 1}, partial, y, partial);
}

// arrays: x, y, scratch; sizes: stages, then of each outer, n, inner, chunks, where its result is
// in scratch (-1: it is y) and where its partial results are.
template <class Op, class T> void fold_stages(void* const* arrays, const int64_t* sizes) {
    const T* x = static_cast<const T*>(arrays[0]);
    T *y = static_cast<T*>(arrays[1]), *scratch = static_cast<T*>(arrays[2]);
    for (int64_t k = *sizes++; k > 0; --k, sizes += 6) {
        T* to = sizes[4] < 0 ? y : scratch + sizes[4];
        fold<Op>(Stage{sizes[0], sizes[1], sizes[2], sizes[3]}, x, to, scratch + sizes[5]);
        x = to;
    }
}

// numbers: what to divide sums by; sizes end with the number of results.
template <class T>
void mean(void* const* arrays, const int64_t* sizes, const double* numbers) {
    fold_stages<Sum, T>(arrays, sizes);
    T* y = static_cast<T*>(arrays[1]);
    for (int64_t i = 0, n = sizes[1 + 6 * sizes[0]]; i < n; ++i) y[i] /= T(numbers[0]);
}

}  // namespace

#define FOLD(name, Op, T)                   \
    KERNEL(name) {                          \
        fold_stages<Op, T>(arrays, sizes);  \
        return 0;                           \
    }
#define FOLDS(name, Op, I)            \
    FOLD(name##_f32, Op, float)       \
    FOLD(name##_f64, Op, double)      \
    FOLD(name##_i32, Op, I##32_t)     \
    FOLD(name##_i64, Op, I##64_t)

FOLDS(sum, Sum, uint)  // integers wrap around, as in NumPy
FOLDS(prod, Product, uint)
FOLDS(max, Largest, int)
FOLDS(min, Smallest, int)
FOLD(any_b8, Or, uint8_t)
FOLD(all_b8, And, uint8_t)

KERNEL(mean_f32) { mean<float>(arrays, sizes, numbers); return 0; }
KERNEL(mean_f64) { mean<double>(arrays, sizes, numbers); return 0; }
