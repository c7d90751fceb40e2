"""How columns that are added up are spread over threads: what norms and bias gradients share."""

from dataclasses import dataclass

from gpunet.backend.kernels import ceil_div

_THREADS = 256  # of a block
_ROWS = 16  # that a thread walks down at least
_BLOCKS = 1056  # that fill a GPU: eight for each multiprocessor of an H200


@dataclass(frozen=True)
class ColumnPlan:
    """Slabs of columns by parts of the rows (see `columns.cuh`).

    Attributes:
        slabs: Blocks side by side.
        parts: Blocks one below the other, each with its own rows.
        block: Threads along the columns and along the rows.
    """

    slabs: int
    parts: int
    block: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Slabs by parts."""
        return self.slabs, self.parts


def column_plan(rows: int, columns: int, vector: int, samples: int = 1) -> ColumnPlan:
    """Returns how a table is cut up; `samples` such tables are worked on at once.

    Args:
        rows: Of one table.
        columns: Of one table.
        vector: Neighbouring columns of one thread.
        samples: Tables.

    Example:
        >>> column_plan(100_000, 64, 8)
        ColumnPlan(slabs=1, parts=196, block=(8, 32))
    """
    threads = ceil_div(columns, vector)
    across = min(32, 1 << max(threads - 1, 0).bit_length())
    down = _THREADS // across
    slabs = ceil_div(threads, across)
    wanted = ceil_div(_BLOCKS, max(slabs * samples, 1))
    parts = max(1, min(ceil_div(rows, down * _ROWS), wanted))
    return ColumnPlan(slabs, parts, (across, down))
