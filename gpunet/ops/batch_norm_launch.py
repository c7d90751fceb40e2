"""How the batch norm kernels are launched: three passes forward, five backward."""

import math
from typing import Any

from gpunet.backend.kernels import cuda_type, empty_like, launch
from gpunet.ops.channel_launch import FILE, Channels, channel_apply, channel_statistics, vectors
from gpunet.ops.column_plan import column_plan
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for
from gpunet.ops.row_plan import statistics


def train_rule(x: Any, scale: Any, offset: Any, *, epsilon: float) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `batch_norm_train`."""
    return _forward(x, None, scale, offset, epsilon, relu=False)


def relu_rule(x: Any, scale: Any, offset: Any, *, epsilon: float) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `batch_norm_relu`."""
    return _forward(x, None, scale, offset, epsilon, relu=True)


def add_relu_rule(
    x: Any, residual: Any, scale: Any, offset: Any, *, epsilon: float
) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `batch_norm_add_relu`."""
    return _forward(x, contiguous(residual), scale, offset, epsilon, relu=True)


def _forward(x, residual, scale, offset, epsilon, relu):
    x, scale, offset = contiguous(x), statistics(scale, x), statistics(offset, x)
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    table = Channels.of(1, rows, x, residual, empty_like(x))
    partial = channel_statistics(x, table)
    mean, variance, factor = vectors(x, 3, columns)
    sizes = (table.plan.parts, rows, columns, float(epsilon))
    _combine("batch_norm_combine", (*partial, scale, mean, variance, factor, *sizes), table)
    y = channel_apply(x, residual, mean, factor, offset, table, relu)
    return y, mean, variance


def _combine(kernel, args, table):
    """Launches a kernel that combines the parts of each channel."""
    plan = column_plan(table.plan.parts, table.columns, 1)
    types = (cuda_type(args[0].dtype),)
    launch(FILE, kernel, types, grid=plan.slabs, block=plan.block, args=args)


def inference_rule(
    x: Any, mean: Any, variance: Any, scale: Any, offset: Any, *, epsilon: float
) -> Any:
    """The `cuda` rule of `batch_norm_inference`."""
    x = contiguous(x)
    mean, variance, scale, offset = (statistics(v, x) for v in (mean, variance, scale, offset))
    table = Channels.of(1, math.prod(x.shape[:-1]), x, empty_like(x))
    factor = _factor(variance, scale, epsilon)
    return channel_apply(x, None, mean, factor, offset, table, relu=False)


def _factor(variance, scale, epsilon):
    factor = empty_like(scale)
    args, grid = (variance, scale, factor, scale.size, float(epsilon)), grid_for(scale.size)
    types = (cuda_type(scale.dtype), BLOCK)
    launch(FILE, "batch_norm_factor", types, grid=grid, block=BLOCK, args=args)
    return factor


def grad_rule(g, g_mean, g_variance, x, scale, mean, variance, *, epsilon):
    """The `cuda` rule of `batch_norm_grad`."""
    given = (g, g_mean, g_variance, x, None, scale, scale, mean, variance)
    dx, _, dscale, doffset = _backward(*given, epsilon, relu=False)
    return dx, dscale, doffset


def relu_grad_rule(g, g_mean, g_variance, x, scale, offset, mean, variance, *, epsilon):
    """The `cuda` rule of `batch_norm_relu_grad`."""
    given = (g, g_mean, g_variance, x, None, scale, offset, mean, variance)
    dx, _, dscale, doffset = _backward(*given, epsilon, relu=True)
    return dx, dscale, doffset


def add_relu_grad_rule(g, g_mean, g_variance, x, y, scale, mean, variance, *, epsilon):
    """The `cuda` rule of `batch_norm_add_relu_grad`."""
    given = (g, g_mean, g_variance, x, contiguous(y), scale, scale, mean, variance)
    return _backward(*given, epsilon, relu=False)


def _backward(g, g_mean, g_variance, x, y, scale, offset, mean, variance, epsilon, relu):
    """Returns (dx, masked g, dscale, doffset); g is masked where `y`, if given, is 0."""
    g, x, dtype = contiguous(g), contiguous(x), scale.dtype
    numbers = (g_mean, g_variance, scale, offset, mean, variance)
    g_mean, g_variance, scale, offset, mean, variance = (statistics(v, x) for v in numbers)
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    dx, masked = empty_like(x), None if y is None else empty_like(x)
    table = Channels.of(1, rows, g, x, y, dx)
    factor, partial = _factor(variance, scale, epsilon), table.partials(x)
    args = (g, x, y, mean, factor, offset, masked, *partial, *table.sizes, relu)
    table.run("channel_backward_sums", x, args)
    results = vectors(x, 4, columns)
    sizes = (table.plan.parts, rows, columns, float(epsilon))
    args = (*partial, g_mean, g_variance, factor, variance, *results, *sizes)
    _combine("batch_norm_backward_combine", args, table)
    dscale, doffset, slope, shift = results
    source = g if masked is None else masked
    args = (source, x, mean, factor, offset, slope, shift, dx, *table.sizes, relu)
    table.run("channel_backward_apply", x, args)
    return dx, masked, dscale.astype(dtype, copy=False), doffset.astype(dtype, copy=False)
