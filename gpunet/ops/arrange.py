"""Arranging: pad, tile, repeat, flip, roll, rotate; views, concatenations and gathers."""

import itertools
import operator
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.copy_launch import pad_rule, pad_value
from gpunet.ops.copy_native import pad_native
from gpunet.ops.elementwise import cast_to
from gpunet.ops.index import concrete, item_primitive, take_primitive
from gpunet.ops.shape import (
    broadcast_primitive,
    broadcast_to,
    concatenate_primitive,
    expand_dims,
    many_axes,
    one_axis,
    ravel,
    reshape_primitive,
    split_primitive,
    swapaxes,
)

__all__ = ["flip", "fliplr", "flipud", "meshgrid", "pad", "repeat", "roll", "rot90", "tile"]

# -- repeating and padding ----------------------------------------------------------------------


@public
def pad(x, pad_width, mode="constant", constant_values=None):
    """Returns the tensor with elements added before and after along each axis.

    Args:
        x: Tensor.
        pad_width: An integer for all, `(before, after)` for all axes, or a pair for each axis.
        mode: `"constant"`, `"edge"` (repeats the last element), `"reflect"` (mirrors without the
            last element), `"symmetric"` (mirrors with it) or `"wrap"`.
        constant_values: What mode `"constant"` adds; default 0.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ArgumentError: If the mode is unknown, a width is negative, or a constant is given to
            another mode.

    Example:
        >>> import gpunet
        >>> gpunet.ops.pad([1, 2, 3], (1, 2), mode="reflect").tolist()
        [2, 1, 2, 3, 2, 1]
    """
    x = as_tensor(x)
    widths = _pad_widths(pad_width, len(x.shape))
    if mode == "constant":
        return pad_constant(x, widths, 0 if constant_values is None else constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap") or constant_values is not None:
        raise ArgumentError(
            '`mode` is "constant", "edge", "reflect", "symmetric" or "wrap", and only the first '
            f"takes `constant_values`. {received(mode=mode, constant_values=constant_values)}"
        )
    for axis, width in enumerate(widths):
        if width != (0, 0):
            places = constant(np.pad(np.arange(x.shape[axis], dtype=np.int32), width, mode), x)
            x = take_primitive(x, places, axis=axis)
    return x


def constant(array: np.ndarray, x: Tensor) -> Tensor:
    """Returns an array as a tensor on the device of `x`."""
    return as_tensor(array, device=x.device)


def _pad_widths(pad_width, ndim):
    widths = np.asarray(pad_width)
    if widths.dtype.kind not in "iu" or (widths.size and widths.min() < 0):
        raise ArgumentError(f"`pad_width` holds integers >= 0. {received(pad_width=pad_width)}")
    if widths.shape not in ((), (1,), (2,), (1, 2), (ndim, 2), (ndim, 1)):
        raise ShapeError(
            f"`pad_width` is an integer, a pair, or a pair for each of the {ndim} axes. "
            + received(pad_width=pad_width)
        )
    return [(int(a), int(b)) for a, b in np.broadcast_to(widths, (ndim, 2))]


pad_primitive = Primitive("pad(x, *, widths, value) -> y")
pad_primitive.vjp(lambda g, x_shape, widths, value: item_primitive(g, key=_inside(x_shape, widths)))


def _inside(shape, widths):
    """The key of what was padded, in the result."""
    return tuple([(before, before + n, None) for n, (before, _) in zip(shape, widths, strict=True)])


def _padded(shape, widths):
    return tuple([before + n + after for n, (before, after) in zip(shape, widths, strict=True)])


@pad_primitive.array
def _(xp, x, widths, value):
    y = xp.full(_padded(x.shape, widths), pad_value(value, x.dtype), x.dtype)
    y[tuple([slice(*cut) for cut in _inside(x.shape, widths)])] = x
    return y


pad_primitive.infer(lambda x, widths, value: Symbol(_padded(x.shape, widths), x.dtype))
pad_primitive.cuda(pad_rule(pad_primitive.rules["array"]))
pad_primitive.native(pad_native)


def pad_constant(x: Tensor, widths: list[tuple[int, int]], value: Any) -> Tensor:
    """Returns the tensor with a value added before and after along each axis."""
    if all(width == (0, 0) for width in widths):
        return x
    if isinstance(value, (bool, int, float)):
        return pad_primitive(x, widths=tuple(widths), value=value)
    value = cast_to(as_tensor(value, device=x.device), x.dtype)
    for axis, width in enumerate(widths):
        sides = [
            broadcast_primitive(value, shape=(*x.shape[:axis], n, *x.shape[axis + 1 :]))
            for n in width
        ]
        if width != (0, 0):
            parts = [sides[0], x, sides[1]]
            kept = [part for part, n in zip(parts, (width[0], 1, width[1]), strict=True) if n]
            x = concatenate_primitive(*kept, axis=axis)
    return x


@public
def tile(x, repeats):
    """Returns copies of a tensor side by side.

    Args:
        x: Tensor.
        repeats: How many along each axis; an integer stands for the last axis.

    Returns:
        Tensor of the dtype of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.tile([1, 2], 2).tolist()
        [1, 2, 1, 2]
    """
    x = as_tensor(x)
    repeats = (repeats,) if not hasattr(repeats, "__len__") else tuple(repeats)
    counts = tuple([operator.index(n) for n in repeats])
    ndim = max(len(counts), len(x.shape))
    counts, shape = (1,) * (ndim - len(counts)) + counts, (1,) * (ndim - len(x.shape)) + x.shape
    apart = tuple(itertools.chain(*[(1, d) for d in shape]))
    long = tuple(itertools.chain(*zip(counts, shape, strict=True)))
    y = broadcast_to(reshape_primitive(x, shape=apart), long)
    return reshape_primitive(y, shape=tuple([n * d for n, d in zip(counts, shape, strict=True)]))


@public
def repeat(x, repeats, axis=None):
    """Returns each element repeated.

    Args:
        x: Tensor.
        repeats: How often: an integer, or one for each slice along the axis.
        axis: Integer; default: `x` is flattened.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If `repeats` has neither one number nor one for each slice.

    Example:
        >>> import gpunet
        >>> gpunet.ops.repeat([1, 2], 2).tolist()
        [1, 1, 2, 2]
    """
    x = as_tensor(x)
    x = ravel(x) if axis is None else x
    axis = 0 if axis is None else one_axis(axis, len(x.shape))
    shape = x.shape
    if isinstance(repeats, Operators):
        repeats = np.asarray(concrete(as_tensor(repeats), "repeat"))
    counts = np.asarray(repeats)
    if counts.size == 1:
        n = int(counts.reshape(()))
        longer = (*shape[: axis + 1], n, *shape[axis + 1 :])
        y = broadcast_to(expand_dims(x, axis + 1), longer)
        return reshape_primitive(y, shape=(*shape[:axis], shape[axis] * n, *shape[axis + 1 :]))
    if counts.shape != (shape[axis],):
        raise ShapeError(
            f"`repeats` is one integer, or one for each of {shape[axis]} slices. "
            + received(repeats=repeats)
        )
    places = np.repeat(np.arange(shape[axis], dtype=np.int32), counts)
    return take_primitive(x, constant(places, x), axis=axis)


# -- reordering ---------------------------------------------------------------------------------


@public
def flip(x, axis=None):
    """Returns the elements in reverse order along axes.

    Args:
        x: Tensor.
        axis: Integer or tuple; default all axes.

    Returns:
        Tensor of the dtype of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.flip([[1, 2], [3, 4]], axis=0).tolist()
        [[3, 4], [1, 2]]
    """
    x = as_tensor(x)
    ndim = len(x.shape)
    axes = range(ndim) if axis is None else many_axes(axis, ndim)
    return item_primitive(x, key=tuple([(None, None, -1 if a in axes else 1) for a in range(ndim)]))


@public
def fliplr(x):
    """Returns the elements in reverse order along axis 1."""
    return flip(x, 1)


@public
def flipud(x):
    """Returns the elements in reverse order along axis 0."""
    return flip(x, 0)


@public
def roll(x, shift, axis=None):
    """Returns the elements moved along axes; what leaves at one end comes in at the other.

    Args:
        x: Tensor.
        shift: Integer, or one for each axis given.
        axis: Integer or tuple; default: rolled as if flattened.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ArgumentError: If there are not as many shifts as axes.

    Example:
        >>> import gpunet
        >>> gpunet.ops.roll([1, 2, 3, 4], 1).tolist()
        [4, 1, 2, 3]
    """
    x = as_tensor(x)
    if axis is None:
        return reshape_primitive(roll(ravel(x), shift, 0), shape=x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ArgumentError(f"One shift an axis is needed. {received(shift=shift, axis=axis)}")
    for a, s in zip(axes, shifts, strict=True):
        a = one_axis(a, len(x.shape))
        n = x.shape[a]
        cut = -operator.index(s) % n if n else 0
        if cut:
            first, second = split_primitive(x, axis=a, sizes=(cut, n - cut))
            x = concatenate_primitive(second, first, axis=a)
    return x


@public
def rot90(array, k=1, axes=(0, 1)):
    """Returns the tensor turned by 90 degrees in the plane of two axes.

    Args:
        array: Tensor with at least two axes.
        k: How many times; the direction is from the first towards the second axis.
        axes: Two different axes.

    Returns:
        Tensor of the dtype of `array`.

    Raises:
        ArgumentError: If the axes are not two different ones.

    Example:
        >>> import gpunet
        >>> gpunet.ops.rot90([[1, 2], [3, 4]]).tolist()
        [[2, 4], [1, 3]]
    """
    x = as_tensor(array)
    plane = many_axes(tuple(axes), len(x.shape), "axes")
    if len(plane) != 2:
        raise ArgumentError(f"`axes` must be two different axes. {received(axes=axes)}")
    first, second = plane
    turns = operator.index(k) % 4
    if turns == 0:
        return x
    if turns == 2:
        return flip(x, plane)
    if turns == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second)


@public
def meshgrid(*x, indexing="xy"):
    """Returns the coordinates of a grid, one tensor for each axis.

    Args:
        *x: Tensors of one axis.
        indexing: `"xy"`: the first two axes of the results are exchanged; `"ij"`: they are not.

    Returns:
        List of tensors.

    Raises:
        ArgumentError: If `indexing` is neither.

    Example:
        >>> import gpunet
        >>> [a.tolist() for a in gpunet.ops.meshgrid([1, 2], [3, 4])]
        [[[1, 2], [1, 2]], [[3, 3], [4, 4]]]
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f'`indexing` is "xy" or "ij". {received(indexing=indexing)}')
    tensors = [ravel(t) for t in x]
    count = len(tensors)
    shape = tuple([t.shape[0] for t in tensors])
    grids = [
        broadcast_to(
            reshape_primitive(t, shape=tuple([n if a == i else 1 for a in range(count)])), shape
        )
        for i, (t, n) in enumerate(zip(tensors, shape, strict=True))
    ]
    return [swapaxes(g, 0, 1) for g in grids] if indexing == "xy" and count > 1 else grids
