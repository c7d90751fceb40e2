// Layer normalisation and RMS normalisation of rows, forward and backward.
//
// RMS normalisation is layer normalisation with mean 0 and without offset, so they share kernels:
// `mean`, and what else it does not have, are null pointers. All threads take the same branch.
#include "columns.cuh"
#include "row.cuh"

// norm_forward<T, VEC, VALUES, WIDTH, BLOCK>
//           y = (t - mean) * rstd * scale + offset per row, of t = x + residual
// Shapes    x, residual, total, y (R, C) of T row-major, C at most VALUES * WIDTH and a multiple
//           of VEC; scale, offset (C) of T; mean, rstd (R) of Acc<T>; residual, total may be null
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; static shared as block_reduce
// Bytes     (2RC + 2C) * sizeof(T) + 2R * sizeof(Acc<T>), with residual 4RC     Flops  8RC
//           bound: memory
// Numerics  two-pass variance of the registers, in Acc<T>; deterministic
// Source    Ba, Kiros, Hinton 2016, arXiv:1607.06450; Zhang, Sennrich 2019, arXiv:1910.07467
// Measured  not measured
template <typename T, int VEC, int VALUES, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    norm_forward(const T* __restrict__ x, const T* __restrict__ residual,
                 const T* __restrict__ scale, const T* __restrict__ offset, T* __restrict__ y,
                 T* __restrict__ total, Acc<T>* __restrict__ mean, Acc<T>* __restrict__ rstd,
                 long long rows, long long columns, float epsilon) {
  using A = Acc<T>;
  using Row = RowLoop<VEC, VALUES, WIDTH>;
  const int n = static_cast<int>(columns);
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    A value[VALUES], sum = 0, squares = 0;
    Row::load(x + r * columns, n, value);
    if (residual != nullptr)
      Row::groups(n, [&](int i, int c) {
        Vec<T, VEC> group = load_vec<VEC>(residual + r * columns + c);
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          value[i + j] += to_float(group[j]);
          group[j] = from_float<T>(value[i + j]);
        }
        store_vec(total + r * columns + c, group);
      });
    if (mean != nullptr) {
      Row::each(n, [&](int i, int) { sum += value[i]; });
      sum = row_reduce<WIDTH>(sum, Sum()) / A(columns);
    }
    Row::each(n, [&](int i, int) {
      value[i] -= sum;
      squares += value[i] * value[i];
    });
    const A s = A(1) / sqrt(row_reduce<WIDTH>(squares, Sum()) / A(columns) + A(epsilon));
    Row::groups(n, [&](int i, int c) {
      const Vec<T, VEC> factor = load_vec<VEC>(scale + c);
      Vec<T, VEC> shift, out;
      if (offset != nullptr) shift = load_vec<VEC>(offset + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A scaled = value[i + j] * s * to_float(factor[j]);
        out[j] = from_float<T>(offset != nullptr ? scaled + to_float(shift[j]) : scaled);
      }
      store_vec(y + r * columns + c, out);
    });
    if (threadIdx.x % WIDTH == 0) {
      if (mean != nullptr) mean[r] = sum;
      rstd[r] = s;
    }
  }
}

// norm_forward_wide<T, BLOCK>      as norm_forward, for rows of any length
// Shapes    x, residual, total, y (R, C) of T row-major; scale, offset (C) of T; mean, rstd (R) of
//           Acc<T>; residual, total may be null
// Launch    grid min(R, 65535), block BLOCK, static shared as block_reduce
// Bytes     (4RC + 2C) * sizeof(T), of which two reads are from cache     Flops  8RC
//           bound: memory
// Numerics  two-pass variance in Acc<T>, the second pass from cache; deterministic
// Source    Ba, Kiros, Hinton 2016, arXiv:1607.06450; Zhang, Sennrich 2019, arXiv:1910.07467
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    norm_forward_wide(const T* __restrict__ x, const T* __restrict__ residual,
                      const T* __restrict__ scale, const T* __restrict__ offset,
                      T* __restrict__ y, T* __restrict__ total,
                      Acc<T>* __restrict__ mean, Acc<T>* __restrict__ rstd, long long rows,
                      long long columns, float epsilon) {
  using A = Acc<T>;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const long long start = r * columns;
    const auto value = [&](long long c) {
      return to_float(x[start + c]) + (residual != nullptr ? to_float(residual[start + c]) : A(0));
    };
    A m = 0, squares = 0;
    if (mean != nullptr) {
      A sum = 0;
      for (long long c = threadIdx.x; c < columns; c += BLOCK) sum += value(c);
      m = block_sum<BLOCK>(sum) / A(columns);
    }
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A centered = value(c) - m;
      squares += centered * centered;
    }
    const A s = A(1) / sqrt(block_sum<BLOCK>(squares) / A(columns) + A(epsilon));
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A t = value(c), scaled = (t - m) * s * to_float(scale[c]);
      if (residual != nullptr) total[start + c] = from_float<T>(t);
      y[start + c] = from_float<T>(offset != nullptr ? scaled + to_float(offset[c]) : scaled);
    }
    if (threadIdx.x == 0) {
      if (mean != nullptr) mean[r] = m;
      rstd[r] = s;
    }
  }
}

