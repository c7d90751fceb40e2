"""Group normalisation: each group of channels of a sample by its own statistics.

Source: Wu, He, "Group Normalization", 2018. Instance norm has one channel a group.
"""

import math

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError
from gpunet.ops.elementwise import cast_to
from gpunet.ops.group_norm_launch import group_norm_grad_rule, group_norm_rule
from gpunet.ops.group_norm_native import group_norm_grad_native, group_norm_native
from gpunet.ops.norm import layer_norm, wide, wide_tensor
from gpunet.ops.precision import statistics_dtype
from gpunet.ops.reduce import sum
from gpunet.ops.shape import moveaxis, reshape

__all__: list[str] = []


def constant_vector(value: float, length: int, like: Tensor) -> Tensor:
    """Returns a vector of one value on the device and in the dtype of a tensor."""
    with like.device.activate():
        return Tensor(like.device.xp.full(length, value, like.dtype), like.device)


group_norm = Primitive("group_norm(x, scale, offset, *, groups, epsilon) -> y, mean, rstd")
group_norm_grad = Primitive(
    "group_norm_grad(g, g_mean, g_rstd, x, scale, mean, rstd, *, groups) -> dx, dscale, doffset"
)
group_norm.cuda(group_norm_rule)
group_norm_grad.cuda(group_norm_grad_rule)
group_norm.native(group_norm_native)
group_norm_grad.native(group_norm_grad_native)


@group_norm.infer
def _(x, scale, offset, groups, epsilon):
    if x.ndim < 2 or any(v.shape != x.shape[-1:] for v in (scale, offset)):
        raise ShapeError("one number for each channel, on the last axis")
    statistics = [Symbol((x.shape[0], groups), statistics_dtype(x.dtype)) for _ in range(2)]
    return Symbol(x.shape, x.dtype), *statistics


@group_norm.composite
def _(x, scale, offset, groups, epsilon):
    moved = moveaxis(x, -1, 1)
    rows = reshape(moved, (x.shape[0], groups, math.prod(moved.shape[1:]) // groups))
    one, zero = constant_vector(1.0, rows.shape[-1], x), constant_vector(0.0, rows.shape[-1], x)
    y, mean, rstd = layer_norm(rows, one, zero, epsilon=epsilon)
    y = moveaxis(reshape(y, moved.shape), 1, -1)
    return y * scale + offset, mean, rstd


@group_norm.vjp
def _(g, x, scale, mean, rstd, groups, epsilon):
    return group_norm_grad(*g, x, scale, mean, rstd, groups=groups)


@group_norm_grad.infer
def _(g, g_mean, g_rstd, x, scale, mean, rstd, groups):
    return tuple(Symbol(a.shape, a.dtype) for a in (x, scale, scale))


def _grouped(shape, groups):
    """(samples, rows, groups, channels of a group), and how many numbers are in a group."""
    rows, size = math.prod(shape[1:-1]), shape[-1] // groups
    return (shape[0], rows, groups, size), max(rows * size, 1)


@group_norm_grad.composite
def _(g, g_mean, g_rstd, x, scale, mean, rstd, groups):
    shape, n = _grouped(x.shape, groups)
    gy, values = (reshape(wide_tensor(v), shape) for v in (g, x))
    statistics = (mean.shape[0], 1, groups, 1)
    mean, rstd, g_mean, g_rstd = (
        reshape(wide_tensor(v), statistics) for v in (mean, rstd, g_mean, g_rstd)
    )
    hat = (values - mean) * rstd
    d = gy * reshape(wide_tensor(scale), shape[2:])
    first = sum(d, (1, 3), keepdims=True) / n - g_mean / (n * rstd)
    second = sum(d * hat, (1, 3), keepdims=True) / n + g_rstd * rstd / n
    dx = reshape(rstd * (d - first - hat * second), x.shape)
    dscale, doffset = (reshape(sum(v, (0, 1)), scale.shape) for v in (gy * hat, gy))
    return cast_to(dx, x.dtype), cast_to(dscale, scale.dtype), cast_to(doffset, scale.dtype)


@group_norm_grad.array
def _(xp, g, g_mean, g_rstd, x, scale, mean, rstd, groups):
    """Sums of each channel of each sample first: what follows are small tables."""
    shape, n = _grouped(x.shape, groups)
    samples, rows, _, size = shape
    channels = (samples, rows, groups * size)
    g_mean, g_rstd, mean, rstd = (wide(xp.asarray(v)) for v in (g_mean, g_rstd, mean, rstd))
    factor = wide(scale)
    gy, center = wide(g).reshape(channels), xp.repeat(mean, size, 1)
    centered = wide(x).reshape(channels) - center[:, None]
    ones = xp.ones(rows, gy.dtype)
    sums, products = xp.matmul(ones, gy), xp.matmul(ones, centered * gy)
    products *= xp.repeat(rstd, size, 1)
    small = (samples, groups, size)
    first = (factor * sums).reshape(small).sum(2) / n - g_mean / (n * rstd)
    second = (factor * products).reshape(small).sum(2) / n + g_rstd * rstd / n
    centered *= xp.repeat(-second * rstd * rstd, size, 1)[:, None]
    centered += xp.repeat(-first * rstd, size, 1)[:, None]
    centered += gy * (xp.repeat(rstd, size, 1) * factor)[:, None]
    dscale, doffset = products.sum(0), sums.sum(0)
    dtype = np.dtype(scale.dtype)
    dx = centered.reshape(x.shape).astype(x.dtype, copy=False)
    return dx, dscale.astype(dtype, copy=False), doffset.astype(dtype, copy=False)
