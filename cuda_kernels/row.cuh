// What kernels that work row by row share: a row in the registers of a warp or of a block.
//
// WIDTH threads share a row: 32 (a warp, BLOCK / 32 rows a block, no barrier) or BLOCK (one row a
// block). Each holds VALUES of its elements, in groups of VEC neighbours that one access moves.
#pragma once
#include "common.cuh"

// Combines one value of each of the threads of a row; all of them get the same bits.
template <int WIDTH, typename Operation, typename T>
__device__ __forceinline__ T row_reduce(T value, Operation operation) {
  if constexpr (WIDTH == 32)
    return warp_reduce(value, operation);
  else
    return block_reduce<WIDTH>(value, operation);
}

// The loops over the elements that one thread holds. `each(columns, body)` calls body(i, c): value
// i is the element of column c; `groups` does so for the first of each VEC neighbours only.
template <int VEC, int VALUES, int WIDTH>
struct RowLoop {
  template <typename Body>
  static __device__ __forceinline__ void groups(int columns, Body body) {
    const int lane = threadIdx.x % WIDTH;
#pragma unroll
    for (int i = 0; i < VALUES; i += VEC) {
      if (i * WIDTH >= columns) break;  // for all threads alike: short rows take few steps
      const int c = i * WIDTH + lane * VEC;
      if (c < columns) body(i, c);
    }
  }
  template <typename Body>
  static __device__ __forceinline__ void each(int columns, Body body) {
    groups(columns, [&](int i, int c) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) body(i + j, c + j);
    });
  }
  // Loads the part of a row that this thread holds.
  template <typename T>
  static __device__ __forceinline__ void load(const T* row, int columns, Acc<T> (&values)[VALUES]) {
    groups(columns, [&](int i, int c) {
      const Vec<T, VEC> group = load_vec<VEC>(row + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) values[i + j] = to_float(group[j]);
    });
  }
  // Stores value(i, c), rounded to T, for each element that this thread holds.
  template <typename T, typename Value>
  static __device__ __forceinline__ void store(T* row, int columns, Value value) {
    groups(columns, [&](int i, int c) {
      Vec<T, VEC> group;
#pragma unroll
      for (int j = 0; j < VEC; ++j) group[j] = from_float<T>(value(i + j, c + j));
      store_vec(row + c, group);
    });
  }
  // Adds what the threads of a block hold for each column, and stores the sums: warps in order.
  // Every thread of the block must call it.
  template <int BLOCK, typename A>
  static __device__ __forceinline__ void add_rows(const A (&values)[VALUES], int columns, A* sums) {
    if constexpr (WIDTH == BLOCK) {
      each(columns, [&](int i, int c) { sums[c] = values[i]; });
    } else {
      SHARED_ARRAY(A, total, VALUES * WIDTH);
      const int mine = threadIdx.x / WIDTH;
      for (int w = 0; w < BLOCK / WIDTH; ++w) {
        if (w == mine)
          each(columns, [&](int i, int c) { total[c] = values[i] + (w == 0 ? A(0) : total[c]); });
        __syncthreads();
      }
      for (int c = threadIdx.x; c < columns; c += BLOCK) sums[c] = total[c];
      __syncthreads();  // before `total` is written again
    }
  }
};

// The row that a thread begins with, and how far the next one is, when a grid shares rows.
template <int WIDTH, int BLOCK>
__device__ __forceinline__ long long first_row() {
  return static_cast<long long>(blockIdx.x) * (BLOCK / WIDTH) + threadIdx.x / WIDTH;
}
template <int WIDTH, int BLOCK>
__device__ __forceinline__ long long row_stride() {
  return static_cast<long long>(gridDim.x) * (BLOCK / WIDTH);
}
