"""How the bias and activation kernels are launched."""

from typing import Any

from gpunet.backend.kernels import ceil_div, cuda_type, empty, empty_like, launch
from gpunet.ops.elementwise_launch import BLOCK, contiguous, functor_name, grid_for
from gpunet.ops.reduce_launch import accumulate_dtype, reduction_rule

_ROWS = 64  # of a block: each of its eight warps sums eight
_MAX_PARTIALS = 1024


def _functor(activation):
    return "Identity" if activation == "linear" else functor_name(activation)


def forward_rule(x: Any, bias: Any, *, activation: str) -> Any:
    """The `cuda` rule of `bias_activation` and `bias_smooth_activation`."""
    x, bias = contiguous(x), contiguous(bias)
    y = empty_like(x)
    types = (cuda_type(x.dtype), _functor(activation), BLOCK)
    args, grid = (x, bias, y, x.size, bias.size), grid_for(x.size)
    name = "bias_activation_forward"
    launch("bias_activation.cu", name, types, grid=grid, block=BLOCK, args=args)
    return y


def backward_rule(g: Any, y: Any, *, activation: str) -> tuple[Any, Any]:
    """The `cuda` rule of `bias_activation_grad`: the slope follows from the result."""
    return _backward(g, y, None, activation)


def smooth_backward_rule(g: Any, x: Any, bias: Any, *, activation: str) -> tuple[Any, Any]:
    """The `cuda` rule of `bias_smooth_activation_grad`: the slope needs the input."""
    return _backward(g, x, contiguous(bias), activation)


def _backward(g, s, bias, activation):
    g, s = contiguous(g), contiguous(s)
    columns = g.shape[-1]
    rows = g.size // columns if columns else 0
    dx = empty_like(g)
    parts = max(1, min(ceil_div(rows, _ROWS), _MAX_PARTIALS))
    partial = empty((parts, columns), accumulate_dtype(g.dtype), like=g)
    types = (cuda_type(g.dtype), _functor(activation) + "Slope", bias is not None)
    launch(
        "bias_activation.cu",
        "bias_activation_backward",
        types,
        grid=(ceil_div(columns, 32), parts),
        block=(32, 8),
        args=(g, s, bias, dx, partial, rows, columns),
    )
    return dx, reduction_rule("Sum", lambda _: g.dtype)(partial, (0,), False)
