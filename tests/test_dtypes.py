"""Dtype names and the promotion lattice, against JAX's."""

import itertools

import numpy as np
import pytest

from gpunet import dtypes
from gpunet.errors import DTypeError

REAL = ("bool", *dtypes.INTEGERS, *dtypes.FLOATS)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("float32", "float32"),
        (np.float64, "float64"),
        (np.dtype("int8"), "int8"),
        (float, "float32"),
        (int, "int32"),
        (bool, "bool"),
        ("int", "int32"),
        ("float", "float32"),
        (None, "float32"),
        (dtypes.BFLOAT16, "bfloat16"),
        (np.dtype("float64"), "float64"),
        (np.dtype("int64"), "int64"),
    ],
)
def test_names(given, name):
    assert dtypes.standardize_dtype(given) == name
    assert dtypes.numpy_dtype(given).name == name


@pytest.mark.parametrize("given", ["float31", "object", object, "U5"])
def test_other_dtypes_are_refused(given):
    with pytest.raises(DTypeError, match="Received: dtype="):
        dtypes.standardize_dtype(given)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(REAL, REAL)))
def test_promotion_is_that_of_jax(first, second):
    import jax

    with jax.enable_x64(True):
        expected = jax.numpy.promote_types(first, second).name
    # Where JAX promotes to its weak default float, Keras takes floatx().
    if expected == "float64" and "float64" not in (first, second):
        expected = "float32"
    assert dtypes.result_type(first, second) == expected


@pytest.mark.parametrize("dtype", REAL)
def test_python_scalars_are_weak(dtype):
    assert dtypes.result_type(dtype, bool) == dtype
    assert dtypes.result_type(dtype, int) == ("int32" if dtype == "bool" else dtype)
    assert dtypes.result_type(dtype, float) == (dtype if dtypes.is_float(dtype) else "float32")


def test_nothing_at_all_is_floatx():
    assert dtypes.result_type() == "float32"
