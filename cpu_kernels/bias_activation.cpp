// Bias and activation after a matrix product, in one pass; backward also sums the columns.
#include <type_traits>

#include "columns.h"
#include "gelu.h"

namespace {

// -- activations ----------------------------------------------------------------------------------

constexpr float GELU_SCALE = 0.79788456080286536f, GELU_CUBIC = 0.044715f,
                NORMAL = 0.39894228040143268f;  // 1 / sqrt(2 pi)

struct Linear {
    static float of(float z) { return z; }
    template <class V> static V times_slope(V g, V) { return g; }
};
struct Relu {
    static float of(float z) { return z < 0.0f ? 0.0f : z; }  // NaN stays
    template <class V> static V times_slope(V g, V y) { return y > V{} ? g : V{}; }
};
struct Tanh {
    static float of(float z) { return vtanh(z); }
    template <class V> static V times_slope(V g, V y) { return g - g * (y * y); }
};
struct Sigmoid {
    static float of(float z) { return vsigmoid(z); }
    template <class V> static V times_slope(V g, V y) { return g * (y - y * y); }
};
// The slopes of these need the input.
struct Silu {
    static float of(float z) { return z * vsigmoid(z); }
    static float slope(float z) {
        float s = vsigmoid(z);
        return s * (1.0f + z * (1.0f - s));
    }
};
struct Gelu {
    static float of(float z) { return z * normal_at(z).below; }
    static float slope(float z) {
        Normal normal = normal_at(z);
        return mad(z * NORMAL, normal.density, normal.below);
    }
};
struct GeluTanh {
    static float of(float z) {
        float half = 0.5f * z;
        return half + half * vtanh(GELU_SCALE * (z + GELU_CUBIC * z * z * z));
    }
    static float slope(float z) {
        float t = vtanh(GELU_SCALE * (z + GELU_CUBIC * z * z * z));
        float inner = GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * z * z);
        return 0.5f * (1.0f + t) + 0.5f * z * (1.0f - t * t) * inner;
    }
};

// -- passes ---------------------------------------------------------------------------------------

// A cheap activation waits for memory: a part of 16384 numbers is worth a thread.
template <class A> void forward(Table t, const float* x, const float* bias, float* y, Scratch s) {
    const float* line = tiled(t, bias, s);
    for_blocks(t, [&](Block b, int64_t) {
        for (int64_t r = 0; r < b.lines; ++r) {
            const float* from = x + b.at + r * t.width;
            float* to = y + b.at + r * t.width;
#pragma GCC ivdep  // x may be y
            for (int64_t j = 0; j < b.width; ++j) to[j] = A::of(from[j] + line[j]);
        }
    });
}

void write_sums(const Table& t, const double* sums, float* gbias, Scratch& s) {
    const double* total = fold(t, sums, s);
    for (int64_t c = 0; c < t.columns; ++c) gbias[c] = static_cast<float>(total[c]);
}

// The slope follows from the result.
template <class A>
void backward(Table t, const float* g, const float* y, float* gx, float* gbias, Scratch s) {
    double* sums = s.zeros(threads() * t.width);
    const bool there = std::is_same<A, Linear>::value && gx == g;
    for_blocks(t, [&](Block b, int64_t part) {
        for_slabs(b.width, [&](auto slab) {
            using S = decltype(slab);
            using V = typename S::V;
            V sum[S::N] = {};
            for (int64_t r = 0; r < b.lines; ++r)
                for (int i = 0; i < S::N; ++i) {
                    int64_t at = b.at + r * t.width + slab.at + i * S::LANES;
                    V v = A::times_slope(load<V>(g + at), load<V>(y + at));
                    if (!there) store(gx + at, v);
                    sum[i] += v;
                }
            add_to<S>(sums + part * t.width + slab.at, sum);
        });
    });
    write_sums(t, sums, gbias, s);
}

// The slope follows from the input.
template <class A>
void smooth_backward(Table t, const float* g, const float* x, const float* bias, float* gx,
                     float* gbias, Scratch s) {
    const float* line = tiled(t, bias, s);
    double* sums = s.zeros(threads() * t.width);
    float* all = s.take<float>(threads() * t.width);
    for_blocks(t, [&](Block b, int64_t part) {
        float* sum = all + part * t.width;  // of this block
        std::fill(sum, sum + b.width, 0.0f);
        for (int64_t r = 0; r < b.lines; ++r) {
            int64_t at = b.at + r * t.width;
#pragma GCC ivdep  // g or x may be gx
            for (int64_t j = 0; j < b.width; ++j) {
                float v = g[at + j] * A::slope(x[at + j] + line[j]);
                gx[at + j] = v;
                sum[j] += v;
            }
        }
        for (int64_t j = 0; j < b.width; ++j) sums[part * t.width + j] += sum[j];
    });
    write_sums(t, sums, gbias, s);
}

}  // namespace

// -- kernels --------------------------------------------------------------------------------------
//
// Sizes: rows, columns. Scratch: `column_scratch` in columns_native.py.

// x, bias -> y
template <class A> int run_forward(void* const* arrays, const int64_t* sizes) {
    auto in = floats(arrays);
    auto y = static_cast<float*>(arrays[2]);
    forward<A>(Table(sizes[0], sizes[1]), in[0], in[1], y, Scratch(arrays[3]));
    return 0;
}
// g, y -> gx, gbias
template <class A> int run_backward(void* const* arrays, const int64_t* sizes) {
    auto in = floats(arrays);
    auto out = results(arrays, 2);
    Table t(sizes[0], sizes[1]);
    backward<A>(t, in[0], in[1], out[0], out[1], Scratch(arrays[4]));
    return 0;
}
// g, x, bias -> gx, gbias
template <class A> int run_smooth_backward(void* const* arrays, const int64_t* sizes) {
    auto in = floats(arrays);
    auto out = results(arrays, 3);
    Table t(sizes[0], sizes[1]);
    smooth_backward<A>(t, in[0], in[1], in[2], out[0], out[1], Scratch(arrays[5]));
    return 0;
}

KERNEL(bias_linear) { return run_forward<Linear>(arrays, sizes); }
KERNEL(bias_relu) { return run_forward<Relu>(arrays, sizes); }
KERNEL(bias_tanh) { return run_forward<Tanh>(arrays, sizes); }
KERNEL(bias_sigmoid) { return run_forward<Sigmoid>(arrays, sizes); }
KERNEL(bias_silu) { return run_forward<Silu>(arrays, sizes); }
KERNEL(bias_gelu) { return run_forward<Gelu>(arrays, sizes); }
KERNEL(bias_gelu_tanh) { return run_forward<GeluTanh>(arrays, sizes); }
KERNEL(bias_linear_grad) { return run_backward<Linear>(arrays, sizes); }
KERNEL(bias_relu_grad) { return run_backward<Relu>(arrays, sizes); }
KERNEL(bias_tanh_grad) { return run_backward<Tanh>(arrays, sizes); }
KERNEL(bias_sigmoid_grad) { return run_backward<Sigmoid>(arrays, sizes); }
KERNEL(bias_silu_grad) { return run_smooth_backward<Silu>(arrays, sizes); }
KERNEL(bias_gelu_grad) { return run_smooth_backward<Gelu>(arrays, sizes); }
KERNEL(bias_gelu_tanh_grad) { return run_smooth_backward<GeluTanh>(arrays, sizes); }
