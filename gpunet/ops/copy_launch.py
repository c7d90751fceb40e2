"""How arrays are copied on a GPU: views made contiguous, arrays joined, paddings.

Transposing, slicing, splitting and broadcasting give views, on a GPU as on NumPy; a kernel that
needs contiguous memory copies the view then, by `contiguous`. Neighbouring axes are merged first,
so that most views become rows of columns, or a transposed matrix.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, empty, launch

BLOCK = 256
MAX_BLOCKS = 4096  # enough to fill any GPU; the grid-stride loops do the rest
_MAX_GRID_YZ = 65535
_AXES = 4  # how many merged axes a kernel takes
_MAX_ROWS = 2**32  # of more than two merged axes: kernels divide row numbers in 32 bits
_SHORT = 8  # shorter axes are not worth a tile of a transpose
_WORDS = {
    **{1: "unsigned char", 2: "unsigned short", 4: "unsigned int"},
    **{8: "unsigned long long", 16: "uint4"},
}


def contiguous(x: Any) -> Any:
    """Returns an array (never a scalar) in C order, copied only if it must be."""
    if isinstance(x, np.generic):
        return np.asarray(x)
    if x.flags.c_contiguous:
        return x
    y = empty(x.shape, x.dtype, like=x)
    copy_to(x, y)
    return y


def address(x: Any) -> int:
    """Returns where an array's first element is."""
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def pointer(x: Any) -> Any:
    """Returns an array that `launch` accepts, which starts where `x` does."""
    return x if x.flags.c_contiguous else x[(slice(0, 1),) * x.ndim]


