// Scatters in which an element of the result may be named many times: sums (the backward pass of
// an embedding), products, extremes, the last writer. Nothing is atomic and nothing waits for the
// host: the places are sorted, stably, so that the rows of a place stand together in their order,
// and are combined from left to right.
//
// 1. count_digits, scan_counts, move_by_digit: one pass of a radix sort for eight bits of the
//    places, from the lowest; as many passes as the largest place has bytes.
// 2. combine_runs: rows of equal places, within fixed tiles of 64 sorted rows.
// 3. combine_tiles: what belongs to one place in several tiles, tile after tile. So a place that
//    most rows name (padding) does not leave the work to one warp.
#include "reducers.cuh"

constexpr int kBuckets = 256;  // values of a digit
constexpr int kTile = 64;      // sorted rows that one thread group combines

struct Last {  // beside Sum, Prod, Max and Min
  template <typename A>
  __device__ __forceinline__ A operator()(A, A b) const { return b; }
};

// count_digits<BLOCK>      counts[d, b] = how many keys of block b have digit d
// Shapes    keys (n); counts (256, B): block b has the keys from b * tile on
// Launch    grid B, block BLOCK, static shared 256 ints
// Bytes     4n + 1024 B     Flops  2n     bound: memory
// Numerics  integers: the atomic additions give the same counts in every order
// Source    Knuth, The Art of Computer Programming 3, 5.2.5; Satish, Harris, Garland 2009
// Measured  not measured
template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    count_digits(const unsigned* __restrict__ keys, unsigned* __restrict__ counts, long long n,
                 long long tile, int shift) {
  SHARED_ARRAY(unsigned, count, kBuckets);
  for (int d = threadIdx.x; d < kBuckets; d += BLOCK) count[d] = 0;
  __syncthreads();
  const long long first = blockIdx.x * tile, last = first + tile < n ? first + tile : n;
  for (long long i = first + threadIdx.x; i < last; i += BLOCK)
    atomicAdd(&count[keys[i] >> shift & (kBuckets - 1)], 1u);
  __syncthreads();
  for (int d = threadIdx.x; d < kBuckets; d += BLOCK)
    counts[static_cast<long long>(d) * gridDim.x + blockIdx.x] = count[d];
}

// scan_counts<BLOCK>      counts[i] = counts[0] + ... + counts[i - 1], in place
// Shapes    counts (m), aligned to 16 bytes; 4 divides m
// Launch    grid 1, block BLOCK: 4 BLOCK counts at a time; static shared BLOCK / 32 ints
// Bytes     8m     Flops  2m     bound: latency
// Numerics  exact
// Source    Hillis, Steele 1986, in each warp
// Measured  not measured
template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    scan_counts(unsigned* __restrict__ counts, long long m) {
  constexpr int kWarps = BLOCK / 32;
  SHARED_ARRAY(unsigned, of_warp, kWarps);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned carry = 0;
  for (long long chunk = 0; chunk < m; chunk += 4 * BLOCK) {
    const long long i = chunk + 4 * threadIdx.x;
    Vec<unsigned, 4> here = {{0, 0, 0, 0}};
    if (i < m) here = load_vec<4>(counts + i);
    const unsigned sum = here[0] + here[1] + here[2] + here[3];
    unsigned before = sum;  // over the threads of the warp up to this one
    for (int step = 1; step < 32; step *= 2) {
      const unsigned left = __shfl_up_sync(kFullMask, before, step);
      if (lane >= step) before += left;
    }
    if (lane == 31) of_warp[warp] = before;
    __syncthreads();
    before += carry - sum;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) before += of_warp[w];
      carry += of_warp[w];
    }
    for (int v = 0; v < 4; ++v) {
      const unsigned count = here[v];
      here[v] = before;
      before += count;
    }
    if (i < m) store_vec<4>(counts + i, here);
    __syncthreads();  // before `of_warp` is written again
  }
}

// The lanes of the warp whose digit is the same; all lanes call it.
__device__ __forceinline__ unsigned same_digit(unsigned digit) {
  unsigned peers = kFullMask;
#pragma unroll
  for (int bit = 0; bit < 9; ++bit) {  // the ninth tells digits from kBuckets: no key
    const unsigned set = __ballot_sync(kFullMask, digit >> bit & 1);
    peers &= digit >> bit & 1 ? set : ~set;
  }
  return peers;
}

