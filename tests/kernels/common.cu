// Kernels that call everything in cuda_kernels/common.cuh and philox.cuh.
#include "common.cuh"
#include "philox.cuh"

template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK) block_sums(const T* __restrict__ x, T* __restrict__ y,
                                                    long long n) {
  Acc<T> sum = 0;
  for (long long i = threadIdx.x; i < n; i += BLOCK) sum += to_float(x[blockIdx.x * n + i]);
  sum = block_sum<BLOCK>(sum);
  if (threadIdx.x == BLOCK - 1) y[blockIdx.x] = from_float<T>(sum);
}

template <typename T, int BLOCK, typename Operation>
__global__ void block_extremes(const T* __restrict__ x, T* __restrict__ y, long long n) {
  using A = Acc<T>;
  A best = Operation::template identity<A>();
  for (long long i = threadIdx.x; i < n; i += BLOCK)
    best = Operation()(best, to_float(x[blockIdx.x * n + i]));
  best = block_reduce<BLOCK>(best, Operation());
  y[blockIdx.x * BLOCK + threadIdx.x] = from_float<T>(best);
}

template <int WIDTH>
__global__ void warp_sums(const float* x, float* y) {
  y[threadIdx.x] = warp_sum<WIDTH>(x[threadIdx.x]);
}

template <typename T, typename Index>
__global__ void scale_vectors(const T* __restrict__ x, T* __restrict__ y, Index n, float a) {
  constexpr int N = kVec<T>;
  for (Index i = grid_start<Index>(); i < ceil_div<Index>(n, N); i += grid_stride<Index>()) {
    if (i * N + N <= n) {
      Vec<T, N> v = load_vec<N>(x + i * N);
      for (int j = 0; j < N; ++j) v[j] = from_float<T>(to_float(v[j]) * a);
      store_vec(y + i * N, v);
    } else {
      for (Index j = i * N; j < n; ++j) y[j] = from_float<T>(to_float(x[j]) * a);
    }
  }
}

__global__ void uniform(float* y, unsigned long long key0, unsigned long long key1, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    y[i] = block_float(philox_block(key0, key1, i / 8), i % 8);
}

__global__ void words(unsigned long long* y, unsigned long long key0, unsigned long long key1,
                      unsigned long long first, double* z) {
  const PhiloxBlock block = philox_block(key0, key1, first + threadIdx.x);
  for (int i = 0; i < 4; ++i) {
    y[4 * threadIdx.x + i] = block.word[i];
    z[4 * threadIdx.x + i] = uniform_double(block.word[i]);
  }
}
