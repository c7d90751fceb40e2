// GRU: one step, and whole sequences. Gates lie as in Keras: update, reset, candidate.
#include "recurrent.h"

namespace {

constexpr int GATES = 3;

// What one step reads and writes, for all rows of the batch; `scaled` is the state before times the
// reset gate.
struct Step {
    const float *x, *bias, *h_before;
    const bool* mask;  // or null
    float *h, *gates, *scaled;
};

// Of `count` units from what update and reset gate are before their activations, `from` apart, the
// product that the reset gate scales, and the input of the candidate.
__attribute__((noinline)) void cell(const float* RESTRICT pre, const float* RESTRICT product,
                                    const float* RESTRICT input, int64_t from,
                                    const float* RESTRICT before, float* RESTRICT gates, int64_t to,
                                    float* RESTRICT h, int64_t count) {
    for (int64_t j = 0; j < count; ++j) {
        float update = vsigmoid(pre[j]), reset = vsigmoid(pre[from + j]);
        float candidate = vtanh(input[j] + reset * product[j]);
        gates[j] = update;
        gates[to + j] = reset;
        gates[2 * to + j] = candidate;
        h[j] = (before[j] - candidate) * update + candidate;
    }
}

// M rows from `row` and the units of one block, the reset gate after the product.
template <int M>
void tile_of_step(const Step& s, int64_t row, int64_t unit, int64_t units, const float* packed) {
    float pre[M][4 * LANES];
    int64_t count = std::min<int64_t>(LANES, units - unit);
    for (int r = 0; r < M; ++r) {
        const float* x = s.x + (row + r) * GATES * units + unit;
        for (int g = 0; g < GATES; ++g) {
            Vec start = load(x + g * units, count), bias = load(s.bias + g * units + unit, count);
            store(pre[r] + g * LANES, g < 2 ? start + bias : bias);
            if (g == 2) store(pre[r] + 3 * LANES, start);
        }
    }
    tile<M, GATES>(true, s.h_before + row * units, units, 1, packed, GATES * LANES, units, pre[0],
                   4 * LANES);
    for (int r = 0; r < M; ++r) {
        int64_t at = (row + r) * units + unit;
        cell(pre[r], pre[r] + 2 * LANES, pre[r] + 3 * LANES, LANES, s.h_before + at,
             s.gates + (row + r) * GATES * units + unit, units, s.h + at, count);
        if (s.mask) choose(s.mask[row + r], s.h_before + at, s.h + at, count);
    }
}

// The same before the product, first part: update and reset gate, and the scaled state.
template <int M>
void tile_of_reset(const Step& s, int64_t row, int64_t unit, int64_t units, const float* packed) {
    float pre[M][2 * LANES];
    int64_t count = std::min<int64_t>(LANES, units - unit);
    for (int r = 0; r < M; ++r)
        for (int g = 0; g < 2; ++g)
            store(pre[r] + g * LANES, load(s.x + ((row + r) * GATES + g) * units + unit, count) +
                                          load(s.bias + g * units + unit, count));
    tile<M, 2>(true, s.h_before + row * units, units, 1, packed, 2 * LANES, units, pre[0],
               2 * LANES);
    for (int r = 0; r < M; ++r) {
        int64_t at = (row + r) * units + unit;
        float* RESTRICT gates = s.gates + (row + r) * GATES * units + unit;
        float* RESTRICT scaled = s.scaled + at;
        const float *RESTRICT in = pre[r], *RESTRICT before = s.h_before + at;
        for (int64_t j = 0; j < count; ++j) {
            float reset = vsigmoid(in[LANES + j]);
            gates[j] = vsigmoid(in[j]);
            gates[units + j] = reset;
            scaled[j] = reset * before[j];
        }
    }
}

// Second part: the candidate, and the new state.
template <int M>
void tile_of_candidate(const Step& s, int64_t row, int64_t unit, int64_t units,
                       const float* packed) {
    float pre[M][LANES];
    int64_t count = std::min<int64_t>(LANES, units - unit);
    for (int r = 0; r < M; ++r)
        store(pre[r], load(s.x + ((row + r) * GATES + 2) * units + unit, count) +
                          load(s.bias + 2 * units + unit, count));
    tile<M, 1>(true, s.scaled + row * units, units, 1, packed, LANES, units, pre[0], LANES);
    for (int r = 0; r < M; ++r) {
        int64_t at = (row + r) * units + unit;
        float* RESTRICT gates = s.gates + (row + r) * GATES * units + unit;
        float* RESTRICT h = s.h + at;
        const float *RESTRICT in = pre[r], *RESTRICT before = s.h_before + at;
        for (int64_t j = 0; j < count; ++j) {
            float candidate = vtanh(in[j]), update = gates[j];
            gates[2 * units + j] = candidate;
            h[j] = (before[j] - candidate) * update + candidate;
        }
        if (s.mask) choose(s.mask[row + r], before, h, count);
    }
}

// Gradients of one row, by the gates before their activations (dx) and by the product that the
// reset gate scales (dq, in place of that product); what goes to the state directly is left in dh.
void cell_gradient(const float* RESTRICT g_h, const float* RESTRICT g_gates,
                   const float* RESTRICT before, const float* RESTRICT gates, int64_t units,
                   float share, float* RESTRICT dh, float* RESTRICT dx, float* RESTRICT dq) {
    for (int64_t j = 0; j < units; ++j) {
        float all = dh[j] + g_h[j], d = all * share;
        float u = gates[j], r = gates[units + j], c = gates[2 * units + j];
        float d_u = (d * (before[j] - c) + g_gates[j]) * u * (1.0f - u);
        float d_c = (d * (1.0f - u) + g_gates[2 * units + j]) * (1.0f - c * c);
        float d_r = (d_c * dq[j] + g_gates[units + j]) * r * (1.0f - r);
        dx[j] = d_u;
        dx[units + j] = d_r;
        dx[2 * units + j] = d_c;
        dq[j] = d_c * r;
        dh[j] = d * u + all * (1.0f - share);
    }
}

// The same with the reset gate before the product: all but what comes by the reset gate.
void candidate_gradient(const float* RESTRICT g_h, const float* RESTRICT g_gates,
                        const float* RESTRICT before, const float* RESTRICT gates, int64_t units,
                        float share, float* RESTRICT dh, float* RESTRICT dx) {
    for (int64_t j = 0; j < units; ++j) {
        float all = dh[j] + g_h[j], d = all * share;
        float u = gates[j], c = gates[2 * units + j];
        float d_u = (d * (before[j] - c) + g_gates[j]) * u * (1.0f - u);
        float d_c = (d * (1.0f - u) + g_gates[2 * units + j]) * (1.0f - c * c);
        dx[j] = d_u;
        dx[2 * units + j] = d_c;
        dh[j] = d * u + all * (1.0f - share);
    }
}

// `into` is the gradient by the scaled state.
void reset_gradient(const float* RESTRICT into, const float* RESTRICT g_reset,
                    const float* RESTRICT before, const float* RESTRICT reset, int64_t units,
                    float* RESTRICT dh, float* RESTRICT d_reset, float* RESTRICT scaled) {
    for (int64_t j = 0; j < units; ++j) {
        float r = reset[j];
        d_reset[j] = (into[j] * before[j] + g_reset[j]) * r * (1.0f - r);
        dh[j] += into[j] * r;
        scaled[j] = r * before[j];
    }
}

// out[j] = sum of the rows of x (n columns of ldx).
void column_sums(const float* x, int64_t ldx, int64_t rows, int64_t n, float* out) {
    int64_t grain = round_up((1 << 16) / std::max<int64_t>(1, rows) + 1, LANES);
    parallel(n, grain, [=](int64_t begin, int64_t end, int64_t) {
        float* RESTRICT sums = out;
        for (int64_t j = begin; j < end; ++j) sums[j] = 0.0f;
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = begin; j < end; ++j) sums[j] += x[r * ldx + j];
    });
}

