// __half and __nv_bfloat16: two bytes that are computed with in float and rounded to nearest even.
//
// Rounding a float result once more is exact for + - * / and sqrt: float has more than 2p + 2 bits
// for both formats (p = 11 and 8), so the double rounding never shows (Figueroa 1995).
#pragma once

#include <string.h>

#include "vectors.h"

namespace gpunet::emulator {

template <typename To, typename From>
inline To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast between different sizes");
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}

inline float half_to_float(unsigned short bits) {
  const unsigned sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7FFFu;
  // Shifted into place the exponent is too small by 112; the multiplication corrects it, and
  // makes subnormals normal on the way.
  const float scaled = bit_cast<float>(magnitude << 13) * 0x1p112f;
  const unsigned special = magnitude >= 0x7C00u ? 0x7F800000u : 0u;  // infinity and NaN
  return bit_cast<float>(bit_cast<unsigned>(scaled) | special | sign);
}

inline unsigned short float_to_half(float value) {
  const unsigned bits = bit_cast<unsigned>(value), magnitude = bits & 0x7FFFFFFFu;
  const unsigned short sign = static_cast<unsigned short>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7F800000u) return 0x7FFF;                // NaN, as the hardware writes it
  if (magnitude >= 0x477FF000u) return sign | 0x7C00;        // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {                             // below 2^-14: subnormal or zero
    // Adding 1/2 leaves the rounded multiple of 2^-24 in the low bits of the sum.
    const float sum = bit_cast<float>(magnitude) + 0.5f;
    return static_cast<unsigned short>(sign | (bit_cast<unsigned>(sum) - 0x3F000000u));
  }
  const unsigned odd = magnitude >> 13 & 1;
  return static_cast<unsigned short>(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

inline float bfloat16_to_float(unsigned short bits) {
  return bit_cast<float>(static_cast<unsigned>(bits) << 16);
}

inline unsigned short float_to_bfloat16(float value) {
  const unsigned bits = bit_cast<unsigned>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;     // NaN, as the hardware writes it
  return static_cast<unsigned short>((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

// Rounds a double to a float whose last bit tells whether something was lost ("round to odd"), so
// that rounding the float once more gives what rounding the double at once would have given.
inline float round_to_odd(double value) {
  float result = static_cast<float>(value);
  if (static_cast<double>(result) == value || value != value) return result;
  unsigned bits = bit_cast<unsigned>(result);
  const bool away = (static_cast<double>(result) < value) == (value < 0);
  if (away) --bits;  // to the neighbour towards zero
  return bit_cast<float>(bits | 1u);
}

// a * b + c with the product exact, which it is for factors of 26 bits, and the sum rounded to odd.
// The difference of the sum and its parts is exact (Knuth 1969).
inline double fma_to_odd(double a, double b, double c) {
  const double product = a * b, sum = product + c, added = sum - product;
  const double lost = (product - (sum - added)) + (c - added);
  if (!(lost != 0.0) || lost != lost) return sum;  // exact, or infinite
  unsigned long long bits = bit_cast<unsigned long long>(sum);
  if ((lost < 0) != (sum < 0)) --bits;  // to the neighbour towards zero
  return bit_cast<double>(bits | 1u);
}

}  // namespace gpunet::emulator

// The members are the same for both types; a macro because CUDA's names are plain classes.
#define GPUNET_HALF_TYPE(Half, from_float, to_float)                                              \
  struct alignas(2) Half {                                                                        \
    unsigned short bits;                                                                          \
    Half() = default;                                                                             \
    Half(float value) : bits(gpunet::emulator::from_float(value)) {}                              \
    Half(double value) : Half(gpunet::emulator::round_to_odd(value)) {}                           \
    Half(int value) : Half(static_cast<double>(value)) {}                                         \
    Half(unsigned value) : Half(static_cast<double>(value)) {}                                    \
    Half(short value) : Half(static_cast<double>(value)) {}                                       \
    Half(unsigned short value) : Half(static_cast<double>(value)) {}                              \
    Half(long value) : Half(static_cast<double>(value)) {}                                        \
    Half(unsigned long value) : Half(static_cast<double>(value)) {}                               \
    Half(long long value) : Half(static_cast<double>(value)) {}                                   \
    Half(unsigned long long value) : Half(static_cast<double>(value)) {}                          \
    operator float() const { return gpunet::emulator::to_float(bits); }                           \
    explicit operator bool() const { return (bits & 0x7FFF) != 0; }                               \
    Half& operator+=(Half other) { return *this = Half(float(*this) + float(other)); }            \
    Half& operator-=(Half other) { return *this = Half(float(*this) - float(other)); }            \
    Half& operator*=(Half other) { return *this = Half(float(*this) * float(other)); }            \
    Half& operator/=(Half other) { return *this = Half(float(*this) / float(other)); }            \
  };                                                                                              \
  inline Half operator+(Half a, Half b) { return a += b; }                                        \
  inline Half operator-(Half a, Half b) { return a -= b; }                                        \
  inline Half operator*(Half a, Half b) { return a *= b; }                                        \
  inline Half operator/(Half a, Half b) { return a /= b; }                                        \
  inline Half operator+(Half a) { return a; }                                                     \
  inline Half operator-(Half a) {                                                                 \
    a.bits ^= 0x8000;                                                                             \
    return a;                                                                                     \
  }                                                                                               \
  inline bool operator==(Half a, Half b) { return float(a) == float(b); }                         \
  inline bool operator!=(Half a, Half b) { return float(a) != float(b); }                         \
  inline bool operator<(Half a, Half b) { return float(a) < float(b); }                           \
  inline bool operator<=(Half a, Half b) { return float(a) <= float(b); }                         \
  inline bool operator>(Half a, Half b) { return float(a) > float(b); }                           \
  inline bool operator>=(Half a, Half b) { return float(a) >= float(b); }                         \
  struct alignas(4) Half##2 {                                                                     \
    Half x, y;                                                                                    \
  };                                                                                              \
  inline Half __hadd(Half a, Half b) { return a + b; }                                            \
  inline Half __hsub(Half a, Half b) { return a - b; }                                            \
  inline Half __hmul(Half a, Half b) { return a * b; }                                            \
  inline Half __hdiv(Half a, Half b) { return a / b; }                                            \
  inline Half __hneg(Half a) { return -a; }                                                       \
  inline bool __hisnan(Half a) { return a != a; }                                                 \
  inline Half __habs(Half a) {                                                                    \
    a.bits &= 0x7FFF;                                                                             \
    return a;                                                                                     \
  }                                                                                               \
  inline Half __hfma(Half a, Half b, Half c) {                                                    \
    return Half(gpunet::emulator::fma_to_odd(float(a), float(b), float(c)));                      \
  }                                                                                               \
  /* Of a NaN and a number, the number; +0 is more than -0. */                                    \
  inline Half __hmax(Half a, Half b) {                                                            \
    if (a != a || b != b) return b != b ? Half(float(a)) : b;                                     \
    return a > b || (a == b && !(a.bits & 0x8000)) ? a : b;                                       \
  }                                                                                               \
  inline Half __hmin(Half a, Half b) {                                                            \
    if (a != a || b != b) return b != b ? Half(float(a)) : b;                                     \
    return a < b || (a == b && (a.bits & 0x8000)) ? a : b;                                        \
  }                                                                                               \
  inline Half hsqrt(Half a) { return Half(__builtin_sqrtf(float(a))); }                           \
  inline Half##2 __hadd2(Half##2 a, Half##2 b) { return {a.x + b.x, a.y + b.y}; }                 \
  inline Half##2 __hsub2(Half##2 a, Half##2 b) { return {a.x - b.x, a.y - b.y}; }                 \
  inline Half##2 __hmul2(Half##2 a, Half##2 b) { return {a.x * b.x, a.y * b.y}; }                 \
  inline Half##2 __hfma2(Half##2 a, Half##2 b, Half##2 c) {                                       \
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                                        \
  }                                                                                               \
  inline Half##2 __hmax2(Half##2 a, Half##2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }   \
  inline Half##2 __hmin2(Half##2 a, Half##2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }   \
  inline float __low2float(Half##2 pair) { return pair.x; }                                       \
  inline float __high2float(Half##2 pair) { return pair.y; }

GPUNET_HALF_TYPE(__half, float_to_half, half_to_float)
GPUNET_HALF_TYPE(__nv_bfloat16, float_to_bfloat16, bfloat16_to_float)
#undef GPUNET_HALF_TYPE

using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __half __float2half(float value) { return value; }
inline __half __float2half_rn(float value) { return value; }
inline __half __double2half(double value) { return value; }
inline float __half2float(__half value) { return value; }
inline __nv_bfloat16 __float2bfloat16(float value) { return value; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return value; }
inline __nv_bfloat16 __double2bfloat16(double value) { return value; }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }

inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(unsigned short bits) {
  __half value;
  value.bits = bits;
  return value;
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 value;
  value.bits = bits;
  return value;
}

inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 pair) { return pair.x; }
inline __half __high2half(__half2 pair) { return pair.y; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline __half2 __float22half2_rn(float2 pair) { return {pair.x, pair.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline float2 __half22float2(__half2 pair) { return {pair.x, pair.y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 pair) { return pair.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 pair) { return pair.y; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 pair) { return {pair.x, pair.y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 pair) { return {pair.x, pair.y}; }
