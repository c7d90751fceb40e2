// Reading and adding at places that integer arrays name.
//
// An index counts from the end where it is negative; one out of range ends the kernel with 1.
// Sums are taken in the order of the indices, each by one thread: their bits do not change.
#include "runtime.h"

#include <type_traits>

namespace {

constexpr int64_t GRAIN = 65536;  // bytes that are worth a thread

// Calls f with a null pointer of the type of the indices: int32, int64.
template <class F> int with_index_type(int64_t wide, const F& f) {
    return wide ? f(static_cast<const int64_t*>(nullptr)) : f(static_cast<const int32_t*>(nullptr));
}

// Calls f with a null pointer of the type of the elements, by its number in `index_native.py`.
// Unsigned integers: their sums are those of the signed ones, bit for bit.
template <class F> int with_type(int64_t type, const F& f) {
    switch (type) {
        case 0: return f(static_cast<float*>(nullptr));
        case 1: return f(static_cast<double*>(nullptr));
        case 2: return f(static_cast<uint32_t*>(nullptr));
        default: return f(static_cast<uint64_t*>(nullptr));
    }
}

// The same where the sign matters.
template <class F> int with_signed_type(int64_t type, const F& f) {
    switch (type) {
        case 2: return f(static_cast<int32_t*>(nullptr));
        case 3: return f(static_cast<int64_t*>(nullptr));
        default: return with_type(type, f);
    }
}

// Calls f with a null pointer of an unsigned type of this many bytes.
template <class F> int with_width(int64_t bytes, const F& f) {
    switch (bytes) {
        case 1: return f(static_cast<uint8_t*>(nullptr));
        case 2: return f(static_cast<uint16_t*>(nullptr));
        case 4: return f(static_cast<uint32_t*>(nullptr));
        default: return f(static_cast<uint64_t*>(nullptr));
    }
}

template <class I> bool all_within(const I* ids, int64_t n, int64_t length) {
    bool bad = false;
    for (int64_t i = 0; i < n; ++i) bad |= ids[i] < -length || ids[i] >= length;
    return !bad;
}

inline int64_t place(int64_t id, int64_t length) { return id < 0 ? id + length : id; }

// How many parts of this many bytes are worth a thread.
int64_t grain_of(int64_t bytes) {
    return std::max(int64_t(1), GRAIN / std::max(int64_t(1), bytes));
}

// Slices of `count` indices from each of `outer` arrays of `length` slices of `bytes`.
template <class I>
int take(const char* x, const I* ids, char* y, int64_t outer, int64_t length, int64_t count,
         int64_t bytes) {
    if (!all_within(ids, count, length)) return 1;
    auto copy = [&](auto* unit) {
        using U = std::remove_pointer_t<decltype(unit)>;
        int64_t inner = bytes / sizeof(U);
        parallel(outer * count, grain_of(bytes), [&](int64_t begin, int64_t end, int64_t) {
            for (int64_t o = begin / count, i = begin % count; begin < end; ++o, i = 0) {
                const U* from = reinterpret_cast<const U*>(x) + o * length * inner;
                U* to = reinterpret_cast<U*>(y) + begin * inner;
                int64_t last = std::min(count, i + end - begin);
                begin += last - i;
                if (inner == 1)
                    for (; i < last; ++i) *to++ = from[place(ids[i], length)];
                else
                    for (; i < last; ++i, to += inner)
                        std::memcpy(to, from + place(ids[i], length) * inner, bytes);
            }
        });
        return 0;
    };
    bool unit = bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
    return with_width(unit ? bytes : 1, copy);
}

// Adds the slices of x to those of zeros that the indices name.
template <class T, class I>
int add(const T* x, const I* ids, T* y, int64_t outer, int64_t length, int64_t count,
        int64_t inner) {
    if (!all_within(ids, count, length)) return 1;
    auto columns = [&](int64_t o, int64_t begin, int64_t end) {
        const T* from = x + o * count * inner;
        T* sums = y + o * length * inner;
        for (int64_t r = 0; r < length; ++r)
            std::fill(sums + r * inner + begin, sums + r * inner + end, T(0));
        for (int64_t i = 0; i < count; ++i, from += inner) {
            T* RESTRICT to = sums + place(ids[i], length) * inner;
            for (int64_t j = begin; j < end; ++j) to[j] += from[j];
        }
    };
    int64_t bytes = (count + length) * int64_t(sizeof(T));  // of a column
    int64_t grain = std::max<int64_t>(64 / sizeof(T), grain_of(bytes));
    if (outer >= threads())
        parallel(outer, grain_of(bytes * inner), [&](int64_t begin, int64_t end, int64_t) {
            for (int64_t o = begin; o < end; ++o) columns(o, 0, inner);
        });
    else  // whole cache lines of each row for each thread
        for (int64_t o = 0; o < outer; ++o)
            parallel(inner, grain, [&](int64_t begin, int64_t end, int64_t) {
                columns(o, begin, end);
            });
    return 0;
}

// x (outer, length, inner) at indices (outer, count, inner); strides of both, so that one of them
// may be broadcast.
template <class U, class I>
int take_along(const U* x, const I* ids, U* y, const int64_t* s) {
    int64_t outer = s[0], length = s[1], count = s[2], inner = s[3];
    const int64_t *xs = s + 4, *is = s + 7;
    int64_t bad[64] = {};
    int64_t grain = grain_of(count * inner * int64_t(sizeof(U)));
    if (threads() > 64) grain = std::max<int64_t>(outer, 1);
    parallel(outer, grain, [&](int64_t begin, int64_t end, int64_t part) {
        for (int64_t o = begin; o < end; ++o)
            for (int64_t c = 0; c < count; ++c) {
                const I* id = ids + o * is[0] + c * is[1];
                U* to = y + (o * count + c) * inner;
                for (int64_t j = 0; j < inner; ++j) {
                    int64_t at = place(id[j * is[2]], length);
                    if (at < 0 || at >= length) {
                        bad[part] = 1;
                        return;
                    }
                    to[j] = x[o * xs[0] + at * xs[1] + j * xs[2]];
                }
            }
    });
    return std::any_of(bad, bad + 64, [](int64_t b) { return b != 0; });
}

// Adds x (outer, count, inner) to zeros (outer, length, inner), each number at its index.
template <class T, class I>
int add_along(const T* x, const I* ids, T* y, const int64_t* s) {
    int64_t outer = s[0], length = s[1], count = s[2], inner = s[3];
    if (!all_within(ids, outer * count * inner, length)) return 1;
    int64_t grain = grain_of((count + length) * inner * int64_t(sizeof(T)));
    parallel(outer, grain, [&](int64_t begin, int64_t end, int64_t) {
        std::fill(y + begin * length * inner, y + end * length * inner, T(0));
        for (int64_t o = begin; o < end; ++o)
            for (int64_t c = 0; c < count; ++c) {
                int64_t row = (o * count + c) * inner;
                for (int64_t j = 0; j < inner; ++j)
                    y[(o * length + place(ids[row + j], length)) * inner + j] += x[row + j];
            }
    });
    return 0;
}

// Numbers that name places along the first `axes` of an array: each row of `ids` is one place.
struct Places {
    int64_t axes;
    const int64_t* lengths;

