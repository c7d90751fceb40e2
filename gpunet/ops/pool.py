"""Pooling in 1, 2 and 3 dimensions: the largest element or the mean of each window.

The primitives have the layout `(batch, *spatial, channels)`. The forward passes go axis by axis
over slices, which takes `kh + kw` passes for a window of `kh * kw`.
"""

import functools
import math

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError, received
from gpunet.ops import pool_native
from gpunet.ops.elementwise import floating
from gpunet.ops.im2col import samples_at_once
from gpunet.ops.pool_launch import (
    average_pool_grad_rule,
    average_pool_rule,
    max_pool_grad_rule,
    max_pool_rule,
    max_pool_take_rule,
)
from gpunet.ops.precision import widened
from gpunet.ops.spatial import (
    channels_back,
    channels_last,
    checked_padding,
    pads,
    per_axis,
    places,
    spatial_rank,
    tap_range,
    taps,
)

__all__ = ["average_pool", "max_pool"]

max_pool_primitive = Primitive("max_pool(x, *, window, strides, padding) -> y")
max_pool_grad = Primitive("max_pool_grad(g, x, y, *, window, strides, padding) -> gx")
max_pool_take = Primitive("max_pool_take(h, x, y, *, window, strides, padding) -> taken")
average_pool_primitive = Primitive("average_pool(x, *, window, strides, padding) -> y")
average_pool_grad = Primitive("average_pool_grad(g, *, sizes, window, strides, padding) -> gx")


def _ones(window):
    return (1,) * len(window)


def _counts(x, window, strides, padding):
    return places(tuple(x.shape[1:-1]), window, strides, padding, _ones(window))


def _infer(x, window, strides, padding):
    return Symbol((x.shape[0], *_counts(x, window, strides, padding), x.shape[-1]), x.dtype)


def _along(axis, part):
    """An index that takes `part` of one spatial axis."""
    return (*[slice(None)] * (axis + 1), part)


def _reduced(xp, combine, x, window, strides, padding, fill):
    """Combines the elements of each window, one spatial axis after the other."""
    counts = _counts(x, window, strides, padding)
    for axis, (k, s, (before, _)) in enumerate(zip(window, strides, padding, strict=True)):
        if k == s == 1 and counts[axis] == x.shape[axis + 1]:
            continue
        size, count = x.shape[axis + 1], counts[axis]
        ranges = [tap_range(size, count, t - before, s) for t in range(k)]
        whole = [b for a, b in ranges if a == slice(0, count)]
        shape = (*x.shape[: axis + 1], count, *x.shape[axis + 2 :])
        # Start from two taps that every place has, else from nothing.
        if len(whole) >= 2:
            y = combine(x[_along(axis, whole[0])], x[_along(axis, whole[1])])
            done = [whole[0], whole[1]]
        else:
            y, done = xp.full(shape, fill, x.dtype), []
        for results, inputs in ranges:
            if inputs not in done:
                part = y[_along(axis, results)]
                combine(part, x[_along(axis, inputs)], out=part)
        x = y
    return x


# -- the largest --------------------------------------------------------------------------------


@functools.cache
def _lowest(dtype):
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


@max_pool_primitive.array
def _(xp, x, window, strides, padding):
    fill = False if x.dtype == bool else _lowest(x.dtype)
    return _reduced(xp, xp.maximum, x, window, strides, padding, fill)


max_pool_primitive.infer(_infer)


@max_pool_primitive.vjp
def _(g, x, y, window, strides, padding):
    return max_pool_grad(g, x, y, window=window, strides=strides, padding=padding)


def _winners(xp, x, y, window, strides, padding):
    """For blocks of samples and each tap: where it holds the first of the largest elements.

    Yields the block, the slices of results and of inputs, and a mask of the results.
    """
    counts = tuple(y.shape[1:-1])
    ones = _ones(window)
    joins = list(taps(tuple(x.shape[1:-1]), counts, window, strides, padding, ones))
    n = x.shape[0]
    step = samples_at_once(xp, 4 * math.prod(y.shape[1:]) * y.dtype.itemsize, n)
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        x_block, y_block = x[block], y[block]
        free = xp.ones(y_block.shape, bool)
        for _, results, inputs in joins:
            left = free[results]
            wins = x_block[inputs] == y_block[results]
            wins &= left
            left ^= wins
            yield block, results, inputs, wins


