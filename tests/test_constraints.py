"""Constraints: values and configs against Keras."""

import inspect
import json

import keras
import numpy as np
import pytest

import gpunet
from gpunet import constraints

ROWS = [
    ("MaxNorm", {}),
    ("MaxNorm", {"max_value": 0.5, "axis": 1}),
    ("MaxNorm", {"max_value": 0.5, "axis": [0, 1]}),
    ("NonNeg", {}),
    ("UnitNorm", {}),
    ("UnitNorm", {"axis": 1}),
    ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 1.5, "rate": 0.4, "axis": 1}),
]
table = pytest.mark.parametrize(("name", "options"), ROWS)


@table
def test_values_equal_those_of_keras(name, options, rng):
    w = rng.standard_normal((4, 5)).astype("float32")
    w[:, 0] = 0.0
    mine, reference = (getattr(m, name)(**options) for m in (constraints, keras.constraints))
    np.testing.assert_allclose(mine(w).numpy(), reference(w), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@table
def test_dtypes(name, options, dtype):
    w = gpunet.ops.ones((2, 3), dtype=dtype)
    assert getattr(constraints, name)(**options)(w).dtype == dtype


@table
def test_configs_are_those_of_keras(name, options):
    mine, theirs = (getattr(m, name)(**options) for m in (constraints, keras.constraints))
    config = constraints.serialize(mine)
    assert config == keras.constraints.serialize(theirs)
    again = constraints.deserialize(json.loads(json.dumps(config)))
    assert again.get_config() == mine.get_config()
    signatures = (inspect.signature(type(x)).parameters.values() for x in (mine, theirs))
    ours, wanted = ([(p.name, p.default) for p in s] for s in signatures)
    assert ours == wanted


def test_optimizers_apply_them():
    w = gpunet.Variable([1.0, -1.0])
    w.constraint = constraints.NonNeg()
    gpunet.optimizers.SGD(0.5).apply([gpunet.tensor([4.0, 0.0])], [w])
    assert w.numpy().tolist() == [0.0, 0.0]


def test_get():
    assert constraints.get(None) is None
    for name in ("max_norm", "MaxNorm", "non_neg", "unit_norm", "min_max_norm"):
        theirs = type(keras.constraints.get(name)).__name__
        assert type(constraints.get(name)).__name__ == theirs
    assert constraints.Constraint()(3) == 3
    with pytest.raises(gpunet.errors.ArgumentError, match=r"max_norm.*Received"):
        constraints.get("maxnorm")
