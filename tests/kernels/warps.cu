// Kernels about the functions that the lanes of a warp call together.
#include "common.cuh"

// All four shuffles of one value a thread; `argument` is the source lane, the delta or the mask.
template <typename T, int WIDTH>
__global__ void shuffles(const T* x, T* out, int argument) {
  const int i = threadIdx.x, n = blockDim.x;
  out[i] = __shfl_sync(kFullMask, x[i], argument, WIDTH);
  out[n + i] = __shfl_up_sync(kFullMask, x[i], argument, WIDTH);
  out[2 * n + i] = __shfl_down_sync(kFullMask, x[i], argument, WIDTH);
  out[3 * n + i] = __shfl_xor_sync(kFullMask, x[i], argument, WIDTH);
}

// Each half of the warp shuffles by itself, on its own path.
__global__ void halves(const int* x, int* y) {
  const int i = threadIdx.x;
  if (i % 32 < 16) {
    y[i] = __shfl_xor_sync(0x0000ffffu, x[i], 3, 16);
  } else {
    y[i] = __shfl_xor_sync(0xffff0000u, x[i], 5, 16);
    __syncwarp(0xffff0000u);
  }
}

// Lanes may meet from different lines, at __syncwarp.
__global__ void meet(int* y) {
  SHARED_ARRAY(int, box, 32);
  if (threadIdx.x < 7) {
    box[threadIdx.x] = threadIdx.x;
    __syncwarp();
  } else {
    box[threadIdx.x] = 100 + threadIdx.x;
    __syncwarp();
  }
  y[threadIdx.x] = box[31 - threadIdx.x];
}

__global__ void votes(const int* x, unsigned* out) {
  const int i = threadIdx.x, n = blockDim.x;
  out[i] = __ballot_sync(kFullMask, x[i]);
  out[n + i] = __any_sync(kFullMask, x[i]);
  out[2 * n + i] = __all_sync(kFullMask, x[i]);
  out[3 * n + i] = __activemask() >> (i % 32) & 1;
}

template <typename T>
__global__ void reductions(const T* x, T* out) {
  const int i = threadIdx.x, n = blockDim.x;
  out[i] = __reduce_add_sync(kFullMask, x[i]);
  out[n + i] = __reduce_min_sync(kFullMask, x[i]);
  out[2 * n + i] = __reduce_max_sync(kFullMask, x[i]);
}

// The lanes from `stay` on leave; the others go on with a full mask, which is allowed as long as
// nobody reads a lane that left.
__global__ void some_left(const int* x, int* y, int stay, int source) {
  const int i = threadIdx.x;
  if (i >= stay) return;
  y[i] = __shfl_sync(kFullMask, x[i], source) + __popc(__ballot_sync(kFullMask, 1));
}

__global__ void not_in_mask(int* y) { y[threadIdx.x] = __shfl_sync(0xffffu, y[threadIdx.x], 0); }

__global__ void outside_mask(int* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_down_sync(0xffffu, y[threadIdx.x], 8);
}

__global__ void different_functions(int* y) {
  if (threadIdx.x < 16)
    y[threadIdx.x] = __shfl_sync(kFullMask, threadIdx.x, 0);
  else
    y[threadIdx.x] = __any_sync(kFullMask, 1);
}

__global__ void one_lane_missing(int* y) {
  if (threadIdx.x != 9) y[threadIdx.x] = __shfl_sync(kFullMask, threadIdx.x, 0);
  __syncthreads();
}

#ifdef GPUNET_EMULATOR
// How a twin of a warp-wide instruction is written: a product of an 8x4 and a 4x8 matrix, of which
// each lane holds one element of either, and gets two of the result.
struct Product {
  float a, b, c[2];
  static void complete(Product* const requests[32], unsigned) {
    for (int row = 0; row < 8; ++row)
      for (int column = 0; column < 8; ++column) {
        float sum = 0;
        for (int k = 0; k < 4; ++k) sum += requests[4 * row + k]->a * requests[8 * k + column]->b;
        requests[(8 * row + column) / 2]->c[column % 2] = sum;
      }
  }
};

__global__ void matrix_product(const float* a, const float* b, float* c) {
  const int i = threadIdx.x;
  Product request = {a[i], b[i], {}};
  gpunet::emulator::warp_call<Product, Product::complete>(kFullMask, request,
                                                          {"product", __FILE__, __LINE__});
  c[2 * i] = request.c[0];
  c[2 * i + 1] = request.c[1];
}
#endif

__global__ void matches(const int* x, unsigned* out) {
  const int i = threadIdx.x;
  int all;
  out[i] = __match_any_sync(kFullMask, x[i]);
  out[32 + i] = __match_all_sync(kFullMask, x[i], &all);
  out[64 + i] = all;
  out[96 + i] = __match_all_sync(kFullMask, x[0] * 2.0f, &all);
  out[128 + i] = all;
  if (i < 8) out[i + 160] = __match_any_sync(0xffu, static_cast<long long>(x[i]) << 40);
}

__global__ void odd_width(int* y) { y[threadIdx.x] = __shfl_sync(kFullMask, 0, 1, 12); }
