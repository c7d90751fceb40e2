// Flash attention in float32: scores are computed tile by tile and never stored.
//
// A thread (y, x) of 16 x 16 computes the elements (y + 16 i, x + 16 j) of a tile of scores and the
// rows y + 16 i of a tile of results. The 16 threads of a row are half a warp, so what they share -
// the maximum of a row, its weights - needs no barrier of the block.
#include "attention.cuh"

constexpr int kThreads = 256;

// How many floats a row of a tile takes in shared memory: 16-byte accesses to 8 rows hit all banks.
template <int COLUMNS>
constexpr int kPitch = COLUMNS + 4;

// Copies ROWS rows of one head into a tile, times `scale`; zeros where there is no element.
template <int ROWS, int D>
__device__ __forceinline__ void load_tile(float* tile, const float* head, long long stride,
                                          int first, int length, int width, float scale = 1) {
  for (int i = threadIdx.x; i < ROWS * D / 4; i += kThreads) {
    const int row = i / (D / 4), column = i % (D / 4) * 4;
    Vec<float, 4> x = {};
    if (first + row < length && column < width)
      x = load_vec<4>(head + (first + row) * stride + column);
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] *= scale;
    store_vec(tile + row * kPitch<D> + column, x);
  }
}

// c[i][j] = row (y + 16 i) of a times row (x + 16 j) of b, both of D columns.
template <int M, int N, int D>
__device__ __forceinline__ void dot_rows(const float* a, const float* b, float (&c)[M][N]) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j) c[i][j] = 0;
#pragma unroll 4
  for (int d = 0; d < D; d += 4) {
    Vec<float, 4> left[M], right[N];
#pragma unroll
    for (int i = 0; i < M; ++i) left[i] = load_vec<4>(a + (y + 16 * i) * kPitch<D> + d);
#pragma unroll
    for (int j = 0; j < N; ++j) right[j] = load_vec<4>(b + (x + 16 * j) * kPitch<D> + d);
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int j = 0; j < N; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) c[i][j] += left[i][e] * right[j][e];
  }
}

// The D / 16 columns of a result that a thread holds: pieces of up to four neighbours.
template <int D>
constexpr int kPiece = D / 16 < 4 ? D / 16 : 4;

template <int D>
__device__ __forceinline__ int column_of(int c) {
  return c / kPiece<D> * 16 * kPiece<D> + threadIdx.x % 16 * kPiece<D> + c % kPiece<D>;
}

// c[i][:] += row (y + 16 i) of p, or column if P_COLUMNS, times the K rows of v.
template <int M, int K, int D, bool P_COLUMNS = false>
__device__ __forceinline__ void add_product(const float* p, const float* v,
                                            float (&c)[M][D / 16]) {
  constexpr int PIECE = kPiece<D>;
  const int y = threadIdx.x / 16;
#pragma unroll 4
  for (int k = 0; k < K; ++k) {
    float weight[M];
#pragma unroll
    for (int i = 0; i < M; ++i) {
      const int row = y + 16 * i;
      weight[i] = P_COLUMNS ? p[k * kPitch<16 * M> + row] : p[row * kPitch<K> + k];
    }
#pragma unroll
    for (int first = 0; first < D / 16; first += PIECE) {
      const Vec<float, PIECE> x = load_vec<PIECE>(v + k * kPitch<D> + column_of<D>(first));
#pragma unroll
      for (int i = 0; i < M; ++i)
#pragma unroll
        for (int e = 0; e < PIECE; ++e) c[i][first + e] += weight[i] * x[e];
    }
  }
}

// Writes the thread's elements (y + 16 i, x + 16 j) of a tile of N * 16 columns.
template <int M, int N>
__device__ __forceinline__ void store_scores(float* tile, const float (&s)[M][N]) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j) tile[(y + 16 * i) * kPitch<16 * N> + x + 16 * j] = s[i][j];
}

// Writes the thread's part of rows first, first + 1, ... of a result; `factor` one a row.
template <int M, int D>
__device__ __forceinline__ void store_rows(float* y, long long stride, int first, int length,
                                           int width, const float (&c)[M][D / 16],
                                           const float (&factor)[M]) {
#pragma unroll
  for (int i = 0; i < M; ++i) {
    const int row = first + threadIdx.x / 16 + 16 * i;
    if (row >= length) continue;
#pragma unroll
    for (int j = 0; j < D / 16; ++j)
      if (column_of<D>(j) < width) y[row * stride + column_of<D>(j)] = c[i][j] * factor[i];
  }
}

