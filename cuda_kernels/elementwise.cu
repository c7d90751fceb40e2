// Elementwise kernels: a functor of scalar.cuh applied to one, two or three operands. Each does
// every form of broadcasting; see pointwise.cuh for how rows, columns and strides are meant.
#include "pointwise.cuh"
#include "scalar.cuh"

// unary<T, U, F, BLOCK>      y[i] = F(x[i])
// Shapes    x (n) of T, y (n) of U, contiguous
// Launch    any 1-D grid, block BLOCK; `vectors`: both are aligned to 16 bytes of the wider type
// Bytes     n * (sizeof(T) + sizeof(U))     Flops  n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic. A cast is F = Identity: floats round
//           to nearest even, to integers towards zero
// Source    grid-stride loop with 16-byte accesses
// Measured  not measured
template <typename T, typename U, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    unary(const T* __restrict__ x, U* __restrict__ y, long long n, bool vectors) {
  constexpr int N = kGroup<T, U>;
  const F f;
  for_each_group<N>(1, n, [&](long long, long long c, int left) {
    const bool whole = vectors && left == N;
    Acc<T> in[N];
    Vec<U, N> out;
    load_group<N>(in, x, 0, true, Acc<T>(0), c, left, whole);
#pragma unroll
    for (int k = 0; k < N; ++k) out[k] = from_float<U>(static_cast<Acc<U>>(f(in[k])));
    store_group<N>(y + c, out, left, whole);
  });
}

// binary<T, U, F, BLOCK>      y[i] = F(x1[i], x2[i])
// Shapes    y (n0, n1, n2, C) of U contiguous; x1 and x2 of T with strides a0..a2 and b0..b2, and 1
//           along the columns, or 0 where `a3` or `b3` is false; a null pointer stands for `number`
// Launch    grid and block 2-D, BLOCK threads; `vectors`: rows start at multiples of 16 bytes
// Bytes     n * sizeof(U) + the operands once     Flops  n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    grid-stride loops with 16-byte accesses; which operand is broadcast is the same for
//           all threads, so that asking costs next to nothing and saves an instantiation a form
// Measured  not measured
template <typename T, typename U, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    binary(const T* __restrict__ x1, const T* __restrict__ x2, Acc<T> number, U* __restrict__ y,
           long long rows, long long columns, long long n1, long long n2, long long a0,
           long long a1, long long a2, bool a3, long long b0, long long b1, long long b2, bool b3,
           bool vectors) {
  constexpr int N = kGroup<T, U>;
  const F f;
  for_each_group<N>(rows, columns, [&](long long r, long long c, int left) {
    const long long a = row_start(r, n1, n2, a0, a1, a2), b = row_start(r, n1, n2, b0, b1, b2);
    const bool whole = vectors && left == N;
    Acc<T> first[N], second[N];
    Vec<U, N> out;
    load_group<N>(first, x1, a, a3, number, c, left, whole);
    load_group<N>(second, x2, b, b3, number, c, left, whole);
#pragma unroll
    for (int k = 0; k < N; ++k) out[k] = from_float<U>(f(first[k], second[k]));
    store_group<N>(y + r * columns + c, out, left, whole);
  });
}

// ternary<C, T, F, BLOCK>      y[i] = F(x1[i], x2[i], x3[i])
// Shapes    as binary; x1 of C, x2, x3 and y of T; `number2` and `number3` stand for null pointers
// Launch    grid and block 2-D, BLOCK threads; `vectors`: rows start at multiples of 16 bytes
// Bytes     n * sizeof(T) + the operands once     Flops  n     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    as binary
// Measured  not measured
template <typename C, typename T, typename F, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    ternary(const C* __restrict__ x1, const T* __restrict__ x2, const T* __restrict__ x3,
            Acc<T> number2, Acc<T> number3, T* __restrict__ y, long long rows, long long columns,
            long long n1, long long n2, long long a0, long long a1, long long a2, bool a3,
            long long b0, long long b1, long long b2, bool b3, long long c0, long long c1,
            long long c2, bool c3, bool vectors) {
  constexpr int N = kGroup<C, T>;
  const F f;
  for_each_group<N>(rows, columns, [&](long long r, long long c, int left) {
    const bool whole = vectors && left == N;
    Acc<C> first[N];
    Acc<T> second[N], third[N];
    Vec<T, N> out;
    const long long start1 = row_start(r, n1, n2, a0, a1, a2);
    const long long start2 = row_start(r, n1, n2, b0, b1, b2);
    const long long start3 = row_start(r, n1, n2, c0, c1, c2);
    load_group<N>(first, x1, start1, a3, Acc<C>(0), c, left, whole);
    load_group<N>(second, x2, start2, b3, number2, c, left, whole);
    load_group<N>(third, x3, start3, c3, number3, c, left, whole);
#pragma unroll
    for (int k = 0; k < N; ++k) out[k] = from_float<T>(f(first[k], second[k], third[k]));
    store_group<N>(y + r * columns + c, out, left, whole);
  });
}
