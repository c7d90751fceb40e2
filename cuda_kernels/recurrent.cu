// LSTM and GRU: what a step does besides its product with the recurrent kernel. The gates of all
// units stand one after the other, as in Keras: a row of z holds (input, forget, candidate,
// output) of an LSTM, (update, reset, candidate) of a GRU, each with `units` numbers.
//
// A mask says which rows take part in the step; in the others the state stays.
#include "common.cuh"

template <typename A>
__device__ __forceinline__ A sigmoid_of(A x) {
  return A(1) / (A(1) + exp(-x));
}

// The row and the first unit of a group of VEC units; rows hold whole groups.
struct Group {
  long long row, unit;
};
template <int VEC>
__device__ __forceinline__ Group group_at(long long i, long long units) {
  const long long groups = units / VEC;
  const bool small = ((i | groups) >> 32) == 0;  // a 32-bit division is several times faster
  const long long row =
      small ? static_cast<unsigned>(i) / static_cast<unsigned>(groups) : i / groups;
  return {row, (i - row * groups) * VEC};
}

// Reads VEC numbers in Acc<T>: zeros from a null pointer.
template <int VEC, typename T>
__device__ __forceinline__ void read(Acc<T> (&to)[VEC], const T* from, long long place) {
  if (!from) {
    for (int v = 0; v < VEC; ++v) to[v] = 0;
    return;
  }
  const Vec<T, VEC> in = load_vec<VEC>(from + place);
  for (int v = 0; v < VEC; ++v) to[v] = to_float(in[v]);
}
template <int VEC, typename T>
__device__ __forceinline__ void write(T* to, long long place, const Acc<T> (&from)[VEC]) {
  Vec<T, VEC> out;
  for (int v = 0; v < VEC; ++v) out[v] = from_float<T>(from[v]);
  store_vec<VEC>(to + place, out);
}
template <int VEC, typename T>
__device__ __forceinline__ void add_to(Acc<T> (&sum)[VEC], const T* from, long long place) {
  Acc<T> more[VEC];
  read<VEC>(more, from, place);
  for (int v = 0; v < VEC; ++v) sum[v] += more[v];
}

// lstm_step<T, VEC>      i, f, o = sigmoid(z + r), g = tanh(z + r); c = f c_before + i g,
//                        h = o tanh(c);  where mask is false h = h_before, c = c_before
// Shapes    z, r, gates (B, 4U); h_before, c_before, h, c (B, U) of T; mask (B) bool;
//           r, mask and h_before (needed with a mask) may be null
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements
// Bytes     17 BU * sizeof(T)     Flops  about 60 BU     bound: memory, for small B latency
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    lstm_step(const T* __restrict__ z, const T* __restrict__ r, const T* __restrict__ h_before,
              const T* __restrict__ c_before, const bool* __restrict__ mask, T* __restrict__ h,
              T* __restrict__ c, T* __restrict__ gates, long long batch, long long units) {
  using A = Acc<T>;
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    const long long state = row * units + unit;
    A gate[4][VEC], cell[VEC], output[VEC];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const long long place = (row * 4 + k) * units + unit;
      read<VEC>(gate[k], z, place);
      add_to<VEC>(gate[k], r, place);
      for (int v = 0; v < VEC; ++v)
        gate[k][v] = k == 2 ? tanh(gate[k][v]) : sigmoid_of(gate[k][v]);
      write<VEC>(gates, place, gate[k]);
    }
    read<VEC>(cell, c_before, state);
    if (!mask || mask[row]) {
      for (int v = 0; v < VEC; ++v) {
        cell[v] = gate[1][v] * cell[v] + gate[0][v] * gate[2][v];
        output[v] = gate[3][v] * tanh(cell[v]);
      }
    } else {
      read<VEC>(output, h_before, state);
    }
    write<VEC>(c, state, cell);
    write<VEC>(h, state, output);
  }
}

