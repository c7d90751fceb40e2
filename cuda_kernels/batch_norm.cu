// Normalisation by statistics of channels, the last axis: batch norm, and steps of group norm.
//
// A table is N samples of R rows of C channels. Batch norm has one sample, of all its rows; group
// norm has statistics of its own for each sample, so what is said of channels there is (N, C).
#include "columns.cuh"
#include "moments.cuh"

// channel_statistics<T, VEC>      mean and sum of squared deviations of each channel over each part
// Shapes    x (N, R, C) of T row-major, C a multiple of VEC; means, squares (N, P, C) of Acc<T>
// Launch    grid (ceil(C / (VEC * x)), P, min(N, 65535)), block (x, 256 / x); static shared
//           3 * 256 * VEC of Acc<T>
// Bytes     NRC * sizeof(T) + 2NPC * sizeof(Acc<T>)     Flops  6NRC     bound: memory
// Numerics  four rows at a time in two passes over registers, then merged by Chan's formula, in a
//           fixed order: deterministic
// Source    Chan, Golub, LeVeque 1979; column slabs and parts of the rows, as in columns.cuh
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(kSlabThreads, 1)
    channel_statistics(const T* __restrict__ x, Acc<T>* __restrict__ means,
                       Acc<T>* __restrict__ squares, long long samples, long long rows,
                       long long columns) {
  using A = Acc<T>;
  constexpr int kRows = 4;  // loaded at once
  const ColumnSlab<VEC> slab(rows);
  for (long long n = blockIdx.z; n < samples; n += gridDim.z) {
    const T* sample = x + n * rows * columns + slab.column;
    Moments<A> seen[VEC] = {};
    for (long long r = slab.first; r < slab.last && slab.column < columns; r += kRows * slab.step) {
      Vec<T, VEC> group[kRows];
      int count = 0;
#pragma unroll
      for (int k = 0; k < kRows; ++k)
        if (r + k * slab.step < slab.last) {
          group[k] = load_vec<VEC>(sample + (r + k * slab.step) * columns);
          count = k + 1;
        }
      const A each = A(1) / A(count), all = seen[0].count + A(count), share = A(count) / all;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        Moments<A> fresh = {A(count), A(0), A(0)};
#pragma unroll
        for (int k = 0; k < kRows; ++k)
          if (k < count) fresh.mean += to_float(group[k][j]);
        fresh.mean *= each;
#pragma unroll
        for (int k = 0; k < kRows; ++k)
          if (k < count) {
            const A deviation = to_float(group[k][j]) - fresh.mean;
            fresh.squares += deviation * deviation;
          }
        const A delta = fresh.mean - seen[j].mean;
        seen[j] = {all, seen[j].mean + delta * share,
                   seen[j].squares + fresh.squares + delta * delta * seen[j].count * share};
      }
    }
    slab.combine(seen, MergeMoments());
    if (threadIdx.y == 0 && slab.column < columns)
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const long long to = (n * gridDim.y + blockIdx.y) * columns + slab.column + j;
        means[to] = seen[j].mean;
        squares[to] = seen[j].squares;
      }
  }
}

// batch_norm_combine<A>      mean and (biased) variance of each channel from those of the parts;
//                            factor = scale / sqrt(variance + epsilon)
// Shapes    means, squares (P, C), scale, mean, variance, factor (C), all of A
// Launch    grid ceil(C / x), block (x, 256 / x), static shared 3 * 256 of A
// Bytes     2PC * sizeof(A)     Flops  8PC     bound: latency
// Numerics  merged by Chan's formula, in a fixed order: deterministic
// Source    Chan, Golub, LeVeque 1979
// Measured  not measured
template <typename A>
__global__ void __launch_bounds__(kSlabThreads, 1)
    batch_norm_combine(const A* __restrict__ means, const A* __restrict__ squares,
                       const A* __restrict__ scale, A* __restrict__ mean,
                       A* __restrict__ variance, A* __restrict__ factor, long long parts,
                       long long rows, long long columns, float epsilon) {
  const ColumnSlab<1> slab(parts);
  const long long c = slab.column, length = ceil_div(rows, parts);
  Moments<A> seen[1] = {};
  if (c < columns)
    for (long long p = slab.first; p < slab.last; p += slab.step) {
      const long long left = rows - p * length, count = left < length ? left : length;
      if (count <= 0) continue;
      const Moments<A> part = {A(count), means[p * columns + c], squares[p * columns + c]};
      seen[0] = MergeMoments()(seen[0], part);
    }
  slab.combine(seen, MergeMoments());
  if (threadIdx.y == 0 && c < columns) {
    const A v = seen[0].squares / A(rows > 0 ? rows : 1);
    mean[c] = seen[0].mean;
    variance[c] = v;
    factor[c] = scale[c] / sqrt(v + A(epsilon));
  }
}

