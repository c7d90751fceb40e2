"""Activation functions, with Keras's names and formulas.

The hot ones (`relu`, `sigmoid`, `silu`, `gelu`) have a fused derivative `<name>_grad(g, x or y)`,
which is a primitive of its own; the gradient of that comes from its composite.
"""

from functools import partial
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, received
from gpunet.ops.elementwise import (
    absolute,
    alias,
    cast_to,
    exp,
    floating,
    logical_and,
    minimum,
    square,
    tanh,
    unary,
    where,
)
from gpunet.ops.elementwise_launch import binary_rule, elu_rule, gelu_rule, leaky_relu_rule
from gpunet.ops.elementwise_native import elu_native, gelu_native, leaky_relu_native, native_rule
from gpunet.ops.precision import widened, widened_composite
from gpunet.ops.special import erf, erf_rule

__all__ = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "swish",
]

_SQRT_HALF = 0.7071067811865476
_TANH_SCALE = 0.7978845608028654  # sqrt(2 / pi)
_TANH_CUBIC = 0.044715
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _same(x, **attributes):
    return Symbol(x.shape, x.dtype)


def _same_two(g, x, **attributes):
    return Symbol(x.shape, x.dtype)


def _in(x):
    """The array itself as `out=`; NumPy scalars, which 0-d tensors hold, cannot be written to."""
    return x if x.shape else None


def _mask(condition, like):
    """1 where the condition holds, else 0, in the dtype of `like`."""
    return cast_to(condition, like.dtype)


def logistic(xp: Any, x: Any) -> Any:
    """Returns `1 / (1 + exp(-x))` of an array (float32 or float64)."""
    with np.errstate(over="ignore"):  # exp(-x) = inf gives 0, as it should
        y = xp.negative(x)
        y = xp.exp(y, out=_in(y))
        y += 1
        return xp.reciprocal(y, out=_in(y))


# -- relu and its family ------------------------------------------------------------------------

relu = unary(
    "relu",
    "Returns `max(x, 0)`.",
    lambda g, y: relu_grad(g, y),
    lambda xp, x: xp.maximum(x, 0),
    ">>> gpunet.ops.relu([-1.0, 2.0]).tolist()\n        [0.0, 2.0]",
    to_float=False,
)
relu_grad = Primitive("relu_grad(g, y) -> dx")
relu_grad.array(lambda xp, g, y: g * (y > 0))
relu_grad.infer(_same_two)
relu_grad.cuda(binary_rule("relu_grad", partial(relu_grad.rules["array"], np)))
relu_grad.native(native_rule("relu_grad"))
relu_grad.vjp(lambda g, y: (relu_grad(g, y), None))

relu6 = unary(
    "relu6",
    "Returns `min(max(x, 0), 6)`.",
    lambda g, y: g * _mask(logical_and(y > 0, y < 6), g),
    lambda xp, x: xp.minimum(xp.maximum(x, 0), 6),
    ">>> gpunet.ops.relu6([-1.0, 2.0, 8.0]).tolist()\n        [0.0, 2.0, 6.0]",
    to_float=False,
)

_leaky_relu = Primitive("leaky_relu(x, *, slope) -> y")
_leaky_relu.array(widened(lambda xp, x, slope: xp.where(x > 0, x, x * slope)))
_leaky_relu.cuda(leaky_relu_rule(_leaky_relu.rules["array"]))
_leaky_relu.native(leaky_relu_native)
_leaky_relu.infer(_same)
_leaky_relu.vjp(lambda g, x, slope: g * where(x > 0, 1.0, slope))


@_leaky_relu.cpu
def _(x, slope):
    if 0 <= slope <= 1 and x.dtype.kind == "f":
        y = x * slope
        return np.maximum(y, x, out=_in(y))
    return _leaky_relu.rules["array"](np, x, slope=slope)


# -- sigmoid and its family -----------------------------------------------------------------------

sigmoid = unary(
    "sigmoid",
    "Returns `1 / (1 + exp(-x))`.",
    lambda g, y: sigmoid_grad(g, y),
    widened(logistic),
    ">>> gpunet.ops.sigmoid(0.0).item()\n        0.5",
)
sigmoid_grad = Primitive("sigmoid_grad(g, y) -> dx")
sigmoid_grad.composite(widened_composite(lambda g, y: g * (y * (1 - y))))
sigmoid_grad.infer(_same_two)


@sigmoid_grad.array
@widened
def _(xp, g, y):
    dx = 1 - y
    dx *= y
    dx *= g
    return dx


sigmoid_grad.cuda(binary_rule("sigmoid_grad", partial(sigmoid_grad.rules["array"], np)))
sigmoid_grad.native(native_rule("sigmoid_grad"))


