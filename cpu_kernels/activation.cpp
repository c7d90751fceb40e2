// Elementary functions and activations, element by element.
//
// arrays: operands, result; sizes: see elementwise.h.
#include "elementwise.h"
#include "vector_math.h"

using namespace elementwise;

namespace {

template <class T> T positive(T x) { return x < T(0) ? T(0) : x; }  // NaN stays
template <class T> T negative(T x) { return x > T(0) ? T(0) : x; }

template <class T> T hard_sigmoid(T x) {
    T y = positive(x + T(3));
    return (y > T(6) ? T(6) : y) * T(1.0 / 6.0);
}

constexpr double SQRT_HALF = 0.7071067811865476;
constexpr double TANH_SCALE = 0.7978845608028654;  // sqrt(2 / pi)
constexpr double TANH_CUBIC = 0.044715;

// The argument of the tanh in gelu's approximate form.
template <class T> T gelu_argument(T x) {
    return (x * x * T(TANH_CUBIC * TANH_SCALE) + T(TANH_SCALE)) * x;
}

template <class T> T gelu_slope(T x, T t, T slope) { return (x * slope + t + T(1)) * T(0.5); }

template <class T> T mish(T x) { return x * vtanh(vsoftplus(x)); }

}  // namespace

#define TYPED(name, suffix, type, ...)                  \
    KERNEL(name##_##suffix) {                           \
        using T = type;                                 \
        return map(arrays, sizes, COSTLY, __VA_ARGS__); \
    }
#define FLOATS(name, ...)                 \
    TYPED(name, f32, float, __VA_ARGS__)  \
    TYPED(name, f64, double, __VA_ARGS__)

FLOATS(exp, [](T x) { return vexp(x); })
FLOATS(expm1, [](T x) { return vexpm1(x); })
FLOATS(log, [](T x) { return vlog(x); })
FLOATS(log1p, [](T x) { return vlog1p(x); })
FLOATS(tanh, [](T x) { return vtanh(x); })
FLOATS(erf, [](T x) { return verf(x); })
FLOATS(sigmoid, [](T x) { return vsigmoid(x); })
FLOATS(sigmoid_grad, [](T g, T y) { return (T(1) - y) * y * g; })
FLOATS(silu, [](T x) { return vsigmoid(x) * x; })
FLOATS(silu_grad, [](T g, T x) {
    T s = vsigmoid(x);
    return ((T(1) - s) * x + T(1)) * s * g;
})
FLOATS(softplus, [](T x) { return vsoftplus(x); })
FLOATS(log_sigmoid, [](T x) { return -vsoftplus(-x); })
FLOATS(softsign, [](T x) { return x / (T(1) + std::fabs(x)); })
FLOATS(hard_sigmoid, [](T x) { return hard_sigmoid(x); })
FLOATS(hard_silu, [](T x) { return x * hard_sigmoid(x); })
FLOATS(mish, [](T x) { return mish(x); })
FLOATS(gelu_tanh, [](T x) { return (vtanh(gelu_argument(x)) + T(1)) * T(0.5) * x; })
FLOATS(gelu_erf, [](T x) { return (verf(x * T(SQRT_HALF)) + T(1)) * T(0.5) * x; })
FLOATS(gelu_tanh_grad, [](T g, T x) {
    T t = vtanh(gelu_argument(x));
    T slope = x * x * T(3 * TANH_CUBIC * TANH_SCALE) + T(TANH_SCALE);
    return gelu_slope(x, t, slope * (T(1) - t * t)) * g;
})
FLOATS(gelu_erf_grad, [](T g, T x) {
    T slope = vexp(x * x * T(-0.5)) * T(TANH_SCALE);
    return gelu_slope(x, verf(x * T(SQRT_HALF)), slope) * g;
})

// numbers: alpha, scale, rate.
#define ELU(suffix, T)                                                              \
    KERNEL(elu_##suffix) {                                                          \
        const T alpha = T(numbers[0]), scale = T(numbers[1]), rate = T(numbers[2]); \
        return map(arrays, sizes, COSTLY, [=](T x) {                                \
            return (vexpm1(negative(x) * rate) * alpha + positive(x)) * scale;      \
        });                                                                         \
    }
ELU(f32, float)
ELU(f64, double)

// Functions that the compiler leaves to the standard library: for arrays that are small.
FLOATS(power, [](T a, T b) { return std::pow(a, b); })
FLOATS(sin, [](T x) { return std::sin(x); })
FLOATS(cos, [](T x) { return std::cos(x); })