// batch_norm_factor<A, BLOCK>      factor = scale / sqrt(variance + epsilon)
// Shapes    variance, scale, factor (C) of A
// Launch    any 1-D grid, block BLOCK
// Bytes     3C * sizeof(A)     Flops  3C     bound: latency
// Numerics  computed in A; deterministic
// Source    Ioffe, Szegedy 2015, arXiv:1502.03167
// Measured  not measured
template <typename A, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    batch_norm_factor(const A* __restrict__ variance, const A* __restrict__ scale,
                      A* __restrict__ factor, long long columns, float epsilon) {
  for (long long c = grid_start<long long>(); c < columns; c += grid_stride<long long>())
    factor[c] = scale[c] / sqrt(variance[c] + A(epsilon));
}

// channel_apply<T, VEC>      y = (x - center) factor + offset + residual, or max(that, 0) if `relu`
// Shapes    x, residual, y (N, R, C) of T row-major, C a multiple of VEC; center, factor (N, C),
//           offset (C) of Acc<T>; residual may be null
// Launch    grid (ceil(C / (VEC * x)), P, min(N, 65535)), block (x, 256 / x)
// Bytes     2NRC * sizeof(T), with residual 3NRC     Flops  4NRC     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Ioffe, Szegedy 2015, arXiv:1502.03167; a thread keeps the numbers of its channels
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(kSlabThreads, 1)
    channel_apply(const T* __restrict__ x, const T* __restrict__ residual,
                  const Acc<T>* __restrict__ center, const Acc<T>* __restrict__ factor,
                  const Acc<T>* __restrict__ offset, T* __restrict__ y, long long samples,
                  long long rows, long long columns, bool relu) {
  using A = Acc<T>;
  const ColumnSlab<VEC> slab(rows);
  if (slab.column >= columns) return;  // no barrier follows
  const Vec<A, VEC> shift = load_each<VEC>(offset + slab.column);
  for (long long n = blockIdx.z; n < samples; n += gridDim.z) {
    const Vec<A, VEC> middle = load_each<VEC>(center + n * columns + slab.column);
    const Vec<A, VEC> slope = load_each<VEC>(factor + n * columns + slab.column);
#pragma unroll 4
    for (long long r = slab.first; r < slab.last; r += slab.step) {
      const long long at = (n * rows + r) * columns + slab.column;
      Vec<T, VEC> group = load_vec<VEC>(x + at), added;
      if (residual != nullptr) added = load_vec<VEC>(residual + at);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        A value = (to_float(group[j]) - middle[j]) * slope[j] + shift[j];
        if (residual != nullptr) value += to_float(added[j]);
        if (relu && value < A(0)) value = A(0);
        group[j] = from_float<T>(value);
      }
      store_vec(y + at, group);
    }
  }
}

// channel_backward_sums<T, VEC>      sums of d and of d (x - center) over each part, where d = g,
//                                    or 0 where the ReLU was 0: y <= 0 if y is given, else
//                                    (x - center) factor + offset <= 0 if `relu`
// Shapes    g, x, y, masked (N, R, C) of T row-major, C a multiple of VEC; center, factor (N, C),
//           offset (C), sums, products (N, P, C) of Acc<T>; y is null, or `masked` takes d
// Launch    grid (ceil(C / (VEC * x)), P, min(N, 65535)), block (x, 256 / x); static shared
//           256 * VEC of Acc<T>
// Bytes     2NRC * sizeof(T), with y 4NRC     Flops  5NRC     bound: memory
// Numerics  added in Acc<T>, in a fixed order: deterministic
// Source    the mask is recomputed, so a ReLU after the norm costs no memory
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(kSlabThreads, 1)
    channel_backward_sums(const T* __restrict__ g, const T* __restrict__ x,
                          const T* __restrict__ y, const Acc<T>* __restrict__ center,
                          const Acc<T>* __restrict__ factor, const Acc<T>* __restrict__ offset,
                          T* __restrict__ masked, Acc<T>* __restrict__ sums,
                          Acc<T>* __restrict__ products, long long samples, long long rows,
                          long long columns, bool relu) {
  using A = Acc<T>;
  const ColumnSlab<VEC> slab(rows);
  const bool mine = slab.column < columns;
  for (long long n = blockIdx.z; n < samples; n += gridDim.z) {
    A sum[VEC] = {}, product[VEC] = {};
    if (mine) {
      const Vec<A, VEC> middle = load_each<VEC>(center + n * columns + slab.column);
      const Vec<A, VEC> slope = load_each<VEC>(factor + n * columns + slab.column);
      const Vec<A, VEC> shift = load_each<VEC>(offset + slab.column);
#pragma unroll 2
      for (long long r = slab.first; r < slab.last; r += slab.step) {
        const long long at = (n * rows + r) * columns + slab.column;
        Vec<T, VEC> gradient = load_vec<VEC>(g + at), result;
        const Vec<T, VEC> group = load_vec<VEC>(x + at);
        if (y != nullptr) result = load_vec<VEC>(y + at);
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const A centered = to_float(group[j]) - middle[j];
          bool kept = true;
          if (y != nullptr)
            kept = to_float(result[j]) > A(0);
          else if (relu)
            kept = centered * slope[j] + shift[j] > A(0);
          if (!kept) gradient[j] = from_float<T>(A(0));
          sum[j] += to_float(gradient[j]);
          product[j] += to_float(gradient[j]) * centered;
        }
        if (y != nullptr) store_vec(masked + at, gradient);
      }
    }
    slab.add(sum);
    slab.add(product);
    if (threadIdx.y == 0 && mine)
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const long long to = (n * gridDim.y + blockIdx.y) * columns + slab.column + j;
        sums[to] = sum[j];
        products[to] = product[j];
      }
  }
}

