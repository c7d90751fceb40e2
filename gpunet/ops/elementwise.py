"""Elementwise arithmetic and mathematical functions, each declared by `unary` or `binary`."""

from collections.abc import Callable
from functools import partial

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.memory import move
from gpunet.core.gradients import custom_gradient
from gpunet.core.primitive import REGISTRY, Primitive
from gpunet.core.state import state
from gpunet.core.symbolic import public
from gpunet.core.tensor import FUNCTIONS, Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16, numpy_dtype
from gpunet.errors import TraceError
from gpunet.ops.declare import INT32, SCALARS, broadcast_infer
from gpunet.ops.declare import binary as binary
from gpunet.ops.declare import cast_primitive as cast_primitive
from gpunet.ops.declare import cast_to as cast_to
from gpunet.ops.declare import floating as floating
from gpunet.ops.declare import identity_primitive as identity_primitive
from gpunet.ops.declare import operands as operands
from gpunet.ops.declare import unary as unary
from gpunet.ops.elementwise_launch import nextafter_rule, round_rule, ternary_rule
from gpunet.ops.elementwise_native import native_rule, round_native, where_native

__all__ = [
    "abs",
    "absolute",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cast",
    "cbrt",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "deg2rad",
    "divide",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "gcd",
    "greater",
    "greater_equal",
    "heaviside",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "lcm",
    "ldexp",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "power",
    "rad2deg",
    "reciprocal",
    "right_shift",
    "round",
    "rsqrt",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "to_device",
    "true_divide",
    "trunc",
    "where",
]

# -- arithmetic ---------------------------------------------------------------------------------

add = binary(
    "add",
    "Returns `x1 + x2`.",
    lambda g: (g, g),
    example=">>> gpunet.ops.add([1.0, 2.0], 3).tolist()\n        [4.0, 5.0]",
)
subtract = binary("subtract", "Returns `x1 - x2`.", lambda g: (g, -g))
multiply = binary(
    "multiply",
    "Returns `x1 * x2`.",
    lambda g, x1, x2, needs: (g * x2 if needs[0] else None, g * x1 if needs[1] else None),
)
true_divide = binary(
    "true_divide",
    "Returns `x1 / x2`; integers are divided as floats.",
    lambda g, x1, x2, needs: (
        g / x2 if needs[0] else None,
        -g * x1 / (x2 * x2) if needs[1] else None,
    ),
    to_float=True,
)
floor_divide = binary("floor_divide", "Returns the floor of `x1 / x2`.", count_bools=True)
mod = binary(
    "mod",
    "Returns the remainder of `floor_divide`, with the sign of `x2`.",
    lambda g, x1, x2: (g, -g * floor_divide(x1, x2)),
    count_bools=True,
)
fmod = binary(
    "fmod",
    "Returns the remainder of a division rounded towards zero, with the sign of `x1`.",
    lambda g, x1, x2: (g, -g * _trunc(x1 / x2)),
    count_bools=True,
)
_power = binary(
    "power",
    "Returns `x1` to the power `x2`.",
    lambda g, x1, x2, y, needs: (
        # 0**0 is 1 whatever the base does: no 0 / 0 there.
        g * x2 * _power(where(logical_and(equal(x1, 0), equal(x2, 0)), 1, x1), x2 - 1)
        if needs[0]
        else None,
        g * y * log(maximum(x1, np.finfo(np.float32).tiny)) if needs[1] else None,
    ),
    count_bools=True,
)
maximum = binary(
    "maximum",
    "Returns the larger of `x1` and `x2`; equal elements share the gradient.",
    lambda g, x1, x2: _share(g, x1, x2, greater),
)
minimum = binary(
    "minimum",
    "Returns the smaller of `x1` and `x2`; equal elements share the gradient.",
    lambda g, x1, x2: _share(g, x1, x2, less),
)
fmax = binary(
    "fmax",
    "Like `maximum`, but prefers numbers to NaN.",
    lambda g, x1, x2: _share(g, x1, x2, greater),
)
fmin = binary(
    "fmin", "Like `minimum`, but prefers numbers to NaN.", lambda g, x1, x2: _share(g, x1, x2, less)
)
arctan2 = binary(
    "arctan2",
    "Returns the angle of the point `(x2, x1)` in radians, from -pi to pi.",
    lambda g, x1, x2: (g * x2 / (x1 * x1 + x2 * x2), -g * x1 / (x1 * x1 + x2 * x2)),
    to_float=True,
)
logaddexp = binary(
    "logaddexp",
    "Returns `log(exp(x1) + exp(x2))` without overflow.",
    lambda g, x1, x2, y: (g * exp(x1 - y), g * exp(x2 - y)),
    to_float=True,
)
hypot = binary(
    "hypot",
    "Returns `sqrt(x1**2 + x2**2)` without overflow.",
    lambda g, x1, x2, y: (g * x1 / y, g * x2 / y),
    to_float=True,
)
ldexp = binary(
    "ldexp", "Returns `x1 * 2**x2`.", array=lambda xp, x1, x2: x1 * xp.exp2(x2), to_float=True
)
nextafter = binary(
    "nextafter", "Returns the next number after `x1` towards `x2`.", to_float=True, kernel=False
)
REGISTRY["nextafter"].cuda(nextafter_rule(REGISTRY["nextafter"].rules["array"]))
heaviside = binary(
    "heaviside", "Returns 0 where `x1 < 0`, 1 where `x1 > 0`, `x2` where it is 0.", to_float=True
)
gcd = binary("gcd", "Returns the greatest common divisor of integers.")
lcm = binary("lcm", "Returns the least common multiple of integers.")


