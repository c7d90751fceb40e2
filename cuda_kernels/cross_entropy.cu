// Cross-entropies: softmax with integer labels or with probabilities, and sigmoid.
#include "softmax.cuh"

__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fc00000); }

// The label of a row: what kernels of integer labels share, so that one kernel that computes loss
// and gradient gives the bits of the two that compute one each.
template <typename A>
struct Label {
  long long index, columns;
  bool known, skipped;
  A smoothing;
  __device__ __forceinline__ Label(long long index, long long columns, bool has_ignored,
                                   long long ignored, float smoothing)
      : index(index), columns(columns), known(index >= 0 && index < columns),
        skipped(has_ignored && index == ignored), smoothing(smoothing) {}
  // The logit of the label; NaN if it is not one of the classes.
  template <typename T>
  __device__ __forceinline__ A logit(const T* row) const {
    return known ? to_float(row[index]) : A(not_a_number());
  }
  // log(sum) - (1 - smoothing) (logit - top) - smoothing (mean - top)
  __device__ __forceinline__ A loss(const RunningSum<A>& running, A height, A logit,
                                    A plain_sum) const {
    A value = height - (A(1) - smoothing) * (logit - running.top);
    if (smoothing != A(0)) value -= smoothing * (plain_sum / A(columns) - running.top);
    return skipped ? A(0) : value;
  }
};

// The derivative of a row for the cotangents g of its loss and g_lse of its lse.
template <typename A>
struct LabelGradient {
  A total, each, at_label;
  long long index;
  __device__ __forceinline__ LabelGradient(const Label<A>& label, A g, A g_lse)
      : index(label.index) {
    A gradient = label.skipped ? A(0) : g;
    if (!label.skipped && !label.known) gradient = A(not_a_number());
    total = gradient + g_lse;
    each = gradient * label.smoothing / A(label.columns);
    at_label = gradient * (A(1) - label.smoothing);
  }
  // Replaces the logits of the columns from c on by their derivatives.
  template <typename T, int VEC>
  __device__ __forceinline__ void replace(Vec<T, VEC>& group, long long c, A lse) const {
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const A share = exp(to_float(group[j]) - lse) * total - each;
      group[j] = from_float<T>(c + j == index ? share - at_label : share);
    }
  }
};

// softmax_cross_entropy_forward<T, L, VEC, WIDTH, BLOCK>
//           loss = lse - (1 - smoothing) x[label] - smoothing mean(x), 0 if label == ignored;
//           lse = log(sum(exp(x)))
// Shapes    x (R, C) of T row-major, C a multiple of VEC; labels (R) of L; loss (R) of T;
//           lse (R) of Acc<T>
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; static shared as block_reduce
// Bytes     RC * sizeof(T)     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>, shifted by the maximum; deterministic; a label that is not one of
//           the classes gives NaN
// Source    Milakov, Gimelshein 2018, arXiv:1805.02867: one pass for a row of any length
// Measured  not measured
template <typename T, typename L, int VEC, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_cross_entropy_forward(const T* __restrict__ x, const L* __restrict__ labels,
                                  T* __restrict__ loss, Acc<T>* __restrict__ lse, long long rows,
                                  long long columns, bool has_ignored, long long ignored,
                                  float smoothing) {
  using A = Acc<T>;
  const int lane = threadIdx.x % WIDTH;
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    const T* row = x + r * columns;
    RunningSum<A> running;
    A plain_sum = 0;
    for (long long c = lane * VEC; c < columns; c += WIDTH * VEC) {
      const Vec<T, VEC> group = load_vec<VEC>(row + c);
      running.add(group);
      if (smoothing != 0.0f)
        for (int j = 0; j < VEC; ++j) plain_sum += to_float(group[j]);
    }
    running.template combine<WIDTH>();
    if (smoothing != 0.0f) plain_sum = row_reduce<WIDTH>(plain_sum, Sum());
    if (lane == 0) {
      const Label<A> label(labels[r], columns, has_ignored, ignored, smoothing);
      const A height = log(running.sum);
      loss[r] = from_float<T>(label.loss(running, height, label.logit(row), plain_sum));
      lse[r] = height + running.top;
    }
  }
}

