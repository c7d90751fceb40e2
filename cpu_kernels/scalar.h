// One functor for each scalar op, named like those of cuda_kernels/scalar.cuh, for loops that chain
// several (gpunet/compile/emit_cpp.py). Each computes what the kernel of its op does.
//
// `Name()(x, ...)` takes numbers of one type T and returns T, or bool where the op tests something.
// All of them are free of branches, so that loops over them become vector code.
#pragma once
#include <type_traits>

#include "runtime.h"
#include "vector_math.h"

namespace scalar {

// Integers wrap around, as in NumPy.
template <class T> struct Wrapping { using type = T; };
template <> struct Wrapping<int32_t> { using type = uint32_t; };
template <> struct Wrapping<int64_t> { using type = uint64_t; };
template <class T> using Wrap = typename Wrapping<T>::type;

// NaN stays. With `||`, compilers see branches where two of these are nested, and give up.
template <class T> inline T larger(T a, T b) {
    T most = a >= b ? a : b;
    return a != a ? a : most;
}
template <class T> inline T smaller(T a, T b) {
    T least = a <= b ? a : b;
    return a != a ? a : least;
}
template <class T> inline T positive(T x) { return x < T(0) ? T(0) : x; }
template <class T> inline T negative(T x) { return x > T(0) ? T(0) : x; }

template <class T> inline T hard_sigmoid(T x) {
    T y = positive(x + T(3));
    return (y > T(6) ? T(6) : y) * T(1.0 / 6.0);
}

constexpr double SQRT_HALF = 0.7071067811865476;
constexpr double TANH_SCALE = 0.7978845608028654;  // sqrt(2 / pi)
constexpr double TANH_CUBIC = 0.044715;

// The argument of the tanh in gelu's approximate form.
template <class T> inline T gelu_argument(T x) {
    return (x * x * T(TANH_CUBIC * TANH_SCALE) + T(TANH_SCALE)) * x;
}

template <class T> inline T gelu_slope(T x, T t, T slope) {
    return (x * slope + t + T(1)) * T(0.5);
}

// By bits: the compiler need not believe in NaN.
inline bool is_finite(float x) {
    uint32_t i;
    std::memcpy(&i, &x, 4);
    return (i & 0x7f800000u) != 0x7f800000u;
}
inline bool is_finite(double x) {
    uint64_t i;
    std::memcpy(&i, &x, 8);
    return (i & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

}  // namespace scalar

#define SCALAR_UNARY(Name, expression)                       \
    struct Name {                                            \
        template <class T> auto operator()(T x) const {      \
            using namespace scalar;                          \
            return expression;                               \
        }                                                    \
    };
#define SCALAR_BINARY(Name, expression)                      \
    struct Name {                                            \
        template <class T> auto operator()(T a, T b) const { \
            using namespace scalar;                          \
            return expression;                               \
        }                                                    \
    };
#define SCALAR_TERNARY(Name, expression)                          \
    struct Name {                                                 \
        template <class T> auto operator()(T x, T a, T b) const { \
            using namespace scalar;                               \
            return expression;                                    \
        }                                                         \
    };

// ---- arithmetic ---------------------------------------------------------------------------------

SCALAR_BINARY(Add, T(Wrap<T>(a) + Wrap<T>(b)))
SCALAR_BINARY(Subtract, T(Wrap<T>(a) - Wrap<T>(b)))
SCALAR_BINARY(Multiply, T(Wrap<T>(a) * Wrap<T>(b)))
SCALAR_BINARY(TrueDivide, a / b)
SCALAR_BINARY(Maximum, larger(a, b))
SCALAR_BINARY(Minimum, smaller(a, b))
SCALAR_BINARY(Fmax, (a >= b) | (b != b) ? a : b)
SCALAR_BINARY(Fmin, (a <= b) | (b != b) ? a : b)
SCALAR_TERNARY(Clip, smaller(larger(x, a), b))
SCALAR_UNARY(Square, T(Wrap<T>(x) * Wrap<T>(x)))
SCALAR_UNARY(Reciprocal, T(1) / x)
SCALAR_UNARY(Sqrt, std::sqrt(x))
SCALAR_UNARY(Rsqrt, T(1) / std::sqrt(x))
SCALAR_UNARY(Floor, std::floor(x))
SCALAR_UNARY(Ceil, std::ceil(x))
SCALAR_UNARY(Trunc, std::trunc(x))
SCALAR_UNARY(Round, std::nearbyint(x))
SCALAR_UNARY(Sign, x != x ? x : T(T(x > T(0)) - T(x < T(0))))

struct Negative {
    template <class T> T operator()(T x) const {
        if constexpr (std::is_integral_v<T>)
            return T(T(0) - scalar::Wrap<T>(x));
        else
            return -x;
    }
};

struct Absolute {
    template <class T> T operator()(T x) const {
        if constexpr (std::is_integral_v<T>)
            return x < 0 ? T(scalar::Wrap<T>(0) - scalar::Wrap<T>(x)) : x;
        else
            return std::fabs(x);
    }
};

struct Where {
    template <class T> T operator()(bool condition, T a, T b) const { return condition ? a : b; }
};

// ---- tests --------------------------------------------------------------------------------------

SCALAR_BINARY(Equal, a == b)
SCALAR_BINARY(NotEqual, a != b)
SCALAR_BINARY(Less, a < b)
SCALAR_BINARY(LessEqual, a <= b)
SCALAR_BINARY(Greater, a > b)
SCALAR_BINARY(GreaterEqual, a >= b)
SCALAR_BINARY(LogicalAnd, bool((a != T(0)) & (b != T(0))))
SCALAR_BINARY(LogicalOr, bool((a != T(0)) | (b != T(0))))
SCALAR_UNARY(LogicalNot, x == T(0))
SCALAR_UNARY(Nonzero, x != T(0))
SCALAR_UNARY(Isnan, x != x)
SCALAR_UNARY(Isinf, !is_finite(x) && x == x)
SCALAR_UNARY(Isfinite, is_finite(x))

// ---- functions and activations ------------------------------------------------------------------

SCALAR_UNARY(Exp, vexp(x))
SCALAR_UNARY(Expm1, vexpm1(x))
SCALAR_UNARY(Log, vlog(x))
SCALAR_UNARY(Log1p, vlog1p(x))
SCALAR_UNARY(Tanh, vtanh(x))
SCALAR_UNARY(Erf, verf(x))
SCALAR_UNARY(Relu, positive(x))
SCALAR_UNARY(Relu6, smaller(larger(x, T(0)), T(6)))
SCALAR_BINARY(ReluGrad, T(Wrap<T>(a) * Wrap<T>(b > T(0))))
SCALAR_UNARY(Sigmoid, vsigmoid(x))
SCALAR_BINARY(SigmoidGrad, (T(1) - b) * b * a)
SCALAR_UNARY(Silu, vsigmoid(x) * x)
SCALAR_UNARY(Softplus, vsoftplus(x))
SCALAR_UNARY(LogSigmoid, -vsoftplus(-x))
SCALAR_UNARY(Softsign, x / (T(1) + std::fabs(x)))
SCALAR_UNARY(HardSigmoid, hard_sigmoid(x))
SCALAR_UNARY(HardSilu, x * hard_sigmoid(x))
SCALAR_UNARY(Mish, x * vtanh(vsoftplus(x)))
SCALAR_UNARY(GeluTanh, (vtanh(gelu_argument(x)) + T(1)) * T(0.5) * x)
SCALAR_UNARY(Gelu, (verf(x * T(SQRT_HALF)) + T(1)) * T(0.5) * x)
SCALAR_BINARY(LeakyRelu, a > T(0) ? a : a * b)

struct SiluGrad {
    template <class T> T operator()(T g, T x) const {
        T s = vsigmoid(x);
        return ((T(1) - s) * x + T(1)) * s * g;
    }
};

struct GeluTanhGrad {
    template <class T> T operator()(T g, T x) const {
        T t = vtanh(scalar::gelu_argument(x));
        T slope = x * x * T(3 * scalar::TANH_CUBIC * scalar::TANH_SCALE) + T(scalar::TANH_SCALE);
        return scalar::gelu_slope(x, t, slope * (T(1) - t * t)) * g;
    }
};

struct GeluGrad {
    template <class T> T operator()(T g, T x) const {
        T slope = vexp(x * x * T(-0.5)) * T(scalar::TANH_SCALE);
        return scalar::gelu_slope(x, verf(x * T(scalar::SQRT_HALF)), slope) * g;
    }
};

struct Elu {
    template <class T> T operator()(T x, T alpha, T scale) const {
        return (vexpm1(scalar::negative(x)) * alpha + scalar::positive(x)) * scale;
    }
};

struct Celu {
    template <class T> T operator()(T x, T alpha, T rate) const {
        return vexpm1(scalar::negative(x) * rate) * alpha + scalar::positive(x);
    }
};

#undef SCALAR_UNARY
#undef SCALAR_BINARY
#undef SCALAR_TERNARY
