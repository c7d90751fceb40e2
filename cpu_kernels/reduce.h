// Folds of rows and columns, and what they fold with.
//
// An array is seen as (outer, n, inner), of which the middle axis goes. Sums are kept in many lanes
// and in blocks, so that rounding errors grow with the logarithm of n rather than with n; blocks
// depend on sizes only, so the bits of a result do not depend on the threads.
#pragma once
#include "runtime.h"

namespace reduce {

constexpr int64_t ROW_BLOCK = 4096;      // elements of a row that are summed in lanes
constexpr int64_t COLUMN_BLOCK = 256;    // rows that are added up before they go to the total
constexpr int64_t WIDTH = 256;           // columns that are worked on at once
constexpr int64_t SLICE = 4096;          // columns that a thread takes
constexpr int64_t GRAIN = 1 << 14;       // elements that are worth a thread

// Wide totals of float sums cost nothing: one addition a block.
template <class T> struct Wide { using type = T; };
template <> struct Wide<float> { using type = double; };

// `of` takes numbers or vectors of them.
struct Sum {
    template <class T> static constexpr T identity() { return T(0); }
    template <class V> static V of(V a, V b) { return a + b; }
};
struct Product {
    template <class T> static constexpr T identity() { return T(1); }
    template <class V> static V of(V a, V b) { return a * b; }
};
struct Largest {  // NaN stays
    template <class T> static constexpr T identity() { return T(0); }
    template <class V> static V of(V a, V b) { return (a >= b) | (a != a) ? a : b; }
};
struct Smallest {
    template <class T> static constexpr T identity() { return T(0); }
    template <class V> static V of(V a, V b) { return (a <= b) | (a != a) ? a : b; }
};
struct Or {
    template <class T> static constexpr T identity() { return T(0); }
    template <class V> static V of(V a, V b) { return a | b; }
};
struct And {
    template <class T> static constexpr T identity() { return T(1); }
    template <class V> static V of(V a, V b) { return a & b; }
};

template <class V, class T> inline V load(const T* x) {
    V v;
    std::memcpy(&v, x, sizeof(V));
    return v;
}

// Folds the halves of a vector onto each other until one element is left.
template <class Op, class T, int BYTES> inline T fold_vector(const T* part) {
    if constexpr (BYTES <= 16) {
        T y = part[0];
        for (int j = 1; j < BYTES / int(sizeof(T)); ++j) y = Op::of(y, part[j]);
        return y;
    } else {
        typedef T H __attribute__((vector_size(BYTES / 2)));
        H half = Op::of(load<H>(part), load<H>(part + BYTES / 2 / sizeof(T)));
        T rest[BYTES / 2 / sizeof(T)];
        std::memcpy(rest, &half, sizeof(half));
        return fold_vector<Op, T, BYTES / 2>(rest);
    }
}

// One block of a row: four vectors of lanes, then their elements.
template <class Op, class T> [[gnu::noinline]] T fold_lanes(const T* x, int64_t n) {
    typedef T V __attribute__((vector_size(64)));
    constexpr int64_t L = 64 / sizeof(T);
    int64_t i = 1;
    T y = x[0];
    if (n >= L) {
        V a = load<V>(x);
        i = L;
        if (n >= 4 * L) {
            V b = load<V>(x + L), c = load<V>(x + 2 * L), d = load<V>(x + 3 * L);
            for (i = 4 * L; i + 4 * L <= n; i += 4 * L) {
                a = Op::of(a, load<V>(x + i));
                b = Op::of(b, load<V>(x + i + L));
                c = Op::of(c, load<V>(x + i + 2 * L));
                d = Op::of(d, load<V>(x + i + 3 * L));
            }
            a = Op::of(Op::of(a, b), Op::of(c, d));
        }
        for (; i + L <= n; i += L) a = Op::of(a, load<V>(x + i));
        T part[L];
        std::memcpy(part, &a, sizeof(a));
        y = fold_vector<Op, T, 64>(part);
    }
    for (; i < n; ++i) y = Op::of(y, x[i]);
    return y;
}

template <class Op, class T> T fold_row(const T* x, int64_t n) {
    if (n <= 0) return Op::template identity<T>();
    if (n <= ROW_BLOCK) return fold_lanes<Op>(x, n);
    using W = typename Wide<T>::type;
    W total = fold_lanes<Op>(x, ROW_BLOCK);
    for (int64_t i = ROW_BLOCK; i < n; i += ROW_BLOCK)
        total = Op::of(total, W(fold_lanes<Op>(x + i, std::min(ROW_BLOCK, n - i))));
    return T(total);
}

// Folds `rows` rows of `width` <= WIDTH elements into `y`.
template <class Op, class T>
[[gnu::noinline]] void fold_narrow(const T* x, int64_t rows, int64_t width, int64_t stride,
                                   T* RESTRICT y) {
    T block[WIDTH];
    for (int64_t first = 0; first < rows; first += COLUMN_BLOCK) {
        int64_t end = std::min(rows, first + COLUMN_BLOCK), r = first + 1;
        T* RESTRICT to = first == 0 ? y : block;
        std::memcpy(to, x + first * stride, width * sizeof(T));
        for (; r + 4 <= end; r += 4) {
            const T *a = x + r * stride, *b = a + stride, *c = b + stride, *d = c + stride;
            for (int64_t j = 0; j < width; ++j)
                to[j] = Op::of(to[j], Op::of(Op::of(a[j], b[j]), Op::of(c[j], d[j])));
        }
        for (; r < end; ++r)
            for (int64_t j = 0; j < width; ++j) to[j] = Op::of(to[j], x[r * stride + j]);
        if (to == block)
            for (int64_t j = 0; j < width; ++j) y[j] = Op::of(y[j], block[j]);
    }
}

// Folds rows of `columns` elements, `stride` apart. Several short rows are taken as a longer one.
template <class Op, class T>
void fold_columns(const T* x, int64_t rows, int64_t columns, int64_t stride, T* y) {
    if (rows <= 0) {
        std::fill_n(y, columns, Op::template identity<T>());
        return;
    }
    int64_t group = columns == stride ? std::min(rows, WIDTH / 2 / columns) : 1;
    if (group > 1) {
        T wide[WIDTH];
        int64_t groups = rows / group, done = groups * group;
        fold_narrow<Op>(x, groups, group * columns, group * columns, wide);
        fold_narrow<Op>(wide, group, columns, columns, y);
        for (const T* row = x + done * columns; done < rows; ++done, row += columns)
            for (int64_t j = 0; j < columns; ++j) y[j] = Op::of(y[j], row[j]);
        return;
    }
    for (int64_t j = 0; j < columns; j += WIDTH)
        fold_narrow<Op>(x + j, rows, std::min(WIDTH, columns - j), stride, y + j);
}

}  // namespace reduce