// move_by_digit<BLOCK>      sorts by one digit, stably: keys, and the numbers of their rows
// Shapes    keys, order, new_keys, new_order (n), order null for 0, 1, 2, ...;
//           starts (256, B): where the keys of digit d of block b go
// Launch    grid B, block BLOCK == 256, static shared 9 * 256 ints
// Bytes     16n + 1024 B     Flops  about 60n     bound: memory
// Numerics  exact; equal keys keep their order
// Source    Satish, Harris, Garland 2009; rank within a warp by ballots: Ashkiani et al. 2016
// Measured  not measured
template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    move_by_digit(const unsigned* __restrict__ keys, const unsigned* __restrict__ order,
                  const unsigned* __restrict__ starts, unsigned* __restrict__ new_keys,
                  unsigned* __restrict__ new_order, long long n, long long tile, int shift) {
  constexpr int kWarps = BLOCK / 32;
  static_assert(BLOCK == kBuckets, "thread d keeps the place of digit d");
  SHARED_ARRAY(unsigned, place, kWarps * kBuckets);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned next = starts[static_cast<long long>(threadIdx.x) * gridDim.x + blockIdx.x];
  const long long first = blockIdx.x * tile, last = first + tile < n ? first + tile : n;
  for (long long chunk = first; chunk < last; chunk += BLOCK) {
    const long long i = chunk + threadIdx.x;
    const unsigned key = i < last ? keys[i] : 0;
    const unsigned digit = i < last ? key >> shift & (kBuckets - 1) : kBuckets;
    for (int w = 0; w < kWarps; ++w) place[w * kBuckets + threadIdx.x] = 0;
    __syncthreads();
    const unsigned peers = same_digit(digit), rank = __popc(peers & ((1u << lane) - 1));
    if (i < last && rank == 0) place[warp * kBuckets + digit] = __popc(peers);
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) {  // counts of the warps become their first places
      const unsigned count = place[w * kBuckets + threadIdx.x];
      place[w * kBuckets + threadIdx.x] = next;
      next += count;
    }
    __syncthreads();
    if (i < last) {
      const unsigned target = place[warp * kBuckets + digit] + rank;
      new_keys[target] = key;
      new_order[target] = order ? order[i] : static_cast<unsigned>(i);
    }
    __syncthreads();  // before `place` is cleared
  }
}

// Writes one combined piece: to y, after what stands there if `onto`, or to the partial results.
template <typename T, typename F, int VEC, typename A>
__device__ __forceinline__ void put_piece(T* y, A* partial, const A (&total)[VEC], bool whole,
                                          bool onto) {
  if (!whole) {
    for (int v = 0; v < VEC; ++v) partial[v] = total[v];
    return;
  }
  Vec<T, VEC> out;
  if (onto) out = load_vec<VEC>(y);
  for (int v = 0; v < VEC; ++v)
    out[v] = from_float<T>(onto ? F()(to_float(out[v]), total[v]) : total[v]);
  store_vec<VEC>(y, out);
}

// combine_runs<T, F, VEC>      y[o, k, :] = F over the rows x[o, order[p], :] with keys[p] == k
// Shapes    keys, order (n), sorted; x (O, n, C), y (O, length, C) of T: other rows stay;
//           partial (O, tiles, 2, C) of Acc<T>: the first piece of a tile if its place began
//           before it, and the last one if its place goes on after it
// Launch    grid (ceil(C / (X VEC)), any), block (X, 256 / X): X threads share a tile;
//           x and y aligned to VEC elements
// Bytes     O (n C sizeof(T) + 8n) + the rows written     Flops  OnC     bound: memory
// Numerics  in Acc<T>, in the order of the rows, rounded once; tiles start at multiples of 64
// Source    sort and segmented sum, as in PyTorch's embedding_dense_backward
// Measured  not measured
template <typename T, typename F, int VEC>
__global__ void __launch_bounds__(256, 1)
    combine_runs(const unsigned* __restrict__ keys, const unsigned* __restrict__ order,
                 const T* __restrict__ x, T* __restrict__ y, Acc<T>* __restrict__ partial,
                 long long n, long long outer, long long length, long long inner, bool onto) {
  using A = Acc<T>;
  constexpr int AHEAD = 4;  // rows in flight
  const long long c = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  const long long tiles = ceil_div(n, static_cast<long long>(kTile));
  const long long step = static_cast<long long>(gridDim.y) * blockDim.y;
  if (c >= inner) return;
  for (long long item = static_cast<long long>(blockIdx.y) * blockDim.y + threadIdx.y;
       item < outer * tiles; item += step) {
    const long long o = item / tiles, first = (item - o * tiles) * kTile;
    const long long last = first + kTile < n ? first + kTile : n;
    unsigned key = keys[first];
    bool began_before = first > 0 && keys[first - 1] == key;
    A total[VEC];
    for (long long p = first; p < last; p += AHEAD) {
      Vec<T, VEC> rows[AHEAD];
      unsigned key_of[AHEAD];
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) {
        const long long q = p + a < last ? p + a : last - 1;
        key_of[a] = keys[q];
        rows[a] = load_vec<VEC>(x + (o * n + order[q]) * inner + c);
      }
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) {
        if (p + a >= last) continue;
        const bool starts = p + a == first || key_of[a] != key;
        if (starts && p + a > first) {
          put_piece<T, F, VEC>(y + (o * length + key) * inner + c, partial + item * 2 * inner + c,
                               total, !began_before, onto);
          began_before = false;
        }
        key = key_of[a];
#pragma unroll
        for (int v = 0; v < VEC; ++v)
          total[v] = starts ? to_float(rows[a][v]) : F()(total[v], to_float(rows[a][v]));
      }
    }
    const bool goes_on = last < n && keys[last] == key;
    const long long slot = item * 2 + (began_before ? 0 : 1);
    put_piece<T, F, VEC>(y + (o * length + key) * inner + c, partial + slot * inner + c, total,
                         !began_before && !goes_on, onto);
  }
}

