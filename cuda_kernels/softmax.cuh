// What softmax and cross-entropy share: the maximum and the sum of exponentials of a row.
#pragma once
#include "row.cuh"

// The least finite number: what a maximum begins with, so that a row of -inf gives no NaN.
__device__ __forceinline__ float least(float) { return -3.402823466e+38f; }
__device__ __forceinline__ double least(double) { return -1.7976931348623157e+308; }

// The greatest value of a row and the sum of exp(x - greatest), found in one pass: when a greater
// value comes, what was summed so far is scaled down (Milakov, Gimelshein 2018, arXiv:1805.02867).
// A row of -inf has the sum 0; every other row at least 1.
template <typename A>
struct RunningSum {
  A top, sum;
  __device__ __forceinline__ RunningSum() : top(least(A())), sum(0) {}
  // Adds neighbours at once: one scaling for all of them.
  template <typename T, int VEC>
  __device__ __forceinline__ void add(const Vec<T, VEC>& x) {
    A greatest = top;
#pragma unroll
    for (int j = 0; j < VEC; ++j) greatest = Max()(greatest, static_cast<A>(to_float(x[j])));
    sum *= exp(top - greatest);
#pragma unroll
    for (int j = 0; j < VEC; ++j) sum += exp(static_cast<A>(to_float(x[j])) - greatest);
    top = greatest;
  }
  // Combines the threads of a row; all of them get the result.
  template <int WIDTH>
  __device__ __forceinline__ void combine() {
    const A greatest = row_reduce<WIDTH>(top, Max());
    sum = row_reduce<WIDTH>(sum * exp(top - greatest), Sum());
    top = greatest;
  }
};
