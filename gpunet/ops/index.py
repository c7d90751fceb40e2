"""Indexing: `x[...]`, `take`, `take_along_axis`. The gradient of a gather is a scatter-add."""

import operator
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16
from gpunet.errors import DTypeError, ShapeError, TraceError, received
from gpunet.ops.accumulate import add_at, sum_rows
from gpunet.ops.copy_native import get_item_native, put_item_native
from gpunet.ops.index_launch import ARRAY, gather_item_rule, take_along_rule, take_rule
from gpunet.ops.index_native import add_along_plan, index_add_plan, take_along_plan, take_plan
from gpunet.ops.scatter_launch import add_along_rule, index_add_rule, scatter_item_rule
from gpunet.ops.shape import broadcast_to, one_axis, ravel

__all__ = ["get_item", "nonzero", "take", "take_along_axis"]

_FLOAT32 = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), BFLOAT16)

# -- basic indexing: views ----------------------------------------------------------------------

# A key is a tuple of ints, None and (start, stop, step): hashable, and free of Ellipsis.
item_primitive = Primitive("get_item(x, *, key) -> y")
item_primitive.array(lambda xp, x, key: x[_slices(key)])
item_primitive.infer(lambda x, key: Symbol(_item_shape(x.shape, key), x.dtype))
item_primitive.native(get_item_native)
item_primitive.vjp(lambda g, x_shape, key: put_item_primitive(g, key=key, shape=x_shape))

# Zeros with a block put where `key` says: the gradient of get_item.
put_item_primitive = Primitive("put_item(x, *, key, shape) -> y")
put_item_primitive.infer(lambda x, key, shape: Symbol(shape, x.dtype))
put_item_primitive.native(put_item_native)
put_item_primitive.vjp(lambda g, key, shape: item_primitive(g, key=key))


@put_item_primitive.array
def _(xp, x, key, shape):
    y = xp.zeros(shape, x.dtype)
    y[_slices(key)] = x
    return y


def _slices(key):
    return tuple([slice(*k) if type(k) is tuple else k for k in key])


def _plain(key, indices):
    arrays = iter(indices)
    return tuple(
        [slice(*k) if type(k) is tuple else next(arrays) if k == ARRAY else k for k in key]
    )


def _item_shape(shape, key):
    result, axis = [], 0
    for k in key:
        if k is None:
            result.append(1)
        else:
            if type(k) is tuple:
                result.append(len(range(*slice(*k).indices(shape[axis]))))
            axis += 1
    return (*result, *shape[axis:])


# -- integer-array indexing ---------------------------------------------------------------------

gather_item_primitive = Primitive("gather_item(x, *indices, key) -> y")
gather_item_primitive.array(lambda xp, x, *indices, key: x[_plain(key, indices)])
gather_item_primitive.cuda(gather_item_rule)
gather_item_primitive.vjp(
    lambda g, x_shape, indices, key: (
        scatter_item_primitive(g, *indices, key=key, shape=x_shape),
        *[None] * len(indices),
    )
)

# Zeros, with elements added where the key says: the gradient of gather_item.
scatter_item_primitive = Primitive("scatter_item(x, *indices, key, shape) -> y")
scatter_item_primitive.infer(lambda x, *indices, key, shape: Symbol(shape, x.dtype))
scatter_item_primitive.cuda(scatter_item_rule)
scatter_item_primitive.vjp(
    lambda g, indices, key, shape: (
        gather_item_primitive(g, *indices, key=key),
        *[None] * len(indices),
    )
)


@gather_item_primitive.infer
def _(x, *indices, key):
    joint = np.broadcast_shapes(*[i.shape for i in indices])
    chosen = [i for i, k in enumerate(key) if k == ARRAY or type(k) is int]
    together = chosen[-1] - chosen[0] == len(chosen) - 1
    # Indices that stand together leave their axes in place; else the joint axes go first.
    before = key[: chosen[0]] if together else ()
    lead = len([k for k in before if k is not None])
    rest = [k for i, k in enumerate(key) if i not in chosen and not (together and i < chosen[0])]
    left = list(x.shape[lead:])
    axis, lengths = 0, []
    for k in key[len(before) :]:
        if k is not None:
            if type(k) is tuple:
                lengths.append(left[axis])
            axis += 1
    tail = (*lengths, *left[axis:])
    return Symbol((*_item_shape(x.shape[:lead], before), *joint, *_item_shape(tail, rest)), x.dtype)


