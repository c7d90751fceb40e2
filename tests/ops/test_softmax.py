"""Softmax over one axis and several, against SciPy."""

import numpy as np
import pytest
import scipy.special

import gpunet
from gpunet.errors import ArgumentError
from gpunet.testing import check_gradients

AXES = [-1, 0, 1, (0, 2), (1, -1), (0, 1, 2), (1,), None]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_equals_scipy(name, axis, rng):
    x = rng.standard_normal((3, 5, 7)) * 4
    f = getattr(gpunet.ops, name)
    expected = getattr(scipy.special, name)(x, axis)
    np.testing.assert_allclose(f(x, axis=axis).numpy(), expected, 1e-13, 1e-14)
    check_gradients(lambda t: f(t, axis=axis), [x])


@pytest.mark.parametrize("shape", [(4, 10), (3, 17), (2, 129), (2, 1000)])
def test_every_way_to_find_the_maximum(shape, rng):
    x = rng.standard_normal(shape).astype("float32") * 30
    expected = scipy.special.softmax(x.astype("float64"), -1)
    np.testing.assert_allclose(gpunet.ops.softmax(x).numpy(), expected, 1e-5, 1e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_large_and_masked_numbers(dtype):
    x = gpunet.tensor([[1e4, 0.0, -np.inf], [-np.inf] * 3], dtype=dtype)
    y = gpunet.ops.softmax(x)
    assert y.dtype == dtype
    assert y.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert gpunet.ops.log_softmax(x).numpy()[0, 0] == 0
    assert gpunet.ops.log_softmax(x).numpy()[1, 0] == -np.inf


def test_nan_stays():
    assert np.isnan(gpunet.ops.softmax([np.nan, 1.0]).numpy()).all()


def test_errors():
    with pytest.raises(ArgumentError, match="axis=1"):
        gpunet.ops.softmax([1.0, 2.0], axis=1)
