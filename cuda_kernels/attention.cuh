// What the attention kernels share: operands behind strides, which pairs count, what dropout keeps.
//
// A block works on some rows of one head. q, k, v have the shape (batch, length, heads, width) and
// any strides but on the last axis, so the parts of a packed (batch, length, 3, heads, width) need
// no copy. The width W is a multiple of 8 and at most D, which is 32, 64 or 128: the kernels
// compute with tiles of D columns, zeros beyond W.
#pragma once

#include "common.cuh"
#include "philox.cuh"

// The score of a pair that is not allowed. Finite, so that a row of them is uniform.
constexpr float kFloor = -0x1p127f;
constexpr float kLowest = -3.402823466e38f;

// A log-sum-exp near the floor: no key was allowed for this row.
__device__ __forceinline__ bool is_lost(float lse) { return lse < kFloor / 2; }

// The operands that all kernels of attention start with, and the same gathered in one value.
#define ATTENTION_OPERANDS(T)                                                                   \
  const T *__restrict__ q, const T *__restrict__ k, const T *__restrict__ v,                    \
      const bool *__restrict__ mask, const unsigned *__restrict__ seed, long long q_batch,      \
      long long q_row, long long q_head, long long k_batch, long long k_row, long long k_head,  \
      long long v_batch, long long v_row, long long v_head, long long mask_batch,               \
      long long mask_head, long long mask_row, long long mask_key, long long heads,             \
      long long key_heads, long long queries, long long keys, long long width, float scale,     \
      float rate, bool causal
#define ATTENTION_GATHERED(T)                                                                   \
  Attention<T> {                                                                                \
    {q, q_batch, q_row, q_head}, {k, k_batch, k_row, k_head}, {v, v_batch, v_row, v_head},      \
        mask, mask_batch, mask_head, mask_row, mask_key, seed, static_cast<int>(heads),         \
        static_cast<int>(key_heads), static_cast<int>(queries), static_cast<int>(keys),         \
        static_cast<int>(width), scale, rate, causal                                            \
  }

template <typename T>
struct Operand {
  const T* data;
  long long batch, row, head;  // strides, in elements
  __device__ __forceinline__ const T* of(long long b, long long h) const {
    return data + b * batch + h * head;
  }
};

template <typename T>
struct Attention {
  Operand<T> q, k, v;
  const bool* mask;  // null: all pairs are allowed; a stride is 0 where the mask is broadcast
  long long mask_batch, mask_head, mask_row, mask_key;
  const unsigned* seed;  // null: no dropout
  int heads, key_heads, queries, keys, width;
  float scale, rate;
  bool causal;
};

// Which pairs of one head count, and where its draws begin.
struct Pairs {
  const bool* mask;
  long long mask_row, mask_key, first_draw;
  int queries, keys;
  bool causal;

  template <typename T>
  __device__ __forceinline__ Pairs(const Attention<T>& a, int batch, int head)
      : mask(a.mask ? a.mask + batch * a.mask_batch + head * a.mask_head : nullptr),
        mask_row(a.mask_row), mask_key(a.mask_key),
        first_draw((static_cast<long long>(batch) * a.heads + head) * a.queries * a.keys),
        queries(a.queries), keys(a.keys), causal(a.causal) {}

  // Whether the causal triangle leaves nothing of a tile.
  __device__ __forceinline__ bool none_allowed(int query, int rows, int key) const {
    return causal && key >= query + rows;
  }
};

// Bits of a tile in shared memory: what the mask allows, and what dropout keeps. All threads of the
// block fill them, in the order of memory; a barrier makes them visible.
//
// A block of random numbers has eight, and a row of the tile may start within one: bit c of `kept`
// belongs to column c - (the row's first draw) % 8.
template <int ROWS, int COLUMNS>
struct PairBits {
  unsigned char allowed[ROWS][COLUMNS / 8], kept[ROWS][COLUMNS / 8 + 1];

  template <int THREADS, typename T>
  __device__ __forceinline__ void fill(const Attention<T>& a, const Pairs& pairs, int query,
                                       int key) {
    for (int i = threadIdx.x; pairs.mask && i < ROWS * COLUMNS / 8; i += THREADS) {
      const int row = i / (COLUMNS / 8), first = i % (COLUMNS / 8) * 8;
      const bool* from = pairs.mask + (query + row) * pairs.mask_row;
      unsigned bits = 0;
      for (int j = 0; j < 8; ++j)
        if (query + row < pairs.queries && key + first + j < pairs.keys)
          bits |= unsigned{from[(key + first + j) * pairs.mask_key]} << j;
      allowed[row][first / 8] = static_cast<unsigned char>(bits);
    }
    constexpr int BLOCKS = COLUMNS / 8 + 1;
    const unsigned least = least_bits(a.rate);
    for (int i = threadIdx.x; a.seed && i < ROWS * BLOCKS; i += THREADS) {
      const int row = i / BLOCKS, part = i % BLOCKS;
      const long long start = pairs.first_draw + static_cast<long long>(query + row) * pairs.keys;
      const PhiloxBlock block = philox_block(a.seed[0], a.seed[1], (start + key) / 8 + part);
      unsigned bits = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) bits |= (reaches(block, j, least) ? 1u : 0u) << j;
      kept[row][part] = static_cast<unsigned char>(bits);
    }
  }
};

