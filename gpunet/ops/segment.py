"""Reductions over groups of rows: sums, largest, smallest, products, counts."""

import math
import operator

import numpy as np

from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.creation import full, zeros_like
from gpunet.ops.elementwise import cast_to, logical_and, where
from gpunet.ops.index import (
    concrete,
    index_add_primitive,
    integers,
    item_primitive,
)
from gpunet.ops.scatter import scatter_primitive
from gpunet.ops.shape import expand_dims

__all__ = ["bincount", "segment_max", "segment_min", "segment_prod", "segment_sum"]


def _segments(data, segment_ids, num_segments):
    """Checks the arguments; rows whose id is out of range are sent to one segment more."""
    data = as_tensor(data)
    ids = integers(segment_ids, data, "segment_ids")
    if len(ids.shape) != 1 or data.shape[:1] != ids.shape:
        raise ShapeError(
            "`segment_ids` needs one id for each row of `data`. "
            + received(data=data.shape, segment_ids=ids.shape)
        )
    if num_segments is None:
        values = concrete(ids, "a segment op without `num_segments`")
        num_segments = int(values.max()) + 1 if values.size else 0
    count = operator.index(num_segments)
    if count < 0:
        raise ArgumentError(f"`num_segments` must not be negative. {received(num_segments=count)}")
    return data, where(logical_and(ids >= 0, ids < count), ids, count), count


def _first_rows(y, count):
    return item_primitive(y, key=((0, count, None),))


@public
def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """Returns the sums of the rows of each segment.

    Args:
        data: Tensor of shape `(n, ...)`.
        segment_ids: Integer tensor of shape `(n,)`; rows with ids outside of `[0, num_segments)`
            take no part.
        num_segments: Number of segments; default the largest id + 1 (not while tracing).
        sorted: Accepted for Keras.

    Returns:
        Tensor of shape `(num_segments, ...)`; zeros for empty segments.

    Raises:
        ShapeError: If there is not one id a row.

    Example:
        >>> import gpunet
        >>> gpunet.ops.segment_sum([1.0, 2.0, 4.0], [0, 0, 1]).tolist()
        [3.0, 4.0]
    """
    data, ids, count = _segments(data, segment_ids, num_segments)
    return _first_rows(index_add_primitive(data, ids, axis=0, length=count + 1), count)


def _combine(data, segment_ids, num_segments, reduction, start):
    data, ids, count = _segments(data, segment_ids, num_segments)
    initial = full((count + 1, *data.shape[1:]), start(data.dtype), data.dtype)
    initial = initial if initial.device is data.device else initial.to(data.device)
    return _first_rows(
        scatter_primitive(initial, expand_dims(ids, -1), data, reduction=reduction), count
    )


def _lowest(dtype):
    if dtype.kind in "iu":
        return np.iinfo(dtype).min
    return False if dtype.kind == "b" else -math.inf


def _highest(dtype):
    if dtype.kind in "iu":
        return np.iinfo(dtype).max
    return True if dtype.kind == "b" else math.inf


@public
def segment_max(data, segment_ids, num_segments=None, sorted=False):
    """Returns the largest elements of each segment, -inf (or the least integer) for empty ones.

    See `segment_sum` for the arguments.

    Example:
        >>> import gpunet
        >>> gpunet.ops.segment_max([1.0, 2.0, 4.0], [0, 0, 1]).tolist()
        [2.0, 4.0]
    """
    return _combine(data, segment_ids, num_segments, "max", _lowest)


@public
def segment_min(data, segment_ids, num_segments=None, sorted=False):
    """Returns the smallest elements of each segment, inf (or the largest integer) for empty ones.

    See `segment_sum` for the arguments.
    """
    return _combine(data, segment_ids, num_segments, "min", _highest)


@public
def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    """Returns the products of the rows of each segment, 1 for empty ones.

    See `segment_sum` for the arguments.
    """
    return _combine(data, segment_ids, num_segments, "mul", lambda dtype: 1)


@public
def bincount(x, weights=None, minlength=0, sparse=False):
    """Returns how often each number occurs, or the sum of its weights.

    The length of the result depends on the values, so this cannot be traced.

    Args:
        x: Tensor of non-negative integers, of shape `(n,)` or `(batch, n)`.
        weights: Tensor of the shape of `x`.
        minlength: Least length of the result.
        sparse: Accepted for Keras; must be false.

    Returns:
        Tensor of shape `(length,)` or `(batch, length)`, of dtype int32 or that of the weights.

    Raises:
        TraceError: While tracing.
        ArgumentError: If `x` holds negative numbers.

    Example:
        >>> import gpunet
        >>> gpunet.ops.bincount([1, 2, 2, 5]).tolist()
        [0, 1, 2, 0, 0, 1]
    """
    x = as_tensor(x)
    x = integers(x, x, "x")
    values = concrete(x, "bincount")
    if sparse or len(x.shape) not in (1, 2):
        raise ArgumentError(
            f"`x` has one or two axes, and is dense. {received(shape=x.shape, sparse=sparse)}"
        )
    if values.size and int(values.min()) < 0:
        raise ArgumentError(f"`x` holds no negative numbers. {received(minimum=int(values.min()))}")
    length = max(int(values.max()) + 1 if values.size else 0, int(minlength))
    if weights is None:
        weights = cast_to(zeros_like(x), np.dtype(np.int32)) + 1
    weights = as_tensor(weights, device=x.device)
    if weights.shape != x.shape:
        raise ShapeError(
            f"`weights` needs the shape of `x`. {received(x=x.shape, weights=weights.shape)}"
        )
    if len(x.shape) == 1:
        return index_add_primitive(weights, x, axis=0, length=length)
    batch = x.shape[0]
    offsets = as_tensor(np.arange(batch).reshape(-1, 1) * length, device=x.device)
    flat = index_add_primitive(
        weights.reshape(-1), (x + offsets).reshape(-1), axis=0, length=batch * length
    )
    return flat.reshape(batch, length)
