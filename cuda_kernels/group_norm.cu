// The steps of group norm that are its own; the passes over the table are those of batch_norm.cu.
//
// A table is N samples of R rows of C channels; a group is C / G neighbouring channels of one
// sample, in all of its rows. Instance norm is group norm with G = C.
#include "moments.cuh"

// group_norm_combine<A, BLOCK>      mean and rstd of each group from the parts of its channels
// Shapes    means, squares (N, P, C), mean, rstd (N, G), all of A; means and squares as
//           channel_statistics gives them, of P parts of R rows
// Launch    grid min(NG, 65535), block BLOCK, static shared 3 * BLOCK of A
// Bytes     2NPC * sizeof(A)     Flops  8NPC     bound: latency
// Numerics  merged by Chan's formula, in a fixed order: deterministic
// Source    Wu, He 2018, arXiv:1803.08494; Chan, Golub, LeVeque 1979
// Measured  not measured
template <typename A, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    group_norm_combine(const A* __restrict__ means, const A* __restrict__ squares,
                       A* __restrict__ mean, A* __restrict__ rstd, long long samples,
                       long long groups, long long parts, long long rows, long long columns,
                       float epsilon) {
  using Set = Moments<A>;
  SHARED_ARRAY(Set, shared, BLOCK);
  const long long size = columns / groups, length = ceil_div(rows, parts);
  for (long long k = blockIdx.x; k < samples * groups; k += gridDim.x) {
    const long long n = k / groups, channel = (k % groups) * size;
    Set seen = {};
    for (long long i = threadIdx.x; i < parts * size; i += BLOCK) {
      const long long p = i / size, from = (n * parts + p) * columns + channel + i % size;
      const long long left = rows - p * length, count = left < length ? left : length;
      if (count > 0) seen = MergeMoments()(seen, Set{A(count), means[from], squares[from]});
    }
    shared[threadIdx.x] = seen;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
      if (threadIdx.x < half)
        shared[threadIdx.x] = MergeMoments()(shared[threadIdx.x], shared[threadIdx.x + half]);
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      mean[k] = shared[0].mean;
      rstd[k] = A(1) / sqrt(shared[0].squares / A(rows * size) + A(epsilon));
    }
    __syncthreads();  // before `shared` is written again
  }
}

// group_norm_expand<A, BLOCK>      center = mean of the group, factor = rstd of the group * scale
// Shapes    mean, rstd (N, G), scale (C), center, factor (N, C), all of A
// Launch    any 1-D grid, block BLOCK
// Bytes     2NC * sizeof(A)     Flops  NC     bound: latency
// Numerics  computed in A; deterministic
// Source    so that the passes of batch_norm.cu serve group norm
// Measured  not measured
template <typename A, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    group_norm_expand(const A* __restrict__ mean, const A* __restrict__ rstd,
                      const A* __restrict__ scale, A* __restrict__ center,
                      A* __restrict__ factor, long long samples, long long groups,
                      long long columns) {
  const long long size = columns / groups;
  for (long long i = grid_start<long long>(); i < samples * columns;
       i += grid_stride<long long>()) {
    const long long c = i % columns, k = i / columns * groups + c / size;
    center[i] = mean[k];
    factor[i] = rstd[k] * scale[c];
  }
}

// group_norm_backward_combine<A, BLOCK>
//           with d = g scale, hat = (x - mean) rstd and means over the group of
//           first = d - g_mean / rstd,  second = d hat + g_rstd rstd:
//           slope = -rstd^2 second,  shift = -rstd first;  and of each sample, sums of g and g hat
// Shapes    sums, products (N, P, C), scale (C), mean, rstd, g_mean, g_rstd (N, G); sample_scale,
//           sample_offset, slope, shift (N, C), all of A; sums of g and of g (x - mean)
// Launch    grid min(NG, 65535), block BLOCK, static shared BLOCK/32 of A
// Bytes     2NPC * sizeof(A)     Flops  4NPC     bound: latency
// Numerics  added in a fixed order: deterministic
// Source    Wu, He 2018, arXiv:1803.08494
// Measured  not measured
template <typename A, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    group_norm_backward_combine(const A* __restrict__ sums, const A* __restrict__ products,
                                const A* __restrict__ scale, const A* __restrict__ rstd,
                                const A* __restrict__ g_mean, const A* __restrict__ g_rstd,
                                A* __restrict__ sample_scale, A* __restrict__ sample_offset,
                                A* __restrict__ slope, A* __restrict__ shift, long long samples,
                                long long groups, long long parts, long long rows,
                                long long columns) {
  const long long size = columns / groups;
  const A count = A(rows * size);
  for (long long k = blockIdx.x; k < samples * groups; k += gridDim.x) {
    const long long n = k / groups, channel = (k % groups) * size, start = n * columns + channel;
    const A s = rstd[k];
    A first = 0, second = 0;
    for (long long c = threadIdx.x; c < size; c += BLOCK) {
      A sum = 0, product = 0;
      for (long long p = 0; p < parts; ++p) {
        const long long from = (n * parts + p) * columns + channel + c;
        sum += sums[from];
        product += products[from];
      }
      sample_offset[start + c] = sum;
      sample_scale[start + c] = product * s;
      first += sum * scale[channel + c];
      second += product * s * scale[channel + c];
    }
    first = (block_sum<BLOCK>(first) - g_mean[k] / s) / count;
    second = (block_sum<BLOCK>(second) + g_rstd[k] * s) / count;
    for (long long c = threadIdx.x; c < size; c += BLOCK) {
      slope[start + c] = -s * s * second;
      shift[start + c] = -s * first;
    }
  }
}