// attention_forward<D>      y = dropout(softmax(scale q k^T)) v, lse = log(sum(exp(scale q k^T)))
// Shapes    q (B, T, N, W), k, v (B, S, K, W) behind strides, N a multiple of K, W <= D;
//           mask (B, N, T, S) behind strides, or null; seed (2), or null; y (B, T, N, W);
//           lse (B, N, T)
// Launch    grid ceil(T / 64) N B, block 256, dynamic shared 64 (2D + 8) + 64 * 36 floats
// Bytes     4 (2 B T N W + 2 B S K W ceil(T / 64) N / K) from L2    Flops  4 B N T S W, causal half
//           bound: compute
// Numerics  float32, expf; a row's sums are rescaled when its maximum grows; deterministic
// Source    Milakov, Gimelshein 2018 (online softmax); Dao et al., "FlashAttention", 2022
// Measured  not measured
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_forward(ATTENTION_OPERANDS(float), float* __restrict__ y, float* __restrict__ lse) {
  constexpr int ROWS = 64, KEYS = 32, M = ROWS / 16, N = KEYS / 16;
  using Bits = PairBits<ROWS, KEYS>;
  GPUNET_SHARED(float, q_tile);
  SHARED_ARRAY(Bits, bits, 1);
  float *k_tile = q_tile + ROWS * kPitch<D>, *v_tile = k_tile + KEYS * kPitch<D>;
  float* p_tile = v_tile + KEYS * kPitch<D>;
  const Attention<float> a = ATTENTION_GATHERED(float);
  const QueryTile at(a, ROWS);
  const Pairs pairs(a, at.batch, at.head);
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  load_tile<ROWS, D>(q_tile, a.q.of(at.batch, at.head), a.q.row, at.first, a.queries, a.width,
                     a.scale);
  float top[M], total[M], out[M][D / 16] = {};
  for (int i = 0; i < M; ++i) top[i] = kLowest, total[i] = 0;
  for (int key = 0; key < a.keys; key += KEYS) {
    if (pairs.none_allowed(at.first, ROWS, key)) {
      bool lost = false;  // a row that no key was allowed for so far attends to all of them
      for (int i = 0; i < M; ++i) lost |= at.first + ty + 16 * i < a.queries && is_lost(top[i]);
      if (!a.mask || !__syncthreads_or(lost)) break;
    }
    __syncthreads();  // the tiles of the step before have been read
    load_tile<KEYS, D>(k_tile, a.k.of(at.batch, at.key_head), a.k.row, key, a.keys, a.width);
    load_tile<KEYS, D>(v_tile, a.v.of(at.batch, at.key_head), a.v.row, key, a.keys, a.width);
    bits->template fill<kThreads>(a, pairs, at.first, key);
    __syncthreads();
    float s[M][N];
    dot_rows<M, N, D>(q_tile, k_tile, s);
    const PairTile<ROWS, KEYS> tile(pairs, *bits, at.first, key);
    for (int i = 0; i < M; ++i) {
      float highest = top[i], sum = 0;
      for (int j = 0; j < N; ++j) {
        if (!tile.whole) s[i][j] = tile.masked(s[i][j], ty + 16 * i, tx + 16 * j);
        highest = Max()(highest, s[i][j]);
      }
      highest = warp_max<16>(highest);
      const float shrink = expf(top[i] - highest);
      top[i] = highest;
      for (int j = 0; j < N; ++j) {
        s[i][j] = expf(s[i][j] - highest);
        sum += s[i][j];
        if (a.seed) s[i][j] *= tile.factor(a.rate, ty + 16 * i, tx + 16 * j);
      }
      total[i] = total[i] * shrink + sum;
      for (int c = 0; c < D / 16; ++c) out[i][c] *= shrink;
    }
    store_scores<M, N>(p_tile, s);
    __syncwarp();
    add_product<M, KEYS, D>(p_tile, v_tile, out);
  }
  float factor[M];
  for (int i = 0; i < M; ++i) {
    const int row = at.first + ty + 16 * i;
    total[i] = warp_sum<16>(total[i]);
    factor[i] = 1 / total[i];
    if (tx == 0 && row < a.queries)
      statistics_of(lse, a, at.batch, at.head)[row] = top[i] + logf(total[i]);
  }
  store_rows<M, D>(head_of(y, at.batch, a.queries, a.heads, at.head, a.width),
                   a.heads * a.width, at.first, a.queries, a.width, out, factor);
}

