"""Convolutions against Keras, the definition written as loops, and themselves in other layouts."""

import itertools

import keras
import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.errors import ArgumentError, ShapeError
from gpunet.ops.convolution import conv_primitive
from gpunet.testing import assert_close, check_gradients

LAST, FIRST = "channels_last", "channels_first"
# Shape of the inputs (channels last) and of the kernel; strides, padding, format, dilation.
CONV = [
    ((2, 9, 3), (3, 3, 4), 2, "same", LAST, 1),
    ((2, 9, 3), (2, 3, 4), 1, "valid", FIRST, 3),
    ((2, 7, 6, 4), (3, 2, 2, 6), (2, 1), "same", FIRST, 1),
    ((2, 8, 7, 3), (3, 3, 3, 5), 1, "same", LAST, (2, 1)),
    ((2, 8, 7, 3), (2, 3, 3, 5), (1, 2), "VALID", LAST, 1),
    ((2, 8, 7, 3), (4, 1, 1, 6), 3, "same", LAST, 1),
    ((1, 5, 6, 4, 2), (2, 3, 1, 2, 3), (1, 2, 1), "same", LAST, 1),
]
DEPTHWISE = [
    ((2, 9, 3), (3, 3, 2), 2, "same", LAST, 1),
    ((2, 7, 6, 4), (3, 2, 4, 1), 1, "valid", FIRST, (1, 2)),
    ((2, 7, 6, 4), (3, 3, 4, 3), (2, 2), "same", LAST, 1),
]
# The same, with the output padding before the format.
TRANSPOSED = [
    ((2, 5, 3), (3, 4, 3), 2, "same", None, LAST, 1),
    ((2, 5, 3), (2, 4, 3), 3, "valid", None, LAST, 1),
    ((2, 5, 4, 3), (3, 2, 4, 3), (2, 1), "valid", None, FIRST, 1),
    ((2, 5, 4, 3), (4, 3, 2, 3), (2, 3), "same", None, LAST, 1),
    ((2, 5, 4, 3), (3, 3, 2, 3), 2, "same", 1, LAST, 1),
    ((2, 5, 4, 3), (4, 3, 2, 3), (2, 3), "valid", (1, 2), LAST, 1),
    ((2, 5, 4, 3), (3, 2, 2, 3), 1, "same", None, LAST, 2),
    ((1, 3, 4, 2, 2), (2, 3, 2, 1, 2), (2, 1, 2), "same", None, LAST, 1),
]


def made(rng, shape, kernel, data_format=LAST):
    x = rng.standard_normal(shape).astype("float32")
    x = np.moveaxis(x, -1, 1).copy() if data_format == FIRST else x
    return x, rng.standard_normal(kernel).astype("float32")


def compare(name, inputs, **options):
    expected = getattr(keras.ops, name)(*inputs, **options)
    y = getattr(ops, name)(*inputs, **options)
    assert y.dtype == "float32"
    assert_close(y, keras.ops.convert_to_numpy(expected), "float32")


@pytest.mark.parametrize(("shape", "kernel", "strides", "padding", "data_format", "rate"), CONV)
def test_conv_is_that_of_keras(rng, shape, kernel, strides, padding, data_format, rate):
    options = {"strides": strides, "padding": padding, "dilation_rate": rate}
    compare("conv", made(rng, shape, kernel, data_format), data_format=data_format, **options)


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "padding", "data_format", "rate"), DEPTHWISE
)
def test_depthwise_conv_is_that_of_keras(rng, shape, kernel, strides, padding, data_format, rate):
    inputs = made(rng, shape, kernel, data_format)
    options = {"strides": strides, "padding": padding, "dilation_rate": rate}
    compare("depthwise_conv", inputs, data_format=data_format, **options)


@pytest.mark.parametrize("data_format", [LAST, FIRST])
def test_separable_conv_is_that_of_keras(rng, data_format):
    x, depthwise = made(rng, (2, 7, 6, 3), (3, 3, 3, 2), data_format)
    pointwise = rng.standard_normal((1, 1, 6, 4)).astype("float32")
    options = {"strides": 2, "padding": "same", "data_format": data_format}
    compare("separable_conv", (x, depthwise, pointwise), **options)


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "padding", "extra", "data_format", "rate"), TRANSPOSED
)
def test_conv_transpose_is_that_of_keras(
    rng, shape, kernel, strides, padding, extra, data_format, rate
):
    options = {"padding": padding, "output_padding": extra, "dilation_rate": rate}
    inputs = made(rng, shape, kernel, data_format)
    compare("conv_transpose", inputs, strides=strides, data_format=data_format, **options)


def by_definition(x, kernel, strides, before, dilation, groups, counts):
    """The sums that define a convolution, one number at a time."""
    window, (c, o) = kernel.shape[:-2], kernel.shape[-2:]
    y = np.zeros((x.shape[0], *counts, o))
    for place in itertools.product(*map(range, counts)):
        for tap in itertools.product(*map(range, window)):
            at = [
                p * s + t * d - b
                for p, s, t, d, b in zip(place, strides, tap, dilation, before, strict=True)
            ]
            if all(0 <= a < n for a, n in zip(at, x.shape[1:-1], strict=True)):
                for f in range(o):
                    group = f // (o // groups)
                    part = x[(slice(None), *at, slice(group * c, group * c + c))]
                    y[(slice(None), *place, f)] += part @ kernel[(*tap, slice(None), f)]
    return y


