// Kernels about the threads of a block: barriers, shared memory, where a thread is.
#include "common.cuh"

// Every thread writes down where it is.
__global__ void coordinates(int* out) {
  const long long block = blockIdx.x + gridDim.x * (blockIdx.y + (long long)gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  int* at = out + 6 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
  at[0] = blockIdx.x, at[1] = blockIdx.y, at[2] = blockIdx.z;
  at[3] = threadIdx.x, at[4] = threadIdx.y, at[5] = threadIdx.z;
}

// The neighbour's value; wrong in some orders without the barrier.
template <bool BARRIER>
__global__ void rotate_left(const float* x, float* y) {
  SHARED_ARRAY(float, tile, 256);
  const int i = threadIdx.x, n = blockDim.x;
  tile[i] = x[blockIdx.x * n + i];
  if (BARRIER) __syncthreads();
  y[blockIdx.x * n + i] = tile[(i + 1) % n];
}

// The same with CUDA's own keyword, in a template.
template <typename T>
__global__ void rotate_plain(const T* x, T* y) {
  __shared__ T tile[256];
  const int i = threadIdx.x, n = blockDim.x;
  tile[i] = x[blockIdx.x * n + i];
  __syncthreads();
  y[blockIdx.x * n + i] = tile[(i + 1) % n];
}

// Many barriers: a prefix sum by doubling.
__global__ void prefix_sum(const int* x, int* y) {
  SHARED_ARRAY(int, sums, 1024);
  const int i = threadIdx.x, n = blockDim.x;
  sums[i] = x[i];
  __syncthreads();
  for (int step = 1; step < n; step *= 2) {
    const int before = i >= step ? sums[i - step] : 0;
    __syncthreads();
    sums[i] += before;
    __syncthreads();
  }
  y[i] = sums[i];
}

// What shared memory holds before anything was written to it, of all three kinds.
template <typename T>
__global__ void read_unwritten(T* out) {
  SHARED_ARRAY(T, registered, 4);
  __shared__ T plain[4];
  GPUNET_SHARED(T, dynamic);
  const int i = threadIdx.x;
  T* at = out + 12 * blockIdx.x + i;
  at[0] = registered[i], at[4] = plain[i], at[8] = dynamic[i];
  registered[i] = plain[i] = dynamic[i] = T(1);  // must be gone in the next block
}

__global__ void count_and_or(const int* x, int* out) {
  const int i = threadIdx.x, n = blockDim.x;
  out[i] = __syncthreads_count(x[i] > 2);
  out[n + i] = __syncthreads_and(x[i] > 2);
  out[2 * n + i] = __syncthreads_or(x[i] > 2);
  out[3 * n + i] = __syncthreads_count(x[i] > 4);
}

// Half of the threads leave before the barrier.
__global__ void leave_early(float* x) {
  if (threadIdx.x >= 48) return;
  __syncthreads();
  x[threadIdx.x] = 1;
}

// Half of the threads wait at one barrier, half at another.
__global__ void part_ways(float* x) {
  if (threadIdx.x < 40) {
    __syncthreads();
    x[threadIdx.x] = 1;
  } else {
    __syncthreads();
    x[threadIdx.x] = 2;
  }
}

__global__ void sleep_for_flag(int* flag) {
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0) == 0) __nanosleep(100);
    *flag = 2;
  }
  if (threadIdx.x == 63) atomicExch(flag, 1);
}

__global__ void fail_in_thread(const int* x, int which) {
  if (threadIdx.x == 5 && which == 0) assert(x[0] == 7);
  if (threadIdx.x == 5 && which == 1) __trap();
  __syncthreads();
  if (which == 2) load_vec<4>(x + 1);
}

__global__ void greet(const int* x) {
  if (threadIdx.x == 3) printf("thread %d has %d\n", threadIdx.x, x[0]);
}

__constant__ float table[4] = {1, 10, 100, 1000};
__device__ int launches = 0;

// Constants, a global that lives from launch to launch, and the clock, which never goes back.
__global__ void globals(float* out, int* count, bool* forward) {
  const long long before = clock64();
  if (threadIdx.x == 0) *count = atomicAdd(&launches, 1);
  out[threadIdx.x] = table[threadIdx.x % 4];
  forward[threadIdx.x] = clock64() >= before;
}

// Calls itself until the stack is used by so many frames; each thread waits at the deepest point.
__device__ __noinline__ int descend(int depth) {
  volatile int room[64];
  room[0] = depth;
  if (depth == 0) {
    __syncthreads();
    return 0;
  }
  return descend(depth - 1) + (room[0] == depth);
}

__global__ void deep(int* out, int depth) { out[threadIdx.x] = descend(depth); }

// Doubles survive being parked, in whatever registers they lie.
__global__ void keep_registers(const double* x, double* y) {
  const int i = threadIdx.x;
  double a = x[i], b = a * 2, c = a * 3, d = a * 5, e = a * 7, f = a * 11, g = a * 13, h = a * 17;
  __syncthreads();
  y[i] = a + b + c + d + e + f + g + h;
}
