// Steps of optimizers: each moves many weights and their slots by one step, in one call.
//
// Arrays of an update: for each kind of input (weights, gradients, slots) the arrays of all weights
// in a row, wherever the scalars stand; then the results, weights and slots, in the same order.
// Results may be the memory of the weights and slots. All numbers are rounded where NumPy's rules
// round them, so that both move weights by the same bits.
#include "runtime.h"

namespace {

constexpr int64_t GRAIN = 8192;   // elements: less than two grains is no work for two threads
constexpr int64_t CHUNK = 16384;  // elements that are summed on their own

// -- where things are -----------------------------------------------------------------------------

enum Scalar : int64_t { FLOAT32, FLOAT64, INT32, INT64, UINT32 };

// A scalar that a kernel reads as it runs: learning rates and step counts change.
double scalar(const void* address, int64_t type) {
    switch (type) {
        case FLOAT32: return *static_cast<const float*>(address);
        case FLOAT64: return *static_cast<const double*>(address);
        case INT32: return *static_cast<const int32_t*>(address);
        case INT64: return static_cast<double>(*static_cast<const int64_t*>(address));
        default: return *static_cast<const uint32_t*>(address);
    }
}

// Reads the sizes of an update:
//   weights, inputs, place of the first weight, (place or -1, type) of rate, step and scale,
//   whether Nesterov's, then the length of each weight.
struct Sizes {
    void* const* arrays;
    const int64_t* sizes;

