// Elementwise kernels: a functor of scalar.cuh applied to one, two or three arrays.
#include "scalar.cuh"

// unary<T, U, F, BLOCK, VEC>      y[i] = F(x[i])
// Shapes    x (n) of T, y (n) of U, both contiguous
// Launch    any 1-D grid, block BLOCK; x and y aligned to VEC elements
// Bytes     n * (sizeof(T) + sizeof(U))     Flops  n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    grid-stride loop with 16-byte accesses
// Measured  not measured
template <typename T, typename U, typename F, int BLOCK, int VEC>
__global__ void __launch_bounds__(BLOCK, 1)
    unary(const T* __restrict__ x, U* __restrict__ y, long long n) {
  const F f;
  const long long start = grid_start<long long>(), stride = grid_stride<long long>();
  const long long groups = n / VEC;
  for (long long i = start; i < groups; i += stride) {
    const Vec<T, VEC> in = load_vec<VEC>(x + i * VEC);
    Vec<U, VEC> out;
#pragma unroll
    for (int k = 0; k < VEC; ++k) out[k] = from_float<U>(f(to_float(in[k])));
    store_vec<VEC>(y + i * VEC, out);
  }
  for (long long i = groups * VEC + start; i < n; i += stride)
    y[i] = from_float<U>(f(to_float(x[i])));
}

// binary<T, U, F, BLOCK, VEC>      y[i] = F(x1[i], x2[i])
// Shapes    x1, x2 (n) of T, y (n) of U, all contiguous
// Launch    any 1-D grid, block BLOCK; all aligned to VEC elements
// Bytes     n * (2 sizeof(T) + sizeof(U))     Flops  n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    grid-stride loop with 16-byte accesses
// Measured  not measured
template <typename T, typename U, typename F, int BLOCK, int VEC>
__global__ void __launch_bounds__(BLOCK, 1)
    binary(const T* __restrict__ x1, const T* __restrict__ x2, U* __restrict__ y, long long n) {
  const F f;
  const long long start = grid_start<long long>(), stride = grid_stride<long long>();
  const long long groups = n / VEC;
  for (long long i = start; i < groups; i += stride) {
    const Vec<T, VEC> a = load_vec<VEC>(x1 + i * VEC), b = load_vec<VEC>(x2 + i * VEC);
    Vec<U, VEC> out;
#pragma unroll
    for (int k = 0; k < VEC; ++k) out[k] = from_float<U>(f(to_float(a[k]), to_float(b[k])));
    store_vec<VEC>(y + i * VEC, out);
  }
  for (long long i = groups * VEC + start; i < n; i += stride)
    y[i] = from_float<U>(f(to_float(x1[i]), to_float(x2[i])));
}

// binary_scalar<T, U, F, FIRST, BLOCK, VEC>      y[i] = F(value, x[i]) if FIRST, else F(x[i], value)
// Shapes    x (n) of T, y (n) of U, both contiguous; value a number
// Launch    any 1-D grid, block BLOCK; x and y aligned to VEC elements
// Bytes     n * (sizeof(T) + sizeof(U))     Flops  n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    grid-stride loop with 16-byte accesses
// Measured  not measured
template <typename T, typename U, typename F, bool FIRST, int BLOCK, int VEC>
__global__ void __launch_bounds__(BLOCK, 1)
    binary_scalar(const T* __restrict__ x, Acc<T> value, U* __restrict__ y, long long n) {
  const F f;
  const long long start = grid_start<long long>(), stride = grid_stride<long long>();
  const long long groups = n / VEC;
  for (long long i = start; i < groups; i += stride) {
    const Vec<T, VEC> in = load_vec<VEC>(x + i * VEC);
    Vec<U, VEC> out;
#pragma unroll
    for (int k = 0; k < VEC; ++k)
      out[k] = from_float<U>(FIRST ? f(value, to_float(in[k])) : f(to_float(in[k]), value));
    store_vec<VEC>(y + i * VEC, out);
  }
  for (long long i = groups * VEC + start; i < n; i += stride)
    y[i] = from_float<U>(FIRST ? f(value, to_float(x[i])) : f(to_float(x[i]), value));
}

// Where element i of a contiguous result of lengths (.., n1, n2, n3) comes from in an operand with
// strides s0..s3 (0 where it is broadcast).
__device__ __forceinline__ long long strided(long long i, long long n1, long long n2, long long n3,
                                             long long s0, long long s1, long long s2,
                                             long long s3) {
  const long long i3 = i % n3;
  i /= n3;
  const long long i2 = i % n2;
  i /= n2;
  return i / n1 * s0 + i % n1 * s1 + i2 * s2 + i3 * s3;
}

// binary_broadcast<T, U, F, BLOCK>      y[i] = F(x1[where1(i)], x2[where2(i)])
// Shapes    y (n0, n1, n2, n3) of U contiguous; x1, x2 of T with strides a0..a3 and b0..b3
// Launch    any 1-D grid, block BLOCK
// Bytes     n * sizeof(U) + the operands once     Flops  n     bound: memory, and index arithmetic
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    axes that are adjacent in both operands are merged by the launcher
// Measured  not measured
template <typename T, typename U, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    binary_broadcast(const T* __restrict__ x1, const T* __restrict__ x2, U* __restrict__ y,
                     long long n, long long n1, long long n2, long long n3, long long a0,
                     long long a1, long long a2, long long a3, long long b0, long long b1,
                     long long b2, long long b3) {
  const F f;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    y[i] = from_float<U>(f(to_float(x1[strided(i, n1, n2, n3, a0, a1, a2, a3)]),
                           to_float(x2[strided(i, n1, n2, n3, b0, b1, b2, b3)])));
}

// where_same<T, BLOCK>      y[i] = condition[i] ? x1[i] : x2[i]
// Shapes    condition (n) of bool; x1, x2, y (n) of T; all contiguous
// Launch    any 1-D grid, block BLOCK
// Bytes     n * (1 + 3 sizeof(T))     Flops  0     bound: memory
// Numerics  copies bits
// Source    grid-stride loop
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    where_same(const bool* __restrict__ condition, const T* __restrict__ x1,
               const T* __restrict__ x2, T* __restrict__ y, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    y[i] = condition[i] ? x1[i] : x2[i];
}

// cast<T, U, BLOCK, VEC>      y[i] = (U)x[i]
// Shapes    x (n) of T, y (n) of U, both contiguous
// Launch    any 1-D grid, block BLOCK; x and y aligned to VEC elements
// Bytes     n * (sizeof(T) + sizeof(U))     Flops  0     bound: memory
// Numerics  floats round to nearest even, to integers towards zero
// Source    grid-stride loop with 16-byte accesses
// Measured  not measured
template <typename T, typename U, int BLOCK, int VEC>
__global__ void __launch_bounds__(BLOCK, 1)
    cast(const T* __restrict__ x, U* __restrict__ y, long long n) {
  const long long start = grid_start<long long>(), stride = grid_stride<long long>();
  const long long groups = n / VEC;
  for (long long i = start; i < groups; i += stride) {
    const Vec<T, VEC> in = load_vec<VEC>(x + i * VEC);
    Vec<U, VEC> out;
#pragma unroll
    for (int k = 0; k < VEC; ++k) out[k] = from_float<U>(static_cast<Acc<U>>(to_float(in[k])));
    store_vec<VEC>(y + i * VEC, out);
  }
  for (long long i = groups * VEC + start; i < n; i += stride)
    y[i] = from_float<U>(static_cast<Acc<U>>(to_float(x[i])));
}