def _share(g, x1, x2, wins):
    first = where(equal(x1, x2), 0.5, cast_to(wins(x1, x2), g.dtype))
    return g * first, g * (1 - first)


# -- comparison and logic -----------------------------------------------------------------------

equal = binary("equal", "Returns whether `x1 == x2`.", result=bool)
not_equal = binary("not_equal", "Returns whether `x1 != x2`.", result=bool)
less = binary("less", "Returns whether `x1 < x2`.", result=bool)
less_equal = binary("less_equal", "Returns whether `x1 <= x2`.", result=bool)
greater = binary("greater", "Returns whether `x1 > x2`.", result=bool)
greater_equal = binary("greater_equal", "Returns whether `x1 >= x2`.", result=bool)


def _compared_wide(f):
    """NumPy warns of NaN in comparisons of bfloat16, and of no other dtype: compare float32."""

    def run(x1, x2):
        if x1.dtype != BFLOAT16:
            return f(x1, x2)
        y = f(x1.astype(np.float32), x2.astype(np.float32))
        return y if y.dtype == bool else y.astype(BFLOAT16)

    return run


for _name in ("less", "less_equal", "greater", "greater_equal", "fmax", "fmin"):
    REGISTRY[_name].cpu(_compared_wide(getattr(np, _name)))


def _bool(x):
    return x if x.dtype == bool else x != 0


logical_and = binary(
    "logical_and",
    "Returns whether both are true (not zero).",
    array=lambda xp, x1, x2: _bool(x1) & _bool(x2),
    result=bool,
)
logical_or = binary(
    "logical_or",
    "Returns whether at least one is true (not zero).",
    array=lambda xp, x1, x2: _bool(x1) | _bool(x2),
    result=bool,
)
logical_xor = binary(
    "logical_xor",
    "Returns whether exactly one is true (not zero).",
    array=lambda xp, x1, x2: _bool(x1) ^ _bool(x2),
    result=bool,
)
logical_not = unary(
    "logical_not",
    "Returns whether each element is false (zero).",
    array=lambda xp, x: ~_bool(x),
    to_float=False,
    result=bool,
)
bitwise_and = binary(
    "bitwise_and", "Returns the bitwise and of integers or bools.", names=("x", "y")
)
bitwise_or = binary("bitwise_or", "Returns the bitwise or of integers or bools.", names=("x", "y"))
bitwise_xor = binary(
    "bitwise_xor", "Returns the bitwise exclusive or of integers or bools.", names=("x", "y")
)
bitwise_left_shift = binary(
    "bitwise_left_shift",
    "Shifts integers left.",
    array=lambda xp, x1, x2: xp.left_shift(x1, x2),
    names=("x", "y"),
    count_bools=True,
)
bitwise_right_shift = binary(
    "bitwise_right_shift",
    "Shifts integers right.",
    array=lambda xp, x1, x2: xp.right_shift(x1, x2),
    names=("x", "y"),
    count_bools=True,
)
bitwise_not = unary(
    "bitwise_not",
    "Returns the bitwise complement of integers, and `not` of bools.",
    array=lambda xp, x: xp.invert(x),
    to_float=False,
)
isnan = unary("isnan", "Returns which elements are NaN.", result=bool)
isinf = unary("isinf", "Returns which elements are infinite.", result=bool)
isfinite = unary("isfinite", "Returns which elements are neither NaN nor infinite.", result=bool)
signbit = unary("signbit", "Returns which elements have their sign bit set.", result=bool)

# -- functions of one operand -------------------------------------------------------------------

