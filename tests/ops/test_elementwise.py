"""Elementwise ops: dtypes and values as in Keras, gradients at special points, errors."""

import itertools

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.dtypes import numpy_dtype
from gpunet.errors import DTypeError, ShapeError
from gpunet.testing import check_gradients
from tests.ops.peer import assert_same_as_keras

DTYPES = "bool int8 uint8 int16 uint16 int32 uint32 float16 bfloat16 float32".split()  # noqa: SIM905
SIGNED = ["negative", "absolute", "abs", "sign", "square", "round"]
UNARY = """exp exp2 expm1 sin cos tan arctan sinh cosh tanh arcsinh cbrt sqrt log1p floor ceil trunc
    deg2rad rad2deg isnan isinf isfinite signbit logical_not isposinf isneginf isreal fabs sinc
    nan_to_num real conj""".split()  # noqa: SIM905
BINARY = """add multiply true_divide divide floor_divide mod fmod power maximum minimum fmax fmin
    arctan2 logaddexp logaddexp2 hypot equal not_equal less less_equal greater greater_equal
    logical_and logical_or logical_xor divide_no_nan isclose""".split()  # noqa: SIM905
PROMOTED = ["add", "true_divide", "equal", "logaddexp"]  # one of each way to promote two dtypes
INTEGRAL = ["bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm", "left_shift", "right_shift"]
# JAX without 64 bits gives int32 where these meet; gpunet has int64, which holds both.
WIDER = {frozenset({"uint32", d}) for d in ("int8", "int16", "int32")}


def _values(rng, dtype, low=0):
    return rng.integers(low, 4, 6).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_operand_are_those_of_keras(rng, name):
    for dtype in DTYPES:
        assert_same_as_keras(name, _values(rng, dtype))


@pytest.mark.parametrize("name", SIGNED)
def test_signs_are_those_of_keras(rng, name):
    for dtype in ("int8", "int32", "float16", "bfloat16", "float32"):
        assert_same_as_keras(name, _values(rng, dtype, -3))


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_operands_are_those_of_keras(rng, name):
    for first, second in itertools.product(DTYPES, DTYPES):
        if first == second or "float32" in (first, second):
            assert_same_as_keras(name, _values(rng, first), _values(rng, second, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROMOTED)
def test_dtypes_meet_as_in_keras(rng, name):
    for first, second in itertools.product(DTYPES, DTYPES):
        if frozenset({first, second}) not in WIDER:
            assert_same_as_keras(name, _values(rng, first), _values(rng, second, 1))


@pytest.mark.parametrize("name", INTEGRAL)
def test_functions_of_integers_are_those_of_keras(rng, name):
    for dtype in ("int8", "uint8", "int16", "int32", "uint32"):
        assert_same_as_keras(name, _values(rng, dtype), _values(rng, dtype, 1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8", "int32"])
@pytest.mark.parametrize("scalar", [2, 2.5, True])
def test_python_numbers_take_the_dtype_of_the_tensor(dtype, scalar):
    x = gpunet.tensor([1, 2], dtype)
    expected = "float32" if dtype.startswith("int") and type(scalar) is float else dtype
    assert (x * scalar).dtype.name == (scalar + x).dtype.name == expected


def test_arrays_do_not_follow_like_python_numbers():
    assert (gpunet.tensor([1.0], "float16") * np.float32(2)).dtype.name == "float32"


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: ops.maximum(x, 1.0), 1.0, 0.5),
        (lambda x: ops.minimum(x, 1.0), 1.0, 0.5),
        (lambda x: ops.absolute(x), 0.0, 0.0),
        (lambda x: x**2, 3.0, 6.0),
        (lambda x: x**3, -2.0, 12.0),
        (lambda x: ops.power(x, 0.0), 0.0, 0.0),
        (lambda x: ops.power(2.0, x), 3.0, 8 * np.log(2)),
        (lambda x: ops.clip(x, 0.0, 1.0), 2.0, 0.0),
        (lambda x: ops.where(x > 0, x, 5.0), -1.0, 0.0),
        (lambda x: ops.divide_no_nan(1.0, x), 0.0, 0.0),
        (lambda x: ops.sinc(x), 0.0, 0.0),
        (lambda x: ops.round(x) + ops.floor(x) + ops.sign(x), 1.3, 0.0),
    ],
)
def test_gradients_at_special_points(f, x, expected):
    assert gpunet.grad(f)(x).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["logaddexp2", "sinc"])
