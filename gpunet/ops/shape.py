"""Shape: reshape, transpose, broadcast, join, split; mostly views on NumPy, not copies."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.core.variable import standardize_shape
from gpunet.dtypes import numpy_dtype, result_type
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.copy_launch import concatenate_rule, stack_rule
from gpunet.ops.copy_native import (
    broadcast_native,
    concatenate_native,
    split_native,
    stack_native,
    transpose_native,
    unstack_native,
)
from gpunet.ops.elementwise import cast_to

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "moveaxis",
    "ravel",
    "reshape",
    "squeeze",
    "stack",
    "swapaxes",
    "transpose",
]

reshape_primitive = Primitive("reshape(x, *, shape) -> y")
reshape_primitive.array(lambda xp, x, shape: x.reshape(shape))
reshape_primitive.infer(lambda x, shape: Symbol(shape, x.dtype))
reshape_primitive.vjp(lambda g, x_shape, shape: reshape_primitive(g, shape=x_shape))

transpose_primitive = Primitive("transpose(x, *, axes) -> y")
transpose_primitive.array(lambda xp, x, axes: x.transpose(axes))
transpose_primitive.infer(lambda x, axes: Symbol([x.shape[a] for a in axes], x.dtype))
transpose_primitive.native(transpose_native)
transpose_primitive.vjp(lambda g, axes: transpose_primitive(g, axes=_inverse(axes)))

broadcast_primitive = Primitive("broadcast_to(x, *, shape) -> y")
broadcast_primitive.array(lambda xp, x, shape: xp.broadcast_to(x, shape))


@broadcast_primitive.cpu
def _(x, shape):
    if x.shape:
        return np.broadcast_to(x, shape)
    # The same view of a scalar, for a tenth of the time: this is in the gradient of every loss.
    return np.ndarray(shape, x.dtype, np.asarray(x), strides=(0,) * len(shape))


broadcast_primitive.native(broadcast_native)
broadcast_primitive.vjp(lambda g, x_shape, shape: sum_to(g, x_shape))

# The inverse of broadcasting; the autograd engine calls it by its name.
sum_to_primitive = Primitive("sum_to(x, *, shape) -> y")
sum_to_primitive.vjp(lambda g, x_shape, shape: broadcast_primitive(g, shape=x_shape))

concatenate_primitive = Primitive("concatenate(*xs, axis) -> y")
concatenate_primitive.array(lambda xp, *xs, axis: xp.concatenate(xs, axis))
concatenate_primitive.cuda(concatenate_rule)
concatenate_primitive.native(concatenate_native)
concatenate_primitive.vjp(
    lambda g, xs_shape, axis: split_primitive(
        g, axis=axis, sizes=tuple([shape[axis] for shape in xs_shape])
    )
)

split_primitive = Primitive("split(x, *, axis, sizes) -> ys")
split_primitive.native(split_native)
split_primitive.vjp(
    lambda g, axis, sizes: concatenate_primitive(*(g if type(g) is tuple else (g,)), axis=axis)
)


stack_primitive = Primitive("stack(*xs, axis) -> y")
stack_primitive.cuda(stack_rule)
stack_primitive.native(stack_native)
stack_primitive.vjp(lambda g, axis: unstack_primitive(g, axis=axis))

unstack_primitive = Primitive("unstack(x, *, axis) -> ys")
unstack_primitive.native(unstack_native)
unstack_primitive.vjp(
    lambda g, axis: stack_primitive(*(g if type(g) is tuple else (g,)), axis=axis)
)


@stack_primitive.array
def _(xp, *xs, axis):
    shape = xs[0].shape
    longer = (*shape[:axis], 1, *shape[axis:])
    return xp.concatenate([x.reshape(longer) for x in xs], axis)


@stack_primitive.infer
def _(*xs, axis):
    shape = xs[0].shape
    return Symbol((*shape[:axis], len(xs), *shape[axis:]), xs[0].dtype)


@unstack_primitive.array
def _(xp, x, axis):
    before = (slice(None),) * axis
    return tuple([x[(*before, i)] for i in range(x.shape[axis])])


@unstack_primitive.infer
def _(x, axis):
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return tuple([Symbol(shape, x.dtype) for _ in range(x.shape[axis])])


@broadcast_primitive.infer
def _(x, shape):
    if np.broadcast_shapes(x.shape, shape) != shape:
        raise ShapeError(f"Cannot broadcast. {received(x_shape=x.shape, shape=shape)}")
    return Symbol(shape, x.dtype)


@concatenate_primitive.infer
def _(*xs, axis):
    shape = xs[0].shape
    before, after = shape[:axis], shape[axis + 1 :]
    for x in xs:
        if x.ndim != len(shape) or (x.shape[:axis], x.shape[axis + 1 :]) != (before, after):
            raise ShapeError(
                f"Tensors joined along axis {axis} must have equal lengths along all others. "
                + received(shapes=[x.shape for x in xs])
            )
    return Symbol((*before, sum(x.shape[axis] for x in xs), *after), xs[0].dtype)


@split_primitive.array
def _(xp, x, axis, sizes):
    parts, start, before = [], 0, (slice(None),) * axis
    for size in sizes:
        parts.append(x[(*before, slice(start, start + size))])
        start += size
    return tuple(parts)


@split_primitive.infer
def _(x, axis, sizes):
    shape = x.shape
    return tuple([Symbol((*shape[:axis], n, *shape[axis + 1 :]), x.dtype) for n in sizes])


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums a tensor down to a shape that broadcasts to its own."""
    return x if x.shape == shape else sum_to_primitive(x, shape=shape)


