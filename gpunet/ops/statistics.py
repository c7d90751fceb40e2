"""Averages, quantiles, and reductions that leave NaN out."""

import math

import numpy as np

from gpunet.core.symbolic import public
from gpunet.core.tensor import Operators, as_tensor
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.elementwise import (
    cast_to,
    ceil,
    floating,
    floor,
    isnan,
    logical_not,
    maximum,
    minimum,
    operands,
    round,
    sqrt,
    where,
)
from gpunet.ops.extrema import all, any, argmax, argmin, max, min
from gpunet.ops.index import along_primitive
from gpunet.ops.reduce import axis_tuple, mean, prod, reduced_shape, sum
from gpunet.ops.shape import broadcast_to, expand_dims, moveaxis, ravel, reshape_primitive
from gpunet.ops.sort import sort_primitive

__all__ = [
    "average",
    "corrcoef",
    "histogram",
    "median",
    "nanargmax",
    "nanargmin",
    "nanmax",
    "nanmean",
    "nanmedian",
    "nanmin",
    "nanpercentile",
    "nanprod",
    "nanquantile",
    "nanstd",
    "nansum",
    "nanvar",
    "percentile",
    "ptp",
    "quantile",
]

_HALVES = (np.dtype(np.float16), BFLOAT16)


@public
def average(x, axis=None, weights=None):
    """Returns the weighted mean along axes: `sum(x * weights) / sum(weights)`.

    Args:
        x: Tensor.
        axis: Integer or tuple; default all axes.
        weights: Tensor of the shape of `x`, or of one axis, with a weight for each slice along
            `axis`; default all equal.

    Returns:
        Tensor.

    Raises:
        ShapeError: If the weights do not go with `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.average([1.0, 2.0, 4.0], weights=[1.0, 0.0, 1.0]).item()
        2.5
    """
    x = floating(x)
    if weights is None:
        return mean(x, axis)
    x, weights = operands(x, floating(weights))
    if weights.shape != x.shape:
        axes = axis_tuple(axis, len(x.shape)) or tuple(range(len(x.shape)))
        if len(axes) != 1 or weights.shape != (x.shape[axes[0]],):
            raise ShapeError(
                "`weights` needs the shape of `x`, or one weight for each slice along `axis`. "
                + received(weights=weights.shape, x=x.shape, axis=axis)
            )
        shape = tuple([d if i in axes else 1 for i, d in enumerate(x.shape)])
        weights = broadcast_to(reshape_primitive(weights, shape=shape), x.shape)
    return sum(x * weights, axis) / sum(weights, axis)


@public
def ptp(x, axis=None, keepdims=False):
    """Returns the largest element minus the smallest one along axes.

    Args:
        x: Tensor.
        axis: Integer or tuple; default all axes.
        keepdims: Whether the reduced axes stay, with length 1.

    Returns:
        Tensor of the dtype of `x`.
    """
    return max(x, axis, keepdims) - min(x, axis, keepdims)


# -- quantiles ----------------------------------------------------------------------------------

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(x, q, axis, method, keepdims, skip_nan):
    if method not in _METHODS:
        raise ArgumentError(f"`method` must be one of {_METHODS}. {received(method=method)}")
    x = floating(x)
    dtype = x.dtype
    x = cast_to(x, np.dtype(np.float32)) if dtype in _HALVES else x
    q = as_tensor(q, device=x.device) if isinstance(q, Operators) else np.asarray(q, np.float64)
    axes = axis_tuple(axis, len(x.shape))
    kept = reduced_shape(x.shape, axes, keepdims)
    rows = _rows(x, axes)
    if not rows.shape[-1]:
        raise ShapeError(f"Quantiles of no elements. {received(shape=x.shape, axis=axis)}")
    y = _interpolate(
        rows, ravel(q) if isinstance(q, Operators) else q.reshape(-1), method, skip_nan
    )
    y = reshape_primitive(moveaxis(y, -1, 0), shape=(*q.shape, *kept))
    return cast_to(y, dtype)


def _rows(x, axes):
    """Sorted along one last axis that holds all reduced ones."""
    axes = tuple(range(len(x.shape))) if axes is None else axes
    rest = reduced_shape(x.shape, axes, False)
    x = moveaxis(x, axes, tuple(range(-len(axes), 0)))
    count = math.prod(x.shape[len(rest) :])
    return sort_primitive(reshape_primitive(x, shape=(*rest, count)), axis=len(rest))


