"""How reductions are launched: any axes are brought to rows, columns, or the whole array."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ShapeError
from gpunet.ops.elementwise_launch import contiguous

BLOCK = 256
_SHORT_ROW = 256  # up to this length a warp does a row alone
_MAX_CHUNKS = 512
_MAX_GRID_Y = 65535


def accumulate_dtype(dtype: np.dtype) -> np.dtype:
    """Returns the dtype that reductions of `dtype` accumulate in (`Acc<T>` in `common.cuh`)."""
    if dtype == BFLOAT16 or dtype.kind == "f":
        return np.dtype(np.float64 if dtype == np.float64 else np.float32)
    return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)


def reduction_rule(operation: str, result: Callable[[np.dtype], np.dtype]) -> Callable:
    """Returns the `cuda` rule of a reduction.

    Args:
        operation: `"Sum"`, `"Prod"`, `"Max"` or `"Min"`, as in `reduce.cu`.
        result: Dtype of the result from that of the operand.
    """

    def rule(x, axis, keepdims):
        axes = tuple(range(x.ndim)) if axis is None else axis
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        if operation in ("Max", "Min") and x.size < math.prod(shape):
            raise ShapeError("no maximum or minimum of no elements")
        outer, reduced, inner, x = _as_columns(contiguous(x), axes)
        y = empty(shape, result(x.dtype), like=x)
        if inner > 1:
            _columns(operation, x, y, outer, reduced, inner)
        elif outer == 1 and reduced > _SHORT_ROW:
            _whole(operation, x, y, reduced)
        else:
            _rows(operation, x, y, outer, reduced)
        return y

    return rule


def mean_rule(x: Any, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """The `cuda` rule of `mean`: a sum in the accumulation dtype, scaled and rounded once."""
    total = reduction_rule("Sum", accumulate_dtype)(x, axis, keepdims)
    return (total * (total.size / x.size if x.size else math.nan)).astype(x.dtype)


def _as_columns(x, axes):
    """Returns (outer, reduced, inner, x): x seen as three axes of which the second is reduced.

    Axes are moved only if kept ones stand between reduced ones.
    """
    wide = [i for i in axes if x.shape[i] != 1]
    if not wide:
        return x.size, 1, 1, x
    first, last = min(wide), max(wide)
    if any(i not in axes and x.shape[i] != 1 for i in range(first, last)):
        order = [i for i in range(x.ndim) if i not in wide] + sorted(wide)
        x = contiguous(x.transpose(order))
        reduced = math.prod(x.shape[x.ndim - len(wide) :])
        return math.prod(x.shape[: x.ndim - len(wide)]), reduced, 1, x
    outer, inner = math.prod(x.shape[:first]), math.prod(x.shape[last + 1 :])
    return outer, math.prod(x.shape[first : last + 1]), inner, x


def _rows(operation, x, y, rows, columns):
    short = columns <= _SHORT_ROW
    kernel, grid = (
        ("reduce_rows_warp", ceil_div(rows, BLOCK // 32)) if short else ("reduce_rows", rows)
    )
    launch(
        "reduce.cu",
        kernel,
        (*_types(x, y), operation, BLOCK),
        grid=min(grid, _MAX_GRID_Y),
        block=BLOCK,
        args=(x, y, rows, columns),
    )


def _columns(operation, x, y, outer, rows, columns):
    launch(
        "reduce.cu",
        "reduce_columns",
        (*_types(x, y), operation),
        grid=(ceil_div(columns, 32), min(outer, _MAX_GRID_Y)),
        block=(32, 8),
        args=(x, y, outer, rows, columns),
    )


def _whole(operation, x, y, n):
    accumulate = accumulate_dtype(x.dtype)
    chunks = min(ceil_div(n, 4 * BLOCK), _MAX_CHUNKS)
    partial = empty((chunks,), accumulate, like=x)
    types = (cuda_type(x.dtype), cuda_type(accumulate), operation, BLOCK)
    launch("reduce.cu", "reduce_chunks", types, grid=chunks, block=BLOCK, args=(x, partial, n))
    _rows(operation, partial, y, 1, chunks)


def _types(x, y):
    return cuda_type(x.dtype), cuda_type(accumulate_dtype(x.dtype)), cuda_type(y.dtype)


def sum_to_rule(x: Any, shape: tuple[int, ...]) -> Any:
    """The `cuda` rule of `sum_to`: one reduction over all the axes that were broadcast."""
    lead = x.ndim - len(shape)
    axes = [i for i, n in enumerate(shape, lead) if n == 1 and x.shape[i] != 1]
    total = reduction_rule("Sum", lambda dtype: dtype)(x, (*range(lead), *axes), False)
    return total.reshape(shape)
