"""How pooling is launched, and how windows of 1 to 3 dimensions become arguments of a kernel."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.ops.elementwise_launch import contiguous
from gpunet.ops.precision import is_half
from gpunet.ops.reduce_launch import mean_rule, reduction_rule
from gpunet.ops.spatial import Pads, Sizes, places

BLOCK = 256
_MAX_GRID_Y = 65535
_MAX_ROWS_AT_ONCE = 2**31 - 1
_NO_WINNER = 255  # in a byte; larger windows take an int


def kernels_know(*arrays: Any) -> bool:
    """Tells whether the kernels of windows take these arrays.

    They know float32 and halves, and rows of less than 2^31 elements; the rest is rare, and
    array code is right for it.
    """
    dtype = arrays[0].dtype
    small = all(x.shape[-2] * x.shape[-1] < 2**31 for x in arrays)
    return small and (dtype == np.float32 or is_half(dtype))


def array_code(rule: Callable, *arrays: Any, **attributes: Any) -> Any:
    """Computes with an `array` rule where the arrays are."""
    xp = np if isinstance(arrays[0], np.ndarray) else Device("cuda").xp
    return rule(xp, *arrays, **attributes)


def axes(
    sizes: Sizes, counts: Sizes, window: Sizes, strides: Sizes, padding: Pads, dilation: Sizes
) -> list[np.int32]:
    """Returns what `WINDOW_PARAMETERS` in `window.cuh` takes: six numbers for each of three axes.

    Example:
        >>> [int(n) for n in axes((8,), (4,), (3,), (2,), ((1, 0),), (1,))[12:]]
        [8, 4, 3, 2, 1, 1]
    """
    before = [pair[0] for pair in padding]
    given = list(zip(sizes, counts, window, strides, before, dilation, strict=True))
    missing = [(1, 1, 1, 1, 0, 1)] * (3 - len(given))
    return [np.int32(number) for axis in (*missing, *given) for number in axis]


def launch_rows(
    file: str, kernel: str, template: tuple, arrays: tuple, shape: Sizes, width: int, rest: list
) -> None:
    """Launches a kernel that goes over an array row by row.

    Args:
        file: Of `cuda_kernels/`.
        kernel: Its name.
        template: Its template arguments.
        arrays: Its first arguments.
        shape: Of the array it goes over, `(batch, *spatial, channels)`.
        width: How many channels a thread does.
        rest: The arguments after the number of rows.
    """
    rows, across = math.prod(shape[:-2]), shape[-2] * shape[-1] // width
    block = min(BLOCK, 32 * max(ceil_div(across, 32), 1))
    grid = (min(rows, _MAX_ROWS_AT_ONCE), min(ceil_div(across, block), _MAX_GRID_Y))
    launch(file, kernel, template, grid=grid, block=block, args=(*arrays, rows, *rest))


def channels_at_once(channels: int, *arrays: Any) -> int:
    """Returns how many channels a thread does: 16 bytes of them if all rows are aligned, else 1."""
    width = 16 // arrays[0].dtype.itemsize
    addresses = [x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr for x in arrays]
    return 1 if channels % width or any(address % 16 for address in addresses) else width


def _launch(kernel, types, arrays, over, geometry):
    """Launches a kernel of `pool.cu` over the rows of `over`."""
    channels = over.shape[-1]
    width = channels_at_once(channels, *[x for x in arrays if x.dtype == over.dtype])
    width = 1 if "int" in types else width
    rest = [np.int32(channels), *geometry]
    template = (cuda_type(over.dtype), *types, width)
    launch_rows("pool.cu", kernel, template, arrays, over.shape, width, rest)


def _geometry(x_shape, y_shape, window, strides, padding):
    ones = (1,) * len(window)
    return axes(x_shape[1:-1], y_shape[1:-1], window, strides, padding, ones)


def _results(x, window, strides, padding):
    counts = places(tuple(x.shape[1:-1]), window, strides, padding, (1,) * len(window))
    return empty((x.shape[0], *counts, x.shape[-1]), x.dtype, like=x)


def _is_global(x, window, padding):
    """Whether one window is all of the input: then pooling is a reduction."""
    whole = tuple(x.shape[1:-1]) == tuple(window)
    return whole and not any(before or after for before, after in padding)


def max_pool_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `max_pool`; `array` is its array rule."""

    def rule(x, window, strides, padding):
        if not kernels_know(x):
            return array_code(array, x, window=window, strides=strides, padding=padding)
        if _is_global(x, window, padding):
            spatial = tuple(range(1, x.ndim - 1))
            return reduction_rule("Max", lambda dtype: dtype)(x, spatial, True)
        x, y = contiguous(x), _results(x, window, strides, padding)
        geometry = _geometry(x.shape, y.shape, window, strides, padding)
        _launch("max_pool_forward", (), (x, y), y, geometry)
        return y

    return rule


def max_pool_grad_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `max_pool_grad`: which tap won each window, then a gather."""

    def rule(g, x, y, window, strides, padding):
        if not kernels_know(x, y):
            return array_code(array, g, x, y, window=window, strides=strides, padding=padding)
        g, x, y = contiguous(g), contiguous(x), contiguous(y)
        geometry = _geometry(x.shape, y.shape, window, strides, padding)
        index = "uint8" if math.prod(window) <= _NO_WINNER else "int32"
        winner, gx = empty(y.shape, index, like=y), empty(x.shape, g.dtype, like=x)
        types = (cuda_type(winner.dtype),)
        _launch("max_pool_winner", types, (x, y, winner), y, geometry)
        _launch("max_pool_backward", types, (g, winner, gx), gx, geometry)
        return gx

    return rule


def max_pool_take_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `max_pool_take`."""

    def rule(h, x, y, window, strides, padding):
        if not kernels_know(x, y):
            return array_code(array, h, x, y, window=window, strides=strides, padding=padding)
        h, x, y = contiguous(h), contiguous(x), contiguous(y)
        taken = empty(y.shape, h.dtype, like=y)
        geometry = _geometry(x.shape, y.shape, window, strides, padding)
        _launch("max_pool_take", (), (h, x, y, taken), taken, geometry)
        return taken

    return rule


def average_pool_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `average_pool`."""

    def rule(x, window, strides, padding):
        if not kernels_know(x):
            return array_code(array, x, window=window, strides=strides, padding=padding)
        if _is_global(x, window, padding):
            return mean_rule(x, tuple(range(1, x.ndim - 1)), True)
        x, y = contiguous(x), _results(x, window, strides, padding)
        geometry = _geometry(x.shape, y.shape, window, strides, padding)
        _launch("average_pool_forward", (), (x, y), y, geometry)
        return y

    return rule


def average_pool_grad_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `average_pool_grad`."""

    def rule(g, sizes, window, strides, padding):
        attributes = {"window": window, "strides": strides, "padding": padding}
        if not kernels_know(g) or sizes[-1] * g.shape[-1] >= 2**31:
            return array_code(array, g, sizes=sizes, **attributes)
        g = contiguous(g)
        gx = empty((g.shape[0], *sizes, g.shape[-1]), g.dtype, like=g)
        geometry = _geometry(gx.shape, g.shape, **attributes)
        _launch("average_pool_backward", (), (g, gx), gx, geometry)
        return gx

    return rule
