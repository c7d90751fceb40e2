"""Plans of the C++ kernels that reduce: any axes, brought to (outer, n, inner) in stages."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.native import Launch, Operand
from gpunet.ops.elementwise_native import SUFFIXES

_FLOATS = ("f32", "f64")
_NUMBERS = ("f32", "f64", "i32", "i64")
_SUFFIXES = {
    **{"sum": _NUMBERS, "max": _NUMBERS, "min": _NUMBERS, "prod": _FLOATS, "mean": _FLOATS},
    **{"any": ("b8",), "all": ("b8",)},
    **{"argmax": _NUMBERS, "argmin": _NUMBERS, "var": _FLOATS, "logsumexp": _FLOATS},
}
_NOT_OF_NOTHING = ("max", "min", "argmax", "argmin", "var", "logsumexp")
_SLICE = 4096  # SLICE of `reduce.h`: columns that one thread takes
_CHUNK = 32768  # elements that are worth partial results
_MAX_CHUNKS = 16
_LEAST_ROWS = {True: 4096, False: 64}  # of a chunk: in one row; in columns


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Returns the `axis` attribute of a reduction as a tuple."""
    if axis is None:
        return tuple(range(ndim))
    return axis if type(axis) is tuple else (axis,)


def fold_native(name: str) -> Callable:
    """Returns the `native` rule of `sum`, `mean`, `prod`, `max`, `min`, `any` or `all`."""

    def rule(
        inputs: list[Operand], outputs: list[Operand], axis: Any, keepdims: bool
    ) -> Launch | None:
        return _fold(name, inputs[0], outputs[0], axes_of(axis, inputs[0].ndim))

    return rule


def sum_to_native(
    inputs: list[Operand], outputs: list[Operand], shape: tuple[int, ...]
) -> Launch | None:
    """The `native` rule of `sum_to`."""
    x = inputs[0]
    lead = x.ndim - len(shape)
    axes = [*range(lead), *(i for i, d in enumerate(shape, lead) if d == 1 and x.shape[i] != 1)]
    return _fold("sum", x, outputs[0], tuple(axes))


def _fold(name, x, y, axes):
    suffix = SUFFIXES.get(x.dtype)
    if name == "sum" and suffix == "b8" and y.dtype == np.int32:
        columns = _columns(x.shape, axes)
        return columns and Launch("place.count", columns)
    if suffix not in _SUFFIXES[name] or x.dtype != y.dtype:
        return None
    count = math.prod([x.shape[a] for a in axes])
    if count == 0 and name in _NOT_OF_NOTHING:
        return None
    sizes, scratch = _stages(x.shape, axes, x.dtype.itemsize)
    if name == "mean":
        sizes.append(y.size)
    numbers = (float(count) or math.nan,) if name == "mean" else ()
    return Launch(f"reduce.{name}_{suffix}", tuple(sizes), numbers, scratch * x.dtype.itemsize)


def _groups(shape, axes):
    """Lengths of neighbouring axes together, and whether they are reduced."""
    groups: list[list] = []
    for a, n in enumerate(shape):
        if n == 1:
            continue
        if groups and groups[-1][1] == (a in axes):
            groups[-1][0] *= n
        else:
            groups.append([n, a in axes])
    return groups


def _stages(shape, axes, itemsize):
    """The numbers of `fold_stages`, and how many elements of scratch memory they need."""
    groups, stages, scratch = _groups(shape, axes), [], 0
    if not any(reduced for _, reduced in groups):  # a copy
        groups.append([1, True])
    align = 64 // itemsize
    while any(reduced for _, reduced in groups):
        last = max(i for i, (_, reduced) in enumerate(groups) if reduced)
        outer = math.prod([n for n, _ in groups[:last]])
        inner = math.prod([n for n, _ in groups[last + 1 :]])
        n = groups.pop(last)[0]
        more = any(reduced for _, reduced in groups)
        chunks = _chunks(outer, n, inner)
        where, partial = -1, scratch
        if more:
            where, partial = scratch, scratch + -(-outer * inner // align) * align
        scratch = partial + (-(-outer * inner * chunks // align) * align if chunks > 1 else 0)
        stages += [outer, n, inner, chunks, where, partial]
    return [len(stages) // 6, *stages], scratch


def _chunks(outer, n, inner):
    """In how many parts the middle axis is reduced, so that all threads have work."""
    units = max(1, outer * -(-inner // _SLICE))
    if units >= _MAX_CHUNKS:
        return 1
    most = min(outer * n * inner // _CHUNK, n // _LEAST_ROWS[inner == 1], _MAX_CHUNKS // units)
    return max(1, most)


def _columns(shape, axes):
    """(outer, n, inner), or `None` where the axes that go are not neighbours."""
    groups = _groups(shape, axes)
    reduced = [i for i, (_, gone) in enumerate(groups) if gone]
    if len(reduced) > 1:
        return None
    if not reduced:
        return math.prod(shape), 1, 1
    before, after = groups[: reduced[0]], groups[reduced[0] + 1 :]
    return (
        math.prod([n for n, _ in before]),
        groups[reduced[0]][0],
        math.prod([n for n, _ in after]),
    )


def along_native(name: str, last_axes: bool = False) -> Callable:
    """Returns the `native` rule of a kernel in `place.cpp`, which may know the last axes only."""

    def rule(
        inputs: list[Operand], outputs: list[Operand], axis: Any, keepdims: bool
    ) -> Launch | None:
        x = inputs[0]
        columns = _columns(x.shape, axes_of(axis, x.ndim))
        suffix = SUFFIXES.get(x.dtype)
        if columns is None or suffix not in _SUFFIXES[name] or 0 in columns:
            return None
        if last_axes and columns[2] != 1:
            return None
        return Launch(f"place.{name}_{suffix}", columns[: 2 if last_axes else 3])

    return rule
