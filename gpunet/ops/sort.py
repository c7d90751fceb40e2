"""Sorting and searching. Equal elements keep their order."""

import functools
import operator

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.creation import full
from gpunet.ops.elementwise import (
    cast_to,
    equal,
    isfinite,
    logical_and,
    logical_not,
    minimum,
    operands,
)
from gpunet.ops.index import (
    add_along_primitive,
    along_primitive,
    concrete,
    integers,
    take_primitive,
)
from gpunet.ops.reduce import sum_primitive
from gpunet.ops.shape import expand_dims, one_axis, ravel
from gpunet.ops.top_k_launch import top_k_rule

__all__ = [
    "argpartition",
    "argsort",
    "digitize",
    "in_top_k",
    "isin",
    "searchsorted",
    "sort",
    "top_k",
    "unique",
]

_FLOAT32 = np.dtype(np.float32)


def _comparable(x):
    return x.astype(_FLOAT32) if x.dtype == BFLOAT16 else x


sort_primitive = Primitive("sort(x, *, axis) -> y")
sort_primitive.array(lambda xp, x, axis: xp.sort(_comparable(x), axis).astype(x.dtype, copy=False))
sort_primitive.infer(lambda x, axis: Symbol(x.shape, x.dtype))


@sort_primitive.vjp
def _(g, x, axis):
    order = argsort_primitive(x, axis=axis)
    # Where each element went: the inverse of the permutation.
    return along_primitive(g, argsort_primitive(order, axis=axis), axis=axis)


argsort_primitive = Primitive("argsort(x, *, axis) -> y")
argsort_primitive.array(
    lambda xp, x, axis: xp.argsort(_comparable(x), axis, kind="stable").astype(np.int32)
)
argsort_primitive.infer(lambda x, axis: Symbol(x.shape, np.int32))

partition_primitive = Primitive("argpartition(x, *, kth, axis) -> y")
partition_primitive.array(
    lambda xp, x, kth, axis: xp.argpartition(_comparable(x), kth, axis).astype(np.int32)
)
partition_primitive.infer(lambda x, kth, axis: Symbol(x.shape, np.int32))

top_k_primitive = Primitive("top_k(x, *, k) -> values, indices")
top_k_primitive.vjp(
    lambda g, x_shape, indices, k: add_along_primitive(
        g[0], indices, axis=len(x_shape) - 1, length=x_shape[-1]
    )
)


@top_k_primitive.infer
def _(x, k):
    return Symbol((*x.shape[:-1], k), x.dtype), Symbol((*x.shape[:-1], k), np.int32)


@top_k_primitive.array
def _(xp, x, k):
    indices = _descending(xp, _comparable(x), k)
    return xp.take_along_axis(x, indices, -1), indices.astype(np.int32)


top_k_primitive.cuda(top_k_rule(top_k_primitive.rules["array"]))


def _descending(xp, x, k):
    """The first k indices of a stable descending sort: equal elements in their order."""
    n = x.shape[-1]
    return (n - 1 - xp.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1])[..., :k]


@top_k_primitive.cpu
def _(x, k):
    wide, n = _comparable(x), x.shape[-1]
    indices = (_select if 0 < 4 * k <= n >= 64 else functools.partial(_descending, np))(wide, k)
    return np.take_along_axis(x, indices, -1), indices.astype(np.int32)


def _select(x, k):
    """Partitions instead of sorting all; which of equal elements come first is put right after."""
    some = np.sort(np.argpartition(x, x.shape[-1] - k, -1)[..., x.shape[-1] - k :], -1)
    values = np.take_along_axis(x, some, -1)
    indices = np.take_along_axis(some, _descending(np, values, k), -1)
    least = np.take_along_axis(x, indices[..., -1:], -1)
    hole = least != least
    tied = np.where(hole, x != x, x == least).sum(-1) > np.where(
        hole, values != values, values == least
    ).sum(-1)
    if tied.any():
        indices[tied] = _descending(np, x[tied], k)
    return indices


@public
def sort(x, axis=-1):
    """Returns the elements in ascending order along an axis; NaN comes last.

    Args:
        x: Tensor of any shape.
        axis: Integer; `None` sorts the flattened tensor.

    Returns:
        Tensor of the dtype of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.sort([3, 1, 2]).tolist()
        [1, 2, 3]
    """
    x, axis = _along(x, axis)
    return sort_primitive(x, axis=axis)