// batch_norm_backward_combine<A>      dscale = rstd sum(d (x - mean)),  doffset = sum(d), and
//           slope = (2 g_variance - factor rstd dscale) / R,  shift = (g_mean - factor doffset) / R
// Shapes    sums, products (P, C), all others (C), of A
// Launch    grid ceil(C / x), block (x, 256 / x), static shared 256 of A
// Bytes     2PC * sizeof(A)     Flops  2PC     bound: latency
// Numerics  added in a fixed order: deterministic
// Source    Ioffe, Szegedy 2015, arXiv:1502.03167
// Measured  not measured
template <typename A>
__global__ void __launch_bounds__(kSlabThreads, 1)
    batch_norm_backward_combine(const A* __restrict__ sums, const A* __restrict__ products,
                                const A* __restrict__ g_mean, const A* __restrict__ g_variance,
                                const A* __restrict__ factor, const A* __restrict__ variance,
                                A* __restrict__ dscale, A* __restrict__ doffset,
                                A* __restrict__ slope, A* __restrict__ shift, long long parts,
                                long long rows, long long columns, float epsilon) {
  const ColumnSlab<1> slab(parts);
  const long long c = slab.column;
  A sum[1] = {}, product[1] = {};
  if (c < columns)
    for (long long p = slab.first; p < slab.last; p += slab.step) {
      sum[0] += sums[p * columns + c];
      product[0] += products[p * columns + c];
    }
  slab.add(sum);
  slab.add(product);
  if (threadIdx.y == 0 && c < columns) {
    const A count = A(rows > 0 ? rows : 1), rstd = A(1) / sqrt(variance[c] + A(epsilon));
    dscale[c] = product[0] * rstd;
    doffset[c] = sum[0];
    slope[c] = (A(2) * g_variance[c] - factor[c] * rstd * (product[0] * rstd)) / count;
    shift[c] = (g_mean[c] - factor[c] * sum[0]) / count;
  }
}

// channel_backward_apply<T, VEC>      dx = d factor + (x - center) slope + shift, where d = g, or 0
//                                     where (x - center) factor + offset <= 0 if `relu`
// Shapes    g, x, dx (N, R, C) of T row-major, C a multiple of VEC; center, factor, slope, shift
//           (N, C), offset (C) of Acc<T>
// Launch    grid (ceil(C / (VEC * x)), P, min(N, 65535)), block (x, 256 / x)
// Bytes     3NRC * sizeof(T)     Flops  6NRC     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Ioffe, Szegedy 2015, arXiv:1502.03167
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(kSlabThreads, 1)
    channel_backward_apply(const T* __restrict__ g, const T* __restrict__ x,
                           const Acc<T>* __restrict__ center, const Acc<T>* __restrict__ factor,
                           const Acc<T>* __restrict__ offset, const Acc<T>* __restrict__ slope,
                           const Acc<T>* __restrict__ shift, T* __restrict__ dx,
                           long long samples, long long rows, long long columns, bool relu) {
  using A = Acc<T>;
  const ColumnSlab<VEC> slab(rows);
  if (slab.column >= columns) return;  // no barrier follows
  for (long long n = blockIdx.z; n < samples; n += gridDim.z) {
    const long long own = n * columns + slab.column;
    const Vec<A, VEC> middle = load_each<VEC>(center + own), scale = load_each<VEC>(factor + own);
    const Vec<A, VEC> tilt = load_each<VEC>(slope + own), move = load_each<VEC>(shift + own);
    const Vec<A, VEC> added = load_each<VEC>(offset + slab.column);
#pragma unroll 2
    for (long long r = slab.first; r < slab.last; r += slab.step) {
      const long long at = (n * rows + r) * columns + slab.column;
      const Vec<T, VEC> gradient = load_vec<VEC>(g + at), group = load_vec<VEC>(x + at);
      Vec<T, VEC> out;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A centered = to_float(group[j]) - middle[j];
        const bool kept = !relu || centered * scale[j] + added[j] > A(0);
        const A d = kept ? to_float(gradient[j]) : A(0);
        out[j] = from_float<T>(d * scale[j] + centered * tilt[j] + move[j]);
      }
      store_vec(dx + at, out);
    }
  }
}
