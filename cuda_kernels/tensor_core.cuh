// Tensor cores and asynchronous copies: the PTX instructions behind fast GEMM, convolution and
// attention, as small functions; below them their twins in plain C++ for the emulator.
//
// mma_m16n8k16 multiplies a 16x16 by a 16x8 matrix of 16-bit floats and adds the product to a 16x8
// matrix of floats: 2048 multiply-adds in one instruction of a warp. No lane holds a whole matrix:
// each of the 32 lanes holds a few elements of each, its fragment. With
//
//   g = lane / 4  (0 to 7: the row, or the column of b)      t = lane % 4  (0 to 3: within it)
//
//   a[0] = A[g    ][2t, 2t + 1]     a[1] = A[g + 8][2t    , 2t + 1]      two 16-bit floats each,
//   a[2] = A[g    ][2t + 8, +9]     a[3] = A[g + 8][2t + 8, 2t + 9]      the first in the low bits
//   b[0] = B[2t, 2t + 1][g]         b[1] = B[2t + 8, 2t + 9][g]
//   d[0] = D[g    ][2t]             d[1] = D[g    ][2t + 1]              one float each
//   d[2] = D[g + 8][2t]             d[3] = D[g + 8][2t + 1]
//
// mma_m16n8k8_tf32 does the same for a 16x8 and an 8x8 matrix of floats that are cut to TF32, which
// has 10 bits after the leading one instead of 23; d is laid out as above, and
//
//   a[0] = A[g][t]   a[1] = A[g + 8][t]   a[2] = A[g][t + 4]   a[3] = A[g + 8][t + 4]
//   b[0] = B[t][g]   b[1] = B[t + 4][g]
//
// ldmatrix_x4 fills four registers of every lane with four 8x8 matrices of 16-bit elements from
// shared memory. Lane i gives the address of a row, 16 bytes: lanes 0 to 7 the rows of matrix 0,
// lanes 8 to 15 of matrix 1, and so on. Of matrix k each lane gets
//
//   ldmatrix        r[k] = M[g][2t, 2t + 1]           ldmatrix_trans  r[k] = M[2t, 2t + 1][g]
//
// which is the layout of mma_m16n8k16: an `a` whose rows lie in shared memory is one ldmatrix_x4,
// with the address &A[lane % 16][lane / 16 * 8]; a `b` stored as B[k][n] is one ldmatrix_x2_trans,
// with &B[lane % 16][0], and one stored as its transpose, [n][k], is one ldmatrix_x2, with
// &Bt[lane % 8][lane / 8 % 2 * 8].
//
// All 32 lanes of the warp must call these together. They order nothing in memory: what other
// threads wrote to shared memory needs a barrier or __syncwarp first.
//
// Numerics: every product is exact. A GPU adds them up in an order, and with a rounding, that is not
// documented (measured: several at a time, truncated to a few bits more than float has). The twins
// add one after another, k ascending, each sum rounded to float. Expect differences of some
// 2^-23 * sum |a b| between the two, and between generations of GPUs.
//
// Source    PTX ISA 8.0 (NVIDIA, 2022): mma, ldmatrix, cvt, cp.async; Fasi et al. 2021 (numerics)
#pragma once

#include "common.cuh"

template <typename T>
constexpr bool kIsTensorCoreType = false;
template <>
constexpr bool kIsTensorCoreType<__half> = true;
template <>
constexpr bool kIsTensorCoreType<__nv_bfloat16> = true;
template <typename T>
constexpr bool kIsBfloat16 = false;
template <>
constexpr bool kIsBfloat16<__nv_bfloat16> = true;

#ifndef GPUNET_EMULATOR

// ---- matrix products ----------------------------------------------------------------------------

