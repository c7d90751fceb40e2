// Convolution, channels last, in up to three spatial axes: itself and both gradients, as matrix
// products of gathered tiles. The arithmetic is a template argument: see conv.cuh.
#include "conv.cuh"

// Loads tiles of the patches (rows: places; k: tap and channel) and of the kernel matrix. Each
// thread copies the same column of k in all its rows, so it keeps track of one tap and channel.
template <typename T, class Math, int VEC, bool INPUT_GRAD>
struct Gather {
  using A = Tile<T, Math::kRows, true>;
  using B = Tile<T, Math::kColumns, INPUT_GRAD>;
  const T *source, *kernel;
  const Start* starts;  // of the rows of this block, in shared memory
  GatherAxis axes[3];
  int window1, window2, channels, filters;
  int depth;   // how many channels the source has
  int column;  // the first one of the result that this block computes
  int k = 0, channel = copied_column<A, VEC>(), tap0 = 0, tap1 = 0, tap2 = 0;

  // Carries from channels to taps.
  __device__ __forceinline__ void settle() {
    while (channel >= depth) {
      channel -= depth;
      if (++tap2 < axes[2].taps) continue;
      tap2 = 0;
      if (++tap1 < axes[1].taps) continue;
      tap1 = 0;
      ++tap0;
    }
  }

  __device__ __forceinline__ void load(T* a, T* b) {
    const int moves[3] = {tap0 * axes[0].step, tap1 * axes[1].step, tap2 * axes[2].step};
    const bool inside = tap0 < axes[0].taps;
    const int far = pixel(0, moves[0], moves[1], moves[2], 0, axes[1].size, axes[2].size);
    copy_tile<A, VEC, Math::kThreads>(a, [&](int row) -> const T* {
      const int at = moved(starts[row], moves, far, axes[0].size, axes[1].size, axes[2].size);
      return inside && at >= 0 ? source + static_cast<long long>(at) * depth + channel : nullptr;
    });
    if constexpr (INPUT_GRAD) {  // the kernel, its filters neighbours: k is tap and filter
      const T* tap = kernel + static_cast<long long>(tap_number()) * channels * filters + channel;
      copy_tile<B, VEC, Math::kThreads>(b, [&](int row) -> const T* {
        const int n = column + row;
        return inside && n < channels ? tap + static_cast<long long>(n) * filters : nullptr;
      });
    } else {  // the kernel as it lies: k, tap and channel, are its rows
      const int n = column + copied_column<B, VEC>();
      const int end = axes[0].taps * axes[1].taps * axes[2].taps * channels;
      copy_tile<B, VEC, Math::kThreads>(b, [&](int row) -> const T* {
        const bool there = k + row < end && n < filters;
        return there ? kernel + static_cast<long long>(k + row) * filters + n : nullptr;
      });
    }
    k += kStep<T>;
    channel += kStep<T>;
    settle();
  }

  // Which tap of the kernel this thread is at.
  __device__ __forceinline__ int tap_number() const {
    const int t0 = axes[0].first_tap + tap0 * axes[0].tap_skip;
    const int t1 = axes[1].first_tap + tap1 * axes[1].tap_skip;
    return (t0 * window1 + t1) * window2 + axes[2].first_tap + tap2 * axes[2].tap_skip;
  }
};

// Writes down where the taps of each row of a block begin, and which pixel of the result it is.
template <int ROWS, int THREADS>
__device__ __forceinline__ void describe_rows(Start* starts, long long* pixels, long long first,
                                              long long rows, const GatherAxis (&axes)[3],
                                              int size0, int size1, int size2) {
  for (int i = threadIdx.x; i < ROWS; i += THREADS) {
    starts[i] = make_int4(kNowhere, 0, 0, 0);
    pixels[i] = -1;
    if (first + i >= rows) continue;
    const int4 r = unravel(first + i, axes[0].count, axes[1].count, axes[2].count);
    const int s0 = r.x * axes[0].stride + axes[0].offset;
    const int s1 = r.y * axes[1].stride + axes[1].offset;
    const int s2 = r.z * axes[2].stride + axes[2].offset;
    starts[i] = make_int4(
        s0, s1, s2, pixel(r.w, s0, s1, s2, axes[0].size, axes[1].size, axes[2].size));
    pixels[i] = pixel(static_cast<long long>(r.w), axes[0].begin + r.x * axes[0].skip,
                      axes[1].begin + r.y * axes[1].skip, axes[2].begin + r.z * axes[2].skip,
                      size0, size1, size2);
  }
}

