// The innermost loops of convolutions: a block of results in registers.
//
// A block is up to ROWS rows by one or two vectors of columns. Each step broadcasts one number for
// each row and multiplies it with the vectors: with 32 registers of 16 floats this runs at the
// speed of the multipliers, which BLAS does not reach for matrices as small as those here.
#pragma once
// Sums of products are fused multiply-adds here: twice as fast, and more exact.
#if defined(__clang__)
#pragma clang fp contract(fast)
#else
#pragma GCC optimize("fp-contract=fast")
#endif
#include "lanes.h"

namespace {

constexpr int ROWS = LANES == 16 ? 14 : 6;  // what fits into the registers
constexpr int WIDE = 2 * LANES;             // columns of a full block

// Where the numbers of a row lie: `count` runs of `length` numbers each.
struct Runs {
    const int64_t* offsets;
    int64_t count, length;
};

// y[p][v] = sum over runs r and i of x[p * step + offsets[r] + i] * w[r * length + i][v].
// The rows of `w` are W vectors long; of those of `y`, `columns` numbers are written, after all of
// `x` was read: both may be the same memory.
template <int P, int W>
void product(const float* x, int64_t step, Runs runs, const float* RESTRICT w, float* y,
             int64_t y_step, int64_t columns) {
    Vector sums[P][W] = {};
    for (int64_t r = 0; r < runs.count; ++r) {
        // Three rows a pointer: the addresses of the others need no registers of their own.
        const float* rows[(P + 2) / 3];
#pragma GCC unroll 8
        for (int j = 0; j < (P + 2) / 3; ++j) rows[j] = x + runs.offsets[r] + 3 * j * step;
        for (int64_t i = 0; i < runs.length; ++i, w += W * LANES) {
            Vector factors[W];
#pragma GCC unroll 2
            for (int v = 0; v < W; ++v) factors[v] = load(w + v * LANES);
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) {
                float number = rows[p / 3][p % 3 * step + i];
#pragma GCC unroll 2
                for (int v = 0; v < W; ++v) sums[p][v] += factors[v] * number;
            }
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
        float* to = y + p * y_step;
        if (columns == W * LANES) {
#pragma GCC unroll 2
            for (int v = 0; v < W; ++v) store(to + v * LANES, sums[p][v]);
        } else {
            std::memcpy(to, sums[p], columns * sizeof(float));
        }
    }
}

// Two arrays that are read place by place: `rows` rows of `columns` places.
struct Places {
    int64_t rows, columns;
    int64_t x_row, x_step, g_row, g_step;
};

// sums[p][v] += sum over rows r and places q of x[r, q][p] * g[r, q][v].
template <int P, int W>
void outer(const float* x, const float* g, const Places& places, float* RESTRICT total,
           int64_t step) {
    Vector sums[P][W];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < W; ++v) sums[p][v] = load(total + p * step + v * LANES);
    for (int64_t r = 0; r < places.rows; ++r) {
        const float* a = x + r * places.x_row;
        const float* b = g + r * places.g_row;
        for (int64_t q = 0; q < places.columns; ++q, a += places.x_step, b += places.g_step) {
            Vector factors[W];
#pragma GCC unroll 2
            for (int v = 0; v < W; ++v) factors[v] = load(b + v * LANES);
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
                for (int v = 0; v < W; ++v) sums[p][v] += factors[v] * a[p];
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < W; ++v) store(total + p * step + v * LANES, sums[p][v]);
}

using Product = void (*)(const float*, int64_t, Runs, const float*, float*, int64_t, int64_t);
using Outer = void (*)(const float*, const float*, const Places&, float*, int64_t);

// Tables of the blocks by their number of rows, from 1 on.
template <int W, int P = ROWS> struct Products : Products<W, P - 1> {
    Products() { this->at[P] = product<P, W>; }
};
template <int W> struct Products<W, 0> {
    Product at[ROWS + 1];
};
template <int W, int P = ROWS> struct Outers : Outers<W, P - 1> {
    Outers() { this->at[P] = outer<P, W>; }
};
template <int W> struct Outers<W, 0> {
    Outer at[ROWS + 1];
};

inline const Product* products(int64_t columns) {
    static const Products<1> one;
    static const Products<2> two;
    return columns > LANES ? two.at : one.at;
}

inline const Outer* outers(int64_t columns) {
    static const Outers<1> one;
    static const Outers<2> two;
    return columns > LANES ? two.at : one.at;
}

// Calls f(begin, count) for nearly equal blocks of rows, each at most ROWS.
template <class F> inline void row_blocks(int64_t n, const F& f) {
    if (n <= ROWS) return f(int64_t(0), n);
    int64_t blocks = (n + ROWS - 1) / ROWS, step = (n + blocks - 1) / blocks;
    for (int64_t begin = 0; begin < n; begin += step) f(begin, std::min(step, n - begin));
}

// Calls f(begin, count) for blocks of columns, each at most WIDE.
template <class F> inline void column_blocks(int64_t n, const F& f) {
    for (int64_t begin = 0; begin < n; begin += WIDE) f(begin, std::min<int64_t>(WIDE, n - begin));
}

}  // namespace
