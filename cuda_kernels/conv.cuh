// What the convolution kernels are made of: tiles in shared memory, the loop that multiplies them,
// and how tap, place and input go together along a spatial axis.
//
// A convolution is a product of two matrices of which one, the patches of the inputs, is never
// written down (implicit GEMM): a block computes a tile of the result, and gathers the piece
// of the patches that it needs, step by step, into shared memory.
#pragma once

#include "tensor_core.cuh"
#include "window.cuh"

// ---- tiles in shared memory ---------------------------------------------------------------------

// How much of the dimension that is summed over a step takes: 64 bytes.
template <typename T>
constexpr int kStep = 64 / sizeof(T);

// A piece of one operand, EXTENT along m (or n) and kStep along k, which lie in memory as in the
// operand: with K_INNER the neighbours are along k. The padding of the pitch lets 8 neighbouring
// rows of 16 bytes, what a warp reads at once, fall into different banks.
template <typename T, int EXTENT, bool K_INNER>
struct Tile {
  using Element = T;
  static constexpr bool kInner = K_INNER;
  static constexpr int kRows = K_INNER ? EXTENT : kStep<T>;
  static constexpr int kColumns = K_INNER ? kStep<T> : EXTENT;
  static constexpr int kPitch = kColumns + (K_INNER ? 16 / int{sizeof(T)} : 8);
  static constexpr int kElements = kRows * kPitch;
  static __device__ __forceinline__ int at(int mn, int k) {
    return K_INNER ? mn * kPitch + k : k * kPitch + mn;
  }
};

// The column of a tile that this thread copies to, in every row it does.
template <class TILE, int VEC>
__device__ __forceinline__ int copied_column() {
  return threadIdx.x % (TILE::kColumns / VEC) * VEC;
}

// Fills a tile: `source(row)` is where this thread's VEC elements of a row lie, null for zeros.
template <class TILE, int VEC, int THREADS, typename T, class Source>
__device__ __forceinline__ void copy_tile(T* tile, Source source) {
  constexpr int kAcross = TILE::kColumns / VEC, kTogether = THREADS / kAcross;
  static_assert(THREADS % kAcross == 0 && TILE::kRows % kTogether == 0, "threads share a tile");
  const int first = threadIdx.x / kAcross, column = copied_column<TILE, VEC>();
#pragma unroll 4
  for (int i = 0; i < TILE::kRows / kTogether; ++i) {
    const int row = first + i * kTogether;
    const T* from = source(row);
    T* to = tile + row * TILE::kPitch + column;
    if constexpr (VEC * sizeof(T) == 16) {
      cp_async_16(to, from, from != nullptr);
    } else if constexpr (VEC * sizeof(T) == 4) {
      cp_async_4(to, from, from != nullptr);
    } else {  // no asynchronous copy is that small
      *to = from ? *from : from_float<T>(0);
    }
  }
}

constexpr int kStages = 3;  // tiles in flight: one is multiplied while two are on their way

// Multiplies `steps` pairs of tiles. `operands.load(a, b)` starts to copy the next pair; before
// each call stands a barrier, which it may count on for what it keeps in shared memory.
template <class Math, class Operands, typename T>
__device__ __forceinline__ void multiply_tiles(Operands& operands, T* tiles, int steps,
                                               Math& math) {
  using A = typename Operands::A;
  using B = typename Operands::B;
  constexpr int kPair = A::kElements + B::kElements;
  for (int step = 0; step < kStages - 1; ++step) {
    __syncthreads();
    if (step < steps) operands.load(tiles + step * kPair, tiles + step * kPair + A::kElements);
    cp_async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<kStages - 2>();
    __syncthreads();  // the copies of all threads are there, and the oldest tile is free
    T* next = tiles + (step + kStages - 1) % kStages * kPair;
    if (step + kStages - 1 < steps) operands.load(next, next + A::kElements);
    cp_async_commit();
    const T* now = tiles + step % kStages * kPair;
    math.template multiply<A, B>(now, now + A::kElements);
  }
}

// Writes neighbouring elements of a row of the result, as far as it goes.
template <typename T, int N>
__device__ __forceinline__ void store_run(T* row, int n, int width, const float (&run)[N]) {
  if (width % N == 0 && n < width) {
    Vec<T, N> values;
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = from_float<T>(run[i]);
    store_vec(row + n, values);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (n + i < width) row[n + i] = from_float<T>(run[i]);
  }
}

// ---- arithmetic: what a block does with a pair of tiles -----------------------------------------
//
// Each computes a tile of kRows x kColumns with kThreads threads; `each(visit)` hands out the sums
// of this thread, in runs of neighbouring columns: visit(row, column, run). kBlocks are to fit on a
// multiprocessor, which bounds the registers.

