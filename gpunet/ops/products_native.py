"""How products of two arrays are planned: the `native` rules of `matmul` and `einsum`.

Both are a contraction: each axis has a label, and an axis of the result is one of the first array,
of the second, or of both; axes of both that the result has not are summed over. A contraction
becomes a batch of matrix products: axes that lie one after the other merge into rows, columns, or
the axis of the sum; the others are axes of the batch. The kernel reads arrays by their strides.
Only where the axes of one group do not merge is an array copied first.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gpunet.backend.native import Launch, Operand, runtime
from gpunet.ops.index_native import merged

_SUFFIXES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
_LINE = 16  # elements that copies are multiples of
_LONG, _NARROW = 1 << 13, 48  # a sum of this length is split where the result is this narrow

Labels = Sequence[int]


class _Side(NamedTuple):
    """One array as the kernel reads it."""

    rows: int  # stride along its rows (columns, for the second array)
    inner: int  # stride along the axis of the sum
    batch: dict[int, int]  # strides of the axes of the batch
    copied: tuple[tuple[int, ...], ...]  # axes (length, stride) of its copy; none: as it lies


def matmul_plan(
    inputs: list[Operand], outputs: list[Operand], transpose1: bool, transpose2: bool
) -> Launch | None:
    """The `native` rule of `matmul`."""
    x1, x2 = inputs
    ndim = outputs[0].ndim
    row, column, inner = ndim - 2, ndim - 1, ndim
    sides = []
    for x, last in (
        (x1, (inner, row) if transpose1 else (row, inner)),
        (x2, (column, inner) if transpose2 else (inner, column)),
    ):
        sides.append([*range(ndim - x.ndim, ndim - 2), *last])
    return contraction(x1, sides[0], x2, sides[1], outputs[0], list(range(ndim)))


def einsum_plan(inputs: list[Operand], outputs: list[Operand], equation: str) -> Launch | None:
    """The `native` rule of `einsum`: of two operands, with a sum over axes of both."""
    left, out = equation.split("->")
    if len(inputs) != 2:
        return None
    labels1, labels2 = left.split(",")
    inner = set(labels1) & set(labels2) - set(out)
    alone = (set(labels1) ^ set(labels2)) - set(out)
    if not inner or alone:
        return None
    one, two, result = [[ord(a) for a in labels] for labels in (labels1, labels2, out)]
    return contraction(inputs[0], one, inputs[1], two, outputs[0], result)


def contraction(
    x1: Operand, labels1: Labels, x2: Operand, labels2: Labels, y: Operand, labels: Labels
) -> Launch | None:
    """Plans the sum of products of two arrays over the labels that `y` has not.

    Args:
        x1: First array.
        labels1: A number for each axis of it, without repetition.
        x2: Second array.
        labels2: The same for it; an axis of length 1 need not have that of the other array.
        y: The result, contiguous.
        labels: The same for it.
    """
    if y.dtype not in _SUFFIXES or x1.dtype != y.dtype or x2.dtype != y.dtype:
        return None
    strides1, strides2, out = [
        {a: (n, s) for a, n, s in zip(names, x.shape, x.strides, strict=True) if n != 1}
        for x, names in ((x1, labels1), (x2, labels2), (y, labels))
    ]
    order = [a for a in labels if a in out]
    swapped = bool(order) and order[-1] in strides1 and order[-1] not in strides2
    if swapped:
        strides1, strides2 = strides2, strides1
    columns = _last_run(order, strides2, strides1)
    rows = _longest_run(order[: len(order) - len(columns)], strides1, strides2, out)
    batch = [a for a in order if a not in rows and a not in columns]
    inner = _order_of_sum([a for a in strides1 if a not in out], strides1, strides2)
    first = _side(strides1, rows, inner, batch)
    second = _side(strides2, columns, inner, batch)
    lengths = [
        math.prod([axes[a][0] for a in group])
        for axes, group in ((strides1, rows), (strides2, columns), (strides1, inner))
    ]
    ldc = _step(out, rows) or lengths[1]
    steps = [(out[a][0], first.batch.get(a, 0), second.batch.get(a, 0), out[a][1]) for a in batch]
    return _launch(y.dtype, first, second, lengths, ldc, swapped, _joined(steps))


def _launch(dtype, first, second, lengths, ldc, swapped, steps):
    m, n, k = lengths
    partial = 0  # bytes
    if not steps and k >= _LONG and m <= _NARROW and n <= _NARROW and ldc == n:
        partial = (runtime().threads - 1) * m * n * dtype.itemsize
    sizes = (m, n, k, first.rows, first.inner, second.inner, second.rows, ldc)
    sizes += (int(swapped), int(partial > 0), len(steps), *itertools.chain(*steps))
    scratch = partial
    for side in (first, second):
        sizes += (len(side.copied), *[n for n, _ in side.copied], *[s for _, s in side.copied])
        elements = math.prod([n for n, _ in side.copied]) if side.copied else 0
        scratch += -(-elements // _LINE) * _LINE * dtype.itemsize
    return Launch(f"matmul.matmul_{_SUFFIXES[dtype]}", sizes, scratch=scratch, strided=True)


def _last_run(order, mine, other):
    """The last labels of the result, as far as they are of one array alone."""
    run = len(order)
    while run and order[run - 1] in mine and order[run - 1] not in other:
        run -= 1
    return order[run:]


def _longest_run(order, mine, other, out):
    """The neighbours in the result, of one array alone, that have the most elements."""
    runs, run = [], []
    for a in order:
        if a in mine and a not in other:
            run.append(a)
        else:
            run = []
        runs.append(list(run))
    return max(runs, key=lambda run: math.prod([out[a][0] for a in run]), default=[])


def _order_of_sum(inner, first, second):
    """The order of the axes summed over in which they merge in both arrays, if there is one."""
    for axes in (first, second):
        order = sorted(inner, key=lambda a: -abs(axes[a][1]))
        if _merges(first, order) and _merges(second, order):
            return order
    larger = first if _elements(first) >= _elements(second) else second
    return sorted(inner, key=lambda a: -abs(larger[a][1]))


def _elements(axes):
    return math.prod([n for n, _ in axes.values()])


def _merges(axes, labels):
    return merged([axes[a] for a in labels]) is not None


def _step(axes: dict[int, tuple[int, int]], labels: Iterable[int]) -> int:
    one = merged([axes[a] for a in labels])
    return one[1] if one else 0


def _side(axes, rows, inner, batch):
    """How an array is read as matrices with these rows (or columns), and columns `inner`."""
    mine = [a for a in batch if a in axes]
    if _merges(axes, rows) and _merges(axes, inner):
        return _Side(_step(axes, rows), _step(axes, inner), {a: axes[a][1] for a in mine}, ())
    last = min(axes, key=lambda a: abs(axes[a][1]))
    groups = [*inner, *rows] if last in rows else [*rows, *inner]
    order, step, strides = [*mine, *groups], 1, {}
    for a in reversed(order):
        strides[a] = (axes[a][0], step)
        step *= axes[a][0]
    copied = _joined([axes[a] for a in order])
    batch_strides = {a: strides[a][1] for a in mine}
    return _Side(_step(strides, rows), _step(strides, inner), batch_strides, tuple(copied))


def _joined(axes):
    """Neighbouring axes (length, strides...) as one, where all strides lead through both."""
    result: list[tuple[int, ...]] = []
    for length, *strides in axes:
        if result and all(
            outer == length * s for outer, s in zip(result[-1][1:], strides, strict=True)
        ):
            result[-1] = (result[-1][0] * length, *strides)
        else:
            result.append((length, *strides))
    return result