def _along(x, axis):
    x = as_tensor(x)
    if axis is None:
        return ravel(x), 0
    return x, one_axis(axis, len(x.shape))


@public
def argsort(x, axis=-1):
    """Returns the indices that sort the elements along an axis.

    Args:
        x: Tensor of any shape.
        axis: Integer; `None` sorts the flattened tensor.

    Returns:
        Tensor of dtype int32.

    Example:
        >>> import gpunet
        >>> gpunet.ops.argsort([3, 1, 2]).tolist()
        [1, 2, 0]
    """
    x, axis = _along(x, axis)
    return argsort_primitive(x, axis=axis)


@public
def argpartition(x, kth, axis=-1):
    """Returns indices that put the `kth` smallest element in its place, smaller ones before it.

    Args:
        x: Tensor of any shape.
        kth: Integer in `[-n, n)`.
        axis: Integer; `None` takes the flattened tensor.

    Returns:
        Tensor of dtype int32.

    Raises:
        ArgumentError: If `kth` is out of range.

    Example:
        >>> import gpunet
        >>> gpunet.ops.argpartition([7, 1, 5], 0)[0].item()
        1
    """
    x, axis = _along(x, axis)
    return partition_primitive(x, kth=one_axis(kth, x.shape[axis], "kth"), axis=axis)


@public
def top_k(x, k, sorted=True):
    """Returns the `k` largest elements along the last axis, and where they are.

    Args:
        x: Tensor with at least one axis.
        k: How many.
        sorted: Accepted for Keras; the result is always in descending order.

    Returns:
        Two tensors of shape `(..., k)`: values, and indices of dtype int32.

    Raises:
        ArgumentError: If `k` is not in `[0, n]`.

    Example:
        >>> import gpunet
        >>> values, indices = gpunet.ops.top_k([5, 9, 7], 2)
        >>> values.tolist(), indices.tolist()
        ([9, 7], [1, 2])
    """
    x, k = as_tensor(x), operator.index(k)
    if not x.shape or not 0 <= k <= x.shape[-1]:
        raise ArgumentError(
            f"`k` must be between 0 and the length of the last axis. {received(k=k, shape=x.shape)}"
        )
    return top_k_primitive(x, k=k)


@public
def in_top_k(targets, predictions, k):
    """Returns whether each target is among the `k` classes with the largest predictions.

    Classes that are equal to the k-th largest count as among them; predictions of the target that
    are not finite do not.

    Args:
        targets: Integer tensor of shape `(...)`.
        predictions: Tensor of shape `(..., classes)`.
        k: How many classes count.

    Returns:
        Tensor of bools, of shape `(...)`.

    Raises:
        ShapeError: If the shapes do not go together.

    Example:
        >>> import gpunet
        >>> gpunet.ops.in_top_k([2, 0], [[0.1, 0.2, 0.7], [0.1, 0.8, 0.1]], 1).tolist()
        [True, False]
    """
    predictions = as_tensor(predictions)
    targets = integers(targets, predictions, "targets")
    if targets.shape != predictions.shape[:-1]:
        raise ShapeError(
            "`predictions` needs one axis more than `targets`. "
            + received(targets=targets.shape, predictions=predictions.shape)
        )
    axis = len(targets.shape)
    chosen = along_primitive(predictions, expand_dims(targets, -1), axis=axis)
    larger = sum_primitive(predictions > chosen, axis=(axis,), keepdims=True)
    found = logical_and(larger < operator.index(k), isfinite(chosen))
    return found.reshape(targets.shape)


# -- searching ----------------------------------------------------------------------------------

search_primitive = Primitive("searchsorted(sequence, values, *, side) -> y")
search_primitive.array(
    lambda xp, sequence, values, side: xp.searchsorted(
        _comparable(sequence), _comparable(values), side
    ).astype(np.int32)
)
search_primitive.infer(lambda sequence, values, side: Symbol(values.shape, np.int32))


@public
def searchsorted(sorted_sequence, values, side="left"):
    """Returns where values would have to be put into a sorted sequence to keep it sorted.

    Args:
        sorted_sequence: Ascending tensor of shape `(n,)`.
        values: Tensor of any shape.
        side: `"left"`: before equal elements; `"right"`: after them.

    Returns:
        Tensor of dtype int32, of the shape of `values`.

    Raises:
        ShapeError: If the sequence has not one axis.
        ArgumentError: If `side` is neither.

    Example:
        >>> import gpunet
        >>> gpunet.ops.searchsorted([1, 3, 5], [0, 3, 9]).tolist()
        [0, 1, 3]
    """
    sequence, values = operands(sorted_sequence, values)
    if len(sequence.shape) != 1:
        raise ShapeError(
            f"`sorted_sequence` needs one axis. {received(sorted_sequence=sequence.shape)}"
        )
    if side not in ("left", "right"):
        raise ArgumentError(f'`side` is "left" or "right". {received(side=side)}')
    return search_primitive(sequence, values, side=side)


