// What follows every matrix product in a layer, in one pass over the memory.
#include "scalar.cuh"

// bias_activation_forward<T, F, BLOCK>      y = F(x + bias)
// Shapes    x, y (R, C) of T row-major; bias (C) of T
// Launch    any 1-D grid, block BLOCK
// Bytes     (2RC + C) * sizeof(T)     Flops  2RC     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    grid-stride loop
// Measured  not measured
template <typename T, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    bias_activation_forward(const T* __restrict__ x, const T* __restrict__ bias,
                            T* __restrict__ y, long long n, long long columns) {
  const F f;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    y[i] = from_float<T>(f(to_float(x[i]) + to_float(bias[i % columns])));
}

// bias_activation_backward<T, F, INPUT>      dx = g F(s), with s = x + bias if INPUT, else s = y;
//                                            partial[b] = sum of dx over the rows of block b
// Shapes    g, s, dx (R, C) of T row-major; bias (C) of T; partial (B, C) of Acc<T>
// Launch    grid (ceil(C / 32), B), block (32, 8), static shared 256 of Acc<T>
// Bytes     3RC * sizeof(T)     Flops  3RC     bound: memory
// Numerics  computed in Acc<T>, summed in a fixed order: deterministic
// Source    the bias gradient in the same pass, as in llm.c; reduce_columns adds the partial sums
// Measured  not measured
template <typename T, typename F, bool INPUT>
__global__ void __launch_bounds__(256, 1)
    bias_activation_backward(const T* __restrict__ g, const T* __restrict__ s,
                             const T* __restrict__ bias, T* __restrict__ dx,
                             Acc<T>* __restrict__ partial, long long rows, long long columns) {
  using A = Acc<T>;
  SHARED_ARRAY(A, sums, 256);
  const F f;
  const long long c = static_cast<long long>(blockIdx.x) * 32 + threadIdx.x;
  const int place = threadIdx.y * 32 + threadIdx.x;
  A total = 0;
  if (c < columns) {
    const A b = INPUT ? to_float(bias[c]) : A(0);
    for (long long r = static_cast<long long>(blockIdx.y) * 8 + threadIdx.y; r < rows;
         r += static_cast<long long>(gridDim.y) * 8) {
      const long long i = r * columns + c;
      const A gradient = to_float(g[i]) * f(to_float(s[i]) + b);
      dx[i] = from_float<T>(gradient);
      total += gradient;
    }
  }
  sums[place] = total;
  __syncthreads();
  for (int half = 4; half > 0; half /= 2) {
    if (threadIdx.y < half) sums[place] += sums[place + half * 32];
    __syncthreads();
  }
  if (threadIdx.y == 0 && c < columns) partial[blockIdx.y * columns + c] = sums[threadIdx.x];
}
