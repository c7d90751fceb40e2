// What loops written for fused chains use (gpunet/compile/emit_cpp.py): the functors of their
// steps, and the walk over operands of any layout.
//
// A kernel is given as many results as its chain has; all have the shape of the first. Its loop
// finds its place in the others by that in the first.
#pragma once
#define ELEMENTWISE_INPUTS 16
#include "elementwise.h"
#include "scalar.h"

namespace elementwise {

using FusedLoop = void (*)(void* const* all, const void* const* in, void* out, int64_t n);

// An operand that is walked, or the first result: its place among the arrays, bytes of an element.
struct Walked {
    int64_t place, itemsize;
};

// Runs a loop over operands, the last of which is the first result; `sizes` as elementwise.h says.
// Arrays that are not walked - single numbers, and other results - the loop finds in `all`.
template <size_t N>
int run_fused(void* const* arrays, const int64_t* sizes, int64_t grain, FusedLoop loop,
              const Walked (&walked)[N]) {
    struct Context {
        FusedLoop loop;
        void* const* arrays;
    } context{loop, arrays};
    Job job;
    job.n = sizes[0];
    job.axes = sizes[1];
    job.shape = sizes + 2;
    job.inputs = N - 1;
    for (int64_t k = 0; k < job.inputs; ++k)
        job.input[k] = {static_cast<const char*>(arrays[walked[k].place]), walked[k].itemsize,
                        job.shape + (k + 1) * job.axes, FLAT};
    job.out = static_cast<char*>(arrays[walked[N - 1].place]);
    job.out_itemsize = walked[N - 1].itemsize;
    job.f = &context;
    job.loop = [](const void* f, const void* const* in, void* out, int64_t n) {
        const Context& c = *static_cast<const Context*>(f);
        c.loop(c.arrays, in, out, n);
    };
    run(job, grain);
    return 0;
}

}  // namespace elementwise
