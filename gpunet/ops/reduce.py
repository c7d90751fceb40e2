"""Reductions. Half types are summed in float32; small integers in 32 bits, as in JAX and Keras."""

from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16
from gpunet.ops.shape import (
    broadcast_primitive,
    many_axes,
    reshape_primitive,
    sum_to_primitive,
)

__all__ = ["sum"]

_FLOAT16, _FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
_HALVES = (_FLOAT16, BFLOAT16)
_SUMS = {
    **dict.fromkeys(map(np.dtype, (bool, np.int8, np.int16)), np.dtype(np.int32)),
    **dict.fromkeys(map(np.dtype, (np.uint8, np.uint16)), np.dtype(np.uint32)),
}

sum_primitive = Primitive("sum(x, *, axis, keepdims) -> y")
sum_primitive.vjp(lambda g, x_shape, axis, keepdims: spread(g, x_shape, axis, keepdims))


@sum_primitive.array
def _(xp, x, axis, keepdims):
    if x.dtype in _HALVES:
        return xp.sum(x.astype(_FLOAT32), axis, keepdims=keepdims).astype(x.dtype)
    return xp.sum(x, axis, _SUMS.get(x.dtype, x.dtype), keepdims=keepdims)


@sum_primitive.cpu
def _sum_on_cpu(x, axis, keepdims):
    dtype = x.dtype
    if dtype in _HALVES:
        return np.add.reduce(x, axis, _FLOAT32, None, keepdims).astype(dtype)
    return np.add.reduce(x, axis, _SUMS.get(dtype, dtype), None, keepdims)


@sum_primitive.infer
def _(x, axis, keepdims):
    return Symbol(reduced_shape(x.shape, axis, keepdims), _SUMS.get(x.dtype, x.dtype))


def reduced_shape(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    """Returns the shape of a reduction; `axis` is `None` or a tuple of non-negative ints."""
    if axis is None:
        return (1,) * len(shape) if keepdims else ()
    if keepdims:
        return tuple([1 if i in axis else d for i, d in enumerate(shape)])
    return tuple([d for i, d in enumerate(shape) if i not in axis])


def spread(g: Tensor, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Tensor:
    """Broadcasts the cotangent of a reduction back to the shape of what was reduced."""
    if not keepdims:
        g = reshape_primitive(g, shape=reduced_shape(shape, axis, True))
    return broadcast_primitive(g, shape=shape)


def axis_tuple(axis: Any, ndim: int) -> tuple[int, ...] | None:
    """Returns the `axis` argument of a reduction as a sorted tuple, or `None` for all axes."""
    if axis is None:
        return None
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,) if ndim > 1 else None
    axes = many_axes(axis, ndim)
    return tuple(sorted(axes)) if len(axes) < ndim or not ndim else None


@sum_to_primitive.array
def _(xp, x, shape):
    lead = x.ndim - len(shape)
    axes = [i for i, d in enumerate(shape, lead) if d == 1 and x.shape[i] != 1]
    total = sum_primitive.rules["array"](xp, x, (*range(lead), *axes), False)
    return total.reshape(shape)


@sum_to_primitive.cpu
def _(x, shape):
    lead = x.ndim - len(shape)
    axes = [i for i, d in enumerate(shape, lead) if d == 1 and x.shape[i] != 1]
    return _sum_on_cpu(x, (*range(lead), *axes), False).reshape(shape)


@sum_to_primitive.infer
def _(x, shape):
    return Symbol(shape, x.dtype)


@public
def sum(x, axis=None, keepdims=False):
    """Returns the sum of the elements along axes.

    Args:
        x: Tensor of any shape.
        axis: Integer or tuple of integers; default all axes.
        keepdims: Whether the summed axes stay, with length 1.

    Returns:
        Tensor; sums of bool and of 8- and 16-bit integers have 32 bits.

    Example:
        >>> import gpunet
        >>> gpunet.ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0).tolist()
        [4.0, 6.0]
    """
    x = as_tensor(x)
    return sum_primitive(x, axis=axis_tuple(axis, len(x.shape)), keepdims=bool(keepdims))
