"""How random kernels are launched: the `cuda` rules of `gpunet/ops/random.py`."""

from typing import Any

import numpy as np

from gpunet.backend.kernels import cuda_type, empty, empty_like, launch
from gpunet.dtypes import numpy_dtype
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for, vector_width
from gpunet.ops.index_launch import gather
from gpunet.ops.scatter_launch import sort_places


def _draw(kernel, seed, shape, dtype, each, *settings):
    seed = contiguous(seed)
    y = empty(shape, numpy_dtype(dtype), like=seed)
    types, grid = (cuda_type(y.dtype), BLOCK), grid_for(y.size, each)
    args = (seed, y, y.size, *settings)
    launch("random.cu", kernel, types, grid=grid, block=BLOCK, args=args)
    return y


def _numbers(dtype):
    """How many uniform numbers a block of random bits makes."""
    return 4 if numpy_dtype(dtype) == np.float64 else 8


def uniform_rule(seed: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The `cuda` rule of `random_uniform`."""
    return _draw("random_uniform", seed, shape, dtype, _numbers(dtype))


def normal_rule(seed: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The `cuda` rule of `random_normal`."""
    return _draw("random_normal", seed, shape, dtype, 2 * _numbers(dtype))


def truncated_normal_rule(seed: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The `cuda` rule of `random_truncated_normal`."""
    return _draw("random_truncated_normal", seed, shape, dtype, _numbers(dtype))


def integers_rule(seed: Any, shape: tuple[int, ...], dtype: Any, low: int, high: int) -> Any:
    """The `cuda` rule of `random_integers`."""
    bounds = np.float64(low), np.float64(high) - np.float64(low)
    return _draw("random_integers", seed, shape, dtype, 4, *bounds)


def permutation_rule(seed: Any, length: int) -> Any:
    """The `cuda` rule of `random_permutation`: sorts the 53 bits of each number, low ones first."""
    seed = contiguous(seed)
    low, high = (empty((length,), np.uint32, like=seed) for _ in range(2))
    args, grid = (seed, low, high, length), grid_for(length, 4)
    launch("random.cu", "random_keys", (BLOCK,), grid=grid, block=BLOCK, args=args)
    _, order = sort_places(low, 2**32)
    _, order = sort_places(gather(high, order, 0, 1, high.shape), 2**21, order)
    return order.view(np.int32)


def dropout_rule(x: Any, seed: Any, rate: float, shape: tuple[int, ...]) -> Any:
    """The `cuda` rule of `dropout`."""
    if shape != x.shape:  # one number for many elements: there are few of them
        keep = uniform_rule(seed, shape, np.float32) >= np.float32(rate)
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
        return (wide * keep * (1 / (1 - rate))).astype(x.dtype)
    x, seed = contiguous(x), contiguous(seed)
    y = empty_like(x)
    aligned = vector_width(x, y) > 1
    args = (x, seed, y, x.size, float(rate), 1.0 / (1.0 - rate), aligned)
    types, grid = (cuda_type(x.dtype), BLOCK), grid_for(x.size, 8)
    launch("random.cu", "dropout", types, grid=grid, block=BLOCK, args=args)
    return y
