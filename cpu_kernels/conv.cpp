// Convolutions with two spatial axes, channels last, and their gradients: no matrix of patches is
// made; blocks of results stay in registers while the inputs under each tap are added.
#include "conv_phase.h"

namespace {

// Where the source of a convolution lies in a padded copy: pixel (y, x) at (y + top, x + left).
struct Source {
    const float* data;
    int64_t height, width, channels;
    int64_t top, left, wide;
    bool copied;

    // Rows [first, first + rows) of padded image n: in `buffer`, or where they are.
    const float* band(int64_t n, int64_t first, int64_t rows, float* buffer) const {
        const float* image = data + n * height * width * channels;
        if (!copied) return image + first * width * channels;
        int64_t lead = left * channels, inside = std::min(width, wide - left) * channels;
        for (int64_t r = 0; r < rows; ++r) {
            float* to = buffer + r * wide * channels;
            int64_t y = first + r - top;
            if (y < 0 || y >= height) {
                std::fill_n(to, wide * channels, 0.0f);
                continue;
            }
            std::fill_n(to, lead, 0.0f);
            std::copy_n(image + y * width * channels, inside, to + lead);
            std::fill(to + lead + inside, to + wide * channels, 0.0f);
        }
        return buffer;
    }
};

// The kernel in the order of the blocks: for each group and block of columns, a row of numbers for
// each tap and channel. `transposed` swaps its channels and its filters.
struct Kernel {
    const float* data;
    int64_t groups, channels, filters;  // of a group, as the results see them
    bool transposed;

    float at(int64_t tap, int64_t group, int64_t c, int64_t o) const {
        if (transposed)
            return data[(tap * filters + o) * groups * channels + group * channels + c];
        return data[(tap * channels + c) * groups * filters + group * filters + o];
    }

    void pack(const Phase& phase, float* to) const {
        for (int64_t group = 0; group < groups; ++group)
            column_blocks(filters, [&](int64_t first, int64_t count) {
                int64_t wide = padded(count);
                for (int64_t t = 0; t < phase.taps_count; ++t) {
                    int64_t tap = phase.taps[t];
                    for (int64_t c = 0; c < channels; ++c, to += wide) {
                        for (int64_t o = 0; o < count; ++o) to[o] = at(tap, group, c, first + o);
                        std::fill(to + count, to + wide, 0.0f);
                    }
                }
            });
    }
};

struct Results {
    float* data;
    int64_t row, step;  // from one row and place of a phase to the next, in numbers
};

// Rows [begin, end) of a phase in one image, from the band of the source whose first row is theirs.
void correlate(const Phase& phase, const Kernel& kernel, const float* band, int64_t source_row,
               int64_t source_step, const Results& y, int64_t begin, int64_t end) {
    const float* weights = phase.weights;
    for (int64_t group = 0; group < kernel.groups; ++group)
        column_blocks(kernel.filters, [&](int64_t first, int64_t count) {
            const Product* blocks = products(count);
            float* to = y.data + phase.start + group * kernel.filters + first;
            for (int64_t r = begin; r < end; ++r)
                row_blocks(phase.columns, [&](int64_t q, int64_t p) {
                    blocks[p](band + group * kernel.channels + (r - begin) * source_row +
                                  q * source_step,
                              source_step, phase.runs, weights, to + r * y.row + q * y.step,
                              y.step, count);
                });
            weights += phase.taps_count * kernel.channels * padded(count);
        });
}

}  // namespace

// y = a convolution of x with a kernel, or the gradient of one by its inputs.
// Arrays: source, kernel, results; scratch for the weights and for a band of each thread.
// Sizes: images; height, width, channels of the source; top, left, wide, copied (see Source);
// groups, channels and filters of a group, transposed; rows of a band, rows of the source in it,
// steps of the source along rows and columns; numbers of an image of results, of one of its rows
// and of a step; least bands for a thread; numbers of the weights and of a band; phases; then each
// phase.
KERNEL(correlate) {
    const int64_t* s = sizes;
    Source source{static_cast<const float*>(arrays[0]), s[1], s[2], s[3], s[4], s[5], s[6],
                  s[7] != 0};
    Kernel kernel{static_cast<const float*>(arrays[1]), s[8], s[9], s[10], s[11] != 0};
    float* y = static_cast<float*>(arrays[2]);
    float* weights = static_cast<float*>(arrays[3]);
    int64_t images = s[0], band_rows = s[12], source_rows = s[13], step_y = s[14], step_x = s[15];
    int64_t image = s[16], y_row = s[17], y_step = s[18], grain = s[19];
    float* buffers = weights + s[20];
    int64_t buffer = s[21], count = s[22];
    Phase phases[MOST_PHASES];
    const int64_t* next = s + 23;
    int64_t rows = 0;
    for (int64_t i = 0; i < count; ++i) {
        next = phases[i].read(next);
        kernel.pack(phases[i], weights);
        phases[i].weights = weights;
        weights += phases[i].taps_count * kernel.channels * kernel.groups * padded(kernel.filters);
        rows = std::max(rows, phases[i].rows);
    }
    int64_t bands = (rows + band_rows - 1) / band_rows;
    int64_t row = source.wide * source.channels;
    parallel(images * bands, grain, [&](int64_t begin, int64_t end, int64_t part) {
        for (int64_t item = begin; item < end; ++item) {
            int64_t n = item / bands, first = item % bands * band_rows;
            const float* band =
                source.band(n, first * step_y, source_rows, buffers + part * buffer);
            Results results{y + n * image, y_row, y_step};
            for (int64_t i = 0; i < count; ++i)
                correlate(phases[i], kernel, band, step_y * row, step_x * source.channels, results,
                          first, std::min(first + band_rows, phases[i].rows));
        }
    });
    return 0;
}

