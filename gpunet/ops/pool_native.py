"""Plans of the C++ kernels for pooling with one or two spatial axes."""

from collections.abc import Callable

import numpy as np

from gpunet.backend.native import Launch
from gpunet.ops.convolution_axes import planar

_FLOAT = np.dtype(np.float32)


def _plan(kernel, operands, whole, results, window, strides, padding):
    """Plans a kernel for windows over `whole`, whose results are like `results`."""
    if len(window) > 2 or any(a.dtype != _FLOAT or not a.size for a in operands):
        return None
    before = [pair[0] for pair in padding]
    sizes = (
        *(whole.shape[0], *planar(whole.shape[1:-1]), whole.shape[-1]),
        *planar(results.shape[1:-1]),
        *planar(window),
        *planar(strides),
        *(before if len(before) == 2 else (0, *before)),
    )
    return Launch(f"pool.{kernel}", sizes)


def forward_rule(kernel: str) -> Callable:
    """Returns the rule of `max_pool` or `average_pool`."""

    def plan(inputs, outputs, **attributes):
        return _plan(kernel, (*inputs, *outputs), inputs[0], outputs[0], **attributes)

    return plan


max_pool = forward_rule("max_pool")
average_pool = forward_rule("average_pool")


def max_pool_grad(inputs, outputs, **attributes) -> Launch | None:
    """Plans `max_pool_grad`."""
    _, x, y = inputs
    return _plan("max_pool_grad", (*inputs, *outputs), x, y, **attributes)


def max_pool_take(inputs, outputs, **attributes) -> Launch | None:
    """Plans `max_pool_take`."""
    _, x, y = inputs
    return _plan("max_pool_take", (*inputs, *outputs), x, y, **attributes)


def average_pool_grad(inputs, outputs, sizes, **attributes) -> Launch | None:
    """Plans `average_pool_grad`."""
    return _plan("average_pool_grad", (*inputs, *outputs), outputs[0], inputs[0], **attributes)
