// What LSTM and GRU share: the work is cut by rows of the batch, and a thread takes its rows
// through all steps, so that threads never wait for one another within a sequence.
#pragma once
#include "panels.h"
#include "vector_math.h"

// Rows of the batch that a thread must have at least: below some 100,000 products, one thread
// has done the work before another wakes.
inline int64_t rows_grain(int64_t products_of_a_row) {
    return std::max<int64_t>(1, 100000 / std::max<int64_t>(1, products_of_a_row));
}

// Packs `gates` gates of a recurrent kernel whose rows are `ld` long: block b has LANES columns of
// each gate, so that one tile of a product holds all that some units need.
inline void pack_gates(const float* kernel, int64_t ld, int64_t units, int64_t gates,
                       float* packed) {
    int64_t width = gates * LANES, blocks = (units + LANES - 1) / LANES;
    int64_t grain = std::max<int64_t>(1, (1 << 15) / (units * width + 1));
    parallel(blocks, grain, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t b = begin; b < end; ++b)
            for (int64_t p = 0; p < units; ++p)
                for (int64_t g = 0; g < gates; ++g) {
                    const float* from = kernel + p * ld + g * units + b * LANES;
                    Vec v = load(from, units - b * LANES);
                    store(packed + (b * units + p) * width + g * LANES, v);
                }
    });
}

// state = the new one where the mask is true, else the old one; as NumPy's rule computes it.
inline void choose(bool keep, const float* RESTRICT before, float* RESTRICT state, int64_t count) {
    float share = keep ? 1.0f : 0.0f, rest = 1.0f - share;
    for (int64_t j = 0; j < count; ++j) state[j] = state[j] * share + before[j] * rest;
}

constexpr int64_t DEPTH = 64;  // rows of a sum at a time: a panel of them stays in the first cache

// Columns [begin, end) of out (+)= before^T d, summed over `rows` rows of both.
inline void add_outer_products(bool add, const float* before, const float* d, int64_t ldd,
                               int64_t rows, int64_t units, int64_t begin, int64_t end, float* out,
                               int64_t ldo) {
    alignas(64) float panel[DEPTH * PANEL];
    for (int64_t first = 0; first < rows; first += DEPTH, add = true) {
        int64_t some = std::min(DEPTH, rows - first);
        for (int64_t j = begin; j < end; j += PANEL) {
            int64_t columns = std::min<int64_t>(PANEL, end - j);
            pack_columns(d + first * ldd + j, ldd, some, columns, panel);
            row_blocks(units, [&](int64_t i, auto M) {
                const float* left = before + first * units + i;
                float* to = out + i * ldo + j;
                if (columns == PANEL)
                    return tile<M, VECTORS>(add, left, 1, units, panel, PANEL, some, to, ldo);
                float part[ROWS * PANEL];  // a tile has more columns than there are left
                tile<M, VECTORS>(false, left, 1, units, panel, PANEL, some, part, PANEL);
                for (int r = 0; r < M; ++r)
                    for (int64_t c = 0; c < columns; ++c)
                        to[r * ldo + c] = part[r * PANEL + c] + (add ? to[r * ldo + c] : 0.0f);
            });
        }
    }
}

// out (units x n, rows ldo long) = sum over steps of before^T d, where the state before step 0 is
// h0, and before others h of the step before. Columns are cut over threads.
inline void kernel_gradient(const float* h0, const float* h, const float* d, int64_t ldd,
                            int64_t steps, int64_t batch, int64_t units, int64_t n, float* out,
                            int64_t ldo) {
    int64_t work = std::max<int64_t>(1, steps * batch * units);
    parallel(n, round_up(1 + 200000 / work, PANEL), [=](int64_t begin, int64_t end, int64_t) {
        add_outer_products(false, h0, d, ldd, batch, units, begin, end, out, ldo);
        add_outer_products(true, h, d + batch * ldd, ldd, (steps - 1) * batch, units, begin, end,
                           out, ldo);
    });
}
