"""Activations: values, gradients, names and configs against Keras."""

import inspect

import keras
import numpy as np
import pytest

import gpunet
from gpunet import activations

FUNCTIONS = sorted(f.__name__ for f in activations._ALL)
OPTIONS = {
    "threshold": [{"threshold": 0.5, "default_value": 0.1}],
    "relu": [
        {"negative_slope": 0.1},
        {"max_value": 1.0},
        {"max_value": 6},
        {"threshold": 0.5},
        {"negative_slope": 0.1, "max_value": 1.0, "threshold": 0.5},
        {"negative_slope": 0.2, "threshold": 0.5},
        {"negative_slope": 0.2, "max_value": 1.5},
    ],
    "leaky_relu": [{"negative_slope": 0.3}],
    "elu": [{"alpha": 0.5}],
    "celu": [{"alpha": 0.5}],
    "gelu": [{"approximate": True}],
    "softmax": [{"axis": 0}],
    "log_softmax": [{"axis": 0}],
    "glu": [{"axis": 0}],
    "soft_shrink": [{"threshold": 0.2}],
    "hard_shrink": [{"threshold": 0.2}],
    "squareplus": [{"b": 2}],
}
# Keras 3.15's sparsemax is wrong for more than one row: its rows do not sum to 1.
ROWS = [(name, {}) for name in FUNCTIONS if name not in ("threshold", "sparsemax")]
ROWS += [(name, options) for name in OPTIONS for options in OPTIONS[name]]


@pytest.mark.parametrize(("name", "options"), ROWS)
def test_values_and_gradients_equal_those_of_keras(name, options, rng):
    import jax

    x = (rng.standard_normal((4, 6)) * 2).astype("float32")
    f, g = getattr(activations, name), getattr(keras.activations, name)
    np.testing.assert_allclose(f(x, **options) + 0, g(x, **options), rtol=1e-5, atol=2e-6)
    weights = rng.standard_normal(np.shape(g(x, **options))).astype("float32")
    gradient = gpunet.grad(lambda y: gpunet.ops.sum(f(y, **options) * weights))(gpunet.tensor(x))
    wanted = jax.grad(lambda y: keras.ops.sum(g(y, **options) * weights))(x)
    np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_names_are_those_of_keras(name):
    f, g = getattr(activations, name), getattr(keras.activations, name)
    assert activations.get(name) is f
    assert activations.serialize(f) == keras.activations.serialize(g) == name
    assert activations.deserialize(name) is f
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(x).parameters.values()] for x in (f, g)
    )
    assert ours == theirs


def test_get():
    def own(x):
        return x

    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu is activations.swish
    assert activations.get("hard_swish") is activations.hard_silu
    assert activations.get(own) is own
    with gpunet.saving.custom_object_scope({"own": own}):
        assert activations.get("own") is own
        assert activations.get(activations.serialize(own)) is own
    with pytest.raises(gpunet.errors.ArgumentError, match=r"relu.*Received"):
        activations.get("rellu")
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        activations.get(3)


def test_linear_is_the_input_itself():
    x = gpunet.tensor([1.0])
    assert activations.linear(x) is x


def test_symbolic():
    assert activations.relu(gpunet.KerasTensor((None, 3)), max_value=1.0).shape == (None, 3)


def test_sparsemax_is_the_nearest_point_of_the_simplex(rng):
    x = rng.standard_normal((4, 6)).astype("float32")
    y = activations.sparsemax(x).numpy()
    np.testing.assert_allclose(y.sum(-1), 1.0, rtol=1e-6)
    for row, given in zip(y, x, strict=True):
        shift = (given - row)[row > 0]  # the same for all in the support, not less for the others
        np.testing.assert_allclose(shift, shift[0], atol=1e-6)
        assert (given[row == 0] <= shift[0] + 1e-6).all()
