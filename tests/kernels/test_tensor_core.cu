// Kernels about tensor_core.cuh: each checks one instruction against what its comment says.
#include "tensor_core.cuh"

// c = a b + c, one warp; a (16, 16) and b (16, 8), or (8, 16) transposed, in shared memory.
template <typename T, bool B_TRANSPOSED>
__global__ void multiply_16x8x16(const T* a, const T* b, float* c) {
  SHARED_ARRAY(T, tile_a, 16 * 16);
  SHARED_ARRAY(T, tile_b, 16 * 8);
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) tile_a[i] = a[i];
  for (int i = lane; i < 128; i += 32) tile_b[i] = b[i];
  __syncwarp();
  unsigned fragment_a[4], fragment_b[2];
  ldmatrix_x4(fragment_a, tile_a + lane % 16 * 16 + lane / 16 * 8);
  if (B_TRANSPOSED)
    ldmatrix_x2(fragment_b, tile_b + lane % 8 * 16 + lane / 8 % 2 * 8);
  else
    ldmatrix_x2_trans(fragment_b, tile_b + lane % 16 * 8);
  float d[4] = {c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1], c[(g + 8) * 8 + 2 * t],
                c[(g + 8) * 8 + 2 * t + 1]};
  mma_m16n8k16<T>(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

// The same product with fragments that are packed by hand.
template <typename T>
__global__ void multiply_packed(const unsigned short* a, const unsigned short* b, float* c) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  unsigned fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) {
    const unsigned short* at = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    fragment_a[i] = at[0] | static_cast<unsigned>(at[1]) << 16;
  }
  for (int i = 0; i < 2; ++i) {
    const unsigned short* at = b + (2 * t + 8 * i) * 8 + g;
    fragment_b[i] = at[0] | static_cast<unsigned>(at[8]) << 16;
  }
  float d[4] = {};
  mma_m16n8k16<T>(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

// a (16, 8), b (8, 8) of floats, rounded to TF32 when ROUND, else as they are.
template <bool ROUND>
__global__ void multiply_tf32(const float* a, const float* b, float* c) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  unsigned fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) {
    const float x = a[(g + i % 2 * 8) * 8 + t + i / 2 * 4];
    fragment_a[i] = ROUND ? to_tf32(x) : __float_as_uint(x);
  }
  for (int i = 0; i < 2; ++i) {
    const float x = b[(t + 4 * i) * 8 + g];
    fragment_b[i] = ROUND ? to_tf32(x) : __float_as_uint(x);
  }
  float d[4] = {};
  mma_m16n8k8_tf32(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

__global__ void round_to_tf32(const float* x, float* y, long long n) {
  for (long long i = grid_start<long long>(); i < n; i += grid_stride<long long>())
    y[i] = __uint_as_float(to_tf32(x[i]));
}

// Every lane's registers after loading four 8x8 matrices that lie below one another.
template <bool TRANS>
__global__ void load_four(const unsigned short* x, unsigned* out) {
  SHARED_ARRAY(unsigned short, tile, 256);
  for (int i = threadIdx.x; i < 256; i += 32) tile[i] = x[i];
  __syncwarp();
  unsigned r[4];
  if (TRANS)
    ldmatrix_x4_trans(r, tile + 8 * threadIdx.x);
  else
    ldmatrix_x4(r, tile + 8 * threadIdx.x);
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = r[i];
}

// A pipeline of STAGES buffers: while one tile of 128 floats is summed, the next ones are copied.
template <int STAGES, int BYTES>
__global__ void sum_tiles(const float* x, float* y, int tiles, long long n) {
  constexpr int kPer = BYTES / 4, kThreads = 128 / kPer;
  SHARED_ARRAY(float, buffer, STAGES * 128);
  const int i = threadIdx.x;
  const auto copy = [&](int tile) {
    const long long first = tile * 128ll + i * kPer;
    float* to = buffer + tile % STAGES * 128 + i * kPer;
    const bool valid = tile < tiles && first < n;
    if constexpr (BYTES == 16) cp_async_16(to, x + first, valid);
    if constexpr (BYTES == 8) cp_async_8(to, x + first, valid);
    if constexpr (BYTES == 4) cp_async_4(to, x + first, valid);
  };
  for (int tile = 0; tile < STAGES - 1; ++tile) {
    copy(tile);
    cp_async_commit();
  }
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // all threads' copies have arrived, and nobody reads the oldest buffer
    copy(tile + STAGES - 1);
    cp_async_commit();
    for (int k = i; k < 128; k += kThreads) sum += buffer[tile % STAGES * 128 + (k + kPer) % 128];
  }
  cp_async_wait<0>();
  y[i] = sum;
}

// Misuse, one kind each.
template <int KIND>
__global__ void misuse(float* x) {
  SHARED_ARRAY(float, tile, 128);
  tile[threadIdx.x] = 0;
  __syncwarp();
  unsigned r[4] = {}, b[2] = {};
  float d[4] = {};
  if (KIND == 0 && threadIdx.x < 31) mma_m16n8k16<__half>(d, r, b);
  if (KIND == 1) ldmatrix_x4(r, tile + 2);
  if (KIND == 2) ldmatrix_x4(r, x);
  if (KIND == 3) ldmatrix_x2(b, tile + 4 * threadIdx.x + 124);
  if (KIND == 4) cp_async_16(tile + 1, x, true);
  if (KIND == 5) cp_async_16(tile, x + 1, true);
  if (KIND == 6) cp_async_4(x, x, true);
  if (KIND == 7) {
    cp_async_16(tile, x, true);
    cp_async_commit();
  }
  if (KIND == 8) {
    cp_async_16(tile, x, true);
    cp_async_wait<0>();  // never committed: it waits for nothing
  }
  x[threadIdx.x] = d[0] + __uint_as_float(r[0] + b[0]);
}

// What a thread sees of its own copy before and after it waits.
__global__ void look_early(const float* x, float* y) {
  SHARED_ARRAY(float, tile, 8);
  tile[0] = tile[4] = 7;
  cp_async_16(tile, x, true);
  cp_async_commit();
  cp_async_16(tile + 4, x, false);
  cp_async_commit();
  y[0] = tile[0], y[1] = tile[4];
  cp_async_wait<1>();
  y[2] = tile[0], y[3] = tile[4];
  cp_async_wait<0>();
  y[4] = tile[0], y[5] = tile[4];
}
