"""Layer and RMS normalisation of rows: the last axis by its own statistics.

Statistics of halves are float32. The gradient primitives get the cotangents of all results, so
their formulas are complete; for the statistics they cost one number a row.
"""

from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError
from gpunet.ops.elementwise import cast_to
from gpunet.ops.norm_launch import (
    layer_norm_grad_rule,
    layer_norm_rule,
    residual_layer_norm_grad_rule,
    residual_layer_norm_rule,
    residual_rms_norm_grad_rule,
    residual_rms_norm_rule,
    rms_norm_grad_rule,
    rms_norm_rule,
)
from gpunet.ops.norm_native import norm_grad_native, norm_native
from gpunet.ops.precision import is_half, statistics_dtype
from gpunet.ops.reduce import sum
from gpunet.ops.rows import as_rows, column_sum, row_dot, row_sum
from gpunet.ops.shape import expand_dims

__all__: list[str] = []

_BLOCK = 1 << 15  # elements at once: temporaries stay in the cache
_RESIDUAL = ((0, 0), (0, 1), (1, 0), (1, 1))  # y or total may be x or the residual


def wide(x: Any) -> Any:
    """Returns an array of halves in float32, any other as it is."""
    return x.astype(np.float32) if is_half(x.dtype) else x


def wide_tensor(x: Tensor) -> Tensor:
    """The same for a tensor."""
    return cast_to(x, statistics_dtype(x.dtype))