negative = unary("negative", "Returns `-x`.", lambda g: -g, to_float=False)
absolute = unary(
    "absolute", "Returns the absolute value.", lambda g, x: g * sign(x), to_float=False
)
sign = unary(
    "sign", "Returns -1, 0 or 1 as the sign of each element.", lambda g: g * 0, to_float=False
)
_square = unary("square", "Returns `x * x`.", lambda g, x: g * (x + x), to_float=False)
reciprocal = unary("reciprocal", "Returns `1 / x`.", lambda g, y: -g * y * y)
sqrt = unary("sqrt", "Returns the square root.", lambda g, y: g / (y + y))
rsqrt = unary(
    "rsqrt",
    "Returns `1 / sqrt(x)`.",
    lambda g, x, y: g * -0.5 * y / x,
    lambda xp, x: xp.reciprocal(xp.sqrt(x)),
)
cbrt = unary("cbrt", "Returns the cube root.", lambda g, y: g / (3 * y * y))
exp = unary("exp", "Returns e to the power of each element.", lambda g, y: g * y)
exp2 = unary(
    "exp2", "Returns 2 to the power of each element.", lambda g, y: g * y * float(np.log(2))
)
expm1 = unary("expm1", "Returns `exp(x) - 1`, exact near 0.", lambda g, y: g * (y + 1))
log = unary("log", "Returns the natural logarithm.", lambda g, x: g / x)
log2 = unary("log2", "Returns the logarithm to base 2.", lambda g, x: g / (x * float(np.log(2))))
log10 = unary(
    "log10", "Returns the logarithm to base 10.", lambda g, x: g / (x * float(np.log(10)))
)
log1p = unary("log1p", "Returns `log(1 + x)`, exact near 0.", lambda g, x: g / (x + 1))
sin = unary("sin", "Returns the sine (radians).", lambda g, x: g * cos(x))
cos = unary("cos", "Returns the cosine (radians).", lambda g, x: -g * sin(x))
tan = unary("tan", "Returns the tangent (radians).", lambda g, y: g * (1 + y * y))
arcsin = unary("arcsin", "Returns the inverse sine (radians).", lambda g, x: g * rsqrt(1 - x * x))
arccos = unary(
    "arccos", "Returns the inverse cosine (radians).", lambda g, x: -g * rsqrt(1 - x * x)
)
arctan = unary("arctan", "Returns the inverse tangent (radians).", lambda g, x: g / (1 + x * x))
sinh = unary("sinh", "Returns the hyperbolic sine.", lambda g, x: g * cosh(x))
cosh = unary("cosh", "Returns the hyperbolic cosine.", lambda g, x: g * sinh(x))
tanh = unary("tanh", "Returns the hyperbolic tangent.", lambda g, y: g * (1 - y * y))
arcsinh = unary(
    "arcsinh", "Returns the inverse hyperbolic sine.", lambda g, x: g * rsqrt(x * x + 1)
)
arccosh = unary(
    "arccosh", "Returns the inverse hyperbolic cosine.", lambda g, x: g * rsqrt(x * x - 1)
)
arctanh = unary("arctanh", "Returns the inverse hyperbolic tangent.", lambda g, x: g / (1 - x * x))
floor = unary("floor", "Returns the largest integer not above each element.", lambda g: g * 0)
ceil = unary("ceil", "Returns the smallest integer not below each element.", lambda g: g * 0)
_trunc = unary("trunc", "Returns each element rounded towards zero.", lambda g: g * 0)
deg2rad = unary("deg2rad", "Returns degrees as radians.", lambda g: g * float(np.pi / 180))
rad2deg = unary("rad2deg", "Returns radians as degrees.", lambda g: g * float(180 / np.pi))


@public
def square(x):
    """Returns `x * x`.

    Args:
        x: Tensor of any shape; bools count as int32.

    Returns:
        Tensor.
    """
    x = as_tensor(x)
    return _square(cast_to(x, INT32) if x.dtype == bool else x)


@public
def trunc(x):
    """Returns each element rounded towards zero.

    Args:
        x: Tensor of any shape.

    Returns:
        Tensor of the dtype of `x`.
    """
    x = as_tensor(x)
    return x if x.dtype.kind in "biu" else _trunc(x)


@public
def power(x1, x2):
    """Returns `x1` to the power `x2`; the usual square is computed as a product.

    Args:
        x1: Tensor.
        x2: Tensor whose shape broadcasts with that of `x1`.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.power([1.0, 3.0], 2).tolist()
        [1.0, 9.0]
    """
    if type(x2) is int and x2 == 2:
        return square(x1)
    return _power(x1, x2)


_round = Primitive("round(x, *, decimals) -> y")
_round.array(
    lambda xp, x, decimals: (
        xp.round(x.astype(np.float32), decimals).astype(x.dtype)
        if x.dtype == BFLOAT16
        else xp.round(x, decimals)
    )
)
_round.cuda(round_rule(_round.rules["array"]))
_round.native(round_native)
_round.infer(lambda x, decimals: Symbol(x.shape, x.dtype))
_round.vjp(lambda g, decimals: g * 0)

