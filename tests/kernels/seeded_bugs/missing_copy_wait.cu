// y = x backwards in runs of 4, tile by tile; while a tile is turned round, the next one is copied.
#include "tensor_core.cuh"

template <bool FIXED>
__global__ void missing_copy_wait(const float* x, float* y, int tiles) {
  SHARED_ARRAY(float, buffer, 2 * 128);
  const int i = threadIdx.x * 4;
  cp_async_16(buffer + i, x + i, true);
  cp_async_commit();
  for (int tile = 0; tile < tiles; ++tile) {
    float* now = buffer + tile % 2 * 128;
    float* next = buffer + (tile + 1) % 2 * 128;
    cp_async_16(next + i, x + (tile + 1) * 128 + i, tile + 1 < tiles);
    cp_async_commit();
    cp_async_wait<FIXED ? 1 : 2>();  // BUG: with two groups under way, nothing has to be there
    for (int k = 0; k < 4; ++k) y[tile * 128 + i + k] = now[i + 3 - k];
  }
  cp_async_wait<0>();
}
