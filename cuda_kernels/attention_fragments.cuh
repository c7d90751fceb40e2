// Attention on tensor cores: tiles of 16-bit rows in shared memory, products of them, and the
// softmax of scores in registers. All functions are called by whole warps, four to a block.
//
// The results of a product lie as mma_m16n8k16 leaves them: c[m][n][e] is element e of the 16x8
// fragment (m, n), its row and column those of `row_of(m, e)` and `column_of(n, e)`.
#pragma once

#include "attention.cuh"
#include "tensor_core.cuh"

constexpr int kThreads = 128;
constexpr float kLog2e = 1.4426950408889634f;  // scores are kept as powers of two
constexpr float kLn2 = 0.6931471805599453f;

// How many rows the tiles have that a loop walks through: what fits the registers.
template <int D>
constexpr int kStep = D == 128 ? 32 : 64;
template <int D, bool ATOMIC>
constexpr int kPullStep = D == 128 && ATOMIC ? 16 : kStep<D>;

// Where 8 elements of a row lie in a tile of D columns. Pieces of neighbouring rows are swapped, so
// that the 8 rows of an 8x8 matrix lie in different banks.
template <int D>
__device__ __forceinline__ int place(int row, int piece) {
  constexpr int SWAPPED = D / 8 < 8 ? D / 8 : 8;
  return row * D + (piece ^ (row / (8 / SWAPPED) % SWAPPED)) * 8;
}

// Starts copying ROWS rows of one head into a tile; zeros where there is no element.
template <int ROWS, int D, typename T>
__device__ __forceinline__ void load_tile(T* tile, const T* head, long long stride, int first,
                                          int length, int width) {
  for (int i = threadIdx.x; i < ROWS * D / 8; i += kThreads) {
    const int row = i / (D / 8), piece = i % (D / 8);
    const bool exists = first + row < length && piece * 8 < width;
    const T* from = exists ? head + (first + row) * stride + piece * 8 : head;
    cp_async_16(tile + place<D>(row, piece), from, exists);
  }
}

// The fragment of a left operand: rows first, ..., first + 15 and columns 16 k, ... of a tile.
template <int D, typename T>
__device__ __forceinline__ void load_left(unsigned (&a)[4], const T* tile, int first, int k) {
  const int lane = threadIdx.x % 32;
  ldmatrix_x4(a, tile + place<D>(first + lane % 16, 2 * k + lane / 16));
}

// The same of the transpose of a tile: its columns first, ... are the rows.
template <int D, typename T>
__device__ __forceinline__ void load_left_transposed(unsigned (&a)[4], const T* tile, int first,
                                                     int k) {
  const int lane = threadIdx.x % 32;
  const int row = 16 * k + lane % 8 + lane / 16 * 8;
  ldmatrix_x4_trans(a, tile + place<D>(row, first / 8 + lane / 8 % 2));
}

// Two fragments of a right operand that is a tile: rows 16 k, ..., columns 16 n, ...
template <int D, typename T>
__device__ __forceinline__ void load_right(unsigned (&b)[2][2], const T* tile, int k, int n) {
  const int lane = threadIdx.x % 32;
  unsigned r[4];
  ldmatrix_x4_trans(r, tile + place<D>(16 * k + lane % 16, 2 * n + lane / 16));
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// The same of the transpose of a tile.
template <int D, typename T>
__device__ __forceinline__ void load_right_transposed(unsigned (&b)[2][2], const T* tile, int k,
                                                      int n) {
  const int lane = threadIdx.x % 32;
  unsigned r[4];
  ldmatrix_x4(r, tile + place<D>(16 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// c = (16 M rows of a, from `first`) times the transpose of (8 N rows of b).
template <int D, typename T, int M, int N>
__device__ __forceinline__ void dot_rows(const T* a, int first, const T* b, float (&c)[M][N][4]) {
#pragma unroll
  for (int i = 0; i < M * N * 4; ++i) c[i / (4 * N)][i / 4 % N][i % 4] = 0;
#pragma unroll 2  // all of it at once takes registers for addresses
  for (int k = 0; k < D / 16; ++k) {
    unsigned left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) load_left<D>(left[m], a, first + 16 * m, k);
#pragma unroll
    for (int n = 0; n < N / 2; ++n) {
      unsigned right[2][2];
      load_right_transposed<D>(right, b, k, n);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_m16n8k16<T>(c[m][2 * n], left[m], right[0]);
        mma_m16n8k16<T>(c[m][2 * n + 1], left[m], right[1]);
      }
    }
  }
}

// Two numbers rounded to T, in one register.
template <typename T>
__device__ __forceinline__ unsigned packed(float low, float high) {
  if constexpr (kIsBfloat16<T>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return __bfloat16_as_ushort(pair.x) | __bfloat16_as_ushort(pair.y) << 16;
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    return __half_as_ushort(pair.x) | __half_as_ushort(pair.y) << 16;
  }
}

// c += p v: the results p of a product are the left operand, v is a tile of 8 N rows.
template <int D, typename T, int M, int N>
__device__ __forceinline__ void add_product(const float (&p)[M][N][4], const T* v,
                                            float (&c)[M][D / 8][4]) {
#pragma unroll
  for (int k = 0; k < N / 2; ++k) {
    unsigned left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &p[m][2 * k + i / 2][i % 2 * 2];
        left[m][i] = packed<T>(pair[0], pair[1]);
      }
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      unsigned right[2][2];
      load_right<D>(right, v, k, n);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_m16n8k16<T>(c[m][2 * n], left[m], right[0]);
        mma_m16n8k16<T>(c[m][2 * n + 1], left[m], right[1]);
      }
    }
  }
}

