// Vectors of floats as wide as the registers of this machine.
#pragma once
#include "runtime.h"

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));

// Of floats at any address.
inline Vector load(const float* p) {
    Vector v;
    std::memcpy(&v, p, sizeof(v));
    return v;
}
inline void store(float* p, Vector v) { std::memcpy(p, &v, sizeof(v)); }

inline int64_t padded(int64_t n, int64_t multiple = LANES) {
    return (n + multiple - 1) / multiple * multiple;
}

}  // namespace
