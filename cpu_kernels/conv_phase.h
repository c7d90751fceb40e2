// What every correlation has: results that the same taps make.
#pragma once
#include "conv_block.h"

namespace {

// The results that the same taps make: those at `start`, and every `step` of them on.
struct Phase {
    int64_t rows, columns;
    int64_t start;  // of the first result, in an image of results
    Runs runs;
    const int64_t* taps;  // numbers of the taps in the kernel, in the order of the runs
    int64_t taps_count;
    const float* weights;

    // Reads what `convolution_axes.py` wrote; returns what follows it.
    const int64_t* read(const int64_t* s) {
        rows = s[0], columns = s[1], start = s[2];
        runs = {s + 6, s[3], s[4]};
        taps_count = s[5];
        taps = s + 6 + s[3];
        return taps + taps_count;
    }
};

constexpr int64_t MOST_PHASES = 64;

}  // namespace