_where = Primitive("where(condition, x1, x2) -> y")
_where.array(lambda xp, condition, x1, x2: xp.where(condition, x1, x2))
_where.cuda(ternary_rule("where", np.where))
_where.native(where_native)
_where.infer(lambda c, a, b: Symbol(np.broadcast_shapes(c.shape, a.shape, b.shape), a.dtype))
_where.vjp(
    lambda g, condition, needs: (
        None,
        where(condition, g, 0) if needs[1] else None,
        where(condition, 0, g) if needs[2] else None,
    )
)

_clip = Primitive("clip(x, low, high) -> y")
_clip.array(lambda xp, x, low, high: xp.minimum(xp.maximum(x, low), high))
_clip.cuda(ternary_rule("clip", partial(_clip.rules["array"], np)))
_clip.native(native_rule("clip"))
_clip.infer(broadcast_infer)
_clip.vjp(
    lambda g, x, low, high: (
        where(logical_and(x >= low, x <= high), g, 0),
        where(x < low, g, 0),
        where(x > high, g, 0),
    )
)


@public
def round(x, decimals=0):
    """Returns each element rounded to `decimals` places, halves to even.

    Args:
        x: Tensor of any shape.
        decimals: Number of places; negative ones round to tens, hundreds, ...

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    x = as_tensor(x)
    if x.dtype.kind in "biu" and decimals >= 0:
        return x
    return _round(x, decimals=int(decimals))


@public
def where(condition, x1=None, x2=None):
    """Returns `x1` where the condition holds and `x2` elsewhere.

    Args:
        condition: Tensor; nonzero elements hold.
        x1: Tensor; broadcasts with the others.
        x2: Tensor; broadcasts with the others. Without `x1` and `x2`: the indices that hold.

    Returns:
        Tensor of the promoted dtype of `x1` and `x2`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.where([True, False], 1.0, 2.0).tolist()
        [1.0, 2.0]
    """
    condition = as_tensor(condition)
    if condition.dtype != bool:
        condition = not_equal(condition, 0)
    if x1 is None and x2 is None:
        return FUNCTIONS["nonzero"](condition)
    if type(x1) in SCALARS and type(x2) in SCALARS:
        x1 = as_tensor(x1, device=condition.device)
    return _where(condition, *operands(x1, x2))


@public
def clip(x, x_min, x_max):
    """Returns `x` limited to a range; no gradient flows where it is limited.

    Args:
        x: Tensor of any shape.
        x_min: Lower limit: a number, or a tensor that broadcasts with `x`; `None` for none.
        x_max: Upper limit, likewise.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.clip([-1.0, 0.5, 3.0], 0, 1).tolist()
        [0.0, 0.5, 1.0]
    """
    x = as_tensor(x)
    if x.dtype == bool:
        x = cast_to(x, np.dtype(np.int32))
    if x_min is None and x_max is None:
        return x
    if x_min is None:
        return minimum(x, x_max)
    if x_max is None:
        return maximum(x, x_min)
    x, low = operands(x, x_min)
    x, high = operands(x, x_max)
    return _clip(x, cast_to(low, x.dtype), high)


@public
def cast(x, dtype):
    """Returns the tensor in another dtype; gradients are cast back.

    Args:
        x: Tensor of any shape.
        dtype: Target dtype.

    Raises:
        DTypeError: If gpunet has no such dtype.

    Example:
        >>> import gpunet
        >>> gpunet.ops.cast([1.7, -2.0], "int32").tolist()
        [1, -2]
    """
    return cast_to(as_tensor(x), numpy_dtype(dtype))


@public
def to_device(x, device):
    """Returns the tensor on another device; gradients flow back through the copy.

    Args:
        x: Tensor of any shape.
        device: Target device or its name.
    """
    x, target = as_tensor(x), Device(device)
    if x.device is target:
        return x
    if state.graph is not None:
        raise TraceError("A graph stays on one device: move tensors before tracing.")
    source = x.device
    copy = custom_gradient(
        lambda t: (Tensor(move(t.data, source, target), target), lambda g: to_device(g, source))
    )
    return copy(x)


def alias(name: str, op: Callable) -> Callable:
    """Makes a public op known by one more name."""
    FUNCTIONS[name] = op
    return op


abs = alias("abs", absolute)
divide = alias("divide", true_divide)
bitwise_invert = alias("bitwise_invert", bitwise_not)
left_shift = alias("left_shift", bitwise_left_shift)
right_shift = alias("right_shift", bitwise_right_shift)
