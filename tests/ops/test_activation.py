"""Activations against Keras on JAX: values, gradients, dtypes, large numbers, errors."""

import jax
import keras
import numpy as np
import pytest
import scipy.special

import gpunet
from gpunet.errors import ArgumentError, ShapeError
from gpunet.testing import check_gradients

PLAIN = [
    "relu",
    "relu6",
    "sigmoid",
    "softplus",
    "softsign",
    "soft_shrink",
    "sparse_plus",
    "sparse_sigmoid",
    "silu",
    "swish",
    "squareplus",
    "log_sigmoid",
    "leaky_relu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "elu",
    "selu",
    "gelu",
    "celu",
    "glu",
    "tanh_shrink",
    "hard_tanh",
    "hard_shrink",
]
ROWS = [(name, (), {}) for name in PLAIN] + [
    ("leaky_relu", (), {"negative_slope": 0.5}),
    ("leaky_relu", (), {"negative_slope": 1.5}),
    ("elu", (), {"alpha": 0.3}),
    ("celu", (), {"alpha": 0.3}),
    ("gelu", (), {"approximate": False}),
    ("glu", (), {"axis": 0}),
    ("soft_shrink", (), {"threshold": 1.0}),
    ("hard_shrink", (), {"threshold": 1.0}),
    ("squareplus", (), {"b": 2}),
    ("threshold", (0.5, -3.0), {}),
]


@pytest.fixture
def x(rng):
    return (rng.standard_normal((4, 6)) * 3).astype("float32")


@pytest.mark.parametrize(("name", "args", "kwargs"), ROWS)
def test_equals_keras(name, args, kwargs, x):
    ours, theirs = getattr(gpunet.ops, name), getattr(keras.ops, name)
    y = ours(x, *args, **kwargs)
    np.testing.assert_allclose(y.numpy(), np.asarray(theirs(x, *args, **kwargs)), 2e-6, 1e-6)
    gradient = gpunet.grad(lambda t: (ours(t, *args, **kwargs) ** 2).sum())(x)
    expected = jax.grad(lambda t: (theirs(t, *args, **kwargs) ** 2).sum())(x)
    np.testing.assert_allclose(gradient.numpy(), np.asarray(expected), 1e-4, 1e-4)


@pytest.mark.parametrize(("name", "args", "kwargs"), ROWS)
def test_derivatives_and_dtypes(name, args, kwargs, x):
    f = getattr(gpunet.ops, name)
    check_gradients(lambda t: f(t, *args, **kwargs), [x.astype("float64")])
    for dtype in ("float64", "float16", "bfloat16"):
        assert f(gpunet.tensor(x, dtype=dtype), *args, **kwargs).dtype == dtype
    integers = f(np.arange(-6, 6, dtype="int32"), *args, **kwargs)
    assert integers.dtype == ("int32" if name in ("relu", "relu6") else "float32")


def test_mish(x):
    expected = x * np.tanh(np.log1p(np.exp(x)))
    np.testing.assert_allclose(gpunet.ops.mish(x).numpy(), expected, 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sigmoid", 0, 1),
        ("silu", 0, 1e4),
        ("softplus", 0, 1e4),
        ("log_sigmoid", -1e4, 0),
        ("elu", -1, 1e4),
        ("gelu", 0, 1e4),
        ("mish", 0, 1e4),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_from_zero(name, low, high, dtype):
    f = getattr(gpunet.ops, name)
    y = f(np.array([-1e4, 1e4], dtype)).numpy()
    np.testing.assert_allclose(y, [low, high], 1e-6, 1e-30)
    assert np.isfinite(
        gpunet.grad(lambda t: f(t).sum())(np.array([-1e4, 1e4], dtype)).numpy()
    ).all()


def test_small_sigmoids_keep_their_digits():
    x = np.linspace(-80, -20, 50).astype("float32")
    np.testing.assert_allclose(gpunet.ops.sigmoid(x).numpy(), scipy.special.expit(x), 1e-6)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_sparsemax_is_the_projection_on_the_simplex(axis, rng):
    x = rng.standard_normal((5, 4))
    y = gpunet.ops.sparsemax(x, axis=axis).numpy()
    np.testing.assert_allclose(y.sum(axis), 1, 1e-12)
    assert (y >= 0).all() and (y == 0).any()
    other = np.abs(rng.standard_normal((1000, *x.shape)))
    other /= other.sum(axis if axis < 0 else axis + 1, keepdims=True)
    distance = ((other - x) ** 2).sum(axis if axis < 0 else axis + 1)
    assert (((y - x) ** 2).sum(axis) <= distance + 1e-12).all()
    check_gradients(lambda t: gpunet.ops.sparsemax(t, axis=axis), [x], order=1)


def test_errors():
    with pytest.raises(ShapeError, match=r"even length.*shape=\(3,\)"):
        gpunet.ops.glu([1.0, 2.0, 3.0])
    with pytest.raises(ArgumentError, match="alpha=0"):
        gpunet.ops.celu([1.0], alpha=0)
    for name in ("soft_shrink", "hard_shrink"):
        with pytest.raises(ArgumentError, match="threshold=-1"):
            getattr(gpunet.ops, name)([1.0], threshold=-1)


def test_functional_models_see_shapes():
    x = gpunet.KerasTensor((None, 6))
    assert gpunet.ops.gelu(x).shape == (None, 6)
    assert gpunet.ops.glu(x).shape == (None, 3)
