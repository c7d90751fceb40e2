"""Bias and activation in one pass over the memory: what follows every matrix product in a layer.

There are two primitives, because they keep different things for the gradient. That of linear, relu,
tanh and sigmoid follows from the result, so the input's memory is free at once; that of silu and
gelu needs the input.
"""

import math
from typing import Any

from gpunet.core.primitive import Primitive
from gpunet.core.tensor import FUNCTIONS, Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.bias_activation_launch import backward_rule, forward_rule, smooth_backward_rule
from gpunet.ops.bias_activation_native import backward_native, forward_native
from gpunet.ops.elementwise import exp, operands
from gpunet.ops.precision import widened, widened_composite

__all__: list[str] = []  # a fused op for layers, no name of `keras.ops`

FROM_OUTPUT = ("linear", "relu", "tanh", "sigmoid")
FROM_INPUT = ("silu", "gelu", "gelu_tanh")
_FEW = 8192  # elements, below which a call costs more than what is done in it

bias_activation_primitive = Primitive("bias_activation(x, bias, *, activation) -> y")
bias_activation_grad = Primitive("bias_activation_grad(g, y, *, activation) -> gx, gbias")
bias_smooth_activation_primitive = Primitive("bias_smooth_activation(x, bias, *, activation) -> y")
bias_smooth_activation_grad = Primitive(
    "bias_smooth_activation_grad(g, x, bias, *, activation) -> gx, gbias"
)


def bias_activation(x: Any, bias: Any, activation: str = "linear") -> Tensor:
    """Returns `activation(x + bias)`.

    Args:
        x: Tensor of shape `(..., n)`.
        bias: Tensor of shape `(n,)`.
        activation: One of `FROM_OUTPUT` or `FROM_INPUT`; `"gelu"` is the exact one.

    Raises:
        ShapeError: If `bias` has not the length of the last axis.
        ArgumentError: If there is no such activation.

    Example:
        >>> bias_activation([[1.0, -2.0]], [0.5, 0.5], "relu").tolist()
        [[1.5, 0.0]]
    """
    x, bias = operands(x, bias)
    if bias.data.shape != x.data.shape[-1:]:
        raise ShapeError(
            "`bias` must be a vector as long as the last axis. "
            + received(x=x.shape, bias=bias.shape)
        )
    if activation in FROM_OUTPUT:
        return bias_activation_primitive(x, bias, activation=activation)
    if activation in FROM_INPUT:
        return bias_smooth_activation_primitive(x, bias, activation=activation)
    raise ArgumentError(
        f"`activation` must be one of {FROM_OUTPUT + FROM_INPUT}. {received(activation=activation)}"
    )


def _meaning(x, bias, activation):
    z = x + bias
    if activation == "linear":
        return z
    if activation in ("gelu", "gelu_tanh"):
        return FUNCTIONS["gelu"](z, approximate=activation == "gelu_tanh")
    return FUNCTIONS[activation](z)


def _like_x(x, bias, activation):
    return Symbol(x.shape, x.dtype)


def _column_sums(g):
    return g.reshape((math.prod(g.shape[:-1]), g.shape[-1])).sum(axis=0)


# -- activations whose slope follows from the result --------------------------------------------

bias_activation_primitive.composite(widened_composite(_meaning))
bias_activation_primitive.infer(_like_x)
bias_activation_primitive.cuda(forward_rule)
bias_activation_grad.cuda(backward_rule)
bias_activation_primitive.native(forward_native)
bias_activation_grad.native(backward_native)


@bias_activation_primitive.array
@widened
def _(xp, x, bias, activation):
    y = x + bias
    if activation == "relu":
        # An array of zeros: NumPy's maximum with a scalar is three times slower.
        return xp.maximum(y, xp.zeros(bias.shape, y.dtype), out=y)
    if activation == "tanh":
        return xp.tanh(y, out=y)
    if activation == "sigmoid":  # by tanh, which does not overflow
        y *= 0.5
        xp.tanh(y, out=y)
        y *= 0.5
        y += 0.5
    return y


@bias_activation_primitive.vjp
def _(g, y, activation):
    return bias_activation_grad(g, y, activation=activation)


@bias_activation_grad.composite
@widened_composite
def _(g, y, activation):
    if activation == "relu":
        g = g * (y > 0).astype(g.dtype)
    elif activation == "tanh":
        g = g * (1 - y * y)
    elif activation == "sigmoid":
        g = g * (y * (1 - y))
    return g, _column_sums(g)


@bias_activation_grad.array
@widened
def _(xp, g, y, activation):
    if activation == "relu":
        g = g * (y > 0)
    elif activation == "tanh":
        slope = y * y
        g = xp.subtract(g, xp.multiply(g, slope, out=slope), out=slope)
    elif activation == "sigmoid":
        slope = y * y
        xp.subtract(y, slope, out=slope)
        g = xp.multiply(g, slope, out=slope)
    matrix = g if g.ndim == 2 else g.reshape(math.prod(g.shape[:-1]), g.shape[-1])
    if g.size < _FEW:
        return g, matrix.sum(0)
    # A product with ones: BLAS sums columns several times faster than NumPy.
    return g, xp.ones(matrix.shape[0], g.dtype).dot(matrix)


@bias_activation_grad.infer
def _(g, y, activation):
    return Symbol(g.shape, g.dtype), Symbol(g.shape[-1:], g.dtype)


# -- activations whose slope needs the input ----------------------------------------------------

bias_smooth_activation_primitive.composite(widened_composite(_meaning))
bias_smooth_activation_primitive.infer(_like_x)
bias_smooth_activation_primitive.cuda(forward_rule)
bias_smooth_activation_grad.cuda(smooth_backward_rule)
bias_smooth_activation_primitive.native(forward_native)
bias_smooth_activation_grad.native(backward_native)


@bias_smooth_activation_primitive.vjp
def _(g, x, bias, activation):
    return bias_smooth_activation_grad(g, x, bias, activation=activation)


@bias_smooth_activation_grad.composite
@widened_composite
def _(g, x, bias, activation):
    z = x + bias
    if activation == "silu":
        s = FUNCTIONS["sigmoid"](z)
        slope = s * (1 + z * (1 - s))
    elif activation == "gelu":  # z * cdf(z) of the standard normal distribution
        cdf = (FUNCTIONS["erf"](z * math.sqrt(0.5)) + 1) * 0.5
        slope = cdf + z * exp(z * z * -0.5) * (1 / math.sqrt(2 * math.pi))
    else:
        scale, cubic = math.sqrt(2 / math.pi), 0.044715
        t = (scale * (z + cubic * z * z * z)).tanh()
        inner = scale * (1 + 3 * cubic * z * z)
        slope = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner
    g = g * slope
    return g, _column_sums(g)


@bias_smooth_activation_grad.infer
def _(g, x, bias, activation):
    return Symbol(g.shape, g.dtype), Symbol(g.shape[-1:], g.dtype)
