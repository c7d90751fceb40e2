"""Depthwise convolution on arrays: each channel by itself, tap by tap, for a few samples at a time.

A matrix product would have one column here; adding scaled slices is faster. The kernel has the
shape `(*window, 1, c * m)`: `m` results for each of the `c` input channels, side by side.
"""

import math
from typing import Any

from gpunet.ops.im2col import samples_at_once
from gpunet.ops.spatial import Pads, Sizes, places, taps


def _blocks(xp, n, counts, channels, x):
    step = samples_at_once(xp, math.prod(counts) * channels * x.dtype.itemsize, n)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def forward(xp: Any, x: Any, kernel: Any, strides: Sizes, padding: Pads, dilation: Sizes) -> Any:
    """The convolution: the sum of the inputs under each tap, times its row of the kernel."""
    window, o = kernel.shape[:-2], kernel.shape[-1]
    sizes = x.shape[1:-1]
    counts = places(sizes, window, strides, padding, dilation)
    if o != x.shape[-1]:
        x = xp.repeat(x, o // x.shape[-1], -1)
    y = xp.zeros((x.shape[0], *counts, o), x.dtype)
    joins = list(taps(sizes, counts, window, strides, padding, dilation))
    for block in _blocks(xp, x.shape[0], counts, o, x):
        x_block, y_block = x[block], y[block]
        for index, results, inputs in joins:
            y_block[results] += x_block[inputs] * kernel[index]
    return y


def input_grad(
    xp: Any,
    g: Any,
    kernel: Any,
    sizes: Sizes,
    strides: Sizes,
    padding: Pads,
    dilation: Sizes,
    channels: int,
) -> Any:
    """Gradient by the inputs: the cotangents times each row of the kernel, added where it read."""
    window, o = kernel.shape[:-2], kernel.shape[-1]
    counts = g.shape[1:-1]
    gx = xp.zeros((g.shape[0], *sizes, o), g.dtype)
    joins = list(taps(sizes, counts, window, strides, padding, dilation))
    for block in _blocks(xp, g.shape[0], counts, o, g):
        g_block, gx_block = g[block], gx[block]
        for index, results, inputs in joins:
            gx_block[inputs] += g_block[results] * kernel[index]
    if o == channels:
        return gx
    m = o // channels  # each channel gets what its results, side by side, gave
    return sum([gx[..., i::m] for i in range(1, m)], start=gx[..., ::m])


def kernel_grad(
    xp: Any, x: Any, g: Any, window: Sizes, strides: Sizes, padding: Pads, dilation: Sizes
) -> Any:
    """Gradient by the kernel: for each tap, the sum of inputs times cotangents."""
    sizes, counts, o = x.shape[1:-1], g.shape[1:-1], g.shape[-1]
    if o != x.shape[-1]:
        x = xp.repeat(x, o // x.shape[-1], -1)
    total = xp.zeros((*window, 1, o), x.dtype)
    joins = list(taps(sizes, counts, window, strides, padding, dilation))
    for block in _blocks(xp, x.shape[0], counts, o, x):
        x_block, g_block = x[block], g[block]
        ones = xp.ones(g_block.size // o if o else 0, x.dtype)
        for index, results, inputs in joins:
            product = x_block[inputs] * g_block[results]
            rows = math.prod(product.shape[:-1])
            # A product with ones: BLAS sums columns several times faster than NumPy.
            total[index] += ones[:rows].dot(product.reshape(rows, o))
    return total
