// Scaled dot-product attention in Keras's layout, (batch, length, heads, width), and its gradient.
//
// A thread takes heads of keys one after the other, each with the heads of queries that it serves.
// Scores exist for QUERIES x KEYS pairs at a time; with more keys the softmax of a row goes on from
// its greatest score so far. The gradient computes weights again from the log-sum-exp of each row.
// Source: Dao et al., "FlashAttention", 2022.
#include "panels.h"
#include "vector_math.h"

namespace {

constexpr int64_t QUERIES = 64, KEYS = 256;
constexpr int64_t WIDE = KEYS + LANES;  // of a row of scores: rows do not share a cache set
constexpr float FLOOR = -0x1p127f;      // the log-sum-exp of a query that no key is allowed for

// One head of a tensor: rows of `width` numbers, `row` floats apart.
struct Rows {
    const float* data;
    int64_t row;
    const float* at(int64_t i) const { return data + i * row; }
};

struct Tensor {
    const float* data;
    int64_t batch, row, head;
    Rows rows(int64_t b, int64_t h) const { return {data + b * batch + h * head, row}; }
};

struct Mask {
    const bool* data;  // or null
    int64_t batch, head, row, key;
};

// What a launch says.
struct Problem {
    int64_t batch, queries, keys, heads, key_heads, width, value_width;
    bool causal;
    float scale;
    Mask mask;

    int64_t padded() const { return round_up(width, LANES); }
    int64_t value_padded() const { return round_up(value_width, LANES); }
    bool restricted() const { return causal || mask.data; }
    int64_t products_of_head() const {
        return queries * keys * (width + value_width) * (heads / key_heads);
    }
};

// Keys [first, first + count) for queries [row, row + rows) of a head: where, and what is allowed.
struct Block {
    int64_t row, rows, first, count;
    bool causal;