// Where the statistic of a row (batch, query, head) stands; in 32 bits several times faster.
template <typename I>
__device__ __forceinline__ long long statistic_at(I row, I queries, I heads) {
  const I of_all = row / heads, head = row - of_all * heads;
  const I batch = of_all / queries, query = of_all - batch * queries;
  return (static_cast<long long>(batch) * heads + head) * queries + query;
}

// attention_delta<T, BLOCK>      delta = sum(dy * y) - dlse, per row: what the softmax's gradient
//                                subtracts from each score's
// Shapes    dy, y (B, T, N, W) of T, aligned to 16 bytes, W a multiple of 8; dlse, delta (B, N, T)
//           float
// Launch    grid any, block BLOCK: 16 threads do a row
// Bytes     2 B T N W sizeof(T)     Flops  2 B T N W     bound: memory
// Numerics  float32, fixed order: deterministic
// Source    Dao et al., "FlashAttention", 2022
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    attention_delta(const T* __restrict__ dy, const T* __restrict__ y,
                    const float* __restrict__ dlse, float* __restrict__ delta, long long batches,
                    long long queries, long long heads, long long width) {
  constexpr int VEC = kVec<T>, LANES = 16;
  const int lane = threadIdx.x % LANES;
  const long long rows = batches * queries * heads, step = gridDim.x * (BLOCK / LANES);
  for (long long first = blockIdx.x * (BLOCK / LANES); first < rows; first += step) {
    const long long row = first + threadIdx.x / LANES;
    float sum = 0;
    for (long long c = lane * VEC; row < rows && c < width; c += LANES * VEC) {
      const Vec<T, VEC> left = load_vec<VEC>(dy + row * width + c);
      const Vec<T, VEC> right = load_vec<VEC>(y + row * width + c);
#pragma unroll
      for (int v = 0; v < VEC; ++v) sum += to_float(left[v]) * to_float(right[v]);
    }
    sum = warp_sum<LANES>(sum);
    if (lane == 0 && row < rows) {
      const long long out = rows >> 32 ? statistic_at<long long>(row, queries, heads)
                                       : statistic_at<unsigned>(row, queries, heads);
      delta[out] = sum - dlse[out];
    }
  }
}

// attention_dq<D>      dq = scale ds k, with ds = p (dropout(dy v^T) - delta)
// Shapes    as attention_forward; dy (B, T, N, W); lse, delta (B, N, T); dq (B, T, N, W)
// Launch    grid ceil(T / 32) N B, block 256, dynamic shared 128 (D + 4) + 32 * 36 floats
// Bytes     4 (3 B T N W + 2 B S K W ceil(T / 32) N / K) from L2    Flops  6 B N T S W, causal half
//           bound: compute
// Numerics  float32; keys in order: deterministic
// Source    Dao, "FlashAttention-2", 2023, with dq in a kernel of its own
// Measured  not measured
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dq(ATTENTION_OPERANDS(float), const float* __restrict__ dy,
                 const float* __restrict__ lse, const float* __restrict__ delta,
                 float* __restrict__ dq) {
  constexpr int TILE = 32, SIZE = TILE * kPitch<D>;
  using Bits = PairBits<TILE, TILE>;
  GPUNET_SHARED(float, q_tile);
  SHARED_ARRAY(Bits, bits, 1);
  float *dy_tile = q_tile + SIZE, *k_tile = dy_tile + SIZE, *v_tile = k_tile + SIZE;
  float* ds_tile = v_tile + SIZE;
  const Attention<float> a = ATTENTION_GATHERED(float);
  const QueryTile at(a, TILE);
  const Pairs pairs(a, at.batch, at.head);
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const long long stride = a.heads * a.width;
  load_tile<TILE, D>(q_tile, a.q.of(at.batch, at.head), a.q.row, at.first, a.queries, a.width,
                     a.scale);
  load_tile<TILE, D>(dy_tile, head_of(dy, at.batch, a.queries, a.heads, at.head, a.width), stride,
                     at.first, a.queries, a.width);
  float row_lse[2], row_delta[2], sum[2][D / 16] = {};
  for (int i = 0; i < 2; ++i) {
    const int row = min(at.first + ty + 16 * i, a.queries - 1);
    row_lse[i] = statistics_of(lse, a, at.batch, at.head)[row];
    row_delta[i] = statistics_of(delta, a, at.batch, at.head)[row];
  }
  for (int key = 0; key < a.keys && !pairs.none_allowed(at.first, TILE, key); key += TILE) {
    __syncthreads();  // the tiles of the step before have been read
    load_tile<TILE, D>(k_tile, a.k.of(at.batch, at.key_head), a.k.row, key, a.keys, a.width);
    load_tile<TILE, D>(v_tile, a.v.of(at.batch, at.key_head), a.v.row, key, a.keys, a.width);
    bits->template fill<kThreads>(a, pairs, at.first, key);
    __syncthreads();
    float s[2][2], dp[2][2];
    dot_rows<2, 2, D>(q_tile, k_tile, s);
    dot_rows<2, 2, D>(dy_tile, v_tile, dp);
    const PairTile<TILE, TILE> tile(pairs, *bits, at.first, key);
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) {
        const int row = ty + 16 * i, column = tx + 16 * j;
        if (a.seed) dp[i][j] *= tile.factor(a.rate, row, column);
        s[i][j] = tile.pull(expf(s[i][j] - row_lse[i]), row_lse[i], dp[i][j], row_delta[i], row,
                            column).ds;
      }
    store_scores<2, 2>(ds_tile, s);
    __syncwarp();
    add_product<2, TILE, D>(ds_tile, k_tile, sum);
  }
  const float factor[2] = {a.scale, a.scale};
  store_rows<2, D>(head_of(dq, at.batch, a.queries, a.heads, at.head, a.width), stride, at.first,
                   a.queries, a.width, sum, factor);
}

