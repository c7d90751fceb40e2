"""Where the taps of a convolution read, for the plans of its C++ kernels.

Both a convolution and its gradient by the inputs are correlations of a source with the kernel:
results at places `start, start + jump, ...` of each axis read the source at `place + offset`. A
convolution has one such phase along an axis; its gradient by the inputs has as many as its stride,
each with the taps that reach it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gpunet.backend import native

MOST_PHASES = 64  # that a kernel has place for
_LEAST = 1 << 17  # multiplications that are worth another thread


class Phase(NamedTuple):
    """Results along one axis that the same taps make.

    Attributes:
        start: The first of them.
        length: How many there are.
        taps: Pairs (tap of the kernel, where it reads the source from the first result on).
    """

    start: int
    length: int
    taps: tuple[tuple[int, int], ...]


class Axis(NamedTuple):
    """One spatial axis of a correlation.

    Attributes:
        size: Length of the source.
        phases: The results.
        step: From one result of a phase to the next, in the source.
        jump: The same in the results.
    """

    size: int
    phases: tuple[Phase, ...]
    step: int
    jump: int

    @property
    def before(self) -> int:
        """Zeros needed before the source."""
        return max(0, *(-offset for p in self.phases for _, offset in p.taps), 0)

    @property
    def reach(self) -> int:
        """How far from a result the last tap reads, in the source with its zeros."""
        return max((offset for p in self.phases for _, offset in p.taps), default=0) + self.before

    @property
    def needed(self) -> int:
        """Length of the source with the zeros that are read."""
        return (max(p.length for p in self.phases) - 1) * self.step + self.reach + 1


def forward_axis(
    size: int, count: int, window: int, stride: int, before: int, dilation: int
) -> Axis:
    """Returns the axis of a convolution."""
    taps = tuple((t, t * dilation - before) for t in range(window))
    return Axis(size, (Phase(0, count, taps),), stride, 1)


def backward_axis(
    size: int, count: int, window: int, stride: int, before: int, dilation: int
) -> Axis:
    """Returns the axis of the gradient by the inputs: `size` results from `count` cotangents."""
    phases = []
    for start in range(min(stride, size)):
        shifts = [(t, start + before - t * dilation) for t in range(window)]
        taps = sorted((shift // stride, t) for t, shift in shifts if shift % stride == 0)
        places = -(-(size - start) // stride)
        phases.append(Phase(start, places, tuple((t, offset) for offset, t in taps)))
    return Axis(count, tuple(phases), 1, stride)


def planar(x: Sequence[int]) -> tuple[int, ...]:
    """Returns entries for two spatial axes: one axis is a row of an image with one row."""
    return (1, *x) if len(x) == 1 else tuple(x)


class Plane(NamedTuple):
    """The two spatial axes of a correlation.

    Attributes:
        rows: The first.
        columns: The second.
    """

    rows: Axis
    columns: Axis

    @property
    def copied(self) -> bool:
        """Whether taps read zeros around the source, so that it is copied band by band."""
        return any(axis.before > 0 or axis.needed > axis.size for axis in self)

    @property
    def wide(self) -> int:
        """Pixels in a row of the source, with its zeros if it is copied."""
        columns = self.columns
        return max(columns.needed, columns.before + 1) if self.copied else columns.size

    def taps(self, row: Phase, column: Phase) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """Returns the taps of two phases, and which pixel each reads; one list for each row."""
        top, left = self.rows.before, self.columns.before
        pixels = [[(y + top) * self.wide + x + left for _, x in column.taps] for _, y in row.taps]
        return [(t, u) for t, _ in row.taps for u, _ in column.taps], pixels

    def source_rows(self, band: int) -> int:
        """Rows of the source under so many rows of results."""
        return (band - 1) * self.rows.step + self.rows.reach + 1

    def bands(
        self, images: int, row_bytes: int, work: int, budget: int, least: int = 1
    ) -> tuple[int, int]:
        """Divides rows of results into bands.

        Args:
            images: How many images there are.
            row_bytes: Size of a row of the source.
            work: Multiplications for a row of results.
            budget: Bytes that the source of a band should not exceed.
            least: Rows that a band has even so.

        Returns:
            The rows of a band, and the fewest bands that are worth another thread.
        """
        count = max(phase.length for phase in self.rows.phases)
        most = (budget // row_bytes - self.rows.reach - 1) // self.rows.step + 1
        share = count * images // (2 * native.runtime().threads)
        band = max(1, min(count, max(most, least), share))
        band = -(-count // -(-count // band))
        return band, max(1, _LEAST // max(1, work * band))


def plane(make: Callable, sizes, counts, window, strides, padding, dilation) -> Plane:
    """Returns the axes, each made by `forward_axis` or `backward_axis`, of one or two."""
    padding = padding if len(sizes) == 2 else ((0, 0), *padding)
    many = [planar(x) for x in (sizes, counts, window, strides)]
    each = zip(*many, padding, planar(dilation), strict=True)
    return Plane(*[make(n, c, k, s, before, d) for n, c, k, s, (before, _), d in each])
