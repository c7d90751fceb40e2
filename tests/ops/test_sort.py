"""Sorting and searching against NumPy and Keras."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, DTypeError, ShapeError, TraceError
from gpunet.testing import check_gradients
from tests.ops.peer import assert_same_as_keras

DTYPES = ["bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_sorting_keeps_the_order_of_equals(rng, dtype, axis):
    x = rng.integers(0, 4, (5, 9)).astype(gpunet.tensor(0, dtype).dtype)
    assert_same_as_keras("sort", x, axis=axis)
    assert_same_as_keras("argsort", x, axis=axis)


def test_gradients_of_sorting(rng):
    x = rng.permutation(20).reshape(4, 5) * 0.3
    for axis in (0, 1, None):
        check_gradients(lambda t, a=axis: ops.sort(t, a), [x])


@pytest.mark.parametrize("kth", [0, 3, -1])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_argpartition_puts_one_element_in_its_place(rng, kth, axis):
    x = rng.standard_normal((4, 6))
    chosen = ops.take_along_axis(x, ops.argpartition(x, kth, axis), axis).numpy()
    expected = np.take(np.sort(x, axis), kth, axis or 0)
    np.testing.assert_array_equal(np.take(chosen, kth, axis or 0), expected)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("n", "k"), [(5, 2), (5, 5), (300, 7), (300, 200), (64, 1)])
def test_top_k_takes_the_first_of_equals(rng, dtype, n, k):
    """Few different values: most rows have ties at the k-th place."""
    x = rng.integers(0, 40, (3, n)).astype(gpunet.tensor(0, dtype).dtype)
    assert_same_as_keras("top_k", x, k)


def test_top_k_puts_nan_first():
    x = np.full(100, 1.0)
    x[[5, 50]] = np.nan, 3.0
    values, indices = ops.top_k(x, 3)
    assert indices.tolist() == [5, 50, 0] and np.isnan(values.numpy()[0])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_in_top_k(rng, k):
    predictions = rng.integers(0, 4, (20, 5)).astype("float32")
    targets = rng.integers(0, 5, 20).astype("int32")
    assert_same_as_keras("in_top_k", targets, predictions, k)


def test_predictions_that_are_not_finite_are_not_in_top_k():
    predictions = [[np.nan, 1.0], [0.5, np.nan], [np.inf, 1.0]]
    assert ops.in_top_k([0, 0, 0], predictions, 1).tolist() == [False, True, False]


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(rng, side):
    edges = np.array([0.0, 1.0, 1.0, 2.5], "float32")
    x = rng.uniform(-1, 3, (3, 4)).astype("float32")
    assert_same_as_keras("searchsorted", edges, np.array([1.0, 0.0, 9.0], "float32"), side=side)
    np.testing.assert_array_equal(ops.searchsorted(edges, x, side), np.searchsorted(edges, x, side))


def test_digitize(rng):
    x = rng.uniform(-1, 3, (3, 4)).astype("float32")
    assert_same_as_keras("digitize", x, np.array([0.0, 1.0, 2.5], "float32"))
    assert_same_as_keras("digitize", np.array([1, 2, 3], "int32"), np.array([2], "int32"))


@pytest.mark.parametrize("invert", [False, True])
def test_isin(rng, invert):
    x = rng.integers(0, 9, (3, 4)).astype("int32")
    for members in ([2, 5], [], [[1, 1], [7, 9]]):
        members = np.array(members, "int32")
        np.testing.assert_array_equal(
            ops.isin(x, members, invert=invert), np.isin(x, members, invert=invert)
        )
    assert ops.isin([True, False], [True]).tolist() == [True, False]
    assert ops.isin([1.5, np.nan], [1.5, np.nan]).tolist() == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_inverse": True},
        {"return_index": True, "return_counts": True},
        {"axis": 0, "return_inverse": True},
        {"axis": 1},
        {"size": 2},
        {"size": 9, "return_counts": True, "return_index": True},
        {"size": 9, "fill_value": -1},
    ],
)
def test_unique(options):
    x = np.array([[3, 1, 2, 3], [3, 1, 2, 3], [0, 3, 9, 9]], "int32")
    assert_same_as_keras("unique", x, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.top_k(x, 4), ArgumentError, "k=4"),
        (lambda x: ops.top_k(x, -1), ArgumentError, "k=-1"),
        (lambda x: ops.argpartition(x, 3), ArgumentError, "kth=3"),
        (lambda x: ops.sort(x, 2), ArgumentError, "axis=2"),
        (lambda x: ops.in_top_k([0], x, 1), ShapeError, r"targets=\(1,\)"),
        (lambda x: ops.in_top_k([0.0, 1.0], x, 1), DTypeError, "targets"),
        (lambda x: ops.searchsorted(x, x), ShapeError, "one axis"),
        (lambda x: ops.searchsorted(x[0], x, "up"), ArgumentError, "side='up'"),
        (lambda x: trace(ops.unique, x), TraceError, "unique"),
    ],
)
def test_errors_name_what_was_received(call, error, message):
    with pytest.raises(error, match=message):
        call(ops.ones((2, 3)))


def test_shapes_of_functional_models():
    x = gpunet.KerasTensor((None, 9))
    values, indices = ops.top_k(x, 3)
    assert (values.shape, values.dtype) == ((None, 3), "float32")
    assert (indices.shape, indices.dtype) == ((None, 3), "int32")
    assert ops.argsort(x).shape == (None, 9)