@public
def digitize(x, bins):
    """Returns the number of the bin that each element falls into.

    Args:
        x: Tensor of any shape.
        bins: Ascending edges, of shape `(n,)`; bin `i` is `bins[i - 1] <= x < bins[i]`.

    Returns:
        Tensor of dtype int32 with numbers from 0 to n.

    Example:
        >>> import gpunet
        >>> gpunet.ops.digitize([0.5, 2.0, 9.0], [1.0, 2.0, 5.0]).tolist()
        [0, 2, 3]
    """
    return searchsorted(bins, x, "right")


@public
def isin(x1, x2, assume_unique=False, invert=False):
    """Returns which elements of `x1` are found in `x2`.

    Args:
        x1: Tensor of any shape.
        x2: Tensor of any shape.
        assume_unique: Accepted for Keras.
        invert: Whether to return which ones are not found.

    Returns:
        Tensor of bools, of the shape of `x1`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.isin([1, 2, 3], [2, 5]).tolist()
        [False, True, False]
    """
    x1, x2 = operands(x1, x2)
    if x1.dtype == bool:
        x1, x2 = cast_to(x1, np.dtype(np.int32)), cast_to(x2, np.dtype(np.int32))
    members = sort_primitive(ravel(x2), axis=0)
    n = members.shape[0]
    if n == 0:
        found = full(x1.shape, False, bool)
        found = found if found.device is x1.device else found.to(x1.device)
    else:
        place = minimum(search_primitive(members, x1, side="left"), n - 1)
        found = equal(take_primitive(members, place, axis=0), x1)
    return logical_not(found) if invert else found


@public
def unique(
    x,
    sorted=True,
    return_index=False,
    return_inverse=False,
    return_counts=False,
    axis=None,
    size=None,
    fill_value=None,
):
    """Returns the different elements, in ascending order.

    The shape of the result depends on the values, so this cannot be traced.

    Args:
        x: Tensor of any shape.
        sorted: Accepted for Keras; the result is always sorted.
        return_index: Whether to return where each element is first.
        return_inverse: Whether to return which result each element of `x` is.
        return_counts: Whether to return how often each element is there.
        axis: Compares slices along this axis; default: the flattened tensor.
        size: Cuts or pads the result to this length.
        fill_value: What it is padded with; default the smallest element.

    Returns:
        Tensor, or a tuple of tensors if more is asked for (these of dtype int32).

    Raises:
        TraceError: While tracing.

    Example:
        >>> import gpunet
        >>> gpunet.ops.unique([3, 1, 3, 2]).tolist()
        [1, 2, 3]
    """
    x = as_tensor(x)
    data, xp = concrete(x, "unique"), x.device.xp
    axis = None if axis is None else one_axis(axis, len(x.shape))
    with x.device.activate():
        found = xp.unique(_comparable(data), True, True, True, axis=axis)
        values, index, inverse, counts = found
        values = values.astype(x.dtype)
        inverse = inverse.reshape(x.shape if axis is None else (-1,))
        if size is not None:
            values, index, counts = _resized(xp, values, index, counts, axis or 0, size, fill_value)
    wanted = [(index, return_index), (inverse, return_inverse), (counts, return_counts)]
    results = [values, *[a.astype(np.int32) for a, asked in wanted if asked]]
    first, *rest = [Tensor(a, x.device) for a in results]
    return (first, *rest) if rest else first


def _resized(xp, values, index, counts, axis, size, fill_value):
    n, size = values.shape[axis], operator.index(size)
    if n >= size:
        kept = (*(slice(None),) * axis, slice(size))
        return values[kept], index[:size], counts[:size]
    widths = [(0, size - n if a == axis else 0) for a in range(values.ndim)]
    fill = values.min() if fill_value is None else fill_value
    pad = (0, size - n)
    return (
        xp.pad(values, widths, constant_values=fill),
        xp.pad(index, pad, constant_values=index[0] if n else 0),
        xp.pad(counts, pad),
    )
