// Random numbers: element i of a draw is a function of (seed, draw, i), so nothing is stored.
#include "common.cuh"
#include "philox.cuh"

// N neighbouring elements, in accesses of up to 16 bytes; `address` is a multiple of them.
template <int N, typename T>
__device__ __forceinline__ void load_run(const T* address, T (&value)[N]) {
  constexpr int VEC = kVec<T> < N ? kVec<T> : N;
#pragma unroll
  for (int k = 0; k < N; k += VEC) {
    const Vec<T, VEC> part = load_vec<VEC>(address + k);
#pragma unroll
    for (int v = 0; v < VEC; ++v) value[k + v] = part[v];
  }
}

// Writes the elements i to i + N - 1 of y, as far as they come before n: at once if `aligned`.
template <int N, typename T>
__device__ __forceinline__ void store_run(T* y, const T (&value)[N], long long i, long long n,
                                          bool aligned) {
  constexpr int VEC = kVec<T> < N ? kVec<T> : N;
  if (aligned && i + N <= n) {
#pragma unroll
    for (int k = 0; k < N; k += VEC) {
      Vec<T, VEC> part;
#pragma unroll
      for (int v = 0; v < VEC; ++v) part[v] = value[k + v];
      store_vec<VEC>(y + i + k, part);
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (i + k < n) y[i + k] = value[k];
  }
}

// A number of [0, 1) in the type of the second argument: halves are cut off, so that 1 stays out.
__device__ __forceinline__ float cut(float u, float) { return u; }
__device__ __forceinline__ double cut(double u, double) { return u; }
__device__ __forceinline__ __half cut(float u, __half) {
  return from_float<__half>(floorf(u * 2048.0f) * (1.0f / 2048.0f));
}
__device__ __forceinline__ __nv_bfloat16 cut(float u, __nv_bfloat16) {
  return from_float<__nv_bfloat16>(floorf(u * 256.0f) * (1.0f / 256.0f));
}

// random_uniform<T, BLOCK>      y[i] = element i of Generator(Philox(seed, draw)).random(Acc<T>)
// Shapes    seed (2) unsigned: seed and draw; y (n) of T, aligned to 16 bytes
// Launch    any 1-D grid, block BLOCK; a thread makes eight numbers (four doubles) at a time
// Bytes     n * sizeof(T)     Flops  about 60 integer operations a number     bound: compute
// Numerics  equal to NumPy bit for bit; halves are cut off to their digits
// Source    Salmon, Moraes, Dror, Shaw, SC 2011
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_uniform(const unsigned* __restrict__ seed, T* __restrict__ y, long long n) {
  constexpr int N = kNumbers<Acc<T>>;
  const long long blocks = ceil_div(n, static_cast<long long>(N));
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    T out[N];
#pragma unroll
    for (int k = 0; k < N; ++k) out[k] = cut(block_number<Acc<T>>(bits, k), T());
    store_run(y, out, b * N, n, true);
  }
}

// random_normal<T, BLOCK>      y[i] = r cos(a), y[h + i] = r sin(a), where for the uniform u of
//                              random_uniform  r = sqrt(-2 log(1 - u[i])),  a = 2 pi u[h + i]
// Shapes    seed (2) unsigned: seed and draw; y (n) of T, aligned to 16 bytes; h = ceil(n / 2)
// Launch    any 1-D grid, block BLOCK; a thread makes 16 numbers (8 doubles) at a time
// Bytes     n * sizeof(T)     Flops  about 120 operations a number     bound: compute
// Numerics  Acc<T>, rounded once; up to the last bits of log1p, sin and cos what the CPU draws
// Source    Box, Muller 1958
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_normal(const unsigned* __restrict__ seed, T* __restrict__ y, long long n) {
  using A = Acc<T>;
  constexpr int N = kNumbers<A>;
  const long long half = ceil_div(n, 2ll), blocks = ceil_div(half, static_cast<long long>(N));
  const int shift = static_cast<int>(half % N);  // the angles begin inside of a block
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    const PhiloxBlock first = philox_block(seed[0], seed[1], b + half / N);
    const PhiloxBlock second = shift ? philox_block(seed[0], seed[1], b + half / N + 1) : first;
    A turn[2 * N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      turn[k] = block_number<A>(first, k);
      turn[N + k] = block_number<A>(second, k);
    }
#pragma unroll
    for (int step = 1; step < N; step *= 2)  // moved left by `shift`, bit by bit: the array stays
#pragma unroll                               // in registers
      for (int k = 0; k < 2 * N - step; ++k) turn[k] = shift & step ? turn[k + step] : turn[k];
    T left[N], right[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const A radius = sqrt(log1p(-block_number<A>(bits, k)) * A(-2));
      const A angle = turn[k] * A(6.283185307179586);
      left[k] = from_float<T>(radius * cos(angle));
      right[k] = from_float<T>(radius * sin(angle));
    }
    store_run(y, left, b * N, half, true);
    const long long end = b * N + N < half ? half + b * N + N : n;
    store_run(y, right, half + b * N, end, shift == 0);
  }
}