// conv_gather<T, Math, VEC, INPUT_GRAD>
//     y[p, o]  = sum over taps t, channels c of k[t, c, o] x[p stride + t dilation - before, c];
//     with INPUT_GRAD, over the taps that have such a place,
//     dx[q, c] = sum over taps t, filters o of k[t, c, o] g[(q + before - t dilation) / stride, o]
// Shapes    source (N, size, C) or (N, count, O), kernel (window, C, O), result (N, count, O) or
//           (N, size, C), all of T; VEC divides C and O
// Launch    grid: tiles of kRows x kColumns, with INPUT_GRAD times the product of the strides;
//           block Math::kThreads, dynamic shared 24 kRows bytes + kStages pairs of tiles
// Bytes     all three arrays once, as far as caches hold them     Flops  2 N count window C O
//           bound: arithmetic
// Numerics  float32 sums in a fixed order: deterministic; one rounding to T at the end
// Source    implicit GEMM: Chetlur et al. 2014, arXiv:1410.0759; the gradient in gather form
// Measured  not measured
template <typename T, class Math, int VEC, bool INPUT_GRAD>
__global__ void __launch_bounds__(Math::kThreads, Math::kBlocks)
    conv_gather(const T* __restrict__ source, const T* __restrict__ kernel, T* __restrict__ result,
                int batch, int channels, int filters, WINDOW_PARAMETERS) {
  using Operands = Gather<T, Math, VEC, INPUT_GRAD>;
  constexpr int kRows = Math::kRows;
  MAKE_WINDOW;
  GPUNET_SHARED(Start, starts);  // then the pixels of the rows, then the tiles
  long long* pixels = reinterpret_cast<long long*>(starts + kRows);
  T* tiles = reinterpret_cast<T*>(pixels + kRows);
  // Neighbouring blocks have the same rows, in all phases and columns: they read the same source.
  const unsigned plane = INPUT_GRAD ? height.stride * width.stride : 1;
  const unsigned phases = INPUT_GRAD ? depth.stride * plane : 1;
  const unsigned phase = blockIdx.x % phases, tile = blockIdx.x / phases;
  const GatherAxis axes[3] = {
      INPUT_GRAD ? input_grad_axis(depth, phase / plane) : forward_axis(depth),
      INPUT_GRAD ? input_grad_axis(height, phase / width.stride % height.stride)
                 : forward_axis(height),
      INPUT_GRAD ? input_grad_axis(width, phase % width.stride) : forward_axis(width),
  };
  const int wide = INPUT_GRAD ? channels : filters, across = ceil_div(wide, Math::kColumns);
  const int column = static_cast<int>(tile % across) * Math::kColumns;
  const long long first = static_cast<long long>(tile / across) * kRows;
  const long long lines = static_cast<long long>(batch) * axes[0].count * axes[1].count;
  const long long rows = lines * axes[2].count;
  if (first >= rows) return;  // this phase has fewer rows than others: the whole block leaves
  describe_rows<kRows, Math::kThreads>(starts, pixels, first, rows, axes,
                                       INPUT_GRAD ? depth.size : depth.count,
                                       INPUT_GRAD ? height.size : height.count,
                                       INPUT_GRAD ? width.size : width.count);
  const int inside = INPUT_GRAD ? filters : channels;
  Operands operands = {source,        kernel,       starts,   {axes[0], axes[1], axes[2]},
                       height.window, width.window, channels, filters,
                       inside,        column};
  operands.settle();
  const int steps = ceil_div(axes[0].taps * axes[1].taps * axes[2].taps * inside, kStep<T>);
  Math math;
  multiply_tiles(operands, tiles, steps, math);
  math.template each<typename Operands::A, typename Operands::B>(
      [&](int row, int n, const auto& run) {
        if (pixels[row] >= 0) store_run(result + pixels[row] * wide, column + n, wide, run);
      });
}

// Loads tiles of the patches, transposed (rows: tap and channel; k: places), and of the cotangents.
// Each thread copies the same tap and channel of all its places. Where those of a step begin is
// written down a step before, by the first threads.
template <typename T, class Math, int VEC>
struct GatherTransposed {
  using A = Tile<T, Math::kRows, false>;
  using B = Tile<T, Math::kColumns, false>;
  const T *x, *cotangents;
  Start* starts;  // of the places of this step and of the next, in shared memory
  Axis axes[3];
  int channels, filters;
  long long place, end;  // the first place of this step; where those of this block end
  int column;            // the first filter that this block computes
  int channel = 0, half = 0, moves[3] = {};
  int4 next = {};  // the place, in parts, whose start this thread writes next
  bool inside = false;

  // Finds tap and channel of this thread, where `row` is the first one of the block.
  __device__ __forceinline__ void begin(int row) {
    const int m = row + copied_column<A, VEC>(), tap = m / channels, line = tap / axes[2].window;
    channel = m % channels;
    moves[0] = line / axes[1].window * axes[0].dilation;
    moves[1] = line % axes[1].window * axes[1].dilation;
    moves[2] = tap % axes[2].window * axes[2].dilation;
    inside = line / axes[1].window < axes[0].window;
    next = unravel(place + threadIdx.x, axes[0].count, axes[1].count, axes[2].count);
    write_starts();
  }

