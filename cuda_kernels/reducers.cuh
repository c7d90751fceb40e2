// What a reduction keeps while it reads, one struct for each: the kernels in reduce.cu run any.
//
//   using State                                 what is kept: a sum, or a few numbers
//   static State identity()                     of no elements
//   static void add(state, values, at, step)    takes N values; value j has index at + j * step
//   static State merge(a, b)                    of all elements of a and all of b
//   static U finish<U>(state, scale)            the result; a mean has 1 / n as its scale
//
// A is the type that is computed in: Acc<T> of common.cuh.
#pragma once
#include "common.cuh"

struct Prod {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const { return a * b; }
  template <typename T>
  static __device__ __forceinline__ T identity() { return T(1); }
};

// Sum, Prod, Max, Min: one number; of integers, `scale` is 1.
template <typename A, typename F>
struct Fold {
  using State = A;
  static __device__ __forceinline__ State identity() { return F::template identity<A>(); }
  template <int N>
  static __device__ __forceinline__ void add(State& state, const A (&values)[N], long long,
                                             long long) {
#pragma unroll
    for (int j = 0; j < N; ++j) state = F()(state, values[j]);
  }
  static __device__ __forceinline__ State merge(State a, State b) { return F()(a, b); }
  template <typename U>
  static __device__ __forceinline__ U finish(State state, A scale) {
    return from_float<U>(static_cast<Acc<U>>(state * scale));
  }
};

// Whether one element is not zero (ALL = false), or every one. NaN is not zero.
template <typename A, bool ALL>
struct Test {
  using State = int;
  static __device__ __forceinline__ State identity() { return ALL; }
  template <int N>
  static __device__ __forceinline__ void add(State& state, const A (&values)[N], long long,
                                             long long) {
#pragma unroll
    for (int j = 0; j < N; ++j) state = merge(state, values[j] != A(0));
  }
  static __device__ __forceinline__ State merge(State a, State b) { return ALL ? a & b : a | b; }
  template <typename U>
  static __device__ __forceinline__ U finish(State state, A) { return state != 0; }
};

// The first of the largest (LEAST = false) or least elements; the first NaN if there is one.
template <typename A, bool LEAST>
struct Position {
  struct State {
    long long index;  // -1: no element yet
    A value;
  };
  static __device__ __forceinline__ State identity() { return {-1, A(0)}; }
  static __device__ __forceinline__ bool better(A a, A b) {  // NaN is better than any number
    return a != a ? b == b : b == b && (LEAST ? a < b : a > b);
  }
  template <int N>
  static __device__ __forceinline__ void add(State& state, const A (&values)[N], long long at,
                                             long long step) {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (state.index < 0 || better(values[j], state.value)) state = {at + j * step, values[j]};
  }
  static __device__ __forceinline__ State merge(State a, State b) {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    if (better(a.value, b.value) || better(b.value, a.value))
      return better(a.value, b.value) ? a : b;
    return a.index < b.index ? a : b;
  }
  template <typename U>
  static __device__ __forceinline__ U finish(State state, A) { return static_cast<U>(state.index); }
};

// Variance: count, mean, and the sum of squared distances from it. N values are done in two passes
// over registers, then merged with what came before (Chan, Golub, LeVeque, 1983): as exact as two
// passes over memory.
template <typename A>
struct Variance {
  struct State {
    A count, mean, squares;
  };
  static __device__ __forceinline__ State identity() { return {A(0), A(0), A(0)}; }
  template <int N>
  static __device__ __forceinline__ void add(State& state, const A (&values)[N], long long,
                                             long long) {
    State group = {A(N), A(0), A(0)};
#pragma unroll
    for (int j = 0; j < N; ++j) group.mean += values[j];
    group.mean *= A(1) / A(N);
#pragma unroll
    for (int j = 0; j < N; ++j)
      group.squares += (values[j] - group.mean) * (values[j] - group.mean);
    state = merge(state, group);
  }
  static __device__ __forceinline__ State merge(State a, State b) {
    if (a.count == A(0) || b.count == A(0)) return a.count == A(0) ? b : a;
    const A count = a.count + b.count, share = b.count / count, apart = b.mean - a.mean;
    return {count, a.mean + apart * share,
            a.squares + b.squares + apart * apart * a.count * share};
  }
  template <typename U>
  static __device__ __forceinline__ U finish(State state, A scale) {
    return from_float<U>(state.squares * scale);
  }
};

// log(sum(exp(x))): the largest element, and the sum of exp(x - it), scaled again when a larger
// one comes (Milakov, Gimelshein, 2018). An infinite maximum is not subtracted.
template <typename A>
struct LogSumExp {
  struct State {
    A top, sum;
  };
  static __device__ __forceinline__ A shift(A top) { return top - top == A(0) ? top : A(0); }
  static __device__ __forceinline__ State identity() { return {Max::identity<A>(), A(0)}; }
  static __device__ __forceinline__ A moved(State state, A to) {
    return state.sum == A(0) ? A(0) : state.sum * exp(shift(state.top) - to);
  }
  template <int N>
  static __device__ __forceinline__ void add(State& state, const A (&values)[N], long long,
                                             long long) {
    A top = state.top;
#pragma unroll
    for (int j = 0; j < N; ++j) top = Max()(top, values[j]);
    const A to = shift(top);
    A sum = moved(state, to);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += exp(values[j] - to);
    state = {top, sum};
  }
  static __device__ __forceinline__ State merge(State a, State b) {
    const A top = Max()(a.top, b.top), to = shift(top);
    return {top, moved(a, to) + moved(b, to)};
  }
  template <typename U>
  static __device__ __forceinline__ U finish(State state, A) {
    return from_float<U>(log(state.sum) + shift(state.top));
  }
};

// ---- states of a warp and of a block ------------------------------------------------------------

// What the lane whose number differs in the bits of `mask` holds.
template <typename State>
__device__ __forceinline__ State shuffle_xor(State state, int mask) {
  union Words {
    State state;
    int word[sizeof(State) / sizeof(int)];
    __device__ Words() {}
  } words;
  words.state = state;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(State) / sizeof(int)); ++i)
    words.word[i] = __shfl_xor_sync(kFullMask, words.word[i], mask);
  return words.state;
}

// Merges the states of `width` neighbouring threads: a power of two up to BLOCK, the same for the
// whole block. The first of each group gets the result. Every thread of the block must call it.
template <typename R, int BLOCK>
__device__ __forceinline__ typename R::State merge_threads(typename R::State state, int width) {
  using State = typename R::State;
  for (int step = (width < 32 ? width : 32) / 2; step > 0; step /= 2)
    state = R::merge(state, shuffle_xor(state, step));
  if (width > 32) {
    SHARED_ARRAY(State, of_warp, BLOCK / 32);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = state;
    __syncthreads();
    for (int warp = 1; threadIdx.x % width == 0 && warp < width / 32; ++warp)
      state = R::merge(state, of_warp[threadIdx.x / 32 + warp]);
    __syncthreads();  // before `of_warp` is written again
  }
  return state;
}

// Whether this block is the last of `blocks` to come here; then it sees what all of them wrote
// before. The counter is zero at first, and again afterwards. Every thread must call it.
__device__ __forceinline__ bool last_block(unsigned* counter, unsigned blocks) {
  SHARED_ARRAY(unsigned, ticket, 1);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) ticket[0] = atomicInc(counter, blocks - 1);
  __syncthreads();
  const bool last = ticket[0] == blocks - 1;
  __threadfence();
  __syncthreads();  // before `ticket` is written again
  return last;
}
