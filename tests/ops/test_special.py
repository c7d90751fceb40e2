"""Error functions against the C library and SciPy, in units in the last place."""

import math

import numpy as np
import pytest
import scipy.special

import gpunet

GRID = np.concatenate(
    [np.linspace(-6, 6, 20001), np.linspace(-26, 26, 1001), 10.0 ** -np.arange(1, 300), [0.0]]
)
INVERSE = np.concatenate(
    [
        np.linspace(-1, 1, 20001),
        1 - 10.0 ** -np.arange(1, 16),
        10.0 ** -np.arange(1, 16) - 1,
        10.0 ** -np.arange(1, 300),
    ]
)


# SciPy's erfc is some 400 units off in the far tail; that of the C library is within one.
REFERENCE = {
    "erf": np.vectorize(math.erf),
    "erfc": np.vectorize(math.erfc),
    "erfinv": scipy.special.erfinv,
}


def units(actual, expected):
    """The largest error in units in the last place of the expected numbers."""
    same = actual == expected
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype("float64") - expected) / np.spacing(np.abs(expected))
    return np.where(same, 0, error).max()


@pytest.mark.parametrize(
    ("name", "grid", "dtype", "limit"),
    [
        ("erf", GRID, "float64", 8),
        ("erf", GRID, "float32", 7),
        ("erfc", GRID, "float64", 16),
        ("erfc", GRID, "float32", 1),
        ("erfinv", INVERSE, "float64", 8),
        ("erfinv", INVERSE, "float32", 1),
    ],
)
def test_units_in_the_last_place(name, grid, dtype, limit):
    x = grid.astype(dtype)
    expected = REFERENCE[name](x.astype("float64")).astype(dtype)
    assert units(getattr(gpunet.ops, name)(x).numpy(), expected) <= limit


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("erf", [np.inf, -np.inf, np.nan], [1, -1, np.nan]),
        ("erfc", [np.inf, -np.inf, np.nan], [0, 2, np.nan]),
        ("erfinv", [1, -1, 1.5, np.nan], [np.inf, -np.inf, np.nan, np.nan]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends_of_the_range(name, x, y, dtype):
    np.testing.assert_array_equal(getattr(gpunet.ops, name)(np.array(x, dtype)).numpy(), y)


def test_sign_of_zero_and_large_arrays():
    assert np.signbit(gpunet.ops.erf(np.float32(-0.0)).numpy())
    x = np.linspace(-3, 3, 70000).reshape(7, -1)
    np.testing.assert_allclose(gpunet.ops.erf(x).numpy(), scipy.special.erf(x), 1e-14)


def test_logit_inverts_the_sigmoid():
    x = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(gpunet.ops.logit(gpunet.ops.sigmoid(x)).numpy(), x, 1e-12, 1e-13)
