// y = x backwards, block by block, through shared memory. A thread reads what another one wrote.
#include "common.cuh"

template <bool FIXED>
__global__ void missing_barrier(const float* x, float* y) {
  SHARED_ARRAY(float, tile, 64);
  const int i = threadIdx.x, first = blockIdx.x * 64;
  tile[i] = x[first + i];
  if (FIXED) __syncthreads();
  y[first + i] = tile[63 - i];  // BUG: the other thread may not have written yet
}
