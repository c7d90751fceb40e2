"""When two arrays are equal enough: one table of tolerances, in units of the dtype's precision."""

from typing import Any

import ml_dtypes
import numpy as np

from gpunet.dtypes import numpy_dtype

# How many units in the last place a well-made op may be off, element by element, measured at
# the scale of the largest element: sums of n terms round at the scale of the terms.
ULPS = {"float64": 64, "float32": 32, "float16": 6, "bfloat16": 6}


def epsilon(dtype: Any) -> float:
    """Returns the distance from 1 to the next number of a float dtype.

    Example:
        >>> epsilon("float16")
        0.0009765625
    """
    return float(ml_dtypes.finfo(numpy_dtype(dtype)).eps)


def assert_close(actual: Any, expected: Any, dtype: Any = "float32", factor: float = 1.0) -> None:
    """Asserts that two arrays agree as well as computing in `dtype` allows.

    Args:
        actual: Array or tensor.
        expected: Array or tensor of the same shape; the reference.
        dtype: Dtype that `actual` was computed in.
        factor: Multiplies the tolerance of the table.

    Raises:
        AssertionError: With the worst element, if shapes or values differ.

    Example:
        >>> assert_close([1.0, 2.0], [1.0, 2.0 + 1e-7])
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    name = numpy_dtype(dtype).name
    if name not in ULPS or actual.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected)
        return
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(float(finite.max(initial=0.0)), 1e-3)
    unit = factor * ULPS[name] * epsilon(name)
    np.testing.assert_allclose(actual, expected, rtol=unit, atol=unit * scale, equal_nan=True)
