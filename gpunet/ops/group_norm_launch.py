"""How the group norm kernels are launched, with the passes over channels of batch norm."""

import math
from typing import Any

from gpunet.backend.kernels import cuda_type, empty_like, launch
from gpunet.ops.channel_launch import Channels, channel_apply, channel_statistics, vectors
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for
from gpunet.ops.reduce_launch import reduction_rule
from gpunet.ops.row_plan import MAX_GRID, statistics

_FILE = "group_norm.cu"


def group_norm_rule(
    x: Any, scale: Any, offset: Any, *, groups: int, epsilon: float
) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `group_norm`."""
    x, scale, offset = contiguous(x), statistics(scale, x), statistics(offset, x)
    table = Channels.of(len(x), math.prod(x.shape[1:-1]), x, empty_like(x))
    partial = channel_statistics(x, table)
    mean, rstd = vectors(x, 2, len(x), groups)
    sizes = (table.samples, groups, table.plan.parts, table.rows, table.columns, float(epsilon))
    _for_groups("group_norm_combine", (*partial, mean, rstd, *sizes), table, groups)
    center, factor = _expand(mean, rstd, scale, groups, table)
    y = channel_apply(x, None, center, factor, offset, table, relu=False)
    return y, mean, rstd


def _for_groups(kernel, args, table, groups):
    types, grid = (cuda_type(args[0].dtype), BLOCK), min(table.samples * groups, MAX_GRID)
    launch(_FILE, kernel, types, grid=grid, block=BLOCK, args=args)


def _expand(mean, rstd, scale, groups, table):
    """Returns center and factor of each channel of each sample."""
    center, factor = vectors(mean, 2, table.samples, table.columns)
    args = (mean, rstd, scale, center, factor, table.samples, groups, table.columns)
    types, grid = (cuda_type(mean.dtype), BLOCK), grid_for(center.size)
    launch(_FILE, "group_norm_expand", types, grid=grid, block=BLOCK, args=args)
    return center, factor


def group_norm_grad_rule(g, g_mean, g_rstd, x, scale, mean, rstd, *, groups):
    """The `cuda` rule of `group_norm_grad`."""
    g, x, dtype = contiguous(g), contiguous(x), scale.dtype
    numbers = (g_mean, g_rstd, scale, mean, rstd)
    g_mean, g_rstd, scale, mean, rstd = (statistics(v, x) for v in numbers)
    dx = empty_like(x)
    table = Channels.of(len(x), math.prod(x.shape[1:-1]), g, x, dx)
    center, factor = _expand(mean, rstd, scale, groups, table)
    partial = table.partials(x)
    args = (g, x, None, center, factor, scale, None, *partial, *table.sizes, False)
    table.run("channel_backward_sums", x, args)
    results = vectors(x, 4, table.samples, table.columns)
    sizes = (table.samples, groups, table.plan.parts, table.rows, table.columns)
    args = (*partial, scale, rstd, g_mean, g_rstd, *results, *sizes)
    _for_groups("group_norm_backward_combine", args, table, groups)
    sample_scale, sample_offset, slope, shift = results
    args = (g, x, center, factor, scale, slope, shift, dx, *table.sizes, False)
    table.run("channel_backward_apply", x, args)
    total = reduction_rule("Sum", lambda _: dtype)
    return dx, total(sample_scale, (0,), False), total(sample_offset, (0,), False)
