// Statistics of channels, and what is done with them: the passes of batch norm and of group norm
// over a block of lines.
//
// The statistics of a block are taken about its own mean, while it is in the cache, and those of
// blocks are combined in double: a mean that is large beside the deviation costs no digits.
//
// Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
// Variances", 1979.
#pragma once
#include "columns.h"

// -- statistics -----------------------------------------------------------------------------------

// Adds some lines to the mean and the sum of squared deviations of each number of a slab, of which
// `before` lines are in already.
template <class S>
inline void add_lines(const float* x, int64_t lines, int64_t stride, double before, double* mean,
                      double* square) {
    using V = typename S::V;
    V center[S::N] = {}, rest[S::N] = {}, squares[S::N] = {};
    for (int64_t r = 0; r < lines; ++r)
        for (int i = 0; i < S::N; ++i) center[i] += load<V>(x + r * stride + i * S::LANES);
    for (int i = 0; i < S::N; ++i) center[i] *= 1.0f / static_cast<float>(lines);
    for (int64_t r = 0; r < lines; ++r)
        for (int i = 0; i < S::N; ++i) {
            V d = load<V>(x + r * stride + i * S::LANES) - center[i];
            rest[i] += d;
            squares[i] += d * d;
        }
    float centers[S::SIZE], rests[S::SIZE], sums[S::SIZE];
    for (int i = 0; i < S::N; ++i) {
        store(centers + i * S::LANES, center[i]);
        store(rests + i * S::LANES, rest[i]);
        store(sums + i * S::LANES, squares[i]);
    }
    double share = lines / (before + lines), both = before * share, part = 1.0 / lines;
    for (int j = 0; j < S::SIZE; ++j) {
        double away = rests[j] * part;  // how far the rounded mean is from the mean
        double d = centers[j] + away - mean[j];
        mean[j] += d * share;
        square[j] += sums[j] - away * rests[j] + d * d * both;
    }
}

// The same for a block of a table.
inline void add_block(const Table& t, Block b, const float* x, double before, double* mean,
                      double* square) {
    for_slabs(b.width, [&](auto slab) {
        int64_t j = slab.at;
        add_lines<decltype(slab)>(x + b.at + j, b.lines, t.width, before, mean + j, square + j);
    });
}

// -- forward --------------------------------------------------------------------------------------

// Vectors of a line: (x - mean) * factor + offset.
struct Affine {
    const float *mean, *factor, *offset;
};

template <class S> struct AffineSlab {
    using V = typename S::V;
    V mean[S::N], factor[S::N], offset[S::N];
    AffineSlab(const Affine& a, int64_t at) {
        for (int i = 0; i < S::N; ++i) {
            mean[i] = load<V>(a.mean + at + i * S::LANES);
            factor[i] = load<V>(a.factor + at + i * S::LANES);
            offset[i] = load<V>(a.offset + at + i * S::LANES);
        }
    }
    V operator()(V x, int i) const { return (x - mean[i]) * factor[i] + offset[i]; }
};

// What follows the normalisation: nothing, ReLU, or the residual connection and ReLU.
enum Ending { PLAIN, RELU, ADD_RELU };

template <Ending ENDING>
inline void normalise(const Table& t, Block b, const float* x, const float* residual,
                      const Affine& a, float* y) {
    for_slabs(b.width, [&](auto slab) {
        using S = decltype(slab);
        using V = typename S::V;
        AffineSlab<S> affine(a, slab.at);
        for (int64_t r = 0; r < b.lines; ++r)
            for (int i = 0; i < S::N; ++i) {
                int64_t at = b.at + r * t.width + slab.at + i * S::LANES;
                V v = affine(load<V>(x + at), i);
                if (ENDING == ADD_RELU) v += load<V>(residual + at);
                if (ENDING != PLAIN) v = v < V{} ? V{} : v;  // NaN stays
                store(y + at, v);
            }
    });
}

// -- backward -------------------------------------------------------------------------------------

// What g is where the result was above 0: RELU computes it again, ADD_RELU looks at y.
template <Ending ENDING, class V, class A>
inline V masked_at(const float* g, const float* y, const A& affine, V x, int64_t at, int i) {
    V v = load<V>(g + at);
    if (ENDING == RELU) v = affine(x, i) > V{} ? v : V{};
    if (ENDING == ADD_RELU) v = load<V>(y + at) > V{} ? v : V{};
    return v;
}

// Adds to the sums of g and of g * (x - mean), g masked; ADD_RELU writes it.
template <Ending ENDING>
inline void gradient_sums(const Table& t, Block b, const float* g, const float* x, const float* y,
                          const Affine& a, float* masked, double* sums, double* products) {
    for_slabs(b.width, [&](auto slab) {
        using S = decltype(slab);
        using V = typename S::V;
        AffineSlab<S> affine(a, slab.at);
        V sum[S::N] = {}, product[S::N] = {};
        for (int64_t r = 0; r < b.lines; ++r)
            for (int i = 0; i < S::N; ++i) {
                int64_t at = b.at + r * t.width + slab.at + i * S::LANES;
                V value = load<V>(x + at);
                V v = masked_at<ENDING>(g, y, affine, value, at, i);
                if (ENDING == ADD_RELU) store(masked + at, v);
                sum[i] += v;
                product[i] += v * (value - affine.mean[i]);
            }
        add_to<S>(sums + slab.at, sum);
        add_to<S>(products + slab.at, product);
    });
}

// dx = g * factor + (x - mean) * slope + shift; RELU masks g.
template <Ending ENDING>
inline void apply_gradient(const Table& t, Block b, const float* g, const float* x,
                           const Affine& a, const float* slope, const float* shift, float* dx) {
    for_slabs(b.width, [&](auto slab) {
        using S = decltype(slab);
        using V = typename S::V;
        AffineSlab<S> affine(a, slab.at);
        V slopes[S::N], shifts[S::N];
        for (int i = 0; i < S::N; ++i) {
            slopes[i] = load<V>(slope + slab.at + i * S::LANES);
            shifts[i] = load<V>(shift + slab.at + i * S::LANES);
        }
        for (int64_t r = 0; r < b.lines; ++r)
            for (int i = 0; i < S::N; ++i) {
                int64_t at = b.at + r * t.width + slab.at + i * S::LANES;
                V value = load<V>(x + at), v = masked_at<ENDING>(g, nullptr, affine, value, at, i);
                V slanted = (value - affine.mean[i]) * slopes[i];
                store(dx + at, v * affine.factor[i] + slanted + shifts[i]);
            }
    });
}
