"""How the kernels of layer and RMS normalisation are launched."""

from typing import Any

import numpy as np

from gpunet.backend.kernels import ceil_div, cuda_type, empty, empty_like, launch
from gpunet.ops.column_plan import column_plan
from gpunet.ops.elementwise_launch import contiguous
from gpunet.ops.reduce_launch import accumulate_dtype, reduction_rule
from gpunet.ops.row_plan import row_plan, statistics, table

_FILE = "norm.cu"
_MAX_PARTIALS = 396  # blocks that add up rows: three for each multiprocessor of an H200


def layer_norm_rule(x: Any, scale: Any, offset: Any, *, epsilon: float) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `layer_norm`."""
    y, _, mean, rstd = _forward(x, None, scale, offset, epsilon)
    return y, mean, rstd


def residual_layer_norm_rule(
    x: Any, residual: Any, scale: Any, offset: Any, *, epsilon: float
) -> tuple[Any, Any, Any, Any]:
    """The `cuda` rule of `residual_layer_norm`."""
    return _forward(x, residual, scale, offset, epsilon)


def rms_norm_rule(x: Any, scale: Any, *, epsilon: float) -> tuple[Any, Any]:
    """The `cuda` rule of `rms_norm`."""
    y, _, _, rstd = _forward(x, None, scale, None, epsilon)
    return y, rstd


def residual_rms_norm_rule(
    x: Any, residual: Any, scale: Any, *, epsilon: float
) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `residual_rms_norm`."""
    y, total, _, rstd = _forward(x, residual, scale, None, epsilon)
    return y, total, rstd


def _given(*arrays):
    return tuple(a for a in arrays if a is not None)


def _optional(*arrays):
    return [None if a is None else contiguous(a) for a in arrays]


def _forward(x, residual, scale, offset, epsilon):
    x, scale, (residual, offset) = contiguous(x), contiguous(scale), _optional(residual, offset)
    rows, columns = table(x)
    sums = accumulate_dtype(x.dtype)
    y, total = empty_like(x), None if residual is None else empty_like(x)
    mean = None if offset is None else empty(x.shape[:-1], sums, like=x)
    rstd = empty(x.shape[:-1], sums, like=x)
    plan = row_plan(columns, _given(x, residual, scale, offset, y, total))
    kernel, types = ("norm_forward", plan.types) if plan.values else _wide("norm_forward", plan)
    types = (cuda_type(x.dtype), *types)
    args = (x, residual, scale, offset, y, total, mean, rstd, rows, columns, float(epsilon))
    launch(_FILE, kernel, types, grid=plan.grid(rows), block=plan.block, args=args)
    return y, total, mean, rstd


def _wide(kernel, plan):
    return kernel + "_wide", (plan.block,)


def layer_norm_grad_rule(g, g_mean, g_rstd, x, scale, mean, rstd) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `layer_norm_grad`."""
    return _backward(g, None, g_mean, g_rstd, x, scale, mean, rstd)


def residual_layer_norm_grad_rule(g, g_total, g_mean, g_rstd, total, scale, mean, rstd):
    """The `cuda` rule of `residual_layer_norm_grad`."""
    return _backward(g, g_total, g_mean, g_rstd, total, scale, mean, rstd)


def rms_norm_grad_rule(g, g_rstd, x, scale, rstd) -> tuple[Any, Any]:
    """The `cuda` rule of `rms_norm_grad`."""
    return _backward(g, None, None, g_rstd, x, scale, None, rstd)[:2]


def residual_rms_norm_grad_rule(g, g_total, g_rstd, total, scale, rstd) -> tuple[Any, Any]:
    """The `cuda` rule of `residual_rms_norm_grad`."""
    return _backward(g, g_total, None, g_rstd, total, scale, None, rstd)[:2]


def _backward(g, g_total, g_mean, g_rstd, x, scale, mean, rstd):
    """Returns (dx, dscale, doffset); without `mean` it is that of the RMS norm, and no doffset."""
    g, x, scale, (g_total,) = contiguous(g), contiguous(x), contiguous(scale), _optional(g_total)
    g_mean, g_rstd, mean, rstd = (
        None if v is None else statistics(v, x) for v in (g_mean, g_rstd, mean, rstd)
    )
    rows, columns = table(x)
    center, dx = mean is not None, empty_like(x)
    plan = row_plan(columns, _given(x, g, g_total, scale, dx), widest=0)
    args = (g, g_total, g_mean, g_rstd, x, scale, mean, rstd, dx)
    types = (cuda_type(x.dtype),)
    if plan.values:
        parts = max(1, min(ceil_div(rows, plan.block // plan.width), _MAX_PARTIALS))
        sums = _partials(x, parts, center)
        full, args = (*types, *plan.types), (*args, *sums, rows, columns)
        launch(_FILE, "norm_backward", full, grid=parts, block=plan.block, args=args)
    else:
        kernel, block = _wide("norm_backward", plan)
        args = (*args, rows, columns)
        launch(_FILE, kernel, (*types, *block), grid=plan.grid(rows), block=plan.block, args=args)
        columns_plan = column_plan(rows, columns, 1)
        sums = _partials(x, columns_plan.parts, center)
        args = (g, x, mean, rstd, *sums, rows, columns)
        grid, block = columns_plan.grid, columns_plan.block
        launch(_FILE, "norm_backward_columns", types, grid=grid, block=block, args=args)
    dscale = _total(sums[0], scale.dtype)
    return dx, dscale, _total(sums[1], x.dtype) if center else None


def _partials(x, parts, center):
    shape, dtype = (parts, x.shape[-1]), accumulate_dtype(x.dtype)
    return empty(shape, dtype, like=x), empty(shape, dtype, like=x) if center else None


def _total(partial: Any, dtype: np.dtype) -> Any:
    return reduction_rule("Sum", lambda _: dtype)(partial, (0,), False)