    int64_t weights() const { return sizes[0]; }
    bool nesterov() const { return sizes[9]; }
    int64_t length(int64_t i) const { return sizes[10 + i]; }
    double number(int which, double otherwise) const {
        int64_t place = sizes[3 + 2 * which];
        return place < 0 ? otherwise : scalar(arrays[place], sizes[4 + 2 * which]);
    }
    double rate() const { return number(0, 0); }
    double step() const { return number(1, 0); }
    double scale() const { return number(2, 1); }
    template <class T> T* input(int64_t kind, int64_t i) const {
        return static_cast<T*>(arrays[sizes[2] + kind * weights() + i]);
    }
    template <class T> T* output(int64_t kind, int64_t i) const {
        return static_cast<T*>(arrays[sizes[1] + kind * weights() + i]);
    }
};

// Calls f(i, begin, end) for parts of the weights, so that each thread has as many elements.
template <class F> void over_weights(const Sizes& s, const F& f) {
    int64_t total = 0;
    for (int64_t i = 0; i < s.weights(); ++i) total += s.length(i);
    parallel(total, GRAIN, [&](int64_t begin, int64_t end, int64_t) {
        int64_t first = 0;
        for (int64_t i = 0; i < s.weights() && first < end; first += s.length(i++)) {
            int64_t a = std::max(begin - first, int64_t(0));
            int64_t b = std::min(end - first, s.length(i));
            if (a < b) f(i, a, b);
        }
    });
}

// What every update does to a weight and to a gradient before its own formula.
template <class T> struct Common {
    T keep, scale;
    bool decays, scales;

    Common(const Sizes& s, double weight_decay)
        : keep(T(1.0 - s.rate() * weight_decay)), scale(T(s.scale())), decays(weight_decay != 0),
          scales(s.sizes[7] >= 0) {}
};

// Runs step(j, g) for j in [begin, end), g the scaled gradient. Results may be the inputs, element
// by element: no iteration reads what another one writes.
template <class T, class F>
void each(const Common<T>& c, const T* g, int64_t begin, int64_t end, const F& step) {
    if (c.scales) {
#pragma GCC ivdep
        for (int64_t j = begin; j < end; ++j) step(j, g[j] * c.scale);
    } else {
#pragma GCC ivdep
        for (int64_t j = begin; j < end; ++j) step(j, g[j]);
    }
}

// -- the updates ----------------------------------------------------------------------------------

// w - rate g, where w has decayed.
template <class T> int sgd(const Sizes& s, const double* numbers) {
    Common<T> c(s, numbers[0]);
    T rate = T(s.rate()), keep = c.decays ? c.keep : T(1);
    over_weights(s, [&](int64_t i, int64_t begin, int64_t end) {
        const T* w = s.input<T>(0, i);
        T* y = s.output<T>(0, i);
        each(c, s.input<T>(1, i), begin, end,
             [=](int64_t j, T g) { y[j] = w[j] * keep - g * rate; });
    });
    return 0;
}

// m = momentum m - rate g; w + m, or with Nesterov's look ahead w + momentum m - rate g.
template <class T> int momentum(const Sizes& s, const double* numbers) {
    Common<T> c(s, numbers[0]);
    T rate = T(s.rate()), beta = T(numbers[1]), keep = c.decays ? c.keep : T(1);
    over_weights(s, [&](int64_t i, int64_t begin, int64_t end) {
        const T *w = s.input<T>(0, i), *m = s.input<T>(2, i), *g = s.input<T>(1, i);
        T *new_w = s.output<T>(0, i), *new_m = s.output<T>(1, i);
        if (s.nesterov())
            each(c, g, begin, end, [=](int64_t j, T gradient) {
                T move = m[j] * beta - gradient * rate;
                new_m[j] = move;
                new_w[j] = w[j] * keep + (move * beta - gradient * rate);
            });
        else
            each(c, g, begin, end, [=](int64_t j, T gradient) {
                T move = m[j] * beta - gradient * rate;
                new_m[j] = move;
                new_w[j] = w[j] * keep + move;
            });
    });
    return 0;
}

// v = rho v + (1 - rho) g^2; w - rate g / sqrt(v + epsilon).
template <class T> int rmsprop(const Sizes& s, const double* numbers) {
    Common<T> c(s, numbers[0]);
    T rate = T(s.rate()), rho = T(numbers[1]), rest = T(1.0 - numbers[1]), epsilon = T(numbers[2]);
    T keep = c.decays ? c.keep : T(1);
    over_weights(s, [&](int64_t i, int64_t begin, int64_t end) {
        const T *w = s.input<T>(0, i), *v = s.input<T>(2, i);
        T *new_w = s.output<T>(0, i), *new_v = s.output<T>(1, i);
        each(c, s.input<T>(1, i), begin, end, [=](int64_t j, T g) {
            T square = v[j] * rho + g * g * rest;
            new_v[j] = square;
            new_w[j] = w[j] * keep - g / std::sqrt(square + epsilon) * rate;
        });
    });
    return 0;
}

// Adam: m and v are averages of g and g^2; w - corrected m / (sqrt(v) + epsilon).
template <class T> int adam(const Sizes& s, const double* numbers) {
    Common<T> c(s, numbers[0]);
    double step = s.step(), beta_1 = numbers[1], beta_2 = numbers[2];
    double less_1 = 1.0 - std::pow(beta_1, step), less_2 = 1.0 - std::pow(beta_2, step);
    T corrected = T(s.rate() * std::sqrt(less_2) / less_1);
    T b1 = T(beta_1), rest1 = T(1.0 - beta_1), b2 = T(beta_2), rest2 = T(1.0 - beta_2);
    T epsilon = T(numbers[3]), keep = c.decays ? c.keep : T(1);
    over_weights(s, [&](int64_t i, int64_t begin, int64_t end) {
        const T *w = s.input<T>(0, i), *m = s.input<T>(2, i), *v = s.input<T>(3, i);
        T *new_w = s.output<T>(0, i), *new_m = s.output<T>(1, i), *new_v = s.output<T>(2, i);
        each(c, s.input<T>(1, i), begin, end, [=](int64_t j, T g) {
            T mean = m[j] * b1 + g * rest1, square = v[j] * b2 + g * g * rest2;
            new_m[j] = mean;
            new_v[j] = square;
            new_w[j] = w[j] * keep - mean / (std::sqrt(square) + epsilon) * corrected;
        });
    });
    return 0;
}

// Lion: w - rate sign(beta_1 m + (1 - beta_1) g); m = beta_2 m + (1 - beta_2) g.
template <class T> int lion(const Sizes& s, const double* numbers) {
    Common<T> c(s, numbers[0]);
    double beta_1 = numbers[1], beta_2 = numbers[2];
    T rate = T(s.rate()), keep = c.decays ? c.keep : T(1);
    T b1 = T(beta_1), rest1 = T(1.0 - beta_1), b2 = T(beta_2), rest2 = T(1.0 - beta_2);
    over_weights(s, [&](int64_t i, int64_t begin, int64_t end) {
        const T *w = s.input<T>(0, i), *m = s.input<T>(2, i);
        T *new_w = s.output<T>(0, i), *new_m = s.output<T>(1, i);
        each(c, s.input<T>(1, i), begin, end, [=](int64_t j, T g) {
            T direction = m[j] * b1 + g * rest1;
            // NaN goes through: it is neither above nor below, and its product with 0 is NaN.
            T move = direction > T(0) ? rate : direction < T(0) ? -rate : direction * T(0);
            new_m[j] = m[j] * b2 + g * rest2;
            new_w[j] = w[j] * keep - move;
        });
    });
    return 0;
}

// -- clipping and averaging -----------------------------------------------------------------------

// Sums of chunks of all tensors, each in 32 lanes, then of the chunks in their order: the result
// does not depend on the number of threads.
template <class T> int sum_squares(void* const* arrays, const int64_t* sizes) {
    int64_t count = sizes[0];
    const int64_t* chunks = sizes + 1 + count;  // the number of each one's first chunk; of all
    T* y = static_cast<T*>(arrays[count]);
    double* sums = static_cast<double*>(arrays[count + 1]);
    parallel(chunks[count], 1, [&](int64_t begin, int64_t end, int64_t) {
        int64_t i = 0;
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            while (chunks[i + 1] <= chunk) ++i;
            int64_t first = (chunk - chunks[i]) * CHUNK;
            int64_t n = std::min(sizes[1 + i] - first, CHUNK);
            const T* x = static_cast<const T*>(arrays[i]) + first;
            constexpr int LANES = 32;
            T lanes[LANES] = {};
            int64_t j = 0;
            for (; j + LANES <= n; j += LANES)
                for (int lane = 0; lane < LANES; ++lane) lanes[lane] += x[j + lane] * x[j + lane];
            double sum = 0;
            for (T lane : lanes) sum += lane;
            for (; j < n; ++j) sum += double(x[j]) * x[j];
            sums[chunk] = sum;
        }
    });
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks[count]; ++chunk) total += sums[chunk];
    *y = T(total);
    return 0;
}

