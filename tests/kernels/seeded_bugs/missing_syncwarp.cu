// Each warp turns its 32 numbers round through shared memory. Lanes need not run in step.
#include "common.cuh"

template <bool FIXED>
__global__ void missing_syncwarp(const float* x, float* y) {
  SHARED_ARRAY(float, tile, 64);
  const int i = threadIdx.x, warp = i / 32 * 32, lane = i % 32;
  tile[i] = x[i];
  if (FIXED) __syncwarp();
  y[i] = tile[warp + 31 - lane];  // BUG: the other lane may not have written yet
}
