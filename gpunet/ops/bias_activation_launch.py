"""How the bias and activation kernels are launched."""

from typing import Any

from gpunet.backend.kernels import cuda_type, empty, empty_like, launch
from gpunet.ops.column_plan import column_plan
from gpunet.ops.elementwise_launch import contiguous, functor_name
from gpunet.ops.reduce_launch import accumulate_dtype, reduction_rule
from gpunet.ops.row_plan import row_vector, table

_FILE = "bias_activation.cu"


def _functor(activation):
    return "Identity" if activation == "linear" else functor_name(activation)


def _plan(*arrays):
    """Returns (elements of an access, plan, rows, columns) of arrays of one shape."""
    rows, columns = table(arrays[0])
    vector = row_vector(columns, *arrays)
    return vector, column_plan(rows, columns, vector), rows, columns


def forward_rule(x: Any, bias: Any, *, activation: str) -> Any:
    """The `cuda` rule of `bias_activation` and `bias_smooth_activation`."""
    x, bias = contiguous(x), contiguous(bias)
    y = empty_like(x)
    vector, plan, *sizes = _plan(x, y)
    types = (cuda_type(x.dtype), _functor(activation), vector)
    args, name = (x, bias, y, *sizes), "bias_activation_forward"
    launch(_FILE, name, types, grid=plan.grid, block=plan.block, args=args)
    return y


def backward_rule(g: Any, y: Any, *, activation: str) -> tuple[Any, Any]:
    """The `cuda` rule of `bias_activation_grad`: the slope follows from the result."""
    return _backward(g, y, None, activation)


def smooth_backward_rule(g: Any, x: Any, bias: Any, *, activation: str) -> tuple[Any, Any]:
    """The `cuda` rule of `bias_smooth_activation_grad`: the slope needs the input."""
    return _backward(g, x, contiguous(bias), activation)


def _backward(g, s, bias, activation):
    g, s = contiguous(g), contiguous(s)
    dx = empty_like(g)
    vector, plan, rows, columns = _plan(g, s, dx)
    partial = empty((plan.parts, columns), accumulate_dtype(g.dtype), like=g)
    types = (cuda_type(g.dtype), _functor(activation) + "Slope", bias is not None, vector)
    args, name = (g, s, bias, dx, partial, rows, columns), "bias_activation_backward"
    launch(_FILE, name, types, grid=plan.grid, block=plan.block, args=args)
    return dx, reduction_rule("Sum", lambda _: g.dtype)(partial, (0,), False)