// Exact float32 on the CUDA cores: a thread computes 8 x 8 sums of a square tile.
template <int SIZE>
struct Fma {
  static constexpr int kRows = SIZE, kColumns = SIZE;
  static constexpr int kAcross = SIZE / 8, kThreads = kAcross * kAcross, kBlocks = 1;
  float sum[8][8] = {};

  // Place i of the 8 of thread t, along m or n: 16-byte reads of a warp meet no bank twice.
  template <bool K_INNER>
  static __device__ __forceinline__ int place(int t, int i) {
    return K_INNER ? t + i * kAcross : i / 4 * (SIZE / 2) + 4 * t + i % 4;
  }

  // Elements k to k + 3 of the 8 places of thread t.
  template <class TILE>
  static __device__ __forceinline__ void fetch(const float* tile, int t, int k,
                                               float (&value)[4][8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if constexpr (TILE::kInner) {  // four k of place i
        const Vec<float, 4> four = load_vec<4>(tile + TILE::at(place<true>(t, i), k));
#pragma unroll
        for (int q = 0; q < 4; ++q) value[q][i] = four[q];
      } else {  // one k of four places
        const int q = i / 2, j = i % 2 * 4;
        const Vec<float, 4> four = load_vec<4>(tile + TILE::at(place<false>(t, j), k + q));
#pragma unroll
        for (int p = 0; p < 4; ++p) value[q][j + p] = four[p];
      }
    }
  }

  template <class A, class B>
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
#pragma unroll 1  // 256 multiply-adds are enough at a time, and registers are few
    for (int k = 0; k < kStep<float>; k += 4) {
      float x[4][8], y[4][8];
      fetch<A>(a, threadIdx.x / kAcross, k, x);
      fetch<B>(b, threadIdx.x % kAcross, k, y);
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
          for (int j = 0; j < 8; ++j) sum[i][j] += x[q][i] * y[q][j];
    }
  }

  template <class A, class B, class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    constexpr int kRun = B::kInner ? 1 : 4;
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; j += kRun) {
        float run[kRun];
#pragma unroll
        for (int q = 0; q < kRun; ++q) run[q] = sum[i][j + q];
        visit(place<A::kInner>(threadIdx.x / kAcross, i),
              place<B::kInner>(threadIdx.x % kAcross, j), run);
      }
  }
};

// What tensor cores compute: 2 x COLUMNS/32 warps, each ROWS/2 x 32 sums, in pieces of 16 x 8.
template <int ROWS, int COLUMNS>
struct WarpSums {
  static constexpr int kRows = ROWS, kColumns = COLUMNS;
  static constexpr int kThreads = 2 * COLUMNS, kBlocks = 512 / kThreads;
  static constexpr int kHigh = ROWS / 32, kWide = 4;  // pieces of a warp
  float sum[kHigh][kWide][4] = {};

  static __device__ __forceinline__ int row() { return threadIdx.x / 32 % 2 * (ROWS / 2); }
  static __device__ __forceinline__ int column() { return threadIdx.x / 64 * 32; }

  template <class A, class B, class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2 * kHigh; ++i)
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        const float run[2] = {sum[i / 2][j][i % 2 * 2], sum[i / 2][j][i % 2 * 2 + 1]};
        visit(row() + 8 * i + lane / 4, column() + 8 * j + lane % 4 * 2, run);
      }
  }
};

// 16-bit floats on tensor cores, summed in float32.
template <int ROWS, int COLUMNS>
struct TensorCore : WarpSums<ROWS, COLUMNS> {
  using Sums = WarpSums<ROWS, COLUMNS>;

  // Four 8 x 8 pieces of a tile: each lane gives the place of the one that it holds a row of.
  template <class TILE>
  static __device__ __forceinline__ void fetch(unsigned (&r)[4],
                                               const typename TILE::Element* tile, int mn, int k) {
    const int line = threadIdx.x % 8;
    if constexpr (TILE::kInner)
      ldmatrix_x4(r, tile + TILE::at(mn + line, k));
    else
      ldmatrix_x4_trans(r, tile + TILE::at(mn, k + line));
  }

  template <class A, class B, typename T>
  __device__ __forceinline__ void multiply(const T* a, const T* b) {
    // Of the four pieces, `a` wants the second 8 further along m, the third along k, the last both
    // ways; `b` wants the two of a k together, for the two products that share its registers.
    const int first = threadIdx.x / 8 % 2 * 8, second = threadIdx.x / 16 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kStep<T>; k += 16) {
      unsigned x[Sums::kHigh][4], y[Sums::kWide / 2][4];
#pragma unroll
      for (int i = 0; i < Sums::kHigh; ++i)
        fetch<A>(x[i], a, Sums::row() + 16 * i + first, k + second);
#pragma unroll
      for (int j = 0; j < Sums::kWide / 2; ++j)
        fetch<B>(y[j], b, Sums::column() + 16 * j + second, k + first);
#pragma unroll
      for (int i = 0; i < Sums::kHigh; ++i)
#pragma unroll
        for (int j = 0; j < Sums::kWide; ++j) {
          const unsigned pair[2] = {y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<T>(this->sum[i][j], x[i], pair);
        }
    }
  }
};

