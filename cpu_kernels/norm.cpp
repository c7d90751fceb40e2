// Layer and RMS normalisation of rows, alone or with the residual connection before them.
//
// A row stays in the first cache while it is read again: for the deviations about its mean, then
// for the results.
#include "rows.h"

namespace {

// Rows that are worth a thread.
inline int64_t grain(int64_t columns) { return 16384 / columns + 1; }

// Calls f(slab of vectors, at) over a row.
template <class F> inline void for_vectors(int64_t n, const F& f) {
    int64_t j = 0;
    for (; j + 16 <= n; j += 16) f(Floats{}, j);
    for (; j < n; ++j) f(0.0f, j);
}

// -- forward --------------------------------------------------------------------------------------

struct Forward {
    int64_t rows, columns;
    const float *x, *residual, *scale, *offset;  // residual and offset: null where there is none
    float *y, *total, *mean, *rstd;
    float epsilon;
};

// LAYER: about the mean, plus an offset. RESIDUAL: of x + residual, which is written to `total`.
template <bool LAYER, bool RESIDUAL> void forward_row(const Forward& p, int64_t i) {
    int64_t n = p.columns;
    const float* x = p.x + i * n;
    float* y = p.y + i * n;
    if (RESIDUAL) {
        const float* residual = p.residual + i * n;
        float* total = p.total + i * n;
#pragma GCC ivdep  // x or residual may be the total
        for (int64_t j = 0; j < n; ++j) total[j] = x[j] + residual[j];
        x = total;
    }
    float share = 1.0f / static_cast<float>(n), mean = LAYER ? row_sum(x, n) * share : 0.0f;
    float squares = row_total(n, [&](auto v, int64_t at) {
        auto d = load<decltype(v)>(x + at) - mean;
        return d * d;
    });
    float rstd = 1.0f / std::sqrt(squares * share + p.epsilon);
#pragma GCC ivdep  // x may be y
    for (int64_t j = 0; j < n; ++j) {
        float v = (x[j] - mean) * rstd * p.scale[j];
        y[j] = LAYER ? v + p.offset[j] : v;
    }
    if (LAYER) p.mean[i] = mean;
    p.rstd[i] = rstd;
}

template <bool LAYER, bool RESIDUAL> int forward(const Forward& p) {
    parallel(p.rows, grain(p.columns), [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) forward_row<LAYER, RESIDUAL>(p, i);
    });
    return 0;
}

// -- backward -------------------------------------------------------------------------------------

struct Backward {
    int64_t rows, columns;
    const float *g, *g_total, *g_mean, *g_rstd, *x, *scale, *mean, *rstd;
    float *dx, *dscale, *doffset;
};

// One row: dx, and what it adds to the sums of the columns.
template <bool LAYER, bool RESIDUAL>
void backward_row(const Backward& p, int64_t i, float* dscale, float* doffset) {
    int64_t n = p.columns;
    const float *g = p.g + i * n, *x = p.x + i * n;
    const float* g_total = RESIDUAL ? p.g_total + i * n : nullptr;
    float* dx = p.dx + i * n;
    float rstd = p.rstd[i], mean = LAYER ? p.mean[i] : 0.0f, share = 1.0f / static_cast<float>(n);
    float first = 0.0f;
    if (LAYER) first = (row_dot(g, p.scale, n) - p.g_mean[i] / rstd) * share;
    float second = row_total(n, [&](auto v, int64_t at) {
        using V = decltype(v);
        return load<V>(g + at) * load<V>(p.scale + at) * ((load<V>(x + at) - mean) * rstd);
    });
    second = (second + p.g_rstd[i] * rstd) * share;
    for_vectors(n, [&](auto v, int64_t at) {
        using V = decltype(v);
        V gy = load<V>(g + at), hat = (load<V>(x + at) - mean) * rstd;
        V d = rstd * (gy * load<V>(p.scale + at) - first - hat * second);
        if (RESIDUAL) d += load<V>(g_total + at);
        store(dx + at, d);
        store(dscale + at, load<V>(dscale + at) + gy * hat);
        if (LAYER) store(doffset + at, load<V>(doffset + at) + gy);
    });
}

