// Optimizer steps: a weight, its gradient and its slots are read once, and written once.
//
// Whatever changes from step to step - learning rate, step count, the factor on the gradients that
// clips them or takes the scale of the loss away - is read from device memory: a captured graph of
// the training step stays valid.
#include "common.cuh"

// What a rule is made from. The meaning of a and b is the rule's; t counts from 1.
template <typename A>
struct Settings {
  A rate, t;
  double a, b, epsilon, decay;
};

// A rule moves one weight and its slots; `keep` is what decoupled weight decay leaves of a weight.
template <typename A>
struct Sgd {  // w' = w (1 - rate decay) - rate g
  static constexpr int kSlots = 0;
  A rate, keep;
  __device__ Sgd(const Settings<A>& s) : rate(s.rate), keep(A(1) - s.rate * A(s.decay)) {}
  __device__ A operator()(A w, A g, A*) const { return w * keep - g * rate; }
};

// m' = momentum m - rate g;  w' = w keep + m', with NESTEROV  w' = w keep + momentum m' - rate g
template <typename A, bool NESTEROV>
struct MomentumRule {
  static constexpr int kSlots = 1;
  A rate, keep, momentum;
  __device__ MomentumRule(const Settings<A>& s)
      : rate(s.rate), keep(A(1) - s.rate * A(s.decay)), momentum(s.a) {}
  __device__ A operator()(A w, A g, A* slot) const {
    const A move = g * rate;
    slot[0] = slot[0] * momentum - move;
    return w * keep + (NESTEROV ? slot[0] * momentum - move : slot[0]);
  }
};
template <typename A>
using Momentum = MomentumRule<A, false>;
template <typename A>
using Nesterov = MomentumRule<A, true>;

template <typename A>
struct Rmsprop {  // v' = rho v + (1 - rho) g^2;  w' = w keep - rate g / sqrt(v' + epsilon)
  static constexpr int kSlots = 1;
  A rate, keep, rho, epsilon;
  __device__ Rmsprop(const Settings<A>& s)
      : rate(s.rate), keep(A(1) - s.rate * A(s.decay)), rho(s.a), epsilon(s.epsilon) {}
  __device__ A operator()(A w, A g, A* slot) const {
    slot[0] = slot[0] * rho + g * g * (A(1) - rho);
    return w * keep - g * rate / sqrt(slot[0] + epsilon);
  }
};

// m' = m + (1 - beta_1)(g - m);  v' = v + (1 - beta_2)(g^2 - v);
// w' = w keep - corrected m' / (sqrt(v') + epsilon);
// corrected = rate sqrt(1 - beta_2^t) / (1 - beta_1^t)
template <typename A>
struct Adam {
  static constexpr int kSlots = 2;
  A keep, corrected, first, second, epsilon;
  __device__ Adam(const Settings<A>& s)
      : keep(A(1) - s.rate * A(s.decay)), first(1.0 - s.a), second(1.0 - s.b), epsilon(s.epsilon) {
    // 1 - beta^t = -expm1(t log beta): the plain form loses most digits in the first steps.
    const A rest_a = -expm1(s.t * log1p(-first)), rest_b = -expm1(s.t * log1p(-second));
    corrected = s.rate * sqrt(rest_b) / rest_a;
  }
  __device__ A operator()(A w, A g, A* slot) const {
    slot[0] += (g - slot[0]) * first;
    slot[1] += (g * g - slot[1]) * second;
    return w * keep - corrected * slot[0] / (sqrt(slot[1]) + epsilon);
  }
};

template <typename A>
struct Lion {  // c = beta_1 m + (1 - beta_1) g;  w' = w keep - rate sign(c);
               // m' = beta_2 m + (1 - beta_2) g
  static constexpr int kSlots = 1;
  A rate, keep, beta_1, rest_1, beta_2, rest_2;
  __device__ Lion(const Settings<A>& s)
      : rate(s.rate), keep(A(1) - s.rate * A(s.decay)), beta_1(s.a), rest_1(1.0 - s.a),
        beta_2(s.b), rest_2(1.0 - s.b) {}
  __device__ A operator()(A w, A g, A* slot) const {
    const A c = slot[0] * beta_1 + g * rest_1;
    slot[0] = slot[0] * beta_2 + g * rest_2;
    return w * keep - rate * (c > A(0) ? A(1) : c < A(0) ? A(-1) : c);
  }
};

template <typename A>
struct Average {  // w' = momentum w + (1 - momentum) g
  static constexpr int kSlots = 0;
  A momentum, rest;
  __device__ Average(const Settings<A>& s) : momentum(s.a), rest(1.0 - s.a) {}
  __device__ A operator()(A w, A g, A*) const { return w * momentum + g * rest; }
};

