// What every kernel file starts with: types, 16-byte accesses, reductions, shared memory.
//
// Included as `#include "common.cuh"`. It compiles under NVRTC (what CuPy calls), nvcc, and the
// CPU emulator, which defines GPUNET_EMULATOR. These two headers are the only ones of CUDA that
// kernels need; others cost seconds of compile time where these cost 0.05.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// ---- shared memory ------------------------------------------------------------------------------

// SHARED_ARRAY(float, partial, 32);  declares `float partial[32]` in shared memory, aligned to 16
// bytes. N is a constant. The type may not hold a comma: name it first (`using Pair = ...;`).
// Plain __shared__ works too, but only this form is poisoned by the emulator on every platform.
//
// GPUNET_SHARED(float, buffer);  declares `float* buffer`, the start of the dynamic shared memory
// whose size the launch gives (`shared=bytes`). A kernel that needs several arrays cuts it up.
#ifndef GPUNET_EMULATOR
#define SHARED_ARRAY(T, name, N) __shared__ __align__(16) T name[N]
extern __shared__ __align__(16) unsigned char gpunet_dynamic_shared[];
#define GPUNET_SHARED(T, name) T* name = reinterpret_cast<T*>(gpunet_dynamic_shared)
#endif

constexpr unsigned kFullMask = 0xffffffffu;

// ---- arithmetic types ---------------------------------------------------------------------------

// The type that sums and intermediate results of T are kept in: 16-bit floats have too few bits to
// add up more than a few hundred numbers, so they use float; integers use 64 bits.
template <typename T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
#define GPUNET_ACCUMULATE(T, A) \
  template <>                   \
  struct Accumulate<T> {        \
    using type = A;             \
  };
GPUNET_ACCUMULATE(bool, long long)
GPUNET_ACCUMULATE(signed char, long long)
GPUNET_ACCUMULATE(short, long long)
GPUNET_ACCUMULATE(int, long long)
GPUNET_ACCUMULATE(long long, long long)
GPUNET_ACCUMULATE(unsigned char, unsigned long long)
GPUNET_ACCUMULATE(unsigned short, unsigned long long)
GPUNET_ACCUMULATE(unsigned int, unsigned long long)
GPUNET_ACCUMULATE(unsigned long long, unsigned long long)
#undef GPUNET_ACCUMULATE

template <typename T>
using Acc = typename Accumulate<T>::type;

// Widens a stored value to the type it is computed in: float for float, half and bfloat16.
template <typename T>
__device__ __forceinline__ Acc<T> to_float(T value) {
  return static_cast<Acc<T>>(value);
}
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

// Rounds a computed value to the type it is stored in, to nearest even: `from_float<T>(sum)`.
template <typename T>
struct Narrow {
  static __device__ __forceinline__ T from(Acc<T> value) { return static_cast<T>(value); }
};
template <>
struct Narrow<__half> {
  static __device__ __forceinline__ __half from(float value) { return __float2half_rn(value); }
};
template <>
struct Narrow<__nv_bfloat16> {
  static __device__ __forceinline__ __nv_bfloat16 from(float value) {
    return __float2bfloat16_rn(value);
  }
};
template <typename T>
__device__ __forceinline__ T from_float(Acc<T> value) {
  return Narrow<T>::from(value);
}

// ---- indices ------------------------------------------------------------------------------------

template <typename Index>
__host__ __device__ constexpr Index ceil_div(Index n, Index size) {
  return (n + size - 1) / size;
}

// The first element of this thread, and the distance to its next one, when the threads of a 1-D
// grid share n elements: for (Index i = grid_start<Index>(); i < n; i += grid_stride<Index>()).
// Neighbouring threads touch neighbouring elements, and any grid covers any n.
template <typename Index>
__device__ __forceinline__ Index grid_start() {
  return static_cast<Index>(blockIdx.x) * static_cast<Index>(blockDim.x) +
         static_cast<Index>(threadIdx.x);
}
template <typename Index>
__device__ __forceinline__ Index grid_stride() {
  return static_cast<Index>(gridDim.x) * static_cast<Index>(blockDim.x);
}

// ---- 16-byte accesses ---------------------------------------------------------------------------

// N neighbouring elements, read or written at once. A memory transaction moves whole sectors
// anyway; fewer, wider instructions keep more bytes in flight. N * sizeof(T) is 16 at most.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T at[N];
  __device__ __forceinline__ T& operator[](int i) { return at[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return at[i]; }
};

// How many T fit a 16-byte access.
template <typename T>
constexpr int kVec = 16 / sizeof(T);

