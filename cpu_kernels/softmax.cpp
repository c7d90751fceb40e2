// Softmax and log-softmax along one axis, and their gradients.
//
// An array is `outer` blocks of n times `inner` numbers, and the axis is the one in the middle.
// Rows of -infinity give zeros, as in NumPy's rule: their maximum is taken to be -FLT_MAX.
#include "rows.h"
#include "vector_math.h"

namespace {

constexpr int WIDTH = 64;  // columns at once, where the axis is not the last

struct Shape {
    int64_t outer, n, inner;
    explicit Shape(const int64_t* sizes) : outer(sizes[0]), n(sizes[1]), inner(sizes[2]) {}
};

// Calls row(at) for each row, or columns(at, width) for some columns side by side.
template <class R, class C> void for_axis(const Shape& s, const R& row, const C& columns) {
    if (s.inner == 1) {
        parallel(s.outer, row_grain(s.n), [&](int64_t begin, int64_t end, int64_t) {
            for (int64_t i = begin; i < end; ++i) row(i * s.n);
        });
        return;
    }
    int64_t groups = (s.inner + WIDTH - 1) / WIDTH;
    int64_t grain = row_grain(s.n * std::min<int64_t>(WIDTH, s.inner));
    parallel(s.outer * groups, grain, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) {
            int64_t first = i % groups * WIDTH;
            columns(i / groups * s.n * s.inner + first, std::min<int64_t>(WIDTH, s.inner - first));
        }
    });
}

float at_least_half(float total) { return total < 0.5f ? 0.5f : total; }  // NaN stays

// -- rows -----------------------------------------------------------------------------------------

void softmax_row(const float* x, int64_t n, float* y) {
    float top = row_max(x, n);
#pragma GCC ivdep  // x may be y
    for (int64_t j = 0; j < n; ++j) y[j] = vexp(x[j] - top);
    float factor = 1.0f / at_least_half(row_sum(y, n));
    for (int64_t j = 0; j < n; ++j) y[j] *= factor;
}

void log_softmax_row(const float* x, int64_t n, float* y) {
    float top = row_max(x, n);
    float part[256], total = 0.0f;
    for (int64_t begin = 0; begin < n; begin += 256) {
        int64_t count = std::min<int64_t>(256, n - begin);
        for (int64_t j = 0; j < count; ++j) part[j] = vexp(x[begin + j] - top);
        total += row_sum(part, count);
    }
    float height = std::log(at_least_half(total));
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - top) - height;
}

void softmax_grad_row(const float* g, const float* y, int64_t n, float* dx) {
    float dot = row_dot(g, y, n);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) dx[j] = (g[j] - dot) * y[j];
}

void log_softmax_grad_row(const float* g, const float* y, int64_t n, float* dx) {
    float sum = row_sum(g, n);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) dx[j] = g[j] - vexp(y[j]) * sum;
}

// -- columns side by side -------------------------------------------------------------------------

template <bool LOG>
void softmax_columns(const float* x, int64_t n, int64_t stride, int64_t width, float* y) {
    float top[WIDTH], total[WIDTH] = {};
    std::fill(top, top + WIDTH, -3.402823466e38f);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < width; ++j) {
            float v = x[i * stride + j];
            top[j] = v > top[j] ? v : top[j];
        }
    for (int64_t i = 0; i < n; ++i)
#pragma GCC ivdep
        for (int64_t j = 0; j < width; ++j) {
            float e = vexp(x[i * stride + j] - top[j]);
            if (!LOG) y[i * stride + j] = e;
            total[j] += e;
        }
    for (int64_t j = 0; j < width; ++j) {
        float sum = at_least_half(total[j]);
        total[j] = LOG ? std::log(sum) : 1.0f / sum;
    }
    for (int64_t i = 0; i < n; ++i)
#pragma GCC ivdep
        for (int64_t j = 0; j < width; ++j) {
            int64_t at = i * stride + j;
            y[at] = LOG ? (x[at] - top[j]) - total[j] : y[at] * total[j];
        }
}

template <bool LOG>
void grad_columns(const float* g, const float* y, int64_t n, int64_t stride, int64_t width,
                  float* dx) {
    float total[WIDTH] = {};
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < width; ++j) {
            int64_t at = i * stride + j;
            total[j] += LOG ? g[at] : g[at] * y[at];
        }
    for (int64_t i = 0; i < n; ++i)
#pragma GCC ivdep
        for (int64_t j = 0; j < width; ++j) {
            int64_t at = i * stride + j;
            dx[at] = LOG ? g[at] - vexp(y[at]) * total[j] : (g[at] - total[j]) * y[at];
        }
}

template <bool LOG> int forward(void* const* arrays, const int64_t* sizes) {
    auto x = static_cast<const float*>(arrays[0]);
    auto y = static_cast<float*>(arrays[1]);
    Shape s(sizes);
    for_axis(
        s, [&](int64_t at) { (LOG ? log_softmax_row : softmax_row)(x + at, s.n, y + at); },
        [&](int64_t at, int64_t width) {
            softmax_columns<LOG>(x + at, s.n, s.inner, width, y + at);
        });
    return 0;
}

template <bool LOG> int backward(void* const* arrays, const int64_t* sizes) {
    auto g = static_cast<const float*>(arrays[0]), y = static_cast<const float*>(arrays[1]);
    auto dx = static_cast<float*>(arrays[2]);
    Shape s(sizes);
    auto row = LOG ? log_softmax_grad_row : softmax_grad_row;
    for_axis(
        s, [&](int64_t at) { row(g + at, y + at, s.n, dx + at); },
        [&](int64_t at, int64_t width) {
            grad_columns<LOG>(g + at, y + at, s.n, s.inner, width, dx + at);
        });
    return 0;
}

}  // namespace

// -- kernels --------------------------------------------------------------------------------------
//
// Sizes: outer, n, inner.

KERNEL(softmax) { return forward<false>(arrays, sizes); }           // x -> y
KERNEL(log_softmax) { return forward<true>(arrays, sizes); }        // x -> y
KERNEL(softmax_grad) { return backward<false>(arrays, sizes); }     // g, y -> dx
KERNEL(log_softmax_grad) { return backward<true>(arrays, sizes); }  // g, y -> dx