// lstm_step_backward<T, VEC>      with dh = g_h + product + carry_h, dc = g_c + carry_c, and
//                   dc += dh o (1 - tanh(c)^2):   dz = (dc g, dc c_before, dc i, dh tanh(c))
//                   + g_gates, times the slopes of the gates;  carry_c = dc f,  carry_h = 0;
//                   where mask is false dh and dc are carried, and count as 0 here
// Shapes    g_gates, gates, dz (B, 4U); g_h, g_c, product, c_before, c (B, U) of T; carry_h,
//           carry_c (B, U) of Acc<T>, read and written; product, mask and carry_h (needed with a
//           mask) may be null
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements of T
// Bytes     17 BU * sizeof(T) + 2 BU * sizeof(Acc<T>)     Flops  about 50 BU     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    derivative of lstm_step
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    lstm_step_backward(const T* __restrict__ g_h, const T* __restrict__ g_c,
                       const T* __restrict__ g_gates, const T* __restrict__ product,
                       const bool* __restrict__ mask, const T* __restrict__ c_before,
                       const T* __restrict__ c, const T* __restrict__ gates,
                       Acc<T>* __restrict__ carry_h, Acc<T>* __restrict__ carry_c,
                       T* __restrict__ dz, long long batch, long long units) {
  using A = Acc<T>;
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    const long long state = row * units + unit, first = row * 4 * units + unit;
    const bool keep = !mask || mask[row];
    A dh[VEC], dc[VEC], cell[VEC], before[VEC], gate[4][VEC], d[VEC];
    read<VEC>(dh, g_h, state);
    add_to<VEC>(dh, product, state);
    read<VEC>(dc, g_c, state);
    for (int v = 0; v < VEC; ++v) {
      dc[v] += carry_c[state + v];
      if (carry_h) {
        dh[v] += carry_h[state + v];
        carry_h[state + v] = keep ? A(0) : dh[v];
      }
    }
    read<VEC>(cell, c, state);
    read<VEC>(before, c_before, state);
    for (int k = 0; k < 4; ++k) read<VEC>(gate[k], gates, first + k * units);
    for (int v = 0; v < VEC; ++v) {
      const A skipped = keep ? A(0) : dc[v];
      cell[v] = tanh(cell[v]);
      dh[v] = keep ? dh[v] : A(0);
      dc[v] = keep ? dc[v] + dh[v] * gate[3][v] * (A(1) - cell[v] * cell[v]) : A(0);
      carry_c[state + v] = dc[v] * gate[1][v] + skipped;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      read<VEC>(d, g_gates, first + k * units);
      for (int v = 0; v < VEC; ++v) {
        d[v] += k == 0 ? dc[v] * gate[2][v] : k == 1 ? dc[v] * before[v]
                : k == 2 ? dc[v] * gate[0][v] : dh[v] * cell[v];
        d[v] *= k == 2 ? A(1) - gate[k][v] * gate[k][v] : gate[k][v] * (A(1) - gate[k][v]);
      }
      write<VEC>(dz, first + k * units, d);
    }
  }
}

// gru_step<T, VEC>      u, s = sigmoid(x + r + bias),  g = tanh(x + s (r + bias));
//                       h = g + u (h_before - g);  where mask is false h = h_before
// Shapes    x, r, gates (B, 3U); bias (3U); h_before, h (B, U) of T; mask (B) bool; bias and mask
//           may be null
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements
// Bytes     11 BU * sizeof(T)     Flops  about 45 BU     bound: memory, for small B latency
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Cho et al. 2014; the reset gate after the product, as in cuDNN
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    gru_step(const T* __restrict__ x, const T* __restrict__ r, const T* __restrict__ bias,
             const T* __restrict__ h_before, const bool* __restrict__ mask, T* __restrict__ h,
             T* __restrict__ gates, long long batch, long long units) {
  using A = Acc<T>;
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    A gate[3][VEC], product[VEC], state[VEC];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      const long long place = (row * 3 + k) * units + unit;
      read<VEC>(gate[k], x, place);
      read<VEC>(product, r, place);
      add_to<VEC>(product, bias, k * units + unit);
      for (int v = 0; v < VEC; ++v)
        gate[k][v] = k == 2 ? tanh(gate[2][v] + gate[1][v] * product[v])
                            : sigmoid_of(gate[k][v] + product[v]);
      write<VEC>(gates, place, gate[k]);
    }
    read<VEC>(state, h_before, row * units + unit);
    if (!mask || mask[row])
      for (int v = 0; v < VEC; ++v) state[v] = gate[2][v] + gate[0][v] * (state[v] - gate[2][v]);
    write<VEC>(h, row * units + unit, state);
  }
}