struct Pulled {
  float weight, ds;
};

// A tile of pairs, from the pair (query, key) on.
template <int ROWS, int COLUMNS>
struct PairTile {
  const Pairs& pairs;
  const PairBits<ROWS, COLUMNS>& bits;
  int query, key;
  bool whole;  // all pairs exist and are allowed: nobody needs to ask

  __device__ __forceinline__ PairTile(const Pairs& of, const PairBits<ROWS, COLUMNS>& filled,
                                      int first_query, int first_key)
      : pairs(of), bits(filled), query(first_query), key(first_key),
        whole(!of.mask && query + ROWS <= of.queries && key + COLUMNS <= of.keys &&
              !(of.causal && key + COLUMNS - 1 > query)) {}

  __device__ __forceinline__ bool exists(int column) const { return key + column < pairs.keys; }

  // Whether the query may attend to the key, if both exist.
  __device__ __forceinline__ bool allowed(int row, int column) const {
    return !(pairs.causal && key + column > query + row) &&
           !(pairs.mask && !(bits.allowed[row][column / 8] >> column % 8 & 1));
  }

  // What dropout multiplies a weight by. 32 bits are enough to find the place of its bit.
  __device__ __forceinline__ float factor(float rate, int row, int column) const {
    const unsigned start = static_cast<unsigned>(pairs.first_draw) +
                           static_cast<unsigned>(query + row) * pairs.keys + key;
    const unsigned window = bits.kept[row][column / 8] | bits.kept[row][column / 8 + 1] << 8;
    return window >> (start % 8 + column % 8) & 1 ? 1 / (1 - rate) : 0;
  }

  // A score after the mask; keys that do not exist get no weight at all.
  __device__ __forceinline__ float masked(float score, int row, int column) const {
    if (!exists(column)) return -__int_as_float(0x7f800000);
    return allowed(row, column) ? score : kFloor;
  }

  // The weight of a pair and the gradient of its score. `usual` is the weight if the pair is
  // allowed, exp(score - lse); `dp` the gradient of the weight. Rows that do not exist need no
  // care: in the products that follow they meet zeros.
  __device__ __forceinline__ Pulled pull(float usual, float lse, float dp, float delta, int row,
                                         int column) const {
    const Pulled pulled = {usual, usual * (dp - delta)};
    if (whole) return pulled;
    if (pairs.mask && is_lost(lse) && exists(column))
      return {1.0f / static_cast<float>(pairs.keys), 0};
    return exists(column) && allowed(row, column) ? pulled : Pulled{0, 0};
  }
};

// The rows of queries that a block works on, of one head. Within a head the causal triangle leaves
// most work for the last rows, so blocks take those first.
struct QueryTile {
  int first, head, key_head, batch;

  template <typename T>
  __device__ __forceinline__ QueryTile(const Attention<T>& a, int rows) {
    const int tiles = ceil_div(a.queries, rows), of_all = blockIdx.x / tiles;
    first = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * rows;
    head = of_all % a.heads;
    key_head = head / (a.heads / a.key_heads);
    batch = of_all / a.heads;
  }
};

// The keys that a block works on, of one key head.
struct KeyTile {
  int first, key_head, batch;

  template <typename T>
  __device__ __forceinline__ KeyTile(const Attention<T>& a, int rows) {
    const int tiles = ceil_div(a.keys, rows), of_all = blockIdx.x / tiles;
    first = static_cast<int>(blockIdx.x) % tiles * rows;
    key_head = of_all % a.key_heads;
    batch = of_all / a.key_heads;
  }
};

// The first row of one head in an array (batch, length, heads, width) without gaps.
template <typename T>
__device__ __forceinline__ T* head_of(T* data, int batch, int length, int heads, int head,
                                      int width) {
  return data + (static_cast<long long>(batch) * length * heads + head) * width;
}

// The first row of one head in an array (batch, heads, queries) of statistics.
template <typename A, typename S>
__device__ __forceinline__ S* statistics_of(S* data, const A& a, int batch, int head) {
  return data + (static_cast<long long>(batch) * a.heads + head) * a.queries;
}
