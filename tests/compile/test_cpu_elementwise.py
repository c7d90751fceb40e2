"""C++ kernels that work element by element, reduce and copy: every float, dtype and layout."""

import itertools
import math

import numpy as np
import pytest

from gpunet.backend import native
from gpunet.core.primitive import REGISTRY
from tests.compile.test_cpu_kernels import launch, operand

if reason := native.reason_missing():
    pytest.fail(f"C++ kernels cannot be tested here: {reason}", pytrace=False)

DTYPES = [np.dtype(t) for t in ("float32", "float64", "int32", "int64")]


def made(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype) == bool:
        return rng.random(shape) < 0.5
    return (rng.normal(size=shape) * 20).astype(dtype)


def layouts(x):
    """The array, transposed in memory, with gaps, and back to front."""
    yield x
    yield np.asfortranarray(x)
    gaps = np.zeros(tuple(2 * n for n in x.shape), x.dtype)[(slice(None, None, 2),) * x.ndim]
    gaps[...] = x
    yield gaps
    yield np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def expected(name, inputs, attributes):
    y = REGISTRY[name].rules["array"](np, *inputs, **attributes)
    return [np.asarray(part) for part in (y if isinstance(y, tuple) else (y,))]


def check(name, *inputs, rtol=0.0, **attributes):
    found = launch(name, inputs, attributes)
    assert found is not None
    for y, reference in zip(found, expected(name, inputs, attributes), strict=True):
        assert y.dtype == reference.dtype
        np.testing.assert_allclose(y, reference, rtol=rtol, atol=0)


# -- elementary functions --------------------------------------------------------------------------

LIMITS = {  # units in the last place
    **{"exp": 1.2, "expm1": 1.5, "log": 0.9, "log1p": 1.5, "tanh": 2.5, "sigmoid": 2.4},
    **{"erf": 1.4, "softplus": 1.9},
}


def exact(name, x):
    if name == "erf":
        return np.array([math.erf(v) for v in x.tolist()])
    if name == "sigmoid":
        return np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-np.abs(x)))
    if name == "softplus":
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return getattr(np, name)(x)


@pytest.mark.parametrize("name", LIMITS)
def test_elementary_functions_are_right_to_the_last_places(name):
    step = 40009 if name == "erf" else 4099
    bits = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 88.7, -103.9, -87.5]
    near = (np.random.default_rng(0).normal(size=10**5) * 3).astype(np.float32)
    x = np.concatenate([bits.view(np.float32), np.array(special, np.float32), near])
    with np.errstate(all="ignore"):
        y = launch(name, [x], {})[0]
        reference = exact(name, x.astype(np.float64))
        rounded = reference.astype(np.float32)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(reference))
        np.testing.assert_array_equal(np.isinf(y), np.isinf(rounded))
        smallest = np.finfo(np.float32).tiny
        denormal = (np.abs(rounded) < smallest) & (rounded != 0)  # programs flush these to zero
        assert (np.abs(y[denormal]) <= smallest).all()
        signs = ~np.isnan(reference) & ~denormal
        np.testing.assert_array_equal(np.signbit(y[signs]), np.signbit(rounded[signs]))
        finite = np.isfinite(rounded) & ~denormal
        error = np.abs(y[finite] - reference[finite]) / np.spacing(np.abs(rounded[finite]))
    assert error.max() <= LIMITS[name]


# -- dtypes and layouts ----------------------------------------------------------------------------

