// Thread 0 waits for thread 1 to write its number.
#include "common.cuh"

template <bool FIXED>
__global__ void deadlock(const float* x, float* y, int* ready) {
  if (FIXED && threadIdx.x == 1) {
    y[1] = x[1];
    __threadfence();
    atomicExch(ready, 1);
  }
  if (threadIdx.x == 0) {
    while (atomicAdd(ready, 0) == 0) __nanosleep(100);  // BUG: thread 1 waits at the barrier
    y[0] = y[1];
  }
  __syncthreads();
  if (!FIXED && threadIdx.x == 1) {
    y[1] = x[1];
    __threadfence();
    atomicExch(ready, 1);
  }
}
