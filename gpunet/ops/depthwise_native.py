"""Plans of the C++ kernels for depthwise convolutions and their gradients."""

import itertools

from gpunet.backend import native
from gpunet.backend.native import Launch, Operand
from gpunet.ops.convolution_axes import MOST_PHASES, Plane, planar

_BAND = 64 * 1024  # bytes of the source that a thread works on at a time
_DEEP = 16  # channels are padded to a multiple of this


def _source(x, axes, times):
    """What the C++ kernels know of a source, and how many channels its copy has."""
    filled = x.shape[-1] * times
    deep = -(-filled // _DEEP) * _DEEP
    copied = axes.copied or times > 1 or deep != filled
    size = (x.shape[0], *planar(x.shape[1:-1]), x.shape[-1], times)
    return (*size, axes.rows.before, axes.columns.before, axes.wide, int(copied)), deep, copied


def correlation(x: Operand, y: Operand, axes: Plane, kernel_width: int) -> Launch | None:
    """Plans a depthwise convolution of `x`, or a gradient by inputs from cotangents `x`."""
    rows, columns = axes
    if len(rows.phases) * len(columns.phases) > MOST_PHASES:
        return None
    times, joined = max(1, y.shape[-1] // x.shape[-1]), max(1, x.shape[-1] // y.shape[-1])
    source, deep, copied = _source(x, axes, times)
    across = planar(y.shape[1:-1])[1]
    phases, weights, work = [], 0, 0
    for row, column in itertools.product(rows.phases, columns.phases):
        taps, pixels = axes.taps(row, column)
        offsets = [pixel * deep for line in pixels for pixel in line]
        taps = [t * kernel_width + u for t, u in taps]
        start = (row.start * across + column.start) * y.shape[-1]
        phases += [row.length, column.length, start, len(offsets), 1, len(taps), *offsets, *taps]
        weights += len(taps) * deep
        work += column.length * len(taps) * deep
    band, grain = axes.bands(x.shape[0], 4 * axes.wide * deep, work, _BAND)
    source_rows = axes.source_rows(band)
    buffer = source_rows * axes.wide * deep if copied else 0
    apart = max(p.length for p in columns.phases) * deep if joined > 1 else 0
    steps = (rows.jump * across * y.shape[-1], columns.jump * y.shape[-1])
    sizes = (
        *(*source, joined, band, source_rows, rows.step, columns.step),
        *(y.size // y.shape[0], *steps, grain),
        *(weights, buffer, apart, len(rows.phases) * len(columns.phases), *phases),
    )
    scratch = 4 * (weights + native.runtime().threads * (buffer + apart))
    return Launch("depthwise.correlate", sizes, scratch=scratch)


def kernel_grad(x: Operand, g: Operand, axes: Plane) -> Launch | None:
    """Plans the gradient of a depthwise convolution by its kernel."""
    rows, columns = axes
    source, deep, copied = _source(x, axes, g.shape[-1] // x.shape[-1])
    _, pixels = axes.taps(rows.phases[0], columns.phases[0])
    offsets = [pixel * deep for line in pixels for pixel in line]
    down, across = planar(g.shape[1:-1])
    row_bytes = 4 * deep * (axes.wide * rows.step + across)
    band, grain = axes.bands(x.shape[0], row_bytes, across * len(offsets) * deep, _BAND)
    source_rows = axes.source_rows(band)
    x_size = source_rows * axes.wide * deep if copied else 0
    g_size = band * across * deep if deep != g.shape[-1] else 0
    sizes = (
        *(*source, down, across, band, source_rows, rows.step, columns.step),
        *(grain, x_size, g_size, len(offsets), *offsets),
    )
    own = len(offsets) * deep + x_size + g_size
    return Launch("depthwise.kernel_grad", sizes, scratch=4 * native.runtime().threads * own)
