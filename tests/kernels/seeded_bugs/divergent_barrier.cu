// y = x backwards, for n numbers in a block of 64 threads. Some of them have nothing to do.
#include "common.cuh"

template <bool FIXED>
__global__ void divergent_barrier(const float* x, float* y, int n) {
  SHARED_ARRAY(float, tile, 64);
  const int i = threadIdx.x;
  if (!FIXED && i >= n) return;
  if (i < n) tile[i] = x[i];
  __syncthreads();  // BUG: some threads have left
  if (i < n) y[i] = tile[n - 1 - i];
}