// random_truncated_normal<T, BLOCK>      y[i] = sqrt(2) erfinv(erf(sqrt(2)) (2 u[i] - 1)),
//                                        kept within [-2, 2]; u is that of random_uniform
// Shapes    seed (2) unsigned: seed and draw; y (n) of T, aligned to 16 bytes
// Launch    any 1-D grid, block BLOCK; a thread makes eight numbers (four doubles) at a time
// Bytes     n * sizeof(T)     Flops  about 100 operations a number     bound: compute
// Numerics  Acc<T>, rounded once; up to the last bits of erfinv what the CPU draws
// Source    inverse of the cumulative distribution: Devroye 1986, section II.2
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_truncated_normal(const unsigned* __restrict__ seed, T* __restrict__ y, long long n) {
  using A = Acc<T>;
  constexpr int N = kNumbers<A>;
  const A within = A(0.9544997361036416), root = A(1.4142135623730951);
  const long long blocks = ceil_div(n, static_cast<long long>(N));
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    T out[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const A z = erfinv(block_number<A>(bits, k) * (A(2) * within) - within) * root;
      out[k] = from_float<T>(z < A(-2) ? A(-2) : z > A(2) ? A(2) : z);
    }
    store_run(y, out, b * N, n, true);
  }
}

// random_integers<T, BLOCK>      y[i] = low + floor(range u[i]), u that of random_uniform<double>
// Shapes    seed (2) unsigned: seed and draw; y (n) of T, an integer, aligned to 16 bytes
// Launch    any 1-D grid, block BLOCK; a thread makes four numbers at a time
// Bytes     n * sizeof(T)     Flops  about 120 integer operations a number     bound: compute
// Numerics  exact: equal to the CPU's
// Source    floor of a scaled uniform number; ranges up to 2^53 / 2^20 are even to 2^-20
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_integers(const unsigned* __restrict__ seed, T* __restrict__ y, long long n, double low,
                    double range) {
  const long long blocks = ceil_div(n, 4ll);
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    T out[4];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      out[k] = static_cast<T>(floor(uniform_double(bits.word[k]) * range) + low);
    store_run(y, out, b * 4, n, true);
  }
}

// random_keys<BLOCK>      2^32 high[i] + low[i] = 2^53 u[i], u that of random_uniform<double>
// Shapes    seed (2) unsigned: seed and draw; low, high (n) unsigned
// Launch    any 1-D grid, block BLOCK; a thread makes four numbers at a time
// Bytes     8n     Flops  about 120 integer operations a number     bound: compute
// Numerics  exact: sorting by them is sorting by u
// Source    a permutation is the order of random numbers: Devroye 1986, section XII.2
// Measured  not measured
template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_keys(const unsigned* __restrict__ seed, unsigned* __restrict__ low,
                unsigned* __restrict__ high, long long n) {
  const long long blocks = ceil_div(n, 4ll);
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (b * 4 + k >= n) continue;
      low[b * 4 + k] = static_cast<unsigned>(bits.word[k] >> 11);
      high[b * 4 + k] = static_cast<unsigned>(bits.word[k] >> 43);
    }
  }
}

// dropout<T, BLOCK>      y[i] = uniform[i] >= rate ? x[i] * scale : 0
// Shapes    x, y (n) of T, aligned to 16 bytes if `aligned`; seed (2) unsigned: seed and draw
// Launch    any 1-D grid, block BLOCK; a thread does eight elements at a time
// Bytes     2n * sizeof(T)     Flops  about 60 integer operations an element     bound: compute
// Numerics  the mask is that of random_uniform; applied to a cotangent it is the gradient
// Source    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    dropout(const T* __restrict__ x, const unsigned* __restrict__ seed, T* __restrict__ y,
            long long n, float rate, float scale, bool aligned) {
  const long long blocks = ceil_div(n, 8ll);
  const unsigned least = least_bits(rate);
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    T value[8];
    if (aligned && b * 8 + 8 <= n) {
      load_run<8>(x + b * 8, value);
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k)
        if (b * 8 + k < n) value[k] = x[b * 8 + k];
    }
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const bool keep = reaches(bits, k, least);
      value[k] = from_float<T>(keep ? to_float(value[k]) * Acc<T>(scale) : Acc<T>(0));
    }
    store_run(y, value, b * 8, n, aligned);
  }
}
