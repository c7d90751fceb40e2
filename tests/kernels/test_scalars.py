"""Numbers on the emulator: 16-bit floats bit for bit, atomics, mathematical and bit functions."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from gpunet.backend import emulator
from gpunet.backend.kernels import cuda_type

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALVES = [np.dtype("f2"), BFLOAT16]
half = pytest.mark.parametrize("dtype", HALVES, ids=["half", "bfloat16"])


def same_bits(actual, expected):
    """Equal bit for bit, but for the payload of NaN: CUDA has a single NaN, NumPy keeps it."""
    nan = np.isnan(actual) & np.isnan(expected)
    bits = f"u{expected.itemsize}"
    np.testing.assert_array_equal(
        np.where(nan, 0, actual.view(bits)), np.where(nan, 0, expected.view(bits))
    )


def cast(array, dtype):
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def all_halves(dtype):
    return np.arange(65536, dtype="u2").view(dtype)


def run_convert(kernel, x, to):
    y = emulator.poison(np.empty(x.shape, to))
    run = kernel("scalars.cu", "convert", (cuda_type(x.dtype), cuda_type(to)))
    run(grid=64, block=256, args=(x, y, x.size))
    return y


@half
def test_every_half_to_float(kernel, dtype):
    x = all_halves(dtype)
    same_bits(run_convert(kernel, x, "f4"), cast(x, "f4"))


def hard_floats(dtype):
    """Every half, what lies exactly between two of them, and the floats right beside those."""
    values = cast(all_halves(dtype), "f8")
    finite = np.sort(values[np.isfinite(values)])
    exact = np.unique(np.concatenate([finite, (finite[1:] + finite[:-1]) / 2])).astype("f4")
    steps = [np.nextafter(exact, np.float32(to), dtype="f4") for to in (-np.inf, np.inf)]
    special_values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 65519, 65520, 3.4e38], "f4")
    return np.concatenate([exact, *steps, special_values, -special_values])


@half
def test_float_to_half_rounds_to_nearest_even(kernel, dtype):
    x = hard_floats(dtype)
    same_bits(run_convert(kernel, x, dtype), cast(x, dtype))


@half
def test_float_to_half_of_three_million_bit_patterns(kernel, dtype, rng):
    x = rng.integers(0, 2**32, 3_000_000, dtype="u4").view("f4")
    same_bits(run_convert(kernel, x, dtype), cast(x, dtype))


@half
def test_double_to_half_rounds_once(kernel, dtype):
    x = hard_floats(dtype).astype("f8")
    x = np.concatenate([x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf)])
    # The distance of neighbours: `digits` bits after the leading one, but never below the least
    # subnormal number. `rint` rounds to even, and all else here is exact.
    digits, least = (10, -24) if dtype == "f2" else (7, -133)
    quantum = np.ldexp(1.0, np.maximum(np.frexp(x)[1] - 1 - digits, least))
    with np.errstate(all="ignore"):
        expected = cast(np.rint(x / quantum) * quantum, dtype)
    same_bits(run_convert(kernel, x, dtype), expected)


@half
def test_common_helpers_round_alike(kernel, dtype):
    x = hard_floats(dtype)
    narrow, wide = np.empty(x.shape, dtype), np.empty(x.shape, "f4")
    run = kernel("scalars.cu", "through_helpers", (cuda_type(dtype),))
    run(grid=16, block=256, args=(x, narrow, wide, x.size))
    same_bits(narrow, cast(x, dtype))
    same_bits(wide, cast(cast(x, dtype), "f4"))


@half
def test_half_arithmetic(kernel, dtype, rng):
    a, b = (rng.integers(0, 65536, 200_000).astype("u2").view(dtype) for _ in range(2))
    n = a.size
    out, compared = np.empty((6, n), dtype), np.empty((3, n), bool)
    kernel("scalars.cu", "arithmetic", (cuda_type(dtype),))(
        grid=64, block=256, args=(a, b, out, compared, n)
    )
    x, y = cast(a, "f4"), cast(b, "f4")
    with np.errstate(all="ignore"):
        total = cast(cast(x + y, dtype), "f4")
        for row, value in zip(out, [x + y, x - y, x * y, x / y, -x, total * y], strict=True):
            same_bits(row, cast(value, dtype))
    np.testing.assert_array_equal(compared, [x < y, x == y, x >= y])


def hard_halves(dtype, rng):
    """Zeros, the least and greatest of every kind, infinity, NaN, and 100 others."""
    near = {"f2": [1, 0x3FF, 0x400, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF, 0x7C00, 0x7E00]}.get(
        dtype.str[1:], [1, 0x7F, 0x80, 0x3F7F, 0x3F80, 0x3F81, 0x7F7F, 0x7F80, 0x7FC0]
    )
    bits = np.array([0, *near, *rng.integers(0, 0x8000, 50)], "u2")
    return np.concatenate([bits, bits | 0x8000]).view(dtype)


@half
def test_half_arithmetic_of_every_half_with_hard_ones(kernel, dtype, rng):
    every, hard = all_halves(dtype), hard_halves(dtype, rng)
    a, b = np.tile(every, hard.size // 4), np.repeat(hard[: hard.size // 4 * 4 : 4], every.size)
    n = a.size
    out, compared = np.empty((6, n), dtype), np.empty((3, n), bool)
    kernel("scalars.cu", "arithmetic", (cuda_type(dtype),))(
        grid=64, block=256, args=(a, b, out, compared, n)
    )
    x, y = cast(a, "f4"), cast(b, "f4")
    with np.errstate(all="ignore"):
        for row, value in zip(out, (x + y, x - y, x * y, x / y), strict=False):
            same_bits(row, cast(value, dtype))
    np.testing.assert_array_equal(compared, [x < y, x == y, x >= y])


def round_once(exact, dtype):
    """Rounds fractions to a 16-bit float, to nearest even."""
    digits, least = (10, -24) if dtype == "f2" else (7, -133)
    rounded = []
    for value in exact:
        exponent = least
        if value:  # the exponent of the leading bit, less the digits after it
            top = abs(value)
            lead = top.numerator.bit_length() - top.denominator.bit_length()
            lead -= top < Fraction(2) ** lead
            exponent = max(lead - digits, least)
        rounded.append(float(round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent))
    return np.array(rounded)


@half
def test_half_functions(kernel, dtype, rng):
    hard = hard_halves(dtype, rng)
    a, b, c = rng.choice(hard, (3, 4000))
    out = np.empty((17, a.size), dtype)
    pair = {"__half": "__half2", "__nv_bfloat16": "__nv_bfloat162"}[cuda_type(dtype)]
    run = kernel("scalars.cu", "half_functions", (cuda_type(dtype), pair))
    run(grid=4, block=256, args=(a, b, c, out, a.size))
    x, y, z = (cast(v, "f8") for v in (a, b, c))

    def fused(x, y, z):
        with np.errstate(all="ignore"):
            result = x * y + z
            finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(z) & (result != 0)
            parts = zip(x[finite], y[finite], z[finite], strict=True)
            exact = [Fraction(p) * Fraction(q) + Fraction(r) for p, q, r in parts]
            result[finite] = np.copysign(round_once(exact, dtype), result[finite])
        return cast(result, dtype)

    with np.errstate(all="ignore"):
        most, least = np.fmax(x, y), np.fmin(x, y)
        zero = (x == 0) & (y == 0)
        most[zero & ~(np.signbit(x) & np.signbit(y))] = 0.0
        least[zero & (np.signbit(x) | np.signbit(y))] = -0.0
        roots = np.sqrt(x)
        expected = [fused(x, y, z), most, least, np.abs(x), roots, x + y, y + z, x * y, y * z]
        expected += [x - y, y - z, fused(x, y, z), fused(y, z, x)]
    for row, value in zip(out, expected, strict=False):
        same_bits(row, cast(value, dtype))
    for row, twin in ((13, 1), (15, 2)):
        same_bits(out[row], out[twin])


@pytest.mark.parametrize(
    "dtype", ["i4", "u4", "u8", "f4", "f8", "f2", BFLOAT16], ids=lambda d: np.dtype(d).name
)
def test_atomic_add(kernel, any_order, dtype):
    total, out = np.zeros(1, dtype), np.empty(20, dtype)
    kernel("scalars.cu", "atomic_adds", (cuda_type(dtype),))(grid=1, block=20, args=(total, out))
    assert float(total[0]) == 190  # exact in every type
    before, after = out.astype("i8"), out.astype("i8") + np.arange(20)
    assert sorted([0, *after]) == sorted([*before, 190])  # each thread found what another one left


@half
def test_atomic_add_of_pairs(kernel, dtype):
    total = np.zeros(2, dtype)
    name = {"__half": "__half2", "__nv_bfloat16": "__nv_bfloat162"}[cuda_type(dtype)]
    kernel("scalars.cu", "atomic_pairs", (name,))(grid=1, block=20, args=(total,))
    assert total.tolist() == [20, 190]


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_atomic_min_and_max(kernel, any_order, dtype):
    x = (np.arange(50) * 37 % 50 + (0 if dtype[0] == "u" else -25)).astype(dtype)
    least, greatest = x[:1].copy(), x[:1].copy()
    run = kernel("scalars.cu", "atomic_orders", (cuda_type(dtype),))
    run(grid=1, block=50, args=(least, greatest, x))
    assert (least[0], greatest[0]) == (x.min(), x.max())


def test_atomic_words(kernel, any_order):
    words = np.array([0, 2**32 - 1, 0, 100, 5, 5, 99, 1], "u4")
    kernel("scalars.cu", "atomic_words")(grid=1, block=20, args=(words,))
    bits = 2**20 - 1
    last = {"forward": 19, "reverse": 0}.get(any_order, words[6])
    expected = [bits, 2**32 - 1 - bits, bits, 60, 5, 5, last, 3**20 % 2**32]
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_functions(kernel, dtype):
    x = np.linspace(0.05, 3.9, 500).astype(dtype)
    y = np.empty((18, x.size), dtype)
    kernel("scalars.cu", "functions", (cuda_type(dtype),))(grid=2, block=256, args=(x, y, x.size))
    v = x.astype("f8")
    expected = [
        *(np.exp(v), np.expm1(v), np.log(v), np.log1p(v), np.sqrt(v), v**-0.5, np.tanh(v)),
        *(special.erf(v), np.sin(v), np.cos(v), special.gammaln(v), v**1.5, np.cbrt(v)),
        *(np.floor(v), np.rint(v), v, special.erfinv((x / 4).astype("f8")), special.ndtr(v)),
    ]
    np.testing.assert_allclose(y, expected, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


def test_inverse_erf_in_the_tails(kernel):
    tails = 1 - np.ldexp(1.0, np.arange(-53, -1))
    x = np.concatenate([tails, -tails, [0.0, 1e-300, 1.0, -1.0, 1.5]])
    y = np.empty_like(x)
    kernel("scalars.cu", "inverse_erf", ("double",))(grid=1, block=x.size, args=(x, y))
    np.testing.assert_allclose(y, special.erfinv(x), rtol=1e-14)


def test_fast_functions(kernel):
    x = np.linspace(0.05, 3.9, 500).astype("f4")
    y = np.empty((11, x.size), "f4")
    kernel("scalars.cu", "fast_functions")(grid=2, block=256, args=(x, y, x.size))
    v = x.astype("f8")
    expected = [
        *(np.exp(v), np.log(v), v / 3, v**-0.5, special.erf(v), np.tanh(v), v * v + 1),
        *(np.minimum(v, 1), np.maximum(v, 1), np.clip(v, 0, 1), 10**v),
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


def test_bit_functions(kernel, rng):
    a, b = (rng.integers(0, 2**32, 300, dtype="u8") for _ in range(2))
    a[:3] = [0, 1, 2**31]
    out = np.empty((11, 300), "u4")
    args = (a.astype("u4"), b.astype("u4"), out, 300)
    kernel("scalars.cu", "bit_functions")(grid=2, block=256, args=args)
    signed = a.astype("u4").view("i4").astype("i8") * b.astype("u4").view("i4").astype("i8") >> 32
    both = [int(y) << 32 | int(x) for x, y in zip(a, b, strict=True)]
    expected = [
        *(a * b >> 32, np.bitwise_count(a), [32 - int(x).bit_length() for x in a]),
        [(int(x) & -int(x)).bit_length() for x in a],
        [int(f"{int(x):032b}"[::-1], 2) for x in a],
        [(x << 5 >> 32) % 2**32 for x in both],
        [(x >> 5) % 2**32 for x in both],
        *(a, np.minimum(a, b), np.maximum(a, b), signed.astype("u4")),
    ]
    np.testing.assert_array_equal(out, np.array([np.asarray(row, "u8") for row in expected]))


def test_wide_products(kernel, rng):
    a, b = (rng.integers(0, 2**64, 32, dtype="u8") for _ in range(2))
    out = np.empty(32, "u8")
    kernel("scalars.cu", "wide_products")(grid=1, block=32, args=(a, b, out))
    assert out.tolist() == [int(x) * int(y) >> 64 for x, y in zip(a, b, strict=True)]


def test_vector_types(kernel):
    x, y = np.arange(64, dtype="f4"), np.empty(64, "f4")
    kernel("scalars.cu", "vector_types")(grid=1, block=16, args=(x, y))
    np.testing.assert_array_equal(y, x.reshape(-1, 4)[:, ::-1].ravel())
