// Applies a function of scalars to arrays that broadcast.
//
// A kernel is one line: `return map(arrays, sizes, CHEAP, [](float a, float b) { return a + b; });`
// Its loop sees contiguous operands only, so there is one loop a function, and the compiler
// vectorises it. Operands of another layout are brought, block by block, into buffers that stay in
// the first-level cache.
//
// sizes: elements of the result, axes, shape, then the strides of each input (in elements; 0 where
// it repeats).
#pragma once
#include <type_traits>
#include <utility>

#include "runtime.h"

#ifndef ELEMENTWISE_INPUTS  // fused loops have more
#define ELEMENTWISE_INPUTS 3
#endif

namespace elementwise {

constexpr int64_t MAX_AXES = 8, MAX_INPUTS = ELEMENTWISE_INPUTS;
constexpr int64_t BLOCK = 1024;         // elements of a buffer
constexpr int64_t LONG_ROW = 64;        // from this length on, rows are worked on one by one
constexpr int64_t CHEAP = 1 << 14;      // elements that are worth a thread: a few instructions each
constexpr int64_t COSTLY = 1 << 12;     // ... and elementary functions

// How the blocks of one operand are found.
enum Kind {
    FLAT,      // as the result
    REPEATED,  // one element, or one row again and again: a buffer is filled once
    GENERAL,   // by strides
};

struct Input {
    const char* data;
    int64_t itemsize;
    const int64_t* strides;
    Kind kind;
};

struct Job {
    const int64_t* shape;
    int64_t n, axes, inputs;
    Input input[MAX_INPUTS];
    char* out;
    int64_t out_itemsize;
    const void* f;
    void (*loop)(const void* f, const void* const* in, void* out, int64_t n);
};

inline bool is_flat(const Job& job, const int64_t* strides) {
    int64_t expected = 1;
    for (int64_t a = job.axes - 1; a >= 0; expected *= job.shape[a--])
        if (strides[a] != expected) return false;
    return true;
}

// Elements after which the operand repeats itself: its last axis, contiguous, is all it has (or 1
// for a single element); 0 if it does not.
inline int64_t period(const Job& job, const int64_t* strides) {
    for (int64_t a = 0; a + 1 < job.axes; ++a)
        if (strides[a] != 0) return 0;
    if (job.axes == 0 || strides[job.axes - 1] == 0) return 1;
    int64_t length = job.shape[job.axes - 1];
    return strides[job.axes - 1] == 1 && length <= BLOCK ? length : 0;
}

// The offset of element `begin`, in elements, and its index along each axis.
inline int64_t locate(const Job& job, const int64_t* strides, int64_t begin, int64_t* index) {
    int64_t offset = 0;
    for (int64_t a = job.axes - 1; a >= 0; --a) {
        index[a] = begin % job.shape[a];
        begin /= job.shape[a];
        offset += index[a] * strides[a];
    }
    return offset;
}

// Copies elements [begin, begin + n) of the broadcast operand.
template <class U>
void gather_as(const Job& job, const Input& input, int64_t begin, int64_t n, void* target) {
    int64_t index[MAX_AXES];
    const U* from = reinterpret_cast<const U*>(input.data);
    from += locate(job, input.strides, begin, index);
    U* to = static_cast<U*>(target);
    const int64_t *shape = job.shape, *strides = input.strides, last = job.axes - 1;
    const int64_t step = job.axes ? strides[last] : 0, length = job.axes ? shape[last] : 1;
    for (int64_t place = job.axes ? index[last] : 0; n > 0; place = 0) {
        int64_t count = std::min(n, length - place);
        if (step == 0)
            std::fill_n(to, count, *from);
        else
            for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
        to += count;
        n -= count;
        if (n == 0) break;
        from -= place * step;
        for (int64_t a = last - 1; a >= 0; --a) {
            from += strides[a];
            if (++index[a] < shape[a]) break;
            from -= shape[a] * strides[a];
            index[a] = 0;
        }
    }
}

inline void gather(const Job& job, const Input& input, int64_t begin, int64_t n, void* target) {
    switch (input.itemsize) {
        case 1: return gather_as<uint8_t>(job, input, begin, n, target);
        case 2: return gather_as<uint16_t>(job, input, begin, n, target);
        case 4: return gather_as<uint32_t>(job, input, begin, n, target);
        default: return gather_as<uint64_t>(job, input, begin, n, target);
    }
}

// Computes elements [begin, end); blocks are multiples of `block` long, except at the end of a row
// where `rows` says that they end there.
inline void run_range(const Job& job, int64_t begin, int64_t end, int64_t block, bool rows) {
    alignas(64) char buffers[MAX_INPUTS][BLOCK * 8];
    const void* in[MAX_INPUTS];
    for (int64_t k = 0; k < job.inputs; ++k)
        if (job.input[k].kind == REPEATED)
            gather(job, job.input[k], begin, std::min(block, end - begin), buffers[k]);
    int64_t length = rows ? job.shape[job.axes - 1] : 0;
    for (int64_t i = begin, n; i < end; i += n) {
        n = std::min(block, end - i);
        if (rows) n = std::min(n, length - i % length);
        for (int64_t k = 0; k < job.inputs; ++k) {
            const Input& input = job.input[k];
            if (input.kind == FLAT) {
                in[k] = input.data + i * input.itemsize;
            } else if (input.kind == REPEATED) {
                in[k] = buffers[k];
            } else if (rows && input.strides[job.axes - 1] == 1) {
                int64_t index[MAX_AXES];
                in[k] = input.data + locate(job, input.strides, i, index) * input.itemsize;
            } else {
                gather(job, input, i, n, buffers[k]);
                in[k] = buffers[k];
            }
        }
        job.loop(job.f, in, job.out + i * job.out_itemsize, n);
    }
}

inline void run(Job& job, int64_t grain) {
    bool flat = true, general = false;
    int64_t block = BLOCK;
    for (int64_t k = 0; k < job.inputs; ++k) {
        Input& input = job.input[k];
        int64_t each = period(job, input.strides);
        input.kind = is_flat(job, input.strides) ? FLAT : each ? REPEATED : GENERAL;
        flat &= input.kind == FLAT;
        general |= input.kind == GENERAL;
        if (input.kind == REPEATED && each > 1) block = BLOCK / each * each;
    }
    bool rows = general && job.shape[job.axes - 1] >= LONG_ROW;
    if (rows)  // the ranges of threads may start in the middle of one
        for (int64_t k = 0; k < job.inputs; ++k)
            if (job.input[k].kind == REPEATED && period(job, job.input[k].strides) > 1)
                job.input[k].kind = GENERAL;
    parallel(job.n, grain, [&](int64_t begin, int64_t end, int64_t) {
        run_range(job, begin, end, flat ? end - begin : block, rows);
    });
}

// One function's loop, as `Job` calls it.
template <class F, class R, class... A> struct Loop {
    static void over(const F f, R* y, int64_t n, const A*... x) {
#pragma GCC ivdep  // the result may be written over an operand, element by element
        for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]...);
    }
    template <size_t... K>
    static void unpack(const F& f, const void* const* in, R* y, int64_t n,
                       std::index_sequence<K...>) {
        over(f, y, n, static_cast<const A*>(in[K])...);
    }
    static void run(const void* f, const void* const* in, void* out, int64_t n) {
        unpack(*static_cast<const F*>(f), in, static_cast<R*>(out), n,
               std::index_sequence_for<A...>());
    }
};

