// Gathers: rows, elements along an axis, the element of each row that a label names, one-hot.
//
// Nothing is computed on what is gathered, so it moves as words of its size: W is an unsigned
// integer, and VEC of them are one access. An index counts from the end where it is negative, and
// wraps around where it is out of range: no thread reads outside of the array.
#include "common.cuh"

// a / b; division of 32-bit numbers is several times faster than that of 64-bit ones.
__device__ __forceinline__ long long quotient(long long a, long long b) {
  if (((a | b) >> 32) == 0) return static_cast<unsigned>(a) / static_cast<unsigned>(b);
  return a / b;
}

template <typename I>
__device__ __forceinline__ long long wrapped(I index, long long length) {
  long long i = static_cast<long long>(index);
  if (i < 0) i += length;
  if (i < 0 || i >= length) i = (i % length + length) % length;
  return i;
}

// row_places<I, BLOCK>      places[i] = places[i] * length + indices[i * step + offset]
// Shapes    indices (n * step) of I; places (n), which count as 0 if `first`
// Launch    any 1-D grid, block BLOCK; one launch for each axis that is indexed
// Bytes     n * (sizeof(I) + 8)     Flops  3n     bound: memory
// Numerics  exact; the launcher sees to it that places fit 32 bits
// Source    row-major numbering
// Measured  not measured
template <typename I, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    row_places(const I* __restrict__ indices, unsigned* __restrict__ places, long long n,
               long long step, long long offset, long long length, bool first) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const long long here = wrapped(indices[i * step + offset], length);
    places[i] = static_cast<unsigned>((first ? 0 : places[i] * length) + here);
  }
}

// along_places<I, BLOCK>      places[o, j, c] = number of the element (o, indices[o, j, c], c)
// Shapes    indices (O, N, C) of I; places (O, N, C), into an array of shape (O, length, C)
// Launch    any 1-D grid, block BLOCK
// Bytes     ONC * (sizeof(I) + 4)     Flops  about 60 ONC for the divisions     bound: memory
// Numerics  exact; the launcher sees to it that places fit 32 bits
// Source    row-major numbering
// Measured  not measured
template <typename I, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    along_places(const I* __restrict__ indices, unsigned* __restrict__ places, long long n,
                 long long rows, long long inner, long long length) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const long long row = quotient(i, inner), o = quotient(row, rows);
    const long long place = (o * length + wrapped(indices[i], length)) * inner + (i - row * inner);
    places[i] = static_cast<unsigned>(place);
  }
}

// gather_rows<W, VEC, I>      y[o, j, :] = x[o, indices[j], :]
// Shapes    x (O, length, C), y (O, N, C) of W; indices (N) of I
// Launch    grid (any, any), block (X, 256 / X): X threads share a row, in one of gridDim.y slabs;
//           rows aligned to VEC words
// Bytes     2ONC * sizeof(W) + ON * sizeof(I)     Flops  0     bound: memory
// Numerics  exact
// Source    row gather with 16-byte accesses
// Measured  not measured
template <typename W, int VEC, typename I>
__global__ void __launch_bounds__(256, 1)
    gather_rows(const W* __restrict__ x, const I* __restrict__ indices, W* __restrict__ y,
                long long rows, long long count, long long length, long long inner) {
  const long long step = static_cast<long long>(gridDim.x) * blockDim.y;
  const long long start = (static_cast<long long>(blockIdx.y) * blockDim.x + threadIdx.x) * VEC;
  const long long across = static_cast<long long>(gridDim.y) * blockDim.x * VEC;
  for (long long r = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y; r < rows;
       r += step) {
    const long long o = quotient(r, count), j = r - o * count;
    const W* from = x + (o * length + wrapped(indices[j], length)) * inner;
    W* to = y + r * inner;
#pragma unroll 4
    for (long long c = start; c < inner; c += across)
      store_vec<VEC>(to + c, load_vec<VEC>(from + c));
  }
}

// gather_along<W, I, BLOCK>      y[o, j, c] = x[o, indices[o, j, c], c]
// Shapes    x (O, length, C), y (O, N, C) of W; indices (O, N, C) of I
// Launch    any 1-D grid, block BLOCK
// Bytes     2ONC * sizeof(W) + ONC * sizeof(I)     Flops  about 60 ONC for the divisions
// Numerics  exact
// Source    one thread an element
// Measured  not measured
template <typename W, typename I, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    gather_along(const W* __restrict__ x, const I* __restrict__ indices, W* __restrict__ y,
                 long long n, long long rows, long long inner, long long length) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const long long row = quotient(i, inner), o = quotient(row, rows);
    y[i] = x[(o * length + wrapped(indices[i], length)) * inner + (i - row * inner)];
  }
}

// pick<T, L, BLOCK>      y[r] = x[r, labels[r]]; NaN if there is no such column
// Shapes    x (R, C) of T, labels (R) of L, y (R) of T
// Launch    any 1-D grid, block BLOCK
// Bytes     R * (a sector of 32 + sizeof(L) + sizeof(T))     Flops  0     bound: memory
// Numerics  exact
// Source    one thread a row
// Measured  not measured
template <typename T, typename L, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    pick(const T* __restrict__ x, const L* __restrict__ labels, T* __restrict__ y, long long rows,
         long long columns) {
  for (long long r = grid_start<long long>(); r < rows; r += grid_stride<long long>()) {
    const long long label = static_cast<long long>(labels[r]);
    const bool known = label >= 0 && label < columns;
    y[r] = known ? x[r * columns + label] : from_float<T>(Acc<T>(__int_as_float(0x7fc00000)));
  }
}

// one_hot<T, I, BLOCK>      y[o, k, c] = k == ids[o, c] ? value : 0;  value is values[o, c] or 1
// Shapes    ids, values (O, C) of I and T (values may be null); y (O, K, C) of T
// Launch    any 1-D grid, block BLOCK; a thread makes 16 bytes; y aligned to them
// Bytes     OKC * sizeof(T)     Flops  3 OKC     bound: memory
// Numerics  exact
// Source    every element is written once: no zeros first, no scattered second write
// Measured  not measured
template <typename T, typename I, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    one_hot(const I* __restrict__ ids, const T* __restrict__ values, T* __restrict__ y,
            long long n, long long classes, long long inner) {
  constexpr int VEC = kVec<T>;
  const long long groups = ceil_div(n, static_cast<long long>(VEC));
  for (long long g = grid_start<long long>(); g < groups; g += grid_stride<long long>()) {
    const long long row = quotient(g * VEC, inner);
    long long o = quotient(row, classes), k = row - o * classes, c = g * VEC - row * inner;
    Vec<T, VEC> out;
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
      if (g * VEC + v >= n) break;  // unrolled all the same: `out` stays in registers
      const long long place = o * inner + c;
      const bool here = static_cast<long long>(ids[place]) == k;
      out[v] = !here ? from_float<T>(Acc<T>(0)) : values ? values[place] : from_float<T>(Acc<T>(1));
      if (++c == inner) c = 0, ++k;
      if (k == classes) k = 0, ++o;
    }
    if ((g + 1) * VEC <= n)
      store_vec<VEC>(y + g * VEC, out);
    else
#pragma unroll
      for (int v = 0; v < VEC; ++v)
        if (g * VEC + v < n) y[g * VEC + v] = out[v];
  }
}
