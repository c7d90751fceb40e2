// y[k] = how many of the numbers are k.
#include "common.cuh"

template <bool FIXED>
__global__ void forgotten_atomic(const int* x, int* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (FIXED)
    atomicAdd(y + x[i], 1);
  else
    y[x[i]] += 1;  // BUG: two threads may read the same old count
}