template <class F, class R, class... A>
int map_as(void* const* arrays, const int64_t* sizes, int64_t grain, const F& f,
           R (F::*)(A...) const) {
    const int64_t itemsizes[] = {sizeof(A)...};
    Job job;
    job.n = sizes[0];
    job.axes = sizes[1];
    job.shape = sizes + 2;
    job.inputs = sizeof...(A);
    for (int64_t k = 0; k < job.inputs; ++k)
        job.input[k] = {static_cast<const char*>(arrays[k]), itemsizes[k],
                        job.shape + (k + 1) * job.axes, FLAT};
    job.out = static_cast<char*>(arrays[job.inputs]);
    job.out_itemsize = sizeof(R);
    job.f = &f;
    job.loop = Loop<F, R, A...>::run;
    run(job, grain);
    return 0;
}

// Applies `f`, whose parameters and result say the dtypes.
template <class F> int map(void* const* arrays, const int64_t* sizes, int64_t grain, const F& f) {
    return map_as(arrays, sizes, grain, f, &F::operator());
}

}  // namespace elementwise

// Functors of scalar.h as functions of the dtype T, which a kernel names.
#define UNARY(F) [](T x) { return F()(x); }
#define BINARY(F) [](T a, T b) { return F()(a, b); }
#define TERNARY(F) [](T x, T a, T b) { return F()(x, a, b); }

// Kernels of an op, one a dtype: T is the type in the function given, GRAIN the elements that are
// worth a thread, which a file says before.
#define TYPED(name, suffix, type, ...)                 \
    KERNEL(name##_##suffix) {                          \
        using T = type;                                \
        return map(arrays, sizes, GRAIN, __VA_ARGS__); \
    }
#define FLOATS(name, ...)                \
    TYPED(name, f32, float, __VA_ARGS__) \
    TYPED(name, f64, double, __VA_ARGS__)
#define NUMBERS(name, ...)                 \
    FLOATS(name, __VA_ARGS__)              \
    TYPED(name, i32, int32_t, __VA_ARGS__) \
    TYPED(name, i64, int64_t, __VA_ARGS__)
