// Convolutions with 3x3 taps, without strides, in the domain of Winograd: see winograd.h.
//
// Some tiles at a time are transformed, multiplied at each of the 36 points, and transformed back,
// while they are in the L2 cache. Channels and filters are multiples of 16.
#include "winograd.h"

namespace {

// The kernel at the 36 points: for each point and block of filters, a row for each channel.
// `turned` swaps channels and filters and turns it round, as gradients by inputs need it.
void transform_kernel(const float* kernel, int64_t channels, int64_t filters, bool turned,
                      float* to) {
    int64_t vectors = filters / LANES;
    parallel(vectors * channels, 256, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t item = begin; item < end; ++item) {
            int64_t o = item / channels * LANES, c = item % channels;
            auto read = [&](int i, int j) {
                if (!turned) return load(kernel + ((3 * i + j) * channels + c) * filters + o);
                Vector v;
                const float* from = kernel + ((8 - 3 * i - j) * filters + o) * channels + c;
                for (int l = 0; l < LANES; ++l) v[l] = from[l * channels];
                return v;
            };
            int64_t first = o / WIDE * WIDE, wide = std::min<int64_t>(WIDE, filters - first);
            float* place = to + first * channels + c * wide + (o - first);
            transform<Kernels>(read, [&](int i, int j, Vector v) {
                store(place + (POINTS * i + j) * channels * filters, v);
            });
        }
    });
}

// Planes of the points lie a little apart from powers of two, which caches would mix up.
inline int64_t plane_size(int64_t values) { return values + LANES; }

// Results of one tile, from products at the points: those inside of the image.
inline void finish_tile(const float* from, int64_t plane, float* to, int64_t width, int64_t filters,
                        int64_t rows, int64_t columns) {
    bool whole = rows == TILE && columns == TILE;
    for (int64_t o = 0; o < filters; o += LANES)
        transform<Outputs>(
            [&](int a, int b) { return load(from + (POINTS * a + b) * plane + o); },
            [&](int a, int b, Vector v) {
                if (whole || (a < rows && b < columns))
                    store(to + (a * width + b) * filters + o, v);
            });
}

}  // namespace

// Arrays: source, kernel, results; scratch for the kernel at the points and each thread's tiles.
// Sizes: images; height, width, channels of the source; height, width, filters of the results;
// zeros above and left of the source; whether the kernel is turned; tiles at a time.
KERNEL(correlate) {
    const int64_t* s = sizes;
    Images source{static_cast<const float*>(arrays[0]), s[1], s[2], s[3]};
    float* y = static_cast<float*>(arrays[2]);
    float* weights = static_cast<float*>(arrays[3]);
    int64_t channels = s[3], height = s[4], width = s[5], filters = s[6], top = s[7], left = s[8];
    int64_t block = s[10];
    transform_kernel(static_cast<const float*>(arrays[1]), channels, filters, s[9], weights);
    Tiles tiles{(height + TILE - 1) / TILE, (width + TILE - 1) / TILE};
    // One block of filters replaces the values that it was made of: they are still in the L1 cache.
    bool in_place = filters <= WIDE;
    int64_t x_row = in_place ? std::max(channels, filters) : channels;
    int64_t y_row = in_place ? x_row : filters;
    int64_t x_plane = plane_size(block * x_row), y_plane = plane_size(block * y_row);
    int64_t own = 36 * (x_plane + (in_place ? 0 : y_plane) + channels);
    float* buffers = weights + 36 * channels * filters;
    parallel(s[0] * tiles.down * tiles.across, 4, [&](int64_t begin, int64_t end, int64_t part) {
        float* patch = buffers + part * own;
        float* x_values = patch + 36 * channels;
        float* y_values = in_place ? x_values : x_values + 36 * x_plane;
        for (int64_t first = begin; first < end; first += block) {
            int64_t last = std::min(first + block, end);
            tiles.each(first, last, [&](int64_t t, int64_t n, int64_t i, int64_t j) {
                int64_t row;
                const float* square = source.square(n, i - top, j - left, POINTS, patch, row);
                evaluate<Inputs>(square, row, channels, x_values + t * x_row, x_plane);
            });
            int64_t zero = 0;
            column_blocks(filters, [&](int64_t o, int64_t count) {
                const Product* blocks = products(count);
                for (int64_t point = 0; point < 36; ++point) {
                    const float* w = weights + (point * filters + o) * channels;
                    row_blocks(last - first, [&](int64_t t, int64_t p) {
                        blocks[p](x_values + point * x_plane + t * x_row, x_row,
                                  {&zero, 1, channels}, w,
                                  y_values + point * y_plane + t * y_row + o, y_row, count);
                    });
                }
            });
            tiles.each(first, last, [&](int64_t t, int64_t n, int64_t i, int64_t j) {
                finish_tile(y_values + t * y_row, y_plane,
                            y + ((n * height + i) * width + j) * filters, width, filters,
                            std::min<int64_t>(TILE, height - i),
                            std::min<int64_t>(TILE, width - j));
            });
        }
    });
    return 0;
}

