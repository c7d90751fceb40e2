// Cross-entropies of rows of logits, and of sigmoids; what a label names, and its place in a row.
#include "rows.h"
#include "vector_math.h"

namespace {

// -- labels ---------------------------------------------------------------------------------------

// Labels of any integer dtype: `kind` is the size in bytes, negative where there is a sign.
struct Labels {
    const void* data;
    int64_t kind;
    template <class T> int64_t as(int64_t i) const { return static_cast<const T*>(data)[i]; }
    int64_t operator[](int64_t i) const {
        switch (kind) {
            case -1: return as<int8_t>(i);
            case -2: return as<int16_t>(i);
            case -4: return as<int32_t>(i);
            case -8: return as<int64_t>(i);
            case 1: return as<uint8_t>(i);
            case 2: return as<uint16_t>(i);
            default: return as<uint32_t>(i);
        }
    }
};

// What the kernels of labels are told: sizes are rows, columns, kind, whether there is a label to
// be ignored, and which; the number is how much targets are smoothed.
struct Settings {
    int64_t rows, columns;
    Labels labels;
    bool ignores;
    int64_t ignored;
    float smoothing;
    Settings(const void* labels, const int64_t* sizes, const double* numbers)
        : rows(sizes[0]), columns(sizes[1]), labels{labels, sizes[2]}, ignores(sizes[3]),
          ignored(sizes[4]), smoothing(static_cast<float>(numbers[0])) {}

    // The label of a row; -1 if it is to be ignored.
    int64_t label(int64_t row) const {
        int64_t label = labels[row];
        return ignores && label == ignored ? -1 : label;
    }
    bool all_exist() const {
        for (int64_t i = 0; i < rows; ++i)
            if (label(i) >= columns || (label(i) < 0 && !(ignores && labels[i] == ignored)))
                return false;
        return true;
    }
};

// -- rows -----------------------------------------------------------------------------------------

// Sum of exp(x - top), which is written to `power` unless that is null.
float exp_sum(const float* x, int64_t n, float top, float* power) {
    float part[256], total = 0.0f;
    for (int64_t begin = 0; begin < n; begin += 256) {
        int64_t count = std::min<int64_t>(256, n - begin);
        float* to = power ? power + begin : part;
#pragma GCC ivdep  // x may be `power`
        for (int64_t j = 0; j < count; ++j) to[j] = vexp(x[begin + j] - top);
        total += row_sum(to, count);
    }
    return total;
}

template <class F> void for_rows(int64_t rows, int64_t columns, const F& f) {
    parallel(rows, row_grain(columns), [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) f(i);
    });
}

// loss and lse of a row; `power`, unless null, gets exp(x - max), whose sum is returned.
float loss_of_row(const Settings& s, const float* logits, int64_t i, float* loss, float* lse,
                  float* power) {
    const float* x = logits + i * s.columns;
    int64_t label = s.label(i);
    float top = row_max(x, s.columns), picked = x[std::max<int64_t>(label, 0)] - top;
    if (s.smoothing != 0.0f) {
        float mean = row_sum(x, s.columns) / static_cast<float>(s.columns) - top;
        picked = (1.0f - s.smoothing) * picked + s.smoothing * mean;
    }
    float total = exp_sum(x, s.columns, top, power), height = std::log(total);
    loss[i] = label < 0 ? 0.0f : height - picked;
    lse[i] = height + top;
    return total;
}

// Subtracts g times the smoothed target from a row.
void minus_target(const Settings& s, float g, int64_t label, float* dx) {
    if (label < 0) return;
    if (s.smoothing != 0.0f) {
        float each = g * (s.smoothing / static_cast<float>(s.columns));
        for (int64_t j = 0; j < s.columns; ++j) dx[j] -= each;
        g *= 1.0f - s.smoothing;
    }
    dx[label] -= g;
}

}  // namespace

// -- kernels of labels ----------------------------------------------------------------------------
//
// Sizes and numbers: see Settings.

// logits, labels -> loss, lse
KERNEL(sparse) {
    Settings s(arrays[1], sizes, numbers);
    if (!s.all_exist()) return 1;
    auto logits = static_cast<const float*>(arrays[0]);
    auto loss = static_cast<float*>(arrays[2]), lse = static_cast<float*>(arrays[3]);
    for_rows(s.rows, s.columns,
             [&](int64_t i) { loss_of_row(s, logits, i, loss, lse, nullptr); });
    return 0;
}

// g, g_lse, logits, labels, lse -> dlogits
KERNEL(sparse_grad) {
    Settings s(arrays[3], sizes, numbers);
    if (!s.all_exist()) return 1;
    auto in = floats(arrays);
    auto dlogits = static_cast<float*>(arrays[5]);
    for_rows(s.rows, s.columns, [&](int64_t i) {
        int64_t label = s.label(i);
        float g = label < 0 ? 0.0f : in[0][i], weight = g + in[1][i], lse = in[4][i];
        const float* x = in[2] + i * s.columns;
        float* dx = dlogits + i * s.columns;
#pragma GCC ivdep  // logits may be dlogits
        for (int64_t j = 0; j < s.columns; ++j) dx[j] = vexp(x[j] - lse) * weight;
        minus_target(s, g, label, dx);
    });
    return 0;
}

