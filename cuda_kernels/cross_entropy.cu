// Softmax and the cross-entropy with integer labels, in one pass over the logits.
#include "softmax.cuh"

// softmax_cross_entropy_forward<T, L, BLOCK>      loss = lse - x[label];  lse = log(sum(exp(x)))
// Shapes    x (R, C) of T row-major; labels (R) of L; loss (R) of T; lse (R) of Acc<T>
// Launch    grid min(R, 65535), block BLOCK (a multiple of 32), static shared 2 * BLOCK/32 of Acc<T>
// Bytes     RC * sizeof(T)     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>, shifted by the maximum; a label out of range gives NaN
// Source    Milakov, Gimelshein 2018, arXiv:1805.02867
// Measured  not measured
template <typename T, typename L, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_cross_entropy_forward(const T* __restrict__ x, const L* __restrict__ labels,
                                  T* __restrict__ loss, Acc<T>* __restrict__ lse, long long rows,
                                  long long columns) {
  using A = Acc<T>;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * columns;
    RunningSum<A> running;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) running.add(to_float(row[c]));
    running.template combine<BLOCK>();
    if (threadIdx.x == 0) {
      const A height = log(running.sum);
      const long long label = static_cast<long long>(labels[r]);
      const bool known = label >= 0 && label < columns;
      const A picked = known ? to_float(row[label]) - running.top : A(__int_as_float(0x7fc00000));
      loss[r] = from_float<T>(height - picked);
      lse[r] = height + running.top;
    }
  }
}

// softmax_cross_entropy_backward<T, L, BLOCK>      dx = exp(x - lse) (g + g_lse) - g [c == label]
// Shapes    g (R) of T; g_lse, lse (R) of Acc<T>; x, dx (R, C) of T; labels (R) of L
// Launch    any 1-D grid, block BLOCK; one thread an element
// Bytes     2RC * sizeof(T)     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>, rounded once; a label out of range gives NaN
// Source    derivative of the above
// Measured  not measured
template <typename T, typename L, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_cross_entropy_backward(const T* __restrict__ g, const Acc<T>* __restrict__ g_lse,
                                   const T* __restrict__ x, const L* __restrict__ labels,
                                   const Acc<T>* __restrict__ lse, T* __restrict__ dx,
                                   long long rows, long long columns) {
  using A = Acc<T>;
  const long long n = rows * columns;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const long long r = i / columns, c = i % columns;
    const long long label = static_cast<long long>(labels[r]);
    const A gradient = to_float(g[r]);
    A slope = exp(to_float(x[i]) - lse[r]) * (gradient + g_lse[r]);
    if (c == label) slope -= gradient;
    if (label < 0 || label >= columns) slope = A(__int_as_float(0x7fc00000));
    dx[i] = from_float<T>(slope);
  }
}
