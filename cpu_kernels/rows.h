// Sums and maxima of rows: numbers that lie one after the other, in 64 lanes.
#pragma once
#include "columns.h"

typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

// The first (0) or second (1) half of a vector.
template <class Half, class V> inline Half half(V v, int which) {
    Half y;
    std::memcpy(&y, reinterpret_cast<const char*>(&v) + which * sizeof y, sizeof y);
    return y;
}

// Joins the lanes of a vector by f(a, b), halves first.
template <class F> inline float joined(Floats v, const F& f) {
    Eight a = f(half<Eight>(v, 0), half<Eight>(v, 1));
    Four b = f(half<Four>(a, 0), half<Four>(a, 1));
    return f(f(b[0], b[2]), f(b[1], b[3]));
}

inline float sum_of(Floats v) {
    return joined(v, [](auto a, auto b) { return a + b; });
}

// Sum of f(at) over [0, n): f gives vectors where it is asked for them, and numbers.
template <class F> inline float row_total(int64_t n, const F& f) {
    Floats four[4] = {};
    int64_t j = 0;
    for (; j + 64 <= n; j += 64)
        for (int i = 0; i < 4; ++i) four[i] += f(Floats{}, j + 16 * i);
    for (; j + 16 <= n; j += 16) four[0] += f(Floats{}, j);
    float total = sum_of((four[0] + four[1]) + (four[2] + four[3]));
    for (; j < n; ++j) total += f(0.0f, j);
    return total;
}

inline float row_sum(const float* x, int64_t n) {
    return row_total(n, [&](auto v, int64_t at) { return load<decltype(v)>(x + at); });
}

inline float row_dot(const float* x, const float* y, int64_t n) {
    return row_total(n, [&](auto v, int64_t at) {
        return load<decltype(v)>(x + at) * load<decltype(v)>(y + at);
    });
}

// The maximum; -FLT_MAX of nothing, of -infinity and of NaN.
inline float row_max(const float* x, int64_t n) {
    constexpr float LEAST = -3.402823466e38f;
    float top = LEAST;
    int64_t j = 0;
    if (n >= 16) {
        Floats most[2] = {Floats{} + LEAST, Floats{} + LEAST};
        auto take = [&](int i, int64_t at) {
            Floats v = load<Floats>(x + at);
            most[i] = v > most[i] ? v : most[i];
        };
        for (; j + 32 <= n; j += 32) {
            take(0, j);
            take(1, j + 16);
        }
        for (; j + 16 <= n; j += 16) take(0, j);
        Floats both = most[0] > most[1] ? most[0] : most[1];
        top = joined(both, [](auto a, auto b) { return a > b ? a : b; });
    }
    for (; j < n; ++j) top = x[j] > top ? x[j] : top;
    return top;
}

// Rows that are worth a thread, where a number costs an exponential.
inline int64_t row_grain(int64_t columns) { return 8192 / columns + 1; }
