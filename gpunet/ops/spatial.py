"""What convolution and pooling share: their arguments, padding, and where a window's taps fall.

In here the layout is `(batch, *spatial, channels)`, and an entry of a tuple is for a spatial axis.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

from gpunet.config import standardize_data_format
from gpunet.core.tensor import Tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.shape import transpose_primitive

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
PADDINGS = ("valid", "same")


def per_axis(value: Any, ndim: int, name: str, least: int = 1) -> Sizes:
    """Returns an integer, or one for each spatial axis, as a tuple.

    Raises:
        ArgumentError: If it is anything else, or less than `least`.
    """
    if type(value) is int and value >= least:
        return (value,) * ndim
    try:
        many: Any = value if hasattr(value, "__iter__") else (value,) * ndim
        sizes = tuple([int(n.__index__()) for n in many])
    except (AttributeError, TypeError):
        sizes = ()
    if len(sizes) != ndim or min(sizes, default=least) < least:
        raise ArgumentError(
            f"`{name}` must be an integer of at least {least}, or {ndim} of them: one for each "
            f"spatial axis. {received(**{name: value})}"
        )
    return sizes


def spatial_rank(name: str, x: Tensor) -> int:
    """Returns the number of spatial axes: 1, 2 or 3.

    Raises:
        ShapeError: If the tensor has not 3, 4 or 5 axes.
    """
    ndim = len(x.data.shape)
    if not 3 <= ndim <= 5:
        raise ShapeError(
            f"`{name}` needs inputs with a batch axis, 1 to 3 spatial axes and a channel axis. "
            + received(shape=x.shape)
        )
    return ndim - 2


def checked_padding(padding: Any, choices: tuple[str, ...] = PADDINGS) -> str:
    """Returns the name of a padding in small letters.

    Raises:
        ArgumentError: If it is none of the choices.
    """
    name = padding.lower() if isinstance(padding, str) else padding
    if name not in choices:
        raise ArgumentError(f"`padding` must be one of {choices}. {received(padding=padding)}")
    return name


def channels_last(data_format: str | None, x: Tensor) -> tuple[Tensor, bool]:
    """Returns the tensor with its channels last, and whether they had been first."""
    if data_format != "channels_last" and standardize_data_format(data_format) != "channels_last":
        ndim = len(x.shape)
        return transpose_primitive(x, axes=(0, *range(2, ndim), 1)), True
    return x, False


def channels_back(y: Tensor, moved: bool) -> Tensor:
    """Undoes `channels_last` for a result."""
    ndim = len(y.shape)
    return transpose_primitive(y, axes=(0, ndim - 1, *range(1, ndim - 1))) if moved else y


@functools.lru_cache(maxsize=4096)
def pads(padding: str, sizes: Sizes, window: Sizes, strides: Sizes, dilation: Sizes) -> Pads:
    """Returns how much a padding of this name adds before and after each spatial axis.

    `"same"` gives `ceil(size / stride)` places, with the odd one of the padding at the end;
    `"causal"` puts all of it before.
    """
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    both = []
    for n, k, s, d in zip(sizes, window, strides, dilation, strict=True):
        span = (k - 1) * d
        total = span if padding == "causal" else max((-(-n // s) - 1) * s + span + 1 - n, 0)
        before = total if padding == "causal" else total // 2
        both.append((before, total - before))
    return tuple(both)


@functools.lru_cache(maxsize=4096)
def places(sizes: Sizes, window: Sizes, strides: Sizes, padding: Pads, dilation: Sizes) -> Sizes:
    """Returns how many places a window has along each spatial axis; 0 where it does not fit."""
    return tuple(
        [
            max((n + before + after - (k - 1) * d - 1) // s + 1, 0)
            for n, k, s, (before, after), d in zip(
                sizes, window, strides, padding, dilation, strict=True
            )
        ]
    )


def tap_range(size: int, count: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Slices of the places and of the inputs that one tap joins along one axis.

    The tap reads input `place * stride + offset`; places where that is outside are left out.
    """
    first = max(-(offset // stride), 0)  # offset + stride * first >= 0
    last = min((size - 1 - offset) // stride, count - 1)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last + 1), slice(start, (last - first) * stride + start + 1, stride)


def taps(
    sizes: Sizes, counts: Sizes, window: Sizes, strides: Sizes, padding: Pads, dilation: Sizes
) -> Iterator[tuple[Sizes, tuple, tuple]]:
    """Yields each tap of a window: its index, and its slices of the results and of the inputs.

    The order is that of the kernel in memory, the last axis fastest.
    """
    ranges = [
        [tap_range(n, c, t * d - before, s) for t in range(k)]
        for n, c, k, s, (before, _), d in zip(
            sizes, counts, window, strides, padding, dilation, strict=True
        )
    ]
    every = slice(None)
    for index in itertools.product(*map(range, window)):
        here = [ranges[axis][t] for axis, t in enumerate(index)]
        yield index, (every, *[a for a, _ in here]), (every, *[b for _, b in here])
