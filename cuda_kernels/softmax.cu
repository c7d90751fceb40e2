// Softmax and log-softmax of rows, forward and backward.
#include "softmax.cuh"

// softmax_forward<T, VEC, VALUES, WIDTH, BLOCK>
//           y = exp(x - max) / sum(exp(x - max)) per row; its logarithm if `log_of`
// Shapes    x, y (R, C) of T row-major; C at most VALUES * WIDTH, a multiple of VEC
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; static shared as block_reduce
// Bytes     2RC * sizeof(T)     Flops  5RC     bound: memory
// Numerics  computed in Acc<T>, shifted by the maximum; deterministic; rows of -inf give zeros
// Source    the row stays in registers, so each element is read once
// Measured  not measured
template <typename T, int VEC, int VALUES, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_forward(const T* __restrict__ x, T* __restrict__ y, long long rows, long long columns,
                    bool log_of) {
  using A = Acc<T>;
  using Row = RowLoop<VEC, VALUES, WIDTH>;
  const int n = static_cast<int>(columns);
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    A value[VALUES], top = least(A()), sum = 0;
    Row::load(x + r * columns, n, value);
    Row::each(n, [&](int i, int) { top = Max()(top, value[i]); });
    top = row_reduce<WIDTH>(top, Max());
    Row::each(n, [&](int i, int) {
      value[i] -= top;
      const A power = exp(value[i]);
      sum += power;
      if (!log_of) value[i] = power;
    });
    sum = row_reduce<WIDTH>(sum, Sum());
    const A total = sum > A(0.5) || sum != sum ? sum : A(0.5);  // at least 1, unless all are -inf
    const A shift = log_of ? log(total) : A(0), scale = log_of ? A(1) : A(1) / total;
    Row::store(y + r * columns, n, [&](int i, int) { return (value[i] - shift) * scale; });
  }
}

// softmax_forward_wide<T, VEC, BLOCK>      as softmax_forward, for rows of any length
// Shapes    x, y (R, C) of T row-major; C a multiple of VEC
// Launch    grid min(R, 65535), block BLOCK; static shared as block_reduce
// Bytes     3RC * sizeof(T), of which the second read is from cache     Flops  7RC
//           bound: memory
// Numerics  computed in Acc<T>, shifted by the maximum; deterministic; rows of -inf give zeros
// Source    Milakov, Gimelshein 2018, arXiv:1805.02867; a large block, so that the rows under way
//           at once fit the L2 cache
// Measured  not measured
template <typename T, int VEC, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_forward_wide(const T* __restrict__ x, T* __restrict__ y, long long rows,
                         long long columns, bool log_of) {
  using A = Acc<T>;
  const long long first = threadIdx.x * VEC;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * columns;
    RunningSum<A> running;
    for (long long c = first; c < columns; c += BLOCK * VEC) running.add(load_vec<VEC>(row + c));
    running.template combine<BLOCK>();
    const A top = running.top, sum = running.sum;
    const A total = sum > A(0.5) || sum != sum ? sum : A(0.5);
    const A log_total = log(total), scale = A(1) / total;
    for (long long c = first; c < columns; c += BLOCK * VEC) {
      Vec<T, VEC> group = load_vec<VEC>(row + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A shifted = to_float(group[j]) - top;
        group[j] = from_float<T>(log_of ? shifted - log_total : exp(shifted) * scale);
      }
      store_vec(y + r * columns + c, group);
    }
  }
}

// softmax_backward<T, VEC, VALUES, WIDTH, BLOCK>
//           dx = y (g - sum(g y)) per row; g - exp(y) sum(g) if `log_of`
// Shapes    g, y, dx (R, C) of T row-major; C at most VALUES * WIDTH, a multiple of VEC
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; static shared as block_reduce
// Bytes     3RC * sizeof(T)     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>; deterministic
// Source    derivative of softmax_forward; both rows stay in registers
// Measured  not measured
template <typename T, int VEC, int VALUES, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_backward(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ dx,
                     long long rows, long long columns, bool log_of) {
  using A = Acc<T>;
  using Row = RowLoop<VEC, VALUES, WIDTH>;
  const int n = static_cast<int>(columns);
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    A gradient[VALUES], value[VALUES], sum = 0;
    Row::load(g + r * columns, n, gradient);
    Row::load(y + r * columns, n, value);
    Row::each(n, [&](int i, int) { sum += log_of ? gradient[i] : gradient[i] * value[i]; });
    sum = row_reduce<WIDTH>(sum, Sum());
    Row::store(dx + r * columns, n, [&](int i, int) {
      return log_of ? gradient[i] - exp(value[i]) * sum : value[i] * (gradient[i] - sum);
    });
  }
}

// softmax_backward_wide<T, VEC, BLOCK>      as softmax_backward, for rows of any length
// Shapes    g, y, dx (R, C) of T row-major; C a multiple of VEC
// Launch    grid min(R, 65535), block BLOCK; static shared as block_reduce
// Bytes     5RC * sizeof(T), of which the second reads are from cache     Flops  4RC
//           bound: memory
// Numerics  computed in Acc<T>; deterministic
// Source    derivative of softmax_forward
// Measured  not measured
template <typename T, int VEC, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_backward_wide(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ dx,
                          long long rows, long long columns, bool log_of) {
  using A = Acc<T>;
  const long long first = threadIdx.x * VEC;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *g_row = g + r * columns, *y_row = y + r * columns;
    A sum = 0;
#pragma unroll 2
    for (long long c = first; c < columns; c += BLOCK * VEC) {
      const Vec<T, VEC> gradient = load_vec<VEC>(g_row + c), value = load_vec<VEC>(y_row + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j)
        sum += log_of ? to_float(gradient[j]) : to_float(gradient[j]) * to_float(value[j]);
    }
    sum = block_sum<BLOCK>(sum);
#pragma unroll 2
    for (long long c = first; c < columns; c += BLOCK * VEC) {
      const Vec<T, VEC> gradient = load_vec<VEC>(g_row + c), value = load_vec<VEC>(y_row + c);
      Vec<T, VEC> out;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A d = to_float(gradient[j]), v = to_float(value[j]);
        out[j] = from_float<T>(log_of ? d - exp(v) * sum : v * (d - sum));
      }
      store_vec(dx + r * columns + c, out);
    }
  }
}
