// Kernels about numbers: 16-bit floats, atomics, mathematical and integer functions.
#include "common.cuh"

template <typename From, typename To>
__global__ void convert(const From* x, To* y, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    y[i] = static_cast<To>(x[i]);
}

template <typename T>
__global__ void through_helpers(const float* x, T* narrow, float* wide, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    narrow[i] = from_float<T>(x[i]);
    wide[i] = to_float(narrow[i]);
  }
}

template <typename T>
__global__ void arithmetic(const T* a, const T* b, T* out, bool* compared, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    out[i] = a[i] + b[i];
    out[n + i] = a[i] - b[i];
    out[2 * n + i] = a[i] * b[i];
    out[3 * n + i] = a[i] / b[i];
    out[4 * n + i] = -a[i];
    T sum = a[i];
    sum += b[i];
    sum *= b[i];
    out[5 * n + i] = sum;
    compared[i] = a[i] < b[i];
    compared[n + i] = a[i] == b[i];
    compared[2 * n + i] = a[i] >= b[i];
  }
}

// Every atomic that T has, once a thread; `out` keeps what each of them returned.
template <typename T>
__global__ void atomic_adds(T* total, T* out) {
  out[threadIdx.x] = atomicAdd(total, T(threadIdx.x));
}

template <typename Pair>
__global__ void atomic_pairs(Pair* total) {
  Pair value;
  value.x = 1.0f;
  value.y = static_cast<float>(threadIdx.x);
  atomicAdd(total, value);
}

template <typename T>
__global__ void atomic_orders(T* least, T* greatest, const T* x) {
  atomicMin(least, x[threadIdx.x]);
  atomicMax(greatest, x[threadIdx.x]);
}

__global__ void atomic_words(unsigned* words) {
  const unsigned bit = 1u << (threadIdx.x % 32);
  atomicOr(words, bit);
  atomicAnd(words + 1, ~bit);
  atomicXor(words + 2, bit);
  atomicSub(words + 3, 2u);
  atomicInc(words + 4, 9u);
  atomicDec(words + 5, 9u);
  atomicExch(words + 6, threadIdx.x);
  unsigned old = words[7], seen;
  do {  // a lock-free product
    seen = old;
    old = atomicCAS(words + 7, seen, seen * 3u);
  } while (old != seen);
}

// y[k * n + i] = function k of x[i].
template <typename T>
__global__ void functions(const T* x, T* y, long long n) {
  const long long i = grid_start<long long>();
  if (i >= n) return;
  const T v = x[i];
  const T results[] = {exp(v),   expm1(v), log(v),  log1p(v),   sqrt(v), rsqrt(v), tanh(v),
                       erf(v),   sin(v),   cos(v),  lgamma(v),  pow(v, T(1.5)), cbrt(v), floor(v),
                       rint(v),  fabs(v),  erfinv(v / 4), normcdf(v)};
  for (int k = 0; k < 18; ++k) y[k * n + i] = results[k];
}

__global__ void fast_functions(const float* x, float* y, long long n) {
  const long long i = grid_start<long long>();
  if (i >= n) return;
  const float v = x[i];
  const float results[] = {__expf(v), __logf(v), __fdividef(v, 3), rsqrtf(v), erff(v), tanhf(v),
                           fmaf(v, v, 1), min(v, 1.0f), max(v, 1.0f), __saturatef(v), exp10f(v)};
  for (int k = 0; k < 11; ++k) y[k * n + i] = results[k];
}

__global__ void bit_functions(const unsigned* x, const unsigned* y, unsigned* out, long long n) {
  const long long i = grid_start<long long>();
  if (i >= n) return;
  const unsigned a = x[i], b = y[i];
  const unsigned results[] = {__umulhi(a, b), (unsigned)__popc(a), (unsigned)__clz(a),
                              (unsigned)__ffs(a), __brev(a), __funnelshift_l(a, b, 5),
                              __funnelshift_r(a, b, 5), __float_as_uint(__uint_as_float(a)),
                              min(a, b), max(a, b), (unsigned)__mulhi((int)a, (int)b)};
  for (int k = 0; k < 11; ++k) out[k * n + i] = results[k];
}

__global__ void wide_products(const unsigned long long* x, const unsigned long long* y,
                              unsigned long long* out) {
  const int i = threadIdx.x;
  out[i] = __umul64hi(x[i], y[i]);
}

__global__ void vector_types(const float* x, float* y) {
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x);
  const float2 low = make_float2(v.x, v.y);
  *reinterpret_cast<float4*>(y + 4 * threadIdx.x) = make_float4(v.w, v.z, low.y, low.x);
}

template <typename T>
__global__ void inverse_erf(const T* x, T* y) { y[threadIdx.x] = erfinv(x[threadIdx.x]); }

// The functions of one, two and three 16-bit floats that do not just go through float operators.
template <typename T, typename Pair>
__global__ void half_functions(const T* a, const T* b, const T* c, T* out, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>()) {
    out[i] = __hfma(a[i], b[i], c[i]);
    out[n + i] = __hmax(a[i], b[i]);
    out[2 * n + i] = __hmin(a[i], b[i]);
    out[3 * n + i] = __habs(a[i]);
    out[4 * n + i] = hsqrt(a[i]);
    Pair x, y, z;
    x.x = a[i], x.y = b[i], y.x = b[i], y.y = c[i], z.x = c[i], z.y = a[i];
    const Pair sum = __hadd2(x, y), product = __hmul2(x, y), fused = __hfma2(x, y, z);
    const Pair difference = __hsub2(x, y), most = __hmax2(x, y), least = __hmin2(x, y);
    const T pairs[] = {sum.x, sum.y, product.x, product.y, difference.x, difference.y,
                       fused.x, fused.y, most.x, most.y, least.x, least.y};
    for (int k = 0; k < 12; ++k) out[(5 + k) * n + i] = pairs[k];
  }
}
