"""Plans of the C++ kernels for convolutions with one or two spatial axes, and for their gradients.

Convolutions with 3x3 taps are done in the domain of Winograd where that pays, those of each channel
by itself by vectors of channels, and all others by adding up what is under each tap.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from gpunet.backend import native
from gpunet.backend.native import Launch, Operand
from gpunet.ops import depthwise_native, winograd_native
from gpunet.ops.convolution_axes import (
    MOST_PHASES,
    backward_axis,
    forward_axis,
    planar,
    plane,
)

_BAND = 64 * 1024  # bytes of the source that a thread works on at a time
_GRAD_BAND = 40 * 1024  # they are read again for each block of the kernel: less than an L1 cache
_GRAD_PLACES = 64  # but so many make up for taking sums out of registers
_LANES = 16  # the widest vector: what is padded to vectors is no longer than to these
_FLOAT = np.dtype(np.float32)


def _fits(operands: Sequence[Operand], spatial: int) -> bool:
    return spatial <= 2 and all(a.dtype == _FLOAT and a.size for a in operands)


def _padded(n):
    return -(-n // _LANES) * _LANES


def forward(
    inputs: list[Operand], outputs: list[Operand], strides, padding, dilation, groups
) -> Launch | None:
    """Plans `conv`."""
    (x, kernel), (y,) = inputs, outputs
    if not _fits((x, kernel, y), len(strides)):
        return None
    attributes = strides, padding, dilation
    if groups == 1 and (launch := winograd_native.correlation(x, kernel, y, *attributes)):
        return launch
    window = kernel.shape[:-2]
    axes = plane(forward_axis, x.shape[1:-1], y.shape[1:-1], window, *attributes)
    channels, filters = kernel.shape[-2], kernel.shape[-1] // groups
    if groups > 1 and channels == 1:
        return depthwise_native.correlation(x, y, axes, window[-1])
    return _correlate(x, y, axes, window[-1], (groups, channels, filters, 0))


def input_grad(
    inputs: list[Operand], outputs: list[Operand], sizes, strides, padding, dilation, groups
) -> Launch | None:
    """Plans `conv_input_grad`."""
    (g, kernel), (gx,) = inputs, outputs
    if not _fits((g, kernel, gx), len(strides)):
        return None
    window = kernel.shape[:-2]
    if groups == 1:
        # Without strides it is a convolution with the kernel turned round.
        spans = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
        around = [(span - b, span - a) for span, (b, a) in zip(spans, padding, strict=True)]
        turned = winograd_native.correlation(
            g, kernel, gx, strides, around, dilation, transposed=True
        )
        if turned:
            return turned
    axes = plane(backward_axis, sizes, g.shape[1:-1], window, strides, padding, dilation)
    channels, filters = kernel.shape[-1] // groups, kernel.shape[-2]
    if groups > 1 and filters == 1:
        return depthwise_native.correlation(g, gx, axes, window[-1])
    return _correlate(g, gx, axes, window[-1], (groups, channels, filters, 1))


def _correlate(x, y, axes, kernel_width, kernel):
    """Plans the correlation that `axes` describe; `kernel` is as the C++ kernel is given it."""
    rows, columns = axes
    if len(rows.phases) * len(columns.phases) > MOST_PHASES:
        return None
    groups, channels, filters, _ = kernel
    images, deep, across = x.shape[0], x.shape[-1], planar(y.shape[1:-1])[1]
    phases, weights, work = [], 0, 0
    for row, column in itertools.product(rows.phases, columns.phases):
        taps, runs, length = _runs(axes, row, column, deep, channels)
        taps = [t * kernel_width + u for t, u in taps]
        start = (row.start * across + column.start) * y.shape[-1]
        head = (row.length, column.length, start, len(runs), length, len(taps))
        phases += [*head, *runs, *taps]
        products = len(taps) * channels * groups * _padded(filters)
        weights += products
        work += column.length * products
    band, grain = axes.bands(images, 4 * axes.wide * deep, work, _BAND)
    source_rows = axes.source_rows(band)
    buffer = source_rows * axes.wide * deep if axes.copied else 0
    steps = (rows.jump * across * y.shape[-1], columns.jump * y.shape[-1])
    sizes = (
        *(images, *planar(x.shape[1:-1]), deep),
        *(rows.before, columns.before, axes.wide, int(axes.copied), *kernel),
        *(band, source_rows, rows.step, columns.step, y.size // images, *steps, grain),
        *(weights, buffer, len(rows.phases) * len(columns.phases), *phases),
    )
    scratch = 4 * (weights + native.runtime().threads * buffer)
    return Launch("conv.correlate", sizes, scratch=scratch)


def _runs(axes, row, column, deep, channels):
    """Returns the taps of two phases, and where their numbers lie: offsets of runs, their length.

    Taps side by side make one run, if all channels of a pixel belong to it.
    """
    taps, pixels = axes.taps(row, column)
    side_by_side = all(b - a == 1 for line in pixels for a, b in itertools.pairwise(line))
    if taps and side_by_side and channels == deep:
        return taps, [line[0] * deep for line in pixels], len(column.taps) * deep
    return taps, [pixel * deep for line in pixels for pixel in line], channels


def kernel_grad(
    inputs: list[Operand], outputs: list[Operand], window, strides, padding, dilation, groups
) -> Launch | None:
    """Plans `conv_kernel_grad`."""
    (x, g), (gk,) = inputs, outputs
    if not _fits((x, g, gk), len(strides)):
        return None
    attributes = strides, padding, dilation
    if groups == 1 and (launch := winograd_native.kernel_grad(x, g, window, *attributes)):
        return launch
    axes = plane(forward_axis, x.shape[1:-1], g.shape[1:-1], window, *attributes)
    channels, filters = gk.shape[-2], gk.shape[-1] // groups
    if groups > 1 and channels == 1:
        return depthwise_native.kernel_grad(x, g, axes)
    rows, columns = axes
    images, deep, (down, across) = x.shape[0], x.shape[-1], planar(g.shape[1:-1])
    _, runs, length = _runs(axes, rows.phases[0], columns.phases[0], deep, channels)
    wide = groups * _padded(filters)
    row_bytes = 4 * (axes.wide * deep * rows.step + across * wide)
    work = across * len(runs) * length * wide
    band, grain = axes.bands(images, row_bytes, work, _GRAD_BAND, -(-_GRAD_PLACES // across))
    source_rows = axes.source_rows(band)
    x_buffer = source_rows * axes.wide * deep if axes.copied else 0
    g_buffer = band * across * wide
    sizes = (
        *(images, *planar(x.shape[1:-1]), deep),
        *(rows.before, columns.before, axes.wide, int(axes.copied)),
        *(groups, channels, filters, down, across, band, source_rows, rows.step, columns.step),
        *(grain, x_buffer, g_buffer, len(runs), length, *runs),
    )
    own = len(runs) * length * wide + x_buffer + g_buffer
    return Launch("conv.kernel_grad", sizes, scratch=4 * native.runtime().threads * own)