silu = unary(
    "silu",
    "Returns `x * sigmoid(x)` (Elfwing, Uchibe, Doya, 2017).",
    lambda g, x: silu_grad(g, x),
    widened(lambda xp, x: _times(logistic(xp, x), x)),
    ">>> gpunet.ops.silu(0.0).item()\n        0.0",
)
silu_grad = Primitive("silu_grad(g, x) -> dx")
silu_grad.infer(_same_two)


def _times(y, x):
    with np.errstate(invalid="ignore"):  # 0 * -inf: NaN, as in Keras
        y *= x
    return y


@silu_grad.composite
@widened_composite
def _(g, x):
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@silu_grad.array
@widened
def _(xp, g, x):
    s = logistic(xp, x)
    dx = 1 - s
    dx *= x
    dx += 1
    dx *= s
    dx *= g
    return dx


silu_grad.cuda(binary_rule("silu_grad", partial(silu_grad.rules["array"], np)))
silu_grad.native(native_rule("silu_grad"))


log_sigmoid = unary(
    "log_sigmoid",
    "Returns `log(sigmoid(x))` without overflow.",
    lambda g, x: g * sigmoid(-x),
    widened(lambda xp, x: xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x)))),
    ">>> gpunet.ops.log_sigmoid(-1000.0).item()\n        -1000.0",
)
softplus = unary(
    "softplus",
    "Returns `log(1 + exp(x))` without overflow.",
    lambda g, x: g * sigmoid(x),
    widened(lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))),
    ">>> gpunet.ops.softplus(1000.0).item()\n        1000.0",
)
softsign = unary(
    "softsign",
    "Returns `x / (1 + abs(x))`.",
    lambda g, x: g / square(1 + absolute(x)),
    widened(lambda xp, x: x / (1 + xp.abs(x))),
    ">>> gpunet.ops.softsign(1.0).item()\n        0.5",
)
hard_sigmoid = unary(
    "hard_sigmoid",
    "Returns `min(max(x / 6 + 0.5, 0), 1)`.",
    lambda g, x: g * (_mask(absolute(x) < 3, g) * (1 / 6)),
    widened(lambda xp, x: xp.minimum(xp.maximum(x + 3, 0), 6) * (1 / 6)),
    ">>> gpunet.ops.hard_sigmoid([-4.0, 0.0, 4.0]).tolist()\n        [0.0, 0.5, 1.0]",
)
hard_silu = unary(
    "hard_silu",
    "Returns `x * hard_sigmoid(x)` (Howard et al., 2019).",
    lambda g, x: g * (hard_sigmoid(x) + x * (_mask(absolute(x) < 3, g) * (1 / 6))),
    widened(lambda xp, x: x * (xp.minimum(xp.maximum(x + 3, 0), 6) * (1 / 6))),
    ">>> gpunet.ops.hard_silu([0.0, 4.0]).tolist()\n        [0.0, 4.0]",
)
mish = unary(
    "mish",
    "Returns `x * tanh(softplus(x))` (Misra, 2019).",
    lambda g, x: g * _mish_slope(x),
    widened(lambda xp, x: x * xp.tanh(xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))))),
    ">>> gpunet.ops.mish(0.0).item()\n        0.0",
)


def _mish_slope(x):
    t = tanh(softplus(x))
    return t + x * (1 - t * t) * sigmoid(x)


# -- exponential family ---------------------------------------------------------------------------

_elu = Primitive("elu(x, *, alpha, scale, rate) -> y")
_elu.infer(_same)


@_elu.array
@widened
def _(xp, x, alpha, scale, rate):
    y = xp.minimum(x, 0)
    if rate != 1:
        y *= rate
    y = xp.expm1(y, out=_in(y))
    y *= alpha
    y += xp.maximum(x, 0)
    if scale != 1:
        y *= scale
    return y


_elu.cuda(elu_rule(_elu.rules["array"]))
_elu.native(elu_native)


@_elu.vjp
def _(g, x, alpha, scale, rate):
    return g * where(x > 0, scale, exp(minimum(x, 0) * rate) * (scale * alpha * rate))


# -- gelu -----------------------------------------------------------------------------------------

_gelu = Primitive("gelu(x, *, approximate) -> y")
_gelu.infer(_same)
_gelu.vjp(lambda g, x, approximate: gelu_grad(g, x, approximate=approximate))

gelu_grad = Primitive("gelu_grad(g, x, *, approximate) -> dx")
gelu_grad.infer(lambda g, x, approximate: Symbol(x.shape, x.dtype))


def _gelu_half(xp, x, approximate):
    """Returns tanh(...) or erf(...), in a new array."""
    if not approximate:
        return erf_rule(xp, x * _SQRT_HALF)
    t = x * x
    t *= _TANH_CUBIC * _TANH_SCALE
    t += _TANH_SCALE
    t *= x
    return xp.tanh(t, out=_in(t))