    // The number of the slice that a row names, or -1 if one of its indices is out of range.
    template <class I> int64_t of(const I* row) const {
        int64_t flat = 0;
        for (int64_t i = 0; i < axes; ++i) {
            int64_t at = place(row[i], lengths[i]);
            if (at < 0 || at >= lengths[i]) return -1;
            flat = flat * lengths[i] + at;
        }
        return flat;
    }
    template <class I> bool all_within(const I* ids, int64_t count) const {
        bool bad = false;
        for (int64_t i = 0; i < count; ++i) bad |= of(ids + i * axes) < 0;
        return !bad;
    }
};

template <class I>
int gather(const char* x, const I* ids, char* y, Places places, int64_t count, int64_t bytes) {
    if (!places.all_within(ids, count)) return 1;
    parallel(count, grain_of(bytes), [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i)
            std::memcpy(y + i * bytes, x + places.of(ids + i * places.axes) * bytes, bytes);
    });
    return 0;
}

// What a place and an update become; NaN goes through. Sums of integers are modulo 2^n.
enum Reduction : int64_t { SET, ADD, MAXIMUM, MINIMUM, MULTIPLY };
template <class T> struct Modulus { typedef T Type; };
template <> struct Modulus<int32_t> { typedef uint32_t Type; };
template <> struct Modulus<int64_t> { typedef uint64_t Type; };
template <class T> using Modular = typename Modulus<T>::Type;

template <class T> inline T reduced(Reduction how, T old, T update) {
    switch (how) {
        case ADD: return T(Modular<T>(old) + Modular<T>(update));
        case MULTIPLY: return T(Modular<T>(old) * Modular<T>(update));
        case MAXIMUM: return old > update || old != old ? old : update;
        case MINIMUM: return old < update || old != old ? old : update;
        default: return update;
    }
}

// Slices of x; those that rows of `ids` name are combined with updates, in the order of these.
template <class T, class I>
int scatter(const T* x, const I* ids, const T* updates, T* y, Places places, int64_t count,
            int64_t size, int64_t inner, Reduction how) {
    if (!places.all_within(ids, count)) return 1;
    if (y != x)
        parallel(size, GRAIN, [&](int64_t begin, int64_t end, int64_t) {
            std::memcpy(y + begin, x + begin, (end - begin) * sizeof(T));
        });
    auto columns = [&](int64_t begin, int64_t end) {
        for (int64_t i = 0; i < count; ++i) {
            T* to = y + places.of(ids + i * places.axes) * inner;
            const T* from = updates + i * inner;
            for (int64_t j = begin; j < end; ++j) to[j] = reduced(how, to[j], from[j]);
        }
    };
    int64_t grain = std::max<int64_t>(64 / sizeof(T), grain_of(count * int64_t(sizeof(T))));
    parallel(inner, grain, [&](int64_t begin, int64_t end, int64_t) { columns(begin, end); });
    return 0;
}

