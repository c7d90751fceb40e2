"""Plans of the C++ kernels for convolutions of 3x3 taps in the domain of Winograd.

They take a quarter of the multiplications, and transforms whose time does not depend on how many
filters share a tile: they pay where there are many channels, and tiles that hardly overhang.
"""

import math

from gpunet.backend import native
from gpunet.backend.native import Launch, Operand

_CACHE = 1 << 18  # bytes of tiles that a thread works on at a time: little of an L2 cache
_LEAST = 16  # tiles that make up for the transform of the kernel
_OVERHANG = 1.6  # places of the tiles for one of the results
_LANES = 16


def _tiles(places):
    return math.prod(-(-n // 4) for n in places)


def _pays(sizes, window, strides, dilation, channels, filters, images):
    """Whether a convolution with results of these sizes should be done here."""
    if tuple(window) != (3, 3) or set(strides) | set(dilation) != {1}:
        return False
    if channels % _LANES or filters % _LANES or min(sizes) < 3:
        return False
    tiles = _tiles(sizes)
    return tiles * images >= _LEAST and 16 * tiles <= _OVERHANG * math.prod(sizes)


def _tiles_at_once(channels, filters):
    """Tiles of a convolution: a multiple of the 14 rows of a block of products."""
    return max(1, _CACHE // (4 * 36 * 14 * (channels + filters))) * 14


def correlation(
    x: Operand, kernel: Operand, y: Operand, strides, padding, dilation, transposed: bool = False
) -> Launch | None:
    """Plans a convolution, or with `transposed` one whose kernel is turned round."""
    channels, filters, sizes = x.shape[-1], y.shape[-1], y.shape[1:-1]
    if not _pays(sizes, kernel.shape[:-2], strides, dilation, channels, filters, x.shape[0]):
        return None
    block = _tiles_at_once(channels, filters)
    (top, _), (left, _) = padding
    sizes = (*x.shape, *sizes, filters, top, left, int(transposed), block)
    own = 36 * (2 * block * max(channels, filters) + 2 * _LANES + channels)
    scratch = 4 * (36 * channels * filters + native.runtime().threads * own)
    return Launch("winograd.correlate", sizes, scratch=scratch)


def kernel_grad(x: Operand, g: Operand, window, strides, padding, dilation) -> Launch | None:
    """Plans the gradient of a convolution by its kernel."""
    channels, filters, sizes = x.shape[-1], g.shape[-1], g.shape[1:-1]
    if not _pays(sizes, window, strides, dilation, channels, filters, x.shape[0]):
        return None
    block = max(40, _CACHE // (4 * 36 * (channels + filters)))
    (top, _), (left, _) = padding
    own = 36 * (channels * filters + (block + 1) * (channels + filters) + 2 * _LANES)
    sizes = (*x.shape, *sizes, filters, top, left, block)
    return Launch("winograd.kernel_grad", sizes, scratch=4 * native.runtime().threads * own)