// norm_backward<T, VEC, VALUES, WIDTH, BLOCK>
//           dx = rstd (d - first - hat second) + g_total, with d = g scale, hat = (x - mean) rstd,
//           and the means over the row of  first = d - g_mean / rstd,  second = d hat + g_rstd rstd
// Shapes    g, g_total, x, dx (R, C) of T, C at most VALUES * WIDTH and a multiple of VEC; scale
//           (C) of T; g_mean, g_rstd, mean, rstd (R) of Acc<T>; partial_scale, partial_offset
//           (B, C) of Acc<T>: sums of g hat and of g over the rows of each block; g_total may be
//           null
// Launch    grid B, block BLOCK: BLOCK/WIDTH rows at a time; static shared VALUES * WIDTH of Acc<T>
//           where a warp has a row, else as block_reduce
// Bytes     3RC * sizeof(T) + 2BC * sizeof(Acc<T>), with g_total 4RC     Flops  14RC
//           bound: memory
// Numerics  computed in Acc<T>; a thread adds its rows in order, then warps in order: deterministic
// Source    all gradients in one pass, the sums over rows in registers, as in llm.c and Apex
// Measured  not measured
template <typename T, int VEC, int VALUES, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    norm_backward(const T* __restrict__ g, const T* __restrict__ g_total,
                  const Acc<T>* __restrict__ g_mean, const Acc<T>* __restrict__ g_rstd,
                  const T* __restrict__ x, const T* __restrict__ scale,
                  const Acc<T>* __restrict__ mean, const Acc<T>* __restrict__ rstd,
                  T* __restrict__ dx, Acc<T>* __restrict__ partial_scale,
                  Acc<T>* __restrict__ partial_offset, long long rows, long long columns) {
  using A = Acc<T>;
  using Row = RowLoop<VEC, VALUES, WIDTH>;
  const int n = static_cast<int>(columns);
  A scale_sum[VALUES] = {}, offset_sum[VALUES] = {};
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    A d[VALUES], hat[VALUES], first = 0, second = 0;
    const A s = rstd[r], m = mean != nullptr ? mean[r] : A(0);
    Row::load(g + r * columns, n, d);
    Row::load(x + r * columns, n, hat);
    Row::groups(n, [&](int i, int c) {
      const Vec<T, VEC> factor = load_vec<VEC>(scale + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        hat[i + j] = (hat[i + j] - m) * s;
        scale_sum[i + j] += d[i + j] * hat[i + j];
        offset_sum[i + j] += d[i + j];
        d[i + j] *= to_float(factor[j]);
        first += d[i + j];
        second += d[i + j] * hat[i + j];
      }
    });
    first = row_reduce<WIDTH>(first, Sum());
    first = mean != nullptr ? (first - g_mean[r] / s) / A(columns) : A(0);
    second = (row_reduce<WIDTH>(second, Sum()) + g_rstd[r] * s) / A(columns);
    Row::groups(n, [&](int i, int c) {
      Vec<T, VEC> out, also;
      if (g_total != nullptr) also = load_vec<VEC>(g_total + r * columns + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A slope = s * (d[i + j] - first - hat[i + j] * second);
        out[j] = from_float<T>(g_total != nullptr ? slope + to_float(also[j]) : slope);
      }
      store_vec(dx + r * columns + c, out);
    });
  }
  Row::template add_rows<BLOCK>(scale_sum, n, partial_scale + blockIdx.x * columns);
  if (partial_offset != nullptr)
    Row::template add_rows<BLOCK>(offset_sum, n, partial_offset + blockIdx.x * columns);
}

