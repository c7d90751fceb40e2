// Reductions of rows, columns and whole arrays by an operation of common.cuh (Sum, Max, Min) or
// below. The launcher brings every reduction to one of these forms.
#include "common.cuh"

struct Prod {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const { return a * b; }
  template <typename T>
  static __device__ __forceinline__ T identity() { return T(1); }
};

// reduce_rows<T, A, U, F, BLOCK>      y[r] = F(x[r, 0], ..., x[r, C - 1])
// Shapes    x (R, C) of T row-major, y (R) of U
// Launch    grid (min(R, 65535)), block BLOCK (a multiple of 32), static shared BLOCK/32 of A
// Bytes     RC * sizeof(T) + R * sizeof(U)     Flops  RC     bound: memory
// Numerics  accumulates in A, in a fixed order: the same bits in every run
// Source    one block a row; strided partial results, then a butterfly in each warp
// Measured  not measured
template <typename T, typename A, typename U, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    reduce_rows(const T* __restrict__ x, U* __restrict__ y, long long rows, long long columns) {
  const F f;
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * columns;
    A total = F::template identity<A>();
    for (long long c = threadIdx.x; c < columns; c += BLOCK)
      total = f(total, static_cast<A>(to_float(row[c])));
    total = block_reduce<BLOCK>(total, f);
    if (threadIdx.x == 0) y[r] = from_float<U>(static_cast<Acc<U>>(total));
  }
}

// reduce_rows_warp<T, A, U, F, BLOCK>      as reduce_rows, for short rows
// Shapes    x (R, C) of T row-major, y (R) of U
// Launch    any 1-D grid, block BLOCK (a multiple of 32): BLOCK/32 rows at a time
// Bytes     RC * sizeof(T) + R * sizeof(U)     Flops  RC     bound: memory
// Numerics  accumulates in A, in a fixed order: the same bits in every run
// Source    one warp a row needs no shared memory and no barrier
// Measured  not measured
template <typename T, typename A, typename U, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    reduce_rows_warp(const T* __restrict__ x, U* __restrict__ y, long long rows,
                     long long columns) {
  const F f;
  constexpr int kWarps = BLOCK / 32;
  const int lane = threadIdx.x % 32;
  const long long first = static_cast<long long>(blockIdx.x) * kWarps + threadIdx.x / 32;
  for (long long r = first; r < rows; r += static_cast<long long>(gridDim.x) * kWarps) {
    const T* row = x + r * columns;
    A total = F::template identity<A>();
    for (long long c = lane; c < columns; c += 32)
      total = f(total, static_cast<A>(to_float(row[c])));
    total = warp_reduce(total, f);
    if (lane == 0) y[r] = from_float<U>(static_cast<Acc<U>>(total));
  }
}

// reduce_columns<T, A, U, F>      y[o, i] = F(x[o, 0, i], ..., x[o, K - 1, i])
// Shapes    x (O, K, I) of T row-major, y (O, I) of U
// Launch    grid (ceil(I / 32), min(O, 65535)), block (32, 8), static shared 256 of A
// Bytes     OKI * sizeof(T) + OI * sizeof(U)     Flops  OKI     bound: memory
// Numerics  accumulates in A, in a fixed order: the same bits in every run
// Source    a warp reads 32 neighbouring columns; eight warps share the rows
// Measured  not measured
template <typename T, typename A, typename U, typename F>
__global__ void __launch_bounds__(256, 1)
    reduce_columns(const T* __restrict__ x, U* __restrict__ y, long long outer, long long rows,
                   long long columns) {
  SHARED_ARRAY(A, partial, 256);
  const F f;
  const long long i = static_cast<long long>(blockIdx.x) * 32 + threadIdx.x;
  const int place = threadIdx.y * 32 + threadIdx.x;
  for (long long o = blockIdx.y; o < outer; o += gridDim.y) {
    A total = F::template identity<A>();
    if (i < columns)
      for (long long k = threadIdx.y; k < rows; k += 8)
        total = f(total, static_cast<A>(to_float(x[(o * rows + k) * columns + i])));
    partial[place] = total;
    __syncthreads();
    for (int half = 4; half > 0; half /= 2) {
      if (threadIdx.y < half) partial[place] = f(partial[place], partial[place + half * 32]);
      __syncthreads();
    }
    if (threadIdx.y == 0 && i < columns)
      y[o * columns + i] = from_float<U>(static_cast<Acc<U>>(partial[threadIdx.x]));
    __syncthreads();  // before `partial` is written again
  }
}

// reduce_chunks<T, A, F, BLOCK>      y[b] = F over chunk b of x
// Shapes    x (n) of T, y (B) of A: partial results, one for each block
// Launch    grid B, block BLOCK (a multiple of 32), static shared BLOCK/32 of A
// Bytes     n * sizeof(T)     Flops  n     bound: memory
// Numerics  accumulates in A, in an order that depends on n and B only
// Source    first step of a whole-array reduction; reduce_rows over y is the second
// Measured  not measured
template <typename T, typename A, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    reduce_chunks(const T* __restrict__ x, A* __restrict__ y, long long n) {
  const F f;
  A total = F::template identity<A>();
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    total = f(total, static_cast<A>(to_float(x[i])));
  total = block_reduce<BLOCK>(total, f);
  if (threadIdx.x == 0) y[blockIdx.x] = total;
}
