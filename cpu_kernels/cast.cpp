// Casts, as C does them: to bool is "not zero", to integers is towards zero.
//
// arrays: x, y; sizes: see elementwise.h.
#include "elementwise.h"

using namespace elementwise;

#define CAST(from, From, to, To)                                                     \
    KERNEL(from##_##to) {                                                            \
        return map(arrays, sizes, CHEAP, [](From x) { return static_cast<To>(x); }); \
    }
#define CASTS(from, From)             \
    CAST(from, From, f32, float)      \
    CAST(from, From, f64, double)     \
    CAST(from, From, i32, int32_t)    \
    CAST(from, From, i64, int64_t)    \
    CAST(from, From, u8, uint8_t)     \
    KERNEL(from##_b8) { return map(arrays, sizes, CHEAP, [](From x) { return x != From(0); }); }

CASTS(f32, float)
CASTS(f64, double)
CASTS(i32, int32_t)
CASTS(i64, int64_t)
CASTS(u8, uint8_t)
CASTS(b8, uint8_t)  // 0 or 1
