// Philox4x64-10, the counter-based random generator of NumPy's `np.random.Philox`, bit for bit.
//
// Block i of a stream is a function of (key, i) alone: any thread can compute any block, in any
// order, and a backward pass can draw the same numbers again instead of storing them.
//
// Source    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011
#pragma once

struct PhiloxBlock {
  unsigned long long word[4];
};

// Ten rounds of multiplying, crossing over, and mixing in a key that grows by two constants.
__device__ __forceinline__ PhiloxBlock philox_rounds(PhiloxBlock counter, unsigned long long key0,
                                                     unsigned long long key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ull, counter.word[0]);
    const unsigned long long low0 = 0xD2E7470EE14C6C93ull * counter.word[0];
    const unsigned long long high1 = __umul64hi(0xCA5A826395121157ull, counter.word[2]);
    const unsigned long long low1 = 0xCA5A826395121157ull * counter.word[2];
    counter = {{high1 ^ counter.word[1] ^ key0, low1, high0 ^ counter.word[3] ^ key1, low0}};
    key0 += 0x9E3779B97F4A7C15ull;  // the golden ratio
    key1 += 0xBB67AE8584CAA73Bull;  // sqrt(3) - 1
  }
  return counter;
}

// Block `index` of the stream of a key whose counter starts at zero: NumPy counts before it draws,
// so its first block is that of counter 1. Equal to the words 4 * index ... 4 * index + 3 of
// np.random.Philox(key=key0 | key1 << 64).random_raw().
__device__ __forceinline__ PhiloxBlock philox_block(unsigned long long key0,
                                                    unsigned long long key1,
                                                    unsigned long long index) {
  const unsigned long long low = index + 1;
  return philox_rounds({{low, low == 0, 0, 0}}, key0, key1);
}

// A float32 of [0, 1) from 32 random bits, as NumPy makes it: 24 bits, so that each is exact.
__device__ __forceinline__ float uniform_float(unsigned bits) {
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

// A float64 of [0, 1) from a word.
__device__ __forceinline__ double uniform_double(unsigned long long word) {
  return static_cast<double>(word >> 11) * (1.0 / 9007199254740992.0);
}

// Float `lane` (0 to 7) of a block: two to a word, the low half first. Element i of
// Generator(Philox(key)).random(n, dtype=float32) is block_float(philox_block(..., i / 8), i % 8).
__device__ __forceinline__ float block_float(const PhiloxBlock& block, int lane) {
  return uniform_float(static_cast<unsigned>(block.word[lane / 2] >> (lane % 2 * 32)));
}

// Whether block_float(block, lane) >= rate, for a rate of [0, 1], without making it a float: `least`
// is least_bits(rate), the least 24 bits of which that holds.
__device__ __forceinline__ unsigned least_bits(float rate) {
  return static_cast<unsigned>(ceilf(rate * 16777216.0f));
}
__device__ __forceinline__ bool reaches(const PhiloxBlock& block, int lane, unsigned least) {
  return static_cast<unsigned>(block.word[lane / 2] >> (lane % 2 * 32)) >> 8 >= least;
}

// How many numbers of A a block makes, and which one is number k of them: block_number<float>(b, k)
// is block_float, block_number<double>(b, k) is element k of Generator(...).random(float64).
template <typename A>
constexpr int kNumbers = 32 / sizeof(A);

template <typename A>
__device__ __forceinline__ A block_number(const PhiloxBlock& block, int k) {
  if constexpr (sizeof(A) == 8)
    return uniform_double(block.word[k]);
  else
    return block_float(block, k);
}
