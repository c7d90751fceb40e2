"""Norms of vectors and matrices."""

import math

import numpy as np

from gpunet.core.symbolic import public
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ArgumentError, received
from gpunet.ops.elementwise import (
    absolute,
    cast_to,
    floating,
    not_equal,
    power,
    sqrt,
)
from gpunet.ops.extrema import max, min
from gpunet.ops.reduce import sum
from gpunet.ops.shape import many_axes

__all__ = ["norm"]

_HALVES = (np.dtype(np.float16), BFLOAT16)


@public
def norm(x, ord=None, axis=None, keepdims=False):
    """Returns the norm of vectors or matrices.

    Args:
        x: Tensor; integers become floats.
        ord: For one axis: `p` of the p-norm `sum(|x|**p)**(1/p)`, default 2; 0 counts nonzeros,
            `inf` and `-inf` take the largest and smallest absolute value. For two axes: `"fro"`
            (default), 1, -1, `inf`, `-inf`; those of singular values (2, -2, `"nuc"`) are refused.
        axis: One axis or two; default: all, flattened if `ord` is `None`.
        keepdims: Whether the reduced axes stay, with length 1.

    Returns:
        Tensor.

    Raises:
        ArgumentError: If there is no norm of this order, or not one or two axes.

    Example:
        >>> import gpunet
        >>> gpunet.ops.norm([3.0, 4.0]).item()
        5.0
    """
    x = floating(x)
    ndim = len(x.shape)
    if axis is None and (ord is None or (ord == "fro" and ndim == 2) or (ord == 2 and ndim == 1)):
        return _root_of_squares(x, None, keepdims)
    axes = tuple(range(ndim)) if axis is None else many_axes(axis, ndim)
    if len(axes) == 1:
        return _vector_norm(x, 2 if ord is None else ord, axes[0], keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, "fro" if ord is None else ord, axes, keepdims)
    raise ArgumentError(f"Norms are along one axis or two. {received(axis=axis, shape=x.shape)}")


def _root_of_squares(x, axis, keepdims):
    if x.dtype in _HALVES:
        wide = cast_to(x, np.dtype(np.float32))
        return cast_to(sqrt(sum(wide * wide, axis, keepdims)), x.dtype)
    return sqrt(sum(x * x, axis, keepdims))


def _vector_norm(x, ord, axis, keepdims):
    if isinstance(ord, str):
        raise ArgumentError(f"Vectors have norms of numeric orders. {received(ord=ord)}")
    if ord == 2:
        return _root_of_squares(x, axis, keepdims)
    if ord == 0:
        return cast_to(sum(not_equal(x, 0), axis, keepdims), x.dtype)
    size = absolute(x)
    if ord == 1:
        return sum(size, axis, keepdims)
    if math.isinf(ord):
        return (max if ord > 0 else min)(size, axis, keepdims)
    return power(sum(power(size, float(ord)), axis, keepdims), 1.0 / ord)


def _matrix_norm(x, ord, axes, keepdims):
    if ord == "fro":
        return _root_of_squares(x, axes, keepdims)
    rows, columns = axes
    if ord in (1, -1, math.inf, -math.inf):
        summed, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
        y = (max if ord > 0 else min)(sum(absolute(x), summed, keepdims=True), left, keepdims=True)
        shape = tuple([d for i, d in enumerate(y.shape) if keepdims or i not in axes])
        return y.reshape(shape)
    raise ArgumentError(
        f'The order of a matrix norm is "fro", 1, -1, inf or -inf. {received(ord=ord)}'
    )
