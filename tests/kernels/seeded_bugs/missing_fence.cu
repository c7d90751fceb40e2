// y = the sum of all numbers: each block sums 32 of them, the last block to end adds those sums.
#include "common.cuh"

template <bool FIXED>
__global__ void missing_fence(const float* x, float* sums, unsigned* ended, float* y) {
  const float sum = block_sum<32>(x[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x != 0) return;
  sums[blockIdx.x] = sum;
  if (FIXED) __threadfence();
  if (atomicAdd(ended, 1u) + 1 < gridDim.x) return;
  float total = 0;
  for (unsigned b = 0; b < gridDim.x; ++b)
    total += sums[b];  // BUG: the count of ended blocks may be seen before their sums
  y[0] = total;
}