def _interpolate(rows, q, method, skip_nan):
    """Values at the places `q * (count - 1)` of sorted rows; one a q, along the last axis."""
    n, last = rows.shape[-1], len(rows.shape) - 1
    holes = isnan(rows)
    if skip_nan:
        top = cast_to(sum(logical_not(holes), -1, keepdims=True) - 1, rows.dtype)
    else:
        top = float(n - 1)
    place = maximum(_as_type(q, rows) * top, 0)
    low, high = floor(place), ceil(place)
    low, high = minimum(low, n - 1), minimum(high, n - 1)
    if method == "nearest":
        low = high = minimum(round(place), n - 1)  # halves to even, as in NumPy
    elif method in ("lower", "higher"):
        low = high = low if method == "lower" else high
    shape = (*rows.shape[:-1], place.shape[-1])
    lower, upper = [
        along_primitive(rows, broadcast_to(cast_to(p, np.dtype(np.int32)), shape), axis=last)
        for p in (low, high)
    ]
    weight = 0.5 if method == "midpoint" else cast_to(place - low, rows.dtype)
    y = lower + (upper - lower) * weight if low is not high else lower
    bad = all(holes, -1, keepdims=True) if skip_nan else any(holes, -1, keepdims=True)
    return where(bad, math.nan, y)


def _as_type(q, rows):
    if isinstance(q, np.ndarray):  # places are computed in double precision where they are known
        return as_tensor(q, device=rows.device)
    return cast_to(q, rows.dtype)


_QUANTILE = """
    Args:
        x: Tensor; integers become floats.
        q: {q}: a number or a tensor of them.
        axis: Integer or tuple; default all axes.
        method: Between two elements: `"linear"`, `"lower"`, `"higher"`, `"midpoint"`, `"nearest"`.
        keepdims: Whether the reduced axes stay, with length 1.

    Returns:
        Tensor; the axes of `q` come first.

    Raises:
        ArgumentError: If the method is unknown.

    Example:
        >>> import gpunet
        >>> gpunet.ops.{example}
        2.5
    """


def _quantile_op(name, doc, scale, skip_nan):
    def op(x, q, axis=None, method="linear", keepdims=False):
        return _quantile(x, q if scale == 1 else _scaled(q), axis, method, keepdims, skip_nan)

    op.__name__ = op.__qualname__ = name
    op.__module__ = "gpunet.ops"
    kind = "Which part is below, from 0 to 1" if scale == 1 else "Percentage below, 0 to 100"
    example = f"{name}([1.0, 2.0, 3.0, 4.0], {0.5 if scale == 1 else 50}).item()"
    op.__doc__ = doc + "\n" + _QUANTILE.format(q=kind, example=example)
    return public(op)


def _scaled(q):
    return q / 100 if isinstance(q, Operators) else np.asarray(q, np.float64) / 100


quantile = _quantile_op(
    "quantile", "Returns the numbers below which given parts of the elements are.", 1, False
)
percentile = _quantile_op(
    "percentile",
    "Returns the numbers below which given percentages of the elements are.",
    100,
    False,
)
nanquantile = _quantile_op("nanquantile", "Like `quantile`, but leaves NaN out.", 1, True)
nanpercentile = _quantile_op("nanpercentile", "Like `percentile`, but leaves NaN out.", 100, True)


@public
def median(x, axis=None, keepdims=False):
    """Returns the middle element along axes, the mean of two for an even number of elements.

    Args:
        x: Tensor; integers become floats.
        axis: Integer or tuple; default all axes.
        keepdims: Whether the reduced axes stay, with length 1.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.ops.median([5.0, 1.0, 3.0]).item()
        3.0
    """
    return quantile(x, 0.5, axis, keepdims=keepdims)


@public
def nanmedian(x, axis=None, keepdims=False):
    """Like `median`, but leaves NaN out."""
    return nanquantile(x, 0.5, axis, keepdims=keepdims)


# -- leaving NaN out ----------------------------------------------------------------------------


def _filled(x, value):
    """The tensor with a value in place of NaN, and where NaN was (`None` for integers)."""
    x = as_tensor(x)
    if x.dtype.kind in "biu":
        return x, None
    holes = isnan(x)
    return where(holes, value, x), holes


@public
def nansum(x, axis=None, keepdims=False):
    """Like `sum`, but NaN counts as 0."""
    return sum(_filled(x, 0.0)[0], axis, keepdims)


@public
def nanprod(x, axis=None, keepdims=False):
    """Like `prod`, but NaN counts as 1."""
    return prod(_filled(x, 1.0)[0], axis, keepdims)


def _nan_extremum(x, axis, keepdims, fill, reduce):
    x, holes = _filled(x, fill)
    y = reduce(x, axis, keepdims)
    return y if holes is None else where(all(holes, axis, keepdims), math.nan, y)


@public
def nanmax(x, axis=None, keepdims=False):
    """Like `max`, but leaves NaN out; NaN where there is nothing else."""
    return _nan_extremum(x, axis, keepdims, -math.inf, max)


@public
def nanmin(x, axis=None, keepdims=False):
    """Like `min`, but leaves NaN out; NaN where there is nothing else."""
    return _nan_extremum(x, axis, keepdims, math.inf, min)


