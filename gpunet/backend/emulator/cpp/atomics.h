// Atomic functions. One thread runs at a time, so reading, computing and writing back is atomic.
//
// The overloads are CUDA's own: a type that the hardware has no atomic for must not compile here.
#pragma once

#include "half.h"

namespace gpunet::emulator {

// The one place where memory is changed atomically.
template <typename T, typename Function>
inline T atomic(T* address, Function function) {
  const T old = *address;
  *address = function(old);
  return old;
}

}  // namespace gpunet::emulator

#define GPUNET_ATOMIC(name, T, result)                                                           \
  inline T name(T* address, T value) {                                                            \
    return gpunet::emulator::atomic(address, [=](T old) -> T {                                    \
      (void)old;                                                                                  \
      return result;                                                                              \
    });                                                                                           \
  }
#define GPUNET_ATOMIC_ORDER(T)                                                                   \
  GPUNET_ATOMIC(atomicMin, T, value < old ? value : old)                                          \
  GPUNET_ATOMIC(atomicMax, T, old < value ? value : old)
#define GPUNET_ATOMIC_BITS(T)                                                                    \
  GPUNET_ATOMIC(atomicAnd, T, old & value)                                                        \
  GPUNET_ATOMIC(atomicOr, T, old | value)                                                         \
  GPUNET_ATOMIC(atomicXor, T, old ^ value)
#define GPUNET_ATOMIC_CAS(T)                                                                     \
  inline T atomicCAS(T* address, T compare, T value) {                                            \
    return gpunet::emulator::atomic(address, [=](T old) { return old == compare ? value : old; }); \
  }

GPUNET_ATOMIC(atomicAdd, int, old + value)
GPUNET_ATOMIC(atomicAdd, unsigned, old + value)
GPUNET_ATOMIC(atomicAdd, unsigned long long, old + value)
GPUNET_ATOMIC(atomicAdd, float, old + value)
GPUNET_ATOMIC(atomicAdd, double, old + value)
GPUNET_ATOMIC(atomicAdd, __half, old + value)
GPUNET_ATOMIC(atomicAdd, __nv_bfloat16, old + value)
GPUNET_ATOMIC(atomicSub, int, old - value)
GPUNET_ATOMIC(atomicSub, unsigned, old - value)
GPUNET_ATOMIC(atomicExch, int, value)
GPUNET_ATOMIC(atomicExch, unsigned, value)
GPUNET_ATOMIC(atomicExch, unsigned long long, value)
GPUNET_ATOMIC(atomicExch, float, value)
GPUNET_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
GPUNET_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
GPUNET_ATOMIC_ORDER(int)
GPUNET_ATOMIC_ORDER(unsigned)
GPUNET_ATOMIC_ORDER(long long)
GPUNET_ATOMIC_ORDER(unsigned long long)
GPUNET_ATOMIC_BITS(int)
GPUNET_ATOMIC_BITS(unsigned)
GPUNET_ATOMIC_BITS(unsigned long long)
GPUNET_ATOMIC_CAS(int)
GPUNET_ATOMIC_CAS(unsigned)
GPUNET_ATOMIC_CAS(unsigned short)
GPUNET_ATOMIC_CAS(unsigned long long)

// Each half is added atomically, the pair is not; here nothing comes between them.
inline __half2 atomicAdd(__half2* address, __half2 value) {
  return gpunet::emulator::atomic(
      address, [=](__half2 old) { return __half2{old.x + value.x, old.y + value.y}; });
}
inline __nv_bfloat162 atomicAdd(__nv_bfloat162* address, __nv_bfloat162 value) {
  return gpunet::emulator::atomic(
      address, [=](__nv_bfloat162 old) { return __nv_bfloat162{old.x + value.x, old.y + value.y}; });
}

#undef GPUNET_ATOMIC
#undef GPUNET_ATOMIC_ORDER
#undef GPUNET_ATOMIC_BITS
#undef GPUNET_ATOMIC_CAS

// Nothing else runs at the same time: every write is visible to everyone at once.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
