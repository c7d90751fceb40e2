"""Numerical helpers: comparisons within tolerances, replacing NaN, choosing, saturating."""

import math
from typing import Any

import ml_dtypes
import numpy as np

from gpunet.core.gradients import custom_gradient as custom_gradient
from gpunet.core.gradients import stop_gradient as _stop_gradient
from gpunet.core.symbolic import public
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.dtypes import BFLOAT16, numpy_dtype
from gpunet.errors import ArgumentError, received
from gpunet.ops.creation import ones_like
from gpunet.ops.elementwise import (
    absolute,
    alias,
    cast_to,
    equal,
    exp2,
    floating,
    isfinite,
    isinf,
    isnan,
    log2,
    logical_and,
    logical_or,
    maximum,
    minimum,
    operands,
    sin,
    where,
)
from gpunet.ops.extrema import all

__all__ = [
    "allclose",
    "array_equal",
    "conj",
    "conjugate",
    "custom_gradient",
    "divide_no_nan",
    "fabs",
    "isclose",
    "isneginf",
    "isposinf",
    "isreal",
    "logaddexp2",
    "nan_to_num",
    "real",
    "saturate_cast",
    "select",
    "sinc",
    "stop_gradient",
]

_HALVES = (np.dtype(np.float16), BFLOAT16)


@public
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Returns where `|x1 - x2| <= atol + rtol * |x2|`.

    Args:
        x1: Tensor.
        x2: Tensor; broadcasts with `x1`.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        equal_nan: Whether NaN equals NaN.

    Returns:
        Tensor of bools.

    Example:
        >>> import gpunet
        >>> gpunet.ops.isclose([1.0, 2.0], [1.0, 2.1]).tolist()
        [True, False]
    """
    x1, x2 = operands(x1, x2)
    if x1.dtype.kind in "biu":
        x1, x2 = floating(x1), floating(x2)
    finite = isfinite(x2)
    target = where(finite, x2, 0)  # no inf - inf
    close = logical_and(absolute(x1 - target) <= absolute(target) * rtol + atol, finite)
    close = logical_or(close, equal(x1, x2))
    return logical_or(close, logical_and(isnan(x1), isnan(x2))) if equal_nan else close


@public
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Returns whether all elements are close to each other; see `isclose`."""
    return all(isclose(x1, x2, rtol, atol, equal_nan))


@public
def array_equal(x1, x2):
    """Returns whether two tensors have one shape and equal elements."""
    x1, x2 = operands(x1, x2)
    if x1.shape != x2.shape:
        return as_tensor(False, device=x1.device)
    return all(equal(x1, x2))


@public
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """Returns the tensor with NaN and infinities replaced.

    Args:
        x: Tensor.
        nan: What NaN becomes.
        posinf: What inf becomes; default the largest number of the dtype.
        neginf: What -inf becomes; default the lowest number of the dtype.

    Returns:
        Tensor of the dtype of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.nan_to_num([1.0, float("nan")]).tolist()
        [1.0, 0.0]
    """
    x = as_tensor(x)
    if x.dtype.kind in "biu":
        return x
    limits = ml_dtypes.finfo(x.dtype)
    posinf = float(limits.max) if posinf is None else posinf
    neginf = float(limits.min) if neginf is None else neginf
    x = where(isnan(x), nan, x)
    x = where(equal(x, math.inf), posinf, x)
    return where(equal(x, -math.inf), neginf, x)


@public
def select(condlist, choicelist, default=0):
    """Returns, for each element, that of the first choice whose condition holds.

    Args:
        condlist: List of tensors of bools.
        choicelist: List of as many tensors; all broadcast with each other.
        default: What is returned where no condition holds.

    Returns:
        Tensor of the promoted dtype.

    Raises:
        ArgumentError: If there are not as many choices as conditions, or none.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.arange(4)
        >>> gpunet.ops.select([x < 1, x < 3], [x, x * 10], -1).tolist()
        [0, 10, 20, -1]
    """
    if len(condlist) != len(choicelist) or not condlist:
        raise ArgumentError(
            "One choice for each condition is needed. "
            + received(conditions=len(condlist), choices=len(choicelist))
        )
    y = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        y = where(condition, choice, y)
    return y