@max_pool_grad.array
@widened
def _(xp, g, x, y, window, strides, padding):
    gx = xp.zeros(x.shape, g.dtype)
    alone = all(k <= s for k, s in zip(window, strides, strict=True))
    for block, results, inputs, wins in _winners(xp, x, y, window, strides, padding):
        part = gx[block][inputs]
        if alone:
            xp.multiply(g[block][results], wins, out=part)
        else:
            part += g[block][results] * wins
    return gx


@max_pool_grad.infer
def _(g, x, y, window, strides, padding):
    return Symbol(x.shape, g.dtype)


@max_pool_grad.vjp
def _(h, x, y, window, strides, padding):
    taken = max_pool_take(h, x, y, window=window, strides=strides, padding=padding)
    return taken, None, None


# Where the elements of `x` were the largest of their windows, those of `h`.
@max_pool_take.array
def _(xp, h, x, y, window, strides, padding):
    taken = xp.zeros(y.shape, h.dtype)
    for block, results, inputs, wins in _winners(xp, x, y, window, strides, padding):
        part = taken[block][results]
        xp.copyto(part, h[block][inputs], where=wins)
    return taken


@max_pool_take.infer
def _(h, x, y, window, strides, padding):
    return Symbol(y.shape, h.dtype)


@max_pool_take.vjp
def _(g, x, y, window, strides, padding):
    gh = max_pool_grad(g, x, y, window=window, strides=strides, padding=padding)
    return gh, None, None


# -- the mean -----------------------------------------------------------------------------------


def _inputs_in_windows(xp, axes):
    """How many inputs (not padding) each window has, as an array of ints that broadcasts."""
    total = xp.ones((), int)
    for axis, (n, count, k, s, before) in enumerate(axes):
        first = xp.arange(count) * s - before
        inside = xp.minimum(first + k, n) - xp.maximum(first, 0)
        total = total * inside.reshape([-1 if i == axis else 1 for i in range(len(axes))])
    return xp.maximum(total, 1)


@functools.lru_cache(maxsize=1024)
def _shares_on_cpu(axes, dtype):
    """One over the inputs in each window: a number where it is the same everywhere."""
    total = _inputs_in_windows(np, axes)
    if not total.size or (total == total.flat[0]).all():
        return dtype.type(1 / total.flat[0]) if total.size else dtype.type(1)
    return (1 / total[..., None]).astype(dtype)


def _shares(xp, dtype, sizes, window, strides, padding):
    counts = places(sizes, window, strides, padding, _ones(window))
    before = [pair[0] for pair in padding]
    axes = tuple(zip(sizes, counts, window, strides, before, strict=True))
    shares = _shares_on_cpu(axes, dtype)
    if xp is np or shares.ndim == 0:
        return shares
    return (1 / _inputs_in_windows(xp, axes)[..., None]).astype(dtype)  # no copy from the host


@average_pool_primitive.array
@widened
def _(xp, x, window, strides, padding):
    y = _reduced(xp, xp.add, x, window, strides, padding, 0)
    return y * _shares(xp, x.dtype, tuple(x.shape[1:-1]), window, strides, padding)


average_pool_primitive.infer(_infer)


@average_pool_primitive.vjp
def _(g, x_shape, window, strides, padding):
    sizes = tuple(x_shape[1:-1])
    return average_pool_grad(g, sizes=sizes, window=window, strides=strides, padding=padding)


@average_pool_grad.array
@widened
def _(xp, g, sizes, window, strides, padding):
    g = g * _shares(xp, g.dtype, sizes, window, strides, padding)
    # The first axis last: there the slices are longest, and the array is largest.
    for axis in reversed(range(len(sizes))):
        k, s, before = window[axis], strides[axis], padding[axis][0]
        size, count = sizes[axis], g.shape[axis + 1]
        if k == s == 1 and size == count:
            continue
        gx = xp.zeros((*g.shape[: axis + 1], size, *g.shape[axis + 2 :]), g.dtype)
        for t in range(k):
            results, inputs = tap_range(size, count, t - before, s)
            if k <= s:  # no input is in two windows
                gx[_along(axis, inputs)] = g[_along(axis, results)]
            else:
                gx[_along(axis, inputs)] += g[_along(axis, results)]
        g = gx
    return g


