"""Convolution on arrays, NumPy and CuPy alike: columns of patches, and one matrix product.

Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing",
2006. The columns of a few samples at a time are made, so that they stay in the cache (CPU) or do
not fill the memory (GPU). All arrays are contiguous or not, channels last, float32 or float64.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

from gpunet.ops.spatial import Pads, Sizes, places, taps

_CACHE = 1 << 20  # bytes of columns at a time: half of a common L2 cache
_MEMORY = 1 << 28  # the same on a GPU


def samples_at_once(xp: Any, sample_bytes: int, batch: int) -> int:
    """Returns how many samples to work on at a time, so that blocks have nearly equal sizes."""
    budget = _CACHE if xp.__name__ == "numpy" else _MEMORY
    most = max(budget // max(sample_bytes, 1), 1)
    return -(-batch // -(-batch // most)) if batch else 1


def _windows(xp: Any, x: Any, window: Sizes, counts: Sizes, strides: Sizes, dilation: Sizes) -> Any:
    """A view of shape `(batch, *counts, *window, channels)`."""
    n, c = x.shape[0], x.shape[-1]
    steps = x.strides[1:-1]
    outer = [a * s for a, s in zip(steps, strides, strict=True)]
    inner = [a * d for a, d in zip(steps, dilation, strict=True)]
    shape, moves = (n, *counts, *window, c), (x.strides[0], *outer, *inner, x.strides[-1])
    return xp.lib.stride_tricks.as_strided(x, shape, moves)


def columns(
    xp: Any, x: Any, window: Sizes, strides: Sizes, padding: Pads, dilation: Sizes
) -> Iterator[tuple[slice, Any]]:
    """Yields blocks of rows of the results, and the patches that they are made of as a matrix."""
    n, sizes, c = x.shape[0], x.shape[1:-1], x.shape[-1]
    counts = places(sizes, window, strides, padding, dilation)
    rows, width = math.prod(counts), math.prod(window) * c
    step = samples_at_once(xp, rows * width * x.dtype.itemsize, n)
    patches = xp.empty((step, *counts, *window, c), x.dtype)
    padded = any(before or after for before, after in padding)
    inside, source, whole = _placement(sizes, padding)
    block = xp.zeros((step, *whole, c), x.dtype) if padded else x
    view = _windows(xp, block, window, counts, strides, dilation)
    for start in range(0, n, step):
        stop = min(start + step, n)
        m = stop - start
        if padded:
            block[:m][inside] = x[start:stop][source]
        patches[:m] = view[:m] if padded else view[start:stop]
        yield slice(start * rows, stop * rows), patches[:m].reshape(m * rows, width)


@functools.lru_cache(maxsize=1024)
def _placement(sizes, padding):
    """Where the inputs lie in the padded array, which of them; negative padding cuts."""
    every = slice(None)
    inside, source, whole = [every], [every], []
    for n, (before, after) in zip(sizes, padding, strict=True):
        inside.append(slice(max(before, 0), max(before, 0) + n + min(before, 0) + min(after, 0)))
        source.append(slice(max(-before, 0), n - max(-after, 0)))
        whole.append(n + before + after)
    return tuple(inside), tuple(source), tuple(whole)


def _is_pointwise(window, strides, padding):
    return (
        all(k == 1 for k in window)
        and all(s == 1 for s in strides)
        and not any(before or after for before, after in padding)
    )


def forward(xp: Any, x: Any, kernel: Any, strides: Sizes, padding: Pads, dilation: Sizes) -> Any:
    """Convolution with one group: `(n, *sizes, c)` with `(*window, c, o)`."""
    window, (c, o) = kernel.shape[:-2], kernel.shape[-2:]
    counts = places(x.shape[1:-1], window, strides, padding, dilation)
    shape = (x.shape[0], *counts, o)
    matrix = kernel.reshape(math.prod(window) * c, o)
    if _is_pointwise(window, strides, padding):
        return x.reshape(math.prod(shape[:-1]), c).dot(matrix).reshape(shape)
    y = xp.empty((math.prod(shape[:-1]), o), x.dtype)
    if y.size:
        for rows, patches in columns(xp, x, window, strides, padding, dilation):
            xp.matmul(patches, matrix, out=y[rows])
    return y.reshape(shape)


def kernel_grad(
    xp: Any, x: Any, g: Any, window: Sizes, strides: Sizes, padding: Pads, dilation: Sizes
) -> Any:
    """Gradient by the kernel, with one group: the transposed patches times the cotangent."""
    c, o = x.shape[-1], g.shape[-1]
    flat = g.reshape(math.prod(g.shape[:-1]), o)
    if _is_pointwise(window, strides, padding):
        return x.reshape(flat.shape[0], c).T.dot(flat).reshape(*window, c, o)
    total = xp.zeros((math.prod(window) * c, o), x.dtype)
    if g.size:
        for rows, patches in columns(xp, x, window, strides, padding, dilation):
            total += patches.T.dot(flat[rows])
    return total.reshape(*window, c, o)


def input_grad(
    xp: Any, g: Any, kernel: Any, sizes: Sizes, strides: Sizes, padding: Pads, dilation: Sizes
) -> Any:
    """Gradient by the inputs, with one group.

    With strides of 1 it is a convolution of the cotangent with the kernel turned around; else each
    tap of the kernel makes a product that is added where the tap had read.
    """
    window, (c, o) = kernel.shape[:-2], kernel.shape[-2:]
    n, counts = g.shape[0], g.shape[1:-1]
    if _is_pointwise(window, strides, padding):
        flat = g.reshape(math.prod(g.shape[:-1]), o)
        return flat.dot(kernel.reshape(c, o).T).reshape(n, *sizes, c)
    if all(s == 1 for s in strides) and o <= 2 * c:
        flip = (slice(None, None, -1),) * len(window)
        turned = kernel[flip].swapaxes(-1, -2)
        around = []
        for size, count, k, (before, _), d in zip(
            sizes, counts, window, padding, dilation, strict=True
        ):
            lead = (k - 1) * d - before
            around.append((lead, size + (k - 1) * d - count - lead))
        return forward(xp, g, turned, strides, tuple(around), dilation)
    gx = xp.zeros((n, *sizes, c), g.dtype)
    rows = math.prod(counts)
    step = samples_at_once(xp, rows * (c + o) * g.dtype.itemsize, n)
    turned = xp.ascontiguousarray(kernel.swapaxes(-1, -2))
    joins = list(taps(sizes, counts, window, strides, padding, dilation))
    for start in range(0, n, step):
        stop = min(start + step, n)
        flat = g[start:stop].reshape((stop - start) * rows, o)
        block = gx[start:stop]
        for index, results, inputs in joins:
            part = flat.dot(turned[index]).reshape(stop - start, *counts, c)
            block[inputs] += part[results]
    return gx
