// Arithmetic, limits and choices, element by element. Results have the bits of NumPy's.
//
// arrays: operands, result; sizes: see elementwise.h.
#include "elementwise.h"

using namespace elementwise;

namespace {

// Integers wrap around, as in NumPy.
template <class T> struct Wrapping { using type = T; };
template <> struct Wrapping<int32_t> { using type = uint32_t; };
template <> struct Wrapping<int64_t> { using type = uint64_t; };
template <class T> using Wrap = typename Wrapping<T>::type;

template <class T> T larger(T a, T b) { return a >= b || a != a ? a : b; }  // NaN stays
template <class T> T smaller(T a, T b) { return a <= b || a != a ? a : b; }

}  // namespace

// A kernel a dtype: T is the type in the function given.
#define TYPED(name, suffix, type, ...)          \
    KERNEL(name##_##suffix) {                   \
        using T = type;                         \
        return map(arrays, sizes, CHEAP, __VA_ARGS__); \
    }
#define FLOATS(name, ...)                 \
    TYPED(name, f32, float, __VA_ARGS__)  \
    TYPED(name, f64, double, __VA_ARGS__)
#define NUMBERS(name, ...)                 \
    FLOATS(name, __VA_ARGS__)              \
    TYPED(name, i32, int32_t, __VA_ARGS__) \
    TYPED(name, i64, int64_t, __VA_ARGS__)

NUMBERS(add, [](T a, T b) { return T(Wrap<T>(a) + Wrap<T>(b)); })
NUMBERS(subtract, [](T a, T b) { return T(Wrap<T>(a) - Wrap<T>(b)); })
NUMBERS(multiply, [](T a, T b) { return T(Wrap<T>(a) * Wrap<T>(b)); })
NUMBERS(maximum, [](T a, T b) { return larger(a, b); })
NUMBERS(minimum, [](T a, T b) { return smaller(a, b); })
NUMBERS(clip, [](T x, T low, T high) { return smaller(larger(x, low), high); })
NUMBERS(negative, [](T x) { return std::is_integral_v<T> ? T(T(0) - Wrap<T>(x)) : T(-x); })
NUMBERS(absolute, [](T x) {
    if constexpr (std::is_integral_v<T>)
        return x < 0 ? T(Wrap<T>(0) - Wrap<T>(x)) : x;
    else
        return std::fabs(x);
})
NUMBERS(sign, [](T x) { return x != x ? x : T(x > T(0)) - T(x < T(0)); })
NUMBERS(square, [](T x) { return T(Wrap<T>(x) * Wrap<T>(x)); })
FLOATS(true_divide, [](T a, T b) { return a / b; })
FLOATS(reciprocal, [](T x) { return T(1) / x; })
FLOATS(sqrt, [](T x) { return std::sqrt(x); })
FLOATS(rsqrt, [](T x) { return T(1) / std::sqrt(x); })
FLOATS(floor, [](T x) { return std::floor(x); })
FLOATS(ceil, [](T x) { return std::ceil(x); })
FLOATS(trunc, [](T x) { return std::trunc(x); })
FLOATS(round, [](T x) { return std::nearbyint(x); })
FLOATS(fmax, [](T a, T b) { return a >= b || b != b ? a : b; })
FLOATS(fmin, [](T a, T b) { return a <= b || b != b ? a : b; })
NUMBERS(relu, [](T x) { return x < T(0) ? T(0) : x; })
NUMBERS(relu6, [](T x) { return smaller(larger(x, T(0)), T(6)); })
NUMBERS(relu_grad, [](T g, T y) { return T(Wrap<T>(g) * (y > T(0) ? Wrap<T>(1) : Wrap<T>(0))); })

// The dtype of the choices does not matter, only its size. arrays: condition, x1, x2, result.
#define CHOICE(bits)                                                               \
    KERNEL(where_##bits) {                                                         \
        using T = uint##bits##_t;                                                  \
        return map(arrays, sizes, CHEAP, [](uint8_t c, T a, T b) {                    \
            const T mask = T(0) - T(c != 0);                                          \
            return T((a & mask) | (b & ~mask));                                       \
        });                                                                           \
    }
CHOICE(8)
CHOICE(16)
CHOICE(32)
CHOICE(64)

// arrays: x, y; numbers: the slope of negative numbers.
KERNEL(leaky_relu_f32) {
    const float slope = static_cast<float>(numbers[0]);
    return map(arrays, sizes, CHEAP, [=](float x) { return x > 0 ? x : x * slope; });
}
KERNEL(leaky_relu_f64) {
    const double slope = numbers[0];
    return map(arrays, sizes, CHEAP, [=](double x) { return x > 0 ? x : x * slope; });
}
