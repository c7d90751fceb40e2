"""Chains of elementwise primitives, and the functors that kernels compute their steps with."""

import functools
from typing import Any, NamedTuple

import numpy as np

from gpunet.core.primitive import REGISTRY, Primitive
from gpunet.core.trace import Equation, Symbol
from gpunet.dtypes import BFLOAT16
from gpunet.ops.elementwise_launch import functor_name


def named(names: str) -> frozenset[str]:
    """Returns the set of the words of a text."""
    return frozenset(names.split())


# Primitives that compute each element of their result from one element of each operand, by a
# functor of that name.
_PLAIN = named(
    "absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and "
    "bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor cbrt ceil "
    "clip cos cosh deg2rad equal erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin "
    "fmod gcd greater greater_equal hard_sigmoid hard_silu heaviside hypot isfinite isinf "
    "isnan lcm ldexp less less_equal log log10 log1p log2 log_sigmoid logaddexp logical_and "
    "logical_not logical_or logical_xor logit maximum minimum mish mod multiply negative "
    "nextafter not_equal power rad2deg reciprocal relu relu6 relu_grad rsqrt sigmoid "
    "sigmoid_grad sign signbit silu silu_grad sin sinh softplus softsign sqrt square "
    "subtract tan tanh true_divide trunc where"
)
# Those whose attributes choose the functor, or are numbers it is given.
_WITH_ATTRIBUTES = frozenset(("cast", "elu", "gelu", "gelu_grad", "leaky_relu", "round"))


class Step(NamedTuple):
    """One application of a primitive in a chain.

    Attributes:
        op: The primitive.
        operands: Numbers of the values it is applied to.
        attributes: Its attributes, as sorted pairs.
    """

    op: Primitive
    operands: tuple[int, ...]
    attributes: tuple[tuple[str, Any], ...]


class Chain(NamedTuple):
    """What a fused kernel computes for each element.

    Values are numbered: first the inputs, then the results of the steps.

    Attributes:
        arity: How many inputs there are.
        steps: In an order in which each comes after what it needs.
        results: Numbers of the values that are returned.
    """

    arity: int
    steps: tuple[Step, ...]
    results: tuple[int, ...]


class Functor(NamedTuple):
    """How a kernel computes a step: `Name()(operands..., numbers...)`."""

    name: str
    numbers: tuple[float, ...] = ()


def is_elementwise(eq: Equation) -> bool:
    """Tells whether an equation can be a step of a chain."""
    name = eq.op.name
    known = name in _PLAIN or name in _WITH_ATTRIBUTES
    return known and REGISTRY.get(name) is eq.op and functor_of(eq) is not None


def functor_of(eq: Equation) -> Functor | None:
    """Returns the functor of an equation, or `None` if its op has none with these attributes."""
    return functor(eq.op.name, eq.attributes, eq.inputs[0].dtype)


def functor(name: str, attributes: dict[str, Any], dtype: np.dtype) -> Functor | None:
    """Returns the functor that the op's own kernel uses for operands of a dtype.

    Example:
        >>> functor("leaky_relu", {"slope": 0.5}, np.dtype("float32"))
        Functor(name='LeakyRelu', numbers=(0.5,))
    """
    if name == "bitwise_not" and dtype.kind == "b":
        return Functor("LogicalNot")
    if name == "nextafter" and dtype.itemsize < 4:
        return None
    if name in _PLAIN:
        return Functor(functor_name(name))
    if name == "cast":
        return Functor("Nonzero" if np.dtype(attributes["dtype"]).kind == "b" else "Identity")
    if name in ("gelu", "gelu_grad"):
        tanh, gradient = attributes["approximate"], name == "gelu_grad"
        return Functor("Gelu" + "Tanh" * tanh + "Grad" * gradient)
    if name == "leaky_relu":
        return Functor("LeakyRelu", (attributes["slope"],))
    return _elu(**attributes) if name == "elu" else _round(dtype, **attributes)


def _elu(alpha, scale, rate):
    if rate == 1:
        return Functor("Elu", (alpha, scale))
    return Functor("Celu", (alpha, rate)) if scale == 1 else None


def _round(dtype, decimals):
    floats = dtype.kind == "f" or dtype == BFLOAT16
    if not floats or abs(decimals) > 30:
        return None
    return Functor("Round" if decimals >= 0 else "RoundTens", (10.0 ** abs(decimals),))


@functools.lru_cache(4096)
def value_dtypes(chain: Chain, inputs: tuple[np.dtype, ...]) -> tuple[np.dtype, ...]:
    """Returns the dtype of each value of a chain whose inputs have these dtypes."""
    values = [Symbol((), dtype) for dtype in inputs]
    for step in chain.steps:
        operands = [values[i] for i in step.operands]
        values.append(step.op.rules["infer"](*operands, **dict(step.attributes)))
    return tuple([value.dtype for value in values])


def literal(value: float, dtype: np.dtype) -> str:
    """Returns a number as C++ of the type that elements of a float dtype are computed in.

    Example:
        >>> literal(0.1, np.dtype("float32")), literal(2, np.dtype("float64"))
        ('0.1f', '2.0')
    """
    kind, tail = (np.float64, "") if dtype == np.float64 else (np.float32, "f")
    if np.isfinite(kind(value)):
        return f"{float(str(kind(value)))!r}{tail}"
    if np.isnan(value):
        return f"(0.0{tail} / 0.0{tail})"
    return f"({'-' if value < 0 else ''}1.0{tail} / 0.0{tail})"
