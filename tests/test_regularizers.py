"""Regularizers: values, gradients and configs against Keras; errors."""

import inspect
import json

import keras
import numpy as np
import pytest

import gpunet
from gpunet import regularizers

ROWS = [
    ("L1", {}),
    ("L1", {"l1": 0.3}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("L1L2", {}),
    ("OrthogonalRegularizer", {"factor": 0.5}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]
table = pytest.mark.parametrize(("name", "options"), ROWS)


@table
def test_penalties_equal_those_of_keras(name, options, rng):
    import jax

    x = rng.standard_normal((4, 5)).astype("float32")
    mine, reference = (getattr(m, name)(**options) for m in (regularizers, keras.regularizers))
    theirs = reference(keras.ops.convert_to_tensor(x))
    np.testing.assert_allclose(mine(gpunet.tensor(x)).numpy(), theirs, rtol=1e-5)
    if mine(gpunet.tensor(x)).item():
        gradient = gpunet.grad(mine)(gpunet.tensor(x))
        wanted = jax.grad(lambda w: reference(keras.ops.convert_to_tensor(w)))(x)
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-4, atol=1e-6)


@table
def test_configs_are_those_of_keras(name, options):
    mine, theirs = (getattr(m, name)(**options) for m in (regularizers, keras.regularizers))
    config, wanted = regularizers.serialize(mine), keras.regularizers.serialize(theirs)
    numbers = {k: pytest.approx(v) for k, v in wanted["config"].items() if k != "mode"}
    assert config == {**wanted, "config": {**wanted["config"], **numbers}}
    again = regularizers.deserialize(json.loads(json.dumps(config)))
    assert again.get_config() == mine.get_config()
    signatures = (inspect.signature(type(x)).parameters.values() for x in (mine, theirs))
    ours, wanted = ([(p.name, p.default) for p in s] for s in signatures)
    assert ours == wanted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@table
def test_dtypes(name, options, dtype):
    x = gpunet.ops.ones((2, 3), dtype=dtype)
    assert getattr(regularizers, name)(**options)(x).dtype == dtype


def test_get():
    assert regularizers.get(None) is None
    for name in ("l1", "L2", "l1_l2", "L1L2", "OrthogonalRegularizer", "orthogonal_regularizer"):
        assert type(regularizers.get(name)).__name__ in dir(keras.regularizers)
    assert regularizers.get({"class_name": "L2", "config": {"l2": 0.5}}).l2 == 0.5
    assert regularizers.get(abs) is abs
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        regularizers.get("l3")


@pytest.mark.parametrize(
    "make",
    [
        lambda: regularizers.L1(-1.0),
        lambda: regularizers.L2(float("nan")),
        lambda: regularizers.L1L2(l1="much"),
        lambda: regularizers.OrthogonalRegularizer(mode="diagonal"),
        lambda: regularizers.OrthogonalRegularizer()(gpunet.ops.ones((3,))),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        make()


def test_base_class():
    assert regularizers.Regularizer()(gpunet.tensor([1.0])) == 0.0
    with pytest.raises(NotImplementedError):
        regularizers.Regularizer().get_config()