def _inverse(axes):
    inverse = [0] * len(axes)
    for i, a in enumerate(axes):
        inverse[a] = i
    return tuple(inverse)


def one_axis(axis: Any, ndim: int, name: str = "axis") -> int:
    """Returns an axis as a number from 0 to `ndim - 1`.

    Raises:
        ArgumentError: If it is no integer in `[-ndim, ndim)`.
    """
    if type(axis) is int and -ndim <= axis < ndim:
        return axis + ndim if axis < 0 else axis
    try:
        i = operator.index(axis)
    except TypeError as error:
        raise ArgumentError(f"`{name}` must be an integer. {received(**{name: axis})}") from error
    if not -ndim <= i < ndim:
        raise ArgumentError(
            f"`{name}` must be in [{-ndim}, {ndim}) for a tensor with {ndim} axes. "
            + received(**{name: axis})
        )
    return i + ndim if i < 0 else i


def many_axes(axis: Any, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """Returns one axis or several as a tuple of numbers from 0 to `ndim - 1`, in the order given.

    Raises:
        ArgumentError: If one is out of range, or twice there.
    """
    if isinstance(axis, (tuple, list)):
        axes = tuple([one_axis(a, ndim, name) for a in axis])
        if len(set(axes)) < len(axes):
            raise ArgumentError(f"`{name}` names one axis twice. {received(**{name: axis})}")
        return axes
    return (one_axis(axis, ndim, name),)


def as_shape(shape: Any) -> tuple[int, ...]:
    """Returns a shape given as an integer or a sequence of integers (or of integer tensors)."""
    if type(shape) is tuple and all(type(d) is int and d >= 0 for d in shape):
        return shape
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    return standardize_shape((shape,) if not isinstance(shape, (tuple, list)) else shape)


def same_dtype(xs: Sequence[Any]) -> list[Tensor]:
    """Returns tensor-likes as tensors of their promoted dtype."""
    tensors = [x if type(x) is Tensor else as_tensor(x) for x in xs]
    dtype = tensors[0].data.dtype
    if all(x.data.dtype == dtype for x in tensors):
        return tensors
    dtype = numpy_dtype(result_type(*[x.data.dtype for x in tensors]))
    return [cast_to(x, dtype) for x in tensors]


@public
def reshape(x, newshape):
    """Returns the elements in another shape.

    Args:
        x: Tensor of any shape.
        newshape: Integer or tuple; one length may be -1, which stands for what is left over.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If the number of elements differs.

    Example:
        >>> import gpunet
        >>> gpunet.ops.reshape([[1, 2, 3], [4, 5, 6]], (3, -1)).tolist()
        [[1, 2], [3, 4], [5, 6]]
    """
    x = as_tensor(x)
    if type(newshape) is not tuple:
        newshape = newshape.tolist() if hasattr(newshape, "tolist") else newshape
        newshape = tuple(newshape) if isinstance(newshape, (list, tuple)) else (newshape,)
    return reshape_primitive(x, shape=_full_shape(x.shape, tuple(map(operator.index, newshape))))


@functools.lru_cache(4096)
def _full_shape(shape, given):
    size = math.prod(shape)
    if -1 in given:
        known = math.prod([d for d in given if d != -1])
        if given.count(-1) == 1 and (size == 0 if known == 0 else known > 0 and size % known == 0):
            rest = size // known if known else 0
            return tuple([rest if d == -1 else d for d in given])
    elif math.prod(given) == size and min(given, default=0) >= 0:
        return given
    raise ShapeError(
        "reshape keeps the number of elements; at most one length may be -1. "
        + received(x_shape=shape, newshape=given)
    )


@public
def transpose(x, axes=None):
    """Returns the tensor with its axes in another order.

    Args:
        x: Tensor of any shape.
        axes: A permutation of the axes; default: reversed.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ArgumentError: If `axes` is no permutation.

    Example:
        >>> import gpunet
        >>> gpunet.ops.transpose([[1, 2], [3, 4]]).tolist()
        [[1, 3], [2, 4]]
    """
    x = as_tensor(x)
    ndim = len(x.shape)
    if axes is None:
        return transpose_primitive(x, axes=tuple(range(ndim - 1, -1, -1)))
    return transpose_primitive(x, axes=_permutation(tuple(axes), ndim))


@functools.lru_cache(1024)
def _permutation(axes, ndim):
    checked = many_axes(axes, ndim, "axes")
    if len(checked) != ndim:
        raise ArgumentError(f"`axes` must name each of the {ndim} axes once. {received(axes=axes)}")
    return checked


@public
def broadcast_to(x, shape):
    """Returns the tensor repeated along new axes and axes of length 1.

    Args:
        x: Tensor.
        shape: The shape of the result.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If `x` does not broadcast to the shape.

    Example:
        >>> import gpunet
        >>> gpunet.ops.broadcast_to([1, 2], (2, 2)).tolist()
        [[1, 2], [1, 2]]
    """
    x, shape = as_tensor(x), as_shape(shape)
    return x if x.shape == shape else broadcast_primitive(x, shape=shape)


@public
def concatenate(xs, axis=0):
    """Returns tensors joined along an axis they have.

    Args:
        xs: Sequence of tensors; their shapes may differ along `axis` only.
        axis: Integer, default 0.

    Returns:
        Tensor of the promoted dtype.

    Raises:
        ShapeError: If the shapes do not match.

    Example:
        >>> import gpunet
        >>> gpunet.ops.concatenate([[1, 2], [3]]).tolist()
        [1, 2, 3]
    """
    tensors = same_dtype(_not_empty(xs))
    return concatenate_primitive(*tensors, axis=one_axis(axis, len(tensors[0].shape)))


def _not_empty(xs):
    xs = list(xs)
    if not xs:
        raise ArgumentError(f"At least one tensor is needed. {received(xs=xs)}")
    return xs


@public
def stack(x, axis=0):
    """Returns tensors of one shape joined along a new axis.

    Args:
        x: Sequence of tensors.
        axis: Place of the new axis in the result, default 0.

    Returns:
        Tensor of the promoted dtype.

    Raises:
        ShapeError: If the shapes differ.

    Example:
        >>> import gpunet
        >>> gpunet.ops.stack([[1, 2], [3, 4]], axis=1).tolist()
        [[1, 3], [2, 4]]
    """
    tensors = same_dtype(_not_empty(x))
    shape = tensors[0].shape
    if any(t.shape != shape for t in tensors):
        raise ShapeError(f"stack needs equal shapes. {received(shapes=[t.shape for t in tensors])}")
    return stack_primitive(*tensors, axis=one_axis(axis, len(shape) + 1))


@public
def expand_dims(x, axis):
    """Returns the tensor with new axes of length 1.

    Args:
        x: Tensor of any shape.
        axis: Integer or tuple: where the new axes are in the result.

    Returns:
        Tensor of the dtype of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.expand_dims([1, 2], -1).shape
        (2, 1)
    """
    x = as_tensor(x)
    if type(axis) is int and -1 <= axis <= len(x.shape):
        axis = axis if axis >= 0 else len(x.shape)
        return reshape_primitive(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = many_axes(axis, len(x.shape) + count)
    lengths = iter(x.shape)
    shape = [1 if i in axes else next(lengths) for i in range(len(x.shape) + count)]
    return reshape_primitive(x, shape=tuple(shape))


@public
def squeeze(x, axis=None):
    """Returns the tensor without axes of length 1.

    Args:
        x: Tensor of any shape.
        axis: Integer or tuple: which ones; default all.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If an axis named is longer than 1.

    Example:
        >>> import gpunet
        >>> gpunet.ops.squeeze([[[1], [2]]]).shape
        (2,)
    """
    x = as_tensor(x)
    shape = x.shape
    if axis is None:
        axes = tuple([i for i, d in enumerate(shape) if d == 1])
    else:
        axes = many_axes(axis, len(shape))
        if any(shape[a] != 1 for a in axes):
            raise ShapeError(
                f"squeeze removes axes of length 1 only. {received(axis=axis, x_shape=shape)}"
            )
    return reshape_primitive(x, shape=tuple([d for i, d in enumerate(shape) if i not in axes]))


@public
def ravel(x):
    """Returns the elements as one row.

    Args:
        x: Tensor of any shape.

    Returns:
        Tensor of shape `(size,)`.
    """
    x = as_tensor(x)
    return reshape_primitive(x, shape=(math.prod(x.shape),))


@public
def moveaxis(x, source, destination):
    """Returns the tensor with some axes moved; the others keep their order.

    Args:
        x: Tensor of any shape.
        source: Integer or tuple: axes to move.
        destination: Integer or tuple: where they go.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ArgumentError: If `source` and `destination` have different lengths.

    Example:
        >>> import gpunet
        >>> gpunet.ops.moveaxis(gpunet.ops.zeros((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    x = as_tensor(x)
    ndim = len(x.shape)
    sources = many_axes(source, ndim, "source")
    destinations = many_axes(destination, ndim, "destination")
    if len(sources) != len(destinations):
        raise ArgumentError(
            "`source` and `destination` must name equally many axes. "
            + received(source=source, destination=destination)
        )
    axes = [a for a in range(ndim) if a not in sources]
    for place, a in sorted(zip(destinations, sources, strict=True)):
        axes.insert(place, a)
    return transpose_primitive(x, axes=tuple(axes))


@public
def swapaxes(x, axis1, axis2):
    """Returns the tensor with two axes exchanged.

    Args:
        x: Tensor of any shape.
        axis1: Integer.
        axis2: Integer.

    Returns:
        Tensor of the dtype of `x`.
    """
    x = as_tensor(x)
    axes = list(range(len(x.shape)))
    a, b = one_axis(axis1, len(axes), "axis1"), one_axis(axis2, len(axes), "axis2")
    axes[a], axes[b] = b, a
    return transpose_primitive(x, axes=tuple(axes))
