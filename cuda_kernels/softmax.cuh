// What softmax and cross-entropy share: the maximum and the sum of exponentials of a row.
#pragma once
#include "common.cuh"

// The greatest value of a row and the sum of exp(x - greatest), found in one pass: when a greater
// value comes, what was summed so far is scaled down (Milakov, Gimelshein 2018, arXiv:1805.02867).
// A row of -inf has the sum 0; every other row at least 1.
template <typename A>
struct RunningSum {
  A top, sum;
  __device__ __forceinline__ RunningSum() : top(lowest(A())), sum(0) {}
  static __device__ __forceinline__ float lowest(float) { return -3.402823466e+38f; }
  static __device__ __forceinline__ double lowest(double) { return -1.7976931348623157e+308; }
  __device__ __forceinline__ void add(A x) {
    if (x > top) {
      sum = sum * exp(top - x) + A(1);
      top = x;
    } else {
      sum += exp(x - top);
    }
  }
  // Combines the threads of a block; all of them get the result.
  template <int BLOCK>
  __device__ __forceinline__ void combine() {
    const A greatest = block_max<BLOCK>(top);
    sum = block_sum<BLOCK>(sum * exp(top - greatest));
    top = greatest;
  }
};
