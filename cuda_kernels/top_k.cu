// The k largest elements of each row, by radix selection: no sort of the whole row.
#include "common.cuh"

// Numbers as unsigned ones in the same order: NaN above all, and zeros of both signs equal.
template <typename Key>
__device__ __forceinline__ Key float_key(Key bits, bool nan, bool zero) {
  constexpr Key kSign = Key(1) << (sizeof(Key) * 8 - 1);
  if (nan) return static_cast<Key>(~Key(0));
  if (zero) return kSign;
  return static_cast<Key>(bits & kSign ? ~bits : bits | kSign);
}
__device__ __forceinline__ unsigned sort_key(float x) {
  return float_key<unsigned>(__float_as_uint(x), x != x, x == 0.0f);
}
__device__ __forceinline__ unsigned long long sort_key(double x) {
  const unsigned long long bits = __double_as_longlong(x);
  return float_key<unsigned long long>(bits, x != x, x == 0.0);
}
__device__ __forceinline__ unsigned short sort_key(__half x) {
  return float_key<unsigned short>(__half_as_ushort(x), to_float(x) != to_float(x),
                                   to_float(x) == 0.0f);
}
__device__ __forceinline__ unsigned short sort_key(__nv_bfloat16 x) {
  return float_key<unsigned short>(__bfloat16_as_ushort(x), to_float(x) != to_float(x),
                                   to_float(x) == 0.0f);
}
__device__ __forceinline__ unsigned char sort_key(unsigned char x) { return x; }
__device__ __forceinline__ unsigned char sort_key(bool x) { return x; }
__device__ __forceinline__ unsigned char sort_key(signed char x) {
  return static_cast<unsigned char>(x ^ 0x80);
}
__device__ __forceinline__ unsigned short sort_key(unsigned short x) { return x; }
__device__ __forceinline__ unsigned short sort_key(short x) {
  return static_cast<unsigned short>(x ^ 0x8000);
}
__device__ __forceinline__ unsigned sort_key(unsigned x) { return x; }
__device__ __forceinline__ unsigned sort_key(int x) { return static_cast<unsigned>(x) ^ 1u << 31; }
__device__ __forceinline__ unsigned long long sort_key(unsigned long long x) { return x; }
__device__ __forceinline__ unsigned long long sort_key(long long x) {
  return static_cast<unsigned long long>(x) ^ 1ull << 63;
}

// Given how many elements have each of 256 digits: the digit of the `wanted`-th largest element,
// and how many of those with this digit are wanted. One warp calls it; lane l owns 8 digits.
__device__ __forceinline__ void find_digit(const unsigned* counts, unsigned wanted,
                                           unsigned* digit, unsigned* left) {
  const int lane = threadIdx.x, top = 255 - 8 * lane;  // lane 0 owns the largest digits
  unsigned mine = 0;
  for (int d = 0; d < 8; ++d) mine += counts[top - d];
  unsigned sum = mine;
  for (int step = 1; step < 32; step *= 2) {
    const unsigned before = __shfl_up_sync(kFullMask, sum, step);
    if (lane >= step) sum += before;
  }
  unsigned above = sum - mine;
  if (above >= wanted || sum < wanted) return;
  for (int d = top; d > top - 8; above += counts[d--])
    if (above + counts[d] >= wanted) {
      *digit = d;
      *left = wanted - above;
      return;
    }
}

// The key of the k-th largest element of a row, found 8 bits at a time; `ties` becomes how many
// elements with exactly this key are among the k.
template <int BLOCK, typename T>
__device__ __forceinline__ auto kth_key(const T* row, long long n, unsigned k, unsigned* ties) {
  using Key = decltype(sort_key(T()));
  SHARED_ARRAY(unsigned, counts, 256);
  SHARED_ARRAY(unsigned, found, 2);
  Key key = 0, known = 0;
  unsigned wanted = k;
  for (int shift = sizeof(Key) * 8 - 8; shift >= 0; shift -= 8) {
    for (int d = threadIdx.x; d < 256; d += BLOCK) counts[d] = 0;
    __syncthreads();
    for (long long c = threadIdx.x; c < n; c += BLOCK) {
      const Key other = sort_key(row[c]);
      if ((other & known) == key) atomicAdd(&counts[other >> shift & 255], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 32) find_digit(counts, wanted, found, found + 1);
    __syncthreads();
    key = static_cast<Key>(key | static_cast<Key>(found[0]) << shift);
    known = static_cast<Key>(known | static_cast<Key>(255) << shift);
    wanted = found[1];
    __syncthreads();  // before `counts` and `found` are written again
  }
  *ties = wanted;
  return key;
}

// How many threads before this one have a flag, plus `seen`, to which all flags are added.
template <int BLOCK>
__device__ __forceinline__ unsigned count_before(unsigned flag, unsigned& seen) {
  SHARED_ARRAY(unsigned, of_warp, BLOCK / 32);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned votes = __ballot_sync(kFullMask, flag);
  if (lane == 0) of_warp[warp] = __popc(votes);
  __syncthreads();
  unsigned before = seen + __popc(votes & ((1u << lane) - 1));
  for (int w = 0; w < BLOCK / 32; ++w) {
    if (w < warp) before += of_warp[w];
    seen += of_warp[w];
  }
  __syncthreads();  // before `of_warp` is written again
  return before;
}

// top_k<T, BLOCK, MOST>      values[r, j] = x[r, indices[r, j]], the j-th largest of row r
// Shapes    x (R, C) of T row-major; values (R, k) of T and indices (R, k) of int; k <= MOST, C
// Launch    grid min(R, 65535), block BLOCK, a multiple of 32; static shared 256 counters + MOST
// Bytes     RC * sizeof(T) from memory, 2 + sizeof(T) times that from caches     bound: memory
// Numerics  copies bits; equal elements in the order of their indices, NaN first
// Source    radix selection (Alabi et al., "Fast k-selection algorithms for graphics processing
//           units", 2012); the k found are put in order by counting, for each, the better ones
// Measured  not measured
template <typename T, int BLOCK, int MOST>
__global__ void __launch_bounds__(BLOCK, 1)
    top_k(const T* __restrict__ x, T* __restrict__ values, int* __restrict__ indices,
          long long rows, long long columns, int k) {
  using Key = decltype(sort_key(T()));
  SHARED_ARRAY(Key, keys, MOST);
  SHARED_ARRAY(int, places, MOST);
  SHARED_ARRAY(unsigned, taken, 1);
  for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * columns;
    unsigned ties;
    const Key least = kth_key<BLOCK>(row, columns, k, &ties);
    if (threadIdx.x == 0) taken[0] = 0;
    __syncthreads();
    unsigned seen = 0;  // elements equal to the least one, so far
    for (long long tile = 0; tile < columns; tile += BLOCK) {
      const long long c = tile + threadIdx.x;
      const Key key = c < columns ? sort_key(row[c]) : Key(0);
      const unsigned equal = c < columns && key == least;
      const unsigned before = seen < ties ? count_before<BLOCK>(equal, seen) : ties;
      if (c < columns && (key > least || (equal && before < ties))) {
        const unsigned place = atomicAdd(taken, 1u);
        keys[place] = key;
        places[place] = static_cast<int>(c);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < k; i += BLOCK) {
      int rank = 0;
      for (int j = 0; j < k; ++j)
        rank += keys[j] > keys[i] || (keys[j] == keys[i] && places[j] < places[i]);
      values[r * k + rank] = row[places[i]];
      indices[r * k + rank] = places[i];
    }
    __syncthreads();  // before `keys` is filled again
  }
}