// combine_tiles<T, F>      y[o, k, :] = F over the pieces of place k, where it has several
// Shapes    as for combine_runs
// Launch    grid (ceil(C / X), any), block (X, 256 / X): X threads share a tile
// Bytes     the pieces once: at most 2 OnC / 64 * sizeof(Acc<T>)     bound: memory
// Numerics  in Acc<T>, tile after tile: the same bits in every run
// Source    as for combine_runs
// Measured  not measured
template <typename T, typename F>
__global__ void __launch_bounds__(256, 1)
    combine_tiles(const unsigned* __restrict__ keys, const Acc<T>* __restrict__ partial,
                  T* __restrict__ y, long long n, long long outer, long long length,
                  long long inner, bool onto) {
  using A = Acc<T>;
  constexpr int AHEAD = 8;  // pieces in flight
  const long long c = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const long long tiles = ceil_div(n, static_cast<long long>(kTile));
  const long long step = static_cast<long long>(gridDim.y) * blockDim.y;
  if (c >= inner) return;
  for (long long item = static_cast<long long>(blockIdx.y) * blockDim.y + threadIdx.y;
       item < outer * tiles; item += step) {
    const long long o = item / tiles, first = (item - o * tiles) * kTile, last = first + kTile;
    if (last >= n || keys[last] != keys[last - 1]) continue;         // nothing goes on
    if (first > 0 && keys[first - 1] == keys[last - 1]) continue;  // it began before this tile
    const unsigned key = keys[last - 1];
    A total = partial[(item * 2 + 1) * inner + c];
    const A* piece = partial + (item + 1) * 2 * inner + c;  // of the tile that begins at `end`
    long long end = last;
    for (; end + (AHEAD - 1) * kTile < n && keys[end + (AHEAD - 1) * kTile] == key;
         end += AHEAD * kTile, piece += AHEAD * 2 * inner) {  // what lies between is equal, too
      A pieces[AHEAD];
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) pieces[a] = piece[a * 2 * inner];
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) total = F()(total, pieces[a]);
    }
    for (; end < n && keys[end] == key; end += kTile, piece += 2 * inner)
      total = F()(total, *piece);
    T& out = y[(o * length + key) * inner + c];
    out = from_float<T>(onto ? F()(to_float(out), total) : total);
  }
}

// add_rows_atomic<T, BLOCK>      y[o, places[j], :] += x[o, j, :]
// Shapes    x (O, n, C) of T; places (n); y (O, length, C) of Acc<T>, zeros
// Launch    any 1-D grid, block BLOCK
// Bytes     OnC * (sizeof(T) + 2 sizeof(Acc<T>))     Flops  OnC     bound: memory, or one address
// Numerics  the order of the additions, and so the last bits, differ from run to run
// Source    one atomic addition an element
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    add_rows_atomic(const unsigned* __restrict__ places, const T* __restrict__ x,
                    Acc<T>* __restrict__ y, long long n, long long outer, long long length,
                    long long inner) {
  const long long size = outer * n * inner;
  for (long long i = grid_start<long long>(); i < size; i += grid_stride<long long>()) {
    const long long row = i / inner, o = row / n, c = i - row * inner;
    atomicAdd(&y[(o * length + places[row - o * n]) * inner + c], to_float(x[i]));
  }
}