// float32 rounded to TF32 on tensor cores: 10 bits after the leading one, summed in float32.
template <int ROWS, int COLUMNS>
struct TensorCoreTf32 : WarpSums<ROWS, COLUMNS> {
  using Sums = WarpSums<ROWS, COLUMNS>;

  template <class A, class B>
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < kStep<float>; k += 8) {
      unsigned x[Sums::kHigh][4], y[Sums::kWide][2];
#pragma unroll
      for (int i = 0; i < Sums::kHigh; ++i)
#pragma unroll
        for (int q = 0; q < 4; ++q)
          x[i][q] = to_tf32(a[A::at(Sums::row() + 16 * i + g + q % 2 * 8, k + t + q / 2 * 4)]);
#pragma unroll
      for (int j = 0; j < Sums::kWide; ++j)
#pragma unroll
        for (int q = 0; q < 2; ++q)
          y[j][q] = to_tf32(b[B::at(Sums::column() + 8 * j + g, k + t + 4 * q)]);
#pragma unroll
      for (int i = 0; i < Sums::kHigh; ++i)
#pragma unroll
        for (int j = 0; j < Sums::kWide; ++j) mma_m16n8k8_tf32(this->sum[i][j], x[i], y[j]);
    }
  }
};

// ---- geometry -----------------------------------------------------------------------------------

// One spatial axis of a gather: the result at begin + r * skip, for r < count, is the sum over
// j < taps of the kernel at first_tap + j * tap_skip times the source at r * stride + j * step +
// offset, which is zero outside [0, size).
struct GatherAxis {
  int count, begin, skip, taps, first_tap, tap_skip, stride, step, offset, size;
};

// A convolution gathers inputs: place p reads with tap t input p * stride + t * dilation - before.
__device__ __forceinline__ GatherAxis forward_axis(const Axis& a) {
  return {a.count, 0, 1, a.window, 0, 1, a.stride, a.dilation, -a.before, a.size};
}

// Its gradient by the inputs gathers cotangents: input q gets from tap t what place
// (q + before - t * dilation) / stride has, where that is whole. All q of one phase, modulo the
// stride, are hit by the same taps, every stride / gcd(stride, dilation)-th; so nothing is divided
// in the loop, and no product with zero is computed.
__device__ __forceinline__ GatherAxis input_grad_axis(const Axis& a, int phase) {
  const int at = phase + a.before;
  int first = 0, skip = 1;
  while (first < a.window && (at - first * a.dilation) % a.stride) ++first;
  while (skip * a.dilation % a.stride) ++skip;
  const int taps = first < a.window ? ceil_div(a.window - first, skip) : 0;
  const int count = phase < a.size ? ceil_div(a.size - phase, a.stride) : 0;
  const int step = -skip * a.dilation / a.stride, offset = (at - first * a.dilation) / a.stride;
  return {count, phase, a.stride, taps, first, skip, 1, step, offset, a.count};
}

// Where in the source the taps of a row of the gathered matrix begin: along each axis, and as the
// number of a pixel, which says nothing where an axis is outside. The launcher sees to it that
// these numbers fit 32 bits: the loop that copies has no time for more.
using Start = int4;
constexpr int kNowhere = -(1 << 30);  // no tap reaches the source from there

// Splits the number of a row, (batch, count, count, count), into its parts; the batch is last.
__device__ __forceinline__ int4 unravel(long long row, int count0, int count1, int count2) {
  const long long line = row / count2, plane = line / count1, sample = plane / count0;
  return make_int4(static_cast<int>(plane - sample * count0),
                   static_cast<int>(line - plane * count1), static_cast<int>(row - line * count2),
                   static_cast<int>(sample));
}

// The number of a pixel of an array (batch, size0, size1, size2).
template <typename Index>
__device__ __forceinline__ Index pixel(Index sample, int i0, int i1, int i2, int size0, int size1,
                                       int size2) {
  return ((sample * size0 + i0) * size1 + i1) * size2 + i2;
}

// The same of what lies at `moves` from a start, `far` pixels on; -1 outside of the source.
__device__ __forceinline__ int moved(const Start& at, const int (&moves)[3], int far, int size0,
                                     int size1, int size2) {
  const auto outside = [](int i, int size) {  // a negative one wraps around
    return static_cast<unsigned>(i) >= static_cast<unsigned>(size);
  };
  const bool lost = outside(at.x + moves[0], size0) | outside(at.y + moves[1], size1) |
                    outside(at.z + moves[2], size2);
  return lost ? -1 : at.w + far;
}