def element_strides(x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the strides, in elements, of an array broadcast to a shape (0: repeated)."""
    if isinstance(x, np.generic):
        return (0,) * len(shape)
    size = x.dtype.itemsize
    own = [0 if n == 1 else s // size for n, s in zip(x.shape, x.strides, strict=True)]
    return (0,) * (len(shape) - x.ndim) + tuple(own)


def merge_axes(
    shape: tuple[int, ...], *strides: Sequence[int]
) -> tuple[list[int], list[list[int]]]:
    """Merges neighbouring axes that each operand steps through as through one.

    Args:
        shape: Shape of the result.
        *strides: Of each operand, in elements; 0 where it is repeated.

    Returns:
        Lengths of the merged axes (at least one), and the strides of each operand along them.

    Example:
        >>> merge_axes((2, 3, 4, 5), (60, 20, 5, 1), (0, 0, 5, 1))
        ([6, 20], [[20, 1], [0, 1]])
    """
    lengths: list[int] = []
    steps: list[tuple[int, ...]] = []
    for n, step in zip(shape, zip(*strides, strict=True), strict=True):
        if n == 1:
            continue
        if lengths and all(a == b * n for a, b in zip(steps[-1], step, strict=True)):
            lengths[-1] *= n
            steps[-1] = step
        else:
            lengths.append(n)
            steps.append(step)
    if not lengths:
        return [1], [[0] for _ in strides]
    return lengths, [list(s) for s in zip(*steps, strict=True)]


class Rows(NamedTuple):
    """Merged axes as kernels take them: `rows` = n0 * n1 * n2, and the strides of each operand."""

    rows: int
    columns: int
    n1: int
    n2: int
    strides: tuple[tuple[int, ...], ...]


@functools.lru_cache(8192)
def as_rows(shape: tuple[int, ...], *strides: tuple[int, ...]) -> Rows | None:
    """Returns a shape as rows of columns; `None` if it needs more axes than kernels take.

    Example:
        >>> as_rows((2, 3, 4), (12, 4, 1), (0, 0, 1))
        Rows(rows=6, columns=4, n1=1, n2=1, strides=((4, 0, 0, 1), (0, 0, 0, 1)))
    """
    lengths, steps = merge_axes(shape, *strides)
    missing = _AXES - len(lengths)
    if missing < 0:
        return None
    *outer, columns = lengths
    n0, n1, n2 = outer + [1] * missing
    if n1 * n2 > 1 and n0 * n1 * n2 >= _MAX_ROWS:
        return None
    padded = [(*s[:-1], *[0] * missing, s[-1]) for s in steps]
    return Rows(n0 * n1 * n2, columns, n1, n2, tuple(padded))


@functools.lru_cache(8192)
def grid_of_rows(rows: int, groups: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns grid and block for rows of so many columns, or groups of columns.

    Short rows share a block: it is as wide as leaves the fewest threads without work.

    Example:
        >>> grid_of_rows(1, 1000), grid_of_rows(1000, 3)
        (((4, 1), (256, 1)), ((1, 16), (4, 64)))
    """
    if groups >= 32:
        width = min((256, 128, 64, 32), key=lambda w: ceil_div(groups, w) * w)
    else:
        width = 1 << (groups - 1).bit_length() if groups else 1
    across = min(ceil_div(groups, width), MAX_BLOCKS)
    down = min(ceil_div(rows, BLOCK // width), ceil_div(MAX_BLOCKS, across or 1), _MAX_GRID_YZ)
    return (across, down), (width, BLOCK // width)


# -- copies -------------------------------------------------------------------------------------


def copy_to(x: Any, y: Any) -> None:
    """Copies an array to another one of its shape and dtype; both may be views."""
    if x.size == 0:
        return
    strides = [element_strides(a, x.shape) for a in (x, y)]
    lengths, (sx, sy) = merge_axes(x.shape, *strides)
    many = len(lengths) > 2 and x.size // lengths[-1] >= _MAX_ROWS
    if many or len(lengths) > _AXES or (sy[-1] != 1 and x.size > 1):
        y[...] = x  # rare: by NumPy or CuPy
    elif sx[-1] != 1 and 1 in sx and min(lengths[-1], lengths[sx.index(1)]) >= _SHORT:
        _transpose(x, y, lengths, sx, sy)
    else:
        _copy_rows(x, y, lengths, sx, sy)


def _copy_rows(x, y, lengths, sx, sy):
    size = word = x.dtype.itemsize
    if sx[-1] == 1 or x.size == 1:
        bits = address(x) | address(y) | lengths[-1] * size
        for step in (*sx[:-1], *sy[:-1]):
            bits |= abs(step) * size
        word = min(bits & -bits, 16)
    scale = word // size
    missing = _AXES - len(lengths)
    n0, n1, n2 = lengths[:-1] + [1] * missing
    outer = [[s // scale for s in steps[:-1]] + [0] * missing for steps in (sx, sy)]
    rows, columns = n0 * n1 * n2, lengths[-1] // scale
    grid, block = grid_of_rows(rows, columns)
    args = (pointer(x), pointer(y), rows, columns, n1, n2, *outer[0], sx[-1] or 0, *outer[1])
    launch("copy.cu", "copy_rows", (_WORDS[word], BLOCK), grid=grid, block=block, args=args)


def _transpose(x, y, lengths, sx, sy):
    """Axis p of x is contiguous, the last one of y; the others count as batches."""
    p, size = sx.index(1), x.dtype.itemsize
    others = [i for i in range(len(lengths) - 1) if i != p]
    missing = _AXES - 1 - len(others)
    n = [lengths[i] for i in others] + [1] * missing
    a, b = ([s[i] for i in others] + [0] * missing for s in (sx, sy))
    batches, tile = n[0] * n[1] * n[2], 32 if size >= 4 else 64
    grid = (ceil_div(lengths[-1], tile), ceil_div(lengths[p], tile), batches)
    args = (pointer(x), pointer(y), lengths[-1], lengths[p], sx[-1], sy[p], batches, *n[1:], *a, *b)
    launch(
        "transpose.cu",
        "transpose",
        (_WORDS[size], BLOCK),
        grid=(grid[0], min(grid[1], _MAX_GRID_YZ), min(batches, _MAX_GRID_YZ)),
        block=(32, BLOCK // 32),
        args=args,
    )


# -- joining and padding ------------------------------------------------------------------------


def concatenate_rule(*xs: Any, axis: int) -> Any:
    """The `cuda` rule of `concatenate`: one copy of rows for each array."""
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = empty(tuple(shape), xs[0].dtype, like=xs[0])
    before, start = (slice(None),) * axis, 0
    for x in xs:
        stop = start + x.shape[axis]
        copy_to(x, y[(*before, slice(start, stop))])
        start = stop
    return y


def stack_rule(*xs: Any, axis: int) -> Any:
    """The `cuda` rule of `stack`."""
    like = next((x for x in xs if not isinstance(x, np.generic)), np.asarray(xs[0]))
    y = empty((*like.shape[:axis], len(xs), *like.shape[axis:]), like.dtype, like=like)
    before = (slice(None),) * axis
    for i, x in enumerate(xs):
        place = y[(*before, i, ...)]
        if isinstance(x, np.generic):
            place[...] = x
        else:
            copy_to(x, place)
    return y


def pad_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `pad`; more axes than kernels take are left to the array rule."""

    def rule(x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Any:
        lengths, before, longer = _merge_padding(x.shape, widths)
        if isinstance(x, np.generic) or len(lengths) > _AXES or math.prod(longer) >= _MAX_ROWS:
            xp = np if isinstance(x, (np.ndarray, np.generic)) else Device("cuda").xp
            return array(xp, x, widths=widths, value=value)
        x = contiguous(x)
        shape = [n + sum(width) for n, width in zip(x.shape, widths, strict=True)]
        y = empty(tuple(shape), x.dtype, like=x)
        size = x.dtype.itemsize
        bits = address(x) | (lengths[-1] | before[-1] | longer[-1]) * size
        word = min(bits & -bits, 16)
        for merged in (lengths, before, longer):
            merged[-1] = merged[-1] * size // word
        outside = np.full(8 // size, pad_value(value, x.dtype), x.dtype).view(np.uint64)[0]
        missing = _AXES - len(lengths)
        (m, p, n) = ([fill] * missing + a for fill, a in ((1, lengths), (0, before), (1, longer)))
        rows = n[0] * n[1] * n[2]
        grid, block = grid_of_rows(rows, n[3])
        args = (x, y, outside, rows, n[3], n[1], n[2], *m, *p)
        launch("copy.cu", "pad_rows", (_WORDS[word], BLOCK), grid=grid, block=block, args=args)
        return y

    return rule


def pad_value(value: float, dtype: np.dtype) -> np.generic:
    """Returns what paddings of an array hold: a number, cast to its dtype."""
    return np.asarray(value).astype(dtype).reshape(1)[0]


def _merge_padding(shape, widths):
    """Lengths, paddings before, and padded lengths; axes without padding join the one before."""
    lengths, before, longer = [1], [0], [1]
    for n, (first, last) in zip(shape, widths, strict=True):
        if first or last:
            lengths.append(n)
            before.append(first)
            longer.append(first + n + last)
        else:
            for merged in (lengths, before, longer):
                merged[-1] *= n
    return lengths, before, longer
