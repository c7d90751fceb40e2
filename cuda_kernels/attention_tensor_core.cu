// Flash attention for float16 and bfloat16 on tensor cores.
//
// A block is four warps. Tiles of 16-bit rows lie in shared memory, two of each operand that is
// walked through: while one is used, the next is on its way (cp.async). Each warp owns 16 or 32
// rows of the scores and keeps them in registers: a fragment of results of one product has the
// layout of the left operand of the next, so weights never pass through shared memory.
#include "attention_fragments.cuh"

// attention_forward<T, D>      y = dropout(softmax(scale q k^T)) v,
//                              lse = log(sum(exp(scale q k^T)))
// Shapes    q (B, T, N, W), k, v (B, S, K, W) behind strides, N a multiple of K, W <= D;
//           mask (B, N, T, S) behind strides, or null; seed (2), or null; y (B, T, N, W);
//           lse (B, N, T) float
// Launch    grid ceil(T / 128) N B, block 128, dynamic shared 2D (128 + 4 kStep<D>) bytes
// Bytes     2 (2 B T N W + 2 B S K W ceil(T / 128) N / K) from L2
//           Flops  4 B N T S W, causal half     bound: compute
// Numerics  sums and softmax in float32, weights rounded to T for the product; deterministic
// Source    Dao, "FlashAttention-2", 2023
// Measured  not measured
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_forward(ATTENTION_OPERANDS(T), T* __restrict__ y, float* __restrict__ lse) {
  constexpr int ROWS = 128, KEYS = kStep<D>, M = 2, N = KEYS / 8;
  using Bits = PairBits<ROWS, KEYS>;
  GPUNET_SHARED(T, q_tile);
  SHARED_ARRAY(Bits, bits, 2);
  T *k_tiles = q_tile + ROWS * D, *v_tiles = k_tiles + 2 * KEYS * D;
  const Attention<T> a = ATTENTION_GATHERED(T);
  const QueryTile at(a, ROWS);
  const Pairs pairs(a, at.batch, at.head);
  const T *key_rows = a.k.of(at.batch, at.key_head), *value_rows = a.v.of(at.batch, at.key_head);
  const int mine = threadIdx.x / 32 * 16 * M, first = at.first + mine;  // the warp's rows
  const float factor = a.scale * kLog2e;
  load_tile<ROWS, D>(q_tile, a.q.of(at.batch, at.head), a.q.row, at.first, a.queries, a.width);
  load_tile<KEYS, D>(k_tiles, key_rows, a.k.row, 0, a.keys, a.width);
  load_tile<KEYS, D>(v_tiles, value_rows, a.v.row, 0, a.keys, a.width);
  cp_async_commit();
  float out[M][D / 8][4] = {};
  OnlineSoftmax<M> softmax;
  for (int key = 0, stage = 0; key < a.keys; key += KEYS, stage ^= 1) {
    if (pairs.none_allowed(at.first, ROWS, key) &&
        !(a.mask && __syncthreads_or(softmax.any_lost(first, a.queries))))
      break;
    bits[stage].template fill<kThreads>(a, pairs, at.first, key);
    cp_async_wait<0>();
    __syncthreads();  // this step's tiles have arrived, those of the step before have been read
    if (key + KEYS < a.keys) {
      const int next = (stage ^ 1) * KEYS * D;
      load_tile<KEYS, D>(k_tiles + next, key_rows, a.k.row, key + KEYS, a.keys, a.width);
      load_tile<KEYS, D>(v_tiles + next, value_rows, a.v.row, key + KEYS, a.keys, a.width);
      cp_async_commit();
    }
    float s[M][N][4];
    dot_rows<D>(q_tile, mine, k_tiles + stage * KEYS * D, s);
    const PairTile<ROWS, KEYS> tile(pairs, bits[stage], at.first, key);
#pragma unroll
    for (int i = 0; i < M * N * 4; ++i) s[i / (4 * N)][i / 4 % N][i % 4] *= factor;
    if (!tile.whole) {
#pragma unroll
      for (int i = 0; i < M * N * 4; ++i) {
        const int m = i / (4 * N), n = i / 4 % N, e = i % 4;
        s[m][n][e] = tile.masked(s[m][n][e], mine + row_of(m, e), column_of(n, e));
      }
    }
    softmax.add(s, out);
#pragma unroll
    for (int i = 0; a.seed && i < M * N * 4; ++i) {
      const int m = i / (4 * N), n = i / 4 % N, e = i % 4;
      s[m][n][e] *= tile.factor(a.rate, mine + row_of(m, e), column_of(n, e));
    }
    add_product<D>(s, v_tiles + stage * KEYS * D, out);
  }
  cp_async_wait<0>();
  softmax.finish();
  T* head = head_of(y, at.batch, a.queries, a.heads, at.head, a.width);
#pragma unroll
  for (int m = 0; m < M; ++m) {
    const float* total = softmax.total[m];
    store_rows<D>(head, a.heads * a.width, first + 16 * m, a.queries, a.width, out[m],
                  1 / total[0], 1 / total[1]);
  }
  softmax.store_lse(statistics_of(lse, a, at.batch, at.head), first, a.queries);
}

