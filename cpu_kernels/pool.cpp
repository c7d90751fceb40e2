// Pooling with two spatial axes, channels last: windows are clipped, channels go in vectors.
#include <limits>

#include "lanes.h"

namespace {

struct Window {
    int64_t images, height, width, channels;
    int64_t rows, columns;  // of results
    int64_t tall, wide, step_y, step_x, top, left;
    bool alone;   // no input is in two windows
    bool covers;  // every input is in one

    explicit Window(const int64_t* s)
        : images(s[0]), height(s[1]), width(s[2]), channels(s[3]), rows(s[4]), columns(s[5]),
          tall(s[6]), wide(s[7]), step_y(s[8]), step_x(s[9]), top(s[10]), left(s[11]),
          alone(tall <= step_y && wide <= step_x),
          covers(tall == step_y && wide == step_x && top == 0 && left == 0 &&
                 rows * tall == height && columns * wide == width) {}

    int64_t image() const { return height * width * channels; }
};

// The inputs of one window: rows [top, bottom) and columns [left, right).
struct Clip {
    int64_t top, bottom, left, right, row, channels;

    Clip(const Window& w, int64_t i, int64_t j)
        : top(std::max<int64_t>(i * w.step_y - w.top, 0)),
          bottom(std::min(i * w.step_y - w.top + w.tall, w.height)),
          left(std::max<int64_t>(j * w.step_x - w.left, 0)),
          right(std::min(j * w.step_x - w.left + w.wide, w.width)), row(w.width * w.channels),
          channels(w.channels) {}

    int64_t size() const {
        return std::max<int64_t>(bottom - top, 0) * std::max<int64_t>(right - left, 0);
    }

    // Calls f(offset) for every pixel of the window, rows first.
    template <class F> void each(const F& f) const {
        for (int64_t y = top; y < bottom; ++y)
            for (int64_t x = left; x < right; ++x) f(y * row + x * channels);
    }
};

inline Vector load_as(Vector, const float* p) { return load(p); }
inline float load_as(float, const float* p) { return *p; }
inline void store(float* p, float x) { *p = x; }

// Calls f(kind, c) for vectors of channels, then for single ones; kind is a Vector or a float.
template <class F> inline void over_channels(int64_t channels, const F& f) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) f(Vector{}, c);
    for (; c < channels; ++c) f(0.0f, c);
}

// Calls f(image, place, clip) for every window; `apart` says that rows may go to other threads.
template <class F> inline void windows(const Window& w, bool apart, const F& f) {
    int64_t rows = apart ? w.images * w.rows : w.images, each = apart ? 1 : w.rows;
    int64_t work = each * w.columns * w.channels * w.tall * w.wide;
    int64_t grain = 16384 / std::max<int64_t>(work, 1) + 1;
    parallel(rows, grain, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t item = begin * each; item < end * each; ++item) {
            int64_t n = item / w.rows, i = item % w.rows;
            for (int64_t j = 0; j < w.columns; ++j)
                f(n, (item * w.columns + j) * w.channels, Clip(w, i, j));
        }
    });
}

// The same where results are inputs' gradients, which start from zero if not all are written.
template <class F> inline void spread(const Window& w, float* gx, const F& f) {
    if (!w.covers) {
        int64_t grain = 16384 / std::max<int64_t>(w.image(), 1) + 1;
        parallel(w.images, grain, [&](int64_t begin, int64_t end, int64_t) {
            std::fill(gx + begin * w.image(), gx + end * w.image(), 0.0f);
        });
    }
    windows(w, w.alone, f);
}

}  // namespace

// All kernels here take the sizes: images; height, width, channels; rows and columns of results;
// the window's height and width, its steps, and the padding above and left.