@public
def saturate_cast(x, dtype):
    """Returns the tensor in another dtype; what it cannot hold becomes its nearest limit.

    Args:
        x: Tensor.
        dtype: Target dtype.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.saturate_cast([-3.0, 300.0], "uint8").tolist()
        [0, 255]
    """
    x, dtype = as_tensor(x), numpy_dtype(dtype)
    if dtype.kind == "b":
        return cast_to(x, dtype)
    low, high = _limits(dtype)
    if x.dtype == bool:
        return cast_to(x, dtype)
    own_low, own_high = _limits(x.dtype)
    x = maximum(x, as_tensor(_inside(low, x.dtype), x.dtype, x.device)) if low > own_low else x
    x = minimum(x, as_tensor(_inside(high, x.dtype), x.dtype, x.device)) if high < own_high else x
    return cast_to(x, dtype)


def _limits(dtype):
    info = np.iinfo(dtype) if dtype.kind in "iu" else ml_dtypes.finfo(dtype)
    return (int if dtype.kind in "iu" else float)(info.min), (int if dtype.kind in "iu" else float)(
        info.max
    )


def _inside(limit, dtype):
    """The number of a float dtype that is nearest to a limit, and not beyond it."""
    if dtype.kind in "iu":
        return limit
    number = dtype.type(limit)
    if abs(float(number)) <= abs(limit):
        return number
    return np.nextafter(number, dtype.type(0))


@public
def divide_no_nan(x1, x2):
    """Returns `x1 / x2`, and 0 where `x2` is 0; so is the gradient there.

    Args:
        x1: Tensor.
        x2: Tensor; broadcasts with `x1`.

    Returns:
        Tensor; integers are divided as floats.

    Example:
        >>> import gpunet
        >>> gpunet.ops.divide_no_nan([1.0, 2.0], [0.0, 4.0]).tolist()
        [0.0, 0.5]
    """
    x1, x2 = operands(x1, x2)
    x1, x2 = floating(x1), floating(x2)
    zero = equal(x2, 0)
    return where(zero, 0.0, x1 / where(zero, 1.0, x2))


@public
def isposinf(x):
    """Returns which elements are inf."""
    x = as_tensor(x)
    return logical_and(isinf(x), x > 0)


@public
def isneginf(x):
    """Returns which elements are -inf."""
    x = as_tensor(x)
    return logical_and(isinf(x), x < 0)


@public
def isreal(x):
    """Returns which elements are real numbers: all of them, gpunet computes with real numbers."""
    return ones_like(x, "bool")


@public
def real(x):
    """Returns the real part: the tensor, as gpunet computes with real numbers."""
    return as_tensor(x)


@public
def conjugate(x):
    """Returns the complex conjugate: the tensor, as gpunet computes with real numbers."""
    return as_tensor(x)


conj = alias("conj", conjugate)


@public
def fabs(x):
    """Returns the absolute value as a float."""
    return absolute(floating(x))


@public
def sinc(x):
    """Returns `sin(pi x) / (pi x)`, and 1 at 0.

    Args:
        x: Tensor.

    Returns:
        Tensor.
    """
    x = floating(x)
    zero = equal(x, 0)
    angle = where(zero, 1.0, x) * math.pi
    # The series near 0 gives its gradients there.
    return where(zero, 1.0 - (x * math.pi) ** 2 / 6, sin(angle) / angle)


@public
def logaddexp2(x1, x2):
    """Returns `log2(2**x1 + 2**x2)` without overflow.

    Args:
        x1: Tensor.
        x2: Tensor; broadcasts with `x1`.

    Returns:
        Tensor.
    """
    x1, x2 = operands(x1, x2)
    x1, x2 = floating(x1), floating(x2)
    top = _stop_gradient(maximum(x1, x2))
    top = where(isfinite(top), top, 0.0)
    return log2(exp2(x1 - top) + exp2(x2 - top)) + top


def stop_gradient(variable: Any) -> Any:
    """Returns a tensor (or nest of tensors) as a constant; see `gpunet.stop_gradient`."""
    if isinstance(variable, Operators):
        return _stop_one(variable)
    return _stop_gradient(variable)


@public
def _stop_one(variable):
    x = as_tensor(variable)
    return Tensor(x.data, x.device)
