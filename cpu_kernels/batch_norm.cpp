// Batch normalisation: each column (channel) by its statistics over all rows.
//
// Forward reads x twice: once for the statistics, once to normalise. Backward reads g and x twice:
// for the two sums of each column, then for dx.
#include "channels.h"

namespace {

// -- forward --------------------------------------------------------------------------------------

// Mean and variance of each column: each thread has those of its lines' numbers.
void column_moments(const Table& t, const float* x, float* mean, float* variance, Scratch s) {
    double *means = s.zeros(threads() * t.width), *squares = s.zeros(threads() * t.width);
    double* lines = s.zeros(threads());  // of each thread
    for_blocks(t, [&](Block b, int64_t part) {
        add_block(t, b, x, lines[part], means + part * t.width, squares + part * t.width);
        if (b.width == t.width) lines[part] += b.lines;
    });
    double *total = s.zeros(t.columns), *square = s.zeros(t.columns);
    double count = std::max<int64_t>(t.rows, 1);
    auto each = [&](auto f) {  // f(column, of how many numbers, their mean, their squares)
        for (int64_t part = 0; part < threads(); ++part)
            for (int64_t j = 0, c = 0; j < t.width; ++j, c = c + 1 == t.columns ? 0 : c + 1) {
                double n = lines[part] + (part == 0 && j < t.rest);
                f(c, n, means[part * t.width + j], squares[part * t.width + j]);
            }
    };
    each([&](int64_t c, double n, double a, double) { total[c] += n * a; });
    for (int64_t c = 0; c < t.columns; ++c) total[c] /= count;
    each([&](int64_t c, double n, double a, double sum) {
        square[c] += sum + n * (a - total[c]) * (a - total[c]);
    });
    for (int64_t c = 0; c < t.columns; ++c) {
        mean[c] = static_cast<float>(total[c]);
        variance[c] = static_cast<float>(square[c] / count);
    }
}

// scale / sqrt(variance + epsilon) of each column. Forward and backward have the same bits, so that
// backward finds the same numbers below 0.
float* factors(const Table& t, const float* scale, const float* variance, double epsilon,
               Scratch& s) {
    float* factor = s.take<float>(t.columns);
    for (int64_t c = 0; c < t.columns; ++c)
        factor[c] = scale[c] / std::sqrt(variance[c] + static_cast<float>(epsilon));
    return factor;
}

template <Ending ENDING>
int forward(const Table& t, const float* x, const float* residual, const float* scale,
            const float* offset, float* const* out, double epsilon, Scratch s) {
    float *y = out[0], *mean = out[1], *variance = out[2];
    column_moments(t, x, mean, variance, s);
    const float* factor = factors(t, scale, variance, epsilon, s);
    Affine a{tiled(t, mean, s), tiled(t, factor, s), tiled(t, offset, s)};
    for_blocks(t, [&](Block b, int64_t) { normalise<ENDING>(t, b, x, residual, a, y); });
    return 0;
}

// -- backward -------------------------------------------------------------------------------------

struct Gradient {
    const float *g, *g_mean, *g_variance, *x, *y, *scale, *offset, *mean, *variance;
    float *dx, *masked, *dscale, *doffset;
};

template <Ending ENDING>
int backward(const Table& t, const Gradient& p, double epsilon, Scratch s) {
    const float* factor = factors(t, p.scale, p.variance, epsilon, s);
    Affine a{tiled(t, p.mean, s), tiled(t, factor, s), tiled(t, p.offset, s)};
    double *sums = s.zeros(threads() * t.width), *products = s.zeros(threads() * t.width);
    for_blocks(t, [&](Block b, int64_t part) {
        int64_t line = part * t.width;
        gradient_sums<ENDING>(t, b, p.g, p.x, p.y, a, p.masked, sums + line, products + line);
    });
    double *sum = fold(t, sums, s), *product = fold(t, products, s);
    float *slope = s.take<float>(t.columns), *shift = s.take<float>(t.columns);
    double count = std::max<int64_t>(t.rows, 1);
    for (int64_t c = 0; c < t.columns; ++c) {
        double rstd = 1 / std::sqrt(p.variance[c] + epsilon), projected = product[c] * rstd;
        double along = 2.0 * p.g_variance[c] - factor[c] * rstd * projected;
        slope[c] = static_cast<float>(along / count);
        shift[c] = static_cast<float>((p.g_mean[c] - factor[c] * sum[c]) / count);
        p.dscale[c] = static_cast<float>(projected);
        p.doffset[c] = static_cast<float>(sum[c]);
    }
    const float *slopes = tiled(t, slope, s), *shifts = tiled(t, shift, s);
    // ADD_RELU has the masked g in an array; RELU masks it again.
    constexpr Ending AGAIN = ENDING == RELU ? RELU : PLAIN;
    const float* g = ENDING == ADD_RELU ? p.masked : p.g;
    for_blocks(t, [&](Block b, int64_t) {
        apply_gradient<AGAIN>(t, b, g, p.x, a, slopes, shifts, p.dx);
    });
    return 0;
}

}  // namespace