// attention_dq<T, D>      dq = scale ds k, with ds = p (dropout(dy v^T) - delta)
// Shapes    as attention_forward; dy (B, T, N, W); lse, delta (B, N, T) float; dq (B, T, N, W)
// Launch    grid ceil(T / 64) N B, block 128, dynamic shared 2D (128 + 4 kStep<D>) bytes
// Bytes     2 (3 B T N W + 2 B S K W ceil(T / 64) N / K) from L2    Flops  6 B N T S W, causal half
//           bound: compute
// Numerics  float32 sums, ds rounded to T for the product; keys in order: deterministic
// Source    Dao, "FlashAttention-2", 2023, with dq in a kernel of its own
// Measured  not measured
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dq(ATTENTION_OPERANDS(T), const T* __restrict__ dy, const float* __restrict__ lse,
                 const float* __restrict__ delta, T* __restrict__ dq) {
  constexpr int ROWS = 64, KEYS = kStep<D>, N = KEYS / 8;
  using Bits = PairBits<ROWS, KEYS>;
  GPUNET_SHARED(T, q_tile);
  SHARED_ARRAY(Bits, bits, 2);
  T *dy_tile = q_tile + ROWS * D, *k_tiles = dy_tile + ROWS * D, *v_tiles = k_tiles + 2 * KEYS * D;
  const Attention<T> a = ATTENTION_GATHERED(T);
  const QueryTile at(a, ROWS);
  const Pairs pairs(a, at.batch, at.head);
  const T *key_rows = a.k.of(at.batch, at.key_head), *value_rows = a.v.of(at.batch, at.key_head);
  const int mine = threadIdx.x / 32 * 16;  // the first of the warp's rows
  const float factor = a.scale * kLog2e;
  const long long stride = a.heads * a.width;
  const T* dy_head = head_of(dy, at.batch, a.queries, a.heads, at.head, a.width);
  load_tile<ROWS, D>(q_tile, a.q.of(at.batch, at.head), a.q.row, at.first, a.queries, a.width);
  load_tile<ROWS, D>(dy_tile, dy_head, stride, at.first, a.queries, a.width);
  load_tile<KEYS, D>(k_tiles, key_rows, a.k.row, 0, a.keys, a.width);
  load_tile<KEYS, D>(v_tiles, value_rows, a.v.row, 0, a.keys, a.width);
  cp_async_commit();
  float row_lse[2], row_delta[2], sum[1][D / 8][4] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = min(at.first + mine + row_of(0, 2 * i), a.queries - 1);
    row_lse[i] = statistics_of(lse, a, at.batch, at.head)[row];
    row_delta[i] = statistics_of(delta, a, at.batch, at.head)[row];
  }
  for (int key = 0, stage = 0; key < a.keys && !pairs.none_allowed(at.first, ROWS, key);
       key += KEYS, stage ^= 1) {
    bits[stage].template fill<kThreads>(a, pairs, at.first, key);
    cp_async_wait<0>();
    __syncthreads();  // this step's tiles have arrived, those of the step before have been read
    if (key + KEYS < a.keys) {
      const int next = (stage ^ 1) * KEYS * D;
      load_tile<KEYS, D>(k_tiles + next, key_rows, a.k.row, key + KEYS, a.keys, a.width);
      load_tile<KEYS, D>(v_tiles + next, value_rows, a.v.row, key + KEYS, a.keys, a.width);
      cp_async_commit();
    }
    float s[1][N][4], dp[1][N][4];
    dot_rows<D>(q_tile, mine, k_tiles + stage * KEYS * D, s);
    dot_rows<D>(dy_tile, mine, v_tiles + stage * KEYS * D, dp);
    const PairTile<ROWS, KEYS> tile(pairs, bits[stage], at.first, key);
#pragma unroll
    for (int i = 0; i < N * 4; ++i) {
      const int n = i / 4, e = i % 4, row = mine + row_of(0, e), column = column_of(n, e);
      if (a.seed) dp[0][n][e] *= tile.factor(a.rate, row, column);
      s[0][n][e] = tile.pull(exp2f(s[0][n][e] * factor - row_lse[e / 2] * kLog2e), row_lse[e / 2],
                             dp[0][n][e], row_delta[e / 2], row, column).ds;
    }
    add_product<D>(s, k_tiles + stage * KEYS * D, sum);
  }
  cp_async_wait<0>();
  store_rows<D>(head_of(dq, at.batch, a.queries, a.heads, at.head, a.width), stride,
                at.first + mine, a.queries, a.width, sum[0], a.scale, a.scale);
}

