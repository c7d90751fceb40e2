// One functor for each scalar op, named like the op in gpunet/ops/elementwise.py.
//
// A functor computes in the accumulation type A of its operands (float for float, half and
// bfloat16; double; long long or unsigned long long for integers), so each is written once for all
// dtypes. The plain kernels in elementwise.cu apply them; fused kernels may chain them:
//
//   const float h = Tanh()(Add()(to_float(x[i]), to_float(b[c])));   // no rounding in between
//   y[i] = from_float<__half>(Clip()(h, low, high));
//
// `Name::operator()` takes one, two or three numbers of one type A by value and has no state, so an
// attribute (the slope of LeakyRelu, the limits of Clip) is an operand like others. It returns A,
// or bool where the op tests something. Where's first operand is a condition of any type.
#pragma once
#include "common.cuh"

// A macro and not 80 structs in full: what differs between them is one expression.
#define GPUNET_UNARY(Name, expression)             \
  struct Name {                                    \
    template <typename A>                          \
    __device__ __forceinline__ auto operator()(A x) const { \
      return expression;                           \
    }                                              \
  };
#define GPUNET_BINARY(Name, expression)            \
  struct Name {                                    \
    template <typename A>                          \
    __device__ __forceinline__ auto operator()(A x1, A x2) const { \
      return expression;                           \
    }                                              \
  };
#define GPUNET_TERNARY(Name, expression)           \
  struct Name {                                    \
    template <typename A>                          \
    __device__ __forceinline__ auto operator()(A x1, A x2, A x3) const { \
      return expression;                           \
    }                                              \
  };

// ---- helpers that differ between floats and integers --------------------------------------------

template <typename A>
constexpr bool kIsInteger = false;
template <>
inline constexpr bool kIsInteger<long long> = true;
template <>
inline constexpr bool kIsInteger<unsigned long long> = true;

// Rounds the quotient down, like Python; the remainder has the sign of the divisor. Integers
// divided by zero give zero, as in NumPy.
template <typename A>
__device__ __forceinline__ A floor_divide(A x1, A x2) {
  if constexpr (kIsInteger<A>) {
    if (x2 == A(0)) return A(0);
    const A quotient = x1 / x2;
    return quotient * x2 != x1 && (x1 < A(0)) != (x2 < A(0)) ? quotient - A(1) : quotient;
  } else {
    if (x2 == A(0)) return x1 / x2;
    const A remainder = fmod(x1, x2);
    A quotient = (x1 - remainder) / x2;
    if (remainder != A(0) && (x2 < A(0)) != (remainder < A(0))) quotient -= A(1);
    const A rounded = floor(quotient);
    return quotient - rounded > A(0.5) ? rounded + A(1) : rounded;
  }
}

template <typename A>
__device__ __forceinline__ A floor_mod(A x1, A x2) {
  if constexpr (kIsInteger<A>) {
    return x2 == A(0) ? A(0) : x1 - floor_divide(x1, x2) * x2;
  } else {
    const A remainder = fmod(x1, x2);
    return remainder != A(0) && (x2 < A(0)) != (remainder < A(0)) ? remainder + x2 : remainder;
  }
}

template <typename A>
__device__ __forceinline__ A truncated_mod(A x1, A x2) {
  if constexpr (kIsInteger<A>)
    return x2 == A(0) ? A(0) : x1 % x2;
  else
    return fmod(x1, x2);
}

// Euclid's algorithm; not negative.
template <typename A>
__device__ __forceinline__ A greatest_divisor(A x1, A x2) {
  while (x2 != A(0)) {
    const A rest = x1 % x2;
    x1 = x2;
    x2 = rest;
  }
  return x1 < A(0) ? -x1 : x1;
}

template <typename A>
__device__ __forceinline__ A least_multiple(A x1, A x2) {
  if (x1 == A(0) || x2 == A(0)) return A(0);
  const A multiple = x1 / greatest_divisor(x1, x2) * x2;
  return multiple < A(0) ? -multiple : multiple;
}

template <typename A>
__device__ __forceinline__ A raise(A x1, A x2) {
  if constexpr (kIsInteger<A>) {  // squaring: one step for each bit of the exponent
    A result = A(1);
    for (A base = x1, left = x2; left > A(0); left >>= 1, base *= base)
      if (left & A(1)) result *= base;
    return result;
  } else {
    return pow(x1, x2);
  }
}

template <typename A>
__device__ __forceinline__ A log_add_exp(A x1, A x2) {
  const A most = x1 > x2 ? x1 : x2, least = x1 > x2 ? x2 : x1;
  return most == least ? most + log(A(2)) : most + log1p(exp(least - most));
}

template <typename A>
__device__ __forceinline__ A sigmoid(A x) {  // of -|x|, so that exp cannot overflow
  const A small = exp(x < A(0) ? x : -x);
  return (x < A(0) ? small : A(1)) / (A(1) + small);
}

