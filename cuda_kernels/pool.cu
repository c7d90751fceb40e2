// Pooling in one to three dimensions, channels last: a thread does V neighbouring channels of one
// place (forward) or of one input (backward: it gathers the windows that cover it, no atomics).
#include "window.cuh"

constexpr int kPoolBlock = 256;  // at most; rows of few elements take smaller blocks

// max_pool_forward<T, V>      y[p, c] = max over taps t of x[p * stride - before + t, c]
// Shapes    x (N, D, H, W, C), y (N, D', H', W', C) of T; V divides C
// Launch    grid (any, any): rows (N, D', H') by pieces of rows; block up to 256
// Bytes     (|x| + |y|) * sizeof(T)          Flops  |y| * taps     bound: memory
// Numerics  exact; NaN wins; a window of padding only gives -inf
// Source    a gather of 16-byte pieces; taps that overlap are read from L1 and L2
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kPoolBlock, 1)
    max_pool_forward(const T* __restrict__ x, T* __restrict__ y, long long rows, int channels,
                     WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row place = row_at(row, depth.count, height.count);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.count * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      Acc<T> best[V];
      for (int v = 0; v < V; v++) best[v] = Max::identity<Acc<T>>();
      for_taps(depth, height, width, place, w, [&](int, long long site) {
        const Vec<T, V> in = load_vec<V>(x + site * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++) best[v] = Max()(best[v], to_float(in[v]));
      });
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(best[v]);
      store_vec<V>(y + (row * width.count + w) * channels + c, out);
    }
  }
}

// max_pool_winner<T, I, V>      winner[p, c] = the first tap t with x[..] = y[p, c], I(-1) if none
// Shapes    x (N, D, H, W, C), y (N, D', H', W', C) of T; winner as y, of I; V divides C
// Launch    as max_pool_forward
// Bytes     (|x| + |y|) * sizeof(T) + |y| * sizeof(I)          Flops  |y| * taps     bound: memory
// Numerics  exact; ties go to the first tap, rows first; a NaN has no winner
// Source    one byte for each place makes the backward pass cheap
// Measured  not measured
template <typename T, typename I, int V>
__global__ void __launch_bounds__(kPoolBlock, 1)
    max_pool_winner(const T* __restrict__ x, const T* __restrict__ y, I* __restrict__ winner,
                    long long rows, int channels, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row place = row_at(row, depth.count, height.count);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.count * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      const long long at = (row * width.count + w) * channels + c;
      const Vec<T, V> top = load_vec<V>(y + at);
      Vec<I, V> first;
      for (int v = 0; v < V; v++) first[v] = static_cast<I>(-1);
      for_taps(depth, height, width, place, w, [&](int tap, long long site) {
        const Vec<T, V> in = load_vec<V>(x + site * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++)
          if (first[v] == static_cast<I>(-1) && to_float(in[v]) == to_float(top[v]))
            first[v] = static_cast<I>(tap);
      });
      store_vec<V>(winner + at, first);
    }
  }
}

// max_pool_backward<T, I, V>      gx[i, c] = sum over windows p that i won in channel c of g[p, c]
// Shapes    g (N, D', H', W', C) of T; winner as g, of I; gx (N, D, H, W, C) of T; V divides C
// Launch    grid (any, any): rows (N, D, H) by pieces of rows; block up to 256
// Bytes     (|g| + |gx|) * sizeof(T) + |g| * sizeof(I)     Flops  |g| * taps     bound: memory
// Numerics  sums in Acc<T> in the order of the windows; deterministic
// Source    at most ceil(window / stride) windows an axis cover an input
// Measured  not measured
template <typename T, typename I, int V>
__global__ void __launch_bounds__(kPoolBlock, 1)
    max_pool_backward(const T* __restrict__ g, const I* __restrict__ winner, T* __restrict__ gx,
                      long long rows, int channels, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row in = row_at(row, depth.size, height.size);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.size * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      Acc<T> sum[V];
      for (int v = 0; v < V; v++) sum[v] = 0;
      for_readers(depth, height, width, in, w, [&](int tap, long long site, int, int, int) {
        const Vec<I, V> won = load_vec<V>(winner + site * channels + c);
        const Vec<T, V> from = load_vec<V>(g + site * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++)
          if (won[v] == static_cast<I>(tap)) sum[v] += to_float(from[v]);
      });
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(sum[v]);
      store_vec<V>(gx + (row * width.size + w) * channels + c, out);
    }
  }
}