// d += a b; T is __half or __nv_bfloat16.
template <typename T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2]) {
  static_assert(kIsTensorCoreType<T>, "T is __half or __nv_bfloat16");
  if constexpr (kIsBfloat16<T>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// d += a b of TF32 numbers, as `to_tf32` makes them.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Rounds to TF32: to nearest, halfway cases away from zero.
__device__ __forceinline__ unsigned to_tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// ---- fragments from shared memory ---------------------------------------------------------------

// PTX addresses shared memory by 32-bit offsets.
__device__ __forceinline__ unsigned shared_offset(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_offset(shared_row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_offset(shared_row))
               : "memory");
}
// Two matrices; the addresses of lanes 16 to 31 are not used.
__device__ __forceinline__ void ldmatrix_x2(unsigned (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_offset(shared_row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_offset(shared_row))
               : "memory");
}

// ---- asynchronous copies from global to shared memory -------------------------------------------
//
// A thread issues copies, closes them into a group with cp_async_commit, and goes on computing;
// cp_async_wait<N> waits until at most N of its latest groups are still under way. What it copied
// is then visible to this thread; the others need a barrier after the wait. Until then nobody may
// read or write the destination. With `valid` false nothing is read and zeros are written.

// 16 bytes, around the L1 cache; both addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_offset(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_8(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_offset(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 8 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_offset(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 4 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else  // the emulator

// ---- twins: what these instructions do, in plain C++ --------------------------------------------

#define GPUNET_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace gpunet::emulator {

// What one lane hands to a product of a 16xK and a Kx8 matrix, summed into d.
struct MatrixProduct {
  float* d;
  const unsigned *a, *b;
  const Site* site;
};

inline void require_all_lanes(unsigned lanes, const Site& site) {
  if (lanes != 0xffffffff)
    runtime->fail("%s (%s line %d) needs all 32 lanes of its warp; only 0x%08x take part",
                  site.what, site.file, site.line, lanes);
}

// Collects the fragments of all lanes, multiplies, and hands the results out again. A register
// holds PER elements: two of 16 bits, or one TF32 number, of which only the upper 19 bits count.
template <int K, int PER, float (*element)(unsigned)>
void complete_product(MatrixProduct* const requests[kWarpSize], unsigned lanes) {
  require_all_lanes(lanes, *requests[__builtin_ctz(lanes)]->site);
  float a[16][K], b[K][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const MatrixProduct& request = *requests[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < PER; ++i) {
      const int k = PER * t + i, shift = 16 * i;
      for (int part = 0; part < 4; ++part)
        a[g + part % 2 * 8][k + part / 2 * K / 2] = element(request.a[part] >> shift);
      for (int part = 0; part < 2; ++part)
        b[k + part * K / 2][g] = element(request.b[part] >> shift);
    }
    for (int i = 0; i < 4; ++i) d[g + i / 2 * 8][2 * t + i % 2] = request.d[i];
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < K; ++k)
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      requests[lane]->d[i] = d[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
}

inline float half_element(unsigned bits) {
  return half_to_float(static_cast<unsigned short>(bits));
}
inline float bfloat16_element(unsigned bits) { return bit_cast<float>(bits << 16); }
inline float tf32_element(unsigned bits) { return bit_cast<float>(bits & 0xffffe000u); }

// The rows that the lanes read, and what each of them gets.
struct MatrixLoad {
  unsigned short row[8];
  unsigned* r;
  const Site* site;
};

template <int COUNT, bool TRANS>
void complete_load(MatrixLoad* const requests[kWarpSize], unsigned lanes) {
  require_all_lanes(lanes, *requests[__builtin_ctz(lanes)]->site);
  for (int lane = 0; lane < 32; ++lane)
    for (int matrix = 0; matrix < COUNT; ++matrix) {
      const int g = lane / 4, t = lane % 4;
      const auto at = [&](int row, int column) -> unsigned {
        return requests[8 * matrix + row]->row[column];
      };
      requests[lane]->r[matrix] = TRANS ? at(2 * t, g) | at(2 * t + 1, g) << 16
                                        : at(g, 2 * t) | at(g, 2 * t + 1) << 16;
    }
}

template <int COUNT, bool TRANS>
void load_matrices(unsigned (&r)[COUNT], const void* shared_row, const Site& site) {
  MatrixLoad request = {{}, r, &site};
  if (lane_index() < 8 * COUNT) {  // each lane reads the row that it gives the address of
    runtime->check_shared(shared_row, 16, site);
    memcpy(request.row, shared_row, sizeof request.row);
  }
  warp_call<MatrixLoad, complete_load<COUNT, TRANS>>(kFullMask, request, site);
}

// A copy happens when it is waited for; until then its destination holds poison, as it may hold
// anything on a GPU.
template <typename Word>
void copy_async(void* shared, const void* global, bool valid, const Site& site) {
  runtime->check_shared(shared, sizeof(Word), site);
  if (valid && reinterpret_cast<uintptr_t>(global) % sizeof(Word))
    runtime->fail("%s (%s line %d): the global address %p is not a multiple of %d", site.what,
                  site.file, site.line, global, static_cast<int>(sizeof(Word)));
  memset(shared, 0xff, sizeof(Word));
  runtime->copy_async(shared, valid ? global : nullptr, [](void* to, const void* from) {
    *static_cast<Word*>(to) = from ? *static_cast<const Word*>(from) : Word{};
  }, site);
}

}  // namespace gpunet::emulator

template <typename T>
inline void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                         GPUNET_SITE) {
  using namespace gpunet::emulator;
  static_assert(kIsTensorCoreType<T>, "T is __half or __nv_bfloat16");
  constexpr auto complete =
      complete_product<16, 2, kIsBfloat16<T> ? bfloat16_element : half_element>;
  const Site site = {"mma_m16n8k16", file, line};
  MatrixProduct request = {d, a, b, &site};
  warp_call<MatrixProduct, complete>(kFullMask, request, site);
}

inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             GPUNET_SITE) {
  using namespace gpunet::emulator;
  const Site site = {"mma_m16n8k8_tf32", file, line};
  MatrixProduct request = {d, a, b, &site};
  warp_call<MatrixProduct, complete_product<8, 1, tf32_element>>(kFullMask, request, site);
}

inline unsigned to_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffe000u;  // NaN stays NaN
  return (bits + 0x1000u) & 0xffffe000u;
}

inline void ldmatrix_x4(unsigned (&r)[4], const void* shared_row, GPUNET_SITE) {
  gpunet::emulator::load_matrices<4, false>(r, shared_row, {"ldmatrix_x4", file, line});
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row, GPUNET_SITE) {
  gpunet::emulator::load_matrices<4, true>(r, shared_row, {"ldmatrix_x4_trans", file, line});
}
inline void ldmatrix_x2(unsigned (&r)[2], const void* shared_row, GPUNET_SITE) {
  gpunet::emulator::load_matrices<2, false>(r, shared_row, {"ldmatrix_x2", file, line});
}
inline void ldmatrix_x2_trans(unsigned (&r)[2], const void* shared_row, GPUNET_SITE) {
  gpunet::emulator::load_matrices<2, true>(r, shared_row, {"ldmatrix_x2_trans", file, line});
}

inline void cp_async_16(void* shared, const void* global, bool valid = true, GPUNET_SITE) {
  gpunet::emulator::copy_async<uint4>(shared, global, valid, {"cp_async_16", file, line});
}
inline void cp_async_8(void* shared, const void* global, bool valid = true, GPUNET_SITE) {
  gpunet::emulator::copy_async<uint2>(shared, global, valid, {"cp_async_8", file, line});
}
inline void cp_async_4(void* shared, const void* global, bool valid = true, GPUNET_SITE) {
  gpunet::emulator::copy_async<unsigned>(shared, global, valid, {"cp_async_4", file, line});
}
inline void cp_async_commit() { gpunet::emulator::runtime->commit_copies(); }
template <int N>
inline void cp_async_wait() {
  static_assert(N >= 0, "the number of groups that may still be under way");
  gpunet::emulator::runtime->wait_for_copies(N);
}

#undef GPUNET_SITE
#endif
