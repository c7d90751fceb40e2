// Optimizer steps: a weight and its slots are read once and written once.
//
// The learning rate and the step count are read from device memory, because they change from step
// to step: a captured graph of the training step stays valid.
#include "common.cuh"

// sgd_update<T, BLOCK>      w' = w (1 - rate decay) - rate g
// Shapes    w, g, new_w (n) of T; rate one float
// Launch    any 1-D grid, block BLOCK
// Bytes     3n * sizeof(T)     Flops  3n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Robbins, Monro 1951; decoupled decay: Loshchilov, Hutter 2017, arXiv:1711.05101
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    sgd_update(const T* __restrict__ w, const T* __restrict__ g, const float* __restrict__ rate,
               T* __restrict__ new_w, long long n, float weight_decay) {
  using A = Acc<T>;
  const A step = *rate, keep = A(1) - step * A(weight_decay);
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    new_w[i] = from_float<T>(to_float(w[i]) * keep - to_float(g[i]) * step);
}

// momentum_update<T, NESTEROV, BLOCK>      m' = momentum m - rate g;  w' = w + m'
//                                          with NESTEROV  w' = w + momentum m' - rate g
// Shapes    w, g, m, new_w, new_m (n) of T; rate one float
// Launch    any 1-D grid, block BLOCK
// Bytes     5n * sizeof(T)     Flops  5n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Polyak 1964; Nesterov 1983; Sutskever, Martens, Dahl, Hinton 2013
// Measured  not measured
template <typename T, bool NESTEROV, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    momentum_update(const T* __restrict__ w, const T* __restrict__ g, const T* __restrict__ m,
                    const float* __restrict__ rate, T* __restrict__ new_w, T* __restrict__ new_m,
                    long long n, float momentum, float weight_decay) {
  using A = Acc<T>;
  const A step = *rate, keep = A(1) - step * A(weight_decay), mu = momentum;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const A move = to_float(g[i]) * step;
    const A velocity = to_float(m[i]) * mu - move;
    new_m[i] = from_float<T>(velocity);
    new_w[i] = from_float<T>(to_float(w[i]) * keep + (NESTEROV ? velocity * mu - move : velocity));
  }
}

// rmsprop_update<T, BLOCK>      v' = rho v + (1 - rho) g^2;  w' = w - rate g / sqrt(v' + epsilon)
// Shapes    w, g, v, new_w, new_v (n) of T; rate one float
// Launch    any 1-D grid, block BLOCK
// Bytes     5n * sizeof(T)     Flops  9n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Tieleman, Hinton 2012 (Coursera lecture 6.5)
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    rmsprop_update(const T* __restrict__ w, const T* __restrict__ g, const T* __restrict__ v,
                   const float* __restrict__ rate, T* __restrict__ new_w, T* __restrict__ new_v,
                   long long n, float rho, float epsilon, float weight_decay) {
  using A = Acc<T>;
  const A step = *rate, keep = A(1) - step * A(weight_decay), decay = rho;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const A gradient = to_float(g[i]);
    const A square = to_float(v[i]) * decay + gradient * gradient * (A(1) - decay);
    new_v[i] = from_float<T>(square);
    new_w[i] =
        from_float<T>(to_float(w[i]) * keep - gradient * step / sqrt(square + A(epsilon)));
  }
}

// adam_update<T, BLOCK>      m' = m + (1 - beta_1)(g - m);  v' = v + (1 - beta_2)(g^2 - v)
//                            w' = w (1 - rate decay) - corrected m' / (sqrt(v') + epsilon)
//                            corrected = rate sqrt(1 - beta_2^t) / (1 - beta_1^t)
// Shapes    w, g, m, v, new_w, new_m, new_v (n) of T; rate and t one float each
// Launch    any 1-D grid, block BLOCK
// Bytes     7n * sizeof(T)     Flops  13n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic; t counts from 1
// Source    Kingma, Ba 2014, arXiv:1412.6980; decay: Loshchilov, Hutter 2017, arXiv:1711.05101
// Measured  not measured
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    adam_update(const T* __restrict__ w, const T* __restrict__ g, const T* __restrict__ m,
                const T* __restrict__ v, const float* __restrict__ rate,
                const float* __restrict__ t, T* __restrict__ new_w, T* __restrict__ new_m,
                T* __restrict__ new_v, long long n, double beta_1, double beta_2, float epsilon,
                float weight_decay) {
  using A = Acc<T>;
  // In double, once a thread: 1 - beta^t loses most digits of a float in the first steps.
  const double time = *t;
  const A corrected = *rate * sqrt(1.0 - pow(beta_2, time)) / (1.0 - pow(beta_1, time));
  const A keep = A(1) - A(*rate) * A(weight_decay);
  const A first = 1.0 - beta_1, second = 1.0 - beta_2;
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    const A gradient = to_float(g[i]), m_i = to_float(m[i]), v_i = to_float(v[i]);
    const A mean = m_i + (gradient - m_i) * first;
    const A square = v_i + (gradient * gradient - v_i) * second;
    new_m[i] = from_float<T>(mean);
    new_v[i] = from_float<T>(square);
    new_w[i] =
        from_float<T>(to_float(w[i]) * keep - corrected * mean / (sqrt(square) + A(epsilon)));
  }
}
