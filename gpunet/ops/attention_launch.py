"""How the attention kernels are launched: the `cuda` rules of `attention` and its gradient.

float32 runs `attention.cu`, halves run `attention_tensor_core.cu`; both know widths that are a
multiple of 8, up to 128. `has_kernel` tells what they take; the rest is the array rule's.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.dtypes import BFLOAT16
from gpunet.ops.elementwise_launch import contiguous

_DTYPES = (np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)
_BLOCK = 256
_MAX_BLOCKS = 4096
_MAX_LENGTH = 1 << 30  # the kernels count rows of one head in 32 bits


def has_kernel(q: Any, k: Any, v: Any) -> bool:
    """Returns whether the kernels take these: not empty, and of a dtype and width they know."""
    width = q.shape[3]
    return (
        q.dtype == k.dtype == v.dtype
        and q.dtype in _DTYPES
        and v.shape[3] == width
        and width % 8 == 0
        and 0 < width <= 128
        and bool(q.size and k.size)
        and max(q.shape[1], k.shape[1]) < _MAX_LENGTH
    )


def attention_rule(
    q: Any,
    k: Any,
    v: Any,
    masks: Sequence[Any],
    seed: Any,
    *,
    scale: float,
    causal: bool,
    dropout: float = 0.0,
) -> tuple[Any, Any]:
    """Launches the forward kernel.

    Args:
        q: Array of shape `(B, T, N, W)`.
        k: Array of shape `(B, S, K, W)`, with `N` a multiple of `K`.
        v: Array of the shape of `k`.
        masks: Bool arrays that broadcast to `(B, N, T, S)`; a pair is allowed if all allow it.
        seed: Array of shape `(2,)`, uint32, or `None`: no dropout.
        scale: What scores are multiplied by.
        causal: Whether a query may not attend to later keys.
        dropout: Share of the weights that are dropped.

    Returns:
        The result of shape `(B, T, N, W)`, and the log-sum-exp of each row, `(B, N, T)`, float32.
    """
    batch, length, heads, _ = q.shape
    y = empty(q.shape, q.dtype, like=q)
    lse = empty((batch, heads, length), np.float32, like=q)
    problem = _Problem(q, k, v, masks, seed, scale, dropout, causal)
    problem.launch("attention_forward", (y, lse))
    return y, lse


def attention_grad_rule(
    g: Any,
    g_lse: Any,
    q: Any,
    k: Any,
    v: Any,
    y: Any,
    lse: Any,
    masks: Sequence[Any],
    seed: Any,
    *,
    scale: float,
    causal: bool,
    dropout: float = 0.0,
    atomic: bool = False,
) -> tuple[Any, Any, Any]:
    """Launches the backward kernels: deterministic ones, unless `atomic`.

    Args:
        g: Cotangent of the result.
        g_lse: Cotangent of the log-sum-exp.
        q: As for `attention_rule`, like all arguments that have its names.
        k: As there.
        v: As there.
        y: The result.
        lse: The log-sum-exp of each row.
        masks: As there.
        seed: As there.
        scale: As there.
        causal: As there.
        dropout: As there.
        atomic: Whether `dq` is added up by atomics, by the kernel that computes `dk` and `dv`:
            fewer operations, but its last bits differ between runs.

    Returns:
        The cotangents of `q`, `k` and `v`.
    """
    g, y = _readable(contiguous(g)), _readable(contiguous(y))
    g_lse, lse = (contiguous(x.astype(np.float32, copy=False)) for x in (g_lse, lse))
    delta = empty(lse.shape, np.float32, like=q)
    grid, types = min(ceil_div(lse.size, _BLOCK // 16), _MAX_BLOCKS), (cuda_type(q.dtype), _BLOCK)
    args = (g, y, g_lse, delta, *q.shape)
    launch("attention.cu", "attention_delta", types, grid=grid, block=_BLOCK, args=args)
    problem = _Problem(q, k, v, masks, seed, scale, dropout, causal)
    dk, dv = (empty(x.shape, x.dtype, like=q) for x in (k, v))
    if atomic:
        xp = np if isinstance(q, np.ndarray) else Device("cuda").xp
        total = xp.zeros(q.shape, np.float32)
        results = (g, lse, delta, dk, dv, total)
        problem.launch("attention_backward_atomic", results)
        return total.astype(q.dtype, copy=False), dk, dv
    dq = empty(q.shape, q.dtype, like=q)
    problem.launch("attention_dkdv", (g, lse, delta, dk, dv))
    problem.launch("attention_dq", (g, lse, delta, dq))
    return dq, dk, dv


class _Problem:
    """The operands that all kernels start with, and how each kernel is launched for them."""

    def __init__(self, q, k, v, masks, seed, scale, dropout, causal):
        q, k, v = _readable(q), _readable(k), _readable(v)
        batch, self.queries, heads, width = q.shape
        self.keys, key_heads = k.shape[1:3]
        self.query_heads, self.key_heads = heads * batch, key_heads * batch
        self.dtype, self.padded = q.dtype, next(d for d in (32, 64, 128) if d >= width)
        mask, mask_strides = _mask(masks)
        # Views of one row each: `launch` wants arrays without gaps; the strides tell the rest.
        starts = [*(x[0, 0, 0] for x in (q, k, v)), mask]
        starts.append(None if seed is None else contiguous(seed))
        strides = [n for x in (q, k, v) for n in _strides(x)] + mask_strides
        sizes = (heads, key_heads, self.queries, self.keys, width)
        rate = float(dropout) if seed is not None else 0.0
        self.args = (*starts, *strides, *sizes, float(scale), rate, bool(causal))

    def launch(self, kernel, results):
        of_queries = kernel in ("attention_forward", "attention_dq")
        length, heads = (
            (self.queries, self.query_heads) if of_queries else (self.keys, self.key_heads)
        )
        wide = self.dtype == np.float32
        rows, threads, shared = _plan(kernel, self.padded, wide)
        file = "attention.cu" if wide else "attention_tensor_core.cu"
        template = (self.padded,) if wide else (cuda_type(self.dtype), self.padded)
        grid, args = ceil_div(length, rows) * heads, (*self.args, *results)
        launch(file, kernel, template, grid=grid, block=threads, args=args, shared=shared)


def _plan(kernel, d, wide):
    """Returns a block's rows, threads and bytes of shared memory, for tiles of `d` columns.

    The header of each kernel says the same.
    """
    forward, atomic = kernel == "attention_forward", kernel == "attention_backward_atomic"
    if wide:
        scores = 32 if kernel == "attention_dq" else 64
        return (64 if forward else 32), 256, 4 * (128 * (d + 4) + scores * 36)
    step = 64 if d < 128 else 16 if atomic else 32
    shared = 2 * d * (128 + 4 * step) + (128 * step if atomic else 0)
    return (128 if forward else 64), 128, shared


def _readable(x):
    """Returns an operand as the kernels read it: rows without gaps, aligned to 16 bytes."""
    address = x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr
    steps = [s for s, n in zip(x.strides[:3], x.shape[:3], strict=True) if n > 1]
    aligned = not any(n % 16 for n in (address, *steps))
    return x if aligned and x.strides[3] == x.itemsize else x.copy(order="C")


def _strides(x):
    """Returns the strides of batch, row and head, in elements."""
    batch, row, head, _ = (s // x.itemsize for s in x.strides)
    return batch, row, head


def _mask(masks):
    """Returns the first row of all masks together, and the strides: 0 where it is broadcast."""
    if not masks:
        return None, [0] * 4
    mask = functools.reduce(operator.and_, masks)
    if mask.shape[3] > 1 and mask.strides[3] != 1:
        mask = mask.copy(order="C")
    strides = [s if n > 1 else 0 for s, n in zip(mask.strides, mask.shape, strict=True)]
    return mask[0, 0, 0], strides
