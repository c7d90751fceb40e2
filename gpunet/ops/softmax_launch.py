"""How the softmax kernels are launched."""

from collections.abc import Callable
from typing import Any

from gpunet.backend.kernels import cuda_type, empty_like, launch
from gpunet.ops.elementwise_launch import contiguous
from gpunet.ops.row_plan import row_plan, table

_WIDEST = {"softmax_forward": 32, "softmax_backward": 16}  # the backward holds two rows


def softmax_rule(kernel: str, log: bool) -> Callable:
    """Returns the `cuda` rule of `softmax`, `log_softmax` or their gradients.

    Args:
        kernel: `"softmax_forward"` or `"softmax_backward"`.
        log: Whether it is that of the log-softmax.
    """

    def rule(*arrays, axis):
        moved = [_last(x, axis) for x in arrays]
        y = empty_like(moved[0])
        rows, columns = table(y) if y.size else (0, 0)
        plan = row_plan(columns, (*moved, y), widest=_WIDEST[kernel])
        wide = not plan.values
        types = (plan.vector, plan.block) if wide else plan.types
        launch(
            "softmax.cu",
            kernel + "_wide" * wide,
            (cuda_type(y.dtype), *types),
            grid=plan.grid(rows),
            block=plan.block,
            args=(*moved, y, rows, columns, log),
        )
        return y if axis == y.ndim - 1 else y.swapaxes(axis, -1)

    return rule


def _last(x: Any, axis: int) -> Any:
    """Returns `x` with an axis swapped to the end, contiguous."""
    return contiguous(x if axis == x.ndim - 1 else x.swapaxes(axis, -1))
