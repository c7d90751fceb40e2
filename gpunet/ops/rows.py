"""Fast NumPy forms for tables of rows and columns, shared by softmax, norms and losses.

NumPy's own reductions along a short last axis are several times slower than what the machine can
do; these use BLAS for sums and vectorise over the rows for maxima (measured: 2 to 10 times).
"""

import functools
import math

import numpy as np


@functools.lru_cache(maxsize=64)
def ones(length: int, dtype: np.dtype) -> np.ndarray:
    """Returns a vector of ones, made once."""
    vector = np.ones(length, dtype)
    vector.flags.writeable = False
    return vector


def as_rows(x: np.ndarray, columns: int) -> np.ndarray:
    """Returns a contiguous array of shape `(rows, columns)`: a view where that is possible."""
    if columns:
        return np.ascontiguousarray(x).reshape(-1, columns)
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), 0)


def row_max(x: np.ndarray) -> np.ndarray:
    """Returns the maximum of each row, as a vector; NaN where a row holds one."""
    n = x.shape[1]
    if n > 128:
        return np.maximum.reduce(x, 1)
    while n > 16:
        half = (n + 1) // 2
        x, n = np.maximum(x[:, :half], x[:, n - half :]), half
    return np.maximum.reduce(np.ascontiguousarray(x.T), 0)


def row_sum(x: np.ndarray) -> np.ndarray:
    """Returns the sum of each row, as a vector."""
    return x.dot(ones(x.shape[1], x.dtype))  # `@` may warn of what BLAS does beside the numbers


def column_sum(x: np.ndarray) -> np.ndarray:
    """Returns the sum of each column, as a vector."""
    return ones(x.shape[0], x.dtype).dot(x)


def row_dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the inner product of each row of `x` with that of `y`, as a vector."""
    return np.vecdot(x, y)


def shifted_exp(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns `exp(x - max)` in a new array, its sum and the maximum of each row as columns.

    Rows of -inf give zeros and a sum of 0; all other sums are at least 1.
    """
    top = np.maximum(row_max(x), np.finfo(x.dtype).min)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf: NaN, as it should be
        y = x - top
    np.exp(y, out=y)
    return y, row_sum(y)[:, None], top
