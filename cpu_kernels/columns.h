// Tables of rows by columns whose columns are summed, or scaled with one number each.
//
// Rows are read several at once, as one line whose width suits the vectors of the processor: of 16
// columns four rows, of 10 columns eight. What belongs to a column is repeated along the line.
#pragma once
#include "runtime.h"

// Vectors of any alignment; the compiler splits them where the processor has shorter ones.
typedef float Floats __attribute__((vector_size(64)));

template <class V> inline V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class V> inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }

// The arrays of a kernel, where all are float: all of them, and those after `inputs`.
inline const float* const* floats(void* const* arrays) {
    return reinterpret_cast<const float* const*>(arrays);
}
inline float* const* results(void* const* arrays, int inputs) {
    return reinterpret_cast<float* const*>(arrays) + inputs;
}

// Hands out pieces of the scratch memory.
struct Scratch {
    char* free;
    explicit Scratch(void* memory) : free(static_cast<char*>(memory)) {}
    template <class T> T* take(int64_t count) {
        T* piece = reinterpret_cast<T*>(free);
        free += (count * sizeof(T) + 63) / 64 * 64;
        return piece;
    }
    double* zeros(int64_t count) {
        double* piece = take<double>(count);
        std::fill(piece, piece + count, 0.0);
        return piece;
    }
};

struct Table {
    int64_t rows, columns;
    int64_t times;  // rows in a line
    int64_t width;  // numbers in a line
    int64_t lines;
    int64_t rest;  // numbers after the last whole line

    Table(int64_t rows, int64_t columns) : rows(rows), columns(columns), times(1) {
        if (columns < 256) {  // `width_of` in columns_native.py knows this rule
            while (columns * times % 16) times *= 2;
            while (columns * times < 64) times *= 2;
        }
        width = columns * times;
        lines = rows / times;
        rest = rows % times * columns;
    }

    // Lines of a block: some thousand numbers, so that it stays in the first cache, and few enough
    // to be added up in float.
    int64_t step() const { return std::clamp<int64_t>(4096 / width, 32, 64); }
};

// `lines` lines of `width` numbers from number `at` on.
struct Block {
    int64_t at, lines, width;
};

// Calls f(block) for lines [begin, end) of a table.
template <class F> inline void blocks_of(const Table& t, int64_t begin, int64_t end, const F& f) {
    for (int64_t i = begin; i < end; i += t.step())
        f(Block{i * t.width, std::min(t.step(), end - i), t.width});
}

// The same for a whole table on this thread. What is after the last whole line comes last, as one
// shorter line.
template <class F> inline void all_blocks(const Table& t, const F& f) {
    blocks_of(t, 0, t.lines, f);
    if (t.rest) f(Block{t.lines * t.width, 1, t.rest});
}

// The same on all threads: f(block, part). The shorter line is of part 0.
template <class F> inline void for_blocks(const Table& t, const F& f) {
    int64_t grain = (16384 / (t.step() * t.width) + 1) * t.step();
    parallel(t.lines, grain, [&](int64_t begin, int64_t end, int64_t part) {
        blocks_of(t, begin, end, [&](Block b) { f(b, part); });
    });
    if (t.rest) f(Block{t.lines * t.width, 1, t.rest}, int64_t(0));
}

// N vectors V side by side in a line, from number `at` of it on.
template <class V_, int N_> struct Slab {
    using V = V_;
    static constexpr int N = N_, LANES = sizeof(V) / sizeof(float), SIZE = N * LANES;
    int64_t at;
};

// Calls f(slab) for the slabs that a line is made of.
template <class F> inline void for_slabs(int64_t width, const F& f) {
    int64_t j = 0;
    for (; j + 64 <= width; j += 64) f(Slab<Floats, 4>{j});
    for (; j + 16 <= width; j += 16) f(Slab<Floats, 1>{j});
    for (; j < width; ++j) f(Slab<float, 1>{j});
}

// Repeats a vector along a line.
inline float* tiled(const Table& t, const float* v, Scratch& scratch) {
    float* line = scratch.take<float>(t.width);
    for (int64_t i = 0; i < t.times; ++i) std::copy(v, v + t.columns, line + i * t.columns);
    return line;
}

// Sums of the columns, from those of lines: `sums` has a line for each thread.
inline double* fold(const Table& t, const double* sums, Scratch& scratch) {
    double* total = scratch.zeros(t.columns);
    for (int64_t i = 0; i < threads() * t.times; ++i)
        for (int64_t c = 0; c < t.columns; ++c) total[c] += sums[i * t.columns + c];
    return total;
}

// Adds the numbers of N vectors to sums in double.
template <class S> inline void add_to(double* sums, const typename S::V* v) {
    float numbers[S::SIZE];
    for (int i = 0; i < S::N; ++i) store(numbers + i * S::LANES, v[i]);
    for (int j = 0; j < S::SIZE; ++j) sums[j] += numbers[j];
}
