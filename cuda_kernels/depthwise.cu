// Depthwise and grouped convolution, channels last, computed directly: each result from its taps.
// A group has few channels, so that there is little to reuse, and bandwidth is the bound.
#include "window.cuh"

constexpr int kGroupedBlock = 256;  // at most; rows of few elements take smaller blocks

// depthwise_forward<T, V>      y[p, c] = sum over taps t of x[p s + t d - before, c] kernel[t, c]
// Shapes    x (N, D, H, W, C), kernel (taps, C), y (N, D', H', W', C) of T; V divides C
// Launch    grid (any, any): rows (N, D', H') by pieces of rows; block up to 256
// Bytes     (|x| + |kernel| + |y|) * sizeof(T)          Flops  2 |y| * taps     bound: memory
// Numerics  sums in Acc<T> in the order of the taps; deterministic
// Source    one result a channel: V channels at once in 16-byte pieces, taps from L1 and L2
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kGroupedBlock, 1)
    depthwise_forward(const T* __restrict__ x, const T* __restrict__ kernel, T* __restrict__ y,
                      long long rows, int channels, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row place = row_at(row, depth.count, height.count);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.count * pieces;
         i += gridDim.y * blockDim.x) {
      const int w = i / pieces, c = i % pieces * V;
      Acc<T> sum[V];
      for (int v = 0; v < V; v++) sum[v] = 0;
      for_taps(depth, height, width, place, w, [&](int tap, long long site) {
        const Vec<T, V> in = load_vec<V>(x + site * channels + c);
        const Vec<T, V> by = load_vec<V>(kernel + static_cast<long long>(tap) * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += to_float(in[v]) * to_float(by[v]);
      });
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(sum[v]);
      store_vec<V>(y + (row * width.count + w) * channels + c, out);
    }
  }
}

// depthwise_input_grad<T, V>      gx[i, c] = sum over taps t of g[(i + before - t d) / s, c]
//                                 kernel[t, c], where that is a place
// Shapes    g (N, D', H', W', C), kernel (taps, C), gx (N, D, H, W, C) of T; V divides C
// Launch    grid (any, any): rows (N, D, H) by pieces of rows; block up to 256
// Bytes     (|g| + |kernel| + |gx|) * sizeof(T)          Flops  2 |g| * taps     bound: memory
// Numerics  sums in Acc<T> in the order of the places; deterministic
// Source    a gather, without atomics
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kGroupedBlock, 1)
    depthwise_input_grad(const T* __restrict__ g, const T* __restrict__ kernel,
                         T* __restrict__ gx, long long rows, int channels, WINDOW_PARAMETERS) {
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
        const Vec<T, V> from = load_vec<V>(g + site * channels + c);
        const Vec<T, V> by = load_vec<V>(kernel + static_cast<long long>(tap) * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += to_float(from[v]) * to_float(by[v]);
      });
      Vec<T, V> out;
      for (int v = 0; v < V; v++) out[v] = from_float<T>(sum[v]);
      store_vec<V>(gx + (row * width.size + w) * channels + c, out);
    }
  }
}

// depthwise_kernel_grad<T, V>      partial[b, t, c] = sum over places p in the rows of block b of
//                                  x[p s + t d - before, c] g[p, c]
// Shapes    x (N, D, H, W, C), g (N, D', H', W', C) of T; partial (B, taps, C) of Acc<T>;
//           V divides C
// Launch    grid (any, B): pieces of the kernel by blocks of `rows_each` rows (N, D', H')
// Bytes     (|x| + |g|) * sizeof(T) + |partial| * sizeof(Acc<T>)     Flops  2 |g| * taps
// Numerics  each block adds its places in order, and a reduction adds the blocks: deterministic
// Source    the taps of a piece of channels are in one block, so that L1 serves what they share
// Measured  not measured
template <typename T, int V>
__global__ void __launch_bounds__(kGroupedBlock, 1)
    depthwise_kernel_grad(const T* __restrict__ x, const T* __restrict__ g,
                          Acc<T>* __restrict__ partial, long long rows, long long rows_each,
                          int channels, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int pieces = channels / V, taps = depth.window * height.window * width.window;
  const long long first = blockIdx.y * rows_each;
  const long long last = first + rows_each < rows ? first + rows_each : rows;
  for (int e = grid_start<int>(); e < taps * pieces; e += grid_stride<int>()) {
    const int c = e % pieces * V, tap = e / pieces;
    const int kw = tap % width.window, kh = tap / width.window % height.window;
    const int kd = tap / width.window / height.window;
    const int first_w = width.first_place_of(kw), end_w = width.end_place_of(kw);
    Acc<T> sum[V];
    for (int v = 0; v < V; v++) sum[v] = 0;
    for (long long row = first; row < last; row++) {
      const Row place = row_at(row, depth.count, height.count);
      const int id = depth.input(place.depth, kd), ih = height.input(place.height, kh);
      if (!depth.inside(id) || !height.inside(ih)) continue;
      const long long line = ((place.sample * depth.size + id) * height.size + ih) * width.size;
#pragma unroll 4
      for (int w = first_w; w < end_w; w++) {
        const Vec<T, V> in = load_vec<V>(x + (line + width.input(w, kw)) * channels + c);
        const Vec<T, V> by = load_vec<V>(g + (row * width.count + w) * channels + c);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += to_float(in[v]) * to_float(by[v]);
      }
    }
    Acc<T>* out = partial + (static_cast<long long>(blockIdx.y) * taps + tap) * channels + c;
    for (int v = 0; v < V; v++) out[v] = sum[v];
  }
}

