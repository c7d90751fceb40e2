// y[b] = how many of the 64 numbers of block b are positive.
#include "common.cuh"

template <bool FIXED>
__global__ void uninitialised_shared(const float* x, int* y) {
  SHARED_ARRAY(int, count, 1);
  if (FIXED) {
    if (threadIdx.x == 0) count[0] = 0;
    __syncthreads();
  }
  if (x[blockIdx.x * 64 + threadIdx.x] > 0) atomicAdd(count, 1);  // BUG: to whatever was there
  __syncthreads();
  if (threadIdx.x == 0) y[blockIdx.x] = count[0];
}
