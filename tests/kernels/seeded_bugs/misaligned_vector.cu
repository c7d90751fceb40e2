// y[row] = the sum of the four numbers that begin each row of x; rows are `pitch` numbers apart.
#include "common.cuh"

template <bool FIXED>
__global__ void misaligned_vector(const float* x, float* y, int pitch) {
  const float* row = x + threadIdx.x * pitch;
  float sum = 0;
  if (FIXED && pitch % 4) {
    for (int i = 0; i < 4; ++i) sum += row[i];
  } else {
    const float4 v = *reinterpret_cast<const float4*>(row);  // BUG: not a multiple of 16 bytes
    sum = v.x + v.y + v.z + v.w;
  }
  y[threadIdx.x] = sum;
}