// grouped_forward<T>      y[p, o] = sum over t, c of x[p s + t d - before, k + c] kernel[t, c, o],
//                         with k = o / F * C, the first channel of the group of o
// Shapes    x (N, D, H, W, G C), kernel (taps, C, G F), y (N, D', H', W', G F) of T, with
//           C = `channels` and F = `filters` of each of G = `groups`
// Launch    grid (any, any): rows (N, D', H') by pieces of rows; block up to 256
// Bytes     (|x| + |kernel| + |y|) * sizeof(T)          Flops  2 |y| * taps * C     bound: memory
// Numerics  sums in Acc<T> in the order of the kernel; deterministic
// Source    neighbouring threads do neighbouring filters: they share inputs, and read whole rows
// Measured  not measured
template <typename T>
__global__ void __launch_bounds__(kGroupedBlock, 1)
    grouped_forward(const T* __restrict__ x, const T* __restrict__ kernel, T* __restrict__ y,
                    long long rows, int groups, int channels, int filters, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int all = groups * filters;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row place = row_at(row, depth.count, height.count);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.count * all;
         i += gridDim.y * blockDim.x) {
      const int w = i / all, o = i % all;
      Acc<T> sum = 0;
      for_taps(depth, height, width, place, w, [&](int tap, long long site) {
        const T* in = x + (site * groups + o / filters) * channels;
        const T* by = kernel + static_cast<long long>(tap) * channels * all + o;
        for (int c = 0; c < channels; c++)
          sum += to_float(in[c]) * to_float(by[static_cast<long long>(c) * all]);
      });
      y[row * width.count * all + i] = from_float<T>(sum);
    }
  }
}

// grouped_input_grad<T>      gx[i, k] = sum over t, f of g[(i + before - t d) / s, o]
//                            kernel[t, c, o], with c = k mod C, and the filters o = k / C * F + f
//                            of its group
// Shapes    g (N, D', H', W', G F), kernel (taps, C, G F), gx (N, D, H, W, G C) of T
// Launch    grid (any, any): rows (N, D, H) by pieces of rows; block up to 256
// Bytes     (|g| + |kernel| + |gx|) * sizeof(T)          Flops  2 |g| * taps * C     bound: memory
// Numerics  sums in Acc<T> in the order of the places, then of the filters; deterministic
// Source    a gather, without atomics
// Measured  not measured
template <typename T>
__global__ void __launch_bounds__(kGroupedBlock, 1)
    grouped_input_grad(const T* __restrict__ g, const T* __restrict__ kernel, T* __restrict__ gx,
                       long long rows, int groups, int channels, int filters, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int all = groups * channels;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const Row in = row_at(row, depth.size, height.size);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width.size * all;
         i += gridDim.y * blockDim.x) {
      const int w = i / all, k = i % all;
      const int group = k / channels, c = k % channels;
      Acc<T> sum = 0;
      for_readers(depth, height, width, in, w, [&](int tap, long long site, int, int, int) {
        const T* from = g + (site * groups + group) * filters;
        const T* by =
            kernel + ((static_cast<long long>(tap) * channels + c) * groups + group) * filters;
        for (int f = 0; f < filters; f++) sum += to_float(from[f]) * to_float(by[f]);
      });
      gx[row * width.size * all + i] = from_float<T>(sum);
    }
  }
}

// grouped_kernel_grad<T>      partial[b, t, c, o] = sum over places p in the rows of block b of
//                             x[p s + t d - before, o / F * C + c] g[p, o]
// Shapes    x (N, D, H, W, G C), g (N, D', H', W', G F) of T; partial (B, taps, C, G F) of Acc<T>
// Launch    grid (any, B): pieces of the kernel by blocks of `rows_each` rows (N, D', H')
// Bytes     (|x| + |g|) * sizeof(T) + |partial| * sizeof(Acc<T>)     Flops  2 |g| * taps * C
// Numerics  each block adds its places in order, and a reduction adds the blocks: deterministic
// Source    a thread owns an element of the kernel; what the taps share comes from L2
// Measured  not measured
template <typename T>
__global__ void __launch_bounds__(kGroupedBlock, 1)
    grouped_kernel_grad(const T* __restrict__ x, const T* __restrict__ g,
                        Acc<T>* __restrict__ partial, long long rows, long long rows_each,
                        int groups, int channels, int filters, WINDOW_PARAMETERS) {
  MAKE_WINDOW;
  const int all = groups * filters, taps = depth.window * height.window * width.window;
  const long long elements = static_cast<long long>(taps) * channels * all;
  const long long first = blockIdx.y * rows_each;
  const long long last = first + rows_each < rows ? first + rows_each : rows;
  for (long long e = grid_start<long long>(); e < elements; e += grid_stride<long long>()) {
    const int o = e % all, c = e / all % channels, tap = e / all / channels;
    const int kw = tap % width.window, kh = tap / width.window % height.window;
    const int kd = tap / width.window / height.window;
    const int first_w = width.first_place_of(kw), end_w = width.end_place_of(kw);
    Acc<T> sum = 0;
    for (long long row = first; row < last; row++) {
      const Row place = row_at(row, depth.count, height.count);
      const int id = depth.input(place.depth, kd), ih = height.input(place.height, kh);
      if (!depth.inside(id) || !height.inside(ih)) continue;
      const long long line = ((place.sample * depth.size + id) * height.size + ih) * width.size;
#pragma unroll 4
      for (int w = first_w; w < end_w; w++) {
        const T in = x[((line + width.input(w, kw)) * groups + o / filters) * channels + c];
        sum += to_float(in) * to_float(g[(row * width.count + w) * all + o]);
      }
    }
    partial[blockIdx.y * elements + e] = sum;
  }
}
