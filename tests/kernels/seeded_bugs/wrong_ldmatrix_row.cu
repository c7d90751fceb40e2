// c (16, 8) = a (16, 16) b (16, 8), one warp.
#include "tensor_core.cuh"

template <bool FIXED>
__global__ void wrong_ldmatrix_row(const __half* a, const __half* b, float* c) {
  SHARED_ARRAY(__half, tile_a, 16 * 16);
  SHARED_ARRAY(__half, tile_b, 16 * 8);
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) tile_a[i] = a[i];
  for (int i = lane; i < 128; i += 32) tile_b[i] = b[i];
  __syncwarp();
  unsigned fragment_a[4], fragment_b[2];
  const int row = FIXED ? lane % 16 : lane % 8;  // BUG: rows 8 to 15 are never read
  ldmatrix_x4(fragment_a, tile_a + row * 16 + lane / 16 * 8);
  ldmatrix_x2_trans(fragment_b, tile_b + lane % 16 * 8);
  float d[4] = {};
  mma_m16n8k16<__half>(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}