@scatter_item_primitive.array
def _(xp, x, *indices, key, shape):
    wide = x.astype(_FLOAT32) if x.dtype in _HALVES else x
    y = add_at(xp, xp.zeros(shape, wide.dtype), _plain(key, indices), wide)
    return y.astype(x.dtype)


@public
def get_item(x, key):
    """Returns `x[key]`.

    Args:
        x: Tensor of any shape.
        key: As in NumPy: integers, slices, `None`, `...`, integer tensors, boolean masks (these
            outside of traces only: the shape of the result depends on their values).

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If there are more indices than axes, or one is out of range.
        DTypeError: If an index tensor is neither of integers nor of bools.

    Example:
        >>> import gpunet
        >>> gpunet.ops.get_item([[1, 2], [3, 4]], (slice(None), 0)).tolist()
        [1, 3]
    """
    x = as_tensor(x)
    if type(key) is int and x.shape and -x.shape[0] <= key < x.shape[0]:
        return item_primitive(x, key=(key,))
    key = key if type(key) is tuple else (key,)
    plain = _simple_key(key, x.shape)
    if plain is not None:
        return item_primitive(x, key=plain)
    key, indices = _parse(key, x)
    if not indices:
        return item_primitive(x, key=key)
    if len(indices) == 1 and key[-1] == ARRAY and all(k == _EVERYTHING for k in key[:-1]):
        return take_primitive(x, indices[0], axis=len(key) - 1)
    return gather_item_primitive(x, *indices, key=key)


_EVERYTHING = (None, None, None)


def _simple_key(key, shape):
    """A key of integers in range, `None` and slices between integers; `None` for any other."""
    plain, axis = [], 0
    if len(key) > len(shape):
        return None
    for k in key:
        kind = type(k)
        if kind is slice:
            k = (k.start, k.stop, k.step)
            for end in k:
                if end is not None and type(end) is not int:
                    return None
        elif kind is int:
            if not -shape[axis] <= k < shape[axis]:
                return None
        elif k is not None:
            return None
        plain.append(k)
        axis += k is not None
    return tuple(plain)


def _parse(key, x):
    """Splits a key into plain Python values (`...` filled in) and index tensors."""
    shape, plain, indices = x.shape, [], []
    key = [_index_tensor(k, x) for k in key]
    used = sum(_axes_of(k) for k in key)
    if used > len(shape) or sum(k is Ellipsis for k in key) > 1:
        raise ShapeError(f"Too many indices for {len(shape)} axes. {received(key=key)}")
    axis = 0
    for k in key:
        if k is None:
            plain.append(None)
        elif k is Ellipsis:
            plain += [_EVERYTHING] * (len(shape) - used)
            axis += len(shape) - used
        elif isinstance(k, slice):
            ends = (k.start, k.stop, k.step)
            plain.append(tuple([None if v is None else operator.index(v) for v in ends]))
            axis += 1
        elif isinstance(k, int):
            if not -shape[axis] <= k < shape[axis]:
                raise ShapeError(
                    f"Index {k} is out of range for axis {axis}. {received(shape=shape)}"
                )
            plain.append(k)
            axis += 1
        else:
            found = _mask_indices(k, shape[axis:]) if k.dtype == bool else [k]
            plain += [ARRAY] * len(found)
            indices += found
            axis += len(found)
    return tuple(plain), indices


def _index_tensor(k, x):
    if type(k) is int or type(k) is slice or k is None or k is Ellipsis:
        return k
    if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
        return int(k)
    k = as_tensor(k, device=x.device)
    if k.size == 0 and k.dtype.kind == "f":
        k = Tensor(k.data.astype(np.int32), k.device)  # an empty list has no dtype of its own
    if k.dtype.kind not in "biu":
        raise DTypeError(f"Indices are integers, slices or masks. {received(dtype=k.dtype)}")
    return k


def _axes_of(k):
    if k is None or k is Ellipsis:
        return 0
    return len(k.shape) if isinstance(k, Tensor) and k.dtype == bool else 1


def _mask_indices(mask, shape):
    if mask.shape != shape[: len(mask.shape)]:
        raise ShapeError(
            "A mask must have the shape of the axes it chooses from. "
            + received(mask=mask.shape, axes=shape)
        )
    return list(nonzero(mask))