template <typename A>
__device__ __forceinline__ A softplus(A x) {
  return (x > A(0) ? x : A(0)) + log1p(exp(x > A(0) ? -x : x));
}

// sqrt(2 / pi) (x + 0.044715 x^3)
template <typename A>
__device__ __forceinline__ A gelu_inner(A x) {
  return A(0.7978845608028654) * (x + A(0.044715) * x * x * x);
}

template <typename A>
__device__ __forceinline__ A gelu_tanh_slope(A x) {
  const A t = tanh(gelu_inner(x));
  const A inner_slope = A(0.7978845608028654) * (A(1) + A(0.134145) * x * x);
  return A(0.5) * (A(1) + t) + A(0.5) * x * (A(1) - t * t) * inner_slope;
}

template <typename A>
__device__ __forceinline__ A clamp(A x, A low, A high) {
  return x < low ? low : x > high ? high : x;
}

// ---- one operand --------------------------------------------------------------------------------

GPUNET_UNARY(Identity, x)
GPUNET_UNARY(Negative, -x)
GPUNET_UNARY(Absolute, x < A(0) ? -x : x + A(0))
GPUNET_UNARY(Sign, x != x ? x : A(x > A(0)) - A(x < A(0)))
GPUNET_UNARY(Square, x * x)
GPUNET_UNARY(Reciprocal, A(1) / x)
GPUNET_UNARY(Sqrt, sqrt(x))
GPUNET_UNARY(Rsqrt, A(1) / sqrt(x))
GPUNET_UNARY(Cbrt, cbrt(x))
GPUNET_UNARY(Exp, exp(x))
GPUNET_UNARY(Exp2, exp2(x))
GPUNET_UNARY(Expm1, expm1(x))
GPUNET_UNARY(Log, log(x))
GPUNET_UNARY(Log2, log2(x))
GPUNET_UNARY(Log10, log10(x))
GPUNET_UNARY(Log1p, log1p(x))
GPUNET_UNARY(Sin, sin(x))
GPUNET_UNARY(Cos, cos(x))
GPUNET_UNARY(Tan, tan(x))
GPUNET_UNARY(Arcsin, asin(x))
GPUNET_UNARY(Arccos, acos(x))
GPUNET_UNARY(Arctan, atan(x))
GPUNET_UNARY(Sinh, sinh(x))
GPUNET_UNARY(Cosh, cosh(x))
GPUNET_UNARY(Tanh, tanh(x))
GPUNET_UNARY(Arcsinh, asinh(x))
GPUNET_UNARY(Arccosh, acosh(x))
GPUNET_UNARY(Arctanh, atanh(x))
GPUNET_UNARY(Floor, floor(x))
GPUNET_UNARY(Ceil, ceil(x))
GPUNET_UNARY(Trunc, trunc(x))
GPUNET_UNARY(Deg2rad, x * A(0.017453292519943295))
GPUNET_UNARY(Rad2deg, x * A(57.29577951308232))
GPUNET_UNARY(Isnan, x != x)
GPUNET_UNARY(Isinf, x - x != x - x && x == x)
GPUNET_UNARY(Isfinite, x - x == A(0))
GPUNET_UNARY(Signbit, copysign(A(1), x) < A(0))
GPUNET_UNARY(LogicalNot, x == A(0))
GPUNET_UNARY(Nonzero, x != A(0))
GPUNET_UNARY(BitwiseNot, ~x)

// ---- activations --------------------------------------------------------------------------------

GPUNET_UNARY(Relu, x > A(0) || x != x ? x : A(0))
GPUNET_UNARY(Relu6, clamp(x, A(0), A(6)))
GPUNET_UNARY(Sigmoid, sigmoid(x))
GPUNET_UNARY(Silu, x * sigmoid(x))
GPUNET_UNARY(LogSigmoid, -softplus(-x))
GPUNET_UNARY(Softplus, softplus(x))
GPUNET_UNARY(Softsign, x / (A(1) + (x < A(0) ? -x : x)))
GPUNET_UNARY(HardSigmoid, clamp(x / A(6) + A(0.5), A(0), A(1)))
GPUNET_UNARY(HardSilu, x * clamp(x / A(6) + A(0.5), A(0), A(1)))
GPUNET_UNARY(Mish, x * tanh(softplus(x)))
GPUNET_UNARY(Gelu, x * (A(1) + erf(x * A(0.7071067811865476))) * A(0.5))
GPUNET_UNARY(GeluTanh, x * (A(1) + tanh(gelu_inner(x))) * A(0.5))
GPUNET_UNARY(Erf, erf(x))
GPUNET_UNARY(Erfc, erfc(x))
GPUNET_UNARY(Erfinv, erfinv(x))
GPUNET_UNARY(Logit, log(x / (A(1) - x)))

