// Random numbers: element i of a draw is a function of (seed, draw, i), so nothing is stored.
#include "common.cuh"
#include "philox.cuh"

// random_uniform<BLOCK>      y[i] = element i of Generator(Philox(seed, draw)).random(float32)
// Shapes    seed (2) unsigned: seed and draw; y (n) float
// Launch    any 1-D grid, block BLOCK; a thread makes eight numbers at a time
// Bytes     4n     Flops  about 25 integer operations a number     bound: compute
// Numerics  equal to NumPy bit for bit
// Source    Salmon, Moraes, Dror, Shaw, SC 2011
// Measured  not measured
template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_uniform(const unsigned* __restrict__ seed, float* __restrict__ y, long long n) {
  const long long blocks = ceil_div(n, 8ll);
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    for (int k = 0; k < 8 && b * 8 + k < n; ++k) y[b * 8 + k] = block_float(bits, k);
  }
}

// random_uniform_double<BLOCK>      y[i] = element i of Generator(Philox(seed, draw)).random()
// Shapes    seed (2) unsigned: seed and draw; y (n) double
// Launch    any 1-D grid, block BLOCK; a thread makes four numbers at a time
// Bytes     8n     Flops  about 50 integer operations a number     bound: compute
// Numerics  equal to NumPy bit for bit
// Source    Salmon, Moraes, Dror, Shaw, SC 2011
// Measured  not measured
template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    random_uniform_double(const unsigned* __restrict__ seed, double* __restrict__ y,
                          long long n) {
  const long long blocks = ceil_div(n, 4ll);
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    for (int k = 0; k < 4 && b * 4 + k < n; ++k) y[b * 4 + k] = uniform_double(bits.word[k]);
  }
}

// dropout<T, BLOCK>      y[i] = uniform[i] >= rate ? x[i] * scale : 0
// Shapes    x, y (n) of T; seed (2) unsigned: seed and draw
// Launch    any 1-D grid, block BLOCK; a thread does eight elements at a time
// Bytes     2n * sizeof(T)     Flops  about 25 integer operations an element     bound: memory
// Numerics  the mask is that of random_uniform; applied to a cotangent it is the gradient
// Source    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    dropout(const T* __restrict__ x, const unsigned* __restrict__ seed, T* __restrict__ y,
            long long n, float rate, float scale) {
  const long long blocks = ceil_div(n, 8ll);
  for (long long b = grid_start<long long>(); b < blocks; b += grid_stride<long long>()) {
    const PhiloxBlock bits = philox_block(seed[0], seed[1], b);
    for (int k = 0; k < 8 && b * 8 + k < n; ++k) {
      const long long i = b * 8 + k;
      const bool keep = block_float(bits, k) >= rate;
      y[i] = from_float<T>(keep ? to_float(x[i]) * Acc<T>(scale) : Acc<T>(0));
    }
  }
}
