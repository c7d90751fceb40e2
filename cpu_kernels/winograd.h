// Winograd's F(4x4, 3x3) and, for gradients by kernels, F(3x3, 4x4): 36 products for a tile where
// the definition takes 144.
//
// Winograd, "Arithmetic complexity of computations", 1980; Lavin, Gray, "Fast algorithms for
// convolutional neural networks", 2016. A tile and a kernel are polynomials: both are evaluated at
// the points 0, A, -A, B, -B and infinity, values are multiplied, and the product is read off.
// With A * B = 1 and A = 2/3 the error is a quarter of that of the usual points 1 and 2.
#pragma once
#include "conv_block.h"

namespace {

constexpr int POINTS = 6, TILE = 4;
constexpr float A = 2.0f / 3.0f, B = 3.0f / 2.0f;
constexpr float A2 = A * A, B2 = B * B, A3 = A2 * A, B3 = B2 * B;
// Products of the differences of the points A and B to all others.
constexpr float AT_A = 1.0f / (2.0f * A2 * (A2 - B2)), AT_B = 1.0f / (2.0f * B2 * (B2 - A2));

// A line of six inputs, as the sums that stand against values at the points.
struct Inputs {
    static constexpr int from = 6, to = 6;
    static inline void line(const Vector* x, Vector* v) {
        Vector a = x[4] - B2 * x[2], b = x[4] - A2 * x[2];
        Vector c = A * (x[3] - B2 * x[1]), d = B * (x[3] - A2 * x[1]);
        v[0] = x[0] + x[4] - (A2 + B2) * x[2];
        v[1] = a + c;
        v[2] = a - c;
        v[3] = b + d;
        v[4] = b - d;
        v[5] = x[1] + x[5] - (A2 + B2) * x[3];
    }
};

// The values of a kernel of three numbers.
struct Kernels {
    static constexpr int from = 3, to = 6;
    static inline void line(const Vector* k, Vector* u) {
        Vector a = AT_A * k[0] + AT_A * A2 * k[2], b = AT_B * k[0] + AT_B * B2 * k[2];
        Vector c = AT_A * A * k[1], d = AT_B * B * k[1];
        u[0] = k[0];
        u[1] = a + c;
        u[2] = a - c;
        u[3] = b + d;
        u[4] = b - d;
        u[5] = k[2];
    }
};

// The values of four cotangents.
struct Cotangents {
    static constexpr int from = 4, to = 6;
    static inline void line(const Vector* g, Vector* u) {
        Vector a = AT_A * g[0] + AT_A * A2 * g[2], b = AT_B * g[0] + AT_B * B2 * g[2];
        Vector c = AT_A * A * g[1] + AT_A * A3 * g[3], d = AT_B * B * g[1] + AT_B * B3 * g[3];
        u[0] = g[0];
        u[1] = a + c;
        u[2] = a - c;
        u[3] = b + d;
        u[4] = b - d;
        u[5] = g[3];
    }
};

// Four results from products at the points.
struct Outputs {
    static constexpr int from = 6, to = 4;
    static inline void line(const Vector* m, Vector* y) {
        Vector a = m[1] + m[2], b = m[3] + m[4], c = m[1] - m[2], d = m[3] - m[4];
        y[0] = m[0] + a + b;
        y[1] = A * c + B * d;
        y[2] = A2 * a + B2 * b;
        y[3] = A3 * c + B3 * d + m[5];
    }
};

// Three numbers of a gradient by a kernel.
struct KernelSums {
    static constexpr int from = 6, to = 3;
    static inline void line(const Vector* m, Vector* y) {
        Vector a = m[1] + m[2], b = m[3] + m[4];
        y[0] = m[0] + a + b;
        y[1] = A * (m[1] - m[2]) + B * (m[3] - m[4]);
        y[2] = A2 * a + B2 * b + m[5];
    }
};

// Transforms both axes of a square of vectors: `read(i, j)`, then `write(i, j, vector)`.
template <class Line, class Read, class Write>
inline void transform(const Read& read, const Write& write) {
    Vector half[Line::to][Line::from];
#pragma GCC unroll 6
    for (int j = 0; j < Line::from; ++j) {
        Vector x[Line::from], v[Line::to];
#pragma GCC unroll 6
        for (int i = 0; i < Line::from; ++i) x[i] = read(i, j);
        Line::line(x, v);
#pragma GCC unroll 6
        for (int i = 0; i < Line::to; ++i) half[i][j] = v[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < Line::to; ++i) {
        Vector v[Line::to];
        Line::line(half[i], v);
#pragma GCC unroll 6
        for (int j = 0; j < Line::to; ++j) write(i, j, v[j]);
    }
}

// Images in tiles of 4x4 results, in one row of tiles after the other.
struct Tiles {
    int64_t down, across;  // of an image

    // Calls f(number, image, y, x) for tiles [begin, end), with the place of the first result.
    template <class F> void each(int64_t begin, int64_t end, const F& f) const {
        int64_t n = begin / (down * across), y = begin / across % down, x = begin % across;
        for (int64_t t = begin; t < end; ++t) {
            f(t - begin, n, y * TILE, x * TILE);
            if (++x < across) continue;
            x = 0;
            if (++y < down) continue;
            y = 0, ++n;
        }
    }
};

struct Images {
    const float* data;
    int64_t height, width, channels;

    // A square of `side` pixels, whose rows are then `row` numbers apart. Where it leaves the
    // image it is copied to `patch`, with zeros around it.
    const float* square(int64_t n, int64_t y, int64_t x, int64_t side, float* patch,
                        int64_t& row) const {
        const float* image = data + n * height * width * channels;
        row = width * channels;
        if (y >= 0 && x >= 0 && y + side <= height && x + side <= width)
            return image + (y * width + x) * channels;
        int64_t first = std::clamp<int64_t>(-x, 0, side);
        int64_t last = std::clamp<int64_t>(width - x, first, side);
        for (int64_t i = 0; i < side; ++i) {
            float* to = patch + i * side * channels;
            bool inside = y + i >= 0 && y + i < height;
            int64_t begin = inside ? first : side, end = inside ? last : side;
            std::fill(to, to + begin * channels, 0.0f);
            if (begin < end)
                std::copy_n(image + ((y + i) * width + x + begin) * channels,
                            (end - begin) * channels, to + begin * channels);
            std::fill(to + end * channels, to + side * channels, 0.0f);
        }
        row = side * channels;
        return patch;
    }
};

// Transforms squares of all channels; value (i, j) of a tile goes to `to + (6 * i + j) * plane`.
template <class Line>
inline void evaluate(const float* square, int64_t row, int64_t channels, float* to,
                     int64_t plane) {
    for (int64_t c = 0; c < channels; c += LANES)
        transform<Line>(
            [&](int i, int j) { return load(square + i * row + j * channels + c); },
            [&](int i, int j, Vector v) { store(to + (POINTS * i + j) * plane + c, v); });
}

}  // namespace
