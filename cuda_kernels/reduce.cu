// Reductions along rows or columns. The launcher brings every reduction to one of these two forms,
// and a reducer of reducers.cuh says what is kept: a sum, an extremum and its place, a variance.
#include "reducers.cuh"

// Adds every `threads`-th group of a row of n elements, this thread's being number `thread`. What
// comes before the first aligned address, and what is left over, is read one by one.
template <typename R, typename T>
__device__ __forceinline__ void add_row(typename R::State& state, const T* row, long long n,
                                        long long thread, long long threads) {
  constexpr int N = kVec<T>;
  const long long behind = reinterpret_cast<unsigned long long>(row) / sizeof(T) % N;
  const long long before = (N - behind) % N, head = before < n ? before : n;
  const long long groups = (n - head) / N;
  for (long long c = thread; c < head; c += threads) {
    const Acc<T> one[1] = {to_float(row[c])};
    R::add(state, one, c, 1);
  }
#pragma unroll 4
  for (long long g = thread; g < groups; g += threads) {
    const Vec<T, N> group = load_vec<N>(row + head + g * N);
    Acc<T> values[N];
#pragma unroll
    for (int k = 0; k < N; ++k) values[k] = to_float(group[k]);
    R::add(state, values, head + g * N, 1);
  }
  for (long long c = head + groups * N + thread; c < n; c += threads) {
    const Acc<T> one[1] = {to_float(row[c])};
    R::add(state, one, c, 1);
  }
}

// reduce_rows<T, U, R, BLOCK>      y[r] = R(x[r, 0], ..., x[r, C - 1])
// Shapes    x (R, C) of T row-major, y (R) of U; with P > 1: partial (R, P) states, counters (R)
// Launch    grid (P, min(ceil(R width / BLOCK), 65535)), block BLOCK: `width` threads a row, a power
//           of two; P > 1 blocks share a row if width is BLOCK
// Bytes     RC * sizeof(T) + R * sizeof(U)     Flops  RC     bound: memory
// Numerics  accumulates in Acc<T>; the order depends on C, width, P and the alignment of a row
//           only: the same bits in every run
// Source    the block that comes last adds the partial results, in the order of the blocks, so that
//           one launch does it (threadFenceReduction of the CUDA samples)
// Measured  not measured
template <typename T, typename U, typename R, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    reduce_rows(const T* __restrict__ x, U* __restrict__ y, void* partial,
                unsigned* counters, long long rows, long long columns, int width,
                Acc<T> scale) {
  using State = typename R::State;
  const int lane = threadIdx.x % width, blocks = gridDim.x;
  const long long each = BLOCK / width;
  for (long long first = blockIdx.y * each; first < rows; first += gridDim.y * each) {
    const long long r = first + threadIdx.x / width;
    State state = R::identity();
    if (r < rows)
      add_row<R>(state, x + r * columns, columns,
                 static_cast<long long>(blockIdx.x) * width + lane,
                 static_cast<long long>(blocks) * width);
    state = merge_threads<R, BLOCK>(state, width);
    if (blocks > 1) {
      State* row = static_cast<State*>(partial) + r * blocks;
      if (threadIdx.x == 0) row[blockIdx.x] = state;
      if (!last_block(counters + r, blocks)) continue;  // the same for the whole block
      state = R::identity();
      for (int b = threadIdx.x; b < blocks; b += BLOCK) state = R::merge(state, row[b]);
      state = merge_threads<R, BLOCK>(state, BLOCK);
    }
    if (lane == 0 && r < rows) y[r] = R::template finish<U>(state, scale);
  }
}

// Merges the states that threads of one x hold for N columns; those with y = 0 get the result.
template <typename R, int N>
__device__ __forceinline__ void merge_down(typename R::State (&state)[N],
                                           typename R::State* shared) {
  typename R::State* own = shared + (threadIdx.y * blockDim.x + threadIdx.x) * N;
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
#pragma unroll
    for (int j = 0; j < N; ++j) own[j] = state[j];
    __syncthreads();
    if (threadIdx.y < half)
#pragma unroll
      for (int j = 0; j < N; ++j) state[j] = R::merge(state[j], own[half * blockDim.x * N + j]);
    __syncthreads();
  }
}

