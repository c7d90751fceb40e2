// y (cols, rows) = x (rows, cols) transposed.
#include "common.cuh"

template <bool FIXED>
__global__ void wrong_stride(const float* x, float* y, int rows, int cols) {
  const int i = threadIdx.x, row = i / cols, col = i % cols;
  const int stride = FIXED ? rows : cols;  // BUG: the result has `rows` columns
  y[(col * stride + row) % (rows * cols)] = x[i];
}