    // How many of the keys come before query i (of the block) or with it.
    int64_t allowed(int64_t i) const {
        return causal ? std::clamp<int64_t>(row + i + 1 - first, 0, count) : count;
    }
    bool whole() const { return allowed(0) == count; }
    // Row i of the weights is 0 from allowed(i) on, as far as sums over ROWS rows may read it.
    int64_t zeros_until(int64_t i) const {
        return std::min(round_up(allowed(i) + ROWS, LANES), WIDE);
    }
};

// Scratch memory of a thread, taken from the front.
struct Scratch {
    float* next;
    float* take(int64_t floats) {
        float* taken = next;
        next += round_up(floats, 16);
        return taken;
    }
};

typedef int Lanes __attribute__((vector_size(4 * LANES)));

constexpr int NUMBERS[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                             16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
inline Lanes numbers_from(int first) {
    Lanes numbers;
    std::memcpy(&numbers, NUMBERS + first, sizeof(numbers));
    return numbers;
}

// The first `count` lanes of v, `other` in the rest.
inline Vec first_lanes(Vec v, int64_t count, float other) {
    return numbers_from(0) < static_cast<int>(count) ? v : all(other);
}

// Lane i has what lane i + n had, modulo LANES.
inline Vec rotated(Vec v, int n) {
#if defined(__clang__)
    Vec y;
    for (int i = 0; i < LANES; ++i) y[i] = v[(i + n) % LANES];
    return y;
#else
    return __builtin_shuffle(v, numbers_from(n));  // it counts places modulo LANES
#endif
}

inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

// The greatest lane, and the sum of all lanes, in each lane.
inline Vec greatest(Vec v) {
#pragma GCC unroll 8
    for (int n = LANES / 2; n; n /= 2) v = larger(v, rotated(v, n));
    return v;
}
inline Vec total(Vec v) {
#pragma GCC unroll 8
    for (int n = LANES / 2; n; n /= 2) v += rotated(v, n);
    return v;
}

// Rows that vectors can be read from: as they lie, or copied with zeros up to a multiple of LANES.
Rows padded_rows(Rows x, int64_t rows, int64_t width, float* copy) {
    int64_t wide = round_up(width, LANES);
    if (wide == width) return x;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < wide; j += LANES)
            store(copy + i * wide + j, load(x.at(i) + j, width - j));
    return {copy, wide};
}

void pack_keys(Rows x, int64_t width, int64_t keys, float* panels) {
    pack_some(true, x.data, x.row, width, keys, panels, 0, (keys + PANEL - 1) / PANEL);
}

// s = a times the packed rows, for the pairs that are allowed, and some others beside them.
void scores(const Block& block, Rows a, int64_t width, const float* packed, float* s) {
    const float* panels = packed + block.first * width;
    if (block.whole())
        return multiply(false, block.rows, block.count, width, a.at(block.row), a.row, 1, panels,
                        PANEL, width * PANEL, s, WIDE);
    for (int64_t i = 0; i < block.rows; i += ROWS) {
        int64_t rows = std::min<int64_t>(ROWS, block.rows - i);
        multiply(false, rows, block.allowed(i + rows - 1), width, a.at(block.row + i), a.row, 1,
                 panels, PANEL, width * PANEL, s + i * WIDE, WIDE);
    }
}

// out += s times rows of x: for each query the sum over the keys that are allowed.
void over_keys(const Block& block, const float* s, Rows x, int64_t width, float* out, int64_t ldo) {
    int64_t step = block.whole() ? block.rows : ROWS;
    for (int64_t i = 0; i < block.rows; i += step) {
        int64_t rows = std::min(step, block.rows - i);
        multiply(true, rows, width, block.allowed(i + rows - 1), s + i * WIDE, WIDE, 1,
                 x.at(block.first), x.row, PANEL, out + i * ldo, ldo);
    }
}

// out += s^T times rows of x: for each key the sum over the queries of the block; x and out begin
// with the block's first query and key.
void over_queries(const Block& block, const float* s, Rows x, int64_t width, float* out,
                  int64_t ldo) {
    int64_t step = block.whole() ? block.count : ROWS;
    for (int64_t j = 0; j < block.count; j += step) {
        int64_t keys = std::min(step, block.count - j);
        int64_t from = block.whole() ? 0 : std::max<int64_t>(0, block.first + j - block.row);
        if (from >= block.rows) return;
        multiply(true, keys, width, block.rows - from, s + from * WIDE + j, 1, WIDE, x.at(from),
                 x.row, PANEL, out + j * ldo, ldo);
    }
}

// Scales the allowed scores of row i, and sets others in the same vectors to -infinity; returns the
// greatest in each lane.
inline Vec scale_row(const Block& block, const Problem& p, const bool* mask, int64_t i,
                     float* RESTRICT s) {
    int64_t n = block.allowed(i);
    float scale = mask ? 1.0f : p.scale;
    if (mask)
        for (int64_t j = 0; j < n; ++j) s[j] = mask[j * p.mask.key] ? s[j] * p.scale : -INF;
    Vec most = all(-INF);
    for (int64_t j = 0; j < n; j += LANES) {
        Vec v = load(s + j) * scale;
        if (j + LANES > n) v = first_lanes(v, n - j, -INF);
        store(s + j, v);
        most = larger(v, most);
    }
    return most;
}

inline void fill_zeros(float* s, int64_t from, int64_t until) {
    for (int64_t j = from; j < until; j += LANES) store(s + j, Vec{});
}

inline const bool* mask_row(const Problem& p, int64_t b, int64_t h, int64_t i, int64_t first) {
    const Mask& m = p.mask;
    return m.data ? m.data + b * m.batch + h * m.head + i * m.row + first * m.key : nullptr;
}

// -- forward --------------------------------------------------------------------------------------

// What a row of the softmax has seen so far.
struct State {
    float top, sum;
};

// e^x; 0 instead of denormals, which processors compute a hundred times slower.
inline float weight(float x) {
    constexpr float LEAST = -87.0f;
    float y = vexp(x < LEAST ? LEAST : x);
    return x < LEAST ? 0.0f : y;
}

// Scores of a row to weights relative to the greatest so far; returns what the sums of earlier
// blocks are to be multiplied by. `most` has the greatest of this block in some lane.
float softmax_row(const Block& block, bool restricted, int64_t i, Vec most, float* RESTRICT s,
                  State& state) {
    int64_t n = round_up(block.allowed(i), LANES);
    float top = greatest(larger(most, all(state.top)))[0];
    float shift = restricted && top == -INF ? 0.0f : top;  // nothing was allowed yet
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t k = j; k < j + LANES; ++k) s[k] = weight(s[k] - shift);
    Vec sums{};
    for (int64_t j = 0; j < n; j += LANES) sums += load(s + j);
    fill_zeros(s, n, block.zeros_until(i));
    float earlier = block.first ? weight(state.top - shift) : 0.0f;
    state = {top, state.sum * earlier + total(sums)[0]};
    return earlier;
}

