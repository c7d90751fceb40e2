// Elementary functions and activations, element by element.
//
// arrays: operands, result; sizes: see elementwise.h.
#include "elementwise.h"
#include "scalar.h"

using namespace elementwise;

constexpr int64_t GRAIN = COSTLY;

FLOATS(exp, UNARY(Exp))
FLOATS(expm1, UNARY(Expm1))
FLOATS(log, UNARY(Log))
FLOATS(log1p, UNARY(Log1p))
FLOATS(tanh, UNARY(Tanh))
FLOATS(erf, UNARY(Erf))
FLOATS(sigmoid, UNARY(Sigmoid))
FLOATS(sigmoid_grad, BINARY(SigmoidGrad))
FLOATS(silu, UNARY(Silu))
FLOATS(silu_grad, BINARY(SiluGrad))
FLOATS(softplus, UNARY(Softplus))
FLOATS(log_sigmoid, UNARY(LogSigmoid))
FLOATS(softsign, UNARY(Softsign))
FLOATS(hard_sigmoid, UNARY(HardSigmoid))
FLOATS(hard_silu, UNARY(HardSilu))
FLOATS(mish, UNARY(Mish))
FLOATS(gelu_tanh, UNARY(GeluTanh))
FLOATS(gelu_tanh_grad, BINARY(GeluTanhGrad))
FLOATS(gelu_erf, UNARY(Gelu))
FLOATS(gelu_erf_grad, BINARY(GeluGrad))

// numbers: alpha, scale, rate.
#define ELU(suffix, T)                                                              \
    KERNEL(elu_##suffix) {                                                          \
        const T alpha = T(numbers[0]), scale = T(numbers[1]), rate = T(numbers[2]); \
        return map(arrays, sizes, COSTLY, [=](T x) {                                \
            return (vexpm1(scalar::negative(x) * rate) * alpha + scalar::positive(x)) * scale;      \
        });                                                                         \
    }
ELU(f32, float)
ELU(f64, double)

// Functions that the compiler leaves to the standard library: for arrays that are small.
FLOATS(power, [](T a, T b) { return std::pow(a, b); })
FLOATS(sin, [](T x) { return std::sin(x); })
FLOATS(cos, [](T x) { return std::cos(x); })