template <int N, typename T>
__device__ __forceinline__ void check_aligned(const T* address) {
#ifdef GPUNET_EMULATOR  // a GPU reports "misaligned address" for the whole launch; here, the thread
  if (reinterpret_cast<unsigned long long>(address) % sizeof(Vec<T, N>))
    gpunet::emulator::runtime->fail("misaligned access to %d bytes at %p",
                                    static_cast<int>(sizeof(Vec<T, N>)), address);
#endif
}

// Loads N elements from an address that is a multiple of their size: `load_vec<4>(x + 4 * i)`.
template <int N, typename T>
__device__ __forceinline__ Vec<T, N> load_vec(const T* address) {
  check_aligned<N>(address);
  return *reinterpret_cast<const Vec<T, N>*>(address);
}

template <int N, typename T>
__device__ __forceinline__ void store_vec(T* address, const Vec<T, N>& value) {
  check_aligned<N>(address);
  *reinterpret_cast<Vec<T, N>*>(address) = value;
}

// ---- reductions ---------------------------------------------------------------------------------

struct Sum {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
  template <typename T>
  static __device__ __forceinline__ T identity() { return T(0); }
};

// The greatest value; NaN if there is one, as in NumPy (CUDA's fmaxf drops it).
struct Max {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const { return a > b || a != a ? a : b; }
  template <typename T>
  static __device__ __forceinline__ T identity() { return lowest(T()); }
  static __device__ __forceinline__ float lowest(float) { return -__int_as_float(0x7f800000); }
  static __device__ __forceinline__ double lowest(double) {
    return -__longlong_as_double(0x7ff0000000000000ll);
  }
  static __device__ __forceinline__ int lowest(int) { return -0x7fffffff - 1; }
  static __device__ __forceinline__ long long lowest(long long) {
    return -0x7fffffffffffffffll - 1;
  }
  static __device__ __forceinline__ unsigned lowest(unsigned) { return 0; }
  static __device__ __forceinline__ unsigned long long lowest(unsigned long long) { return 0; }
};

// The least value; NaN if there is one.
struct Min {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const { return a < b || a != a ? a : b; }
  template <typename T>
  static __device__ __forceinline__ T identity() { return highest(T()); }
  static __device__ __forceinline__ float highest(float) { return __int_as_float(0x7f800000); }
  static __device__ __forceinline__ double highest(double) {
    return __longlong_as_double(0x7ff0000000000000ll);
  }
  static __device__ __forceinline__ int highest(int) { return 0x7fffffff; }
  static __device__ __forceinline__ long long highest(long long) { return 0x7fffffffffffffffll; }
  static __device__ __forceinline__ unsigned highest(unsigned) { return 0xffffffffu; }
  static __device__ __forceinline__ unsigned long long highest(unsigned long long) {
    return 0xffffffffffffffffull;
  }
};

// Combines one value of each of WIDTH neighbouring lanes; all of them get the result. The order is
// fixed - a butterfly, halves first - and the operations commute, so every lane gets the same bits
// in every run. All 32 lanes of the warp must call it.
template <int WIDTH = 32, typename Operation, typename T>
__device__ __forceinline__ T warp_reduce(T value, Operation operation) {
#pragma unroll
  for (int step = WIDTH / 2; step > 0; step /= 2)
    value = operation(value, __shfl_xor_sync(kFullMask, value, step));
  return value;
}

// Combines one value of each thread of a 1-D block of BLOCK threads (a multiple of 32); all of
// them get the result, the same bits in every run. Every thread of the block must call it.
template <int BLOCK, typename Operation, typename T>
__device__ __forceinline__ T block_reduce(T value, Operation operation) {
  static_assert(BLOCK % 32 == 0 && BLOCK <= 1024, "a block of whole warps");
#ifdef GPUNET_EMULATOR
  if (blockDim.x != BLOCK)
    gpunet::emulator::runtime->fail("block_reduce<%d> in a block of %u threads", BLOCK, blockDim.x);
#endif
  constexpr int kWarps = BLOCK / 32;
  value = warp_reduce(value, operation);
  if constexpr (kWarps > 1) {
    SHARED_ARRAY(T, partial, kWarps);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    value = lane < kWarps ? partial[lane] : Operation::template identity<T>();
    value = warp_reduce(value, operation);
    __syncthreads();  // before `partial` is written again by the next call
  }
  return value;
}

template <int WIDTH = 32, typename T>
__device__ __forceinline__ T warp_sum(T value) { return warp_reduce<WIDTH>(value, Sum()); }
template <int WIDTH = 32, typename T>
__device__ __forceinline__ T warp_max(T value) { return warp_reduce<WIDTH>(value, Max()); }
template <int BLOCK, typename T>
__device__ __forceinline__ T block_sum(T value) { return block_reduce<BLOCK>(value, Sum()); }
template <int BLOCK, typename T>
__device__ __forceinline__ T block_max(T value) { return block_reduce<BLOCK>(value, Max()); }