@public
def nonzero(x):
    """Returns the indices of the elements that are not zero, one tensor for each axis.

    The shape of the result depends on the values, so this cannot be traced.

    Args:
        x: Tensor with at least one axis.

    Returns:
        Tuple of int32 tensors of shape `(count,)`.

    Raises:
        TraceError: While tracing.

    Example:
        >>> import gpunet
        >>> [i.tolist() for i in gpunet.ops.nonzero([[0, 5], [7, 0]])]
        [[0, 1], [1, 0]]
    """
    x = as_tensor(x)
    data = concrete(x, "nonzero")
    if not x.shape:
        raise ShapeError(f"nonzero needs at least one axis. {received(shape=x.shape)}")
    xp = x.device.xp
    with x.device.activate():
        found = xp.nonzero(data if x.dtype == bool else data != 0)
        return tuple([Tensor(i.astype(np.int32), x.device) for i in found])


def concrete(x: Tensor, what: str) -> Any:
    """Returns the array of a tensor whose values decide about shapes.

    Raises:
        TraceError: If it is only being traced.
    """
    if type(x.data) is Symbol:
        raise TraceError(
            f"The shape of the result of {what} depends on values, so it cannot be traced: use "
            f"`ops.where`, or compute it outside. {received(shape=x.shape, dtype=x.dtype)}"
        )
    return x.data


# -- take ---------------------------------------------------------------------------------------

take_primitive = Primitive("take(x, indices, *, axis) -> y")
take_primitive.array(lambda xp, x, indices, axis: xp.take(x, indices, axis))
take_primitive.cuda(take_rule)
take_primitive.native(take_plan)
take_primitive.vjp(
    lambda g, x_shape, indices, axis: (
        index_add_primitive(g, indices, axis=axis, length=x_shape[axis]),
        None,
    )
)

# Sums slices into those of zeros that the indices name: the gradient of take.
index_add_primitive = Primitive("index_add(x, indices, *, axis, length) -> y")
index_add_primitive.cuda(index_add_rule)
index_add_primitive.native(index_add_plan)
index_add_primitive.vjp(
    lambda g, indices, axis, length: (take_primitive(g, indices, axis=axis), None)
)


