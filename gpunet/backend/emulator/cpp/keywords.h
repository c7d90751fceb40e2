// CUDA's keywords and built-in variables, as a host C++ compiler can read them.
#pragma once

#include "interface.h"
#include "vectors.h"

#define GPUNET_EMULATOR 1

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))

// One block runs at a time, so a static variable is shared by exactly the threads of that block.
// Thread-local storage keeps these variables apart from other globals - also those of templates,
// for which GCC ignores section attributes - so that the runtime can poison them before each block.
// macOS cannot tell where that storage lies: there only SHARED_ARRAY is poisoned.
// AddressSanitizer guards the ends of plain static arrays only.
#if defined(__linux__) && !defined(GPUNET_ASAN)
#define __shared__ static thread_local
#else
#define __shared__ static
#endif

// For the emulator's own functions that ThreadSanitizer must not take for the kernel's.
#ifdef GPUNET_TSAN
#define GPUNET_UNWATCHED __attribute__((no_sanitize("thread")))
#else
#define GPUNET_UNWATCHED
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace gpunet::emulator {

static const Runtime* runtime;
static const void* launched;  // the kernel that runs now, of those in this library

// The memory of one SHARED_ARRAY. The type of `Place`, a lambda, differs for every place in the
// source and every instantiation of a template around it, and so do the static variables.
template <typename T, size_t N, typename Place>
T (&shared_array(Place))[N] {
#if defined(GPUNET_TSAN) || defined(GPUNET_ASAN)
  static char key;
  return *static_cast<T(*)[N]>(runtime->register_shared(&key, sizeof(T) * N));
#else
  alignas(alignof(T) > 16 ? alignof(T) : 16) static unsigned char bytes[sizeof(T) * N];
  static const void* known_to;
  if (known_to != launched) {
    runtime->register_shared(bytes, sizeof bytes);
    known_to = launched;
  }
  return reinterpret_cast<T(&)[N]>(bytes);
#endif
}

// Where the dynamic shared memory of the launch begins. CUDA aligns it to 16 bytes.
template <typename T>
T* dynamic_shared() {
  static_assert(alignof(T) <= 16, "dynamic shared memory is aligned to 16 bytes");
  return static_cast<T*>(runtime->dynamic_shared());
}

}  // namespace gpunet::emulator

// cuda_kernels/common.cuh defines the CUDA form of these two, and says how they are used.
#define SHARED_ARRAY(T, name, N) T(&name)[N] = gpunet::emulator::shared_array<T, (N)>([] {})
#define GPUNET_SHARED(T, name) T* name = gpunet::emulator::dynamic_shared<T>()
