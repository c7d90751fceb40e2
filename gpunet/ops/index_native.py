"""How index kernels are planned: the `native` rules of `gpunet/ops/index.py` and `scatter.py`."""

import itertools
import math
from typing import Any

import numpy as np

from gpunet.backend.native import Launch, Operand

_INDICES = {np.dtype(np.int32): 0, np.dtype(np.int64): 1}
_REDUCTIONS = (None, "add", "max", "min", "mul")  # Reduction of index.cpp
_TYPES = {np.dtype(t): i for i, t in enumerate(["f4", "f8", "i4", "i8"])}  # with_type, index.cpp


def take_plan(inputs: list[Operand], outputs: list[Operand], axis: int) -> Launch | None:
    """The `native` rule of `take`."""
    x, indices = inputs
    if indices.dtype not in _INDICES:
        return None
    slices = math.prod(x.shape[axis + 1 :]) * x.dtype.itemsize
    sizes = (math.prod(x.shape[:axis]), x.shape[axis], indices.size, slices)
    return Launch("index.take", (*sizes, _INDICES[indices.dtype]))


def index_add_plan(
    inputs: list[Operand], outputs: list[Operand], axis: int, length: int
) -> Launch | None:
    """The `native` rule of `index_add`."""
    x, indices = inputs
    if indices.dtype not in _INDICES or x.dtype not in _TYPES:
        return None
    inner = math.prod(x.shape[axis + indices.ndim :])
    sizes = (math.prod(x.shape[:axis]), length, indices.size, inner)
    return Launch("index.index_add", (*sizes, _INDICES[indices.dtype], _TYPES[x.dtype]))


def take_along_plan(inputs: list[Operand], outputs: list[Operand], axis: int) -> Launch | None:
    """The `native` rule of `take_along_axis`; both inputs may be broadcast along other axes."""
    x, indices = inputs
    if indices.dtype not in _INDICES or x.dtype.itemsize not in (1, 2, 4, 8):
        return None
    shapes = [(math.prod(a.shape[:axis]), a.shape[axis], _inner(a, axis)) for a in inputs]
    found = [_three_strides(a, axis) for a in inputs]
    strides = [s for s in found if s is not None]
    strided = len(strides) == 2
    if not strided:
        strides = [(length * inner, inner, 1) for _, length, inner in shapes]
    (outer, length, inner), (_, count, _) = shapes
    kinds = (_INDICES[indices.dtype], x.dtype.itemsize)
    sizes = (outer, length, count, inner, *strides[0], *strides[1], *kinds)
    return Launch("index.take_along", sizes, strided=strided)


def add_along_plan(
    inputs: list[Operand], outputs: list[Operand], axis: int, length: int
) -> Launch | None:
    """The `native` rule of `add_along_axis`."""
    x, indices = inputs
    if indices.dtype not in _INDICES or x.dtype not in _TYPES or x.shape != indices.shape:
        return None
    sizes = (math.prod(x.shape[:axis]), length, x.shape[axis], _inner(x, axis))
    return Launch("index.add_along", (*sizes, _INDICES[indices.dtype], _TYPES[x.dtype]))


def one_hot_plan(
    inputs: list[Operand], outputs: list[Operand], num_classes: int, axis: int, dtype: Any
) -> Launch | None:
    """The `native` rule of `one_hot`."""
    (x,), (y,) = inputs, outputs
    if x.dtype not in _INDICES or y.dtype not in _TYPES:
        return None
    sizes = (math.prod(x.shape[:axis]), num_classes, math.prod(x.shape[axis:]))
    return Launch("index.one_hot", (*sizes, _INDICES[x.dtype], _TYPES[y.dtype]))


def gather_rows_plan(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `gather_rows`."""
    x, indices = inputs
    if indices.dtype not in _INDICES:
        return None
    axes = indices.shape[-1]
    slices = math.prod(x.shape[axes:]) * x.dtype.itemsize
    sizes = (math.prod(indices.shape[:-1]), slices, _INDICES[indices.dtype], axes, *x.shape[:axes])
    return Launch("index.gather_rows", sizes)


def scatter_update_plan(
    inputs: list[Operand], outputs: list[Operand], reduction: str | None
) -> Launch | None:
    """The `native` rule of `scatter_update`."""
    x, indices, updates = inputs
    if indices.dtype not in _INDICES or x.dtype not in _TYPES or updates.dtype != x.dtype:
        return None
    axes, count = indices.shape[-1], math.prod(indices.shape[:-1])
    inner = math.prod(x.shape[axes:])
    kinds = (_REDUCTIONS.index(reduction), _TYPES[x.dtype], _INDICES[indices.dtype])
    sizes = (count, x.size, inner, *kinds, axes, *x.shape[:axes])
    return Launch("index.scatter_update", sizes, in_place=((0, 0),), fails=True)


def _inner(x, axis):
    return math.prod(x.shape[axis + 1 :])


def _three_strides(x, axis):
    """Strides of x seen as (axes before, axis, axes after); `None` if it cannot be seen so."""
    before = merged(list(zip(x.shape[:axis], x.strides[:axis], strict=True)))
    after = merged(list(zip(x.shape[axis + 1 :], x.strides[axis + 1 :], strict=True)))
    if before is None or after is None:
        return None
    return before[1], x.strides[axis], after[1]


def merged(axes: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Makes one axis of neighbouring axes.

    Args:
        axes: Length and stride of each.

    Returns:
        Length and stride of the one axis, or `None` where one stride does not lead through all.
    """
    axes = [(n, s) for n, s in axes if n != 1]
    for (_, outer), (n, inner) in itertools.pairwise(axes):
        if outer != n * inner:
            return None
    return math.prod(n for n, _ in axes), axes[-1][1] if axes else 0
