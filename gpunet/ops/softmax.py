"""Softmax and log-softmax, fused, along one axis or several."""

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.ops.elementwise import exp, floating
from gpunet.ops.precision import widened, widened_composite
from gpunet.ops.reduce import sum
from gpunet.ops.rows import as_rows, row_dot, row_sum, shifted_exp
from gpunet.ops.shape import many_axes, moveaxis, one_axis, reshape
from gpunet.ops.softmax_launch import softmax_rule
from gpunet.ops.softmax_native import softmax_native

__all__ = ["log_softmax", "softmax"]


def shifted(xp, x, axis: int):
    """Returns `exp(x - max)`, its sum (0 where all are -inf) and the maximum, the axis kept."""
    top = xp.maximum(xp.max(x, axis, keepdims=True), np.finfo(x.dtype).min)
    y = xp.exp(x - top)
    return y, xp.sum(y, axis, keepdims=True), top


def _on_last_axis(rule, otherwise):
    """A NumPy rule for rows where the axis is the last one, the plain rule for any other."""

    def cpu(*arrays, axis):
        x = arrays[0]
        if axis != x.ndim - 1 or x.dtype.kind != "f" or x.dtype.itemsize < 4 or not x.size:
            return otherwise(np, *arrays, axis=axis) if x.size else x.copy()
        columns = x.shape[-1]
        return rule(*[as_rows(a, columns) for a in arrays]).reshape(x.shape)

    return cpu


# -- softmax --------------------------------------------------------------------------------------

softmax_primitive = Primitive("softmax(x, *, axis) -> y")
softmax_primitive.infer(lambda x, axis: Symbol(x.shape, x.dtype))
softmax_primitive.vjp(lambda g, y, axis: softmax_grad(g, y, axis=axis))

softmax_grad = Primitive("softmax_grad(g, y, *, axis) -> dx")
softmax_grad.cuda(softmax_rule("softmax_backward", log=False))
softmax_grad.native(softmax_native("softmax_grad"))
softmax_grad.infer(lambda g, y, axis: Symbol(y.shape, y.dtype))


@softmax_primitive.array
@widened
def _(xp, x, axis):
    if not x.size:
        return x.copy()
    y, total, _ = shifted(xp, x, axis)
    y /= xp.maximum(total, 0.5)
    return y


def _softmax_rows(x):
    y, total, _ = shifted_exp(x)
    y /= np.maximum(total, 0.5)
    return y


softmax_primitive.cpu(_on_last_axis(_softmax_rows, softmax_primitive.rules["array"]))
softmax_primitive.cuda(softmax_rule("softmax_forward", log=False))
softmax_primitive.native(softmax_native("softmax"))


@softmax_grad.array
@widened
def _(xp, g, y, axis):
    return y * (g - xp.sum(g * y, axis, keepdims=True))


def _softmax_grad_rows(g, y):
    dx = g - row_dot(g, y)[:, None]
    dx *= y
    return dx


softmax_grad.cpu(_on_last_axis(_softmax_grad_rows, softmax_grad.rules["array"]))


@softmax_grad.composite
@widened_composite
def _(g, y, axis):
    return y * (g - sum(g * y, axis, keepdims=True))


# -- log-softmax ----------------------------------------------------------------------------------

log_softmax_primitive = Primitive("log_softmax(x, *, axis) -> y")
log_softmax_primitive.cuda(softmax_rule("softmax_forward", log=True))
log_softmax_primitive.native(softmax_native("log_softmax"))
log_softmax_primitive.infer(lambda x, axis: Symbol(x.shape, x.dtype))
log_softmax_primitive.vjp(lambda g, y, axis: log_softmax_grad(g, y, axis=axis))

log_softmax_grad = Primitive("log_softmax_grad(g, y, *, axis) -> dx")
log_softmax_grad.cuda(softmax_rule("softmax_backward", log=True))
log_softmax_grad.native(softmax_native("log_softmax_grad"))
log_softmax_grad.infer(lambda g, y, axis: Symbol(y.shape, y.dtype))


@log_softmax_primitive.array
@widened
def _(xp, x, axis):
    if not x.size:
        return x.copy()
    _, total, top = shifted(xp, x, axis)
    return (x - top) - xp.log(xp.maximum(total, 0.5))


def _log_softmax_rows(x):
    _, total, top = shifted_exp(x)
    with np.errstate(invalid="ignore", over="ignore"):
        y = x - top
    y -= np.log(np.maximum(total, 0.5))
    return y


log_softmax_primitive.cpu(_on_last_axis(_log_softmax_rows, log_softmax_primitive.rules["array"]))


@log_softmax_grad.array
@widened
def _(xp, g, y, axis):
    return g - xp.exp(y) * xp.sum(g, axis, keepdims=True)


def _log_softmax_grad_rows(g, y):
    dx = np.exp(y)
    dx *= -row_sum(g)[:, None]
    dx += g
    return dx


log_softmax_grad.cpu(_on_last_axis(_log_softmax_grad_rows, log_softmax_grad.rules["array"]))


@log_softmax_grad.composite
@widened_composite
def _(g, y, axis):
    return g - exp(y) * sum(g, axis, keepdims=True)


# -- public ---------------------------------------------------------------------------------------


def _along(primitive: Primitive, x: Tensor, axis) -> Tensor:
    """Applies a primitive along an axis, or along several at once."""
    x = floating(x)
    if isinstance(axis, int):
        return primitive(x, axis=one_axis(axis, x.ndim))
    axes = many_axes(axis if axis is not None else tuple(range(x.ndim)), x.ndim)
    if len(axes) == 1:
        return primitive(x, axis=axes[0])
    last = tuple(range(x.ndim - len(axes), x.ndim))
    moved = moveaxis(x, axes, last)
    lead = moved.shape[: last[0]]
    flat = reshape(moved, (*lead, int(np.prod(moved.shape[last[0] :]))))
    y = primitive(flat, axis=len(lead))
    return moveaxis(reshape(y, moved.shape), last, axes)


@public
def softmax(x, axis=-1):
    """Returns `exp(x) / sum(exp(x))`: positive numbers that sum to 1 along the axis.

    Elements of -inf get 0; where all are -inf all get 0.

    Args:
        x: Tensor with at least one axis; integers are computed as floats.
        axis: Integer, or tuple of integers to normalise over several axes at once.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ShapeError: If there is no such axis.

    Example:
        >>> import gpunet
        >>> gpunet.ops.softmax([0.0, 0.0]).tolist()
        [0.5, 0.5]
    """
    return _along(softmax_primitive, x, axis)


@public
def log_softmax(x, axis=-1):
    """Returns `x - log(sum(exp(x)))`, the logarithm of `softmax`, without loss of digits.

    Args:
        x: Tensor with at least one axis; integers are computed as floats.
        axis: Integer, or tuple of integers to normalise over several axes at once.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ShapeError: If there is no such axis.

    Example:
        >>> import gpunet
        >>> gpunet.ops.log_softmax([0.0]).tolist()
        [0.0]
    """
    return _along(log_softmax_primitive, x, axis)