// norm_backward_wide<T, BLOCK>      dx as norm_backward gives it, for rows of any length
// Shapes    g, g_total, x, dx (R, C) of T; scale (C) of T; g_mean, g_rstd, mean, rstd (R) of
//           Acc<T>; g_total may be null
// Launch    grid min(R, 65535), block BLOCK, static shared as block_reduce
// Bytes     5RC * sizeof(T), of which the second reads are from cache     Flops  14RC
//           bound: memory
// Numerics  computed in Acc<T>; deterministic
// Source    Ba, Kiros, Hinton 2016; norm_backward_columns gives the other gradients
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    norm_backward_wide(const T* __restrict__ g, const T* __restrict__ g_total,
                       const Acc<T>* __restrict__ g_mean, const Acc<T>* __restrict__ g_rstd,
                       const T* __restrict__ x, const T* __restrict__ scale,
                       const Acc<T>* __restrict__ mean, const Acc<T>* __restrict__ rstd,
                       T* __restrict__ dx, long long rows, long long columns) {
  using A = Acc<T>;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *row = x + r * columns, *g_row = g + r * columns;
    const A s = rstd[r], m = mean != nullptr ? mean[r] : A(0);
    A first = 0, second = 0;
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A d = to_float(g_row[c]) * to_float(scale[c]);
      first += d;
      second += d * (to_float(row[c]) - m) * s;
    }
    first = block_sum<BLOCK>(first);
    first = mean != nullptr ? (first - g_mean[r] / s) / A(columns) : A(0);
    second = (block_sum<BLOCK>(second) + g_rstd[r] * s) / A(columns);
    for (long long c = threadIdx.x; c < columns; c += BLOCK) {
      const A d = to_float(g_row[c]) * to_float(scale[c]), hat = (to_float(row[c]) - m) * s;
      const A also = g_total != nullptr ? to_float(g_total[r * columns + c]) : A(0);
      dx[r * columns + c] = from_float<T>(s * (d - first - hat * second) + also);
    }
  }
}

// norm_backward_columns<T>      partial_scale[b] = sum of g hat, partial_offset[b] = sum of
//                                       g, over part b of the rows
// Shapes    g, x (R, C) of T row-major; mean, rstd (R) of Acc<T>; partial_scale, partial_offset
//           (B, C) of Acc<T>
// Launch    grid (ceil(C / blockDim.x), B), block (x, 256 / x), static shared 256 of Acc<T>
// Bytes     2RC * sizeof(T)     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>, added in a fixed order: deterministic
// Source    column slabs and parts of the rows, as in columns.cuh
// Measured  not measured
template <typename T>
__global__ void __launch_bounds__(256, 1)
    norm_backward_columns(const T* __restrict__ g, const T* __restrict__ x,
                          const Acc<T>* __restrict__ mean, const Acc<T>* __restrict__ rstd,
                          Acc<T>* __restrict__ partial_scale,
                          Acc<T>* __restrict__ partial_offset, long long rows,
                          long long columns) {
  using A = Acc<T>;
  const ColumnSlab<1> slab(rows);
  A scale_sum[1] = {}, offset_sum[1] = {};
  if (slab.column < columns)
    for (long long r = slab.first; r < slab.last; r += slab.step) {
      const A gradient = to_float(g[r * columns + slab.column]);
      const A middle = mean != nullptr ? mean[r] : A(0);
      const A centered = to_float(x[r * columns + slab.column]) - middle;
      scale_sum[0] += gradient * centered * rstd[r];
      offset_sum[0] += gradient;
    }
  slab.add(scale_sum);
  slab.add(offset_sum);
  if (threadIdx.y == 0 && slab.column < columns) {
    partial_scale[blockIdx.y * columns + slab.column] = scale_sum[0];
    if (partial_offset != nullptr)
      partial_offset[blockIdx.y * columns + slab.column] = offset_sum[0];
  }
}
