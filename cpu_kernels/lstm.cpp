// LSTM: one step, and whole sequences. Gates lie as in Keras: input, forget, candidate, output.
#include "recurrent.h"

namespace {

constexpr int GATES = 4;
constexpr int WIDTH = GATES * LANES;  // of a block of the packed kernel

// The new states of `count` units from the four gates before their activations, whose blocks lie
// `from` floats apart in z and `to` floats in gates.
template <class Count>
__attribute__((noinline)) void cell(const float* RESTRICT z, int64_t from,
                                    const float* RESTRICT c_before, float* RESTRICT gates,
                                    int64_t to, float* RESTRICT h, float* RESTRICT c, Count count) {
    for (int64_t j = 0; j < count; ++j) {
        float i = vsigmoid(z[j]), f = vsigmoid(z[from + j]);
        float g = vtanh(z[2 * from + j]), o = vsigmoid(z[3 * from + j]);
        float new_c = f * c_before[j] + i * g;
        gates[j] = i;
        gates[to + j] = f;
        gates[2 * to + j] = g;
        gates[3 * to + j] = o;
        c[j] = new_c;
        h[j] = o * vtanh(new_c);
    }
}

// What one step reads and writes, for all rows of the batch.
struct Step {
    const float *z, *h_before, *c_before;
    const bool* mask;  // or null
    float *h, *c, *gates;
};

// M rows from `row` and the units of one block: product, activations and new states.
template <int M>
void tile_of_step(const Step& s, int64_t row, int64_t unit, int64_t units, const float* packed) {
    float pre[M][WIDTH];
    int64_t count = std::min<int64_t>(LANES, units - unit);
    for (int r = 0; r < M; ++r)
        for (int g = 0; g < GATES; ++g) {
            const float* z = s.z + ((row + r) * GATES + g) * units + unit;
            store(pre[r] + g * LANES, load(z, count));
            __builtin_prefetch(z + M * GATES * units);  // of the next tile, in time
        }
    tile<M, GATES>(true, s.h_before + row * units, units, 1, packed, WIDTH, units, pre[0], WIDTH);
    for (int r = 0; r < M; ++r) {
        int64_t at = (row + r) * units + unit, gate = (row + r) * GATES * units + unit;
        auto run = [&](auto n) {
            cell(pre[r], LANES, s.c_before + at, s.gates + gate, units, s.h + at, s.c + at, n);
        };
        if (count == LANES)
            run(std::integral_constant<int64_t, LANES>());
        else
            run(count);
        if (s.mask) {
            choose(s.mask[row + r], s.h_before + at, s.h + at, count);
            choose(s.mask[row + r], s.c_before + at, s.c + at, count);
        }
    }
}

// Gradients by the gates before their activations, and by the state before the step, of all units
// of a row; `share` is 0 where a masked step passes the gradient on as it is, else 1.
void cell_gradient(const float* RESTRICT g_h, const float* RESTRICT g_c, const float* g_gates,
                   const float* RESTRICT c_before, const float* RESTRICT c, const float* gates,
                   int64_t units, float share, float* RESTRICT dh, float* RESTRICT dc,
                   float* dz) {
#pragma GCC ivdep  // gates or g_gates may be dz
    for (int64_t j = 0; j < units; ++j) {
        float all_h = dh[j] + g_h[j], all_c = dc[j] + g_c[j];
        float d_h = all_h * share, d_c = all_c * share;
        float i = gates[j], f = gates[units + j];
        float g = gates[2 * units + j], o = gates[3 * units + j];
        float t = vtanh(c[j]);
        d_c += (1.0f - t * t) * o * d_h;
        float d_i = (g_gates[j] + d_c * g) * (i * (1.0f - i));
        float d_f = (g_gates[units + j] + d_c * c_before[j]) * (f * (1.0f - f));
        float d_g = (g_gates[2 * units + j] + d_c * i) * (1.0f - g * g);
        float d_o = (g_gates[3 * units + j] + d_h * t) * (o * (1.0f - o));
        dz[j] = d_i;
        dz[units + j] = d_f;
        dz[2 * units + j] = d_g;
        dz[3 * units + j] = d_o;
        dh[j] = all_h * (1.0f - share);
        dc[j] = d_c * f + all_c * (1.0f - share);
    }
}

}  // namespace

// arrays: z (rows, 4 units), c (rows, units); h, c_new, gates. sizes: rows, units.
KERNEL(lstm_gates) {
    auto z = static_cast<const float*>(arrays[0]), c = static_cast<const float*>(arrays[1]);
    auto h = static_cast<float*>(arrays[2]), c_new = static_cast<float*>(arrays[3]);
    auto gates = static_cast<float*>(arrays[4]);
    int64_t units = sizes[1];
    parallel(sizes[0], rows_grain(32 * units), [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t r = begin; r < end; ++r)
            cell(z + r * GATES * units, units, c + r * units, gates + r * GATES * units, units,
                 h + r * units, c_new + r * units, units);
    });
    (void)numbers;
    return 0;
}