def _nan_position(x, axis, keepdims, fill, find):
    x, holes = _filled(x, fill)
    y = find(x, axis, keepdims)
    return y if holes is None else where(all(holes, axis, keepdims), -1, y)


@public
def nanargmax(x, axis=None, keepdims=False):
    """Like `argmax`, but leaves NaN out; -1 where there is nothing else."""
    return _nan_position(x, axis, keepdims, -math.inf, argmax)


@public
def nanargmin(x, axis=None, keepdims=False):
    """Like `argmin`, but leaves NaN out; -1 where there is nothing else."""
    return _nan_position(x, axis, keepdims, math.inf, argmin)


def _nan_moments(x, axis, keepdims):
    x, holes = _filled(floating(x), 0.0)
    dtype = x.dtype
    x = cast_to(x, np.dtype(np.float32)) if dtype in _HALVES else x
    count = cast_to(sum(logical_not(holes), axis, keepdims=True), x.dtype)
    count = where(count == 0, math.nan, count)
    middle = sum(x, axis, keepdims=True) / count
    distance = where(holes, 0.0, x - middle)
    spread = sum(distance * distance, axis, keepdims=True) / count
    shape = reduced_shape(x.shape, axis_tuple(axis, len(x.shape)), keepdims)
    return [cast_to(reshape_primitive(y, shape=shape), dtype) for y in (middle, spread)]


@public
def nanmean(x, axis=None, keepdims=False):
    """Like `mean`, but leaves NaN out; NaN where there is nothing else."""
    return _nan_moments(x, axis, keepdims)[0]


@public
def nanvar(x, axis=None, keepdims=False):
    """Like `var`, but leaves NaN out; NaN where there is nothing else."""
    return _nan_moments(x, axis, keepdims)[1]


@public
def nanstd(x, axis=None, keepdims=False):
    """Like `std`, but leaves NaN out; NaN where there is nothing else."""
    return sqrt(nanvar(x, axis, keepdims))


# -- histogram and correlation ------------------------------------------------------------------


@public
def histogram(x, bins=10, range=None):
    """Returns how many elements are in each of some bins of equal width.

    Args:
        x: Tensor of any shape.
        bins: Number of bins.
        range: `(low, high)`; default the smallest and the largest element.

    Returns:
        Two tensors: counts of shape `(bins,)`, int32, and edges of shape `(bins + 1,)`.

    Raises:
        ArgumentError: If there is less than one bin, or the range is empty.

    Example:
        >>> import gpunet
        >>> counts, edges = gpunet.ops.histogram([0.0, 1.0, 1.5, 4.0], bins=2)
        >>> counts.tolist(), edges.tolist()
        ([3, 1], [0.0, 2.0, 4.0])
    """
    x = ravel(floating(x))
    if not isinstance(bins, int) or bins < 1:
        raise ArgumentError(f"`bins` must be a positive integer. {received(bins=bins)}")
    if range is not None and not range[0] <= range[1]:
        raise ArgumentError(f"`range` must be (low, high). {received(range=range)}")
    if range is None:
        low, high = (
            (min(x), max(x)) if x.shape[0] else [as_tensor(v, x.dtype, x.device) for v in (0, 1)]
        )
    else:
        low, high = [as_tensor(float(v), x.dtype, x.device) for v in range]
    same = low == high
    low, high = where(same, low - 0.5, low), where(same, high + 0.5, high)
    parts = as_tensor(np.linspace(0, 1, bins + 1).astype(x.dtype), device=x.device)
    edges = low * (1 - parts) + high * parts
    above = expand_dims(x, 1) >= expand_dims(edges, 0)
    # How many elements are at or above each edge; the last bin holds its right edge too.
    at_least = sum(above, 0)
    beyond = sum(x > edges[-1])
    at_least = where(as_tensor(np.arange(bins + 1) == bins, device=x.device), beyond, at_least)
    return at_least[:-1] - at_least[1:], edges


@public
def corrcoef(x):
    """Returns the correlation coefficients of the rows of a matrix.

    Args:
        x: Tensor of shape `(variables, observations)`.

    Returns:
        Tensor of shape `(variables, variables)`, from -1 to 1.

    Example:
        >>> import gpunet
        >>> gpunet.ops.corrcoef([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = floating(x)
    if len(x.shape) not in (1, 2):
        raise ShapeError(f"corrcoef needs one or two axes. {received(shape=x.shape)}")
    rows = x if len(x.shape) == 2 else expand_dims(x, 0)
    rows = rows - mean(rows, -1, keepdims=True)
    products = sum(expand_dims(rows, 1) * expand_dims(rows, 0), -1)
    lengths = sqrt(sum(rows * rows, -1))
    y = products / (expand_dims(lengths, 1) * expand_dims(lengths, 0))
    y = minimum(maximum(y, -1), 1)
    return y if len(x.shape) == 2 else reshape_primitive(y, shape=())