@take_primitive.infer
def _(x, indices, axis):
    return Symbol((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


@index_add_primitive.infer
def _(x, indices, axis, length):
    return Symbol((*x.shape[:axis], length, *x.shape[axis + indices.ndim :]), x.dtype)


@index_add_primitive.array
def _(xp, x, indices, axis, length):
    wide = x.astype(_FLOAT32) if x.dtype in _HALVES else x
    y = xp.zeros((*x.shape[:axis], length, *x.shape[axis + indices.ndim :]), wide.dtype)
    return add_at(xp, y, (*(slice(None),) * axis, indices), wide).astype(x.dtype)


@index_add_primitive.cpu
def _(x, indices, axis, length):
    n, dtype = indices.size, x.dtype
    shape = (*x.shape[:axis], n, *x.shape[axis + indices.ndim :])
    rows = np.moveaxis(x.reshape(shape), axis, 0)
    rest = rows.shape[1:]
    rows = rows.reshape(n, int(np.prod(rest)))
    rows = rows.astype(_FLOAT32) if dtype in _HALVES else rows
    ids = np.asarray(indices).reshape(n).astype(np.intp)
    if n and not (-length <= ids.min() and ids.max() < length):
        raise IndexError(f"an index is out of range for an axis of length {length}")
    y = sum_rows(np.where(ids < 0, ids + length, ids), rows, length)
    return np.moveaxis(y.reshape(length, *rest), 0, axis).astype(dtype, copy=False)


@public
def take(x, indices, axis=None):
    """Returns the slices of a tensor that the indices name, such as rows of an embedding table.

    Args:
        x: Tensor.
        indices: Integer tensor of any shape, in `[-n, n)`; negative ones count from the end.
        axis: The axis that is indexed, of length `n`; default: `x` is flattened.

    Returns:
        Tensor of shape `x.shape[:axis] + indices.shape + x.shape[axis + 1:]`.

    Raises:
        ShapeError: If an index is out of range (on CUDA devices and the emulator it
            wraps around: nothing waits there to look).
        DTypeError: If the indices are no integers.

    Example:
        >>> import gpunet
        >>> gpunet.ops.take([[1, 2], [3, 4], [5, 6]], [2, 0], axis=0).tolist()
        [[5, 6], [1, 2]]
    """
    x = as_tensor(x)
    indices = integers(indices, x)
    if axis is None:
        return take_primitive(ravel(x), indices, axis=0)
    return take_primitive(x, indices, axis=one_axis(axis, len(x.shape)))


def integers(indices: Any, x: Tensor, name: str = "indices") -> Tensor:
    """Returns indices as a tensor on the device of `x`.

    Raises:
        DTypeError: If they are no integers.
    """
    indices = as_tensor(indices, device=x.device)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"`{name}` must be integers. {received(dtype=indices.dtype)}")
    return indices


# -- along an axis ------------------------------------------------------------------------------

along_primitive = Primitive("take_along_axis(x, indices, *, axis) -> y")
along_primitive.array(lambda xp, x, indices, axis: xp.take_along_axis(x, indices, axis))
along_primitive.infer(lambda x, indices, axis: Symbol(indices.shape, x.dtype))
along_primitive.cuda(take_along_rule)
along_primitive.native(take_along_plan)
along_primitive.vjp(
    lambda g, x_shape, indices, axis: (
        add_along_primitive(g, indices, axis=axis, length=x_shape[axis]),
        None,
    )
)

# Adds elements to zeros, each at its index along the axis: the gradient of take_along_axis.
add_along_primitive = Primitive("add_along_axis(x, indices, *, axis, length) -> y")
add_along_primitive.cuda(add_along_rule)
add_along_primitive.native(add_along_plan)
add_along_primitive.vjp(
    lambda g, indices, axis, length: (along_primitive(g, indices, axis=axis), None)
)


@add_along_primitive.infer
def _(x, indices, axis, length):
    return Symbol((*x.shape[:axis], length, *x.shape[axis + 1 :]), x.dtype)


@add_along_primitive.array
def _(xp, x, indices, axis, length):
    wide = x.astype(_FLOAT32) if x.dtype in _HALVES else x
    wide, ids = xp.moveaxis(wide, axis, -1), xp.moveaxis(indices, axis, -1).astype(np.int64)
    lead = wide.shape[:-1]
    rows = int(np.prod(lead))
    ids = xp.where(ids < 0, ids + length, ids).reshape(rows, -1 if rows else wide.shape[-1])
    places = ((ids + xp.arange(rows)[:, None] * length).reshape(-1),)
    y = add_at(xp, xp.zeros(rows * length, wide.dtype), places, wide.reshape(-1))
    return xp.moveaxis(y.reshape(*lead, length), -1, axis).astype(x.dtype)


@public
def take_along_axis(x, indices, axis=None):
    """Returns the elements that the indices name along an axis, row by row.

    Args:
        x: Tensor.
        indices: Integer tensor of the rank of `x`; its other axes broadcast with those of `x`.
        axis: Integer; default: `x` is flattened.

    Returns:
        Tensor of the shape of `indices` (broadcast).

    Raises:
        ShapeError: If the ranks differ, or an index is out of range.
        DTypeError: If the indices are no integers.

    Example:
        >>> import gpunet
        >>> gpunet.ops.take_along_axis([[1, 2], [3, 4]], [[1], [0]], axis=1).tolist()
        [[2], [3]]
    """
    x = as_tensor(x)
    indices = integers(indices, x)
    if axis is None:
        return along_primitive(ravel(x), ravel(indices), axis=0)
    if len(x.shape) != len(indices.shape):
        raise ShapeError(
            f"`indices` needs the rank of `x`. {received(x=x.shape, indices=indices.shape)}"
        )
    axis = one_axis(axis, len(x.shape))
    try:
        joint = np.broadcast_shapes(_one_at(x.shape, axis), _one_at(indices.shape, axis))
    except ValueError as error:
        raise ShapeError(
            f"`indices` must match `x` along all axes but {axis}. "
            + received(x=x.shape, indices=indices.shape)
        ) from error
    long = list(joint)
    long[axis] = x.shape[axis]
    short = list(joint)
    short[axis] = indices.shape[axis]
    return along_primitive(
        broadcast_to(x, tuple(long)), broadcast_to(indices, tuple(short)), axis=axis
    )


def _one_at(shape, axis):
    return (*shape[:axis], 1, *shape[axis + 1 :])