// N neighbouring columns a thread, from column i on.
template <typename R, int N, typename T, typename U>
__device__ __forceinline__ void columns_of_block(const T* x, U* y, typename R::State* partial,
                                                 unsigned* counter, long long rows,
                                                 long long columns, Acc<T> scale,
                                                 typename R::State* shared) {
  constexpr int ROWS = 4;  // at a time: four loads in flight
  const long long i = grid_start<long long>() * N;
  const long long step = static_cast<long long>(gridDim.y) * blockDim.y;
  const bool mine = i < columns;
  typename R::State state[N];
  for (int j = 0; j < N; ++j) state[j] = R::identity();
  long long k = static_cast<long long>(blockIdx.y) * blockDim.y + threadIdx.y;
  for (; mine && k + (ROWS - 1) * step < rows; k += ROWS * step) {
    Vec<T, N> group[ROWS];
#pragma unroll
    for (int q = 0; q < ROWS; ++q) group[q] = load_vec<N>(x + (k + q * step) * columns + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      Acc<T> values[ROWS];
#pragma unroll
      for (int q = 0; q < ROWS; ++q) values[q] = to_float(group[q][j]);
      R::add(state[j], values, k, step);
    }
  }
  for (; mine && k < rows; k += step) {
    const Vec<T, N> group = load_vec<N>(x + k * columns + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const Acc<T> one[1] = {to_float(group[j])};
      R::add(state[j], one, k, step);
    }
  }
  merge_down<R, N>(state, shared);
  const int blocks = gridDim.y;
  const bool first = mine && threadIdx.y == 0;
  if (blocks > 1) {
    for (int j = 0; first && j < N; ++j) partial[blockIdx.y * columns + i + j] = state[j];
    if (!last_block(counter, blocks)) return;  // the same for the whole block
    for (int j = 0; j < N; ++j) {
      state[j] = R::identity();
      for (int b = threadIdx.y; mine && b < blocks; b += blockDim.y)
        state[j] = R::merge(state[j], partial[b * columns + i + j]);
    }
    merge_down<R, N>(state, shared);
  }
  for (int j = 0; first && j < N; ++j) y[i + j] = R::template finish<U>(state[j], scale);
}

// reduce_columns<T, U, R, BLOCK>      y[o, i] = R(x[o, 0, i], ..., x[o, K - 1, i])
// Shapes    x (O, K, I) of T row-major, y (O, I) of U; with P > 1: partial (O, P, I) states and
//           counters (O, grid.x)
// Launch    grid (ceil(I / (N block.x)), P, min(O, 65535)), block (x, BLOCK / x), x a power of two;
//           N is 16 bytes' worth, at most 8, if `vectors` (columns and addresses are multiples of
//           16 bytes), else 1; static shared BLOCK * N states
// Bytes     OKI * sizeof(T) + OI * sizeof(U)     Flops  OKI     bound: memory
// Numerics  accumulates in Acc<T>; the order depends on the shape and launch only
// Source    a thread keeps the states of its columns in registers; P blocks share the rows, and the
//           last one adds what they found, in order
// Measured  not measured
template <typename T, typename U, typename R, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    reduce_columns(const T* __restrict__ x, U* __restrict__ y, void* partial,
                   unsigned* counters, long long outer, long long rows,
                   long long columns, bool vectors, Acc<T> scale) {
  using State = typename R::State;
  constexpr int N = kVec<T> < 8 ? kVec<T> : 8;
  SHARED_ARRAY(State, shared, BLOCK * N);
  for (long long o = blockIdx.z; o < outer; o += gridDim.z) {
    const T* from = x + o * rows * columns;
    State* states = static_cast<State*>(partial) + o * gridDim.y * columns;
    unsigned* counter = counters + o * gridDim.x + blockIdx.x;
    if (vectors)
      columns_of_block<R, N>(from, y + o * columns, states, counter, rows, columns, scale, shared);
    else
      columns_of_block<R, 1>(from, y + o * columns, states, counter, rows, columns, scale, shared);
  }
}
