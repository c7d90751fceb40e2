"""How tables are normalised by statistics of their channels: the passes that norms share.

A table is `samples` of `rows` of `columns`; statistics are those of all rows of a sample.
"""

from dataclasses import dataclass
from typing import Any

from gpunet.backend.kernels import cuda_type, empty, empty_like, launch
from gpunet.ops.column_plan import ColumnPlan, column_plan
from gpunet.ops.reduce_launch import accumulate_dtype
from gpunet.ops.row_plan import MAX_GRID, row_vector

FILE = "batch_norm.cu"


@dataclass(frozen=True)
class Channels:
    """A table and how it is cut up."""

    samples: int
    rows: int
    columns: int
    vector: int
    plan: ColumnPlan

    @classmethod
    def of(cls, samples: int, rows: int, *arrays: Any) -> "Channels":
        """Plans the passes over arrays that are all `samples` of `rows`; None stands for none."""
        given = [a for a in arrays if a is not None]
        columns = given[0].shape[-1]
        vector = row_vector(columns, *given)
        plan = column_plan(rows, columns, vector, samples)
        return cls(samples, rows, columns, vector, plan)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The arguments that kernels have last."""
        return self.samples, self.rows, self.columns

    def run(self, kernel: str, x: Any, args: tuple) -> None:
        """Launches a pass over the whole table."""
        types = (cuda_type(x.dtype), self.vector)
        grid = (*self.plan.grid, min(self.samples, MAX_GRID))
        launch(FILE, kernel, types, grid=grid, block=self.plan.block, args=args)

    def partials(self, x: Any) -> tuple[Any, Any]:
        """Returns two arrays with a number for each sample, part and channel."""
        shape = (self.samples, self.plan.parts, self.columns)
        dtype = accumulate_dtype(x.dtype)
        return empty(shape, dtype, like=x), empty(shape, dtype, like=x)


def vectors(x: Any, count: int, *shape: int) -> list[Any]:
    """Returns arrays to be written, in the dtype of sums over `x`."""
    return [empty(shape, accumulate_dtype(x.dtype), like=x) for _ in range(count)]


def channel_statistics(x: Any, table: Channels) -> tuple[Any, Any]:
    """Returns mean and sum of squared deviations of each channel, over each part of a sample."""
    means, squares = table.partials(x)
    table.run("channel_statistics", x, (x, means, squares, *table.sizes))
    return means, squares


def channel_apply(
    x: Any, residual: Any, center: Any, factor: Any, offset: Any, table: Channels, relu: bool
) -> Any:
    """Returns `(x - center) * factor + offset + residual`, or the ReLU of that."""
    y = empty_like(x)
    args = (x, residual, center, factor, offset, y, *table.sizes, relu)
    table.run("channel_apply", x, args)
    return y
