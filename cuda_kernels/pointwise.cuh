// How kernels that touch each element once walk an array: as rows of columns, without a division
// for each element.
//
// The launcher merges neighbouring axes until a result is (n0, n1, n2, columns); usually it is one
// row (equal shapes, or a number with an array) or n0 rows (a row or a column vector with a
// matrix). The threads of a block are (x, y): x along the columns, y along the rows, so that short
// rows fill a block too.
#pragma once
#include "common.cuh"

// Where row r = (i0, i1, i2) starts in an array with these strides. Only arrays of more than two
// merged axes divide, once a row, and in 32 bits: the launcher sees to it that their rows fit.
__device__ __forceinline__ long long row_start(long long r, long long n1, long long n2,
                                               long long s0, long long s1, long long s2) {
  if (n1 == 1 && n2 == 1) return r * s0;
  const unsigned row = static_cast<unsigned>(r), length = static_cast<unsigned>(n2);
  const unsigned rest = row / length, middle = static_cast<unsigned>(n1);
  return rest / middle * s0 + rest % middle * s1 + row % length * s2;
}

// Calls body(r, c, left) for groups of N neighbouring columns, from c on, of every row, shared among
// the grid; `left` is how many columns the row has from c on, if they are fewer than N.
template <int N, typename Body>
__device__ __forceinline__ void for_each_group(long long rows, long long columns, Body body) {
  const long long first = grid_start<long long>() * N, step = grid_stride<long long>() * N;
  const long long down = static_cast<long long>(gridDim.y) * blockDim.y;
#pragma unroll 1  // the registers it would take cost more than the loop does: threads in flight
  for (long long r = static_cast<long long>(blockIdx.y) * blockDim.y + threadIdx.y; r < rows;
       r += down)
#pragma unroll 1
    for (long long c = first; c < columns; c += step)
      body(r, c, columns - c < N ? static_cast<int>(columns - c) : N);
}

// Such a group of an operand's row, in the type it is computed in; by one access of up to 16 bytes
// if it is `whole`: aligned, and N elements are left. An operand that does not move along the row is
// a column vector, or a number; that has no array.
template <int N, typename T>
__device__ __forceinline__ void load_group(Acc<T> (&to)[N], const T* x, long long row, bool moves,
                                           Acc<T> number, long long c, int left, bool whole) {
  const T* from = x + row + (moves ? c : 0);
  if (moves && whole) {
    const Vec<T, N> group = load_vec<N>(from);
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = to_float(group[k]);
  } else {
    const Acc<T> value = moves || !x ? number : to_float(*from);
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = moves && k < left ? to_float(from[k]) : value;
  }
}

template <int N, typename U>
__device__ __forceinline__ void store_group(U* y, const Vec<U, N>& group, int left, bool whole) {
  if (whole) {
    store_vec<N>(y, group);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (k < left) y[k] = group[k];
  }
}

// How many elements of the wider of two types fit a 16-byte access.
template <typename T, typename U>
constexpr int kGroup = 16 / (sizeof(T) > sizeof(U) ? sizeof(T) : sizeof(U));
