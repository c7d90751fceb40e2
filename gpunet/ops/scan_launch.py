"""How cumulative sums and products are launched."""

import math
from collections.abc import Callable
from typing import Any

from gpunet.backend.kernels import ceil_div, cuda_type, empty, empty_like, launch
from gpunet.ops.copy_launch import BLOCK, MAX_BLOCKS, contiguous
from gpunet.ops.reduce_launch import accumulate_dtype

_EACH = 4  # elements of a thread
_PIECE = 8 * BLOCK * _EACH  # elements of a block, where a row is long enough for several
_FULL = 512  # blocks, or warps, that keep a GPU busy
_MANY_COLUMNS = 4096  # fewer threads than this take turns in too small groups
_LONG_COLUMN = 64


def scan_rule(operation: str) -> Callable:
    """Returns the `cuda` rule of a cumulative operation.

    Args:
        operation: `"Sum"` or `"Prod"`.
    """

    def rule(x, *, axis):
        x = contiguous(x)
        shape = x.shape
        if x.size == 0:
            return empty_like(x)
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        length = shape[axis]
        if inner == 1:
            return _rows(operation, x, outer, length)
        if outer * inner < _MANY_COLUMNS and length >= _LONG_COLUMN:
            turned = contiguous(x.swapaxes(axis, -1))
            return _rows(operation, turned, outer * inner, length).swapaxes(axis, -1)
        y = empty_like(x)
        grid = min(ceil_div(outer * inner, BLOCK), MAX_BLOCKS)
        types = (cuda_type(x.dtype), operation, BLOCK)
        args = (x, y, outer, length, inner)
        launch("scan.cu", "scan_columns", types, grid=grid, block=BLOCK, args=args)
        return y

    return rule


def _rows(operation: str, x: Any, rows: int, columns: int) -> Any:
    """Scans rows; those of a few long ones are cut into pieces for several blocks."""
    y = empty_like(x)
    pieces = max(1, min(ceil_div(columns, _PIECE), _FULL // rows))
    length = ceil_div(columns, pieces)
    pieces = ceil_div(columns, length)
    types = (cuda_type(x.dtype), operation)
    grid = min(rows * pieces, MAX_BLOCKS)
    before = None
    if pieces > 1:
        totals = empty((rows, pieces), accumulate_dtype(x.dtype), like=x)
        args = (x, totals, rows, columns, pieces, length)
        launch("scan.cu", "piece_totals", (*types, BLOCK), grid=grid, block=BLOCK, args=args)
        before = _rows(operation, totals, rows, pieces)
    block = next((b for b in (32, 128) if columns <= b * _EACH), BLOCK)
    args = (x, before, y, rows, columns, pieces, length)
    launch("scan.cu", "scan_rows", (*types, block, _EACH), grid=grid, block=block, args=args)
    return y
