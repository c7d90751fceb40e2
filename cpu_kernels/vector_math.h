// Elementary functions that the compiler vectorises: no branches, no tables, no calls.
//
// Each float function is right to about 2 units in the last place over all floats, with the limits
// of the standard library (infinities, NaN, signed zeros, denormal arguments and results). A double
// goes to the standard library.
//
// The polynomials are weighted minimax fits: Lawson's iteration of least squares on a Chebyshev
// grid, in float64, with the largest relative error of the whole function as the weight. Then
// coefficients are rounded to float one after the other from the lowest, and those above it are
// fitted again, so that they make up for its rounding. The error left is named at each.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

inline int32_t bits_of(float x) {
    int32_t i;
    std::memcpy(&i, &x, 4);
    return i;
}

inline float from_bits(int32_t i) {
    float x;
    std::memcpy(&x, &i, 4);
    return x;
}

// a * b + c, rounded once where the processor can.
inline float mad(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// The size of x with the sign of s.
inline float with_sign(float x, float s) {
    return from_bits((bits_of(x) & 0x7fffffff) | (bits_of(s) & int32_t(0x80000000u)));
}

inline float limited(float x, float low, float high) {  // NaN stays
    x = x < low ? low : x;
    return x > high ? high : x;
}

constexpr float INF = __builtin_inff(), NOT_A_NUMBER = __builtin_nanf("");

// x = n ln 2 + r with |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to a whole number, which then
// stands in the low bits. ln 2 is in two parts, the first of 15 bits: n times it is exact.
struct Reduced {
    float r;
    int32_t n;
};
inline Reduced reduce_by_ln2(float x) {
    constexpr float ROUND = 12582912.0f;
    float shifted = mad(x, 1.44269504088896341f, ROUND);
    float n = shifted - ROUND;
    float r = mad(n, -0.693145751953125f, x);
    r = mad(n, -1.428606765330187e-06f, r);
    return {r, bits_of(shifted) - bits_of(ROUND)};
}

inline float power_of_two(int32_t n) { return from_bits((n + 127) << 23); }  // -127 < n < 128

// e^r = 1 + r + r^2 q(r); error of e^r 3.3e-9.
inline float vexp(float x) {
    auto [r, n] = reduce_by_ln2(limited(x, -104.0f, 89.0f));
    float q = mad(0.0013940529897809029f, r, 0.008368822745978832f);
    q = mad(q, r, 0.04166640341281891f);
    q = mad(q, r, 0.1666651964187622f);
    float y = mad(mad(mad(q, r, 0.5f), r, 1.0f), r, 1.0f);
    int32_t half = n >> 1;  // two factors: 2^n alone may be denormal or too large
    return y * power_of_two(half) * power_of_two(n - half);
}

// e^x - 1 = 2^n (e^r - 1) + (2^n - 1), with half of 2^n because 2^128 is too large;
// e^r - 1 = r + r^2 q(r), error 4.4e-10.
inline float vexpm1(float x) {
    auto [r, n] = reduce_by_ln2(limited(x, -18.0f, 89.0f));
    float q = mad(0.00019763347518164665f, r, 0.0013932330766692758f);
    q = mad(q, r, 0.008333544246852398f);
    q = mad(q, r, 0.04166649281978607f);
    q = mad(q, r, 0.1666666567325592f);
    q = mad(q, r, 0.5f);
    float y = mad(r * r, q, r);
    float half = power_of_two(n - 1);
    float scaled = 2.0f * mad(half, y, half - 0.5f);
    return with_sign(n == 0 ? y : scaled, x);
}

// log(1 + f) + n ln 2 for sqrt(1/2) <= 1 + f < sqrt(2): f - f^2 / 2 + f^3 p(f), error 5.9e-9.
inline float log_of_parts(float f, float n) {
    float p = mad(-0.07637877762317657f, f, 0.1276458501815796f);
    p = mad(p, f, -0.13160236179828644f);
    p = mad(p, f, 0.1420130580663681f);
    p = mad(p, f, -0.1662331372499466f);
    p = mad(p, f, 0.20001249015331268f);
    p = mad(p, f, -0.250008225440979f);
    p = mad(p, f, 0.3333333134651184f);
    float square = f * f;
    float tail = mad(square * f, p, n * 1.428606765330187e-06f);
    tail = mad(-0.5f, square, tail);
    return mad(n, 0.693145751953125f, f + tail);
}

constexpr int32_t SQRT_HALF_BITS = 0x3f3504f3;

inline float vlog(float x) {
    bool tiny = x < 1.17549435e-38f;  // denormals: times 2^23
    float scaled = tiny ? x * 8388608.0f : x;
    int32_t i = bits_of(scaled) - SQRT_HALF_BITS;
    float n = static_cast<float>((i >> 23) - (tiny ? 23 : 0));
    float y = log_of_parts(from_bits((i & 0x7fffff) + SQRT_HALF_BITS) - 1.0f, n);
    y = x < INF ? y : x;  // infinity and NaN
    y = x < 0.0f ? NOT_A_NUMBER : y;
    return x == 0.0f ? -INF : y;
}

// The power of two is taken from 1 + x, rounded; 1 + f = (1 + x) / 2^n is then formed from x, so
// that nothing is lost: f = x / 2^n + (1 / 2^n - 1).
inline float vlog1p(float x) {
    int32_t scale = (bits_of(1.0f + x) - SQRT_HALF_BITS) & int32_t(0xff800000u);
    float n = static_cast<float>(scale >> 23);
    float quarter = from_bits(0x40800000 - scale);  // 4 / 2^n: 1 / 2^128 would be denormal
    float f = scale == 0 ? x : from_bits(bits_of(x) - scale) + mad(0.25f, quarter, -1.0f);
    float y = log_of_parts(f, n);
    y = x < INF ? y : x;
    y = x < -1.0f ? NOT_A_NUMBER : y;
    y = x == -1.0f ? -INF : y;
    return x == 0.0f ? x : y;  // the sign of zero
}

// With t = e^(2 |x|) - 1: t / (t + 2).
inline float vtanh(float x) {
    float a = from_bits(bits_of(x) & 0x7fffffff);
    a = a > 10.0f ? 10.0f : a;
    float t = vexpm1(2.0f * a);
    return with_sign(t / (t + 2.0f), x);
}

// 1 / (1 + e^-x), by e^-|x|, which is never too large.
inline float vsigmoid(float x) {
    float e = vexp(-from_bits(bits_of(x) & 0x7fffffff));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// |x| < 1: x + x s(x^2), error 1.5e-9. Else 1 - e^g(|x|), error of e^g 3e-10; 1 from 4 on.
inline float verf(float x) {
    float square = x * x;
    float s = mad(7.806903158780187e-05f, square, -0.0007997853099368513f);
    s = mad(s, square, 0.005187162198126316f);
    s = mad(s, square, -0.026853347197175026f);
    s = mad(s, square, 0.11283578723669052f);
    s = mad(s, square, -0.3761262595653534f);
    s = mad(s, square, 0.12837916612625122f);
    float a = from_bits(bits_of(x) & 0x7fffffff);
    float b = a > 4.0f ? 4.0f : a;
    float g = mad(-2.1683712475351058e-05f, b, 0.000441304495325312f);
    g = mad(g, b, -0.004204428289085627f);
    g = mad(g, b, 0.025207960978150368f);
    g = mad(g, b, -0.10841821134090424f);
    g = mad(g, b, -0.6332201361656189f);
    g = mad(g, b, -1.1295783519744873f);
    g = mad(g, b, 0.00018803593411576003f);
    return a < 1.0f ? mad(x, s, x) : with_sign(1.0f - vexp(g), x);
}

// log(1 + e^x) without overflow.
inline float vsoftplus(float x) {
    float a = from_bits(bits_of(x) & 0x7fffffff);
    return (x > 0.0f ? x : 0.0f) + vlog1p(vexp(-a));
}

inline double vexp(double x) { return std::exp(x); }
inline double vexpm1(double x) { return std::expm1(x); }
inline double vlog(double x) { return std::log(x); }
inline double vlog1p(double x) { return std::log1p(x); }
inline double vtanh(double x) { return std::tanh(x); }
inline double verf(double x) { return std::erf(x); }
inline double vsigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double vsoftplus(double x) {
    return (x > 0.0 ? x : 0.0) + std::log1p(std::exp(-std::fabs(x)));
}