// -- kernels --------------------------------------------------------------------------------------
//
// All are given: rows, columns; epsilon. Scratch: `scratch` in batch_norm_native.py.

// x, scale, offset -> y, mean, variance
KERNEL(train) {
    auto in = floats(arrays);
    return forward<PLAIN>(Table(sizes[0], sizes[1]), in[0], nullptr, in[1], in[2],
                          results(arrays, 3), numbers[0], Scratch(arrays[6]));
}

// x, scale, offset -> y, mean, variance
KERNEL(relu) {
    auto in = floats(arrays);
    return forward<RELU>(Table(sizes[0], sizes[1]), in[0], nullptr, in[1], in[2],
                         results(arrays, 3), numbers[0], Scratch(arrays[6]));
}

// x, residual, scale, offset -> y, mean, variance
KERNEL(add_relu) {
    auto in = floats(arrays);
    return forward<ADD_RELU>(Table(sizes[0], sizes[1]), in[0], in[1], in[2], in[3],
                             results(arrays, 4), numbers[0], Scratch(arrays[7]));
}

// g, g_mean, g_variance, x, scale, mean, variance -> dx, dscale, doffset
KERNEL(train_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 7);
    Gradient p{in[0], in[1], in[2],  in[3],   nullptr, in[4], in[4],
               in[5], in[6], out[0], nullptr, out[1],  out[2]};
    return backward<PLAIN>(Table(sizes[0], sizes[1]), p, numbers[0], Scratch(arrays[10]));
}

// g, g_mean, g_variance, x, scale, offset, mean, variance -> dx, dscale, doffset
KERNEL(relu_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 8);
    Gradient p{in[0], in[1], in[2],  in[3],   nullptr, in[4], in[5],
               in[6], in[7], out[0], nullptr, out[1],  out[2]};
    return backward<RELU>(Table(sizes[0], sizes[1]), p, numbers[0], Scratch(arrays[11]));
}

// g, g_mean, g_variance, x, y, scale, mean, variance -> dx, dresidual, dscale, doffset
KERNEL(add_relu_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 8);
    Gradient p{in[0], in[1], in[2],  in[3],  in[4],  in[5], in[5],
               in[6], in[7], out[0], out[1], out[2], out[3]};
    return backward<ADD_RELU>(Table(sizes[0], sizes[1]), p, numbers[0], Scratch(arrays[12]));
}

// x, mean, variance, scale, offset -> y
KERNEL(inference) {
    auto in = floats(arrays);
    auto y = static_cast<float*>(arrays[5]);
    Table t(sizes[0], sizes[1]);
    Scratch s(arrays[6]);
    const float* factor = factors(t, in[3], in[2], numbers[0], s);
    Affine a{tiled(t, in[1], s), tiled(t, factor, s), tiled(t, in[4], s)};
    for_blocks(t, [&](Block b, int64_t) { normalise<PLAIN>(t, b, in[0], nullptr, a, y); });
    return 0;
}
