// Random numbers: element i of a draw is a function of (seed, draw, i), so any thread can make any
// part of it, and a backward pass draws the same numbers again.
//
// The stream is NumPy's Philox4x64-10, bit for bit.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011
#include "runtime.h"

namespace {

constexpr int64_t BLOCKS = 64;  // are made at a time: loops over their words fill vectors

struct Words {
    uint64_t word[4 * BLOCKS];
};

// The two halves of a product of 64-bit words.
inline uint64_t multiply(uint64_t a, uint64_t b, uint64_t* high) {
    auto product = static_cast<unsigned __int128>(a) * b;
    *high = static_cast<uint64_t>(product >> 64);
    return static_cast<uint64_t>(product);
}

// Blocks [first, first + BLOCKS) of the stream of a key whose counter starts at zero; NumPy counts
// before it draws. Four blocks at once, because each round waits for the one before.
void draw(uint64_t key0, uint64_t key1, uint64_t first, Words* words) {
    constexpr int TOGETHER = 4;
    for (int64_t b = 0; b < BLOCKS; b += TOGETHER) {
        uint64_t w0[TOGETHER], w1[TOGETHER], w2[TOGETHER], w3[TOGETHER];
        for (int i = 0; i < TOGETHER; ++i) {
            w0[i] = first + b + i + 1;
            w1[i] = w2[i] = w3[i] = 0;
        }
        uint64_t k0 = key0, k1 = key1;
        for (int round = 0; round < 10; ++round) {
            for (int i = 0; i < TOGETHER; ++i) {
                uint64_t high0, high1;
                uint64_t low0 = multiply(0xD2E7470EE14C6C93u, w0[i], &high0);
                uint64_t low1 = multiply(0xCA5A826395121157u, w2[i], &high1);
                w0[i] = high1 ^ w1[i] ^ k0;
                w2[i] = high0 ^ w3[i] ^ k1;
                w1[i] = low1;
                w3[i] = low0;
            }
            k0 += 0x9E3779B97F4A7C15u;  // the golden ratio
            k1 += 0xBB67AE8584CAA73Bu;  // sqrt(3) - 1
        }
        for (int i = 0; i < TOGETHER; ++i) {
            uint64_t* to = words->word + 4 * (b + i);
            to[0] = w0[i];
            to[1] = w1[i];
            to[2] = w2[i];
            to[3] = w3[i];
        }
    }
}

// How many numbers of a type a word makes, and how: 24 or 53 bits of it, as NumPy does.
inline int per_word(float) { return 2; }
inline int per_word(double) { return 1; }
inline void numbers_of(const Words& words, float* y) {
    for (int64_t i = 0; i < 4 * BLOCKS; ++i) {  // the low half first
        auto low = static_cast<int32_t>(words.word[i] >> 8 & 0xffffff);
        auto high = static_cast<int32_t>(words.word[i] >> 40);
        y[2 * i] = static_cast<float>(low) * 0x1p-24f;
        y[2 * i + 1] = static_cast<float>(high) * 0x1p-24f;
    }
}
inline void numbers_of(const Words& words, double* y) {
    for (int64_t i = 0; i < 4 * BLOCKS; ++i)
        y[i] = static_cast<double>(static_cast<int64_t>(words.word[i] >> 11)) * 0x1p-53;
}

// Calls f(numbers, begin, count) for runs of the first n uniform numbers of a draw.
template <class T, class F> void over_uniform(const uint32_t* seed, int64_t n, const F& f) {
    const int64_t run = 4 * BLOCKS * per_word(T(0));
    uint64_t key0 = seed[0], key1 = seed[1];
    parallel(n, 4 * run, [&](int64_t begin, int64_t end, int64_t) {
        Words words;
        alignas(64) T numbers[8 * BLOCKS];
        for (int64_t i = begin; i < end; i += run) {
            draw(key0, key1, static_cast<uint64_t>(i / run) * BLOCKS, &words);
            numbers_of(words, numbers);
            f(numbers, i, std::min(run, end - i));
        }
    });
}

template <class T> int uniform(void* const* arrays, int64_t n) {
    T* y = static_cast<T*>(arrays[1]);
    auto write = [&](const T* u, int64_t i, int64_t count) {
        std::memcpy(y + i, u, count * sizeof(T));
    };
    over_uniform<T>(static_cast<uint32_t*>(arrays[0]), n, write);
    return 0;
}

template <class T> int integers(void* const* arrays, int64_t n, double low, double span) {
    T* y = static_cast<T*>(arrays[1]);
    auto write = [&](const double* u, int64_t i, int64_t count) {
        for (int64_t j = 0; j < count; ++j)
            y[i + j] = static_cast<T>(std::floor(u[j] * span) + low);
    };
    over_uniform<double>(static_cast<uint32_t*>(arrays[0]), n, write);
    return 0;
}

}  // namespace

// arrays: seed (2) uint32: seed and draw; y.  sizes: length of y.
KERNEL(uniform_f32) { return uniform<float>(arrays, sizes[0]); }
KERNEL(uniform_f64) { return uniform<double>(arrays, sizes[0]); }

// arrays: seed, y.  sizes: length of y.  numbers: low, high - low.
KERNEL(integers_i32) { return integers<int32_t>(arrays, sizes[0], numbers[0], numbers[1]); }
KERNEL(integers_i64) { return integers<int64_t>(arrays, sizes[0], numbers[0], numbers[1]); }

// arrays: x, seed, y.  sizes: length of x.  numbers: rate.
// Elements are kept where the uniform number is at least the rate, and are then made larger.
KERNEL(dropout_f32) {
    const float* x = static_cast<float*>(arrays[0]);
    float* y = static_cast<float*>(arrays[2]);
    const float rate = static_cast<float>(numbers[0]);
    const float scale = static_cast<float>(1 / (1 - numbers[0]));
    auto write = [&](const float* u, int64_t i, int64_t count) {
#pragma GCC ivdep
        for (int64_t j = 0; j < count; ++j)
            y[i + j] = (u[j] >= rate ? 1.0f : 0.0f) * x[i + j] * scale;
    };
    over_uniform<float>(static_cast<uint32_t*>(arrays[1]), sizes[0], write);
    return 0;
}
