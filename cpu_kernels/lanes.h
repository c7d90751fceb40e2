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

using Vector = float __attribute__((vector_size(4 * LANES)));
using Unaligned = float __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

inline int64_t padded(int64_t n, int64_t multiple = LANES) {
    return (n + multiple - 1) / multiple * multiple;
}

}  // namespace
