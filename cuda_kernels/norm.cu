// Layer normalisation of rows, forward and backward.
#include "common.cuh"

// layer_norm_forward<T, BLOCK>      y = (x - mean) * rstd * scale + offset, per row
// Shapes    x, y (R, C) of T row-major; scale, offset (C) of T; mean, rstd (R) of Acc<T>
// Launch    grid min(R, 65535), block BLOCK (a multiple of 32), static shared BLOCK/32 of Acc<T>
// Bytes     (2RC + 2C) * sizeof(T) + 2R * sizeof(Acc<T>)     Flops  8RC     bound: memory
// Numerics  two-pass variance in Acc<T>, the second pass from cache; deterministic
// Source    Ba, Kiros, Hinton 2016, arXiv:1607.06450
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    layer_norm_forward(const T* __restrict__ x, const T* __restrict__ scale,
                       const T* __restrict__ offset, T* __restrict__ y, Acc<T>* __restrict__ mean,
                       Acc<T>* __restrict__ rstd, long long rows, long long columns,
                       float epsilon) {
  using A = Acc<T>;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * columns;
    T* out = y + r * columns;
    A sum = 0;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) sum += to_float(row[c]);
    const A m = block_sum<BLOCK>(sum) / A(columns);
    A squares = 0;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A centered = to_float(row[c]) - m;
      squares += centered * centered;
    }
    const A s = A(1) / sqrt(block_sum<BLOCK>(squares) / A(columns) + A(epsilon));
    for (long long c = threadIdx.x; c < columns; c += BLOCK)
      out[c] = from_float<T>((to_float(row[c]) - m) * s * to_float(scale[c]) +
                             to_float(offset[c]));
    if (threadIdx.x == 0) {
      mean[r] = m;
      rstd[r] = s;
    }
  }
}

// layer_norm_backward<T, BLOCK>      dx = rstd (d - first - hat second), with d = g scale,
//                                    hat = (x - mean) rstd, and the means over the row of
//                                    first = d - g_mean / rstd,  second = d hat + g_rstd rstd
// Shapes    g, x, dx (R, C) of T; scale (C) of T; g_mean, g_rstd, mean, rstd (R) of Acc<T>;
//           partial_scale, partial_offset (B, C) of Acc<T>: sums over the rows of each block
// Launch    grid B <= R, block BLOCK (a multiple of 32), static shared BLOCK/32 of Acc<T>
// Bytes     5RC * sizeof(T) + 2BC * sizeof(Acc<T>)     Flops  14RC     bound: memory
// Numerics  computed in Acc<T>; each block adds its rows in order: deterministic
// Source    Ba, Kiros, Hinton 2016; one pass for all gradients as in Apex and llm.c
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    layer_norm_backward(const T* __restrict__ g, const Acc<T>* __restrict__ g_mean,
                        const Acc<T>* __restrict__ g_rstd, const T* __restrict__ x,
                        const T* __restrict__ scale, const Acc<T>* __restrict__ mean,
                        const Acc<T>* __restrict__ rstd, T* __restrict__ dx,
                        Acc<T>* __restrict__ partial_scale, Acc<T>* __restrict__ partial_offset,
                        long long rows, long long columns) {
  using A = Acc<T>;
  A* scale_sums = partial_scale + blockIdx.x * columns;
  A* offset_sums = partial_offset + blockIdx.x * columns;
  for (long long c = threadIdx.x; c < columns; c += BLOCK) scale_sums[c] = offset_sums[c] = 0;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *row = x + r * columns, *g_row = g + r * columns;
    T* out = dx + r * columns;
    const A m = mean[r], s = rstd[r];
    A first = 0, second = 0;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A gradient = to_float(g_row[c]), hat = (to_float(row[c]) - m) * s;
      const A d = gradient * to_float(scale[c]);
      first += d;
      second += d * hat;
      scale_sums[c] += gradient * hat;  // column c belongs to this thread alone
      offset_sums[c] += gradient;
    }
    first = (block_sum<BLOCK>(first) - g_mean[r] / s) / A(columns);
    second = (block_sum<BLOCK>(second) + g_rstd[r] * s) / A(columns);
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A d = to_float(g_row[c]) * to_float(scale[c]), hat = (to_float(row[c]) - m) * s;
      out[c] = from_float<T>(s * (d - first - hat * second));
    }
  }
}