// dq[query...] += scale ds k, of the 64 keys of a block. Each warp holds ds of 16 keys; through
// shared memory they become the left operand, rows of queries. The warps share the rows of dq, and
// if these are fewer than 64 the columns.
template <int D, typename T, int N>
__device__ __forceinline__ void add_to_dq(float* dq, int query, const Attention<T>& a, T* ds_tile,
                                          const T* k_tile, int key, const float (&ds)[1][N][4]) {
  constexpr int ROWS = 8 * N, GROUPS = ROWS / 16, PIECES = D / 16 / (kThreads / 32 / GROUPS);
#pragma unroll
  for (int i = 0; i < N * 2; ++i) {
    const int n = i / 2, e = i % 2 * 2;
    T* to = ds_tile + place<ROWS>(key + row_of(0, e), n) + column_of(0, 0);
    store_vec(to, Vec<T, 2>{from_float<T>(ds[0][n][e]), from_float<T>(ds[0][n][e + 1])});
  }
  __syncthreads();
  const int warp = threadIdx.x / 32, mine = warp % GROUPS * 16, piece = warp / GROUPS * PIECES;
#pragma unroll 1
  for (int n = piece; n < piece + PIECES; ++n) {
    float sum[2][4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      unsigned left[4], right[2][2];
      load_left_transposed<ROWS>(left, ds_tile, mine, k);
      load_right<D>(right, k_tile, k, n);
      mma_m16n8k16<T>(sum[0], left, right[0]);
      mma_m16n8k16<T>(sum[1], left, right[1]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = query + mine + row_of(0, i % 4), column = 16 * n + column_of(i / 4, i);
      if (row < a.queries && column < a.width)
        atomicAdd(dq + static_cast<long long>(row) * a.heads * a.width + column,
                  sum[i / 4][i % 4] * a.scale);
    }
  }
}

// What a tile of keys is seen by: the queries of all heads of its group, ROWS at a step.
template <typename T, int D, int ROWS>
struct QuerySteps {
  const Attention<T>& a;
  const KeyTile& at;
  const T* dy;
  const float *lse, *delta;
  int skipped, tiles;  // of each head: the causal triangle leaves nothing of the first ones
  int first_head, count;

  __device__ __forceinline__ int head(int step) const { return first_head + step / tiles; }
  __device__ __forceinline__ int query(int step) const { return (skipped + step % tiles) * ROWS; }

  // Starts copying the rows of a step, and the statistics of these.
  __device__ __forceinline__ void load(int step, T* q_tile, T* dy_tile, float* row_lse,
                                       float* row_delta) const {
    const int first = query(step), row = threadIdx.x % ROWS;
    load_tile<ROWS, D>(q_tile, a.q.of(at.batch, head(step)), a.q.row, first, a.queries, a.width);
    load_tile<ROWS, D>(dy_tile, head_of(dy, at.batch, a.queries, a.heads, head(step), a.width),
                       a.heads * a.width, first, a.queries, a.width);
    const bool is_lse = threadIdx.x < ROWS, exists = first + row < a.queries;
    const float* from = statistics_of(is_lse ? lse : delta, a, at.batch, head(step));
    if (threadIdx.x < 2 * ROWS)
      cp_async_4((is_lse ? row_lse : row_delta) + row, from + (exists ? first + row : 0), exists);
    cp_async_commit();
  }
};

// dk and dv of a tile of keys. With ATOMIC its share is also added to dq.
template <typename T, int D, bool ATOMIC>
__device__ __forceinline__ void pull_keys(const Attention<T>& a, const T* dy, const float* lse,
                                          const float* delta, T* dk, T* dv, float* dq) {
  constexpr int KEYS = 64, ROWS = kPullStep<D, ATOMIC>, N = ROWS / 8, SIZE = ROWS * D;
  using Bits = PairBits<ROWS, KEYS>;
  GPUNET_SHARED(T, k_tile);
  SHARED_ARRAY(Bits, bits, 2);
  SHARED_ARRAY(float, lse_rows, 2 * ROWS);
  SHARED_ARRAY(float, delta_rows, 2 * ROWS);
  T *v_tile = k_tile + KEYS * D, *q_tiles = v_tile + KEYS * D, *dy_tiles = q_tiles + 2 * SIZE;
  const KeyTile at(a, KEYS);
  const int mine = threadIdx.x / 32 * 16;  // the first of the warp's keys
  const int skipped = a.causal && !a.mask ? at.first / ROWS : 0;
  const int tiles = max(ceil_div(a.queries, ROWS) - skipped, 0), group = a.heads / a.key_heads;
  const QuerySteps<T, D, ROWS> steps = {a,       at,    dy,          lse, delta, skipped, tiles,
                                        at.key_head * group, group * tiles};
  const float factor = a.scale * kLog2e;
  load_tile<KEYS, D>(k_tile, a.k.of(at.batch, at.key_head), a.k.row, at.first, a.keys, a.width);
  load_tile<KEYS, D>(v_tile, a.v.of(at.batch, at.key_head), a.v.row, at.first, a.keys, a.width);
  cp_async_commit();
  if (steps.count) steps.load(0, q_tiles, dy_tiles, lse_rows, delta_rows);
  float k_sum[1][D / 8][4] = {}, v_sum[1][D / 8][4] = {};
  for (int step = 0; step < steps.count; ++step) {
    const int stage = step % 2, next = stage ^ 1, query = steps.query(step);
    const Pairs pairs(a, at.batch, steps.head(step));
    bits[stage].template fill<kThreads>(a, pairs, query, at.first);
    cp_async_wait<0>();
    __syncthreads();  // this step's tiles have arrived, those of the step before have been read
    if (step + 1 < steps.count)
      steps.load(step + 1, q_tiles + next * SIZE, dy_tiles + next * SIZE, lse_rows + next * ROWS,
                 delta_rows + next * ROWS);
    const T *q_tile = q_tiles + stage * SIZE, *dy_tile = dy_tiles + stage * SIZE;
    const float *row_lse = lse_rows + stage * ROWS, *row_delta = delta_rows + stage * ROWS;
    if (pairs.none_allowed(query, ROWS, at.first) &&
        !__syncthreads_or(is_lost(row_lse[threadIdx.x % ROWS])))
      continue;
    float p[1][N][4], ds[1][N][4];  // rows are keys, columns queries
    dot_rows<D>(k_tile, mine, q_tile, p);
    dot_rows<D>(v_tile, mine, dy_tile, ds);
    const PairTile<ROWS, KEYS> tile(pairs, bits[stage], query, at.first);
    const auto drop = [&](float(&x)[1][N][4]) {
#pragma unroll
      for (int i = 0; i < N * 4; ++i)
        x[0][i / 4][i % 4] *= tile.factor(a.rate, column_of(i / 4, i), mine + row_of(0, i % 4));
    };
    if (a.seed) drop(ds);
#pragma unroll
    for (int i = 0; i < N * 4; ++i) {
      const int n = i / 4, e = i % 4, row = column_of(n, e);
      const Pulled pulled =
          tile.pull(exp2f(p[0][n][e] * factor - row_lse[row] * kLog2e), row_lse[row], ds[0][n][e],
                    row_delta[row], row, mine + row_of(0, e));
      p[0][n][e] = pulled.weight;
      ds[0][n][e] = pulled.ds;
    }
    if (a.seed) drop(p);
    add_product<D>(p, dy_tile, v_sum);
    add_product<D>(ds, q_tile, k_sum);
    if constexpr (ATOMIC)
      add_to_dq<D>(head_of(dq, at.batch, a.queries, a.heads, steps.head(step), a.width), query, a,
                   dy_tiles + 2 * SIZE, k_tile, mine, ds);
  }
  cp_async_wait<0>();
  store_rows<D>(head_of(dk, at.batch, a.keys, a.key_heads, at.key_head, a.width),
                a.key_heads * a.width, at.first + mine, a.keys, a.width, k_sum[0], a.scale,
                a.scale);
  store_rows<D>(head_of(dv, at.batch, a.keys, a.key_heads, at.key_head, a.width),
                a.key_heads * a.width, at.first + mine, a.keys, a.width, v_sum[0], 1, 1);
}

// attention_dkdv<T, D>      dv = dropout(p)^T dy, dk = scale ds^T q, summed over a group of heads
// Shapes    as attention_dq; dk, dv (B, S, K, W)
// Launch    grid ceil(S / 64) K B, block 128, dynamic shared 2D (128 + 4 kStep<D>) bytes
// Bytes     2 (3 B T N W ceil(S / 64) + 4 B S K W) from L2    Flops  8 B N T S W, causal half
//           bound: compute
// Numerics  float32 sums, p and ds rounded to T for the products; heads and queries in order:
//           deterministic
// Source    Dao, "FlashAttention-2", 2023
// Measured  not measured
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_dkdv(ATTENTION_OPERANDS(T), const T* __restrict__ dy, const float* __restrict__ lse,
                   const float* __restrict__ delta, T* __restrict__ dk, T* __restrict__ dv) {
  pull_keys<T, D, false>(ATTENTION_GATHERED(T), dy, lse, delta, dk, dv, nullptr);
}

// attention_backward_atomic<T, D>      attention_dkdv and attention_dq in one: scores computed once
// Shapes    as attention_dkdv; dq (B, T, N, W) float, zeros before
// Launch    grid ceil(S / 64) K B, block 128, dynamic shared 2D (128 + 4 R) + 128 R bytes with
//           R = kPullStep<D, true>
// Bytes     as attention_dkdv, and 4 B T N W ceil(S / 64) of atomics     Flops  10 B N T S W
//           bound: compute
// Numerics  as attention_dkdv; blocks add to dq in any order: its last bits differ between runs
// Source    Dao, "FlashAttention-2", 2023
// Measured  not measured
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_backward_atomic(ATTENTION_OPERANDS(T), const T* __restrict__ dy,
                              const float* __restrict__ lse, const float* __restrict__ delta,
                              T* __restrict__ dk, T* __restrict__ dv, float* __restrict__ dq) {
  pull_keys<T, D, true>(ATTENTION_GATHERED(T), dy, lse, delta, dk, dv, dq);
}