@pytest.mark.parametrize("seed", range(12))
def test_conv_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    window, strides, dilation = [tuple(map(int, rng.integers(1, 4, rank))) for _ in range(3)]
    sizes, before = (
        tuple(map(int, rng.integers(5, 9, rank))),
        tuple(map(int, rng.integers(0, 3, rank))),
    )
    c, o = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    x = rng.standard_normal((2, *sizes, c))
    kernel = rng.standard_normal((*window, c // groups, o))
    padding = tuple((b, 1) for b in before)
    attributes = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    y = conv_primitive(gpunet.tensor(x), gpunet.tensor(kernel), **attributes)
    expected = by_definition(x, kernel, strides, before, dilation, groups, y.shape[1:-1])
    assert_close(y, expected, "float64")


@pytest.mark.parametrize(
    ("op", "shape"),
    [(ops.conv, (3, 3, 16, 8)), (ops.conv, (3, 3, 16, 48)), (ops.depthwise_conv, (3, 3, 16, 2))],
)
def test_more_samples_than_a_block_holds(rng, op, shape):
    """Blocks of samples, the last one shorter, give what the samples one by one give."""
    x, kernel = made(rng, (37, 20, 20, 16), shape)
    pull = gpunet.value_and_grad(lambda a, k: ops.sum(ops.square(op(a, k, 1, "same"))), (0, 1))
    value, (gx, gk) = pull(x, kernel)
    values, parts = zip(*[pull(x[i : i + 1], kernel) for i in range(37)], strict=True)
    assert_close(value, np.sum(values), "float32")
    assert_close(gx, np.concatenate([p[0].numpy() for p in parts]), "float32")
    assert_close(gk, np.sum([p[1].numpy() for p in parts], 0), "float32")


def test_causal_padding_reads_nothing_that_comes_later(rng):
    x, kernel = made(rng, (1, 8, 2), (3, 2, 4))
    y = ops.conv(x, kernel, padding="causal", dilation_rate=2).numpy()
    x[0, 5:] = 0
    again = ops.conv(x, kernel, padding="causal", dilation_rate=2).numpy()
    assert y.shape == (1, 8, 4)
    np.testing.assert_array_equal(y[0, :5], again[0, :5])
    assert (y[0, 5:] != again[0, 5:]).all()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_gradients_of_any_order(rng, name, padding):
    x, kernel = rng.standard_normal((1, 5, 4, 2)), rng.standard_normal((3, 2, 2, 2))
    check_gradients(
        lambda a, k: ops.square(getattr(ops, name)(a, k, 2, padding)),
        [x, kernel],
        order=3,
        tol=1e-5,
    )


def test_integers_become_floats():
    assert ops.conv(np.ones((1, 4, 1), "int32"), np.ones((2, 1, 1), "int32")).dtype == "float32"


def test_shapes_of_keras_tensors():
    x = gpunet.KerasTensor((None, None, 28, 3))
    kernel = np.ones((3, 3, 3, 8), "float32")
    assert ops.conv(x, kernel, 2, "same").shape == (None, None, 14, 8)
    turned = np.ones((3, 3, 8, 3), "float32")
    assert ops.conv_transpose(x, turned, 2, "same").shape == (None, None, 56, 8)


X, K = np.ones((2, 6, 6, 4)), np.ones((3, 3, 4, 6))
ERRORS = [
    (lambda: ops.conv(np.ones((2, 6)), K), ShapeError),
    (lambda: ops.conv(np.ones((2, 6, 6, 6, 6, 4)), K), ShapeError),
    (lambda: ops.conv(X, np.ones((3, 4, 6))), ShapeError),
    (lambda: ops.conv(X, np.ones((3, 3, 3, 6))), ShapeError),
    (lambda: ops.conv(X, np.ones((3, 3, 8, 6))), ShapeError),
    (lambda: ops.conv(X, np.ones((3, 3, 2, 5))), ShapeError),
    (lambda: ops.conv(X, np.ones((3, 3, 0, 5))), ShapeError),
    (lambda: ops.conv(X, np.ones((7, 3, 4, 6))), ShapeError),
    (lambda: ops.conv(X, K, dilation_rate=3), ShapeError),
    (lambda: ops.conv(X, K, data_format="channels_first"), ShapeError),
    (lambda: ops.conv(X, K, data_format="middle"), ArgumentError),
    (lambda: ops.conv(X, K, strides=0), ArgumentError),
    (lambda: ops.conv(X, K, strides=(1, 2, 3)), ArgumentError),
    (lambda: ops.conv(X, K, strides=1.5), ArgumentError),
    (lambda: ops.conv(X, K, dilation_rate=-1), ArgumentError),
    (lambda: ops.conv(X, K, padding="full"), ArgumentError),
    (lambda: ops.conv(X, K, padding=1), ArgumentError),
    (lambda: ops.depthwise_conv(X, np.ones((3, 3, 2, 1))), ShapeError),
    (lambda: ops.separable_conv(X, np.ones((3, 3, 4, 1)), np.ones((1, 1, 3, 2))), ShapeError),
    (lambda: ops.conv_transpose(X, np.ones((3, 3, 4, 6))), ShapeError),
    (lambda: ops.conv_transpose(X, np.ones((3, 3, 6, 4)), padding="causal"), ArgumentError),
    (lambda: ops.conv_transpose(X, np.ones((3, 3, 6, 4)), output_padding=-1), ArgumentError),
]


@pytest.mark.parametrize(("call", "error"), ERRORS)
def test_errors_say_what_was_received(call, error):
    with pytest.raises(error, match="Received: "):
        call()
