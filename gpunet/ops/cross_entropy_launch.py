"""How the cross-entropy kernels are launched."""

from typing import Any

import numpy as np

from gpunet.backend.kernels import cuda_type, empty, empty_like, launch
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for, vector_width
from gpunet.ops.reduce_launch import accumulate_dtype
from gpunet.ops.row_plan import RowPlan, row_vector, statistics, table

_FILE = "cross_entropy.cu"
# Bytes of logits that a block keeps: no GPU from sm_80 on gives a block less than 99 KiB of shared
# memory, and a data-centre GPU gives that to two at once.
_KEPT = 98 * 1024 + 512


def _plan(columns, *arrays):
    """A warp or 512 threads for a row, which need not fit registers.

    All kernels of integer labels have the same plan, so that they sum in the same order.
    """
    vector = row_vector(columns, *arrays)
    return RowPlan(vector, 0, 32, 128) if columns <= 1024 else RowPlan(vector, 0, 512, 512)


def _launch(kernel, types, plan, rows, args, shared=0):
    types, grid = (*types, plan.vector, plan.width, plan.block), plan.grid(rows)
    launch(_FILE, kernel, types, grid=grid, block=plan.block, args=args, shared=shared)


def _index(labels):
    """Returns labels as the kernels take them: int32 or int64, so that few are compiled."""
    labels = contiguous(labels)
    return labels if labels.dtype in (np.int32, np.int64) else labels.astype(np.int64)


def _settings(ignore_index, label_smoothing):
    ignored = 0 if ignore_index is None else int(ignore_index)
    return ignore_index is not None, ignored, float(label_smoothing)


def sparse_rule(
    logits: Any, labels: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> tuple[Any, Any]:
    """The `cuda` rule of `softmax_cross_entropy`."""
    x, labels = contiguous(logits), _index(labels)
    rows, columns = table(x)
    loss, lse = _losses(x)
    plan = _plan(columns, x)
    types = (cuda_type(x.dtype), cuda_type(labels.dtype))
    args = (x, labels, loss, lse, rows, columns, *_settings(ignore_index, label_smoothing))
    _launch("softmax_cross_entropy_forward", types, plan, rows if columns else 0, args)
    return loss, lse


def _losses(x):
    """Returns arrays for `loss` and `lse`; of no classes they are 0."""
    shape = x.shape[:-1]
    loss, lse = empty(shape, x.dtype, like=x), empty(shape, accumulate_dtype(x.dtype), like=x)
    if not x.size:
        loss.fill(0)
        lse.fill(0)
    return loss, lse


def sparse_grad_rule(
    g: Any,
    g_lse: Any,
    logits: Any,
    labels: Any,
    lse: Any,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    out: Any = None,
) -> Any:
    """The `cuda` rule of `softmax_cross_entropy_grad`.

    Args:
        g: Cotangent of the loss, `(R,)`.
        g_lse: Cotangent of `lse`, `(R,)`.
        logits: `(R, C)`.
        labels: `(R,)`, integers.
        lse: `(R,)`, as the forward kernel gave it.
        ignore_index: Label of rows whose loss is 0.
        label_smoothing: 0 to 1.
        out: Array for the result: C-contiguous, of the shape and dtype of the logits. It may be
            `logits` itself, whose memory is then written over.
    """
    x, labels = contiguous(logits), _index(labels)
    g, g_lse, lse = contiguous(g), statistics(g_lse, x), statistics(lse, x)
    dx = empty_like(x) if out is None else out
    rows, columns = table(x)
    types = (cuda_type(x.dtype), cuda_type(labels.dtype))
    settings = _settings(ignore_index, label_smoothing)
    args = (g, g_lse, x, labels, lse, dx, rows, columns, *settings)
    _launch("softmax_cross_entropy_backward", types, _plan(columns, x, dx), rows, args)
    return dx


def sparse_with_grad_rule(
    logits: Any,
    labels: Any,
    scale: Any,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    out: Any = None,
) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `softmax_cross_entropy_with_grad`.

    Args:
        logits: `(R, C)`.
        labels: `(R,)`, integers.
        scale: Cotangent of each loss, `()`.
        ignore_index: Label of rows whose loss is 0.
        label_smoothing: 0 to 1.
        out: Array for the gradient: C-contiguous, of the shape and dtype of the logits. It may be
            `logits` itself, whose memory is then written over.
    """
    x, labels, scale = contiguous(logits), _index(labels), statistics(scale, logits)
    dx = empty_like(x) if out is None else out
    rows, columns = table(x)
    loss, lse = _losses(x)
    plan = _plan(columns, x, dx)
    each = plan.block // plan.width * x.dtype.itemsize  # bytes of a column of a block's rows
    kept = min(columns, _KEPT // each // plan.vector * plan.vector)
    types = (cuda_type(x.dtype), cuda_type(labels.dtype))
    settings = _settings(ignore_index, label_smoothing)
    args = (x, labels, scale, loss, lse, dx, rows, columns, kept, *settings)
    kernel = "softmax_cross_entropy_with_gradient"
    _launch(kernel, types, plan, rows if columns else 0, args, shared=each * kept)
    return loss, lse, dx


def dense_rule(logits: Any, target: Any, *, label_smoothing: float = 0.0) -> tuple[Any, Any]:
    """The `cuda` rule of `dense_cross_entropy`."""
    x, target = contiguous(logits), contiguous(target)
    rows, columns = table(x)
    loss, lse = _losses(x)
    args = (x, target, loss, lse, rows, columns, float(label_smoothing))
    types, plan = (cuda_type(x.dtype),), _plan(columns, x, target)
    _launch("dense_cross_entropy_forward", types, plan, rows if columns else 0, args)
    return loss, lse


def dense_grad_rule(
    g: Any, g_lse: Any, logits: Any, target: Any, lse: Any, *, label_smoothing: float = 0.0
) -> Any:
    """The `cuda` rule of `dense_cross_entropy_grad`."""
    x, target, g = contiguous(logits), contiguous(target), contiguous(g)
    dx = empty_like(x)
    rows, columns = table(x)
    plan = _plan(columns, x, target, dx)
    numbers = statistics(g_lse, x), statistics(lse, x)
    args = (g, numbers[0], x, target, numbers[1], dx, rows, columns, float(label_smoothing))
    _launch("dense_cross_entropy_backward", (cuda_type(x.dtype),), plan, rows, args)
    return dx


def sigmoid_rule(logits: Any, target: Any) -> Any:
    """The `cuda` rule of `sigmoid_cross_entropy`."""
    x, target = contiguous(logits), contiguous(target)
    loss = empty_like(x)
    width = vector_width(x, target, loss)
    types, grid = (cuda_type(x.dtype), width, BLOCK), grid_for(x.size, width)
    args = (x, target, loss, x.size)
    launch(_FILE, "sigmoid_cross_entropy_forward", types, grid=grid, block=BLOCK, args=args)
    return loss
