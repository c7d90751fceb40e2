"""Indexing: `x[...]`, gathers and scatters. The gradient of a gather is a scatter-add."""

import operator
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.state import state
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, DTypeError, ShapeError, TraceError, received

__all__ = ["get_item"]

# A key is a tuple of ints, None and (start, stop, step): hashable, and free of Ellipsis.
item_primitive = Primitive("get_item(x, *, key) -> y")
item_primitive.array(lambda xp, x, key: x[_slices(key)])
item_primitive.infer(lambda x, key: Symbol(_item_shape(x.shape, key), x.dtype))
item_primitive.vjp(lambda g, x_shape, key: put_item_primitive(g, key=key, shape=x_shape))

# Zeros with a block put where `key` says: the gradient of get_item.
put_item_primitive = Primitive("put_item(x, *, key, shape) -> y")
put_item_primitive.infer(lambda x, key, shape: Symbol(shape, x.dtype))
put_item_primitive.vjp(lambda g, key, shape: item_primitive(g, key=key))


@put_item_primitive.array
def _(xp, x, key, shape):
    y = xp.zeros(shape, x.dtype)
    y[_slices(key)] = x
    return y


def _slices(key):
    return tuple([slice(*k) if type(k) is tuple else k for k in key])


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


@public
def get_item(x, key):
    """Returns `x[key]`.

    Args:
        x: Tensor of any shape.
        key: As in NumPy: integers, slices, `None`, `...`, integer tensors.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If there are more indices than axes, or one is out of range.

    Example:
        >>> import gpunet
        >>> gpunet.ops.get_item([[1, 2], [3, 4]], (slice(None), 0)).tolist()
        [1, 3]
    """
    x = as_tensor(x)
    return item_primitive(x, key=_static_key(key if type(key) is tuple else (key,), x.shape))


def _static_key(key, shape):
    """Fills in `...`, and gives integers and slices as plain Python values."""
    used = len([k for k in key if k is not None and k is not Ellipsis])
    if used > len(shape):
        raise ShapeError(f"Too many indices. {received(key=key, shape=shape)}")
    plain, axis = [], 0
    for k in key:
        if k is None:
            plain.append(None)
            continue
        if k is Ellipsis:
            plain += [(None, None, None)] * (len(shape) - used)
            axis += len(shape) - used
            continue
        if isinstance(k, slice):
            plain.append(tuple([None if v is None else operator.index(v) for v in _ends(k)]))
        else:
            i = operator.index(k)
            if not -shape[axis] <= i < shape[axis]:
                raise ShapeError(
                    f"Index {i} is out of range for axis {axis}. {received(shape=shape)}"
                )
            plain.append(i)
        axis += 1
    return tuple(plain)


def _ends(k):
    return k.start, k.stop, k.step