// arrays: g_h, g_c, g_gates, c, c_new, gates; dz, dc; scratch: rows x units. sizes: rows, units.
KERNEL(lstm_gates_grad) {
    auto in = reinterpret_cast<const float* const*>(arrays);
    auto dz = static_cast<float*>(arrays[6]), dc = static_cast<float*>(arrays[7]);
    auto dh = static_cast<float*>(arrays[8]);
    int64_t units = sizes[1];
    parallel(sizes[0], rows_grain(32 * units), [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t r = begin; r < end; ++r) {
            int64_t at = r * units, gate = at * GATES;
            std::memset(dh + at, 0, 4 * units);
            std::memset(dc + at, 0, 4 * units);
            cell_gradient(in[0] + at, in[1] + at, in[2] + gate, in[3] + at, in[4] + at,
                          in[5] + gate, units, 1.0f, dh + at, dc + at, dz + gate);
        }
    });
    (void)numbers;
    return 0;
}

// arrays: z (steps, batch, 4 units), h0, c0 (batch, units), kernel (units, 4 units), with a mask
// (steps, batch); h, c, gates; scratch: the packed kernel. sizes: steps, batch, units, masked.
KERNEL(lstm_sequence) {
    int64_t steps = sizes[0], batch = sizes[1], units = sizes[2];
    bool masked = sizes[3];
    auto z = static_cast<const float*>(arrays[0]), h0 = static_cast<const float*>(arrays[1]);
    auto c0 = static_cast<const float*>(arrays[2]);
    auto mask = masked ? static_cast<const bool*>(arrays[4]) : nullptr;
    auto out = reinterpret_cast<float* const*>(arrays + 4 + masked);
    float *h = out[0], *c = out[1], *gates = out[2], *packed = out[3];
    pack_gates(static_cast<const float*>(arrays[3]), GATES * units, units, GATES, packed);
    int64_t grain = rows_grain(steps * units * (GATES * units + 32)), state = batch * units;
    parallel(batch, grain, [=](int64_t begin, int64_t end, int64_t) {
        for (int64_t t = 0; t < steps; ++t) {
            int64_t at = t * state;
            Step step{z + GATES * at,    t ? h + at - state : h0,         t ? c + at - state : c0,
                      mask ? mask + t * batch : nullptr, h + at, c + at, gates + GATES * at};
            for (int64_t unit = 0; unit < units; unit += LANES)
                row_blocks(end - begin, [&](int64_t row, auto M) {
                    tile_of_step<M>(step, begin + row, unit, units, packed + unit * units * GATES);
                });
        }
    });
    (void)numbers;
    return 0;
}

// arrays: g_h, g_c, g_gates, h0, c0, kernel, h, c, gates, with a mask (steps, batch); dz, dh0, dc0,
// dkernel; scratch: the packed transposed kernel, then batch x (units rounded up to LANES).
// sizes: steps, batch, units, masked.
KERNEL(lstm_sequence_grad) {
    int64_t steps = sizes[0], batch = sizes[1], units = sizes[2];
    bool masked = sizes[3];
    auto in = reinterpret_cast<const float* const*>(arrays);
    const float *g_h = in[0], *g_c = in[1], *g_gates = in[2], *c0 = in[4];
    const float *h = in[6], *c = in[7], *gates = in[8];
    auto mask = masked ? static_cast<const bool*>(arrays[9]) : nullptr;
    auto out = reinterpret_cast<float* const*>(arrays + 9 + masked);
    float *dz = out[0], *dh0 = out[1], *dc = out[2], *packed = out[4];
    int64_t inner = GATES * units, padded = round_up(units, LANES), state = batch * units;
    float* dh = packed + round_up(units, PANEL) * inner;
    pack(true, in[5], inner, inner, units, packed);
    int64_t grain = rows_grain(steps * units * (inner + 32));
    parallel(batch, grain, [=](int64_t begin, int64_t end, int64_t) {
        std::memset(dh + begin * padded, 0, 4 * (end - begin) * padded);
        std::memset(dc + begin * units, 0, 4 * (end - begin) * units);
        for (int64_t t = steps; t-- > 0;) {
            const float* c_before = t ? c + (t - 1) * state : c0;
            for (int64_t r = begin; r < end; ++r) {
                int64_t row = t * batch + r, at = row * units;
                float share = mask && !mask[row] ? 0.0f : 1.0f;
                cell_gradient(g_h + at, g_c + at, g_gates + GATES * at, c_before + r * units,
                              c + at, gates + GATES * at, units, share, dh + r * padded,
                              dc + r * units, dz + GATES * at);
            }
            multiply(true, end - begin, units, inner, dz + (t * batch + begin) * inner, inner, 1,
                     packed, PANEL, inner * PANEL, dh + begin * padded, padded);
        }
        for (int64_t r = begin; r < end; ++r)
            std::memcpy(dh0 + r * units, dh + r * padded, 4 * units);
    });
    kernel_gradient(in[3], h, dz, inner, steps, batch, units, inner, out[3], inner);
    (void)numbers;
    return 0;
}
