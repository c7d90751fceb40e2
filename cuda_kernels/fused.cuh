// What kernels written for fused chains use (gpunet/compile/emit_cuda.py): each step rounded as if
// it were a kernel of its own, so that fusing changes no bit.
//
// Between kernels a compiler cannot turn a product and a sum into one fused multiply-add, which
// rounds once. Inside of one it can, and does. The operations below are never merged with others.
#pragma once
#include "pointwise.cuh"
#include "scalar.cuh"

namespace exact {

__device__ __forceinline__ float add(float x1, float x2) { return __fadd_rn(x1, x2); }
__device__ __forceinline__ double add(double x1, double x2) { return __dadd_rn(x1, x2); }
template <typename A>
__device__ __forceinline__ A add(A x1, A x2) { return x1 + x2; }

__device__ __forceinline__ float subtract(float x1, float x2) { return __fsub_rn(x1, x2); }
#ifndef GPUNET_EMULATOR  // which has no such function, and merges nothing
__device__ __forceinline__ double subtract(double x1, double x2) { return __dsub_rn(x1, x2); }
#endif
template <typename A>
__device__ __forceinline__ A subtract(A x1, A x2) { return x1 - x2; }

__device__ __forceinline__ float multiply(float x1, float x2) { return __fmul_rn(x1, x2); }
__device__ __forceinline__ double multiply(double x1, double x2) { return __dmul_rn(x1, x2); }
template <typename A>
__device__ __forceinline__ A multiply(A x1, A x2) { return x1 * x2; }

GPUNET_BINARY(Add, add(x1, x2))
GPUNET_BINARY(Subtract, subtract(x1, x2))
GPUNET_BINARY(Multiply, multiply(x1, x2))
GPUNET_UNARY(Square, multiply(x, x))

// A result that may end in a product: adding -0 changes no number, and ends what can be merged.
__device__ __forceinline__ float sealed(float x) { return __fadd_rn(x, -0.0f); }
__device__ __forceinline__ double sealed(double x) { return __dadd_rn(x, -0.0); }
template <typename A>
__device__ __forceinline__ A sealed(A x) { return x; }

}  // namespace exact

// The result of a step as the next one loads it: stored as U, and widened again.
template <typename U, typename A>
__device__ __forceinline__ Acc<U> rounded(A x) {
  return to_float(from_float<U>(static_cast<Acc<U>>(x)));
}
