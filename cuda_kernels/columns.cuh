// What kernels that add up columns share: slabs of columns by parts of the rows.
//
// A block is (x, y) threads, x * y = 256, both powers of two. A thread owns VEC neighbouring
// columns and walks down the rows of its part, so that neighbouring threads read neighbouring
// memory; then the y threads of a column are combined, in a fixed order, in shared memory. Blocks
// of the grid's x have other columns, of its y other parts of the rows; a second kernel combines
// the parts.
#pragma once
#include "common.cuh"

constexpr int kSlabThreads = 256;

template <int VEC>
struct ColumnSlab {
  long long column;             // the first one of this thread
  long long first, last, step;  // the rows of this thread

  // Of `rows` rows, part blockIdx.y of gridDim.y: parts are equally long but for the last ones.
  __device__ __forceinline__ explicit ColumnSlab(long long rows) {
    column = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
    const long long length = ceil_div(rows, static_cast<long long>(gridDim.y));
    const long long begin = blockIdx.y * length;
    first = begin + threadIdx.y;
    last = begin + length < rows ? begin + length : rows;
    step = blockDim.y;
  }

  // Combines the values of the threads of each column; those with threadIdx.y == 0 get the result.
  // Every thread of the block must call it.
  template <typename T, typename Operation>
  __device__ __forceinline__ void combine(T (&value)[VEC], Operation operation) const {
    SHARED_ARRAY(T, shared, kSlabThreads * VEC);
    const int x = threadIdx.x, y = threadIdx.y, width = blockDim.x;
#pragma unroll
    for (int j = 0; j < VEC; ++j) shared[(y * VEC + j) * width + x] = value[j];
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
      if (y < half)
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          T& mine = shared[(y * VEC + j) * width + x];
          mine = operation(mine, shared[((y + half) * VEC + j) * width + x]);
        }
      __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < VEC; ++j) value[j] = shared[j * width + x];
    __syncthreads();  // before `shared` is written again
  }
  template <typename T>
  __device__ __forceinline__ void add(T (&value)[VEC]) const {
    combine(value, Sum());
  }
};

// Loads VEC numbers of neighbouring columns one by one: a thread does so once, for all its rows.
template <int VEC, typename A>
__device__ __forceinline__ Vec<A, VEC> load_each(const A* from) {
  Vec<A, VEC> group;
#pragma unroll
  for (int j = 0; j < VEC; ++j) group[j] = from[j];
  return group;
}