// y = sums / total, and the log-sum-exp; a query that nothing was allowed for takes the mean.
void finish_row(const Problem& p, const State& state, Rows v, const float* sums, float* y,
                float* lse) {
    if (p.restricted() && state.top == -INF) {
        for (int64_t j = 0; j < p.value_width; ++j) {
            double sum = 0;
            for (int64_t k = 0; k < p.keys; ++k) sum += v.at(k)[j];
            y[j] = static_cast<float>(sum / static_cast<double>(p.keys));
        }
        *lse = FLOOR;
        return;
    }
    float share = 1.0f / state.sum;
    for (int64_t j = 0; j < p.value_width; ++j) y[j] = sums[j] * share;
    *lse = state.top + vlog(state.sum);
}

struct Forward {
    Problem p;
    Tensor q, k, v;
    float *y, *lse;

    // Queries from `row` on, at most QUERIES, of one head.
    void rows(int64_t b, int64_t h, int64_t row, const float* packed, Rows values, Rows plain,
              Scratch scratch) const {
        int64_t n = std::min(QUERIES, p.queries - row), wide = p.value_padded();
        float *s = scratch.take(QUERIES * WIDE), *sums = scratch.take(QUERIES * wide);
        State state[QUERIES];
        std::fill(state, state + n, State{-INF, 0.0f});
        std::memset(sums, 0, 4 * n * wide);
        for (int64_t first = 0; first < p.keys; first += KEYS) {
            Block block{row, n, first, std::min(KEYS, p.keys - first), p.causal};
            if (!block.allowed(n - 1)) break;
            scores(block, q.rows(b, h), p.width, packed, s);
            for (int64_t i = 0; i < n; ++i) {
                float* line = s + i * WIDE;
                Vec most = scale_row(block, p, mask_row(p, b, h, row + i, first), i, line);
                float earlier = softmax_row(block, p.restricted(), i, most, line, state[i]);
                if (!first) continue;
                for (int64_t j = 0; j < wide; ++j) sums[i * wide + j] *= earlier;
            }
            over_keys(block, s, values, p.value_width, sums, wide);
        }
        for (int64_t i = 0; i < n; ++i)
            finish_row(p, state[i], plain, sums + i * wide,
                       y + ((b * p.queries + row + i) * p.heads + h) * p.value_width,
                       lse + (b * p.heads + h) * p.queries + row + i);
    }

    // One head of keys; of blocks of queries those that are `part` modulo `parts`.
    void head(int64_t b, int64_t kh, int64_t part, int64_t parts, Scratch scratch) const {
        float* packed = scratch.take(p.width * round_up(p.keys, PANEL));
        float* copy = scratch.take(p.keys * p.value_padded());
        pack_keys(k.rows(b, kh), p.width, p.keys, packed);
        Rows plain = v.rows(b, kh), values = padded_rows(plain, p.keys, p.value_width, copy);
        int64_t group = p.heads / p.key_heads, stride = parts * QUERIES;
        for (int64_t h = kh * group; h < (kh + 1) * group; ++h)
            for (int64_t row = part * QUERIES; row < p.queries; row += stride)
                rows(b, h, row, packed, values, plain, scratch);
    }
};

// -- backward -------------------------------------------------------------------------------------

// Scores s to weights and what goes to the weights, d, to what goes to the scores, for one row
// whose weights are e^(s - lse); `less` is the sum of d times weights, less what goes to the lse.
void gradient_row(const Block& block, int64_t i, float lse, float less, float scale,
                  float* RESTRICT s, float* RESTRICT d) {
    int64_t n = round_up(block.allowed(i), LANES), until = block.zeros_until(i);
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t k = j; k < j + LANES; ++k) {
            float w = weight(s[k] - lse);
            s[k] = w;
            d[k] = (d[k] - less) * w * scale;
        }
    fill_zeros(s, n, until);
    fill_zeros(d, n, until);
}

