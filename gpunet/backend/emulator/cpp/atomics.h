// Atomic functions. One thread runs at a time, so reading, computing and writing back is atomic.
//
// The overloads are CUDA's own: a type that the hardware has no atomic for must not compile here.
#pragma once

#include "half.h"
#include "keywords.h"

namespace gpunet::emulator {

template <size_t BYTES>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = unsigned long long;
};

// A thread that tries an atomic again and again until another one has changed the memory lets that
// one run now and then.
GPUNET_UNWATCHED inline void count_atomic() {
  constexpr unsigned kPatience = 4096;
  static unsigned count;
  if (++count % kPatience == 0) runtime->yield(kPatience / 8, {"an atomic", "", 0});
}

// The one place where memory is changed atomically. The two accesses are marked as atomic for
// ThreadSanitizer, which compares them with those that are not.
template <typename T, typename Function>
inline T atomic(T* address, Function function) {
  using Bits = typename Word<sizeof(T)>::type;
  if (reinterpret_cast<size_t>(address) % sizeof(T))
    runtime->fail("misaligned atomic access to %d bytes at %p", static_cast<int>(sizeof(T)),
                  static_cast<void*>(address));
  count_atomic();
  Bits* bits = reinterpret_cast<Bits*>(address);
  const T old = bit_cast<T>(__atomic_load_n(bits, __ATOMIC_RELAXED));
  __atomic_store_n(bits, bit_cast<Bits>(function(old)), __ATOMIC_RELAXED);
#ifdef GPUNET_TSAN
  runtime->atomic_done(address);
#endif
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

// Nothing else runs at the same time: every write is visible to everyone at once. Only
// ThreadSanitizer wants to know.
#ifdef GPUNET_TSAN
inline void __threadfence() { gpunet::emulator::runtime->fence(true); }
inline void __threadfence_block() { gpunet::emulator::runtime->fence(false); }
#else
inline void __threadfence() {}
inline void __threadfence_block() {}
#endif
inline void __threadfence_system() { __threadfence(); }
