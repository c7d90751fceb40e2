"""Writing into copies: `scatter`, `scatter_update`, `slice`, `slice_update`, one-hot encodings."""

import operator
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16, numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.accumulate import combine_at
from gpunet.ops.creation import ones_like, zeros_like
from gpunet.ops.elementwise import cast_to, equal
from gpunet.ops.extrema import max_primitive
from gpunet.ops.index import index_add_primitive, integers, item_primitive
from gpunet.ops.index_launch import gather_rows_rule, one_hot_rule
from gpunet.ops.index_native import gather_rows_plan, one_hot_plan, scatter_update_plan
from gpunet.ops.scatter_launch import scatter_update_rule
from gpunet.ops.shape import as_shape, many_axes, one_axis, reshape_primitive, stack

__all__ = [
    "multi_hot",
    "one_hot",
    "scatter",
    "scatter_update",
    "slice",
    "slice_update",
]

_FLOAT32 = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), BFLOAT16)

# -- scatter ------------------------------------------------------------------------------------

_REDUCTIONS = {"add": "add", "max": "maximum", "min": "minimum", "mul": "multiply"}

# `indices` has shape (..., k): each row names a place along the first k axes of `x`.
scatter_primitive = Primitive("scatter_update(x, indices, updates, *, reduction) -> y")
scatter_primitive.infer(lambda x, indices, updates, reduction: Symbol(x.shape, x.dtype))
scatter_primitive.cuda(scatter_update_rule)
scatter_primitive.native(scatter_update_plan)

gather_rows_primitive = Primitive("gather_rows(x, indices) -> y")
gather_rows_primitive.array(lambda xp, x, indices: x[_places(xp, indices)])
gather_rows_primitive.cuda(gather_rows_rule)
gather_rows_primitive.native(gather_rows_plan)
gather_rows_primitive.infer(
    lambda x, indices: Symbol((*indices.shape[:-1], *x.shape[indices.shape[-1] :]), x.dtype)
)
gather_rows_primitive.vjp(
    lambda g, x_shape, x_dtype, indices: (
        scatter_primitive(zeros_of(x_shape, g), indices, g, reduction="add"),
        None,
    )
)