// Derivatives, of the result where it is enough, else of the operand.
GPUNET_UNARY(IdentitySlope, A(1))
GPUNET_UNARY(ReluSlope, A(x > A(0)))
GPUNET_UNARY(TanhSlope, A(1) - x * x)
GPUNET_UNARY(SigmoidSlope, x * (A(1) - x))
GPUNET_UNARY(SiluSlope, sigmoid(x) * (A(1) + x * (A(1) - sigmoid(x))))
GPUNET_UNARY(GeluSlope, (A(1) + erf(x * A(0.7071067811865476))) * A(0.5) +
                            x * exp(x * x * A(-0.5)) * A(0.3989422804014327))
GPUNET_UNARY(GeluTanhSlope, gelu_tanh_slope(x))

// Gradients: x1 is the cotangent of the result, x2 the result (or the operand, for Silu).
GPUNET_BINARY(ReluGrad, x2 > A(0) ? x1 : A(0))
GPUNET_BINARY(SigmoidGrad, x1 * x2 * (A(1) - x2))
GPUNET_BINARY(SiluGrad, x1 * sigmoid(x2) * (A(1) + x2 * (A(1) - sigmoid(x2))))
GPUNET_BINARY(GeluGrad, x1 * GeluSlope()(x2))
GPUNET_BINARY(GeluTanhGrad, x1 * gelu_tanh_slope(x2))

// Activations with an attribute or two.
GPUNET_BINARY(LeakyRelu, x1 > A(0) ? x1 : x1 * x2)
GPUNET_TERNARY(Elu, (x1 > A(0) || x1 != x1 ? x1 : expm1(x1) * x2) * x3)
GPUNET_TERNARY(Celu, x1 > A(0) || x1 != x1 ? x1 : expm1(x1 * x3) * x2)

// ---- two operands -------------------------------------------------------------------------------

GPUNET_BINARY(Add, x1 + x2)
GPUNET_BINARY(Subtract, x1 - x2)
GPUNET_BINARY(Multiply, x1 * x2)
GPUNET_BINARY(TrueDivide, x1 / x2)
GPUNET_BINARY(FloorDivide, floor_divide(x1, x2))
GPUNET_BINARY(Mod, floor_mod(x1, x2))
GPUNET_BINARY(Fmod, truncated_mod(x1, x2))
GPUNET_BINARY(Power, raise(x1, x2))
GPUNET_BINARY(Maximum, x1 > x2 || x1 != x1 ? x1 : x2)
GPUNET_BINARY(Minimum, x1 < x2 || x1 != x1 ? x1 : x2)
GPUNET_BINARY(Fmax, x1 > x2 || x2 != x2 ? x1 : x2)
GPUNET_BINARY(Fmin, x1 < x2 || x2 != x2 ? x1 : x2)
GPUNET_BINARY(Arctan2, atan2(x1, x2))
GPUNET_BINARY(Logaddexp, log_add_exp(x1, x2))
GPUNET_BINARY(Hypot, hypot(x1, x2))
// In two halves: 2^x2 alone may be no float where the product is one.
GPUNET_BINARY(Ldexp, x1 * exp2(trunc(x2 / 2)) * exp2(x2 - trunc(x2 / 2)))
GPUNET_BINARY(Heaviside, x1 != x1 ? x1 : x1 == A(0) ? x2 : A(x1 > A(0)))
GPUNET_BINARY(Equal, x1 == x2)
GPUNET_BINARY(NotEqual, x1 != x2)
GPUNET_BINARY(Less, x1 < x2)
GPUNET_BINARY(LessEqual, x1 <= x2)
GPUNET_BINARY(Greater, x1 > x2)
GPUNET_BINARY(GreaterEqual, x1 >= x2)
GPUNET_BINARY(LogicalAnd, x1 != A(0) && x2 != A(0))
GPUNET_BINARY(LogicalOr, x1 != A(0) || x2 != A(0))
GPUNET_BINARY(LogicalXor, (x1 != A(0)) != (x2 != A(0)))
GPUNET_BINARY(BitwiseAnd, x1 & x2)
GPUNET_BINARY(BitwiseOr, x1 | x2)
GPUNET_BINARY(BitwiseXor, x1 ^ x2)
GPUNET_BINARY(BitwiseLeftShift, x1 << x2)
GPUNET_BINARY(BitwiseRightShift, x1 >> x2)
GPUNET_BINARY(Gcd, greatest_divisor(x1, x2))
GPUNET_BINARY(Lcm, least_multiple(x1, x2))
GPUNET_BINARY(Nextafter, nextafter(x1, x2))
GPUNET_BINARY(Round, rint(x1 * x2) / x2)      // x2: 10 to the number of decimals
GPUNET_BINARY(RoundTens, rint(x1 / x2) * x2)  // of a negative number of decimals

// ---- three operands -----------------------------------------------------------------------------

// Like minimum(maximum(x1, x2), x3): NaN stays, and the upper limit wins.
GPUNET_TERNARY(Clip, Minimum()(Maximum()(x1, x2), x3))

struct Where {
  template <typename C, typename A>
  __device__ __forceinline__ A operator()(C condition, A x1, A x2) const {
    return condition ? x1 : x2;
  }
};