// logits, labels, scale -> loss, lse, dlogits
KERNEL(sparse_with_grad) {
    Settings s(arrays[1], sizes, numbers);
    if (!s.all_exist()) return 1;
    auto logits = static_cast<const float*>(arrays[0]);
    float scale = *static_cast<const float*>(arrays[2]);
    auto loss = static_cast<float*>(arrays[3]), lse = static_cast<float*>(arrays[4]);
    auto dlogits = static_cast<float*>(arrays[5]);
    for_rows(s.rows, s.columns, [&](int64_t i) {
        int64_t label = s.label(i);
        float* dx = dlogits + i * s.columns;
        float total = loss_of_row(s, logits, i, loss, lse, dx), g = label < 0 ? 0.0f : scale;
        float factor = g / total;
        for (int64_t j = 0; j < s.columns; ++j) dx[j] *= factor;
        minus_target(s, g, label, dx);
    });
    return 0;
}

// x, labels -> y
KERNEL(pick) {
    int64_t rows = sizes[0], columns = sizes[1];
    Labels labels{arrays[1], sizes[2]};
    auto x = static_cast<const float*>(arrays[0]);
    auto y = static_cast<float*>(arrays[2]);
    for (int64_t i = 0; i < rows; ++i) {
        int64_t label = labels[i];
        if (label < 0 || label >= columns) return 1;
        y[i] = x[i * columns + label];
    }
    return 0;
}

// y, labels -> x; labels that do not exist have no place
KERNEL(place) {
    int64_t rows = sizes[0], columns = sizes[1];
    Labels labels{arrays[1], sizes[2]};
    auto y = static_cast<const float*>(arrays[0]);
    auto x = static_cast<float*>(arrays[2]);
    std::memset(x, 0, rows * columns * sizeof(float));
    for (int64_t i = 0; i < rows; ++i) {
        int64_t label = labels[i];
        if (label >= 0 && label < columns) x[i * columns + label] = y[i];
    }
    return 0;
}

// -- kernels of probabilities ---------------------------------------------------------------------
//
// Sizes: rows, columns. Numbers: how much targets are smoothed.

namespace {

// Numbers as they are, times `keep`, plus `each`: smoothed targets.
struct Smooth {
    float keep, each;
    Smooth(const int64_t* sizes, const double* numbers)
        : keep(static_cast<float>(1 - numbers[0])),
          each(static_cast<float>(numbers[0] / std::max<int64_t>(sizes[1], 1))) {}
    template <class V> V operator()(V target) const { return target * keep + each; }
};

}  // namespace

// logits, target -> loss, lse
KERNEL(dense) {
    auto in = floats(arrays);
    auto loss = static_cast<float*>(arrays[2]), lse = static_cast<float*>(arrays[3]);
    int64_t n = sizes[1];
    Smooth smooth(sizes, numbers);
    for_rows(sizes[0], n, [&](int64_t i) {
        const float *x = in[0] + i * n, *target = in[1] + i * n;
        float top = row_max(x, n), all = std::log(exp_sum(x, n, top, nullptr)) + top;
        loss[i] = row_total(n, [&](auto v, int64_t at) {
            using V = decltype(v);
            return smooth(load<V>(target + at)) * (all - load<V>(x + at));
        });
        lse[i] = all;
    });
    return 0;
}

// g, g_lse, logits, target, lse -> dlogits
KERNEL(dense_grad) {
    auto in = floats(arrays);
    auto dlogits = static_cast<float*>(arrays[5]);
    int64_t n = sizes[1];
    Smooth smooth(sizes, numbers);
    for_rows(sizes[0], n, [&](int64_t i) {
        const float *x = in[2] + i * n, *target = in[3] + i * n;
        float* dx = dlogits + i * n;
        float g = in[0][i], lse = in[4][i];
        float total = row_total(
            n, [&](auto v, int64_t at) { return smooth(load<decltype(v)>(target + at)); });
        float weight = g * total + in[1][i];
#pragma GCC ivdep  // logits or target may be dlogits
        for (int64_t j = 0; j < n; ++j) dx[j] = vexp(x[j] - lse) * weight - smooth(target[j]) * g;
    });
    return 0;
}

// logits, target -> loss, of `sizes[0]` numbers
KERNEL(sigmoid) {
    auto x = static_cast<const float*>(arrays[0]), target = static_cast<const float*>(arrays[1]);
    auto loss = static_cast<float*>(arrays[2]);
    parallel(sizes[0], 8192, [&](int64_t begin, int64_t end, int64_t) {
#pragma GCC ivdep  // logits or target may be the loss
        for (int64_t j = begin; j < end; ++j) loss[j] = vsoftplus(x[j]) - x[j] * target[j];
    });
    return 0;
}
