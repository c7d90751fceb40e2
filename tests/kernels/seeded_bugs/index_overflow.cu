// y = 2 x; every block has `chunk` elements, which the last blocks have too few of.
#include "common.cuh"

template <bool WIDE>
struct Choose {
  using type = int;
};
template <>
struct Choose<true> {
  using type = long long;
};

template <bool FIXED>
__global__ void index_overflow(const float* x, float* y, int chunk, long long n) {
  using Index = typename Choose<FIXED>::type;
  const Index first = static_cast<Index>(blockIdx.x) * chunk;  // BUG: 2 * 2^30 is no int
  const Index i = first + static_cast<Index>(threadIdx.x);
  if (i < n && i >= 0) y[i] = 2 * x[i];
}