  // Thread i of the first ones writes where place i of the step begins, and moves on to the next
  // step: by additions, because divisions would keep all other warps waiting.
  __device__ __forceinline__ void write_starts() {
    if (threadIdx.x >= kStep<T>) return;
    Start& start = starts[half * kStep<T> + threadIdx.x];
    start = make_int4(kNowhere, 0, 0, 0);
    if (place + threadIdx.x < end) {
      const int s0 = axes[0].input(next.x, 0), s1 = axes[1].input(next.y, 0);
      const int s2 = axes[2].input(next.z, 0);
      start = make_int4(
          s0, s1, s2, pixel(next.w, s0, s1, s2, axes[0].size, axes[1].size, axes[2].size));
    }
    next.z += kStep<T>;
    while (next.z >= axes[2].count) {
      next.z -= axes[2].count;
      if (++next.y < axes[1].count) continue;
      next.y = 0;
      if (++next.x < axes[0].count) continue;
      next.x = 0;
      ++next.w;
    }
  }

  __device__ __forceinline__ void load(T* a, T* b) {
    const Start* now = starts + half * kStep<T>;
    const int far = pixel(0, moves[0], moves[1], moves[2], 0, axes[1].size, axes[2].size);
    copy_tile<A, VEC, Math::kThreads>(a, [&](int row) -> const T* {
      const int at = moved(now[row], moves, far, axes[0].size, axes[1].size, axes[2].size);
      return inside && at >= 0 ? x + static_cast<long long>(at) * channels + channel : nullptr;
    });
    const int n = column + copied_column<B, VEC>();
    copy_tile<B, VEC, Math::kThreads>(b, [&](int row) -> const T* {
      const bool there = place + row < end && n < filters;
      return there ? cotangents + (place + row) * filters + n : nullptr;
    });
    half = 1 - half;
    place += kStep<T>;
    write_starts();
  }
};

// conv_kernel_grad<T, Math, VEC>
//     part[z, t, c, o] = sum over places p of slice z of
//                        x[p stride + t dilation - before, c] g[p, o];
//     the gradient is the sum of the parts over z
// Shapes    x (N, size, C), cotangents g (N, count, O) of T; part (Z, window, C, O) of float;
//           VEC divides C and O
// Launch    grid (tiles of kRows x kColumns, Z), block Math::kThreads, dynamic shared 32 kStep
//           bytes + kStages pairs of tiles; slice z begins at place z * `slice`
// Bytes     all arrays once, as far as caches hold them     Flops  2 N count window C O
//           bound: arithmetic
// Numerics  float32 sums in a fixed order, which depends on `slice`; a reduction over z follows
// Source    implicit GEMM: Chetlur et al. 2014, arXiv:1410.0759; split-K
// Measured  not measured
template <typename T, class Math, int VEC>
__global__ void __launch_bounds__(Math::kThreads, Math::kBlocks)
    conv_kernel_grad(const T* __restrict__ x, const T* __restrict__ cotangents,
                     float* __restrict__ part, long long slice, int batch, int channels,
                     int filters, WINDOW_PARAMETERS) {
  using Operands = GatherTransposed<T, Math, VEC>;
  MAKE_WINDOW;
  GPUNET_SHARED(Start, starts);
  T* tiles = reinterpret_cast<T*>(starts + 2 * kStep<T>);
  const int across = ceil_div(filters, Math::kColumns);
  const int column = static_cast<int>(blockIdx.x % across) * Math::kColumns;
  const int first = static_cast<int>(blockIdx.x / across) * Math::kRows;
  const int rows = depth.window * height.window * width.window * channels;
  const long long lines = static_cast<long long>(batch) * depth.count * height.count;
  const long long all = lines * width.count, begin = blockIdx.y * slice;
  const long long end = begin + slice < all ? begin + slice : all;

  Operands operands = {x,        cotangents, starts, {depth, height, width},
                       channels, filters,    begin,  end, column};
  operands.begin(first);
  Math math;
  const int steps = static_cast<int>(ceil_div(end - begin, static_cast<long long>(kStep<T>)));
  multiply_tiles(operands, tiles, steps, math);
  float* out = part + static_cast<long long>(blockIdx.y) * rows * filters;
  math.template each<typename Operands::A, typename Operands::B>(
      [&](int row, int n, const auto& run) {
        if (first + row < rows)
          store_run(out + static_cast<long long>(first + row) * filters, column + n, filters, run);
      });
}