@_gelu.array
@widened
def _(xp, x, approximate):
    y = _gelu_half(xp, x, approximate)
    y += 1
    y *= 0.5
    return _times(y, x)


@gelu_grad.array
@widened
def _(xp, g, x, approximate):
    t = _gelu_half(xp, x, approximate)
    if approximate:  # 0.5 (1 + t) + 0.5 x (1 - t**2) (c + 3 c a x**2)
        slope = x * x
        slope *= 3 * _TANH_CUBIC * _TANH_SCALE
        slope += _TANH_SCALE
        slope *= 1 - t * t
    else:  # 0.5 (1 + t) + x exp(-x**2 / 2) / sqrt(2 pi)
        slope = x * x
        slope *= -0.5
        slope = xp.exp(slope, out=_in(slope))
        slope *= _TANH_SCALE
    slope *= x
    slope += t
    slope += 1
    slope *= 0.5
    slope *= g
    return slope


_gelu.cuda(gelu_rule(_gelu.rules["array"], gradient=False))
gelu_grad.cuda(gelu_rule(gelu_grad.rules["array"], gradient=True))
_gelu.native(gelu_native)
gelu_grad.native(gelu_native)


@gelu_grad.composite
@widened_composite
def _(g, x, approximate):
    if approximate:
        t = tanh(x * (_TANH_SCALE + _TANH_SCALE * _TANH_CUBIC * (x * x)))
        slope = (1 - t * t) * (_TANH_SCALE + 3 * _TANH_SCALE * _TANH_CUBIC * (x * x))
    else:
        t = erf(x * _SQRT_HALF)
        slope = exp(x * x * -0.5) * _TANH_SCALE
    return g * ((1 + t + x * slope) * 0.5)


# -- public functions with arguments ------------------------------------------------------------


def checked_number(name: str, value: Any, allow_zero: bool = True) -> float:
    """Returns a non-negative (or positive) number as a float, or raises ArgumentError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise ArgumentError(f"`{name}` must be a number. {received(**{name: value})}")
    if value < 0 or (value == 0 and not allow_zero):
        raise ArgumentError(f"`{name}` must be positive. {received(**{name: value})}")
    return float(value)


@public
def leaky_relu(x, negative_slope=0.2):
    """Returns `x` where it is positive and `negative_slope * x` elsewhere (Maas et al., 2013).

    Args:
        x: Tensor of any shape; integers are computed as floats.
        negative_slope: Slope for negative numbers.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.leaky_relu([-1.0, 2.0], negative_slope=0.5).tolist()
        [-0.5, 2.0]
    """
    return _leaky_relu(floating(x), slope=float(negative_slope))


@public
def elu(x, alpha=1.0):
    """Returns `x` where it is positive and `alpha * (exp(x) - 1)` elsewhere.

    Source: Clevert, Unterthiner, Hochreiter, 2015.

    Args:
        x: Tensor of any shape; integers are computed as floats.
        alpha: Where it goes for large negative numbers: `-alpha`.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.elu([-1000.0, 2.0]).tolist()
        [-1.0, 2.0]
    """
    return _elu(floating(x), alpha=float(alpha), scale=1.0, rate=1.0)


@public
def celu(x, alpha=1.0):
    """Returns `max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)` (Barron, 2017).

    Args:
        x: Tensor of any shape; integers are computed as floats.
        alpha: Positive number.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ArgumentError: If `alpha` is not positive.

    Example:
        >>> import gpunet
        >>> gpunet.ops.celu([-1000.0, 2.0], alpha=0.5).tolist()
        [-0.5, 2.0]
    """
    alpha = checked_number("alpha", alpha, allow_zero=False)
    return _elu(floating(x), alpha=alpha, scale=1.0, rate=1.0 / alpha)


@public
def selu(x):
    """Returns `1.0507 * elu(x, alpha=1.67326)`, which keeps mean 0 and variance 1.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter, 2017.

    Args:
        x: Tensor of any shape; integers are computed as floats.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.selu([0.0]).tolist()
        [0.0]
    """
    return _elu(floating(x), alpha=_SELU_ALPHA, scale=_SELU_SCALE, rate=1.0)


@public
def gelu(x, approximate=True):
    """Returns `x` times the standard normal probability of numbers below `x`.

    `0.5 * x * (1 + erf(x / sqrt(2)))`, or with `approximate`
    `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))` (Hendrycks, Gimpel, 2016).

    Args:
        x: Tensor of any shape; integers are computed as floats.
        approximate: Whether to use the form with `tanh`.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.gelu([0.0, 100.0]).tolist()
        [0.0, 100.0]
    """
    return _gelu(floating(x), approximate=bool(approximate))


swish = alias("swish", silu)
hard_swish = alias("hard_swish", hard_silu)
