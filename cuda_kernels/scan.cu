// Cumulative sums and products: y[k] = x[0] + ... + x[k] along an axis.
#include "reducers.cuh"

// The value of all threads before this one, and `total`, that of all of the block.
template <typename F, int BLOCK, typename A>
__device__ __forceinline__ A scan_block(A value, A& total) {
  SHARED_ARRAY(A, of_warp, BLOCK / 32);
  const F f;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int step = 1; step < 32; step *= 2) {
    const A before = __shfl_up_sync(kFullMask, value, step);
    if (lane >= step) value = f(before, value);
  }
  if (lane == 31) of_warp[warp] = value;
  const A left = __shfl_up_sync(kFullMask, value, 1);
  __syncthreads();
  A before = F::template identity<A>();
  total = before;
  for (int w = 0; w < BLOCK / 32; ++w) {
    if (w == warp) before = total;
    total = f(total, of_warp[w]);
  }
  __syncthreads();  // before `of_warp` is written again
  return lane == 0 ? before : f(before, left);
}

// piece_totals<T, F, BLOCK>      y[r, p] = F over piece p of row r, of `length` elements
// Shapes    x (R, C) of T row-major, y (R, P) of Acc<T>; P = ceil(C / length)
// Launch    any 1-D grid, block BLOCK; static shared BLOCK/32 of Acc<T>
// Bytes     RC * sizeof(T)     Flops  RC     bound: memory
// Numerics  accumulates in Acc<T>, in a fixed order
// Source    first step of the scan of a long row: the totals are scanned next, then the pieces
// Measured  not measured
template <typename T, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    piece_totals(const T* __restrict__ x, Acc<T>* __restrict__ y, long long rows, long long columns,
                 long long pieces, long long length) {
  const F f;
  for (long long piece = blockIdx.x; piece < rows * pieces; piece += gridDim.x) {
    const long long from = piece % pieces * length;
    const long long to = from + length < columns ? from + length : columns;
    const T* row = x + piece / pieces * columns;
    Acc<T> total = F::template identity<Acc<T>>();
#pragma unroll 4
    for (long long c = from + threadIdx.x; c < to; c += BLOCK) total = f(total, to_float(row[c]));
    total = block_reduce<BLOCK>(total, f);
    if (threadIdx.x == 0) y[piece] = total;
  }
}

// scan_rows<T, F, BLOCK, N>      y[r, c] = F(x[r, 0], ..., x[r, c])
// Shapes    x, y (R, C) of T row-major, done in P pieces of `length` elements; before (R, P) of
//           Acc<T>, inclusive scans of the pieces' totals, or null if P is 1
// Launch    any 1-D grid, block BLOCK; static shared BLOCK/32 of Acc<T>
// Bytes     2RC * sizeof(T)     Flops  2RC     bound: memory
// Numerics  accumulates in Acc<T>, in a fixed order: N elements a thread, threads, tiles, pieces
// Source    a block walks its piece tile by tile and carries the total along (Harris, Sengupta,
//           Owens, "Parallel prefix sum with CUDA", 2007)
// Measured  not measured
template <typename T, typename F, int BLOCK, int N>
__global__ void __launch_bounds__(BLOCK, 1)
    scan_rows(const T* __restrict__ x, const Acc<T>* __restrict__ before, T* __restrict__ y,
              long long rows, long long columns, long long pieces, long long length) {
  using A = Acc<T>;
  const F f;
  for (long long piece = blockIdx.x; piece < rows * pieces; piece += gridDim.x) {
    const long long p = piece % pieces, row = piece / pieces * columns, from = p * length;
    const long long to = from + length < columns ? from + length : columns;
    A carried = p > 0 ? before[piece - 1] : F::template identity<A>();
    for (long long tile = from; tile < to; tile += BLOCK * N) {
      const long long c = tile + threadIdx.x * N;
      A values[N], total;
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const A value = c + k < to ? to_float(x[row + c + k]) : F::template identity<A>();
        values[k] = k ? f(values[k - 1], value) : value;
      }
      const A left = f(carried, scan_block<F, BLOCK>(values[N - 1], total));
#pragma unroll
      for (int k = 0; k < N; ++k)
        if (c + k < to) y[row + c + k] = from_float<T>(f(left, values[k]));
      carried = f(carried, total);
    }
  }
}

// scan_columns<T, F, BLOCK>      y[o, k, i] = F(x[o, 0, i], ..., x[o, k, i])
// Shapes    x, y (O, K, I) of T row-major
// Launch    any 1-D grid, block BLOCK
// Bytes     2OKI * sizeof(T)     Flops  OKI     bound: memory
// Numerics  accumulates in Acc<T>, in the order of k
// Source    a thread walks down its column: neighbouring threads read neighbouring columns
// Measured  not measured
template <typename T, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    scan_columns(const T* __restrict__ x, T* __restrict__ y, long long outer, long long rows,
                 long long columns) {
  const F f;
  const long long n = outer * columns;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const long long start = i / columns * rows * columns + i % columns;
    Acc<T> total = F::template identity<Acc<T>>();
#pragma unroll 4
    for (long long k = 0; k < rows; ++k) {
      total = f(total, to_float(x[start + k * columns]));
      y[start + k * columns] = from_float<T>(total);
    }
  }
}
