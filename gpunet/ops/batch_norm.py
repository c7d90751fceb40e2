"""Batch normalisation: each column (channel) by its statistics over all rows.

On the CPU the passes run over blocks that fit the cache, and narrow tables are treated as wide
ones: `k` rows of `C` channels as one of `k * C`, with the vectors repeated `k` times.

Source: Ioffe, Szegedy, "Batch Normalization", 2015.
"""

import math

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError
from gpunet.ops.batch_norm_launch import (
    add_relu_grad_rule,
    add_relu_rule,
    grad_rule,
    inference_rule,
    relu_grad_rule,
    relu_rule,
    train_rule,
)
from gpunet.ops.batch_norm_native import (
    add_relu_grad_native,
    add_relu_native,
    grad_native,
    inference_native,
    relu_grad_native,
    relu_native,
    train_native,
)
from gpunet.ops.elementwise import cast_to, greater, maximum, rsqrt, sqrt, square
from gpunet.ops.norm import blocks, wide, wide_tensor
from gpunet.ops.precision import statistics_dtype
from gpunet.ops.reduce import sum
from gpunet.ops.rows import as_rows, column_sum

__all__: list[str] = []

_WIDE = 512  # columns from which a loop over one row is long enough


def _check(x, *vectors):
    if x.ndim < 1 or any(v.shape != x.shape[-1:] for v in vectors):
        raise ShapeError("one number for each channel, on the last axis")


