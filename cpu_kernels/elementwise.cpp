// Arithmetic, limits and choices, element by element. Results have the bits of NumPy's.
//
// arrays: operands, result; sizes: see elementwise.h.
#include "elementwise.h"
#include "scalar.h"

using namespace elementwise;

constexpr int64_t GRAIN = CHEAP;

NUMBERS(add, BINARY(Add))
NUMBERS(subtract, BINARY(Subtract))
NUMBERS(multiply, BINARY(Multiply))
NUMBERS(maximum, BINARY(Maximum))
NUMBERS(minimum, BINARY(Minimum))
NUMBERS(clip, TERNARY(Clip))
NUMBERS(negative, UNARY(Negative))
NUMBERS(absolute, UNARY(Absolute))
NUMBERS(sign, UNARY(Sign))
NUMBERS(square, UNARY(Square))
NUMBERS(relu, UNARY(Relu))
NUMBERS(relu6, UNARY(Relu6))
NUMBERS(relu_grad, BINARY(ReluGrad))
FLOATS(true_divide, BINARY(TrueDivide))
FLOATS(reciprocal, UNARY(Reciprocal))
FLOATS(sqrt, UNARY(Sqrt))
FLOATS(rsqrt, UNARY(Rsqrt))
FLOATS(floor, UNARY(Floor))
FLOATS(ceil, UNARY(Ceil))
FLOATS(trunc, UNARY(Trunc))
FLOATS(round, UNARY(Round))
FLOATS(fmax, BINARY(Fmax))
FLOATS(fmin, BINARY(Fmin))

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
    return map(arrays, sizes, CHEAP, [=](float x) { return LeakyRelu()(x, slope); });
}
KERNEL(leaky_relu_f64) {
    const double slope = numbers[0];
    return map(arrays, sizes, CHEAP, [=](double x) { return LeakyRelu()(x, slope); });
}
