// y[i] = the sum over the rows k of x[k][i + 1]: each row comes through the same tile.
#include "common.cuh"

template <bool FIXED>
__global__ void missing_second_barrier(const float* x, float* y, int rows) {
  SHARED_ARRAY(float, tile, 64);
  const int i = threadIdx.x;
  float sum = 0;
  for (int k = 0; k < rows; ++k) {
    tile[i] = x[k * 64 + i];  // BUG: a neighbour may still be reading the row before
    __syncthreads();
    sum += tile[(i + 1) % 64];
    if (FIXED) __syncthreads();
  }
  y[i] = sum;
}
