// Group normalisation: each group of channels of a sample by its own statistics.
//
// A thread takes whole samples, so what it has read is in its cache when it is read again. Results
// do not depend on the number of threads, but for the sums over samples.
#include "channels.h"

namespace {

struct Shape {
    int64_t samples, rows, columns, groups;
    int64_t memory;  // bytes of scratch memory of each thread
    explicit Shape(const int64_t* s)
        : samples(s[0]), rows(s[1]), columns(s[2]), groups(s[3]), memory(s[4]) {}
    int64_t size() const { return columns / groups; }
    int64_t count() const { return std::max<int64_t>(rows * size(), 1); }  // numbers in a group
};

// Calls f(sample, scratch, part) for all samples.
template <class F> void for_samples(const Shape& s, void* memory, const F& f) {
    int64_t grain = 16384 / (s.rows * s.columns + 1) + 1;
    parallel(s.samples, grain, [&](int64_t begin, int64_t end, int64_t part) {
        for (int64_t i = begin; i < end; ++i)
            f(i, Scratch(static_cast<char*>(memory) + part * s.memory), part);
    });
}

// Mean and rstd of the groups of a sample.
void group_moments(const Shape& s, const Table& t, const float* x, float* mean, float* rstd,
                   double epsilon, Scratch scratch) {
    double *means = scratch.zeros(t.width), *squares = scratch.zeros(t.width), before = 0;
    all_blocks(t, [&](Block b) {
        add_block(t, b, x, before, means, squares);
        before += b.lines;
    });
    double *total = scratch.zeros(s.groups), *square = scratch.zeros(s.groups);
    auto each = [&](auto f) {  // f(group, number of the line, of how many numbers that tells)
        for (int64_t j = 0; j < t.width; ++j)
            f(j % t.columns / s.size(), j, static_cast<double>(t.lines + (j < t.rest)));
    };
    each([&](int64_t group, int64_t j, double n) { total[group] += n * means[j]; });
    for (int64_t k = 0; k < s.groups; ++k) total[k] /= s.count();
    each([&](int64_t group, int64_t j, double n) {
        double d = means[j] - total[group];
        square[group] += squares[j] + n * d * d;
    });
    for (int64_t k = 0; k < s.groups; ++k) {
        mean[k] = static_cast<float>(total[k]);
        rstd[k] = static_cast<float>(1 / std::sqrt(square[k] / s.count() + epsilon));
    }
}

// Repeats the numbers of groups for each of their channels, along a line.
float* for_channels(const Shape& s, const Table& t, const float* groups, Scratch& scratch) {
    float* channels = scratch.take<float>(s.columns);
    for (int64_t c = 0; c < s.columns; ++c) channels[c] = groups[c / s.size()];
    return tiled(t, channels, scratch);
}

float* times_scale(const Shape& s, const Table& t, const float* rstd, const float* scale,
                   Scratch& scratch) {
    float* channels = scratch.take<float>(s.columns);
    for (int64_t c = 0; c < s.columns; ++c) channels[c] = rstd[c / s.size()] * scale[c];
    return tiled(t, channels, scratch);
}

// Sums of each channel of a sample, over the repetitions in a line.
double* channel_sums(const Table& t, const double* line, Scratch& scratch) {
    double* total = scratch.zeros(t.columns);
    for (int64_t i = 0; i < t.times; ++i)
        for (int64_t c = 0; c < t.columns; ++c) total[c] += line[i * t.columns + c];
    return total;
}

struct Gradient {
    const float *g, *g_mean, *g_rstd, *x, *scale, *mean, *rstd;
    float* dx;
};

// dx of a sample, and what it adds to the sums over samples. p is of this sample.
void backward_sample(const Shape& s, const Table& t, const Gradient& p, double* dscale,
                     double* doffset, Scratch scratch) {
    const float* mean = for_channels(s, t, p.mean, scratch);
    Affine a{mean, times_scale(s, t, p.rstd, p.scale, scratch), mean};
    double *sum_line = scratch.zeros(t.width), *product_line = scratch.zeros(t.width);
    all_blocks(t, [&](Block b) {
        gradient_sums<PLAIN>(t, b, p.g, p.x, nullptr, a, nullptr, sum_line, product_line);
    });
    double *sums = channel_sums(t, sum_line, scratch);
    double *products = channel_sums(t, product_line, scratch);
    double *first = scratch.zeros(s.groups), *second = scratch.zeros(s.groups);
    for (int64_t c = 0; c < s.columns; ++c) {
        int64_t group = c / s.size();
        products[c] *= p.rstd[group];
        first[group] += p.scale[c] * sums[c];
        second[group] += p.scale[c] * products[c];
        dscale[c] += products[c];
        doffset[c] += sums[c];
    }
    float *slope = scratch.take<float>(s.groups), *shift = scratch.take<float>(s.groups);
    for (int64_t k = 0; k < s.groups; ++k) {
        double rstd = p.rstd[k], n = s.count();
        slope[k] = static_cast<float>(-(second[k] + p.g_rstd[k] * rstd) / n * rstd * rstd);
        shift[k] = static_cast<float>(-(first[k] - p.g_mean[k] / rstd) / n * rstd);
    }
    const float *slopes = for_channels(s, t, slope, scratch);
    const float *shifts = for_channels(s, t, shift, scratch);
    all_blocks(t, [&](Block b) {
        apply_gradient<PLAIN>(t, b, p.g, p.x, a, slopes, shifts, p.dx);
    });
}

}  // namespace

