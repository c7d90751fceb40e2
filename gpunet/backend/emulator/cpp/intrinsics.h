// CUDA's mathematical and integer functions, caching loads and stores, printf, assert, clocks.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include <chrono>
#include <cmath>

#include "half.h"
#include "keywords.h"

// CUDA has C++'s overloads for float and double in the global namespace.
using std::abs, std::acos, std::acosh, std::asin, std::asinh, std::atan, std::atan2, std::atanh;
using std::cbrt, std::ceil, std::copysign, std::cos, std::cosh, std::erf, std::erfc, std::exp;
using std::exp2, std::expm1, std::fabs, std::floor, std::fma, std::fmax, std::fmin, std::fmod;
using std::frexp, std::hypot, std::isfinite, std::isinf, std::isnan, std::ldexp, std::lgamma;
using std::log, std::log10, std::log1p, std::log2, std::nearbyint, std::pow, std::remainder;
using std::rint, std::round, std::signbit, std::sin, std::sinh, std::sqrt, std::tan, std::tanh;
using std::tgamma, std::trunc;

#define GPUNET_MIN_MAX(A, B, T)                                                     \
  constexpr T min(A a, B b) { return static_cast<T>(b) < static_cast<T>(a) ? b : a; } \
  constexpr T max(A a, B b) { return static_cast<T>(a) < static_cast<T>(b) ? b : a; }
#define GPUNET_MIN_MAX_MIXED(A, B, T) GPUNET_MIN_MAX(A, B, T) GPUNET_MIN_MAX(B, A, T)
GPUNET_MIN_MAX(int, int, int)
GPUNET_MIN_MAX(unsigned, unsigned, unsigned)
GPUNET_MIN_MAX(long, long, long)
GPUNET_MIN_MAX(unsigned long, unsigned long, unsigned long)
GPUNET_MIN_MAX(long long, long long, long long)
GPUNET_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
GPUNET_MIN_MAX_MIXED(int, unsigned, unsigned)
GPUNET_MIN_MAX_MIXED(long long, unsigned long long, unsigned long long)
#undef GPUNET_MIN_MAX
#undef GPUNET_MIN_MAX_MIXED
// Of a NaN and a number, CUDA returns the number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline double min(float a, double b) { return std::fmin(double{a}, b); }
inline double max(float a, double b) { return std::fmax(double{a}, b); }
inline double min(double a, float b) { return std::fmin(a, double{b}); }
inline double max(double a, float b) { return std::fmax(a, double{b}); }

// ---- floating point -----------------------------------------------------------------------------

inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float rcbrtf(float x) { return static_cast<float>(1.0 / std::cbrt(double{x})); }
inline double normcdf(double x) { return 0.5 * std::erfc(x * -M_SQRT1_2); }
inline float normcdff(float x) { return static_cast<float>(normcdf(x)); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// The fast forms of the hardware differ from these in the last bits.
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return static_cast<float>(std::pow(10.0, double{x})); }
inline float exp10f(float x) { return __exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
#ifndef __APPLE__  // whose math.h has it
inline void __sincosf(float x, float* sine, float* cosine) {
  *sine = sinf(x);
  *cosine = cosf(x);
}
#endif

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }

// The inverse of erf: Winitzki's approximation (2008), three digits, then Halley steps, each of
// which triples their number. In the tails the error is taken from erfc, where erf has no bits left.
inline double erfinv(double y) {
  if (!(y > -1.0 && y < 1.0)) return y == 1.0 ? INFINITY : y == -1.0 ? -INFINITY : NAN;
  const double w = -std::log1p(-y * y), u = 2 / (M_PI * 0.147) - w / 2;
  double x = std::copysign(std::sqrt(std::sqrt(u * u + w / 0.147) - u), y);
  for (int i = 0; i < 3; ++i) {
    const double error = y > 0.5    ? (1 - y) - std::erfc(x)
                         : y < -0.5 ? std::erfc(-x) - (1 + y)
                                    : std::erf(x) - y;
    x -= error / (M_2_SQRTPI * std::exp(-x * x) + x * error);
  }
  return x;
}
inline float erfinvf(float y) { return static_cast<float>(erfinv(double{y})); }

// ---- bits and integers --------------------------------------------------------------------------

inline int __float_as_int(float x) { return gpunet::emulator::bit_cast<int>(x); }
inline float __int_as_float(int x) { return gpunet::emulator::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return gpunet::emulator::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return gpunet::emulator::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return gpunet::emulator::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return gpunet::emulator::bit_cast<double>(x); }

inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(rintf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) {
  return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0F0F0F0Fu) | (x & 0x0F0F0F0Fu) << 4;
  return __builtin_bswap32(x);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both >> (shift & 31));
}

// ---- memory, time, messages ---------------------------------------------------------------------

template <typename T>
inline T __ldg(const T* address) { return *address; }
template <typename T>
inline T __ldcs(const T* address) { return *address; }
template <typename T>
inline T __ldcg(const T* address) { return *address; }
template <typename T>
inline void __stcs(T* address, T value) { *address = value; }
template <typename T>
inline void __stcg(T* address, T value) { *address = value; }

inline long long clock64() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
inline void __nanosleep(unsigned, const char* file = __builtin_FILE(),
                        int line = __builtin_LINE()) {
  gpunet::emulator::runtime->yield(1, {"__nanosleep", file, line});
}
[[noreturn]] inline void __trap() {
  gpunet::emulator::runtime->fail("__trap()");
  __builtin_unreachable();
}

#define printf(...) gpunet::emulator::runtime->print(__VA_ARGS__)
#undef assert
#define assert(condition)                                                                         \
  ((condition) ? void()                                                                           \
               : gpunet::emulator::runtime->fail("%s line %d: assertion `%s` failed", __FILE__,    \
                                                 __LINE__, #condition))