// max_pool_take<T, V>      taken[p, c] = h where the window's first x equal to y[p, c] is, else 0
// Shapes    h, x (N, D, H, W, C), y, taken (N, D', H', W', C) of T; V divides C
// Launch    as max_pool_forward
// Bytes     2 (|x| + |y|) * sizeof(T)          Flops  |y| * taps     bound: memory
// Numerics  exact
// Source    the gradient of max_pool_backward by g
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kPoolBlock, 1)
    max_pool_take(const T* __restrict__ h, const T* __restrict__ x, const T* __restrict__ y,
                  T* __restrict__ taken, long long rows, int channels, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row place = row_at(row, depth.count, height.count);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.count * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      const long long at = (row * width.count + w) * channels + c;
      const Vec<T, V> top = load_vec<V>(y + at);
      unsigned found = 0;  // a bit for each channel
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(0);
      for_taps(depth, height, width, place, w, [&](int, long long site) {
        const Vec<T, V> in = load_vec<V>(x + site * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++)
          if (!(found >> v & 1u) && to_float(in[v]) == to_float(top[v])) {
            found |= 1u << v;
            out[v] = h[site * channels + c + v];
          }
      });
      store_vec<V>(taken + at, out);
    }
  }
}

// average_pool_forward<T, V>      y[p, c] = mean of the inputs (not padding) of window p
// Shapes    x (N, D, H, W, C), y (N, D', H', W', C) of T; V divides C
// Launch    as max_pool_forward
// Bytes     (|x| + |y|) * sizeof(T)          Flops  |y| * taps     bound: memory
// Numerics  sums in Acc<T> in the order of the taps; a window of padding only gives 0
// Source    as max_pool_forward
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kPoolBlock, 1)
    average_pool_forward(const T* __restrict__ x, T* __restrict__ y, long long rows, int channels,
                         WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row place = row_at(row, depth.count, height.count);
    const int slice = depth.inputs_at(place.depth) * height.inputs_at(place.height);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.count * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      Acc<T> sum[V];
      for (int v = 0; v < V; v++) sum[v] = 0;
      for_taps(depth, height, width, place, w, [&](int, long long site) {
        const Vec<T, V> in = load_vec<V>(x + site * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += to_float(in[v]);
      });
      const int inputs = slice * width.inputs_at(w);
      const Acc<T> share = Acc<T>(1) / Acc<T>(inputs > 1 ? inputs : 1);
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(sum[v] * share);
      store_vec<V>(y + (row * width.count + w) * channels + c, out);
    }
  }
}

// average_pool_backward<T, V>      gx[i, c] = sum over windows p over i of g[p, c] / inputs(p)
// Shapes    g (N, D', H', W', C), gx (N, D, H, W, C) of T; V divides C
// Launch    as max_pool_backward
// Bytes     (|g| + |gx|) * sizeof(T)          Flops  2 |g| * taps     bound: memory
// Numerics  sums in Acc<T> in the order of the windows; deterministic
// Source    as max_pool_backward
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kPoolBlock, 1)
    average_pool_backward(const T* __restrict__ g, T* __restrict__ gx, long long rows,
                          int channels, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row in = row_at(row, depth.size, height.size);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.size * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      Acc<T> sum[V];
      for (int v = 0; v < V; v++) sum[v] = 0;
      for_readers(depth, height, width, in, w, [&](int, long long site, int pd, int ph, int pw) {
        const int inputs = depth.inputs_at(pd) * height.inputs_at(ph) * width.inputs_at(pw);
        const Acc<T> share = Acc<T>(1) / Acc<T>(inputs);
        const Vec<T, V> from = load_vec<V>(g + site * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += to_float(from[v]) * share;
      });
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(sum[v]);
      store_vec<V>(gx + (row * width.size + w) * channels + c, out);
    }
  }
}
