// y = 2 x, with a few threads more than there are elements.
#include "common.cuh"

template <bool FIXED>
__global__ void write_past_end(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float value = i < n ? 2 * x[i] : 0;
  if (FIXED ? i < n : i <= n) y[i] = value;  // BUG: y[n] does not exist
}
