// Depthwise convolutions with two spatial axes, channels last, and their gradients: vectors of
// channels, several places at once, so that each row of the kernel is read once for all of them.
#include "conv_phase.h"

namespace {

constexpr int PLACES = 8, TAPS = 9;
constexpr int DEEP = 16;  // channels of a row are padded to a multiple of this

// A source whose pixels are copied to rows with zeros around them: each channel `times` over, and
// rows of channels padded to a multiple of DEEP.
struct Source {
    const float* data;
    int64_t height, width, channels, times;
    int64_t top, left, wide;
    bool copied;

    int64_t deep() const { return padded(channels * times, DEEP); }

    void pixels(const float* from, int64_t count, float* to) const {
        int64_t filled = channels * times, all = deep();
        for (int64_t i = 0; i < count; ++i, from += channels, to += all) {
            if (times == 1)
                std::copy_n(from, channels, to);
            else
                for (int64_t c = 0; c < filled; ++c) to[c] = from[c / times];
            std::fill(to + filled, to + all, 0.0f);
        }
    }

    // Rows [first, first + rows) of padded image n: in `buffer`, or where they are.
    const float* band(int64_t n, int64_t first, int64_t rows, float* buffer) const {
        const float* image = data + n * height * width * channels;
        if (!copied) return image + first * width * channels;
        int64_t row = wide * deep(), inside = std::min(width, wide - left);
        for (int64_t r = 0; r < rows; ++r) {
            float* to = buffer + r * row;
            int64_t y = first + r - top;
            bool outside = y < 0 || y >= height;
            std::fill_n(to, outside ? row : left * deep(), 0.0f);
            if (outside) continue;
            pixels(image + y * width * channels, inside, to + left * deep());
            std::fill(to + (left + inside) * deep(), to + row, 0.0f);
        }
        return buffer;
    }
};

// y[p] = sum over taps of x[p * step + offsets[t]] * w[t], for one vector of channels.
template <int P>
void weigh(const float* x, int64_t step, const Runs& taps, const float* w, int64_t deep, float* y,
           int64_t y_step, int64_t channels) {
    Vector sums[P] = {};
    for (int64_t t = 0; t < taps.count; ++t) {
        Vector factor = load(w + t * deep);
        const float* from = x + taps.offsets[t];
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sums[p] += factor * load(from + p * step);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
        if (channels >= LANES)
            store(y + p * y_step, sums[p]);
        else
            std::memcpy(y + p * y_step, &sums[p], channels * sizeof(float));
    }
}

// total[t] += sum over places of x[place + offsets[t]] * g[place], for one vector of channels.
template <int T>
void gather(const float* x, const int64_t* offsets, const float* g, const Places& places,
            float* total, int64_t deep) {
    Vector sums[T];
#pragma GCC unroll 9
    for (int t = 0; t < T; ++t) sums[t] = load(total + t * deep);
    for (int64_t r = 0; r < places.rows; ++r) {
        const float* a = x + r * places.x_row;
        const float* b = g + r * places.g_row;
        for (int64_t q = 0; q < places.columns; ++q, a += places.x_step, b += places.g_step) {
            Vector factor = load(b);
#pragma GCC unroll 9
            for (int t = 0; t < T; ++t) sums[t] += factor * load(a + offsets[t]);
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < T; ++t) store(total + t * deep, sums[t]);
}

template <int T = TAPS>
void gather_some(int64_t count, const float* x, const int64_t* offsets, const float* g,
                 const Places& places, float* total, int64_t deep) {
    if (count == T) return gather<T>(x, offsets, g, places, total, deep);
    if constexpr (T > 1) gather_some<T - 1>(count, x, offsets, g, places, total, deep);
}

// One row of a phase: for each vector of channels all places.
void weigh_row(const Phase& phase, const float* band, int64_t step, int64_t deep, float* y,
               int64_t y_step, int64_t channels) {
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t q = 0;
        for (; q + PLACES <= phase.columns; q += PLACES)
            weigh<PLACES>(band + q * step + c, step, phase.runs, phase.weights + c, deep,
                          y + q * y_step + c, y_step, channels - c);
        for (; q < phase.columns; ++q)
            weigh<1>(band + q * step + c, step, phase.runs, phase.weights + c, deep,
                     y + q * y_step + c, y_step, channels - c);
    }
}

}  // namespace