@average_pool_grad.infer
def _(g, sizes, window, strides, padding):
    return Symbol((g.shape[0], *sizes, g.shape[-1]), g.dtype)


@average_pool_grad.vjp
def _(h, sizes, window, strides, padding):
    return average_pool_primitive(h, window=window, strides=strides, padding=padding)


# -- their kernels ------------------------------------------------------------------------------

for _primitive, _rule, _native in (
    (max_pool_primitive, max_pool_rule, pool_native.max_pool),
    (max_pool_grad, max_pool_grad_rule, pool_native.max_pool_grad),
    (max_pool_take, max_pool_take_rule, pool_native.max_pool_take),
    (average_pool_primitive, average_pool_rule, pool_native.average_pool),
    (average_pool_grad, average_pool_grad_rule, pool_native.average_pool_grad),
):
    _primitive.cuda(_rule(_primitive.rules["array"]))
    _primitive.native(_native)


# -- the public ops -----------------------------------------------------------------------------


def _pool(name, primitive, x, pool_size, strides, padding, data_format):
    rank = spatial_rank(name, x)
    x, moved = channels_last(data_format, x)
    window = per_axis(pool_size, rank, "pool_size")
    strides = window if strides is None else per_axis(strides, rank, "strides")
    kind, sizes = checked_padding(padding), tuple(x.shape[1:-1])
    around = pads(kind, sizes, window, strides, _ones(window))
    if 0 in places(sizes, window, strides, around, _ones(window)):
        raise ShapeError(
            f"The window of `{name}` does not fit into the inputs: the result would be empty. "
            + received(inputs=x.shape, pool_size=pool_size, padding=padding)
        )
    return channels_back(primitive(x, window=window, strides=strides, padding=around), moved)


@public
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """Returns the largest element of each window.

    The gradient goes to the first of equal elements (rows first), as in JAX and TensorFlow.

    Args:
        inputs: Tensor of shape `(batch, *spatial, channels)` with 1 to 3 spatial axes;
            `(batch, channels, *spatial)` with `data_format="channels_first"`.
        pool_size: Lengths of the window; an integer, or one for each spatial axis.
        strides: Step between windows, likewise; default `pool_size`.
        padding: `"valid"` (none) or `"same"` (`ceil(size / stride)` places). Padding is never the
            largest.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.

    Returns:
        Tensor of shape `(batch, *places, channels)`, or with its channels first.

    Raises:
        ShapeError: If there are no 1 to 3 spatial axes, or the window does not fit.
        ArgumentError: If another argument is out of range.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.reshape([1.0, 4.0, 2.0, 3.0], (1, 4, 1))
        >>> gpunet.ops.max_pool(x, 2).flatten().tolist()
        [4.0, 3.0]
    """
    x = as_tensor(inputs)
    return _pool("max_pool", max_pool_primitive, x, pool_size, strides, padding, data_format)


@public
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """Returns the mean of each window; padding does not count.

    Args:
        inputs: Tensor of shape `(batch, *spatial, channels)` with 1 to 3 spatial axes;
            `(batch, channels, *spatial)` with `data_format="channels_first"`.
        pool_size: Lengths of the window; an integer, or one for each spatial axis.
        strides: Step between windows, likewise; default `pool_size`.
        padding: `"valid"` (none) or `"same"` (`ceil(size / stride)` places).
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.

    Returns:
        Tensor of shape `(batch, *places, channels)`, or with its channels first.

    Raises:
        ShapeError: If there are no 1 to 3 spatial axes, or the window does not fit.
        ArgumentError: If another argument is out of range.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.reshape([1.0, 4.0, 2.0, 3.0], (1, 4, 1))
        >>> gpunet.ops.average_pool(x, 2).flatten().tolist()
        [2.5, 2.5]
    """
    x = floating(inputs)
    primitive = average_pool_primitive
    return _pool("average_pool", primitive, x, pool_size, strides, padding, data_format)
