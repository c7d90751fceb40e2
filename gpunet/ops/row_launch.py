"""How kernels that work row by row are launched: softmax, cross-entropy, normalisations."""

from collections.abc import Callable
from typing import Any

from gpunet.backend.kernels import cuda_type, empty, empty_like, launch
from gpunet.dtypes import numpy_dtype
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for
from gpunet.ops.reduce_launch import accumulate_dtype, reduction_rule

MAX_ROWS_AT_ONCE = 65535


def block_for(columns: int) -> int:
    """Returns how many threads work on a row: one warp for short rows, up to 1024 for long ones."""
    for block in (32, 128, 256):
        if columns <= 4 * block:
            return block
    return 1024


def softmax_rule(kernel: str, log: bool) -> Callable:
    """Returns the `cuda` rule of `softmax`, `log_softmax` or their gradients.

    Args:
        kernel: `"softmax_forward"` or `"softmax_backward"`.
        log: Whether it is that of the log-softmax.
    """

    def rule(*arrays, axis):
        moved = [_last(x, axis) for x in arrays]
        x = moved[0]
        y = empty_like(x)
        columns = x.shape[-1]
        rows = x.size // columns if columns else 0
        block = block_for(columns)
        types = (cuda_type(x.dtype), log, block)
        grid = min(rows, MAX_ROWS_AT_ONCE)
        launch("softmax.cu", kernel, types, grid=grid, block=block, args=(*moved, y, rows, columns))
        return y if axis == y.ndim - 1 else y.swapaxes(axis, -1)

    return rule


def _last(x: Any, axis: int) -> Any:
    """Returns `x` with an axis swapped to the end, contiguous."""
    return contiguous(x if axis == x.ndim - 1 else x.swapaxes(axis, -1))


# -- cross-entropy ------------------------------------------------------------------------------


def cross_entropy_rule(logits: Any, labels: Any) -> tuple[Any, Any]:
    """The `cuda` rule of `softmax_cross_entropy`."""
    x, labels = contiguous(logits), contiguous(labels)
    rows, columns = _table(x)
    loss = empty(x.shape[:-1], x.dtype, like=x)
    lse = empty(x.shape[:-1], accumulate_dtype(x.dtype), like=x)
    block = block_for(columns)
    types = (cuda_type(x.dtype), cuda_type(labels.dtype), block)
    args, grid = (x, labels, loss, lse, rows, columns), min(rows, MAX_ROWS_AT_ONCE)
    name = "softmax_cross_entropy_forward"
    launch("cross_entropy.cu", name, types, grid=grid, block=block, args=args)
    return loss, lse


def cross_entropy_grad_rule(g: Any, g_lse: Any, logits: Any, labels: Any, lse: Any) -> Any:
    """The `cuda` rule of `softmax_cross_entropy_grad`."""
    arrays = [contiguous(a) for a in (g, g_lse, logits, labels, lse)]
    x, dx = arrays[2], empty_like(arrays[2])
    types = (cuda_type(x.dtype), cuda_type(arrays[3].dtype), BLOCK)
    args, grid = (*arrays, dx, *_table(x)), grid_for(x.size)
    name = "softmax_cross_entropy_backward"
    launch("cross_entropy.cu", name, types, grid=grid, block=BLOCK, args=args)
    return dx


def _table(x):
    columns = x.shape[-1]
    return (x.size // columns if columns else 0), columns


# -- layer normalisation ------------------------------------------------------------------------

_MAX_PARTIALS = 256  # blocks that add up rows; their sums are added by a second kernel


def layer_norm_rule(x: Any, scale: Any, offset: Any, *, epsilon: float) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `layer_norm`."""
    x, scale, offset = contiguous(x), contiguous(scale), contiguous(offset)
    rows, columns = _table(x)
    statistics = accumulate_dtype(x.dtype)
    y = empty_like(x)
    mean, rstd = (empty(x.shape[:-1], statistics, like=x) for _ in range(2))
    block = block_for(columns)
    args = (x, scale, offset, y, mean, rstd, rows, columns, float(epsilon))
    types, grid = (cuda_type(x.dtype), block), min(rows, MAX_ROWS_AT_ONCE)
    launch("norm.cu", "layer_norm_forward", types, grid=grid, block=block, args=args)
    return y, mean, rstd


def layer_norm_grad_rule(g, g_mean, g_rstd, x, scale, mean, rstd) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `layer_norm_grad`."""
    arrays = [contiguous(a) for a in (g, g_mean, g_rstd, x, scale, mean, rstd)]
    x, scale = arrays[3], arrays[4]
    rows, columns = _table(x)
    dx = empty_like(x)
    blocks = max(1, min(rows, _MAX_PARTIALS))
    shape = (blocks, columns)
    partials = [empty(shape, accumulate_dtype(x.dtype), like=x) for _ in range(2)]
    block = block_for(columns)
    args = (*arrays, dx, *partials, rows, columns)
    types = (cuda_type(x.dtype), block)
    launch("norm.cu", "layer_norm_backward", types, grid=blocks, block=block, args=args)
    dscale, doffset = (
        reduction_rule("Sum", lambda _, dtype=dtype: dtype)(p, (0,), False)
        for p, dtype in zip(partials, (scale.dtype, x.dtype), strict=True)
    )
    return dx, dscale, doffset


# -- random numbers -----------------------------------------------------------------------------


def uniform_rule(seed: Any, *, shape: tuple[int, ...], dtype: Any) -> Any:
    """The `cuda` rule of `random_uniform`: float32 or float64 draws."""
    seed = contiguous(seed)
    y = empty(shape, numpy_dtype(dtype), like=seed)
    wide = y.dtype.itemsize == 8
    kernel, each = ("random_uniform_double", 4) if wide else ("random_uniform", 8)
    args, grid = (seed, y, y.size), grid_for(y.size, each)
    launch("random.cu", kernel, (BLOCK,), grid=grid, block=BLOCK, args=args)
    return y


def dropout_rule(x: Any, seed: Any, *, rate: float) -> Any:
    """The `cuda` rule of `dropout`."""
    x, seed = contiguous(x), contiguous(seed)
    y = empty_like(x)
    args = (x, seed, y, x.size, float(rate), 1.0 / (1.0 - rate))
    types, grid = (cuda_type(x.dtype), BLOCK), grid_for(x.size, 8)
    launch("random.cu", "dropout", types, grid=grid, block=BLOCK, args=args)
    return y