// softmax_cross_entropy_backward<T, L, VEC, WIDTH, BLOCK>
//           dx = exp(x - lse) (g + g_lse) - g ((1 - smoothing) [c == label] + smoothing / C),
//           with g = 0 where label == ignored
// Shapes    g (R) of T; g_lse, lse (R) of Acc<T>; x, dx (R, C) of T, C a multiple of VEC;
//           labels (R) of L
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time
// Bytes     2RC * sizeof(T)     Flops  4RC     bound: memory
// Numerics  computed in Acc<T>, rounded once; a label that is not one of the classes gives NaN
// Source    derivative of the above. dx may be x itself: a thread reads an element before it
//           writes it, and no other thread reads it; so neither pointer is __restrict__
// Measured  not measured
template <typename T, typename L, int VEC, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    softmax_cross_entropy_backward(const T* __restrict__ g, const Acc<T>* __restrict__ g_lse,
                                   const T* x, const L* __restrict__ labels,
                                   const Acc<T>* __restrict__ lse, T* dx, long long rows,
                                   long long columns, bool has_ignored, long long ignored,
                                   float smoothing) {
  using A = Acc<T>;
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    const Label<A> label(labels[r], columns, has_ignored, ignored, smoothing);
    const LabelGradient<A> gradient(label, to_float(g[r]), g_lse[r]);
    const A shift = lse[r];
    const long long lane = threadIdx.x % WIDTH;
#pragma unroll 2
    for (long long c = lane * VEC; c < columns; c += WIDTH * VEC) {
      Vec<T, VEC> group = load_vec<VEC>(x + r * columns + c);
      gradient.replace(group, c, shift);
      store_vec(dx + r * columns + c, group);
    }
  }
}

// softmax_cross_entropy_with_gradient<T, L, VEC, WIDTH, BLOCK>
//           loss and lse as softmax_cross_entropy_forward;
//           dx = scale (exp(x - lse) - (1 - smoothing) [c == label] - smoothing / C), 0 if ignored
// Shapes    x, dx (R, C) of T row-major, C a multiple of VEC; labels (R) of L; loss (R) of T;
//           scale () and lse (R) of Acc<T>; kept: a multiple of VEC, at most C
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; dynamic shared
//           BLOCK/WIDTH * kept * sizeof(T), static as block_reduce; 64 registers a thread, so that
//           1024 threads share a multiprocessor
// Bytes     2RC * sizeof(T), where kept == C; else the columns from `kept` on are read again,
//           from cache     Flops  8RC     bound: memory
// Numerics  computed in Acc<T>, the gradient rounded once; deterministic; the bits of the two
//           kernels above; a label that is not one of the classes gives NaN
// Source    Hsu et al. 2024 (Liger Kernel), arXiv:2410.10989: the gradient beside the loss. What a
//           thread comes back to it keeps in shared memory: two rows of 50304 halves fit a
//           multiprocessor of an H200, and one computes while the other loads. dx may be x itself
// Measured  not measured
template <typename T, typename L, int VEC, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1024 / BLOCK)
    softmax_cross_entropy_with_gradient(const T* x, const L* __restrict__ labels,
                                        const Acc<T>* __restrict__ scale, T* __restrict__ loss,
                                        Acc<T>* __restrict__ lse, T* dx, long long rows,
                                        long long columns, long long kept, bool has_ignored,
                                        long long ignored, float smoothing) {
  using A = Acc<T>;
  GPUNET_SHARED(T, buffer);
  T* copy = buffer + threadIdx.x / WIDTH * kept;  // of a row; each thread its own columns
  const long long first = threadIdx.x % WIDTH * VEC;
  const A cotangent = *scale;
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    const T* row = x + r * columns;
    const Label<A> label(labels[r], columns, has_ignored, ignored, smoothing);
    const A logit = label.logit(row);
    RunningSum<A> running;
    A plain_sum = 0;
#pragma unroll(sizeof(T) == 8 ? 1 : 4)
    for (long long c = first; c < columns; c += WIDTH * VEC) {
      const Vec<T, VEC> group = load_vec<VEC>(row + c);
      if (c < kept) store_vec(copy + c, group);
      running.add(group);
      if (smoothing != 0.0f)
        for (int j = 0; j < VEC; ++j) plain_sum += to_float(group[j]);
    }
    // All have read the label's logit before one writes over it; `combine` is a barrier for blocks.
    __syncwarp();
    running.template combine<WIDTH>();
    if (smoothing != 0.0f) plain_sum = row_reduce<WIDTH>(plain_sum, Sum());
    const A height = log(running.sum), shift = height + running.top;
    if (first == 0) {
      loss[r] = from_float<T>(label.loss(running, height, logit, plain_sum));
      lse[r] = shift;
    }
    const LabelGradient<A> gradient(label, cotangent, A(0));
#pragma unroll 2
    for (long long c = first; c < columns; c += WIDTH * VEC) {
      Vec<T, VEC> group = load_vec<VEC>(c < kept ? copy + c : row + c);
      gradient.replace(group, c, shift);
      store_vec(dx + r * columns + c, group);
    }
  }
}

