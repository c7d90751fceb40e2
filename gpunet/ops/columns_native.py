"""Planning shared by the C++ kernels of rows and columns: what they take, and their memory."""

import math
from collections.abc import Sequence

import numpy as np

from gpunet.backend import native

_FLOAT32 = np.dtype(np.float32)


def float32_table(operands: Sequence[native.Operand], table: native.Operand) -> bool:
    """Tells whether operands are float32 and a table has columns.

    Args:
        operands: All floats among inputs and outputs.
        table: The one whose last axis is the columns.
    """
    return table.ndim > 0 and table.shape[-1] > 0 and all(x.dtype == _FLOAT32 for x in operands)


def rows_and_columns(table: native.Operand) -> tuple[int, int]:
    """Returns how many rows and columns a table has: its last axis, and all others."""
    return math.prod(table.shape[:-1]), table.shape[-1]


def width_of(columns: int) -> int:
    """Returns how many numbers a line has, as `Table` in `cpu_kernels/columns.h` has it."""
    if columns >= 256:
        return columns
    times = 1
    while columns * times % 16 or columns * times < 64:
        times *= 2
    return columns * times


def column_scratch(columns: int, sums: int, vectors: int) -> int:
    """Returns bytes of scratch memory for sums of columns.

    Args:
        columns: Number of columns.
        sums: Numbers of a line that each thread adds up, in double.
        vectors: Vectors in double, or lines in float: whichever are more.
    """
    width, threads = width_of(columns), native.runtime().threads
    doubles = threads * (sums * width + 8) + vectors * (width + 8)
    return 8 * doubles + 64 * (sums + vectors + 2)
