"""How reductions are launched: any axes are brought to rows or to columns.

A reducer of `reducers.cuh` says what is reduced to what. Where there are few results, several
blocks share one; the last of them to finish adds their partial results, in a fixed order.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ShapeError
from gpunet.ops.copy_launch import BLOCK, address, contiguous

_WARP = 32
_FULL = 512  # blocks that keep a GPU busy
_MANY_ROWS = 4096  # from here on a warp does a row of up to 8 accesses a lane alone
_MAX_GRID_YZ = 65535
_REDUCERS = {
    **{name: ("Fold", name, 1) for name in ("Sum", "Prod", "Max", "Min")},
    **{"Any": ("Test", "false", 1), "All": ("Test", "true", 1)},
    **{"Argmax": ("Position", "false", 2), "Argmin": ("Position", "true", 2)},
    **{"Variance": ("Variance", None, 3), "LogSumExp": ("LogSumExp", None, 2)},
}
_NOT_OF_NOTHING = ("Max", "Min", "Argmax", "Argmin", "LogSumExp")


def accumulate_dtype(dtype: np.dtype) -> np.dtype:
    """Returns the dtype that reductions of `dtype` accumulate in (`Acc<T>` in `common.cuh`)."""
    if dtype == BFLOAT16 or dtype.kind == "f":
        return np.dtype(np.float64 if dtype == np.float64 else np.float32)
    return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)


def reduction_rule(
    operation: str, result: Callable[[np.dtype], Any], divide: bool = False
) -> Callable:
    """Returns the `cuda` rule of a reduction.

    Args:
        operation: `"Sum"`, `"Prod"`, `"Max"`, `"Min"`, `"Any"`, `"All"`, `"Argmax"`, `"Argmin"`,
            `"Variance"` (without `divide`, n times it) or `"LogSumExp"`.
        result: Dtype of the result from that of the operand.
        divide: Whether to divide the result by the number of elements in it.
    """

    def rule(x, axis, keepdims):
        axes = tuple(range(x.ndim)) if axis is None else axis if type(axis) is tuple else (axis,)
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        if operation in _NOT_OF_NOTHING and x.size < math.prod(shape):
            raise ShapeError("an empty set has no largest or smallest element")
        outer, reduced, inner, x = _as_columns(x, axes, operation.startswith("Arg"))
        y = empty(shape, result(x.dtype), like=x)
        count = (1 / reduced if reduced else math.nan) if divide else 1
        scale = accumulate_dtype(x.dtype).type(count)
        (_columns if inner > 1 else _rows)(operation, x, y, outer, reduced, inner, scale)
        return y

    return rule


mean_rule = reduction_rule("Sum", lambda dtype: dtype, divide=True)


def on_arrays(rule: Callable, array: Callable) -> Callable:
    """Returns a `cuda` rule that leaves NumPy scalars to an array rule, on the host."""

    def either(x, **attributes):
        if isinstance(x, np.generic):
            return array(np, x, **attributes)
        return rule(x, **attributes)

    return either


def sum_to_rule(x: Any, shape: tuple[int, ...]) -> Any:
    """The `cuda` rule of `sum_to`: one reduction over all the axes that were broadcast."""
    lead = x.ndim - len(shape)
    axes = [i for i, n in enumerate(shape, lead) if n == 1 and x.shape[i] != 1]
    total = reduction_rule("Sum", lambda dtype: dtype)(x, (*range(lead), *axes), False)
    return total.reshape(shape)


# -- the two forms ------------------------------------------------------------------------------


def _as_columns(x, axes, ordered):
    """Returns (outer, reduced, inner, x): x seen as three axes of which the second is reduced.

    Axes are moved only if kept ones stand between reduced ones. A transposed view is read as it
    lies in memory, unless the order of the reduced elements counts (`ordered`).
    """
    x = np.asarray(x) if isinstance(x, np.generic) else x
    if not x.flags.c_contiguous:
        order = sorted(range(x.ndim), key=lambda i: (-x.strides[i], i))
        kept = [i for i in order if i not in axes]
        if kept == sorted(kept) and not (ordered and len(axes) > 1):
            moved = x.transpose(order)
            if moved.flags.c_contiguous:
                x, axes = moved, tuple(order.index(i) for i in axes)
    x = contiguous(x)
    wide = [i for i in axes if x.shape[i] != 1]
    if not wide:
        return x.size, 1, 1, x
    first, last = min(wide), max(wide)
    if any(i not in axes and x.shape[i] != 1 for i in range(first, last)):
        x = contiguous(x.transpose([i for i in range(x.ndim) if i not in wide] + sorted(wide)))
        reduced = math.prod(x.shape[x.ndim - len(wide) :])
        return math.prod(x.shape[: x.ndim - len(wide)]), reduced, 1, x
    outer, inner = math.prod(x.shape[:first]), math.prod(x.shape[last + 1 :])
    return outer, math.prod(x.shape[first : last + 1]), inner, x


def _rows(operation, x, y, rows, columns, _, scale):
    groups = max(1, columns * x.dtype.itemsize // 16)
    if groups <= _WARP:
        width = 1 << (groups - 1).bit_length()
    else:
        width = _WARP if groups <= 8 * _WARP and rows >= _MANY_ROWS else BLOCK
    parts = 1
    if width == BLOCK and rows:
        parts = max(1, min(ceil_div(groups, 4 * BLOCK), _FULL // rows))
    grid = (parts, min(ceil_div(rows * width, BLOCK), _MAX_GRID_YZ))
    partial, counters = _partial(operation, x, parts, rows, rows)
    args = (x, y, partial, counters, rows, columns, np.int32(width), scale)
    _launch("reduce_rows", operation, x, y, grid, BLOCK, args)


def _columns(operation, x, y, outer, rows, columns, scale):
    size = x.dtype.itemsize
    each = min(16 // size, 8)
    vectors = columns % each == 0 and address(x) % (each * size) == 0
    groups = columns // each if vectors else columns
    width = min(_WARP, 1 << (groups - 1).bit_length())
    height, across = BLOCK // width, ceil_div(groups, width)
    parts = max(1, min(ceil_div(rows, 16 * height), _FULL // max(1, across * outer)))
    grid = (across, parts, min(outer, _MAX_GRID_YZ))
    partial, counters = _partial(operation, x, parts, outer * columns, outer * across)
    args = (x, y, partial, counters, outer, rows, columns, vectors, scale)
    _launch("reduce_columns", operation, x, y, grid, (width, height), args)


def _launch(kernel, operation, x, y, grid, block, args):
    name, argument, _ = _REDUCERS[operation]
    accumulate = cuda_type(accumulate_dtype(x.dtype))
    reducer = f"{name}<{accumulate}{', ' + argument if argument else ''}>"
    types = (cuda_type(x.dtype), cuda_type(y.dtype), reducer, BLOCK)
    launch("reduce.cu", kernel, types, grid=grid, block=block, args=args)


def _partial(operation, x, parts, results, counters):
    """Memory for the states of `parts` blocks a result, and counters that are zero."""
    if parts == 1:
        return None, None
    words = _REDUCERS[operation][2]  # of 8 bytes, or less
    return empty((results * parts * words,), np.float64, like=x), _zero_counters(counters, x)


_counters: dict[tuple[int, int], Any] = {}


def _zero_counters(n, like):
    """Returns at least n zeros; kernels leave them zero, so that a stream needs them once."""
    if isinstance(like, np.ndarray):
        return np.zeros(n, np.uint32)
    xp = Device("cuda").xp
    stream = xp.cuda.get_current_stream()
    key = (like.device.id, stream.ptr)
    if key not in _counters:
        zeros = xp.zeros(_FULL, np.uint32)
        if stream.is_capturing():  # a memset that the graph repeats, in memory of the graph
            return zeros
        _counters[key] = zeros
    return _counters[key]