// dense_cross_entropy_forward<T, VEC, WIDTH, BLOCK>
//           loss = sum(t) lse - sum(t x), t = (1 - smoothing) target + smoothing / C
// Shapes    x, target (R, C) of T row-major, C a multiple of VEC; loss (R) of T; lse (R) of Acc<T>
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; static shared as block_reduce
// Bytes     2RC * sizeof(T)     Flops  7RC     bound: memory
// Numerics  computed in Acc<T>; sums of t x shifted by the first logit of the row; deterministic
// Source    Milakov, Gimelshein 2018, arXiv:1805.02867
// Measured  not measured
template <typename T, int VEC, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    dense_cross_entropy_forward(const T* __restrict__ x, const T* __restrict__ target,
                                T* __restrict__ loss, Acc<T>* __restrict__ lse, long long rows,
                                long long columns, float smoothing) {
  using A = Acc<T>;
  const A keep = A(1) - A(smoothing), each = A(smoothing) / A(columns);
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    const long long start = r * columns, lane = threadIdx.x % WIDTH;
    const A base = to_float(x[start]);
    RunningSum<A> running;
    A mass = 0, product = 0;
    for (long long c = lane * VEC; c < columns; c += WIDTH * VEC) {
      const Vec<T, VEC> group = load_vec<VEC>(x + start + c);
      const Vec<T, VEC> goal = load_vec<VEC>(target + start + c);
      running.add(group);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A t = to_float(goal[j]) * keep + each;
        mass += t;
        product += t * (to_float(group[j]) - base);
      }
    }
    running.template combine<WIDTH>();
    mass = row_reduce<WIDTH>(mass, Sum());
    product = row_reduce<WIDTH>(product, Sum());
    if (lane == 0) {
      const A height = log(running.sum);
      loss[r] = from_float<T>(mass * (height + (running.top - base)) - product);
      lse[r] = height + running.top;
    }
  }
}

// dense_cross_entropy_backward<T, VEC, WIDTH, BLOCK>
//           dx = exp(x - lse) (g sum(t) + g_lse) - g t, t = (1 - smoothing) target + smoothing / C
// Shapes    g (R) of T; g_lse, lse (R) of Acc<T>; x, target, dx (R, C) of T, C a multiple of VEC
// Launch    any 1-D grid, block BLOCK: BLOCK/WIDTH rows at a time; static shared as block_reduce
// Bytes     4RC * sizeof(T), of which the second read of target is from cache     Flops  8RC
//           bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    derivative of the above
// Measured  not measured
template <typename T, int VEC, int WIDTH, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    dense_cross_entropy_backward(const T* __restrict__ g, const Acc<T>* __restrict__ g_lse,
                                 const T* __restrict__ x, const T* __restrict__ target,
                                 const Acc<T>* __restrict__ lse, T* __restrict__ dx,
                                 long long rows, long long columns, float smoothing) {
  using A = Acc<T>;
  const A keep = A(1) - A(smoothing), each = A(smoothing) / A(columns);
  for (long long r = first_row<WIDTH, BLOCK>(); r < rows; r += row_stride<WIDTH, BLOCK>()) {
    const long long start = r * columns, first = threadIdx.x % WIDTH * VEC;
    A mass = 0;
    for (long long c = first; c < columns; c += WIDTH * VEC) {
      const Vec<T, VEC> goal = load_vec<VEC>(target + start + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) mass += to_float(goal[j]) * keep + each;
    }
    mass = row_reduce<WIDTH>(mass, Sum());
    const A gradient = to_float(g[r]), total = gradient * mass + g_lse[r], shift = lse[r];
    for (long long c = first; c < columns; c += WIDTH * VEC) {
      Vec<T, VEC> group = load_vec<VEC>(x + start + c);
      const Vec<T, VEC> goal = load_vec<VEC>(target + start + c);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A t = to_float(goal[j]) * keep + each;
        group[j] = from_float<T>(exp(to_float(group[j]) - shift) * total - gradient * t);
      }
      store_vec(dx + start + c, group);
    }
  }
}

// sigmoid_cross_entropy_forward<T, VEC, BLOCK>      loss = max(x, 0) - x t + log(1 + exp(-|x|))
// Shapes    x, t, loss (n) of T
// Launch    any 1-D grid, block BLOCK; VEC elements of a thread at once, the last n % VEC singly
// Bytes     3n * sizeof(T)     Flops  6n     bound: memory
// Numerics  computed in Acc<T>, rounded once; does not overflow; deterministic
// Source    grid-stride loop
// Measured  not measured
template <typename T, int VEC, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    sigmoid_cross_entropy_forward(const T* __restrict__ x, const T* __restrict__ t,
                                  T* __restrict__ loss, long long n) {
  using A = Acc<T>;
  const auto entropy = [](T logit, T target) {
    const A v = to_float(logit);
    const A positive = v > A(0) || v != v ? v : A(0), rest = log1p(exp(v > A(0) ? -v : v));
    return from_float<T>(rest + positive - v * to_float(target));
  };
  const long long groups = n / VEC;
  for (long long i = grid_start<long long>(); i < groups; i += grid_stride<long long>()) {
    Vec<T, VEC> group = load_vec<VEC>(x + i * VEC);
    const Vec<T, VEC> goal = load_vec<VEC>(t + i * VEC);
#pragma unroll
    for (int j = 0; j < VEC; ++j) group[j] = entropy(group[j], goal[j]);
    store_vec(loss + i * VEC, group);
  }
  const long long last = groups * VEC + grid_start<long long>();
  if (last < n) loss[last] = entropy(x[last], t[last]);
}