# One row repeated, one column repeated, one element, rows shorter and longer than a block, both.
BROADCASTS = [
    ((3, 5, 40), (40,)),
    ((70, 100), (70, 1)),
    ((70, 9), (70, 1)),
    ((2, 1500), (1500,)),
    ((7, 1, 6), (4, 1)),
    ((33, 3, 70), (33, 1, 1)),
    ((130, 300), ()),
    ((130, 300), (300,)),
    ((), ()),
    ((0, 3), (3,)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape1", "shape2"), BROADCASTS, ids=str)
def test_operands_of_any_layout_broadcast(dtype, shape1, shape2):
    x1, x2 = made(shape1, dtype), made(shape2, dtype, 1)
    for a, b in itertools.product(layouts(x1), layouts(x2)) if x1.ndim and x2.ndim else [(x1, x2)]:
        for name in ("subtract", "maximum", "less"):
            check(name, a, b)
            check(name, b, a)
        check("where", a > 0, a, b)
        check("clip", a, b, b + dtype.type(3))


@pytest.mark.parametrize("name", ["add", "multiply", "relu_grad", "minimum", "equal"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operands_of_every_dtype(name, dtype):
    check(name, made((40, 50), dtype), made((40, 50), dtype, 1))


@pytest.mark.parametrize("name", ["negative", "absolute", "sign", "square", "relu", "relu6"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_operand_of_every_dtype(name, dtype):
    check(name, made((40, 50), dtype))


@pytest.mark.parametrize(
    ("source", "target"),
    list(itertools.permutations([*DTYPES, np.dtype(bool), np.dtype(np.uint8)], 2)),
    ids=str,
)
def test_casts(source, target):
    x = np.abs(made((3, 700), source)) if target == np.uint8 else made((3, 700), source)
    for given in layouts(x):
        check("cast", given, dtype=target)


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_nan_wins_or_loses(name):
    x1, x2 = np.meshgrid([np.nan, -np.inf, -1.0, 1.0, np.inf], [np.nan, -1.0, 2.0])
    check(name, x1.astype(np.float32), x2.astype(np.float32))


@pytest.mark.parametrize("name", ["relu", "sign", "isnan", "isinf", "isfinite"])
def test_infinities_and_nan(name):
    check(name, np.array([np.nan, np.inf, -np.inf, 3, -3, 0] * 9, np.float32))


@pytest.mark.parametrize("name", ["add", "equal", "tanh", "where"])
def test_result_may_take_the_place_of_an_operand(name):
    inputs = {
        "where": [made((300, 70), bool), made((300, 70), "float32"), made((70,), "float32")],
        "tanh": [made((300, 70), "float32")],
    }.get(name, [made((300, 70), "float32"), made((300, 1), "float32")])
    outputs = expected(name, inputs, {})
    rule = REGISTRY[name].rules["native"]
    plan = rule([operand(x) for x in inputs], [operand(y) for y in outputs])
    assert bool(plan.in_place) == (name != "equal")
    for _, i in plan.in_place:
        given = [x.copy() for x in inputs]
        assert native.call(plan, given, [given[i]]) == 0
        np.testing.assert_allclose(given[i], outputs[0], rtol=1e-6)


# -- reductions ------------------------------------------------------------------------------------

# Long rows, long columns, narrow ones, several stages, wide ones, many outer ones.
REDUCTIONS = [
    ((200000,), None),
    ((3, 50000), (1,)),
    ((50000, 3), (0,)),
    ((2000, 100), (0,)),
    ((20, 30, 40, 5), (0, 2)),
    ((40, 7, 300), (0, 2)),
    ((4, 9000), (0,)),
    ((5, 300, 40), (1,)),
    ((700, 11), (1,)),
    ((5, 1, 3), (1,)),
    ((0, 3), (0,)),
]


@pytest.mark.parametrize(("shape", "axis"), REDUCTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_are_accurate(shape, axis, dtype):
    x = made(shape, dtype)
    wide = x.astype(np.longdouble)
    size = np.abs(wide).sum(axis)
    count = max(1, x.size // size.size)
    for name, divisor in (("sum", 1), ("mean", count)):
        if name == "sum" or x.size:
            y = launch(name, [x], {"axis": axis, "keepdims": False})[0]
            error = np.abs(y - wide.sum(axis) / divisor)
            assert np.all(error <= 40 * np.finfo(dtype).eps * size / divisor)


@pytest.mark.parametrize(("shape", "axis"), REDUCTIONS[:-1], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extrema_and_where_they_are(shape, axis, dtype):
    x = made(shape, dtype)
    for name in ("max", "min"):
        check(name, x, axis=axis, keepdims=False)
        if axis is None or len(axis) == 1:
            check(f"arg{name}", x, axis=axis and axis[0], keepdims=True)
    if dtype.kind == "f":
        x.reshape(-1)[x.size // 2] = np.nan
        check("max", x, axis=axis, keepdims=True)
        if axis is None or len(axis) == 1:
            check("argmax", x, axis=axis and axis[0], keepdims=False)
            check("argmin", x, axis=axis and axis[0], keepdims=False)
    else:
        check("sum", x, axis=axis, keepdims=False)


@pytest.mark.parametrize(("shape", "axis"), REDUCTIONS, ids=str)
def test_logic_along_axes(shape, axis):
    x = made(shape, bool)
    for name in ("any", "all"):
        check(name, x, axis=axis, keepdims=False)
        check(name, np.full_like(x, name == "all"), axis=axis, keepdims=False)
    if axis is None or len(axis) == 1:
        check("sum", x, axis=axis, keepdims=False)


@pytest.mark.parametrize("shape", [(3, 1000), (70, 65), (2, 4100)], ids=str)
def test_variance_and_logsumexp_of_rows(shape):
    for dtype, rtol in (("float32", 3e-6), ("float64", 1e-13)):
        check("var", made(shape, dtype), axis=(1,), keepdims=False, rtol=rtol)
        check("logsumexp", made(shape, dtype), axis=(1,), keepdims=False, rtol=rtol)
    endless = np.full((2, 5), -np.inf, np.float32)
    endless[1, 2] = np.inf
    with np.errstate(divide="ignore"):
        check("logsumexp", endless, axis=(1,), keepdims=False)


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "float16", "int32", "float64"])
@pytest.mark.parametrize("axes", [(1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)], ids=str)
@pytest.mark.parametrize("shape", [(5, 37, 18), (40, 3, 33), (16, 32, 48)], ids=str)
def test_transposes_of_every_size(dtype, axes, shape):
    for x in layouts(made(shape, dtype)):
        check("transpose", x, axes=axes)


@pytest.mark.parametrize("dtype", ["bool", "float16", "int32", "float64"])
def test_joining_cutting_and_padding(dtype):
    for x in layouts(made((6, 30, 9), dtype)):
        check("concatenate", x, x[:, :2], x, axis=1)
        check("stack", x, x, x, axis=3)
        check("split", x, axis=1, sizes=(0, 20, 10))
        check("unstack", x, axis=2)
        check("broadcast_to", x[:, :1], shape=(2, 6, 3, 9))
        check("get_item", x, key=(None, -1, (None, None, -3), (8, 1, -2)))
        check("put_item", x, key=((1, 19, 3), 2, (29, None, -1)), shape=(20, 4, 31, 9))
        if dtype != "float16":
            check("pad", x, widths=((0, 1), (2, 0), (3, 3)), value=1)


def test_large_copies_are_shared_by_threads():
    x = made((600, 500), "float32")
    check("transpose", x, axes=(1, 0))
    check("concatenate", x, x, axis=1)
    check("pad", x, widths=((1, 1), (1, 1)), value=-0.5)


def test_denormal_results_are_zero():
    """Else training slows down as gradients and slots of optimizers vanish."""
    x = np.full(100_000, 1e-30, np.float32)  # enough for two threads
    assert not launch("multiply", [x, x], {})[0].any()
    assert np.float32(1e-30) * np.float32(1e-10) > 0  # elsewhere they are not flushed
    old = np.full(100_000, 1e-40, np.float32)
    assert (launch("add", [old, x], {})[0] == x).all()
