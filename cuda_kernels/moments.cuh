// Mean and variance of numbers that are seen in parts.
#pragma once
#include "common.cuh"

// How many numbers were seen, their mean, and the sum of the squares of their distances from it.
template <typename A>
struct Moments {
  A count, mean, squares;
};

// Combines two sets of numbers (Chan, Golub, LeVeque 1979), without loss of digits where the mean
// is large against the deviation.
struct MergeMoments {
  template <typename A>
  __device__ __forceinline__ Moments<A> operator()(const Moments<A>& a, const Moments<A>& b) const {
    const A count = a.count + b.count, share = count > A(0) ? b.count / count : A(0);
    const A delta = b.mean - a.mean;
    return {count, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
  }
};
