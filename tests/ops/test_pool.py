"""Pooling against Keras, with its gradients at ties, and its errors."""

import jax
import keras
import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.errors import ArgumentError, ShapeError
from gpunet.testing import assert_close, check_gradients

LAST, FIRST = "channels_last", "channels_first"
# Shape of the inputs, window, strides, padding, format.
POOL = [
    ((2, 7, 3), 2, 2, "valid", LAST),
    ((2, 7, 3), 3, 1, "same", FIRST),
    ((2, 6, 4, 3), 2, 2, "valid", LAST),
    ((2, 6, 7, 3), (3, 2), (2, 1), "same", LAST),
    ((2, 5, 7, 3), 3, 2, "same", FIRST),
    ((2, 6, 5, 3), 2, 3, "valid", LAST),
    ((2, 4, 5, 4, 2), (2, 3, 1), (2, 1, 2), "same", LAST),
]


@pytest.mark.parametrize(("shape", "window", "strides", "padding", "data_format"), POOL)
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_pooling_and_its_gradient_are_those_of_keras(
    rng, name, shape, window, strides, padding, data_format
):
    """The inputs are small integers: many windows hold their largest element twice."""
    x = rng.integers(-2, 2, shape).astype("float32")
    options = {"strides": strides, "padding": padding, "data_format": data_format}
    expected, pull = jax.vjp(lambda a: getattr(keras.ops, name)(a, window, **options), x)
    assert_close(getattr(ops, name)(x, window, **options), expected, "float32")
    g = rng.standard_normal(expected.shape).astype("float32")
    found = gpunet.grad(lambda a: (getattr(ops, name)(a, window, **options) * g).sum())(x)
    assert_close(found, pull(g)[0], "float32")


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 2), (2, 3)])
def test_gradients_of_higher_order(rng, name, window, strides):
    x = rng.permutation(2 * 5 * 6 * 2).reshape(2, 5, 6, 2) * 0.1
    op = getattr(ops, name)
    f = lambda a: ops.square(op(a, window, strides, "same"))  # noqa: E731
    check_gradients(f, [x], order=3, tol=1e-5)


def test_more_samples_than_a_block_holds(rng):
    x = rng.integers(-9, 9, (37, 40, 40, 16)).astype("float32")
    pull = gpunet.grad(lambda a: ops.sum(ops.square(ops.max_pool(a, 2))))
    expected = np.concatenate([pull(x[i : i + 1]).numpy() for i in range(37)])
    np.testing.assert_array_equal(pull(x), expected)


def test_strides_are_the_window_by_default(rng):
    x = rng.standard_normal((1, 6, 6, 2))
    np.testing.assert_array_equal(ops.max_pool(x, (2, 3)), ops.max_pool(x, (2, 3), (2, 3)))


def test_padding_is_neither_the_largest_nor_counted():
    x = -np.ones((1, 3, 1), "float32")
    assert ops.max_pool(x, 2, 2, "same").flatten().tolist() == [-1.0, -1.0]
    assert ops.average_pool(x, 2, 2, "same").flatten().tolist() == [-1.0, -1.0]


def test_the_mean_of_infinities_and_nans_is_theirs():
    x = np.array([np.inf, 1, np.nan, 2], "float32").reshape(1, 4, 1)
    for op in (ops.max_pool, ops.average_pool):
        y = op(x, 2).numpy().ravel()
        assert y[0] == np.inf and np.isnan(y[1])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int8", "bool"])
def test_integers_have_a_largest_but_no_mean(dtype):
    x = np.array([0, 1, 0, 0]).astype(dtype).reshape(1, 4, 1)
    y = ops.max_pool(x, 3, 1, "same")
    assert y.dtype == dtype and y.flatten().tolist() == [1, 1, 1, 0]
    assert ops.average_pool(x, 2).flatten().tolist() == [0.5, 0.0]


def test_half_precision_means_are_summed_in_float32():
    x = gpunet.tensor(np.full((1, 64, 64, 1), 1000.0), dtype="float16")
    assert ops.average_pool(x, 64).item() == 1000.0


def test_shapes_of_keras_tensors():
    x = gpunet.KerasTensor((None, None, 28, 3))
    assert ops.max_pool(x, 2).shape == (None, None, 14, 3)
    assert ops.average_pool(x, 3, 2, "same").shape == (None, None, 14, 3)


X = np.ones((2, 6, 6, 4))
ERRORS = [
    (lambda: ops.max_pool(np.ones((2, 6)), 2), ShapeError),
    (lambda: ops.max_pool(np.ones((2, 2, 2, 2, 2, 2)), 2), ShapeError),
    (lambda: ops.max_pool(X, 7), ShapeError),
    (lambda: ops.average_pool(X, (2, 7)), ShapeError),
    (lambda: ops.max_pool(X, 0), ArgumentError),
    (lambda: ops.max_pool(X, (2, 2, 2)), ArgumentError),
    (lambda: ops.max_pool(X, 2, strides=0), ArgumentError),
    (lambda: ops.max_pool(X, 2, padding="causal"), ArgumentError),
    (lambda: ops.average_pool(X, 2, data_format="first"), ArgumentError),
]


@pytest.mark.parametrize(("call", "error"), ERRORS)
def test_errors_say_what_was_received(call, error):
    with pytest.raises(error, match="Received: "):
        call()
