// Products of matrices that stay in the caches: recurrent steps, blocks of attention.
//
// BLAS packs both matrices anew with each call, which costs more than the product of a small one.
// Here the right matrix lies in panels of PANEL columns that its user has packed once, and a tile
// of ROWS x PANEL results stays in registers over the whole inner dimension.
#pragma once
#include <type_traits>

#if defined(__FMA__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "runtime.h"

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 6;  // 24 of 32 registers hold results
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 3;  // 12 of 16
#elif defined(__aarch64__)
constexpr int LANES = 4, ROWS = 6;  // 24 of 32
#else
constexpr int LANES = 4, ROWS = 3;
#endif
constexpr int VECTORS = 4, PANEL = VECTORS * LANES;

// A register of floats. It may lie anywhere that floats may.
typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline Vec all(float x) { return x - Vec{}; }  // x - 0 is x, which compilers know

// a * b + c, rounded once where the processor can. Compilers have no common name for it.
inline Vec mad(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
    return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Calls f with its number as a type, 1 <= n <= MOST: tiles are unrolled for each number of rows.
template <int MOST, class F> inline void with_constant(int64_t n, const F& f) {
    if constexpr (MOST > 1) {
        if (n < MOST) return with_constant<MOST - 1>(n, f);
    }
    f(std::integral_constant<int, MOST>());
}

// Cuts [0, n) into blocks of nearly equal length, each at most ROWS: f(begin, length as a type).
template <class F> inline void row_blocks(int64_t n, const F& f) {
    int64_t blocks = (n + ROWS - 1) / ROWS;
    for (int64_t i = 0, begin = 0; i < blocks; ++i) {
        int64_t end = n * (i + 1) / blocks;
        with_constant<ROWS>(end - begin, [&](auto rows) { f(begin, rows); });
        begin = end;
    }
}

// GCC would make a loop for strides of 1 beside that for any, and spill the tile between them.
#if defined(__clang__)
#define NO_VERSIONS
#else
#define NO_VERSIONS __attribute__((optimize("no-version-loops-for-strides")))
#endif

// c (+)= a b for a tile of M rows and N vectors: a(r, p) = a[r * row + p * inner]; rows of b lie
// ldb floats apart. A function of its own, so that the tile is in registers and nowhere else.
template <int M, int N>
__attribute__((noinline)) NO_VERSIONS void tile(bool add, const float* RESTRICT a, int64_t row,
                                                int64_t inner, const float* RESTRICT b,
                                                int64_t ldb, int64_t k, float* RESTRICT c,
                                                int64_t ldc) {
    Vec sums[M][N] = {};
    if (add)
#pragma GCC unroll 8
        for (int r = 0; r < M; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) sums[r][v] = load(c + r * ldc + v * LANES);
#pragma GCC unroll 1
    for (int64_t p = 0; p < k; ++p, a += inner, b += ldb) {
        Vec right[N];
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) right[v] = load(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < M; ++r) {
            Vec left = all(a[r * row]);
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) sums[r][v] = mad(left, right[v], sums[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) store(c + r * ldc + v * LANES, sums[r][v]);
}

// `count` floats, the other lanes 0.
inline Vec load(const float* p, int64_t count) {
    if (count >= LANES) return load(p);
    Vec v{};
    std::memcpy(&v, p, 4 * count);
    return v;
}

constexpr int64_t INNER = 128;  // rows of a panel that stay in the first cache

// c (+)= a b for c of m x n, row-major, with room for n rounded up to LANES. Panels of b lie
// `panel` floats apart, their rows `ldb`: b may be packed, or a matrix with rows padded to LANES.
inline void multiply(bool add, int64_t m, int64_t n, int64_t k, const float* a, int64_t row,
                     int64_t inner, const float* b, int64_t ldb, int64_t panel, float* c,
                     int64_t ldc) {
    int64_t first = 0;
    do {
        int64_t some = std::min(INNER, k - first);
        const float* left = a + first * inner;
        for (int64_t j = 0; j < n; j += PANEL) {
            const float* right = b + j / PANEL * panel + first * ldb;
            int64_t vectors = (std::min<int64_t>(PANEL, n - j) + LANES - 1) / LANES;
            with_constant<VECTORS>(vectors, [&](auto V) {
                row_blocks(m, [&](int64_t i, auto M) {
                    tile<M, V>(add || first, left + i * row, row, inner, right, ldb, some,
                               c + i * ldc + j, ldc);
                });
            });
        }
        first += some;
    } while (first < k);
}

// Packs `count` <= PANEL columns, x(p, j) = x[p * row + j], into one panel of k rows.
inline void pack_columns(const float* x, int64_t row, int64_t k, int64_t count, float* panel) {
    for (int64_t p = 0; p < k; ++p)
        for (int v = 0; v < VECTORS; ++v) {
            int64_t first = v * LANES;
            Vec some = count > first ? load(x + p * row + first, count - first) : Vec{};
            store(panel + p * PANEL + first, some);
        }
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int FourPlaces __attribute__((vector_size(16)));

// Four of the eight numbers of x and y, by their places.
template <int A, int B, int C, int D> inline Four picked(Four x, Four y) {
#if defined(__clang__)
    return __builtin_shufflevector(x, y, A, B, C, D);
#else
    return __builtin_shuffle(x, y, FourPlaces{A, B, C, D});
#endif
}

// y[i * ldy + j] = x[j * ldx + i], four by four.
inline void transpose_four(const float* x, int64_t ldx, float* y, int64_t ldy) {
    Four r[4], s[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) r[j] = *reinterpret_cast<const Four*>(x + j * ldx);
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
        s[j] = picked<0, 4, 1, 5>(r[2 * j], r[2 * j + 1]);
        s[2 + j] = picked<2, 6, 3, 7>(r[2 * j], r[2 * j + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
        *reinterpret_cast<Four*>(y + i * ldy) = picked<0, 1, 4, 5>(s[i], s[i + 1]);
        *reinterpret_cast<Four*>(y + (i + 1) * ldy) = picked<2, 3, 6, 7>(s[i], s[i + 1]);
    }
}

// Packs `count` <= PANEL rows of x as the columns of one panel of k rows.
inline void pack_rows(const float* x, int64_t row, int64_t k, int64_t count, float* panel) {
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
        int64_t p = 0;
        for (; p + 4 <= k; p += 4)
            transpose_four(x + j * row + p, row, panel + p * PANEL + j, PANEL);
        for (; p < k; ++p)
            for (int i = 0; i < 4; ++i) panel[p * PANEL + j + i] = x[(j + i) * row + p];
    }
    for (int64_t p = 0; p < k; ++p)
        for (int64_t i = j; i < PANEL; ++i)
            panel[p * PANEL + i] = i < count ? x[i * row + p] : 0.0f;
}

// Packs k x n into panels: x as it lies, or transposed; on this thread, or on all.
inline void pack_some(bool transposed, const float* x, int64_t row, int64_t k, int64_t n,
                      float* panels, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        int64_t first = i * PANEL, count = std::min<int64_t>(PANEL, n - first);
        if (transposed)
            pack_rows(x + first * row, row, k, count, panels + first * k);
        else
            pack_columns(x + first, row, k, count, panels + first * k);
    }
}
inline void pack(bool transposed, const float* x, int64_t row, int64_t k, int64_t n,
                 float* panels) {
    int64_t grain = std::max<int64_t>(1, (1 << 15) / (k * PANEL + 1));
    parallel((n + PANEL - 1) / PANEL, grain, [=](int64_t begin, int64_t end, int64_t) {
        pack_some(transposed, x, row, k, n, panels, begin, end);
    });
}