def test_gradients_of_what_is_made_of_other_ops(rng, name):
    inputs = [rng.standard_normal((3, 4)) for _ in range(2 if name == "logaddexp2" else 1)]
    check_gradients(getattr(ops, name), inputs)


def test_where_without_choices_gives_indices():
    rows, columns = ops.where([[0, 1], [2, 0]])
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


@pytest.mark.parametrize(
    ("x", "low", "high", "expected"),
    [
        ([1, 5, 9], 2, None, [2, 5, 9]),
        ([1, 5, 9], None, 6, [1, 5, 6]),
        ([1, 5, 9], None, None, [1, 5, 9]),
        ([True, False], 0, 5, [1, 0]),
        ([1.0, 5.0], [2.0, 6.0], 9.0, [2.0, 6.0]),
    ],
)
def test_clip(x, low, high, expected):
    assert ops.clip(x, low, high).tolist() == expected


def test_integers_limited_by_floats_become_floats():
    assert_same_as_keras("clip", np.array([1, 5], "int32"), 1.5, 4.5)


def test_saturate_cast_stops_at_the_limits():
    x = np.array([-np.inf, -1e9, -3.0, 0.5, 300.0, 1e9, np.inf], "float32")
    for dtype, limits in (("uint8", (0, 255)), ("int8", (-128, 127)), ("int32", None)):
        y = ops.saturate_cast(x, dtype)
        low, high = limits or (-(2**31), 2147483520)
        assert y.tolist() == np.clip(x, low, high).astype("int64").tolist()
    assert ops.saturate_cast(np.array([1e9], "float32"), "float16").tolist() == [65504.0]
    assert ops.saturate_cast(np.array([-5, 300], "int32"), "uint8").tolist() == [0, 255]


def test_infinities_and_nan_are_replaced():
    x = np.array([np.nan, np.inf, -np.inf, 1.0], "float32")
    assert ops.nan_to_num(x, nan=3, posinf=4, neginf=5).tolist() == [3.0, 4.0, 5.0, 1.0]
    for dtype in ("float16", "bfloat16", "float32"):
        assert_same_as_keras("nan_to_num", x.astype(numpy_dtype(dtype)))


@pytest.mark.parametrize("equal_nan", [False, True])
def test_closeness_is_that_of_numpy(equal_nan):
    a = np.array([1.0, 1.0, np.nan, np.inf, np.inf, np.inf, 0.0])
    b = np.array([1.000001, 1.1, np.nan, np.inf, -np.inf, 1.0, 1e-9])
    expected = np.isclose(a, b, equal_nan=equal_nan)
    np.testing.assert_array_equal(ops.isclose(a, b, equal_nan=equal_nan), expected)
    assert bool(ops.allclose(a[:1], b[:1])) and not bool(ops.allclose(a, b))


def test_array_equal_compares_shapes_too():
    assert bool(ops.array_equal([1, 2], [1, 2]))
    assert not bool(ops.array_equal([1, 2], [1, 3]))
    assert not bool(ops.array_equal([1, 2], [[1, 2]]))


def test_select_takes_the_first_that_holds():
    x = np.arange(5, dtype="int32")
    assert_same_as_keras("select", [x < 2, x < 4], [x, x * 10], 7)
    with pytest.raises(ValueError, match="conditions=1, choices=2"):
        ops.select([x < 2], [x, x])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.add([1, 2], [1, 2, 3]), ShapeError, r"\(2,\) int32, \(3,\) int32"),
        (lambda: ops.cast([1.0], "float12"), DTypeError, "dtype='float12'"),
        (lambda: ops.add("a", 1), DTypeError, "numbers"),
        (lambda: ops.bitwise_and([1.5], [2.5]), DTypeError, "bitwise_and"),
    ],
)
def test_errors_name_what_was_received(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_int_and_a_uint32_make_an_int64():
    x, y = gpunet.tensor([1], "int32"), gpunet.tensor([2], "uint32")
    assert (x + y).dtype.name == "int64"


def test_shapes_of_functional_models():
    x = gpunet.KerasTensor((None, 3))
    y = ops.where(ops.isnan(x), 0, ops.power(x, 2) + 1)
    assert (y.shape, y.dtype) == ((None, 3), "float32")
