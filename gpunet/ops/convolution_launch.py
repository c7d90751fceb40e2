"""How the kernels of convolutions are launched: implicit GEMM in `conv.cu`, channels last.

Where these kernels are not what is wanted, a rule hands over to another one: to the product of
matrices for a window of one element, to the direct kernels for groups, and to the array rule
(im2col, which is their oracle too) for float64 and for empty arrays.

float32 is exact; with `set_float32_matmul_precision("high")` it is rounded to TF32, which tensor
cores take, where channels and filters are multiples of 4.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet import config
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.ops.depthwise_launch import grouped_forward, grouped_input_grad, grouped_kernel_grad
from gpunet.ops.elementwise_launch import contiguous, vector_width
from gpunet.ops.pool_launch import array_code, axes
from gpunet.ops.precision import is_half
from gpunet.ops.products import matmul_primitive
from gpunet.ops.reduce_launch import reduction_rule
from gpunet.ops.spatial import Sizes, places

_STAGES = 3  # kStages in conv.cuh
_STEP = 64  # kStep in conv.cuh, in bytes
_FILL = 128  # blocks that keep a large GPU busy
_MIN_STEPS = 8  # of a slice of the gradient by the kernel: fewer would not pay for the extra pass
_MAX_SLICES = 64
_MAX_PIXELS = 2**30  # that the kernels number in 32 bits, with what padding adds before them


def forward_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `conv`.

    Args:
        array: Its array rule, for dtypes that the kernels do not take.
    """

    def rule(x, kernel, strides, padding, dilation, groups):
        settings = strides, padding, dilation
        if not _kernels_take(x, kernel):
            return array_code(array, x, kernel, **_named(*settings, groups))
        if groups > 1:
            return grouped_forward(x, kernel, *settings, groups)
        window, filters = kernel.shape[:-2], kernel.shape[-1]
        if _is_pointwise(window, strides, padding):
            return _product(_matrix(x), _matrix(kernel)).reshape(*x.shape[:-1], filters)
        x, kernel = contiguous(x), contiguous(kernel)
        counts = places(x.shape[1:-1], window, *settings)
        y = empty((x.shape[0], *counts, filters), x.dtype, like=x)
        geometry = axes(x.shape[1:-1], counts, window, *settings)
        _gather(x, kernel, y, geometry, rows=y.size // filters)
        return y

    return rule


def input_grad_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `conv_input_grad`; argument as for `forward_rule`."""

    def rule(g, kernel, sizes, strides, padding, dilation, groups):
        settings = strides, padding, dilation
        if not _kernels_take(g, kernel) or 0 in sizes:
            return array_code(array, g, kernel, sizes=sizes, **_named(*settings, groups))
        if groups > 1:
            return grouped_input_grad(g, kernel, sizes, *settings, groups)
        window, channels = kernel.shape[:-2], kernel.shape[-2]
        if _is_pointwise(window, strides, padding):
            gx = _product(_matrix(g), _matrix(kernel), transpose2=True)
            return gx.reshape(*g.shape[:-1], channels)
        g, kernel = contiguous(g), contiguous(kernel)
        gx = empty((g.shape[0], *sizes, channels), g.dtype, like=g)
        geometry = axes(sizes, g.shape[1:-1], window, *settings)
        each = [ceil_div(n, s) for n, s in zip(sizes, strides, strict=True)]  # in a phase
        rows, phases = g.shape[0] * math.prod(each), math.prod(strides)
        _gather(g, kernel, gx, geometry, rows=rows, phases=phases, input_grad=True)
        return gx

    return rule


def kernel_grad_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `conv_kernel_grad`; argument as for `forward_rule`."""

    def rule(x, g, window, strides, padding, dilation, groups):
        settings = strides, padding, dilation
        if not _kernels_take(x, g):
            return array_code(array, x, g, window=window, **_named(*settings, groups))
        if groups > 1:
            return grouped_kernel_grad(x, g, window, *settings, groups)
        shape = (*window, x.shape[-1], g.shape[-1])
        if _is_pointwise(window, strides, padding):
            return _product(_matrix(x), _matrix(g), transpose1=True).reshape(shape)
        x, g = contiguous(x), contiguous(g)
        geometry = axes(x.shape[1:-1], g.shape[1:-1], window, *settings)
        parts = _kernel_grad_parts(x, g, shape, geometry)
        if len(parts) == 1 and parts.dtype == x.dtype:
            return parts[0]
        return reduction_rule("Sum", lambda _: x.dtype)(parts, (0,), False)

    return rule


def _kernels_take(*arrays):
    """Whether there are kernels for these: float32 and halves, with elements, not too many."""
    dtype, sizes = arrays[0].dtype, [x.size for x in arrays]
    countable = all(x.size // x.shape[-1] < _MAX_PIXELS for x in arrays if x.size)
    return (dtype == np.float32 or is_half(dtype)) and 0 not in sizes and countable


def _named(strides, padding, dilation, groups):
    return {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}


# -- one element of window: a product of matrices -----------------------------------------------


def _is_pointwise(window, strides, padding):
    steps = (*window, *strides)
    return all(n == 1 for n in steps) and not any(before or after for before, after in padding)


def _matrix(x):
    return x.reshape(x.size // x.shape[-1], x.shape[-1])


def _product(x1, x2, transpose1=False, transpose2=False):
    return matmul_primitive.rules["cuda"](x1, x2, transpose1=transpose1, transpose2=transpose2)


# -- implicit GEMM ------------------------------------------------------------------------------


def _tile(dtype: np.dtype, rows: int, columns: int, width: int, slices: int = 1) -> Sizes:
    """Rows and columns of the result that a block computes, of two or three sizes.

    Large tiles read each operand less often; small ones fill the GPU, and waste less of it.
    """
    wide = 128 if columns > 64 else 64
    blocks = ceil_div(rows, 128) * ceil_div(columns, wide) * slices
    if width == 1 or blocks < _FILL or (wide == 64 and not is_half(dtype)):
        return 64, 64
    return 128, wide


def _arithmetic(dtype: np.dtype, tile: Sizes, width: int) -> tuple[str, int]:
    """The arithmetic of `conv.cuh` for a dtype on a tile, and how many threads it has."""
    tf32 = dtype == np.float32 and width > 1 and config.float32_matmul_precision() == "high"
    if tf32 or is_half(dtype):
        name = "TensorCoreTf32" if tf32 else "TensorCore"
        return f"{name}<{tile[0]}, {tile[1]}>", 2 * tile[1]
    return f"Fma<{tile[0]}>", tile[0] * tile[1] // 64


def _tile_bytes(extent: int, itemsize: int, inner: bool) -> int:
    """`sizeof` a `Tile` of conv.cuh."""
    step = _STEP // itemsize
    return (extent * (step + 16 // itemsize) if inner else step * (extent + 8)) * itemsize


def _chunk(arrays: list[Any], lengths: list[int]) -> int:
    """How many elements a thread copies at once: 16 bytes of them, if all rows are aligned."""
    width = vector_width(*arrays)
    return width if not any(n % width for n in lengths) else 1


def _gather(source, kernel, result, geometry, rows, phases=1, input_grad=False):
    channels, filters = kernel.shape[-2:]
    columns, itemsize = result.shape[-1], source.dtype.itemsize
    width = _chunk([source, kernel], [channels, filters])
    tile = _tile(source.dtype, rows, columns, width, phases)
    arithmetic, threads = _arithmetic(source.dtype, tile, width)
    pair = _tile_bytes(tile[0], itemsize, True) + _tile_bytes(tile[1], itemsize, input_grad)
    numbers = [np.int32(n) for n in (source.shape[0], channels, filters)]
    launch(
        "conv.cu",
        "conv_gather",
        (cuda_type(source.dtype), arithmetic, width, input_grad),
        grid=ceil_div(rows, tile[0]) * ceil_div(columns, tile[1]) * phases,
        block=threads,
        args=(source, kernel, result, *numbers, *geometry),
        shared=24 * tile[0] + _STAGES * pair,
    )


def _kernel_grad_parts(x, g, shape, geometry):
    """The gradient by the kernel of each slice of the places, in float32."""
    (channels, filters), itemsize = shape[-2:], x.dtype.itemsize
    rows, step = math.prod(shape[:-1]), _STEP // itemsize
    width = _chunk([x, g], [channels, filters])
    steps = ceil_div(g.size // filters, step)
    most = max(min(steps // _MIN_STEPS, _MAX_SLICES), 1)
    tile = _tile(x.dtype, rows, filters, width, most)
    tiles = ceil_div(rows, tile[0]) * ceil_div(filters, tile[1])
    each = ceil_div(steps, min(ceil_div(2 * _FILL, tiles), most))
    slices = ceil_div(steps, each)
    parts = empty((slices, *shape), np.float32, like=x)
    arithmetic, threads = _arithmetic(x.dtype, tile, width)
    numbers = [np.int32(n) for n in (x.shape[0], channels, filters)]
    pair = sum(_tile_bytes(extent, itemsize, False) for extent in tile)
    launch(
        "conv.cu",
        "conv_kernel_grad",
        (cuda_type(x.dtype), arithmetic, width),
        grid=(tiles, slices),
        block=threads,
        args=(x, g, parts, each * step, *numbers, *geometry),
        shared=32 * step + _STAGES * pair,
    )
    return parts
