"""Evenly spaced numbers, powers, positions and windows."""

import math
import operator

import numpy as np

from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.dtypes import numpy_dtype, result_type
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.creation import zeros_like
from gpunet.ops.elementwise import (
    cast_to,
    exp,
    floating,
    floor,
    log,
    operands,
    power,
    where,
)
from gpunet.ops.index import integers
from gpunet.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    one_axis,
    reshape_primitive,
)

__all__ = [
    "bartlett",
    "blackman",
    "geomspace",
    "hamming",
    "hanning",
    "kaiser",
    "linspace",
    "logspace",
    "unravel_index",
    "vander",
]


def _spaced(start, stop, num, endpoint, axis):
    """Positions between `start` and `stop` as a tensor, and their distance."""
    num = _count(num)
    start, stop = operands(floating(as_tensor(start)), floating(as_tensor(stop)))
    steps = num - 1 if endpoint else num
    delta = (stop - start) / steps if steps > 0 else (stop - start) * math.nan
    shape = np.broadcast_shapes(start.shape, stop.shape)
    axis = one_axis(axis, len(shape) + 1)
    places = np.arange(num).reshape([-1 if a == axis else 1 for a in range(len(shape) + 1)])
    fraction = as_tensor((places / max(steps, 1)).astype(start.dtype), device=start.device)
    first, last = _widened(start, shape, axis), _widened(stop, shape, axis)
    # Weighing both ends, as opposed to adding up steps, hits them exactly.
    return first * (1 - fraction) + last * fraction, delta


def _count(num):
    if operator.index(num) < 0:
        raise ArgumentError(f"`num` must not be negative. {received(num=num)}")
    return operator.index(num)


def _widened(x, shape, axis):
    x = broadcast_to(x, shape)
    return reshape_primitive(x, shape=(*shape[:axis], 1, *shape[axis:]))


def _result(x, dtype, default):
    dtype = numpy_dtype(dtype or default)
    return cast_to(floor(x) if dtype.kind in "iu" else x, dtype)


def _float_type(*values):
    return result_type(*[getattr(v, "dtype", float) for v in values], float)


@public
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """Returns evenly spaced numbers of an interval.

    Args:
        start: First number, or tensor of them.
        stop: Last number, or tensor of them.
        num: How many.
        endpoint: Whether `stop` is one of them.
        retstep: Whether to return the distance too.
        dtype: Dtype of the result; integers are rounded down. Default a float dtype.
        axis: Where the new axis is, for tensors.

    Returns:
        Tensor, or a pair of it and the distance.

    Raises:
        ArgumentError: If `num` is negative.

    Example:
        >>> import gpunet
        >>> gpunet.ops.linspace(0, 1, 5).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if _is_number(start) and _is_number(stop):
        made, step = np.linspace(start, stop, _count(num), endpoint=endpoint, retstep=True)
        dtype = numpy_dtype(dtype)
        made = np.floor(made) if dtype.kind in "iu" else made
        y = as_tensor(made.astype(dtype))
        return (y, as_tensor(float(step))) if retstep else y
    y, step = _spaced(start, stop, num, endpoint, axis)
    y = _result(y, dtype, _float_type(start, stop))
    return (y, step) if retstep else y


def _is_number(value):
    return isinstance(value, (int, float))


@public
def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    """Returns numbers whose logarithms are evenly spaced: `base ** linspace(start, stop)`.

    Args:
        start: First exponent.
        stop: Last exponent.
        num: How many.
        endpoint: Whether `stop` is one of them.
        base: What is raised to the exponents.
        dtype: Dtype of the result; default a float dtype.
        axis: Where the new axis is, for tensors.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.logspace(0, 2, 3).tolist()
        [1.0, 10.0, 100.0]
    """
    if _is_number(start) and _is_number(stop) and _is_number(base):
        exponents = np.linspace(start, stop, _count(num), endpoint)
        return as_tensor(np.power(float(base), exponents).astype(numpy_dtype(dtype)))
    y, _ = _spaced(start, stop, num, endpoint, axis)
    return _result(power(base, y), dtype, _float_type(start, stop))


@public
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """Returns numbers each of which is the one before times a constant.

    Args:
        start: First number, positive.
        stop: Last number, positive.
        num: How many.
        endpoint: Whether `stop` is one of them.
        dtype: Dtype of the result; default a float dtype.
        axis: Where the new axis is, for tensors.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.geomspace(1, 8, 4).tolist()
        [1.0, 2.0, 4.0, 8.0]
    """
    if _is_number(start) and _is_number(stop):
        made = np.geomspace(start, stop, _count(num), endpoint)
        return as_tensor(made.astype(numpy_dtype(dtype)))
    y, _ = _spaced(log(start), log(stop), num, endpoint, axis)
    return _result(exp(y), dtype, _float_type(start, stop))


# -- sequences and windows ----------------------------------------------------------------------


@public
def unravel_index(indices, shape):
    """Returns positions in a flattened tensor as indices along each axis.

    Args:
        indices: Integer tensor.
        shape: Shape of the tensor that was flattened.

    Returns:
        Tuple of integer tensors of the shape of `indices`.

    Example:
        >>> import gpunet
        >>> [i.tolist() for i in gpunet.ops.unravel_index([1, 3], (2, 2))]
        [[0, 1], [1, 1]]
    """
    indices = as_tensor(indices)
    left, found = integers(indices, indices), []
    left = where(left < 0, left + math.prod(shape), left)
    for n in reversed([operator.index(d) for d in shape]):
        found.append(left % n)
        left = left // n
    return tuple(reversed(found))


@public
def vander(x, N=None, increasing=False):
    """Returns a matrix whose columns are powers of a vector.

    Args:
        x: Tensor of one axis.
        N: Number of columns, default the length of `x`.
        increasing: Whether the powers rise from left to right.

    Returns:
        Tensor of shape `(len(x), N)`.

    Raises:
        ShapeError: If `x` has not one axis.

    Example:
        >>> import gpunet
        >>> gpunet.ops.vander([1, 2, 3], 2).tolist()
        [[1, 1], [2, 1], [3, 1]]
    """
    x = as_tensor(x)
    if len(x.shape) != 1:
        raise ShapeError(f"vander needs one axis. {received(shape=x.shape)}")
    count = x.shape[0] if N is None else operator.index(N)
    columns = [zeros_like(x) + 1]
    for _ in range(count - 1):
        columns.append(columns[-1] * x)
    ordered = columns[:count] if increasing else columns[:count][::-1]
    if not ordered:
        return broadcast_to(expand_dims(x, 1)[:, :0], (x.shape[0], 0))
    return concatenate([expand_dims(c, 1) for c in ordered], axis=1)


def _window(x, name, *arguments):
    length = int(as_tensor(x).item())
    return as_tensor(getattr(np, name)(length, *arguments).astype(numpy_dtype(None)))


@public
def bartlett(x):
    """Returns the Bartlett (triangular) window of length `x`."""
    return _window(x, "bartlett")


@public
def blackman(x):
    """Returns the Blackman window of length `x`."""
    return _window(x, "blackman")


@public
def hamming(x):
    """Returns the Hamming window of length `x`."""
    return _window(x, "hamming")


@public
def hanning(x):
    """Returns the Hann window of length `x`."""
    return _window(x, "hanning")


@public
def kaiser(x, beta):
    """Returns the Kaiser window of length `x` and shape `beta`."""
    return _window(x, "kaiser", float(as_tensor(beta).item()))