// The gradient by the kernel: each thread sums products over its tiles; the sums are added in the
// order of the threads and transformed once.
// Arrays: x, g, gk; scratch of each thread.
// Sizes: images; height, width, channels of x; height, width, filters of g; zeros above and left of
// x; tiles at a time.
KERNEL(kernel_grad) {
    const int64_t* s = sizes;
    Images x{static_cast<const float*>(arrays[0]), s[1], s[2], s[3]};
    Images g{static_cast<const float*>(arrays[1]), s[4], s[5], s[6]};
    float* gk = static_cast<float*>(arrays[2]);
    float* scratch = static_cast<float*>(arrays[3]);
    int64_t channels = s[3], filters = s[6], top = s[7], left = s[8], block = s[9];
    Tiles tiles{(g.height + TILE - 1) / TILE, (g.width + TILE - 1) / TILE};
    int64_t x_plane = plane_size(block * channels), g_plane = plane_size(block * filters);
    int64_t total = 36 * channels * filters;
    int64_t own = total + 36 * (x_plane + g_plane + channels + filters);
    int64_t count = s[0] * tiles.down * tiles.across;
    int64_t parts = std::min<int64_t>((count + 3) / 4, threads());
    parallel(count, 4, [&](int64_t begin, int64_t end, int64_t part) {
        float* sums = scratch + part * own;
        float* x_values = sums + total;
        float* g_values = x_values + 36 * x_plane;
        float* patch = g_values + 36 * g_plane;
        std::fill_n(sums, total, 0.0f);
        for (int64_t first = begin; first < end; first += block) {
            int64_t last = std::min(first + block, end);
            tiles.each(first, last, [&](int64_t t, int64_t n, int64_t i, int64_t j) {
                int64_t row;
                const float* square = x.square(n, i - top, j - left, POINTS, patch, row);
                evaluate<Inputs>(square, row, channels, x_values + t * channels, x_plane);
                square = g.square(n, i, j, TILE, patch, row);
                evaluate<Cotangents>(square, row, filters, g_values + t * filters, g_plane);
            });
            Places places{1, last - first, 0, channels, 0, filters};
            for (int64_t point = 0; point < 36; ++point)
                column_blocks(filters, [&](int64_t o, int64_t wide) {
                    const Outer* outers_of = outers(wide);
                    row_blocks(channels, [&](int64_t c, int64_t p) {
                        outers_of[p](x_values + point * x_plane + c,
                                     g_values + point * g_plane + o, places,
                                     sums + (point * channels + c) * filters + o, filters);
                    });
                });
        }
    });
    parallel(channels * filters / LANES, 64, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t place = begin * LANES; place < end * LANES; place += LANES)
            transform<KernelSums>(
                [&](int i, int j) {
                    const float* from = scratch + (POINTS * i + j) * channels * filters + place;
                    Vector sum = load(from);
                    for (int64_t part = 1; part < parts; ++part) sum += load(from + part * own);
                    return sum;
                },
                [&](int i, int j, Vector v) {
                    store(gk + (3 * i + j) * channels * filters + place, v);
                });
    });
    return 0;
}