def blocks(rows: int, columns: int) -> list[slice]:
    """Cuts a table into slices of rows, each small enough for the cache."""
    step = max(1, _BLOCK // max(1, columns))
    return [slice(i, i + step) for i in range(0, rows, step)]


def _check(x, *vectors):
    for v in vectors:
        if v.shape != x.shape[-1:]:
            raise ShapeError(f"scale and offset must have shape {x.shape[-1:]}")


# -- layer normalisation --------------------------------------------------------------------------

layer_norm = Primitive("layer_norm(x, scale, offset, *, epsilon) -> y, mean, rstd")
layer_norm_grad = Primitive(
    "layer_norm_grad(g, g_mean, g_rstd, x, scale, mean, rstd) -> dx, dscale, doffset"
)


layer_norm.cuda(layer_norm_rule)
layer_norm_grad.cuda(layer_norm_grad_rule)
layer_norm.native(norm_native("layer_norm", ((0, 0),)))
layer_norm_grad.native(norm_grad_native("layer_norm_grad", ((0, 0), (0, 3))))


@layer_norm.infer
def _(x, scale, offset, epsilon):
    _check(x, scale, offset)
    rows = [Symbol(x.shape[:-1], statistics_dtype(x.dtype)) for _ in range(2)]
    return Symbol(x.shape, x.dtype), *rows


@layer_norm_grad.infer
def _(g, g_mean, g_rstd, x, scale, mean, rstd):
    return Symbol(x.shape, x.dtype), Symbol(scale.shape, scale.dtype), Symbol(scale.shape, x.dtype)


@layer_norm.vjp
def _(g, x, scale, mean, rstd, epsilon):
    return layer_norm_grad(*g, x, scale, mean, rstd)


@layer_norm.array
def _(xp, x, scale, offset, epsilon):
    _check(x, scale, offset)
    values = wide(x)
    mean = xp.mean(values, -1, keepdims=True)
    centered = values - mean
    rstd = 1 / xp.sqrt(xp.mean(centered * centered, -1, keepdims=True) + epsilon)
    y = centered * rstd * wide(scale) + wide(offset)
    return y.astype(x.dtype), mean[..., 0], rstd[..., 0]


@layer_norm.cpu
def _(x, scale, offset, epsilon):
    _check(x, scale, offset)
    columns, dtype = x.shape[-1], statistics_dtype(x.dtype)
    rows, scale, offset = as_rows(x, columns), wide(scale), wide(offset)
    y = np.empty_like(rows)
    mean, rstd = np.empty(len(rows), dtype), np.empty(len(rows), dtype)
    for part in blocks(*rows.shape):
        t = wide(rows[part])
        m = row_sum(t)
        m /= max(columns, 1)
        t = t - m[:, None]
        r = row_dot(t, t)
        r /= max(columns, 1)
        r += epsilon
        r = 1 / np.sqrt(r, out=r)
        t *= r[:, None]
        t *= scale
        t += offset
        y[part], mean[part], rstd[part] = t, m, r
    lead = x.shape[:-1]
    return y.reshape(x.shape), mean.reshape(lead), rstd.reshape(lead)


@layer_norm_grad.array
def _(xp, g, g_mean, g_rstd, x, scale, mean, rstd):
    n, factor = max(x.shape[-1], 1), wide(scale)
    gy = wide(g)
    mean, rstd, g_mean, g_rstd = (xp.asarray(v)[..., None] for v in (mean, rstd, g_mean, g_rstd))
    hat = (wide(x) - mean) * rstd
    d = gy * factor
    first = xp.sum(d, -1, keepdims=True) / n - g_mean / (n * rstd)
    second = xp.sum(d * hat, -1, keepdims=True) / n + g_rstd * rstd / n
    dx = rstd * (d - first - hat * second)
    lead = tuple(range(x.ndim - 1))
    dscale = xp.sum(gy * hat, lead).astype(scale.dtype)
    return dx.astype(x.dtype), dscale, xp.sum(gy, lead).astype(x.dtype)


@layer_norm_grad.cpu
def _(g, g_mean, g_rstd, x, scale, mean, rstd):
    n, factor = max(x.shape[-1], 1), wide(scale)
    rows, grads = as_rows(x, x.shape[-1]), as_rows(g, x.shape[-1])
    mean, rstd, g_mean, g_rstd = (np.reshape(v, -1) for v in (mean, rstd, g_mean, g_rstd))
    dx, dscale, doffset = np.empty_like(rows), np.zeros_like(factor), np.zeros_like(factor)
    for part in blocks(*rows.shape):
        gy, r = wide(grads[part]), rstd[part]
        hat = wide(rows[part]) - mean[part, None]
        hat *= r[:, None]
        t = gy * hat
        first = gy @ factor
        first -= g_mean[part] / r
        second = t @ factor
        second += g_rstd[part] * r
        dscale += column_sum(t)
        doffset += column_sum(gy)
        hat *= (second / n)[:, None]
        np.multiply(gy, factor, out=t)
        t -= hat
        t -= (first / n)[:, None]
        t *= r[:, None]
        dx[part] = t
    return dx.reshape(x.shape), dscale.astype(scale.dtype), doffset.astype(x.dtype)


@layer_norm_grad.composite
def _(g, g_mean, g_rstd, x, scale, mean, rstd):
    n, factor = max(x.shape[-1], 1), wide_tensor(scale)
    gy = wide_tensor(g)
    mean, rstd, g_mean, g_rstd = (expand_dims(v, -1) for v in (mean, rstd, g_mean, g_rstd))
    hat = (wide_tensor(x) - mean) * rstd
    d = gy * factor
    first = sum(d, -1, keepdims=True) / n - g_mean / (n * rstd)
    second = sum(d * hat, -1, keepdims=True) / n + g_rstd * rstd / n
    dx = rstd * (d - first - hat * second)
    lead = tuple(range(x.ndim - 1))
    dscale, doffset = _total(gy * hat, lead), _total(gy, lead)
    return cast_to(dx, x.dtype), cast_to(dscale, scale.dtype), cast_to(doffset, x.dtype)


def _total(x, axes):
    return sum(x, axes) if axes else x


# -- RMS normalisation ----------------------------------------------------------------------------

rms_norm = Primitive("rms_norm(x, scale, *, epsilon) -> y, rstd")
rms_norm_grad = Primitive("rms_norm_grad(g, g_rstd, x, scale, rstd) -> dx, dscale")
rms_norm.cuda(rms_norm_rule)
rms_norm_grad.cuda(rms_norm_grad_rule)
rms_norm.native(norm_native("rms_norm", ((0, 0),)))
rms_norm_grad.native(norm_grad_native("rms_norm_grad", ((0, 0), (0, 2))))


@rms_norm.infer
def _(x, scale, epsilon):
    _check(x, scale)
    return Symbol(x.shape, x.dtype), Symbol(x.shape[:-1], statistics_dtype(x.dtype))


@rms_norm_grad.infer
def _(g, g_rstd, x, scale, rstd):
    return Symbol(x.shape, x.dtype), Symbol(scale.shape, scale.dtype)


@rms_norm.vjp
def _(g, x, scale, rstd, epsilon):
    return rms_norm_grad(*g, x, scale, rstd)


@rms_norm.array
def _(xp, x, scale, epsilon):
    _check(x, scale)
    values = wide(x)
    rstd = 1 / xp.sqrt(xp.mean(values * values, -1, keepdims=True) + epsilon)
    return (values * rstd * wide(scale)).astype(x.dtype), rstd[..., 0]


@rms_norm.cpu
def _(x, scale, epsilon):
    _check(x, scale)
    columns, factor = x.shape[-1], wide(scale)
    rows = as_rows(x, columns)
    y, rstd = np.empty_like(rows), np.empty(len(rows), statistics_dtype(x.dtype))
    for part in blocks(*rows.shape):
        t = wide(rows[part])
        r = row_dot(t, t)
        r /= max(columns, 1)
        r += epsilon
        r = 1 / np.sqrt(r, out=r)
        t = t * r[:, None]
        t *= factor
        y[part], rstd[part] = t, r
    return y.reshape(x.shape), rstd.reshape(x.shape[:-1])


@rms_norm_grad.array
def _(xp, g, g_rstd, x, scale, rstd):
    n, gy = max(x.shape[-1], 1), wide(g)
    rstd, g_rstd = xp.asarray(rstd)[..., None], xp.asarray(g_rstd)[..., None]
    hat = wide(x) * rstd
    d = gy * wide(scale)
    second = xp.sum(d * hat, -1, keepdims=True) / n + g_rstd * rstd / n
    dx = rstd * (d - hat * second)
    dscale = xp.sum(gy * hat, tuple(range(x.ndim - 1)))
    return dx.astype(x.dtype), dscale.astype(scale.dtype)


@rms_norm_grad.composite
def _(g, g_rstd, x, scale, rstd):
    n, gy = max(x.shape[-1], 1), wide_tensor(g)
    rstd, g_rstd = expand_dims(rstd, -1), expand_dims(g_rstd, -1)
    hat = wide_tensor(x) * rstd
    d = gy * wide_tensor(scale)
    second = sum(d * hat, -1, keepdims=True) / n + g_rstd * rstd / n
    dx = rstd * (d - hat * second)
    dscale = _total(gy * hat, tuple(range(x.ndim - 1)))
    return cast_to(dx, x.dtype), cast_to(dscale, scale.dtype)


# -- with the residual connection before it: total = x + residual is what is normalised ------------

# Before `total` is rounded: of halves, y has the digits that the sum in float32 has.

residual_layer_norm = Primitive(
    "residual_layer_norm(x, residual, scale, offset, *, epsilon) -> y, total, mean, rstd"
)
residual_layer_norm_grad = Primitive(
    "residual_layer_norm_grad(g, g_total, g_mean, g_rstd, total, scale, mean, rstd)"
    " -> dx, dscale, doffset"
)
residual_rms_norm = Primitive("residual_rms_norm(x, residual, scale, *, epsilon) -> y, total, rstd")
residual_rms_norm_grad = Primitive(
    "residual_rms_norm_grad(g, g_total, g_rstd, total, scale, rstd) -> dx, dscale"
)
residual_layer_norm.cuda(residual_layer_norm_rule)
residual_layer_norm_grad.cuda(residual_layer_norm_grad_rule)
residual_rms_norm.cuda(residual_rms_norm_rule)
residual_rms_norm_grad.cuda(residual_rms_norm_grad_rule)
residual_layer_norm.native(norm_native("residual_layer_norm", _RESIDUAL))
residual_layer_norm_grad.native(
    norm_grad_native("residual_layer_norm_grad", ((0, 0), (0, 1), (0, 4)))
)
residual_rms_norm.native(norm_native("residual_rms_norm", _RESIDUAL))
residual_rms_norm_grad.native(norm_grad_native("residual_rms_norm_grad", ((0, 0), (0, 1), (0, 3))))


def _check_residual(x, residual):
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise ShapeError("x and residual must have one shape and one dtype")


@residual_layer_norm.composite
def _(x, residual, scale, offset, epsilon):
    _check_residual(x, residual)
    total = wide_tensor(x) + wide_tensor(residual)
    vectors = wide_tensor(scale), wide_tensor(offset)
    y, mean, rstd = layer_norm(total, *vectors, epsilon=epsilon)
    return cast_to(y, x.dtype), cast_to(total, x.dtype), mean, rstd


@residual_layer_norm.infer
def _(x, residual, scale, offset, epsilon):
    _check_residual(x, residual)
    _check(x, scale, offset)
    rows = [Symbol(x.shape[:-1], statistics_dtype(x.dtype)) for _ in range(2)]
    return Symbol(x.shape, x.dtype), Symbol(x.shape, x.dtype), *rows


@residual_layer_norm.vjp
def _(g, total, scale, mean, rstd, epsilon):
    dx, dscale, doffset = residual_layer_norm_grad(*g, total, scale, mean, rstd)
    return dx, dx, dscale, doffset


@residual_layer_norm_grad.infer
def _(g, g_total, g_mean, g_rstd, total, scale, mean, rstd):
    vectors = Symbol(scale.shape, scale.dtype), Symbol(scale.shape, total.dtype)
    return Symbol(total.shape, total.dtype), *vectors


@residual_layer_norm_grad.composite
def _(g, g_total, g_mean, g_rstd, total, scale, mean, rstd):
    dx, dscale, doffset = layer_norm_grad(g, g_mean, g_rstd, total, scale, mean, rstd)
    return dx + g_total, dscale, doffset


@residual_rms_norm.composite
def _(x, residual, scale, epsilon):
    _check_residual(x, residual)
    total = wide_tensor(x) + wide_tensor(residual)
    y, rstd = rms_norm(total, wide_tensor(scale), epsilon=epsilon)
    return cast_to(y, x.dtype), cast_to(total, x.dtype), rstd


@residual_rms_norm.infer
def _(x, residual, scale, epsilon):
    _check_residual(x, residual)
    _check(x, scale)
    rstd = Symbol(x.shape[:-1], statistics_dtype(x.dtype))
    return Symbol(x.shape, x.dtype), Symbol(x.shape, x.dtype), rstd


@residual_rms_norm.vjp
def _(g, total, scale, rstd, epsilon):
    dx, dscale = residual_rms_norm_grad(*g, total, scale, rstd)
    return dx, dx, dscale


@residual_rms_norm_grad.infer
def _(g, g_total, g_rstd, total, scale, rstd):
    return Symbol(total.shape, total.dtype), Symbol(scale.shape, scale.dtype)


@residual_rms_norm_grad.composite
def _(g, g_total, g_rstd, total, scale, rstd):
    dx, dscale = rms_norm_grad(g, g_rstd, total, scale, rstd)
    return dx + g_total, dscale