// update<T, Rule, BLOCK, VEC>      (w', slots') = Rule(w, scale g, slots), element by element
// Shapes    w, g, m, v, new_w, new_m, new_v (n) of T, slots that the rule has not are null; rate,
//           t, scale one Acc<T> each, or null: rate and t for rules without, scale for 1
// Launch    any 1-D grid, block BLOCK; all aligned to VEC elements
// Bytes     (3 + 2 slots) n * sizeof(T)     Flops  3n (Sgd) to 13n (Adam)     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Robbins, Monro 1951; Polyak 1964; Nesterov 1983; Tieleman, Hinton 2012; Kingma, Ba
//           2014; Chen et al. 2023 (Lion); decoupled decay: Loshchilov, Hutter 2017
// Measured  not measured
template <typename T, template <typename> class Rule, int BLOCK, int VEC>
__global__ void __launch_bounds__(BLOCK, 1)
    update(const T* __restrict__ w, const T* __restrict__ g, const T* __restrict__ m,
           const T* __restrict__ v, const Acc<T>* __restrict__ rate, const Acc<T>* __restrict__ t,
           const Acc<T>* __restrict__ scale, T* __restrict__ new_w, T* __restrict__ new_m,
           T* __restrict__ new_v, long long n, double a, double b, double epsilon, double decay) {
  using A = Acc<T>;
  constexpr int SLOTS = Rule<A>::kSlots;
  const Rule<A> rule({rate ? *rate : A(0), t ? *t : A(1), a, b, epsilon, decay});
  const A factor = scale ? *scale : A(1);
  const T* const olds[2] = {m, v};
  T* const news[2] = {new_m, new_v};
  const long long start = grid_start<long long>(), stride = grid_stride<long long>();
  const long long groups = n / VEC;
  for (long long i = start; i < groups; i += stride) {
    Vec<T, VEC> weight = load_vec<VEC>(w + i * VEC), slot[SLOTS + 1];
    const Vec<T, VEC> gradient = load_vec<VEC>(g + i * VEC);
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) slot[s] = load_vec<VEC>(olds[s] + i * VEC);
#pragma unroll
    for (int k = 0; k < VEC; ++k) {
      A now[SLOTS + 1];
      for (int s = 0; s < SLOTS; ++s) now[s] = to_float(slot[s][k]);
      weight[k] = from_float<T>(rule(to_float(weight[k]), to_float(gradient[k]) * factor, now));
      for (int s = 0; s < SLOTS; ++s) slot[s][k] = from_float<T>(now[s]);
    }
    store_vec<VEC>(new_w + i * VEC, weight);
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) store_vec<VEC>(news[s] + i * VEC, slot[s]);
  }
  for (long long i = groups * VEC + start; i < n; i += stride) {
    A now[SLOTS + 1];
    for (int s = 0; s < SLOTS; ++s) now[s] = to_float(olds[s][i]);
    new_w[i] = from_float<T>(rule(to_float(w[i]), to_float(g[i]) * factor, now));
    for (int s = 0; s < SLOTS; ++s) news[s][i] = from_float<T>(now[s]);
  }
}

// ---- what is measured over all gradients --------------------------------------------------------

struct Squares {  // the sum of squares
  template <typename A>
  static __device__ A of(A x) { return x * x; }
  template <typename A>
  static __device__ A result(A total) { return total; }
};
struct Finite {  // whether all are finite: no element is counted that is not
  template <typename A>
  static __device__ A of(A x) { return x - x == A(0) ? A(0) : A(1); }
  template <typename A>
  static __device__ bool result(A total) { return total == A(0); }
};

// measure_chunks<T, F, BLOCK, VEC>      partial[b] = the sum of F::of(x) over the part of block b
// Shapes    x (n) of T; partial (B) of Acc<T>
// Launch    grid B, block BLOCK (a multiple of 32), static shared BLOCK/32 of Acc<T>; x aligned
// Bytes     n * sizeof(T)     Flops  2n     bound: memory
// Numerics  sums in Acc<T>, in an order that depends on n and B only
// Source    two-stage reduction: a launch for each tensor, one for all partial sums
// Measured  not measured
template <typename T, typename F, int BLOCK, int VEC>
__global__ void __launch_bounds__(BLOCK, 1)
    measure_chunks(const T* __restrict__ x, Acc<T>* __restrict__ partial, long long n) {
  const long long start = grid_start<long long>(), stride = grid_stride<long long>();
  const long long groups = n / VEC;
  Acc<T> total = 0;
  for (long long i = start; i < groups; i += stride) {
    const Vec<T, VEC> in = load_vec<VEC>(x + i * VEC);
#pragma unroll
    for (int k = 0; k < VEC; ++k) total += F::of(to_float(in[k]));
  }
  for (long long i = groups * VEC + start; i < n; i += stride) total += F::of(to_float(x[i]));
  total = block_sum<BLOCK>(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// measure_all<A, U, F, BLOCK>      y = F::result(partial[0] + ... + partial[m - 1])
// Shapes    partial (m) of A; y one U
// Launch    grid 1, block BLOCK (a multiple of 32), static shared BLOCK/32 of A
// Bytes     m * sizeof(A)     Flops  m     bound: latency
// Numerics  fixed order
// Source    second stage of the above
// Measured  not measured
template <typename A, typename U, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    measure_all(const A* __restrict__ partial, U* __restrict__ y, long long m) {
  A total = 0;
  for (long long i = threadIdx.x; i < m; i += BLOCK) total += partial[i];
  total = block_sum<BLOCK>(total);
  if (threadIdx.x == 0) *y = F::result(total);
}