def zeros_of(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Returns zeros of the dtype and device of another tensor."""
    with like.device.activate():
        return Tensor(like.device.xp.zeros(shape, like.dtype), like.device)


def _places(xp, indices):
    return tuple(xp.moveaxis(indices, -1, 0))


@scatter_primitive.array
def _(xp, x, indices, updates, reduction):
    places = _places(xp, indices)
    if reduction is None:
        y = x.copy()
        y[places] = updates
        return y
    half = x.dtype in _HALVES
    y = x.astype(_FLOAT32 if half else x.dtype)
    y = combine_at(xp, _REDUCTIONS[reduction], y, places, updates.astype(y.dtype))
    return y.astype(x.dtype) if half else y


@scatter_primitive.vjp
def _(g, x, indices, updates, y, needs, reduction):
    chosen = gather_rows_primitive(g, indices) if needs[2] else None
    if reduction == "add":
        return g, None, chosen
    if reduction is None:
        kept = scatter_primitive(g, indices, zeros_like(updates), reduction=None)
        return kept, None, chosen * _last_writers(g, indices, updates) if needs[2] else None
    if reduction == "mul":
        rest = scatter_primitive(ones_like(x), indices, updates, reduction="mul")
        return g * rest, None, gather_rows_primitive(g * y, indices) / updates
    # The largest (smallest) candidates of a place share its gradient.
    mine = cast_to(equal(x, y), g.dtype)
    theirs = cast_to(equal(updates, gather_rows_primitive(y, indices)), g.dtype)
    share = g / scatter_primitive(mine, indices, theirs, reduction="add")
    return share * mine, None, gather_rows_primitive(share, indices) * theirs


def _last_writers(g, indices, updates):
    """Ones for the updates that are still there in the result, zeros for those overwritten."""
    count = int(np.prod(indices.shape[:-1]))
    lead = (*indices.shape[:-1], *(1,) * (len(updates.shape) - len(indices.shape) + 1))
    numbers = as_tensor(np.arange(1, count + 1, dtype=np.int64).reshape(lead), device=g.device)
    numbers = numbers + zeros_like(updates, "int64")
    written = scatter_primitive(zeros_like(g, "int64"), indices, numbers, reduction=None)
    return cast_to(equal(gather_rows_primitive(written, indices), numbers), g.dtype)


@public
def scatter(indices, values, shape):
    """Returns zeros with values added at the places that the indices name.

    Args:
        indices: Integer tensor of shape `(..., k)`; each row names a place along the first `k`
            axes. Values of a place named several times are added.
        values: Tensor of shape `indices.shape[:-1] + shape[k:]`.
        shape: Shape of the result.

    Returns:
        Tensor of the dtype of `values`.

    Raises:
        ShapeError: If the shapes do not go together, or an index is out of range.

    Example:
        >>> import gpunet
        >>> gpunet.ops.scatter([[0], [2], [0]], [1.0, 2.0, 3.0], (3,)).tolist()
        [4.0, 0.0, 2.0]
    """
    values, shape = as_tensor(values), as_shape(shape)
    indices = integers(indices, values)
    if indices.shape[-1:] == (1,) and values.shape == (*indices.shape[:-1], *shape[1:]):
        places = reshape_primitive(indices, shape=indices.shape[:-1])
        return index_add_primitive(values, places, axis=0, length=shape[0])
    return scatter_update(zeros_of(shape, values), indices, values, "add")


@public
def scatter_update(inputs, indices, updates, reduction=None):
    """Returns a tensor in which the places that the indices name are updated.

    Args:
        inputs: Tensor.
        indices: Integer tensor of shape `(..., k)`; each row names a place along the first `k`
            axes of `inputs`.
        updates: Tensor of shape `indices.shape[:-1] + inputs.shape[k:]`.
        reduction: `None`: the last update of a place replaces it. `"add"`, `"max"`, `"min"`,
            `"mul"`: updates are combined with what is there.

    Returns:
        Tensor of the shape and dtype of `inputs`.

    Raises:
        ArgumentError: If the reduction is none of these.
        ShapeError: If the shapes do not go together, or an index is out of range.

    Example:
        >>> import gpunet
        >>> gpunet.ops.scatter_update([0, 0, 0], [[1], [2]], [5, 7]).tolist()
        [0, 5, 7]
    """
    inputs = as_tensor(inputs)
    indices = integers(indices, inputs)
    updates = cast_to(as_tensor(updates, device=inputs.device), inputs.dtype)
    if reduction is not None and reduction not in _REDUCTIONS:
        raise ArgumentError(
            f"`reduction` must be None or one of {tuple(_REDUCTIONS)}. "
            + received(reduction=reduction)
        )
    k = indices.shape[-1] if indices.shape else 0
    if not 1 <= k <= len(inputs.shape):
        raise ShapeError(
            "The last axis of `indices` names 1 to `ndim` axes of what is updated. "
            + received(indices=indices.shape, inputs=inputs.shape)
        )
    if updates.shape != (*indices.shape[:-1], *inputs.shape[k:]):
        raise ShapeError(
            f"`updates` must have shape {(*indices.shape[:-1], *inputs.shape[k:])}. "
            + received(updates=updates.shape, indices=indices.shape, inputs=inputs.shape)
        )
    return scatter_primitive(inputs, indices, updates, reduction=reduction)


# -- blocks -------------------------------------------------------------------------------------

# `start` is an integer tensor with one number an axis; blocks are moved so that they fit.
block_primitive = Primitive("dynamic_slice(x, start, *, shape) -> y")
block_primitive.infer(lambda x, start, shape: Symbol(shape, x.dtype))
block_primitive.vjp(
    lambda g, x_shape, start, shape: (put_block_primitive(zeros_of(x_shape, g), g, start), None)
)

put_block_primitive = Primitive("dynamic_update_slice(x, updates, start) -> y")
put_block_primitive.infer(lambda x, updates, start: Symbol(x.shape, x.dtype))


@block_primitive.array
def _(xp, x, start, shape):
    return x[_grid(xp, start, shape, x.shape)]


@put_block_primitive.array
def _(xp, x, updates, start):
    y = x.copy()
    y[_grid(xp, start, updates.shape, x.shape)] = updates
    return y


def _grid(xp, start, lengths, limits):
    """Index arrays of a block: on a GPU nothing waits for the values of `start`."""
    ndim, places = len(lengths), []
    for axis, (n, limit) in enumerate(zip(lengths, limits, strict=True)):
        first = xp.clip(start[axis], 0, limit - n)
        places.append((first + xp.arange(n)).reshape([-1 if a == axis else 1 for a in range(ndim)]))
    return tuple(places)


@block_primitive.cpu
def _(x, start, shape):
    return x[_block(start, shape, x.shape)]


@put_block_primitive.cpu
def _(x, updates, start):
    y = x.copy()
    y[_block(start, updates.shape, x.shape)] = updates
    return y


def _block(start, lengths, limits):
    starts = [
        min(max(int(s), 0), limit - n) for s, n, limit in zip(start, lengths, limits, strict=True)
    ]
    return tuple([np.s_[s : s + n] for s, n in zip(starts, lengths, strict=True)])


@put_block_primitive.vjp
def _(g, updates, start, needs):
    rest = put_block_primitive(g, zeros_like(updates), start) if needs[0] else None
    return rest, (block_primitive(g, start, shape=updates.shape) if needs[1] else None), None


@public
def slice(inputs, start_indices, shape):
    """Returns a block of a tensor.

    Args:
        inputs: Tensor.
        start_indices: Where the block begins along each axis; integers or an integer tensor.
        shape: The lengths of the block; -1 (with plain integers as start) means up to the end.

    Returns:
        Tensor of this shape.

    Raises:
        ShapeError: If the block does not fit into the tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.slice([[1, 2, 3], [4, 5, 6]], (0, 1), (2, 2)).tolist()
        [[2, 3], [5, 6]]
    """
    inputs = as_tensor(inputs)
    limits = inputs.shape
    start = _start(start_indices, inputs)
    lengths = tuple([operator.index(n) for n in shape])
    if isinstance(start, Tensor):
        _check_block(None, lengths, limits)
        return block_primitive(inputs, start, shape=lengths)
    if len(start) == len(lengths) == len(limits):
        ends = zip(lengths, limits, start, strict=True)
        lengths = tuple([limit - s if n == -1 else n for n, limit, s in ends])
    _check_block(start, lengths, limits)
    key = tuple([(s, s + n, None) for s, n in zip(start, lengths, strict=True)])
    return item_primitive(inputs, key=key)


@public
def slice_update(inputs, start_indices, updates):
    """Returns a tensor in which a block is replaced.

    Args:
        inputs: Tensor.
        start_indices: Where the block begins along each axis; integers or an integer tensor.
        updates: The block: a tensor of the rank of `inputs`.

    Returns:
        Tensor of the shape and dtype of `inputs`.

    Raises:
        ShapeError: If the block does not fit into the tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.slice_update([1, 2, 3, 4], [1], [7, 8]).tolist()
        [1, 7, 8, 4]
    """
    inputs = as_tensor(inputs)
    updates = cast_to(as_tensor(updates, device=inputs.device), inputs.dtype)
    start = _start(start_indices, inputs)
    if isinstance(start, Tensor):
        _check_block(None, updates.shape, inputs.shape)
    else:
        _check_block(start, updates.shape, inputs.shape)
        start = as_tensor(np.array(start, np.int32), device=inputs.device)
    return put_block_primitive(inputs, updates, start)


def _start(start_indices: Any, inputs: Tensor) -> tuple[int, ...] | Tensor:
    """A tuple of ints where these are known, else an integer tensor."""
    if not isinstance(start_indices, Operators):
        if not any(isinstance(s, Operators) for s in start_indices):
            return tuple([operator.index(s) for s in start_indices])
        start_indices = stack(start_indices)
    start = integers(start_indices, inputs, "start_indices")
    if start.shape != (len(inputs.shape),):
        raise ShapeError(
            f"`start_indices` needs one number for each of {len(inputs.shape)} axes. "
            + received(start_indices=start.shape)
        )
    return start


def _check_block(start, lengths, limits):
    known = (0,) * len(limits) if start is None else start
    fits = len(known) == len(lengths) == len(limits) and all(
        s >= 0 <= n <= limit - s for s, n, limit in zip(known, lengths, limits, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"The block must fit into the tensor, of shape {limits}. "
            + received(start_indices=start, shape=lengths)
        )


# -- one-hot ------------------------------------------------------------------------------------

one_hot_primitive = Primitive("one_hot(x, *, num_classes, axis, dtype) -> y")
one_hot_primitive.cuda(one_hot_rule)
one_hot_primitive.native(one_hot_plan)


@one_hot_primitive.array
def _(xp, x, num_classes, axis, dtype):
    classes = xp.arange(num_classes).reshape([-1] + [1] * (x.ndim - axis))
    return (xp.expand_dims(x, axis) == classes).astype(dtype)


@one_hot_primitive.infer
def _(x, num_classes, axis, dtype):
    return Symbol((*x.shape[:axis], num_classes, *x.shape[axis:]), dtype)


@public
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """Returns class numbers as vectors with a one at the class and zeros elsewhere.

    Args:
        x: Integer tensor; numbers outside of `[0, num_classes)` give zeros only.
        num_classes: Length of the vectors.
        axis: Where the new axis is in the result.
        dtype: Default `floatx()`.
        sparse: Accepted for Keras; must be false.

    Returns:
        Tensor with one axis more than `x`.

    Raises:
        DTypeError: If `x` holds no integers.

    Example:
        >>> import gpunet
        >>> gpunet.ops.one_hot([0, 2], 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    _check_dense(sparse)
    x = as_tensor(x)
    x = integers(x if x.dtype != bool else cast_to(x, np.dtype(np.int32)), x, "x")
    axis = one_axis(axis, len(x.shape) + 1)
    dtype = numpy_dtype(dtype)
    return one_hot_primitive(x, num_classes=operator.index(num_classes), axis=axis, dtype=dtype)


@public
def multi_hot(inputs, num_classes=None, axis=-1, dtype=None, sparse=False, **kwargs):
    """Returns sets of class numbers as vectors with a one at every class of the set.

    Args:
        inputs: Integer tensor of shape `(n,)` or `(batch, n)`.
        num_classes: Length of the vectors.
        axis: Where the axis of the classes is in the result.
        dtype: Default `floatx()`.
        sparse: Accepted for Keras; must be false.
        **kwargs: `num_tokens`, an old name of `num_classes`.

    Returns:
        Tensor of shape `(num_classes,)` or `(batch, num_classes)`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.multi_hot([0, 2], 4).tolist()
        [1.0, 0.0, 1.0, 0.0]
    """
    num_classes = kwargs.pop("num_tokens", None) if num_classes is None else num_classes
    if num_classes is None or kwargs:
        raise ArgumentError(f"multi_hot needs `num_classes` and no more. {received(**kwargs)}")
    inputs = as_tensor(inputs)
    set_axis = 1 if len(inputs.shape) > 1 else 0
    hot = one_hot(inputs, num_classes, axis, dtype, sparse)
    (class_axis,) = many_axes(axis, len(hot.shape))
    # The axis of the set moves one back where the classes were put before it.
    return max_primitive(hot, axis=(set_axis + (class_axis <= set_axis),), keepdims=False)


def _check_dense(sparse):
    if sparse:
        raise ArgumentError(f"gpunet has dense tensors only. {received(sparse=sparse)}")