// -- kernels --------------------------------------------------------------------------------------
//
// Sizes: samples, rows, columns, groups, bytes of scratch memory for each thread.

// x, scale, offset -> y, mean, rstd; epsilon
KERNEL(group_norm) {
    auto in = floats(arrays);
    auto out = results(arrays, 3);
    Shape s(sizes);
    Table t(s.rows, s.columns);
    for_samples(s, arrays[6], [&](int64_t i, Scratch scratch, int64_t) {
        const float* x = in[0] + i * s.rows * s.columns;
        float* y = out[0] + i * s.rows * s.columns;
        float *mean = out[1] + i * s.groups, *rstd = out[2] + i * s.groups;
        group_moments(s, t, x, mean, rstd, numbers[0], scratch);
        Affine a{for_channels(s, t, mean, scratch), times_scale(s, t, rstd, in[1], scratch),
                 tiled(t, in[2], scratch)};
        all_blocks(t, [&](Block b) { normalise<PLAIN>(t, b, x, nullptr, a, y); });
    });
    return 0;
}

// g, g_mean, g_rstd, x, scale, mean, rstd -> dx, dscale, doffset
KERNEL(group_norm_grad) {
    auto in = floats(arrays);
    auto out = results(arrays, 7);
    Shape s(sizes);
    Table t(s.rows, s.columns);
    Scratch all(arrays[10]);
    double *dscale = all.zeros(threads() * s.columns), *doffset = all.zeros(threads() * s.columns);
    for_samples(s, all.free, [&](int64_t i, Scratch scratch, int64_t part) {
        int64_t at = i * s.rows * s.columns, group = i * s.groups, sum = part * s.columns;
        Gradient p{in[0] + at, in[1] + group, in[2] + group, in[3] + at,
                   in[4],      in[5] + group, in[6] + group, out[0] + at};
        backward_sample(s, t, p, dscale + sum, doffset + sum, scratch);
    });
    for (int64_t c = 0; c < s.columns; ++c) {
        double scale = 0, offset = 0;
        for (int64_t part = 0; part < threads(); ++part) {
            scale += dscale[part * s.columns + c];
            offset += doffset[part * s.columns + c];
        }
        out[1][c] = static_cast<float>(scale);
        out[2][c] = static_cast<float>(offset);
    }
    return 0;
}