// Ones where the class along an axis is that of x, zeros elsewhere: (outer, classes, inner).
template <class T, class I>
int one_hot(const I* x, T* y, int64_t outer, int64_t classes, int64_t inner) {
    int64_t grain = grain_of(classes * inner * int64_t(sizeof(T)));
    parallel(outer, grain, [&](int64_t begin, int64_t end, int64_t) {
        std::fill(y + begin * classes * inner, y + end * classes * inner, T(0));
        for (int64_t o = begin; o < end; ++o)
            for (int64_t j = 0; j < inner; ++j) {
                int64_t c = x[o * inner + j];
                if (c >= 0 && c < classes) y[(o * classes + c) * inner + j] = T(1);
            }
    });
    return 0;
}

}  // namespace

// arrays: x (outer, length, bytes), indices (count), y (outer, count, bytes)
// sizes: outer, length, count, bytes of a slice, whether indices are int64
KERNEL(take) {
    return with_index_type(sizes[4], [&](auto* index) {
        using I = std::remove_pointer_t<decltype(index)>;
        return take<I>(static_cast<char*>(arrays[0]), static_cast<I*>(arrays[1]),
                       static_cast<char*>(arrays[2]), sizes[0], sizes[1], sizes[2], sizes[3]);
    });
}

// arrays: x (outer, count, inner), indices (count), y (outer, length, inner)
// sizes: outer, length, count, inner, whether indices are int64, type of the elements
KERNEL(index_add) {
    return with_index_type(sizes[4], [&](auto* index) {
        return with_type(sizes[5], [&](auto* element) {
            return add(static_cast<decltype(element)>(arrays[0]),
                       static_cast<decltype(index)>(arrays[1]),
                       static_cast<decltype(element)>(arrays[2]), sizes[0], sizes[1], sizes[2],
                       sizes[3]);
        });
    });
}

// arrays: x (outer, length, inner), indices (outer, count, inner), y (outer, count, inner)
// sizes: outer, length, count, inner, strides of x, strides of the indices, whether these are
// int64, bytes of an element
KERNEL(take_along) {
    return with_index_type(sizes[10], [&](auto* index) {
        return with_width(sizes[11], [&](auto* element) {
            return take_along(static_cast<decltype(element)>(arrays[0]),
                              static_cast<decltype(index)>(arrays[1]),
                              static_cast<decltype(element)>(arrays[2]), sizes);
        });
    });
}

// arrays: x (outer, count, inner), indices (outer, count, inner), y (outer, length, inner)
// sizes: outer, length, count, inner, whether indices are int64, type of the elements
KERNEL(add_along) {
    return with_index_type(sizes[4], [&](auto* index) {
        return with_type(sizes[5], [&](auto* element) {
            return add_along(static_cast<decltype(element)>(arrays[0]),
                             static_cast<decltype(index)>(arrays[1]),
                             static_cast<decltype(element)>(arrays[2]), sizes);
        });
    });
}

// arrays: x (outer, inner), y (outer, classes, inner)
// sizes: outer, classes, inner, whether x is int64, type of the result
KERNEL(one_hot) {
    return with_index_type(sizes[3], [&](auto* index) {
        return with_type(sizes[4], [&](auto* element) {
            return one_hot(static_cast<decltype(index)>(arrays[0]),
                           static_cast<decltype(element)>(arrays[1]), sizes[0], sizes[1], sizes[2]);
        });
    });
}

// arrays: x (slices, bytes), indices (count, axes), y (count, bytes)
// sizes: count, bytes of a slice, whether indices are int64, how many axes they name, the lengths
// of these
KERNEL(gather_rows) {
    return with_index_type(sizes[2], [&](auto* index) {
        using I = std::remove_pointer_t<decltype(index)>;
        return gather<I>(static_cast<char*>(arrays[0]), static_cast<I*>(arrays[1]),
                         static_cast<char*>(arrays[2]), {sizes[3], sizes + 4}, sizes[0], sizes[1]);
    });
}

// arrays: x (slices, inner), indices (count, axes), updates (count, inner), y (slices, inner)
// sizes: count, size of x, inner, Reduction, type of the elements, whether indices are int64, how
// many axes they name, the lengths of these
KERNEL(scatter_update) {
    return with_index_type(sizes[5], [&](auto* index) {
        return with_signed_type(sizes[4], [&](auto* element) {
            return scatter(static_cast<decltype(element)>(arrays[0]),
                           static_cast<decltype(index)>(arrays[1]),
                           static_cast<decltype(element)>(arrays[2]),
                           static_cast<decltype(element)>(arrays[3]), {sizes[6], sizes + 7},
                           sizes[0], sizes[1], sizes[2], static_cast<Reduction>(sizes[3]));
        });
    });
}