inline float row_dot(const float* RESTRICT a, const float* RESTRICT b, int64_t n) {
    Vec sums{};
    for (int64_t j = 0; j < n; j += LANES) sums += load(a + j, n - j) * load(b + j, n - j);
    return total(sums)[0];
}

struct Backward {
    Problem p;
    Tensor g, q, k, v, y;
    const float *g_lse, *lse;
    float *dq, *dk, *dv;

    // Memory of one head of keys.
    struct Head {
        const float *keys, *values;  // packed
        Rows plain_keys;
        float *dk, *dv;              // sums, rows padded to LANES
        float* uniform;              // of g over queries that no key was allowed for
    };

    void rows(int64_t b, int64_t h, int64_t row, const Head& head, Scratch scratch) const {
        int64_t n = std::min(QUERIES, p.queries - row), wide = p.padded();
        int64_t value_wide = p.value_padded();
        float *s = scratch.take(QUERIES * WIDE), *d = scratch.take(QUERIES * WIDE);
        float* sums = scratch.take(QUERIES * wide);
        Rows gs = g.rows(b, h), qs = q.rows(b, h), ys = y.rows(b, h);
        Rows g_wide = padded_rows({gs.at(row), gs.row}, n, p.value_width,
                                  scratch.take(QUERIES * value_wide));
        Rows q_wide = padded_rows({qs.at(row), qs.row}, n, p.width, scratch.take(QUERIES * wide));
        int64_t at = (b * p.heads + h) * p.queries + row;
        float less[QUERIES], logs[QUERIES];
        for (int64_t i = 0; i < n; ++i) {
            less[i] = row_dot(gs.at(row + i), ys.at(row + i), p.value_width) - g_lse[at + i];
            logs[i] = lse[at + i];
            if (!p.restricted() || !(logs[i] < FLOOR / 2)) continue;
            logs[i] = INF;  // its weights are 0 here; they go to the values alone, and to all alike
            for (int64_t j = 0; j < p.value_width; ++j) head.uniform[j] += gs.at(row + i)[j];
        }
        std::memset(sums, 0, 4 * n * wide);
        for (int64_t first = 0; first < p.keys; first += KEYS) {
            Block block{row, n, first, std::min(KEYS, p.keys - first), p.causal};
            if (!block.allowed(n - 1)) break;
            scores(block, qs, p.width, head.keys, s);
            scores(block, gs, p.value_width, head.values, d);
            for (int64_t i = 0; i < n; ++i) {
                scale_row(block, p, mask_row(p, b, h, row + i, first), i, s + i * WIDE);
                gradient_row(block, i, logs[i], less[i], p.scale, s + i * WIDE, d + i * WIDE);
            }
            over_queries(block, s, g_wide, p.value_width, head.dv + first * value_wide, value_wide);
            over_queries(block, d, q_wide, p.width, head.dk + first * wide, wide);
            over_keys(block, d, head.plain_keys, p.width, sums, wide);
        }
        for (int64_t i = 0; i < n; ++i)
            std::memcpy(dq + ((b * p.queries + row + i) * p.heads + h) * p.width, sums + i * wide,
                        4 * p.width);
    }

