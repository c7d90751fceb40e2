// What follows every matrix product in a layer, in one pass over the memory.
#include "columns.cuh"
#include "scalar.cuh"

// bias_activation_forward<T, F, VEC>      y = F(x + bias)
// Shapes    x, y (R, C) of T row-major, C a multiple of VEC; bias (C) of T
// Launch    grid (ceil(C / (VEC * x)), P), block (x, 256 / x)
// Bytes     (2RC + C) * sizeof(T)     Flops  2RC     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    a thread keeps the bias of its columns and walks down the rows, so no index is divided
// Measured  not measured
template <typename T, typename F, int VEC>
__global__ void __launch_bounds__(kSlabThreads, 1)
    bias_activation_forward(const T* __restrict__ x, const T* __restrict__ bias,
                            T* __restrict__ y, long long rows, long long columns) {
  const F f;
  const ColumnSlab<VEC> slab(rows);
  if (slab.column >= columns) return;  // no barrier follows
  const Vec<T, VEC> b = load_each<VEC>(bias + slab.column);
#pragma unroll 4
  for (long long r = slab.first; r < slab.last; r += slab.step) {
    const long long at = r * columns + slab.column;
    Vec<T, VEC> group = load_vec<VEC>(x + at);
#pragma unroll
    for (int j = 0; j < VEC; ++j)
      group[j] = from_float<T>(f(to_float(group[j]) + to_float(b[j])));
    store_vec(y + at, group);
  }
}

// bias_activation_backward<T, F, INPUT, VEC>      dx = g F(s), with s = x + bias if INPUT, else y;
//                                                 partial[p] = sum of dx over part p of the rows
// Shapes    g, s, dx (R, C) of T row-major, C a multiple of VEC; bias (C) of T or null; partial
//           (P, C) of Acc<T>
// Launch    grid (ceil(C / (VEC * x)), P), block (x, 256 / x), static shared 256 * VEC of Acc<T>
// Bytes     3RC * sizeof(T) + PC * sizeof(Acc<T>)     Flops  3RC     bound: memory
// Numerics  computed in Acc<T>, summed in a fixed order, before dx is rounded: deterministic
// Source    the bias gradient in the same pass, in registers, as in llm.c; a second kernel adds
//           the parts
// Measured  not measured
template <typename T, typename F, bool INPUT, int VEC>
__global__ void __launch_bounds__(kSlabThreads, 1)
    bias_activation_backward(const T* __restrict__ g, const T* __restrict__ s,
                             const T* __restrict__ bias, T* __restrict__ dx,
                             Acc<T>* __restrict__ partial, long long rows, long long columns) {
  using A = Acc<T>;
  const F f;
  const ColumnSlab<VEC> slab(rows);
  A total[VEC] = {};
  if (slab.column < columns) {
    Vec<T, VEC> b;
    if constexpr (INPUT) b = load_each<VEC>(bias + slab.column);
#pragma unroll 2
    for (long long r = slab.first; r < slab.last; r += slab.step) {
      const long long at = r * columns + slab.column;
      Vec<T, VEC> gradient = load_vec<VEC>(g + at);
      const Vec<T, VEC> kept = load_vec<VEC>(s + at);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A point = INPUT ? to_float(kept[j]) + to_float(b[j]) : to_float(kept[j]);
        const A slope = to_float(gradient[j]) * f(point);
        total[j] += slope;
        gradient[j] = from_float<T>(slope);
      }
      store_vec(dx + at, gradient);
    }
  }
  slab.add(total);
  if (threadIdx.y == 0 && slab.column < columns)
#pragma unroll
    for (int j = 0; j < VEC; ++j)
      partial[blockIdx.y * columns + slab.column + j] = total[j];
}