template <class T, class Bits> int all_finite(void* const* arrays, const int64_t* sizes) {
    constexpr Bits INFINITE = sizeof(T) == 4 ? Bits(0x7f800000) : Bits(0x7ff0000000000000);
    int64_t count = sizes[0];
    bool finite = true;
    for (int64_t i = 0; i < count && finite; ++i) {
        const Bits* x = static_cast<const Bits*>(arrays[i]);
        auto* bad = static_cast<Bits*>(arrays[count + 1]);
        std::fill(bad, bad + threads(), Bits(0));
        parallel(sizes[1 + i], 4 * GRAIN, [&](int64_t begin, int64_t end, int64_t part) {
            Bits found = 0;
            for (int64_t j = begin; j < end; ++j) found |= Bits((x[j] & INFINITE) == INFINITE);
            bad[part] = found;
        });
        for (int part = 0; part < threads(); ++part) finite = finite && !bad[part];
    }
    *static_cast<bool*>(arrays[count]) = finite;
    return 0;
}

template <class T> int average(void* const* arrays, const int64_t* sizes, const double* numbers) {
    const T *old = static_cast<T*>(arrays[0]), *w = static_cast<T*>(arrays[1]);
    T* y = static_cast<T*>(arrays[2]);
    T momentum = T(numbers[0]), rest = T(1.0 - numbers[0]);
    parallel(sizes[0], GRAIN, [&](int64_t begin, int64_t end, int64_t) {
#pragma GCC ivdep
        for (int64_t j = begin; j < end; ++j) y[j] = old[j] * momentum + w[j] * rest;
    });
    return 0;
}

}  // namespace

// Updates: arrays as above, sizes as in Sizes.
// numbers: weight_decay, then the attributes of the update in the order of its signature.
KERNEL(sgd_f32) { return sgd<float>({arrays, sizes}, numbers); }
KERNEL(sgd_f64) { return sgd<double>({arrays, sizes}, numbers); }
KERNEL(momentum_f32) { return momentum<float>({arrays, sizes}, numbers); }
KERNEL(momentum_f64) { return momentum<double>({arrays, sizes}, numbers); }
KERNEL(rmsprop_f32) { return rmsprop<float>({arrays, sizes}, numbers); }
KERNEL(rmsprop_f64) { return rmsprop<double>({arrays, sizes}, numbers); }
KERNEL(adam_f32) { return adam<float>({arrays, sizes}, numbers); }
KERNEL(adam_f64) { return adam<double>({arrays, sizes}, numbers); }
KERNEL(lion_f32) { return lion<float>({arrays, sizes}, numbers); }
KERNEL(lion_f64) { return lion<double>({arrays, sizes}, numbers); }

// arrays: tensors, y, scratch for a double a chunk.
// sizes: how many tensors, their lengths, the number of each one's first chunk, and of all chunks.
KERNEL(sum_squares_f32) { return sum_squares<float>(arrays, sizes); }
KERNEL(sum_squares_f64) { return sum_squares<double>(arrays, sizes); }

// arrays: tensors, y (bool), scratch for a number a thread.  sizes: how many, their lengths.
KERNEL(all_finite_f32) { return all_finite<float, uint32_t>(arrays, sizes); }
KERNEL(all_finite_f64) { return all_finite<double, uint64_t>(arrays, sizes); }

// arrays: average, w, y.  sizes: length.  numbers: momentum.
KERNEL(average_f32) { return average<float>(arrays, sizes, numbers); }
KERNEL(average_f64) { return average<double>(arrays, sizes, numbers); }
