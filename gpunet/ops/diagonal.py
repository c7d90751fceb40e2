"""Diagonals and triangles of matrices."""

import operator

import numpy as np

from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.errors import ShapeError, received
from gpunet.ops.arrange import constant, pad_constant
from gpunet.ops.elementwise import where
from gpunet.ops.index import item_primitive
from gpunet.ops.reduce import sum as sum_op
from gpunet.ops.shape import (
    moveaxis,
    ravel,
    reshape_primitive,
)

__all__ = ["diag", "diagflat", "diagonal", "trace", "tril", "triu"]

# -- diagonals and triangles --------------------------------------------------------------------


@public
def diagonal(x, offset=0, axis1=0, axis2=1):
    """Returns the diagonals of the matrices in two axes.

    Args:
        x: Tensor with at least two axes.
        offset: Which diagonal: 0 the main one, positive ones above it.
        axis1: Axis of the rows.
        axis2: Axis of the columns.

    Returns:
        Tensor without these two axes, and with the diagonal as its last one.

    Example:
        >>> import gpunet
        >>> gpunet.ops.diagonal([[1, 2], [3, 4]]).tolist()
        [1, 4]
    """
    x = as_tensor(x)
    if len(x.shape) < 2:
        raise ShapeError(f"A diagonal needs two axes. {received(shape=x.shape)}")
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    offset = operator.index(offset)
    start = offset if offset >= 0 else -offset * columns
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    x = reshape_primitive(x, shape=(*x.shape[:-2], rows * columns))
    stop = start + max(count - 1, 0) * (columns + 1) + 1 if count else start
    return item_primitive(
        x, key=((None, None, None),) * (len(x.shape) - 1) + ((start, stop, columns + 1),)
    )


@public
def trace(x, offset=0, axis1=0, axis2=1):
    """Returns the sum of a diagonal; see `diagonal`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.trace([[1, 2], [3, 4]]).item()
        5
    """
    return sum_op(diagonal(x, offset, axis1, axis2), axis=-1)


@public
def diag(x, k=0):
    """Returns a diagonal of a matrix, or a matrix with a vector as its diagonal.

    Args:
        x: Tensor with one or two axes.
        k: Which diagonal: 0 the main one, positive ones above it.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If `x` has another number of axes.

    Example:
        >>> import gpunet
        >>> gpunet.ops.diag([1, 2]).tolist()
        [[1, 0], [0, 2]]
    """
    x, k = as_tensor(x), operator.index(k)
    if len(x.shape) == 2:
        return diagonal(x, k)
    if len(x.shape) != 1:
        raise ShapeError(f"diag needs one or two axes. {received(shape=x.shape)}")
    n = x.shape[0]
    square = where(constant(np.eye(n, dtype=bool), x), reshape_primitive(x, shape=(n, 1)), 0)
    above, below = max(k, 0), max(-k, 0)
    return pad_constant(square, [(below, above), (above, below)], 0)


@public
def diagflat(x, k=0):
    """Returns a matrix with the flattened elements as its diagonal; see `diag`."""
    return diag(ravel(x), k)


def _triangle(x, k, upper):
    x, k = as_tensor(x), operator.index(k)
    if len(x.shape) < 2:
        raise ShapeError(f"A triangle needs two axes. {received(shape=x.shape)}")
    rows, columns = x.shape[-2:]
    lower = np.tri(rows, columns, k - 1 if upper else k, dtype=bool)
    return where(constant(~lower if upper else lower, x), x, np.zeros((), x.dtype))


@public
def tril(x, k=0):
    """Returns the lower triangles of matrices, zeros above diagonal `k`.

    Args:
        x: Tensor with at least two axes.
        k: Which diagonal: 0 the main one, positive ones above it.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.tril([[1, 2], [3, 4]]).tolist()
        [[1, 0], [3, 4]]
    """
    return _triangle(x, k, upper=False)


@public
def triu(x, k=0):
    """Returns the upper triangles of matrices, zeros below diagonal `k`; see `tril`."""
    return _triangle(x, k, upper=True)