// The sums of the columns: in float over some rows, in double over all, a pair for each thread.
template <bool LAYER, bool RESIDUAL> int backward(const Backward& p, Scratch s) {
    constexpr int64_t FEW = 64;
    int64_t n = p.columns, parts = threads();
    double *scales = s.zeros(parts * n), *offsets = s.zeros(parts * n);
    float* all = s.take<float>(parts * 2 * n);
    parallel(p.rows, grain(n), [&](int64_t begin, int64_t end, int64_t part) {
        float *dscale = all + part * 2 * n, *doffset = dscale + n;
        for (int64_t i = begin; i < end; i += FEW) {
            std::fill(dscale, dscale + 2 * n, 0.0f);
            for (int64_t k = i; k < std::min(i + FEW, end); ++k)
                backward_row<LAYER, RESIDUAL>(p, k, dscale, doffset);
            for (int64_t j = 0; j < n; ++j) {
                scales[part * n + j] += dscale[j];
                offsets[part * n + j] += doffset[j];
            }
        }
    });
    for (int64_t j = 0; j < n; ++j) {
        double scale = 0.0, offset = 0.0;
        for (int64_t part = 0; part < parts; ++part) {
            scale += scales[part * n + j];
            offset += offsets[part * n + j];
        }
        p.dscale[j] = static_cast<float>(scale);
        if (LAYER) p.doffset[j] = static_cast<float>(offset);
    }
    return 0;
}

}  // namespace

// -- kernels --------------------------------------------------------------------------------------
//
// Sizes: rows, columns. Numbers of forward: epsilon. Scratch of backward: see norm_native.py.

// x, scale, offset -> y, mean, rstd
KERNEL(layer_norm) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return forward<true, false>({sizes[0], sizes[1], in[0], nullptr, in[1], in[2], out[3], nullptr,
                                 out[4], out[5], static_cast<float>(numbers[0])});
}
// x, residual, scale, offset -> y, total, mean, rstd
KERNEL(residual_layer_norm) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return forward<true, true>({sizes[0], sizes[1], in[0], in[1], in[2], in[3], out[4], out[5],
                                out[6], out[7], static_cast<float>(numbers[0])});
}
// x, scale -> y, rstd
KERNEL(rms_norm) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return forward<false, false>({sizes[0], sizes[1], in[0], nullptr, in[1], nullptr, out[2],
                                  nullptr, nullptr, out[3], static_cast<float>(numbers[0])});
}
// x, residual, scale -> y, total, rstd
KERNEL(residual_rms_norm) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return forward<false, true>({sizes[0], sizes[1], in[0], in[1], in[2], nullptr, out[3], out[4],
                                 nullptr, out[5], static_cast<float>(numbers[0])});
}
// g, g_mean, g_rstd, x, scale, mean, rstd -> dx, dscale, doffset
KERNEL(layer_norm_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return backward<true, false>({sizes[0], sizes[1], in[0], nullptr, in[1], in[2], in[3], in[4],
                                  in[5], in[6], out[7], out[8], out[9]},
                                 Scratch(arrays[10]));
}
// g, g_total, g_mean, g_rstd, total, scale, mean, rstd -> dx, dscale, doffset
KERNEL(residual_layer_norm_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return backward<true, true>({sizes[0], sizes[1], in[0], in[1], in[2], in[3], in[4], in[5],
                                 in[6], in[7], out[8], out[9], out[10]},
                                Scratch(arrays[11]));
}
// g, g_rstd, x, scale, rstd -> dx, dscale
KERNEL(rms_norm_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return backward<false, false>({sizes[0], sizes[1], in[0], nullptr, nullptr, in[1], in[2],
                                   in[3], nullptr, in[4], out[5], out[6], nullptr},
                                  Scratch(arrays[7]));
}
// g, g_total, g_rstd, total, scale, rstd -> dx, dscale
KERNEL(residual_rms_norm_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 0);
    return backward<false, true>({sizes[0], sizes[1], in[0], in[1], nullptr, in[2], in[3], in[4],
                                  nullptr, in[5], out[6], out[7], nullptr},
                                 Scratch(arrays[8]));
}