// A sequence and its gradient, as the kernels are given them.
struct Sequence {
    int64_t steps, batch, units;
    const float *g_h, *g_gates, *h0, *bias, *h, *gates;
    const bool* mask;
    float *dx, *dh;        // dh: rows `padded` long
    const float *back;     // the transposed kernel, packed
    const float *forward;  // the candidate's part of the kernel, packed
    float *q;              // steps x batch rows `padded` long
    float *into;           // batch rows `padded` long

    int64_t padded() const { return round_up(units, LANES); }
    const float* before(int64_t t) const { return t ? h + (t - 1) * batch * units : h0; }

    // dh += what the rows [begin, end) of d (n columns) bring through columns [first, first + n).
    void pull(int64_t begin, int64_t end, const float* d, int64_t ldd, int64_t first, int64_t n,
              bool add, float* to) const {
        multiply(add, end - begin, units, n, d + begin * ldd, ldd, 1, back + first * PANEL, PANEL,
                 GATES * units * PANEL, to + begin * padded(), padded());
    }

    float share(int64_t row) const { return mask && !mask[row] ? 0.0f : 1.0f; }

    void after(int64_t t, int64_t begin, int64_t end) const {
        int64_t at = t * batch, wide = padded();
        float *product = q + at * wide, *d = dx + at * GATES * units;
        for (int64_t r = begin; r < end; ++r)
            for (int64_t j = 0; j < wide; ++j)
                product[r * wide + j] = j < units ? bias[2 * units + j] : 0.0f;
        multiply(true, end - begin, units, units, before(t) + begin * units, units, 1, forward,
                 PANEL, units * PANEL, product + begin * wide, wide);
        for (int64_t r = begin; r < end; ++r) {
            int64_t row = at + r;
            cell_gradient(g_h + row * units, g_gates + row * GATES * units,
                          before(t) + r * units, gates + row * GATES * units, units, share(row),
                          dh + r * wide, d + r * GATES * units, product + r * wide);
        }
        pull(begin, end, d, GATES * units, 0, 2 * units, true, dh);
        pull(begin, end, product, wide, 2 * units, units, true, dh);
    }