namespace {

// Rows of cotangents with every group's filters padded with zeros to whole vectors.
const float* padded_rows(const float* g, int64_t places, int64_t groups, int64_t filters,
                         float* buffer) {
    int64_t wide = padded(filters);
    if (wide == filters) return g;
    for (int64_t i = 0; i < places * groups; ++i) {
        std::copy_n(g + i * filters, filters, buffer + i * wide);
        std::fill(buffer + i * wide + filters, buffer + (i + 1) * wide, 0.0f);
    }
    return buffer;
}

}  // namespace

// The gradient of a convolution by its kernel: each thread sums over its bands, then sums are added
// in the order of the threads.
// Arrays: x, g, gk; scratch for the sums and bands of each thread.
// Sizes: images; height, width, channels of x; top, left, wide, copied; groups, channels and
// filters of a group; rows and columns of g; rows of a band, rows of x in it, steps along rows and
// columns; least bands for a thread; numbers of a band of x and of g; runs, their length, their
// offsets.
KERNEL(kernel_grad) {
    const int64_t* s = sizes;
    Source source{static_cast<const float*>(arrays[0]), s[1], s[2], s[3], s[4], s[5], s[6],
                  s[7] != 0};
    const float* g = static_cast<const float*>(arrays[1]);
    float* result = static_cast<float*>(arrays[2]);
    float* scratch = static_cast<float*>(arrays[3]);
    int64_t images = s[0], groups = s[8], channels = s[9], filters = s[10], height = s[11];
    int64_t width = s[12], band_rows = s[13], source_rows = s[14], step_y = s[15], step_x = s[16];
    int64_t grain = s[17], x_buffer = s[18], g_buffer = s[19], runs = s[20], length = s[21];
    const int64_t* offsets = s + 22;
    int64_t wide = padded(filters), total = runs * length * groups * wide;
    int64_t own = total + x_buffer + g_buffer;
    int64_t bands = (height + band_rows - 1) / band_rows, row = source.wide * source.channels;
    int64_t parts = std::max<int64_t>(
        1, std::min<int64_t>((images * bands + grain - 1) / grain, threads()));
    parallel(images * bands, grain, [&](int64_t begin, int64_t end, int64_t part) {
        float* sums = scratch + part * own;
        std::fill_n(sums, total, 0.0f);
        float* x_band = sums + total;
        for (int64_t item = begin; item < end; ++item) {
            int64_t n = item / bands, first = item % bands * band_rows;
            int64_t rows = std::min(band_rows, height - first);
            const float* x = source.band(n, first * step_y, source_rows, x_band);
            const float* here =
                padded_rows(g + (n * height + first) * width * groups * filters, rows * width,
                            groups, filters, x_band + x_buffer);
            Places places{rows, width, step_y * row, step_x * source.channels,
                          width * groups * wide, groups * wide};
            for (int64_t group = 0; group < groups; ++group)
                column_blocks(wide, [&](int64_t o, int64_t count) {
                    const Outer* blocks = outers(count);
                    for (int64_t r = 0; r < runs; ++r)
                        row_blocks(length, [&](int64_t i, int64_t p) {
                            blocks[p](x + group * channels + offsets[r] + i,
                                      here + group * wide + o, places,
                                      sums + (r * length + i) * groups * wide + group * wide + o,
                                      groups * wide);
                        });
                });
        }
    });
    parallel(runs * length, 256, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin * groups; i < end * groups; ++i)
            for (int64_t o = 0; o < filters; ++o) {
                float sum = scratch[i * wide + o];
                for (int64_t part = 1; part < parts; ++part)
                    sum += scratch[part * own + i * wide + o];
                result[i * filters + o] = sum;
            }
    });
    return 0;
}
