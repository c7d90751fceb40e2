"""The memory plan of a graph: every array a place in one arena, shared by those that never meet.

An array lives from the equation that writes it to the last one that reads it. Where each array of
a step lies is decided once, before the first step: no allocator runs in a step, the addresses never
change (a CUDA graph has them baked in), and the arena is little larger than what lives at once.
"""

from bisect import bisect_left
from collections.abc import Sequence

Interval = tuple[int, int, int]


def plan(intervals: Sequence[Interval], alignment: int = 64) -> tuple[list[int], int]:
    """Gives each interval an offset such that no two that live at the same time overlap.

    The largest goes first, each to the lowest gap that holds it: small arrays then fill what large
    ones leave free. The same intervals give the same plan, always.

    Args:
        intervals: `(first, last, bytes)` of each array: the steps between which it is alive, both
            included. An array of zero bytes takes no room.
        alignment: Offsets are multiples of it.

    Returns:
        The offsets in bytes, in the order of the intervals, and the size of the arena.

    Example:
        >>> plan([(0, 1, 64), (1, 2, 128), (2, 3, 64)])
        ([128, 0, 128], 192)
    """
    offsets, total = [0] * len(intervals), 0
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last), by offset
    order = sorted(range(len(intervals)), key=lambda i: (-intervals[i][2], intervals[i][0], i))
    for i in order:
        first, last, nbytes = intervals[i]
        if nbytes == 0:
            continue
        size = -(-nbytes // alignment) * alignment
        offset = 0
        for begin, end, other_first, other_last in placed:
            if other_first > last or other_last < first:
                continue
            if begin - offset >= size:
                break
            offset = max(offset, end)
        taken = (offset, offset + size, first, last)
        placed.insert(bisect_left(placed, taken), taken)
        offsets[i] = offset
        total = max(total, offset + size)
    return offsets, total


def peak(intervals: Sequence[Interval], alignment: int = 64) -> int:
    """Returns the most bytes alive at one time: no plan can be smaller.

    Example:
        >>> peak([(0, 1, 64), (1, 2, 128), (2, 3, 64)])
        192
    """
    changes: dict[int, int] = {}
    for first, last, nbytes in intervals:
        size = -(-nbytes // alignment) * alignment
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    alive = most = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most