    void first(int64_t t, int64_t begin, int64_t end) const {
        int64_t at = t * batch, wide = padded();
        float *scaled = q + at * units, *d = dx + at * GATES * units;
        for (int64_t r = begin; r < end; ++r) {
            int64_t row = at + r;
            candidate_gradient(g_h + row * units, g_gates + row * GATES * units,
                               before(t) + r * units, gates + row * GATES * units, units,
                               share(row), dh + r * wide, d + r * GATES * units);
        }
        pull(begin, end, d + 2 * units, GATES * units, 2 * units, units, false, into);
        for (int64_t r = begin; r < end; ++r) {
            int64_t reset = (at + r) * GATES * units + units;
            reset_gradient(into + r * wide, g_gates + reset, before(t) + r * units, gates + reset,
                           units, dh + r * wide, dx + reset, scaled + r * units);
        }
        pull(begin, end, d, GATES * units, 0, 2 * units, true, dh);
    }
};

}  // namespace

// arrays: x, r (rows, 3 units), h (rows, units); h_new, gates. sizes: rows, units.
KERNEL(gru_gates) {
    auto in = reinterpret_cast<const float* const*>(arrays);
    auto h = static_cast<float*>(arrays[3]), gates = static_cast<float*>(arrays[4]);
    int64_t units = sizes[1];
    parallel(sizes[0], rows_grain(32 * units), [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t row = begin; row < end; ++row) {
            int64_t at = row * units, gate = at * GATES;
            const float *RESTRICT x = in[0] + gate, *RESTRICT r = in[1] + gate;
            const float* RESTRICT before = in[2] + at;
            float *RESTRICT a = gates + gate, *RESTRICT out = h + at;
            for (int64_t j = 0; j < units; ++j) {
                float update = vsigmoid(x[j] + r[j]);
                float reset = vsigmoid(x[units + j] + r[units + j]);
                float candidate = vtanh(x[2 * units + j] + reset * r[2 * units + j]);
                a[j] = update;
                a[units + j] = reset;
                a[2 * units + j] = candidate;
                out[j] = candidate + update * (before[j] - candidate);
            }
        }
    });
    (void)numbers;
    return 0;
}

// arrays: g_h, g_gates, r, h, gates; dx, dr, dh. sizes: rows, units.
KERNEL(gru_gates_grad) {
    auto in = reinterpret_cast<const float* const*>(arrays);
    auto out = reinterpret_cast<float* const*>(arrays + 5);
    int64_t units = sizes[1];
    parallel(sizes[0], rows_grain(32 * units), [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t row = begin; row < end; ++row) {
            int64_t at = row * units, gate = at * GATES;
            float *dx = out[0] + gate, *dr = out[1] + gate, *dh = out[2] + at;
            std::memset(dh, 0, 4 * units);
            std::memcpy(dr + 2 * units, in[2] + gate + 2 * units, 4 * units);
            cell_gradient(in[0] + at, in[1] + gate, in[3] + at, in[4] + gate, units, 1.0f, dh, dx,
                          dr + 2 * units);
            std::memcpy(dr, dx, 8 * units);
        }
    });
    (void)numbers;
    return 0;
}