// Arrays: x, y.
KERNEL(max_pool) {
    Window w(sizes);
    const float* x = static_cast<const float*>(arrays[0]);
    float* y = static_cast<float*>(arrays[1]);
    windows(w, true, [&](int64_t n, int64_t place, const Clip& clip) {
        const float* image = x + n * w.image();
        over_channels(w.channels, [&](auto kind, int64_t c) {
            auto most = kind - std::numeric_limits<float>::infinity();
            clip.each([&](int64_t offset) {
                auto here = load_as(kind, image + offset + c);
                most = (here > most) | (here != here) ? here : most;  // NaN stays
            });
            store(y + place + c, most);
        });
    });
    return 0;
}

// Arrays: g, x, y, gx. The gradient goes to the first input that equals the largest.
KERNEL(max_pool_grad) {
    Window w(sizes);
    const float* g = static_cast<const float*>(arrays[0]);
    const float* x = static_cast<const float*>(arrays[1]);
    const float* y = static_cast<const float*>(arrays[2]);
    float* gx = static_cast<float*>(arrays[3]);
    spread(w, gx, [&](int64_t n, int64_t place, const Clip& clip) {
        const float* image = x + n * w.image();
        float* to = gx + n * w.image();
        over_channels(w.channels, [&](auto kind, int64_t c) {
            auto left = load_as(kind, g + place + c), most = load_as(kind, y + place + c);
            clip.each([&](int64_t offset) {
                auto wins = load_as(kind, image + offset + c) == most;
                auto part = wins ? left : kind;
                left = wins ? kind : left;
                float* target = to + offset + c;
                store(target, w.alone ? part : part + load_as(kind, target));
            });
        });
    });
    return 0;
}

// Arrays: h, x, y, taken: what `h` has where `x` was the largest of a window.
KERNEL(max_pool_take) {
    Window w(sizes);
    const float* h = static_cast<const float*>(arrays[0]);
    const float* x = static_cast<const float*>(arrays[1]);
    const float* y = static_cast<const float*>(arrays[2]);
    float* taken = static_cast<float*>(arrays[3]);
    windows(w, true, [&](int64_t n, int64_t place, const Clip& clip) {
        const float* image = x + n * w.image();
        const float* from = h + n * w.image();
        over_channels(w.channels, [&](auto kind, int64_t c) {
            auto most = load_as(kind, y + place + c), found = kind, open = kind + 1.0f;
            clip.each([&](int64_t offset) {
                auto wins = load_as(kind, image + offset + c) == most;
                auto here = wins ? load_as(kind, from + offset + c) : kind;
                found = open > 0.0f ? here : found;
                open = wins ? kind : open;
            });
            store(taken + place + c, found);
        });
    });
    return 0;
}

// Arrays: x, y.
KERNEL(average_pool) {
    Window w(sizes);
    const float* x = static_cast<const float*>(arrays[0]);
    float* y = static_cast<float*>(arrays[1]);
    windows(w, true, [&](int64_t n, int64_t place, const Clip& clip) {
        const float* image = x + n * w.image();
        float share = 1.0f / std::max<int64_t>(clip.size(), 1);
        over_channels(w.channels, [&](auto kind, int64_t c) {
            auto sum = kind;
            clip.each([&](int64_t offset) { sum += load_as(kind, image + offset + c); });
            store(y + place + c, sum * share);
        });
    });
    return 0;
}

// Arrays: g, gx.
KERNEL(average_pool_grad) {
    Window w(sizes);
    const float* g = static_cast<const float*>(arrays[0]);
    float* gx = static_cast<float*>(arrays[1]);
    spread(w, gx, [&](int64_t n, int64_t place, const Clip& clip) {
        float* to = gx + n * w.image();
        float share = 1.0f / std::max<int64_t>(clip.size(), 1);
        over_channels(w.channels, [&](auto kind, int64_t c) {
            auto part = load_as(kind, g + place + c) * share;
            clip.each([&](int64_t offset) {
                float* target = to + offset + c;
                store(target, w.alone ? part : part + load_as(kind, target));
            });
        });
    });
    return 0;
}