// Element e of the fragment (m, n) of a warp's results: its row and its column.
__device__ __forceinline__ int row_of(int m, int e) {
  return 16 * m + threadIdx.x % 32 / 4 + e / 2 * 8;
}
__device__ __forceinline__ int column_of(int n, int e) {
  return 8 * n + threadIdx.x % 4 * 2 + e % 2;
}

// Writes 16 rows of a warp's results, each row times a factor: rows r and r + 8 of this thread.
template <int D, typename T>
__device__ __forceinline__ void store_rows(T* y, long long stride, int first, int length, int width,
                                           const float (&c)[D / 8][4], float factor0,
                                           float factor1) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + row_of(0, 2 * half);
    const float factor = half ? factor1 : factor0;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      if (row >= length || 8 * n >= width) continue;
      const Vec<T, 2> pair = {from_float<T>(c[n][2 * half] * factor),
                              from_float<T>(c[n][2 * half + 1] * factor)};
      store_vec(y + row * stride + column_of(n, 0), pair);
    }
  }
}

// The softmax of 16 M rows of a warp, tile by tile. The four lanes that share a row agree on its
// maximum; each sums its own columns until the end.
template <int M>
struct OnlineSoftmax {
  float top[M][2], total[M][2];

  __device__ __forceinline__ OnlineSoftmax() {
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) top[i / 2][i % 2] = kLowest, total[i / 2][i % 2] = 0;
  }

  // Turns scores of a tile into weights; shrinks the sums if a maximum grows.
  template <int N, int C>
  __device__ __forceinline__ void add(float (&s)[M][N][4], float (&out)[M][C][4]) {
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) {
      const int m = i / 2, half = i % 2 * 2;
      float highest = top[m][i % 2], sum = 0;
#pragma unroll
      for (int j = 0; j < 2 * N; ++j)  // fmaxf skips a NaN; the sum below does not
        highest = fmaxf(highest, s[m][j / 2][half + j % 2]);
      highest = warp_max<4>(highest);
      const float shrink = exp2f(top[m][i % 2] - highest);
#pragma unroll
      for (int j = 0; j < 2 * N; ++j) {
        float& weight = s[m][j / 2][half + j % 2];
        weight = exp2f(weight - highest);
        sum += weight;
      }
      top[m][i % 2] = highest;
      total[m][i % 2] = total[m][i % 2] * shrink + sum;
#pragma unroll
      for (int j = 0; j < 2 * C; ++j) out[m][j / 2][half + j % 2] *= shrink;
    }
  }

  // Whether a row that exists has found no key that is allowed.
  __device__ __forceinline__ bool any_lost(int first, int rows) const {
    bool lost = false;
#pragma unroll
    for (int i = 0; i < 2 * M; ++i)
      lost |= first + row_of(i / 2, i % 2 * 2) < rows && is_lost(top[i / 2][i % 2]);
    return lost;
  }

  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) total[i / 2][i % 2] = warp_sum<4>(total[i / 2][i % 2]);
  }

  __device__ __forceinline__ void store_lse(float* lse, int first, int rows) const {
#pragma unroll
    for (int i = 0; i < 2 * M; ++i) {
      const int row = first + row_of(i / 2, i % 2 * 2);
      const float highest = top[i / 2][i % 2], sum = total[i / 2][i % 2];
      if (threadIdx.x % 4 == 0 && row < rows)
        lse[row] = is_lost(highest) && sum == sum ? kFloor : (highest + log2f(sum)) * kLn2;
    }
  }
};