// dq[query...] += scale ds k, of the TILE keys of a block: rows of ds are keys.
template <int TILE, int D>
__device__ __forceinline__ void add_to_dq(float* dq, long long stride, int query,
                                          const Attention<float>& a, const float* ds_tile,
                                          const float* k_tile) {
  constexpr int M = TILE / 16;
  float sum[M][D / 16] = {};
  add_product<M, TILE, D, true>(ds_tile, k_tile, sum);
  for (int i = 0; i < M; ++i) {
    const int row = query + threadIdx.x / 16 + 16 * i;
    for (int j = 0; row < a.queries && j < D / 16; ++j)
      if (column_of<D>(j) < a.width)
        atomicAdd(dq + row * stride + column_of<D>(j), sum[i][j] * a.scale);
  }
}

// The keys that a block works on, of one key head, and the queries of all heads that it serves.
// With ATOMIC it also adds its share to dq.
template <int D, bool ATOMIC>
__device__ __forceinline__ void pull_keys(const Attention<float>& a, const float* dy,
                                          const float* lse, const float* delta, float* dk,
                                          float* dv, float* dq) {
  constexpr int TILE = 32, SIZE = TILE * kPitch<D>, SCORES = TILE * kPitch<TILE>;
  using Bits = PairBits<TILE, TILE>;
  GPUNET_SHARED(float, k_tile);
  SHARED_ARRAY(Bits, bits, 1);
  SHARED_ARRAY(float, row_lse, TILE);
  SHARED_ARRAY(float, row_delta, TILE);
  float *v_tile = k_tile + SIZE, *q_tile = v_tile + SIZE, *dy_tile = q_tile + SIZE;
  float *p_tile = dy_tile + SIZE, *ds_tile = p_tile + SCORES;  // rows are keys, columns queries
  const KeyTile at(a, TILE);
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, group = a.heads / a.key_heads;
  const long long stride = a.heads * a.width, key_stride = a.key_heads * a.width;
  load_tile<TILE, D>(k_tile, a.k.of(at.batch, at.key_head), a.k.row, at.first, a.keys, a.width);
  load_tile<TILE, D>(v_tile, a.v.of(at.batch, at.key_head), a.v.row, at.first, a.keys, a.width);
  float k_sum[2][D / 16] = {}, v_sum[2][D / 16] = {};
  for (int head = at.key_head * group; head < (at.key_head + 1) * group; ++head) {
    const Pairs pairs(a, at.batch, head);
    const float* head_lse = statistics_of(lse, a, at.batch, head);
    const float* head_delta = statistics_of(delta, a, at.batch, head);
    for (int query = 0; query < a.queries; query += TILE) {
      const int mine = query + threadIdx.x % TILE;  // the row whose statistics this thread reads
      const float my_lse = mine < a.queries ? head_lse[mine] : 0;
      if (pairs.none_allowed(query, TILE, at.first) &&
          !(a.mask && __syncthreads_or(is_lost(my_lse))))
        continue;
      __syncthreads();  // the tiles of the step before have been read
      load_tile<TILE, D>(q_tile, a.q.of(at.batch, head), a.q.row, query, a.queries, a.width,
                         a.scale);
      load_tile<TILE, D>(dy_tile, head_of(dy, at.batch, a.queries, a.heads, head, a.width), stride,
                         query, a.queries, a.width);
      if (threadIdx.x < TILE) {
        row_lse[threadIdx.x] = my_lse;
        row_delta[threadIdx.x] = mine < a.queries ? head_delta[mine] : 0;
      }
      bits->template fill<kThreads>(a, pairs, query, at.first);
      __syncthreads();
      float p[2][2], ds[2][2];
      dot_rows<2, 2, D>(k_tile, q_tile, p);
      dot_rows<2, 2, D>(v_tile, dy_tile, ds);
      const PairTile<TILE, TILE> tile(pairs, *bits, query, at.first);
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) {
          const int row = tx + 16 * j, column = ty + 16 * i;
          const float kept = a.seed ? tile.factor(a.rate, row, column) : 1;
          const Pulled pulled = tile.pull(expf(p[i][j] - row_lse[row]), row_lse[row],
                                          ds[i][j] * kept, row_delta[row], row, column);
          p[i][j] = pulled.weight * kept;
          ds[i][j] = pulled.ds;
        }
      store_scores<2, 2>(p_tile, p);
      store_scores<2, 2>(ds_tile, ds);
      __syncwarp();
      add_product<2, TILE, D>(p_tile, dy_tile, v_sum);
      add_product<2, TILE, D>(ds_tile, q_tile, k_sum);
      if constexpr (ATOMIC) {
        __syncthreads();
        add_to_dq<TILE, D>(head_of(dq, at.batch, a.queries, a.heads, head, a.width), stride, query,
                           a, ds_tile, k_tile);
      }
    }
  }
  const float ones[2] = {1, 1};
  store_rows<2, D>(head_of(dk, at.batch, a.keys, a.key_heads, at.key_head, a.width), key_stride,
                   at.first, a.keys, a.width, k_sum, ones);
  store_rows<2, D>(head_of(dv, at.batch, a.keys, a.key_heads, at.key_head, a.width), key_stride,
                   at.first, a.keys, a.width, v_sum, ones);
}

