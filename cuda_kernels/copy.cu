// Copies between arrays whose rows lie apart: slices, joins, broadcasts, paddings. Elements are
// moved as words of 1 to 16 bytes, so one kernel serves all dtypes.
#include "pointwise.cuh"

// copy_rows<W, BLOCK>      y[r, c] = x[r, c]
// Shapes    (n0, n1, n2, C) words of W: x with strides a0..a2 and `step`, y with b0..b2 and 1
// Launch    grid and block 2-D, BLOCK threads; both arrays aligned to W
// Bytes     2n * sizeof(W)     Flops  0     bound: memory
// Numerics  copies bits
// Source    the widest word that divides all lengths, strides and addresses
// Measured  not measured
template <typename W, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    copy_rows(const void* __restrict__ x, void* __restrict__ y, long long rows, long long columns,
              long long n1, long long n2, long long a0, long long a1, long long a2, long long step,
              long long b0, long long b1, long long b2) {
  const W* from = static_cast<const W*>(x);
  W* to = static_cast<W*>(y);
  for_each_group<1>(rows, columns, [&](long long r, long long c, int) {
    const W* place = from + row_start(r, n1, n2, a0, a1, a2) + c * step;
    store_vec<1>(to + row_start(r, n1, n2, b0, b1, b2) + c, load_vec<1>(place));
  });
}

// pad_rows<W, BLOCK>      y[i] = x[i - p] inside, `value` outside
// Shapes    x (m0, m1, m2, M), y (n0, n1, n2, C) words of W, contiguous; x starts at p0, p1, p2, p
// Launch    grid and block 2-D, BLOCK threads; `value` is repeated until it fills 8 bytes
// Bytes     (x + y) * sizeof(W)     Flops  0     bound: memory
// Numerics  copies bits
// Source    one pass over y: no element of it is written twice
// Measured  not measured
template <typename W, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    pad_rows(const void* __restrict__ x, void* __restrict__ y, unsigned long long value,
             long long rows, long long columns, long long n1, long long n2, long long m0,
             long long m1, long long m2, long long m, long long p0, long long p1, long long p2,
             long long p) {
  union {
    unsigned long long twice[2];
    W word;
  } outside = {{value, value}};
  const W* from = static_cast<const W*>(x);
  W* to = static_cast<W*>(y);
  for_each_group<1>(rows, columns, [&](long long r, long long c, int) {
    const unsigned row = static_cast<unsigned>(r), length = static_cast<unsigned>(n2);
    const unsigned rest = row / length, middle = static_cast<unsigned>(n1);
    const long long i0 = rest / middle - p0, i1 = rest % middle - p1, i2 = row % length - p2;
    const bool inside = i0 >= 0 && i0 < m0 && i1 >= 0 && i1 < m1 && i2 >= 0 && i2 < m2;
    Vec<W, 1> word = {{outside.word}};
    if (inside && c >= p && c < p + m)
      word = load_vec<1>(from + ((i0 * m1 + i1) * m2 + i2) * m + c - p);
    store_vec<1>(to + r * columns + c, word);
  });
}
