// What the memory of a GPU can do: the ceilings that the kernels of gpunet are measured against.
#include "common.cuh"

// ceiling_copy      y = x
// Shapes    x, y (n) of float, n a multiple of 4, aligned to 16 bytes
// Launch    any 1-D grid and block
// Bytes     8n          bound: memory
// Numerics  exact
// Source    16-byte accesses in a grid-stride loop
__global__ void __launch_bounds__(512, 1)
    ceiling_copy(const float* __restrict__ x, float* __restrict__ y, long long n) {
  for (long long i = grid_start<long long>(); i < n / 4; i += grid_stride<long long>())
    store_vec<4>(y + 4 * i, load_vec<4>(x + 4 * i));
}

// ceiling_read      y[thread] = sum of what it read of x: a write of next to nothing
// Shapes    x (n) of float, y (threads) of float
// Launch    any 1-D grid and block
// Bytes     4n          bound: memory
// Numerics  float32 sums, which nobody uses; they keep the loads alive
// Source    16-byte accesses in a grid-stride loop
__global__ void __launch_bounds__(512, 1)
    ceiling_read(const float* __restrict__ x, float* __restrict__ y, long long n) {
  float sum = 0;
  for (long long i = grid_start<long long>(); i < n / 4; i += grid_stride<long long>()) {
    const Vec<float, 4> in = load_vec<4>(x + 4 * i);
    sum += in[0] + in[1] + in[2] + in[3];
  }
  y[grid_start<long long>()] = sum;
}

// ceiling_write      y = value
// Shapes    y (n) of float
// Launch    any 1-D grid and block
// Bytes     4n          bound: memory
// Numerics  exact
// Source    16-byte accesses in a grid-stride loop
__global__ void __launch_bounds__(512, 1)
    ceiling_write(float* __restrict__ y, float value, long long n) {
  Vec<float, 4> out;
  for (int v = 0; v < 4; v++) out[v] = value;
  for (long long i = grid_start<long long>(); i < n / 4; i += grid_stride<long long>())
    store_vec<4>(y + 4 * i, out);
}