// gru_step_backward<T, VEC>      with dh = g_h + product + carry:
//                   d = (dh (1 - u) + g_g)(1 - g^2),  d_s = (d q + g_s) s (1 - s),
//                   d_u = (dh (h_before - g) + g_u) u (1 - u);  dx = (d_u, d_s, d),
//                   dr = (d_u, d_s, d s),  carry = dh u;  q is the candidate's part of r + bias;
//                   where mask is false dh is carried, and counts as 0 here
// Shapes    g_gates, gates, dx, dr (B, 3U); g_h, product, q, h_before (B, U); bias (U) of T; carry
//           (B, U) of Acc<T>, read and written; product, bias and mask may be null
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements of T
// Bytes     16 BU * sizeof(T) + 2 BU * sizeof(Acc<T>)     Flops  about 30 BU     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    derivative of gru_step
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    gru_step_backward(const T* __restrict__ g_h, const T* __restrict__ g_gates,
                      const T* __restrict__ product, const bool* __restrict__ mask,
                      const T* __restrict__ q, const T* __restrict__ bias,
                      const T* __restrict__ h_before, const T* __restrict__ gates,
                      Acc<T>* __restrict__ carry, T* __restrict__ dx, T* __restrict__ dr,
                      long long batch, long long units) {
  using A = Acc<T>;
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    const long long state = row * units + unit, first = row * 3 * units + unit;
    const bool keep = !mask || mask[row];
    A dh[VEC], reset_of[VEC], before[VEC], gate[3][VEC], g[3][VEC], d[VEC];
    read<VEC>(dh, g_h, state);
    add_to<VEC>(dh, product, state);
    read<VEC>(reset_of, q, state);
    add_to<VEC>(reset_of, bias, unit);
    read<VEC>(before, h_before, state);
    for (int k = 0; k < 3; ++k) {
      read<VEC>(gate[k], gates, first + k * units);
      read<VEC>(g[k], g_gates, first + k * units);
    }
    for (int v = 0; v < VEC; ++v) {
      const A u = gate[0][v], s = gate[1][v], candidate = gate[2][v];
      const A all = dh[v] + carry[state + v], here = keep ? all : A(0);
      d[v] = (here * (A(1) - u) + g[2][v]) * (A(1) - candidate * candidate);
      g[1][v] = (d[v] * reset_of[v] + g[1][v]) * s * (A(1) - s);
      g[0][v] = (here * (before[v] - candidate) + g[0][v]) * u * (A(1) - u);
      g[2][v] = d[v] * s;
      carry[state + v] = keep ? here * u : all;
    }
    for (int k = 0; k < 3; ++k) write<VEC>(dr, first + k * units, g[k]);
    for (int k = 0; k < 2; ++k) write<VEC>(dx, first + k * units, g[k]);
    write<VEC>(dx, first + 2 * units, d);
  }
}

// ---- GRU with the reset gate before the product: two products, so two kernels, a step -----------

// gru_reset<T, VEC>      u, s = sigmoid(x + r + bias);  scaled = s h_before
// Shapes    x, gates (B, 3U), of which two gates are used; r (B, 2U); bias (3U); h_before, scaled
//           (B, U), all of T
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements
// Bytes     8 BU * sizeof(T)     Flops  about 25 BU     bound: memory, for small B latency
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Cho et al. 2014
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    gru_reset(const T* __restrict__ x, const T* __restrict__ r, const T* __restrict__ bias,
              const T* __restrict__ h_before, T* __restrict__ gates, T* __restrict__ scaled,
              long long batch, long long units) {
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    Acc<T> gate[VEC], state[VEC];
    read<VEC>(state, h_before, row * units + unit);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      read<VEC>(gate, x, (row * 3 + k) * units + unit);
      add_to<VEC>(gate, r, (row * 2 + k) * units + unit);
      add_to<VEC>(gate, bias, k * units + unit);
      for (int v = 0; v < VEC; ++v) gate[v] = sigmoid_of(gate[v]);
      write<VEC>(gates, (row * 3 + k) * units + unit, gate);
    }
    for (int v = 0; v < VEC; ++v) state[v] *= gate[v];
    write<VEC>(scaled, row * units + unit, state);
  }
}

// gru_candidate<T, VEC>      g = tanh(x + r + bias);  h = g + u (h_before - g);
//                            where mask is false h = h_before
// Shapes    x, gates (B, 3U), of which u is read and g written; r (B, U): scaled times the
//           recurrent kernel; bias (3U); h_before, h (B, U) of T; mask (B) bool or null
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements
// Bytes     6 BU * sizeof(T)     Flops  about 20 BU     bound: memory, for small B latency
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    Cho et al. 2014
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    gru_candidate(const T* __restrict__ x, const T* __restrict__ r, const T* __restrict__ bias,
                  const T* __restrict__ h_before, const bool* __restrict__ mask,
                  T* __restrict__ h, T* __restrict__ gates, long long batch, long long units) {
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    const long long state = row * units + unit, last = (row * 3 + 2) * units + unit;
    Acc<T> candidate[VEC], update[VEC], before[VEC];
    read<VEC>(candidate, x, last);
    add_to<VEC>(candidate, r, state);
    add_to<VEC>(candidate, bias, 2 * units + unit);
    read<VEC>(update, gates, row * 3 * units + unit);
    read<VEC>(before, h_before, state);
    for (int v = 0; v < VEC; ++v) {
      candidate[v] = tanh(candidate[v]);
      if (!mask || mask[row])
        before[v] = candidate[v] + update[v] * (before[v] - candidate[v]);
    }
    write<VEC>(gates, last, candidate);
    write<VEC>(h, state, before);
  }
}

