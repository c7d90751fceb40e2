"""How depthwise and grouped convolutions are launched; `pool_launch` says how windows are passed.

The arrays are those of `conv` and its two gradients, which call these functions for `groups > 1`.
"""

import math
from typing import Any

import numpy as np

from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.ops.elementwise_launch import contiguous
from gpunet.ops.pool_launch import axes, channels_at_once, launch_rows
from gpunet.ops.reduce_launch import accumulate_dtype, reduction_rule
from gpunet.ops.spatial import Pads, Sizes, places

FILE = "depthwise.cu"
_BLOCK = 256
_BLOCKS = 1024  # of the gradient by the kernel: a few for each multiprocessor
_PARTIALS = 1 << 24  # elements at most of its partial sums


def grouped_forward(
    x: Any, kernel: Any, strides: Sizes, padding: Pads, dilation: Sizes, groups: int
) -> Any:
    """Grouped convolution: `(batch, *sizes, groups * c)` with `(*window, c, groups * f)`.

    Args:
        x: Float array in any layout of memory.
        kernel: Array of the same dtype; `c = 1` makes it depthwise, with `f` filters a channel.
        strides: Step between places, for each spatial axis.
        padding: Before and after each spatial axis; negative numbers cut.
        dilation: Step between taps.
        groups: How many parts the channels fall into.

    Returns:
        Array of shape `(batch, *places, groups * f)`.
    """
    x, kernel = contiguous(x), contiguous(kernel)
    window = kernel.shape[:-2]
    counts = places(tuple(x.shape[1:-1]), window, strides, padding, dilation)
    y = empty((x.shape[0], *counts, kernel.shape[-1]), x.dtype, like=x)
    geometry = axes(x.shape[1:-1], counts, window, strides, padding, dilation)
    _launch("forward", (x, kernel, y), kernel, groups, y, geometry)
    return y


def grouped_input_grad(
    g: Any,
    kernel: Any,
    sizes: Sizes,
    strides: Sizes,
    padding: Pads,
    dilation: Sizes,
    groups: int,
) -> Any:
    """Gradient of `grouped_forward` by its inputs.

    Args:
        g: Cotangent of shape `(batch, *places, groups * f)`.
        kernel: As there.
        sizes: Spatial sizes of the inputs.
        strides: As there.
        padding: As there.
        dilation: As there.
        groups: As there.

    Returns:
        Array of shape `(batch, *sizes, groups * c)`.
    """
    g, kernel = contiguous(g), contiguous(kernel)
    gx = empty((g.shape[0], *sizes, kernel.shape[-2] * groups), g.dtype, like=g)
    geometry = axes(sizes, g.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    _launch("input_grad", (g, kernel, gx), kernel, groups, gx, geometry)
    return gx


def _launch(name, arrays, kernel, groups, result, geometry):
    """Launches the kernel that is depthwise, or else the one for any groups."""
    channels, filters = kernel.shape[-2], kernel.shape[-1] // groups
    dtype = cuda_type(kernel.dtype)
    if channels == filters == 1:
        width = channels_at_once(groups, *arrays)
        rest = [np.int32(groups), *geometry]
        launch_rows(FILE, f"depthwise_{name}", (dtype, width), arrays, result.shape, width, rest)
    else:
        rest = [np.int32(groups), np.int32(channels), np.int32(filters), *geometry]
        launch_rows(FILE, f"grouped_{name}", (dtype,), arrays, result.shape, 1, rest)


def grouped_kernel_grad(
    x: Any,
    g: Any,
    window: Sizes,
    strides: Sizes,
    padding: Pads,
    dilation: Sizes,
    groups: int,
) -> Any:
    """Gradient of `grouped_forward` by its kernel: sums of blocks of rows, then their sum.

    Args:
        x: As there.
        g: Cotangent of shape `(batch, *places, groups * f)`.
        window: Spatial sizes of the kernel.
        strides: As there.
        padding: As there.
        dilation: As there.
        groups: As there.

    Returns:
        Array of shape `(*window, c, groups * f)`.
    """
    x, g = contiguous(x), contiguous(g)
    channels, filters = x.shape[-1] // groups, g.shape[-1] // groups
    shape = (*window, channels, g.shape[-1])
    elements, rows = math.prod(shape), math.prod(g.shape[:-2])
    width = channels_at_once(groups, x, g) if channels == filters == 1 else 1
    pieces = max(ceil_div(elements, width), 1)
    block = min(_BLOCK, ceil_div(pieces, 32) * 32)
    tiles = ceil_div(pieces, block)
    most = max(min(_BLOCKS * _BLOCK // (tiles * block), _PARTIALS // max(elements, 1), rows), 1)
    rows_each = max(ceil_div(rows, most), 1)
    blocks = max(ceil_div(rows, rows_each), 1)
    partial = empty((blocks, *shape), accumulate_dtype(x.dtype), like=x)
    geometry = axes(x.shape[1:-1], g.shape[1:-1], window, strides, padding, dilation)
    if width > 1:
        kernel, types, sizes = "depthwise_kernel_grad", (width,), (groups,)
    else:
        kernel, types, sizes = "grouped_kernel_grad", (), (groups, channels, filters)
    args = (x, g, partial, rows, rows_each, *[np.int32(n) for n in sizes], *geometry)
    template, grid = (cuda_type(x.dtype), *types), (tiles, blocks)
    launch(FILE, kernel, template, grid=grid, block=block, args=args)
    return reduction_rule("Sum", lambda _: x.dtype)(partial, (0,), False)
