// Softmax and log-softmax of rows, forward and backward.
#include "softmax.cuh"

// softmax_forward<T, LOG, BLOCK>      y = exp(x - max) / sum(exp(x - max)) per row; its log if LOG
// Shapes    x, y (R, C) of T row-major
// Launch    grid min(R, 65535), block BLOCK (a multiple of 32), static shared 2 * BLOCK/32 of Acc<T>
// Bytes     3RC * sizeof(T), of which the second read is from cache     Flops  5RC     bound: memory
// Numerics  computed in Acc<T>, shifted by the maximum; deterministic; rows of -inf give zeros
// Source    Milakov, Gimelshein 2018, arXiv:1805.02867
// Measured  not measured
template <typename T, bool LOG, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_forward(const T* __restrict__ x, T* __restrict__ y, long long rows,
                    long long columns) {
  using A = Acc<T>;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * columns;
    T* out = y + r * columns;
    RunningSum<A> running;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) running.add(to_float(row[c]));
    running.template combine<BLOCK>();
    const A sum = running.sum > A(0.5) || running.sum != running.sum ? running.sum : A(0.5);
    const A log_sum = LOG ? log(sum) : A(0), scale = A(1) / sum;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A shifted = to_float(row[c]) - running.top;
      out[c] = from_float<T>(LOG ? shifted - log_sum : exp(shifted) * scale);
    }
  }
}

// softmax_backward<T, LOG, BLOCK>      dx = y (g - sum(g y)) per row; g - exp(y) sum(g) if LOG
// Shapes    g, y, dx (R, C) of T row-major; y is the result of softmax_forward
// Launch    grid min(R, 65535), block BLOCK (a multiple of 32), static shared BLOCK/32 of Acc<T>
// Bytes     5RC * sizeof(T), of which the second reads are from cache     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>; deterministic
// Source    derivative of the above
// Measured  not measured
template <typename T, bool LOG, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_backward(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ dx,
                     long long rows, long long columns) {
  using A = Acc<T>;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *g_row = g + r * columns, *y_row = y + r * columns;
    T* out = dx + r * columns;
    A sum = 0;
    for (long long c = threadIdx.x; c < columns; c += BLOCK)
      sum += LOG ? to_float(g_row[c]) : to_float(g_row[c]) * to_float(y_row[c]);
    sum = block_sum<BLOCK>(sum);
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A g_c = to_float(g_row[c]), y_c = to_float(y_row[c]);
      out[c] = from_float<T>(LOG ? g_c - exp(y_c) * sum : y_c * (g_c - sum));
    }
  }
}
