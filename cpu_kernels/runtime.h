// What every C++ kernel for the CPU may use: threads, and its own signature.
//
// A kernel is `KERNEL(name) { ... }`. It is given the addresses of its inputs, of its outputs and,
// where its launch asks for some, of scratch memory (64-byte aligned; contents undefined); then
// whole numbers and real numbers. It returns 0, or 1 for values that only NumPy's rule can explain
// (an index out of range): what it wrote is then dropped and that rule raises the error.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#define RESTRICT __restrict__

struct Runtime {
    int threads;
    // Calls task(context, i) for i in [0, count), on all threads; returns when all have returned.
    void (*run)(void (*task)(void*, int64_t), void* context, int64_t count);
};

static const Runtime* runtime = nullptr;

#define EXPORT extern "C" __attribute__((visibility("default")))
#define KERNEL(name) \
    EXPORT int name(void* const* arrays, const int64_t* sizes, const double* numbers)

EXPORT void attach(const Runtime* given) { runtime = given; }

inline int threads() { return runtime->threads; }

// Runs f(begin, end, part) over [0, n) in contiguous parts, one a thread, each a multiple of
// `grain` long but the last; small ranges run on this thread. Parts depend on n, grain and the
// number of threads only, so results do not change from run to run.
template <class F> inline void parallel(int64_t n, int64_t grain, const F& f) {
    int64_t blocks = (n + grain - 1) / grain;
    int64_t parts = std::min<int64_t>(blocks, threads());
    if (parts <= 1) {
        if (n > 0) f(int64_t(0), n, int64_t(0));
        return;
    }
    struct Context {
        const F& f;
        int64_t n, grain, blocks, parts;
    } context{f, n, grain, blocks, parts};
    auto task = [](void* p, int64_t i) {
        const Context& c = *static_cast<Context*>(p);
        int64_t begin = c.blocks * i / c.parts * c.grain;
        int64_t end = std::min(c.blocks * (i + 1) / c.parts * c.grain, c.n);
        if (begin < end) c.f(begin, end, i);
    };
    runtime->run(task, &context, parts);
}