// y = a depthwise convolution of x, or the gradient of one by its inputs.
// Arrays: source, kernel, results; scratch for the weights and for each thread.
// Sizes: images; height, width, channels of the source, how often each is repeated; top, left,
// wide, copied (see Source); how many results side by side are summed to one; rows of a band, rows
// of the source in it, steps of the source along rows and columns; numbers of an image of results,
// of one of its rows and of a step; least bands for a thread; numbers of the weights, of a band and
// of a row before results are summed; phases; then each phase.
KERNEL(correlate) {
    const int64_t* s = sizes;
    Source source{static_cast<const float*>(arrays[0]), s[1], s[2], s[3], s[4], s[5], s[6], s[7],
                  s[8] != 0};
    const float* kernel = static_cast<const float*>(arrays[1]);
    float* y = static_cast<float*>(arrays[2]);
    float* weights = static_cast<float*>(arrays[3]);
    int64_t images = s[0], joined = s[9], band_rows = s[10], source_rows = s[11], step_y = s[12];
    int64_t step_x = s[13], image = s[14], y_row = s[15], y_step = s[16], grain = s[17];
    float* buffers = weights + s[18];
    int64_t band_size = s[19], row_size = s[20], count = s[21];
    int64_t filters = source.channels * source.times, deep = source.deep();
    Phase phases[MOST_PHASES];
    const int64_t* next = s + 22;
    int64_t rows = 0;
    for (int64_t i = 0; i < count; ++i) {
        next = phases[i].read(next);
        phases[i].weights = weights;
        for (int64_t t = 0; t < phases[i].taps_count; ++t, weights += deep) {
            std::copy_n(kernel + phases[i].taps[t] * filters, filters, weights);
            std::fill(weights + filters, weights + deep, 0.0f);
        }
        rows = std::max(rows, phases[i].rows);
    }
    int64_t bands = (rows + band_rows - 1) / band_rows;
    parallel(images * bands, grain, [&](int64_t begin, int64_t end, int64_t part) {
        float* buffer = buffers + part * (band_size + row_size);
        float* apart = buffer + band_size;
        for (int64_t item = begin; item < end; ++item) {
            int64_t n = item / bands, first = item % bands * band_rows;
            const float* band = source.band(n, first * step_y, source_rows, buffer);
            for (const Phase* phase = phases; phase < phases + count; ++phase)
                for (int64_t r = first; r < std::min(first + band_rows, phase->rows); ++r) {
                    const float* from = band + (r - first) * step_y * source.wide * deep;
                    float* to = y + n * image + phase->start + r * y_row;
                    if (joined == 1) {
                        weigh_row(*phase, from, step_x * deep, deep, to, y_step, filters);
                        continue;
                    }
                    weigh_row(*phase, from, step_x * deep, deep, apart, deep, filters);
                    for (int64_t q = 0; q < phase->columns; ++q)
                        for (int64_t c = 0; c < filters; c += joined) {
                            float sum = apart[q * deep + c];
                            for (int64_t i = 1; i < joined; ++i) sum += apart[q * deep + c + i];
                            to[q * y_step + c / joined] = sum;
                        }
                }
        }
    });
    return 0;
}

// The gradient of a depthwise convolution by its kernel: each thread sums over its bands, then sums
// are added in the order of the threads.
// Arrays: x, g, gk; scratch for the sums and bands of each thread.
// Sizes: images; height, width, channels of x, how often each is repeated; top, left, wide, copied;
// rows and columns of g; rows of a band, rows of x in it, steps along rows and columns; least bands
// for a thread; numbers of a band of x and of g; taps, their offsets.
KERNEL(kernel_grad) {
    const int64_t* s = sizes;
    Source x{static_cast<const float*>(arrays[0]), s[1], s[2], s[3], s[4], s[5], s[6], s[7],
             s[8] != 0};
    int64_t images = s[0], height = s[9], width = s[10], band_rows = s[11], source_rows = s[12];
    int64_t step_y = s[13], step_x = s[14], grain = s[15], x_size = s[16], g_size = s[17];
    int64_t taps = s[18], filters = x.channels * x.times, deep = x.deep();
    const int64_t* offsets = s + 19;
    Source g{static_cast<const float*>(arrays[1]), height, width, filters, 1, 0, 0, width,
             deep != filters};
    float* result = static_cast<float*>(arrays[2]);
    float* scratch = static_cast<float*>(arrays[3]);
    int64_t own = taps * deep + x_size + g_size, bands = (height + band_rows - 1) / band_rows;
    int64_t parts = std::max<int64_t>(
        1, std::min<int64_t>((images * bands + grain - 1) / grain, threads()));
    parallel(images * bands, grain, [&](int64_t begin, int64_t end, int64_t part) {
        float* sums = scratch + part * own;
        std::fill_n(sums, taps * deep, 0.0f);
        for (int64_t item = begin; item < end; ++item) {
            int64_t n = item / bands, first = item % bands * band_rows;
            int64_t rows = std::min(band_rows, height - first);
            const float* a = x.band(n, first * step_y, source_rows, sums + taps * deep);
            const float* b = g.band(n, first, rows, sums + taps * deep + x_size);
            Places places{rows, width, step_y * x.wide * deep, step_x * deep, width * deep, deep};
            for (int64_t t = 0; t < taps; t += TAPS)
                for (int64_t c = 0; c < deep; c += LANES)
                    gather_some(std::min<int64_t>(TAPS, taps - t), a + c, offsets + t, b + c,
                                places, sums + t * deep + c, deep);
        }
    });
    for (int64_t t = 0; t < taps; ++t)
        for (int64_t o = 0; o < filters; ++o) {
            float sum = scratch[t * deep + o];
            for (int64_t part = 1; part < parts; ++part) sum += scratch[part * own + t * deep + o];
            result[t * filters + o] = sum;
        }
    return 0;
}