def _widened(x):
    """Returns the array as a wide table, and how many rows of channels are in one of its rows."""
    rows = as_rows(x, x.shape[-1])
    count, columns = rows.shape
    times = 1
    while columns * times < _WIDE and count % (2 * times) == 0 and count:
        times *= 2
    return rows.reshape(count // times, columns * times), times


def _fold(v, times):
    """Adds up the parts of a vector of a wide table."""
    return v.reshape(times, -1).sum(0) if times > 1 else v


def _axes(x):
    return tuple(range(x.ndim - 1))


def _count(x):
    return max(math.prod(x.shape[:-1]), 1)


# -- training: statistics of the batch ------------------------------------------------------------

batch_norm_train = Primitive("batch_norm_train(x, scale, offset, *, epsilon) -> y, mean, variance")
batch_norm_grad = Primitive(
    "batch_norm_grad(g, g_mean, g_variance, x, scale, mean, variance, *, epsilon)"
    " -> dx, dscale, doffset"
)


batch_norm_train.cuda(train_rule)
batch_norm_grad.cuda(grad_rule)
batch_norm_train.native(train_native)
batch_norm_grad.native(grad_native)


@batch_norm_train.infer
def _(x, scale, offset, epsilon):
    _check(x, scale, offset)
    vectors = [Symbol(x.shape[-1:], statistics_dtype(x.dtype)) for _ in range(2)]
    return Symbol(x.shape, x.dtype), *vectors


@batch_norm_grad.infer
def _(g, g_mean, g_variance, x, scale, mean, variance, epsilon):
    return tuple(Symbol(a.shape, a.dtype) for a in (x, scale, scale))


@batch_norm_train.vjp
def _(g, x, scale, mean, variance, epsilon):
    return batch_norm_grad(*g, x, scale, mean, variance, epsilon=epsilon)


@batch_norm_train.array
def _(xp, x, scale, offset, epsilon):
    _check(x, scale, offset)
    values, axes, count = wide(x), _axes(x), _count(x)
    mean = xp.sum(values, axes) / count
    centered = values - mean
    variance = xp.sum(centered * centered, axes) / count
    factor = wide(scale) / xp.sqrt(variance + epsilon)
    return (centered * factor + wide(offset)).astype(x.dtype), mean, variance


@batch_norm_train.cpu
def _(x, scale, offset, epsilon):
    _check(x, scale, offset)
    table, times = _widened(x)
    dtype, count = statistics_dtype(x.dtype), _count(x)
    total = np.zeros(table.shape[1], dtype)
    parts = blocks(*table.shape)
    for part in parts:
        total += column_sum(wide(table[part]))
    mean = _fold(total, times) / count
    center = np.tile(mean, times)
    total[:] = 0
    for part in parts:
        t = wide(table[part]) - center
        t *= t
        total += column_sum(t)
    variance = _fold(total, times) / count
    factor = np.tile(wide(scale) / np.sqrt(variance + epsilon), times)
    offset = np.tile(wide(offset), times)
    y = np.empty_like(table)
    for part in parts:
        t = wide(table[part]) - center
        t *= factor
        t += offset
        y[part] = t
    return y.reshape(x.shape), mean.astype(dtype), variance.astype(dtype)


@batch_norm_grad.array
def _(xp, g, g_mean, g_variance, x, scale, mean, variance, epsilon):
    gy, axes, count = wide(g), _axes(x), _count(x)
    rstd = 1 / xp.sqrt(variance + epsilon)
    centered = wide(x) - mean
    doffset = xp.sum(gy, axes)
    dscale = xp.sum(gy * centered, axes) * rstd
    factor = rstd * wide(scale)
    slope = (2 * g_variance - factor * rstd * dscale) / count
    dx = gy * factor + centered * slope + (g_mean - factor * doffset) / count
    return dx.astype(x.dtype), dscale.astype(scale.dtype), doffset.astype(scale.dtype)


@batch_norm_grad.cpu
def _(g, g_mean, g_variance, x, scale, mean, variance, epsilon):
    (table, times), (grads, _) = _widened(x), _widened(g)
    count, parts = _count(x), blocks(*table.shape)
    center = np.tile(mean, times)
    doffset, dscale = np.zeros(table.shape[1], mean.dtype), np.zeros(table.shape[1], mean.dtype)
    for part in parts:
        gy, t = wide(grads[part]), wide(table[part]) - center
        t *= gy
        doffset += column_sum(gy)
        dscale += column_sum(t)
    rstd = 1 / np.sqrt(variance + epsilon)
    doffset, dscale = _fold(doffset, times), _fold(dscale, times) * rstd
    factor = rstd * wide(scale)
    slope = np.tile((2 * g_variance - factor * rstd * dscale) / count, times)
    shift = np.tile((g_mean - factor * doffset) / count, times)
    factor = np.tile(factor, times)
    dx = np.empty_like(table)
    for part in parts:
        t = wide(table[part]) - center
        t *= slope
        t += shift
        t += wide(grads[part]) * factor
        dx[part] = t
    return dx.reshape(x.shape), dscale.astype(scale.dtype), doffset.astype(scale.dtype)


@batch_norm_grad.composite
def _(g, g_mean, g_variance, x, scale, mean, variance, epsilon):
    gy, axes, count = wide_tensor(g), _axes(x), _count(x)
    rstd = rsqrt(variance + epsilon)
    centered = wide_tensor(x) - mean
    doffset = sum(gy, axes) if axes else gy
    dscale = (sum(gy * centered, axes) if axes else gy * centered) * rstd
    factor = rstd * wide_tensor(scale)
    slope = (2 * g_variance - factor * rstd * dscale) / count
    dx = gy * factor + centered * slope + (g_mean - factor * doffset) / count
    return cast_to(dx, x.dtype), cast_to(dscale, scale.dtype), cast_to(doffset, scale.dtype)


# -- training, with the ReLU that follows, and the residual connection between them ---------------

batch_norm_relu = Primitive("batch_norm_relu(x, scale, offset, *, epsilon) -> y, mean, variance")
batch_norm_relu_grad = Primitive(
    "batch_norm_relu_grad(g, g_mean, g_variance, x, scale, offset, mean, variance, *, epsilon)"
    " -> dx, dscale, doffset"
)
batch_norm_add_relu = Primitive(
    "batch_norm_add_relu(x, residual, scale, offset, *, epsilon) -> y, mean, variance"
)
batch_norm_add_relu_grad = Primitive(
    "batch_norm_add_relu_grad(g, g_mean, g_variance, x, y, scale, mean, variance, *, epsilon)"
    " -> dx, dresidual, dscale, doffset"
)
batch_norm_relu.cuda(relu_rule)
batch_norm_relu_grad.cuda(relu_grad_rule)
batch_norm_add_relu.cuda(add_relu_rule)
batch_norm_add_relu_grad.cuda(add_relu_grad_rule)
batch_norm_relu.native(relu_native)
batch_norm_relu_grad.native(relu_grad_native)
batch_norm_add_relu.native(add_relu_native)
batch_norm_add_relu_grad.native(add_relu_grad_native)


@batch_norm_relu.infer
def _(x, scale, offset, epsilon):
    return batch_norm_train.rules["infer"](x, scale, offset, epsilon)


@batch_norm_relu.composite
def _(x, scale, offset, epsilon):
    y, mean, variance = batch_norm_train(x, scale, offset, epsilon=epsilon)
    return maximum(y, 0), mean, variance


@batch_norm_relu.vjp
def _(g, x, scale, offset, mean, variance, epsilon):
    return batch_norm_relu_grad(*g, x, scale, offset, mean, variance, epsilon=epsilon)


@batch_norm_relu_grad.infer
def _(g, g_mean, g_variance, x, scale, offset, mean, variance, epsilon):
    return tuple(Symbol(a.shape, a.dtype) for a in (x, scale, scale))


@batch_norm_relu_grad.composite
def _(g, g_mean, g_variance, x, scale, offset, mean, variance, epsilon):
    factor = wide_tensor(scale) / sqrt(wide_tensor(variance) + epsilon)  # forward's bits
    before = (wide_tensor(x) - wide_tensor(mean)) * factor + wide_tensor(offset)
    g = g * cast_to(greater(before, 0), g.dtype)
    return batch_norm_grad(g, g_mean, g_variance, x, scale, mean, variance, epsilon=epsilon)


@batch_norm_add_relu.infer
def _(x, residual, scale, offset, epsilon):
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise ShapeError("x and residual must have one shape and one dtype")
    return batch_norm_train.rules["infer"](x, scale, offset, epsilon)


@batch_norm_add_relu.composite
def _(x, residual, scale, offset, epsilon):
    y, mean, variance = batch_norm_train(x, scale, offset, epsilon=epsilon)
    return maximum(y + residual, 0), mean, variance


@batch_norm_add_relu.vjp
def _(g, x, y, scale, mean, variance, epsilon):
    return batch_norm_add_relu_grad(*g, x, y, scale, mean, variance, epsilon=epsilon)


@batch_norm_add_relu_grad.infer
def _(g, g_mean, g_variance, x, y, scale, mean, variance, epsilon):
    return tuple(Symbol(a.shape, a.dtype) for a in (x, x, scale, scale))


@batch_norm_add_relu_grad.composite
def _(g, g_mean, g_variance, x, y, scale, mean, variance, epsilon):
    masked = g * cast_to(greater(y, 0), g.dtype)
    rest = batch_norm_grad(masked, g_mean, g_variance, x, scale, mean, variance, epsilon=epsilon)
    return rest[0], masked, rest[1], rest[2]


# -- inference: given statistics ------------------------------------------------------------------

batch_norm_inference = Primitive(
    "batch_norm_inference(x, mean, variance, scale, offset, *, epsilon) -> y"
)


batch_norm_inference.cuda(inference_rule)
batch_norm_inference.native(inference_native)


@batch_norm_inference.infer
def _(x, mean, variance, scale, offset, epsilon):
    _check(x, mean, variance, scale, offset)
    return Symbol(x.shape, x.dtype)


@batch_norm_inference.array
def _(xp, x, mean, variance, scale, offset, epsilon):
    _check(x, mean, variance, scale, offset)
    factor = wide(scale) / xp.sqrt(wide(variance) + epsilon)
    y = wide(x) - wide(mean)
    y *= factor
    y += wide(offset)
    return y.astype(x.dtype, copy=False)


@batch_norm_inference.vjp
def _(g, x, mean, variance, scale, needs, epsilon):
    rstd = rsqrt(wide_tensor(variance) + epsilon)
    factor = wide_tensor(scale) * rstd
    gy, axes = wide_tensor(g), _axes(x)

    def total(v):
        return sum(v, axes) if axes else v

    dx = cast_to(gy * factor, x.dtype) if needs[0] else None
    if not any(needs[1:]):
        return dx, None, None, None, None
    doffset = total(gy)
    projected = total(gy * (wide_tensor(x) - wide_tensor(mean)))
    dvariance = projected * wide_tensor(scale) * (rstd * square(rstd)) * -0.5
    return (
        dx,
        cast_to(-doffset * factor, mean.dtype),
        cast_to(dvariance, variance.dtype),
        cast_to(projected * rstd, scale.dtype),
        cast_to(doffset, scale.dtype),
    )