// attention_dkdv<D>      dv = dropout(p)^T dy, dk = scale ds^T q, summed over the heads of a group
// Shapes    as attention_dq; dk, dv (B, S, K, W)
// Launch    grid ceil(S / 32) K B, block 256, dynamic shared 128 (D + 4) + 64 * 36 floats
// Bytes     4 (3 B T N W ceil(S / 32) + 4 B S K W) from L2    Flops  8 B N T S W, causal half
//           bound: compute
// Numerics  float32; heads and queries in order: deterministic
// Source    Dao, "FlashAttention-2", 2023
// Measured  not measured
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dkdv(ATTENTION_OPERANDS(float), const float* __restrict__ dy,
                   const float* __restrict__ lse, const float* __restrict__ delta,
                   float* __restrict__ dk, float* __restrict__ dv) {
  pull_keys<D, false>(ATTENTION_GATHERED(float), dy, lse, delta, dk, dv, nullptr);
}

// attention_backward_atomic<D>      attention_dkdv and attention_dq in one: scores computed once
// Shapes    as attention_dkdv; dq (B, T, N, W), zeros before
// Launch    as attention_dkdv
// Bytes     as attention_dkdv, and 4 B T N W ceil(S / 32) of atomics     Flops  10 B N T S W
//           bound: compute
// Numerics  float32; blocks add to dq in any order: its last bits differ between runs
// Source    Dao, "FlashAttention-2", 2023
// Measured  not measured
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_backward_atomic(ATTENTION_OPERANDS(float), const float* __restrict__ dy,
                              const float* __restrict__ lse, const float* __restrict__ delta,
                              float* __restrict__ dk, float* __restrict__ dv,
                              float* __restrict__ dq) {
  pull_keys<D, true>(ATTENTION_GATHERED(float), dy, lse, delta, dk, dv, dq);
}
