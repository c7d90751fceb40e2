// Fills and copies of blocks: what makes arrays contiguous, joins them, cuts them and pads them.
#include "runtime.h"

namespace {

constexpr int64_t MAX_AXES = 16;
constexpr int64_t TILE = 16;         // rows and columns of a block that is transposed at once
constexpr int64_t BYTES = 1 << 16;  // that are worth a thread

// A block of `shape`, by the steps of the source and of the target (in elements). Where `turned`,
// the source is contiguous along the last axis but one, and the target along the last.
struct Move {
    int64_t axes, turned;
    const int64_t *shape, *to_steps, *from_steps;
};

// Where outer element number `begin` is, counting all axes but the last `inner`.
struct Place {
    int64_t index[MAX_AXES], from = 0, to = 0;
    Place(const Move& m, int64_t outer, int64_t begin) {
        for (int64_t a = outer - 1; a >= 0; --a) {
            index[a] = begin % m.shape[a];
            begin /= m.shape[a];
            from += index[a] * m.from_steps[a];
            to += index[a] * m.to_steps[a];
        }
    }
    void next(const Move& m, int64_t outer) {
        for (int64_t a = outer - 1; a >= 0; --a) {
            from += m.from_steps[a];
            to += m.to_steps[a];
            if (++index[a] < m.shape[a]) return;
            from -= m.shape[a] * m.from_steps[a];
            to -= m.shape[a] * m.to_steps[a];
            index[a] = 0;
        }
    }
};

// Short rows are many: no call for each. The last chunk overlaps the one before.
inline void copy_bytes(char* RESTRICT to, const char* RESTRICT from, int64_t n) {
    constexpr int64_t CHUNK = 32;
    if (n < CHUNK || n > 512) {
        std::memcpy(to, from, n);
        return;
    }
    for (int64_t i = 0; i < n - CHUNK; i += CHUNK) std::memcpy(to + i, from + i, CHUNK);
    std::memcpy(to + n - CHUNK, from + n - CHUNK, CHUNK);
}

template <class U> void copy_row(U* RESTRICT to, const U* RESTRICT from, int64_t n, int64_t to_step,
                                 int64_t from_step) {
    if (to_step == 1 && from_step == 1)
        copy_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(from),
                   n * sizeof(U));
    else if (to_step == 1 && from_step == 0)
        std::fill_n(to, n, *from);
    else if (to_step == 1)
        for (int64_t i = 0; i < n; ++i) to[i] = from[i * from_step];
    else
        for (int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
}

// A tile goes through a buffer: it is read by rows of the source and written by rows of the target.
template <class U> void turn_tile(U* RESTRICT to, const U* RESTRICT from, int64_t rows,
                                  int64_t columns, int64_t to_step, int64_t from_step) {
    U tile[TILE][TILE];
    if (rows == TILE && columns == TILE) {
        for (int64_t j = 0; j < TILE; ++j)
            for (int64_t i = 0; i < TILE; ++i) tile[j][i] = from[j * from_step + i];
        for (int64_t i = 0; i < TILE; ++i)
            for (int64_t j = 0; j < TILE; ++j) to[i * to_step + j] = tile[j][i];
        return;
    }
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) to[i * to_step + j] = from[j * from_step + i];
}

template <class U> void copy_turned(const Move& m, U* to, const U* from) {
    int64_t outer = m.axes - 2, blocks = (m.shape[outer] + TILE - 1) / TILE, n = blocks;
    for (int64_t a = 0; a < outer; ++a) n *= m.shape[a];
    int64_t rows = m.shape[outer], columns = m.shape[outer + 1];
    int64_t to_step = m.to_steps[outer], from_step = m.from_steps[outer + 1];
    int64_t grain = std::max<int64_t>(1, BYTES / (TILE * columns * int64_t(sizeof(U))));
    parallel(n, grain, [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t k = begin; k < end; ++k) {
            Place place(m, outer, k / blocks);
            int64_t i = k % blocks * TILE, height = std::min(TILE, rows - i);
            for (int64_t j = 0; j < columns; j += TILE)
                turn_tile(to + place.to + i * to_step + j, from + place.from + i + j * from_step,
                          height, std::min(TILE, columns - j), to_step, from_step);
        }
    });
}

template <class U> void copy_block(const Move& m, U* to, const U* from) {
    if (m.turned) return copy_turned(m, to, from);
    int64_t outer = std::max<int64_t>(m.axes - 1, 0), rows = 1;
    for (int64_t a = 0; a < outer; ++a) rows *= m.shape[a];
    int64_t n = m.axes ? m.shape[outer] : 1;
    int64_t to_step = m.axes ? m.to_steps[outer] : 1, from_step = m.axes ? m.from_steps[outer] : 1;
    if (rows == 1) {
        parallel(n, BYTES / sizeof(U), [&](int64_t begin, int64_t end, int64_t) {
            copy_row(to + begin * to_step, from + begin * from_step, end - begin, to_step,
                     from_step);
        });
        return;
    }
    int64_t grain = n ? std::max<int64_t>(1, BYTES / (n * int64_t(sizeof(U)))) : rows;
    parallel(rows, grain, [&](int64_t begin, int64_t end, int64_t) {
        Place place(m, outer, begin);
        for (int64_t i = begin; i < end; ++i, place.next(m, outer))
            copy_row(to + place.to, from + place.from, n, to_step, from_step);
    });
}

template <class U> void fill(void* array, int64_t n, int64_t bits) {
    U* y = static_cast<U*>(array);
    U value;
    std::memcpy(&value, &bits, sizeof(U));  // the low bytes come first
    parallel(n, BYTES / sizeof(U), [&](int64_t begin, int64_t end, int64_t) {
        std::fill(y + begin, y + end, value);
    });
}

// Runs `f` with a number as large as an element.
template <class F> void with_size(int64_t itemsize, const F& f) {
    switch (itemsize) {
        case 1: return f(uint8_t());
        case 2: return f(uint16_t());
        case 4: return f(uint32_t());
        default: return f(uint64_t());
    }
}

}  // namespace

// arrays: any; sizes: itemsize; how many fills, then of each its array, elements and bits; how many
// blocks, then of each: array copied from and first element, array copied to and first element,
// axes, whether turned (see Move), shape, steps of the target, steps of the source.
KERNEL(moves) {
    const int64_t itemsize = *sizes++;
    for (int64_t k = *sizes++; k > 0; --k, sizes += 3)
        with_size(itemsize,
                  [&](auto u) { fill<decltype(u)>(arrays[sizes[0]], sizes[1], sizes[2]); });
    for (int64_t k = *sizes++; k > 0; --k) {
        const int64_t axes = sizes[4], *shape = sizes + 6;
        const Move m{axes, sizes[5], shape, shape + axes, shape + 2 * axes};
        with_size(itemsize, [&](auto u) {
            using U = decltype(u);
            copy_block(m, static_cast<U*>(arrays[sizes[2]]) + sizes[3],
                       static_cast<const U*>(arrays[sizes[0]]) + sizes[1]);
        });
        sizes = shape + 3 * axes;
    }
    return 0;
}