// arrays: x (steps, batch, 3 units), h0 (batch, units), kernel (units, 3 units), bias (3 units),
// with a mask (steps, batch); h, gates; scratch: the packed kernel, then batch x units.
// sizes: steps, batch, units, masked, reset_after.
KERNEL(gru_sequence) {
    int64_t steps = sizes[0], batch = sizes[1], units = sizes[2];
    bool masked = sizes[3], after = sizes[4];
    auto in = reinterpret_cast<const float* const*>(arrays);
    auto mask = masked ? static_cast<const bool*>(arrays[4]) : nullptr;
    auto out = reinterpret_cast<float* const*>(arrays + 4 + masked);
    int64_t ld = GATES * units, wide = round_up(units, LANES);
    float *packed = out[2], *last = packed + 2 * units * wide, *scaled = packed + ld * wide;
    pack_gates(in[2], ld, units, after ? GATES : 2, packed);
    if (!after) pack_gates(in[2] + 2 * units, ld, units, 1, last);
    int64_t grain = rows_grain(steps * units * (ld + 32)), state = batch * units;
    parallel(batch, grain, [=](int64_t begin, int64_t end, int64_t) {
        auto tiles = [&](auto tile) {
            for (int64_t unit = 0; unit < units; unit += LANES)
                row_blocks(end - begin, [&](int64_t row, auto M) { tile(begin + row, unit, M); });
        };
        for (int64_t t = 0; t < steps; ++t) {
            int64_t at = t * state;
            Step s{in[0] + GATES * at, in[3],  t ? out[0] + at - state : in[1],
                   mask ? mask + t * batch : nullptr, out[0] + at, out[1] + GATES * at, scaled};
            if (after) {
                tiles([&](int64_t row, int64_t unit, auto M) {
                    tile_of_step<M>(s, row, unit, units, packed + unit * ld);
                });
                continue;
            }
            tiles([&](int64_t row, int64_t unit, auto M) {
                tile_of_reset<M>(s, row, unit, units, packed + unit * 2 * units);
            });
            tiles([&](int64_t row, int64_t unit, auto M) {
                tile_of_candidate<M>(s, row, unit, units, last + unit * units);
            });
        }
    });
    (void)numbers;
    return 0;
}

// arrays: g_h, g_gates, h0, kernel, bias, h, gates, with a mask (steps, batch); dx, dh0, dkernel,
// dbias; scratch: the packed transposed kernel, the packed part of the candidate, then
// (steps + 2) x batch rows of units rounded up to LANES.
// sizes: steps, batch, units, masked, reset_after.
KERNEL(gru_sequence_grad) {
    int64_t steps = sizes[0], batch = sizes[1], units = sizes[2];
    bool masked = sizes[3], after = sizes[4];
    auto in = reinterpret_cast<const float* const*>(arrays);
    auto out = reinterpret_cast<float* const*>(arrays + 7 + masked);
    int64_t ld = GATES * units, panels = round_up(units, PANEL), wide = round_up(units, LANES);
    float *back = out[4], *forward = back + ld * panels, *dh = forward + units * panels;
    float *into = dh + batch * wide, *q = into + batch * wide;
    Sequence s{steps, batch, units, in[0], in[1], in[2], in[4], in[5], in[6],
               masked ? static_cast<const bool*>(arrays[7]) : nullptr,
               out[0], dh, back, forward, q, into};
    pack(true, in[3], ld, ld, units, back);
    if (after) pack(false, in[3] + 2 * units, ld, units, units, forward);
    int64_t grain = rows_grain(steps * units * (ld + 32));
    parallel(batch, grain, [&](int64_t begin, int64_t end, int64_t) {
        std::memset(dh + begin * wide, 0, 4 * (end - begin) * wide);
        for (int64_t t = steps; t-- > 0;) after ? s.after(t, begin, end) : s.first(t, begin, end);
        for (int64_t r = begin; r < end; ++r)
            std::memcpy(out[1] + r * units, dh + r * wide, 4 * units);
    });
    float *dx = out[0], *dkernel = out[2], *last = dkernel + 2 * units, *dbias = out[3];
    int64_t rows = steps * batch;
    kernel_gradient(in[2], in[5], dx, ld, steps, batch, units, 2 * units, dkernel, ld);
    column_sums(dx, ld, rows, after ? 2 * units : ld, dbias);
    if (after) {
        kernel_gradient(in[2], in[5], q, wide, steps, batch, units, units, last, ld);
        column_sums(q, wide, rows, units, dbias + 2 * units);
    } else {
        kernel_gradient(q, q + batch * units, dx + 2 * units, ld, steps, batch, units, units, last,
                        ld);
    }
    (void)numbers;
    return 0;
}
