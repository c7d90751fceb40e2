"""Adding (and otherwise combining) values into places of an array that may be named repeatedly."""

from typing import Any

import numpy as np

# What CUDA has atomic additions for.
_ATOMIC = frozenset(map(np.dtype, ["int32", "uint32", "uint64", "float32", "float64"]))


def add_at(xp: Any, y: Any, places: tuple, values: Any) -> Any:
    """Returns `y`, in place where possible, with values added at places: `y[places] += values`.

    A place that is named several times gets all its values.
    """
    if xp is np or y.dtype in _ATOMIC:
        xp.add.at(y, places, values)
        return y
    # Modulo 2**64 signed and unsigned sums are the same bits.
    wide = y.astype(np.int64).view(np.uint64)
    xp.add.at(wide, places, values.astype(np.int64).view(np.uint64))
    return wide.view(np.int64).astype(y.dtype)


def combine_at(xp: Any, name: str, y: Any, places: tuple, values: Any) -> Any:
    """Like `add_at`, with any binary function of this name, such as `"maximum"`."""
    if name == "add":
        return add_at(xp, y, places, values)
    if xp is np:
        getattr(np, name).at(y, places, values)
        return y
    return in_rounds(xp, name, y, places, values)


def in_rounds(xp: Any, name: str, y: Any, places: tuple, values: Any) -> Any:
    """The same for array libraries without `at`: the first values of all places, the second, ...

    Args:
        xp: Array module.
        name: Name of a binary function in it.
        y: Array, which is changed and returned.
        places: Integer arrays of one shape, for the first axes of `y`.
        values: Array of this shape and the other axes of `y`.
    """
    lead = y.shape[: len(places)]
    flat = xp.zeros(places[0].shape, np.int64)
    for i, n in zip(places, lead, strict=True):
        flat = flat * n + xp.where(i < 0, i + n, i)
    flat = flat.reshape(-1)
    if not flat.size:
        return y
    rows = y.reshape((int(np.prod(lead)), -1))
    values = values.reshape((flat.size, -1))
    order = xp.argsort(flat, kind="stable")
    ordered = flat[order]
    turn = xp.arange(flat.size) - xp.searchsorted(ordered, ordered)
    for i in range(int(turn.max()) + 1):
        chosen = order[turn == i]
        target = flat[chosen]
        rows[target] = getattr(xp, name)(rows[target], values[chosen])
    return rows.reshape(y.shape)


def sum_rows(ids: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Sums the rows of each id, in their order: several times faster than `np.add.at`.

    Rows are sorted by id; then either the first rows of all ids are added, the second, and so on,
    or, where an id has many rows, `np.add.reduceat` goes through them.
    """
    if rows.shape[1] == 1 and rows.dtype.kind == "f":
        return np.bincount(ids, rows[:, 0], count).astype(rows.dtype).reshape(count, 1)
    y = np.zeros((count, rows.shape[1]), rows.dtype)
    if not len(ids):
        return y
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(first, append=len(ids))
    most = int(counts.max())
    if most > 32:
        y[ordered[first]] = np.add.reduceat(rows[order], first, axis=0)
        return y
    by_count = np.argsort(-counts, kind="stable")
    first, counts = first[by_count], counts[by_count]
    total = rows[order[first]]
    for turn in range(1, most):
        left = int(np.searchsorted(-counts, -turn))
        total[:left] += rows[order[first[:left] + turn]]
    y[ordered[first]] = total
    return y
