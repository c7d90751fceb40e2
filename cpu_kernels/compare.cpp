// Comparisons, logic and tests, element by element: results are bools.
//
// arrays: operands, result; sizes: see elementwise.h.
#include "elementwise.h"

using namespace elementwise;

namespace {

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

}  // namespace

// A kernel a dtype: T is the type in the function given.
#define TYPED(name, suffix, type, ...)                 \
    KERNEL(name##_##suffix) {                          \
        using T = type;                                \
        return map(arrays, sizes, CHEAP, __VA_ARGS__); \
    }
#define FLOATS(name, ...)                 \
    TYPED(name, f32, float, __VA_ARGS__)  \
    TYPED(name, f64, double, __VA_ARGS__)
#define NUMBERS(name, ...)                 \
    FLOATS(name, __VA_ARGS__)              \
    TYPED(name, i32, int32_t, __VA_ARGS__) \
    TYPED(name, i64, int64_t, __VA_ARGS__)
#define BOOLS(name, ...) TYPED(name, b8, bool, __VA_ARGS__)

NUMBERS(equal, [](T a, T b) { return a == b; })
NUMBERS(not_equal, [](T a, T b) { return a != b; })
NUMBERS(less, [](T a, T b) { return a < b; })
NUMBERS(less_equal, [](T a, T b) { return a <= b; })
BOOLS(equal, [](T a, T b) { return a == b; })
BOOLS(not_equal, [](T a, T b) { return a != b; })
BOOLS(logical_and, [](T a, T b) { return bool(a & b); })
BOOLS(logical_or, [](T a, T b) { return bool(a | b); })
BOOLS(logical_not, [](T a) { return !a; })
FLOATS(isnan, [](T x) { return x != x; })
FLOATS(isinf, [](T x) { return !is_finite(x) && x == x; })
FLOATS(isfinite, [](T x) { return is_finite(x); })
NUMBERS(greater, [](T a, T b) { return a > b; })
NUMBERS(greater_equal, [](T a, T b) { return a >= b; })
