// Transposing: the copy of a view in which another axis than the last one is contiguous.
#include "pointwise.cuh"

// transpose<W, BLOCK>      y[b, p, l] = x[b, l, p]
// Shapes    words of W: x has stride 1 along P and x_step along L; y the other way, y_step along P;
//           batches (n0, n1, n2) with strides a0..a2 in x and b0..b2 in y
// Launch    grid (ceil(L / TILE), ceil(P / TILE), batches), block (32, BLOCK / 32);
//           static shared TILE * PITCH words; TILE is 32, or 64 for words of 1 and 2 bytes
// Bytes     2n * sizeof(W)     Flops  0     bound: memory
// Numerics  copies bits
// Source    a tile in shared memory, read and written along what is contiguous; one word of padding
//           a row puts the words of a column into different banks (Ruetsch, Micikevicius, 2009)
// Measured  not measured
template <typename W, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    transpose(const void* __restrict__ x, void* __restrict__ y, long long length_l,
              long long length_p, long long x_step, long long y_step, long long batches,
              long long n1, long long n2, long long a0, long long a1, long long a2, long long b0,
              long long b1, long long b2) {
  constexpr int TILE = sizeof(W) >= 4 ? 32 : 64;
  // Rows begin an odd number of 4-byte banks apart, so that a column hits each bank once.
  constexpr int PITCH = TILE + (sizeof(W) < 4 ? 4 / sizeof(W) : 1);
  SHARED_ARRAY(W, tile, TILE * PITCH);
  const int lane = threadIdx.x, warp = threadIdx.y;
  const long long l0 = static_cast<long long>(blockIdx.x) * TILE;
  for (long long b = blockIdx.z; b < batches; b += gridDim.z) {
    const W* from = static_cast<const W*>(x) + row_start(b, n1, n2, a0, a1, a2);
    W* to = static_cast<W*>(y) + row_start(b, n1, n2, b0, b1, b2);
    for (long long p0 = static_cast<long long>(blockIdx.y) * TILE; p0 < length_p;
         p0 += static_cast<long long>(gridDim.y) * TILE) {
#pragma unroll
      for (int l = warp; l < TILE; l += BLOCK / 32)
        for (int p = lane; p < TILE; p += 32)
          if (l0 + l < length_l && p0 + p < length_p)
            tile[l * PITCH + p] = from[(l0 + l) * x_step + p0 + p];
      __syncthreads();
#pragma unroll
      for (int p = warp; p < TILE; p += BLOCK / 32)
        for (int l = lane; l < TILE; l += 32)
          if (l0 + l < length_l && p0 + p < length_p)
            to[(p0 + p) * y_step + l0 + l] = tile[l * PITCH + p];
      __syncthreads();  // before the tile is filled again
    }
  }
}