// gru_candidate_backward<T, VEC>      with dh = g_h + product + carry:
//                   d = (dh (1 - u) + g_g)(1 - g^2);  d_u = (dh (h_before - g) + g_u) u (1 - u);
//                   carry = dh u;  where mask is false dh is carried, and counts as 0 here
// Shapes    g_gates, gates (B, 3U); g_h, product, h_before, d (B, U); both (B, 2U), of which d_u
//           is written; carry (B, U) of Acc<T>, read and written; product, mask may be null
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements of T
// Bytes     9 BU * sizeof(T) + 2 BU * sizeof(Acc<T>)     Flops  about 15 BU     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    derivative of gru_candidate
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    gru_candidate_backward(const T* __restrict__ g_h, const T* __restrict__ g_gates,
                           const T* __restrict__ product, const bool* __restrict__ mask,
                           const T* __restrict__ h_before, const T* __restrict__ gates,
                           Acc<T>* __restrict__ carry, T* __restrict__ both, T* __restrict__ d,
                           long long batch, long long units) {
  using A = Acc<T>;
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    const long long state = row * units + unit, first = row * 3 * units + unit;
    A dh[VEC], before[VEC], update[VEC], candidate[VEC], g_update[VEC], g_candidate[VEC];
    read<VEC>(dh, g_h, state);
    add_to<VEC>(dh, product, state);
    read<VEC>(before, h_before, state);
    read<VEC>(update, gates, first);
    read<VEC>(candidate, gates, first + 2 * units);
    read<VEC>(g_update, g_gates, first);
    read<VEC>(g_candidate, g_gates, first + 2 * units);
    for (int v = 0; v < VEC; ++v) {
      const A u = update[v], g = candidate[v], all = dh[v] + carry[state + v];
      const A here = !mask || mask[row] ? all : A(0);
      candidate[v] = (here * (A(1) - u) + g_candidate[v]) * (A(1) - g * g);
      update[v] = (here * (before[v] - g) + g_update[v]) * u * (A(1) - u);
      carry[state + v] = !mask || mask[row] ? here * u : all;
    }
    write<VEC>(d, state, candidate);
    write<VEC>(both, row * 2 * units + unit, update);
  }
}

// gru_reset_backward<T, VEC>      d_s = (into h_before + g_s) s (1 - s);  carry += into s
// Shapes    g_gates, gates (B, 3U); into, h_before (B, U); both (B, 2U), of which d_s is written;
//           carry (B, U) of Acc<T>, read and written
// Launch    any 1-D grid, block 256; VEC divides U; all aligned to VEC elements of T
// Bytes     5 BU * sizeof(T) + 2 BU * sizeof(Acc<T>)     Flops  8 BU     bound: memory
// Numerics  computed in Acc<T>, rounded once; deterministic
// Source    derivative of gru_reset
// Measured  not measured
template <typename T, int VEC>
__global__ void __launch_bounds__(256, 1)
    gru_reset_backward(const T* __restrict__ g_gates, const T* __restrict__ into,
                       const T* __restrict__ h_before, const T* __restrict__ gates,
                       Acc<T>* __restrict__ carry, T* __restrict__ both, long long batch,
                       long long units) {
  using A = Acc<T>;
  const long long count = batch * units / VEC;
  for (long long i = grid_start<long long>(); i < count; i += grid_stride<long long>()) {
    const auto [row, unit] = group_at<VEC>(i, units);
    const long long state = row * units + unit, second = (row * 3 + 1) * units + unit;
    A reached[VEC], before[VEC], reset[VEC], g[VEC];
    read<VEC>(reached, into, state);
    read<VEC>(before, h_before, state);
    read<VEC>(reset, gates, second);
    read<VEC>(g, g_gates, second);
    for (int v = 0; v < VEC; ++v) {
      const A s = reset[v];
      g[v] = (reached[v] * before[v] + g[v]) * s * (A(1) - s);
      carry[state + v] += reached[v] * s;
    }
    write<VEC>(both, (row * 2 + 1) * units + unit, g);
  }
}
