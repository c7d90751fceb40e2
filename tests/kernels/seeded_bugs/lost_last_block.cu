// y = 2 x in tiles of 32 numbers; the last tile may not be full.
#include "common.cuh"

template <bool FIXED>
__global__ void lost_last_block(const float* x, float* y, int n) {
  const int tiles = FIXED ? ceil_div(n, 32) : n / 32;  // BUG: the rest is left out
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int i = tile * 32 + threadIdx.x;
    if (i < n) y[i] = 2 * x[i];
  }
}
