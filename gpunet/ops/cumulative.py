"""Cumulative sums and products, differences, and loops unrolled over an axis."""

import operator

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16, numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.elementwise import cast_to, isnan, multiply, not_equal, subtract, where
from gpunet.ops.index import item_primitive
from gpunet.ops.reduce import sum as sum_op
from gpunet.ops.scan_launch import scan_rule
from gpunet.ops.shape import concatenate_primitive, one_axis, ravel

__all__ = ["cumprod", "cumsum", "diff", "nancumprod", "nancumsum", "trapezoid"]

_FLOAT32 = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), BFLOAT16)


def part(x, axis, start=None, stop=None, step=None):
    """Returns `x[start:stop:step]` along an axis."""
    return item_primitive(x, key=((None, None, None),) * axis + ((start, stop, step),))


def _running(name):
    primitive = Primitive(f"{name}(x, *, axis) -> y")
    primitive.infer(lambda x, axis: Symbol(x.shape, x.dtype))

    @primitive.array
    def _(xp, x, axis):
        if x.dtype in _HALVES:
            return getattr(xp, name)(x.astype(_FLOAT32), axis).astype(x.dtype)
        return getattr(xp, name)(x, axis, x.dtype)

    return primitive


cumsum_primitive, cumprod_primitive = _running("cumsum"), _running("cumprod")
cumsum_primitive.cuda(scan_rule("Sum"))
cumprod_primitive.cuda(scan_rule("Prod"))


@cumsum_primitive.vjp
def _(g, axis):
    backwards = cumsum_primitive(part(g, axis, step=-1), axis=axis)
    return part(backwards, axis, step=-1)


@cumprod_primitive.composite
def _(x, axis):
    """Doubles the reach of each product in every round: exact gradients, also at zeros.

    Hillis and Steele, "Data parallel algorithms", 1986.
    """
    n, reach = x.shape[axis], 1
    while reach < n:
        joined = multiply(part(x, axis, reach), part(x, axis, None, n - reach))
        x = concatenate_primitive(part(x, axis, None, reach), joined, axis=axis)
        reach *= 2
    return x


def _cumulate(primitive, x, axis, dtype):
    x = as_tensor(x)
    if dtype is not None or x.dtype == bool:
        x = cast_to(x, numpy_dtype(dtype or "int32"))
    if axis is None:
        return primitive(ravel(x), axis=0)
    return primitive(x, axis=one_axis(axis, len(x.shape)))


@public
def cumsum(x, axis=None, dtype=None):
    """Returns the sums of all elements up to each one along an axis.

    Args:
        x: Tensor.
        axis: Integer; default: `x` is flattened.
        dtype: Dtype of the result; default that of `x` (int32 for bools).

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.cumsum([1, 2, 3]).tolist()
        [1, 3, 6]
    """
    return _cumulate(cumsum_primitive, x, axis, dtype)


@public
def cumprod(x, axis=None, dtype=None):
    """Returns the products of all elements up to each one along an axis; see `cumsum`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.cumprod([1, 2, 3]).tolist()
        [1, 2, 6]
    """
    return _cumulate(cumprod_primitive, x, axis, dtype)


@public
def nancumsum(x, axis=None, dtype=None):
    """Returns cumulative sums in which NaN counts as 0; see `cumsum`."""
    x = as_tensor(x)
    return cumsum(x if x.dtype.kind in "biu" else where(isnan(x), 0.0, x), axis, dtype)


@public
def nancumprod(x, axis=None, dtype=None):
    """Returns cumulative products in which NaN counts as 1; see `cumsum`."""
    x = as_tensor(x)
    return cumprod(x if x.dtype.kind in "biu" else where(isnan(x), 1.0, x), axis, dtype)


@public
def diff(a, n=1, axis=-1):
    """Returns the differences of neighbours along an axis.

    Args:
        a: Tensor with at least one axis.
        n: How many times.
        axis: Integer, default the last one.

    Returns:
        Tensor, shorter by `n` along the axis; of bools, which ones differ.

    Raises:
        ArgumentError: If `n` is negative.

    Example:
        >>> import gpunet
        >>> gpunet.ops.diff([1, 4, 9]).tolist()
        [3, 5]
    """
    x, n = as_tensor(a), operator.index(n)
    if n < 0:
        raise ArgumentError(f"`n` must not be negative. {received(n=n)}")
    axis = one_axis(axis, len(x.shape))
    for _ in range(n):
        change = not_equal if x.dtype == bool else subtract
        x = change(part(x, axis, 1), part(x, axis, None, max(x.shape[axis] - 1, 0)))
    return x


@public
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Returns the integral of samples along an axis by the trapezoidal rule.

    Args:
        y: Tensor of samples.
        x: Where they were taken: a tensor of one axis, or of the shape of `y`; default equally
            spaced.
        dx: Their distance, if `x` is not given.
        axis: Integer, default the last one.

    Returns:
        Tensor without the axis.

    Raises:
        ShapeError: If `x` has not as many places as there are samples.

    Example:
        >>> import gpunet
        >>> gpunet.ops.trapezoid([1.0, 2.0, 3.0]).item()
        4.0
    """
    y = as_tensor(y)
    axis = one_axis(axis, len(y.shape))
    if x is not None:
        x = as_tensor(x, device=y.device)
        if x.shape not in (y.shape, (y.shape[axis],)):
            raise ShapeError(f"`x` must go with `y`. {received(x=x.shape, y=y.shape)}")
        dx = diff(x, axis=axis if x.shape == y.shape else 0)
        if x.shape != y.shape:
            dx = dx.reshape([-1 if a == axis else 1 for a in range(len(y.shape))])
    middle = (part(y, axis, 1) + part(y, axis, None, max(y.shape[axis] - 1, 0))) / 2
    return sum_op(middle * dx, axis=axis)
