"""How a table of rows is spread over threads: what softmax, cross-entropy and norms share."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.backend.kernels import ceil_div
from gpunet.ops.elementwise_launch import contiguous, vector_width
from gpunet.ops.reduce_launch import accumulate_dtype

MAX_GRID = 65535
WIDE_BLOCK = 1024  # threads on a row that is too long for registers
_VALUES = 32  # of a row, that a thread holds in registers
_SINGLE_VALUES = 8  # the same where each needs an access of its own


@dataclass(frozen=True)
class RowPlan:
    """How many threads share a row, and what each of them holds (see `row.cuh`).

    Attributes:
        vector: Elements of one access.
        values: Elements of a row in the registers of a thread; 0: the row is too long for that.
        width: Threads of a row.
        block: Threads of a block.
    """

    vector: int
    values: int
    width: int
    block: int

    @property
    def types(self) -> tuple[int, ...]:
        """The template arguments after the dtype, of the kernel with the row in registers."""
        return self.vector, self.values, self.width, self.block

    def grid(self, rows: int) -> int:
        """Returns how many blocks the rows get."""
        return min(ceil_div(rows, self.block // self.width), MAX_GRID)


def row_plan(columns: int, arrays: tuple, *, block: int = 128, widest: int = _VALUES) -> RowPlan:
    """Returns how rows are worked on.

    Args:
        columns: Length of a row.
        arrays: The arrays whose rows are accessed.
        block: Threads of a block whose warps have a row each.
        widest: How much a thread of a block of 1024 holds: such a thread has 64 registers.
    """
    if arrays[0].dtype == np.float64:  # rare: fewer kernels to compile, and no spilled registers
        return RowPlan(1, 0, 256, 256)
    vector = row_vector(columns, *arrays)
    if vector == 1 and columns <= 32 * _SINGLE_VALUES:
        return RowPlan(1, _SINGLE_VALUES, 32, block)
    if vector > 1:
        if columns <= 32 * _VALUES:
            return RowPlan(vector, _VALUES, 32, block)
        if columns <= 256 * _VALUES:
            return RowPlan(vector, _VALUES, 256, 256)
        if columns <= 1024 * widest:
            return RowPlan(vector, widest, 1024, 1024)
    return RowPlan(vector, 0, WIDE_BLOCK, WIDE_BLOCK)


def row_vector(columns: int, *arrays: Any) -> int:
    """Returns how many elements of a row one access may move: 16 bytes' worth if rows allow it.

    Doubles are moved one at a time: they are rare, and half as many kernels are compiled for them.
    """
    if any(x.dtype == np.float64 for x in arrays):
        return 1
    width = vector_width(*arrays)
    return width if columns % width == 0 else 1


def statistics(v: Any, x: Any) -> Any:
    """Returns numbers of rows or columns, contiguous, in the dtype that sums over `x` have."""
    dtype = accumulate_dtype(x.dtype)
    return contiguous(v if v.dtype == dtype else v.astype(dtype))


def table(x: Any) -> tuple[int, int]:
    """Returns the rows and columns of an array whose last axis is that of the columns."""
    return math.prod(x.shape[:-1]), x.shape[-1]