    void head(int64_t b, int64_t kh, Scratch scratch) const {
        int64_t panels = round_up(p.keys, PANEL), wide = p.padded(), value_wide = p.value_padded();
        float* keys = scratch.take(p.width * panels);
        float* values = scratch.take(p.value_width * panels);
        pack_keys(k.rows(b, kh), p.width, p.keys, keys);
        pack_keys(v.rows(b, kh), p.value_width, p.keys, values);
        Rows plain = padded_rows(k.rows(b, kh), p.keys, p.width, scratch.take(p.keys * wide));
        Head memory{keys, values, plain, scratch.take(p.keys * wide),
                    scratch.take(p.keys * value_wide), scratch.take(value_wide)};
        std::memset(memory.dk, 0, 4 * p.keys * wide);
        std::memset(memory.dv, 0, 4 * p.keys * value_wide);
        std::memset(memory.uniform, 0, 4 * value_wide);
        int64_t group = p.heads / p.key_heads;
        for (int64_t h = kh * group; h < (kh + 1) * group; ++h)
            for (int64_t row = 0; row < p.queries; row += QUERIES) rows(b, h, row, memory, scratch);
        float share = 1.0f / static_cast<float>(p.keys);
        for (int64_t j = 0; j < p.keys; ++j) {
            int64_t at = (b * p.keys + j) * p.key_heads + kh;
            std::memcpy(dk + at * p.width, memory.dk + j * wide, 4 * p.width);
            for (int64_t i = 0; i < p.value_width; ++i)
                dv[at * p.value_width + i] =
                    memory.dv[j * value_wide + i] + memory.uniform[i] * share;
        }
    }
};

// -- launches -------------------------------------------------------------------------------------

// sizes: batch, queries, keys, heads, key heads, width, value width, causal, masked, floats of
// scratch memory for a thread, strides of the mask (4).
Problem problem_of(const int64_t* n, const double* numbers, const void* mask) {
    auto data = n[8] ? static_cast<const bool*>(mask) : nullptr;
    return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7] != 0, static_cast<float>(numbers[0]),
            {data, n[10], n[11], n[12], n[13]}};
}

Tensor tensor_of(const void* data, const int64_t* strides) {
    return {static_cast<const float*>(data), strides[0], strides[1], strides[2]};
}

constexpr int COMMON = 14;  // sizes before the strides of tensors: batch, row, head

}  // namespace

// arrays: q, k, v, with a mask; y, lse; scratch. sizes: see problem_of, then strides of q, k, v.
// numbers: scale.
KERNEL(attention) {
    Problem p = problem_of(sizes, numbers, arrays[3]);
    void* const* out = arrays + 3 + sizes[8];
    const int64_t* strides = sizes + COMMON;
    Forward run{p,
                tensor_of(arrays[0], strides),
                tensor_of(arrays[1], strides + 3),
                tensor_of(arrays[2], strides + 6),
                static_cast<float*>(out[0]),
                static_cast<float*>(out[1])};
    auto scratch = static_cast<float*>(out[2]);
    int64_t heads = p.batch * p.key_heads, parts = 1;
    if (heads < threads())
        parts = std::min<int64_t>(threads(), (p.queries + QUERIES - 1) / QUERIES);
    int64_t grain = std::max<int64_t>(1, 200000 / (p.products_of_head() / parts + 1));
    parallel(heads * parts, grain, [&](int64_t begin, int64_t end, int64_t thread) {
        for (int64_t i = begin; i < end; ++i)
            run.head(i / parts / p.key_heads, i / parts % p.key_heads, i % parts, parts,
                     {scratch + thread * sizes[9]});
    });
    return 0;
}

// arrays: g, g_lse, q, k, v, y, lse, with a mask; dq, dk, dv; scratch. sizes: see problem_of, then
// strides of g, q, k, v, y. numbers: scale.
KERNEL(attention_grad) {
    Problem p = problem_of(sizes, numbers, arrays[7]);
    void* const* out = arrays + 7 + sizes[8];
    const int64_t* strides = sizes + COMMON;
    Backward run{p,
                 tensor_of(arrays[0], strides),
                 tensor_of(arrays[2], strides + 3),
                 tensor_of(arrays[3], strides + 6),
                 tensor_of(arrays[4], strides + 9),
                 tensor_of(arrays[5], strides + 12),
                 static_cast<const float*>(arrays[1]),
                 static_cast<const float*>(arrays[6]),
                 static_cast<float*>(out[0]),
                 static_cast<float*>(out[1]),
                 static_cast<float*>(out[2])};
    auto scratch = static_cast<float*>(out[3]);
    int64_t grain = std::max<int64_t>(1, 100000 / (p.products_of_head() + 1));
    parallel(p.batch * p.key_heads, grain, [&](int64_t begin, int64_t end, int64_t thread) {
        for (int64_t i = begin; i < end; ++i)
            run.head(i / p.key_heads, i % p.key_heads, {scratch + thread * sizes[9]});
    });
    return 0;
}
