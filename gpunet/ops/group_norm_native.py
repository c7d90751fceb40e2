"""How the C++ kernels of group norm are planned; they are in `cpu_kernels/group_norm.cpp`."""

import math

from gpunet.backend import native
from gpunet.backend.native import Launch, Operand
from gpunet.ops.columns_native import float32_table, width_of

_PIECES = 20  # of scratch memory: a line in double is more than any of them


def _launch(kernel, x, operands, groups, **settings):
    if not float32_table(operands, x):
        return None
    columns, threads = x.shape[-1], native.runtime().threads
    each = _PIECES * (8 * width_of(columns) + 64)
    scratch = threads * each + 16 * threads * columns + 256
    sizes = (x.shape[0], math.prod(x.shape[1:-1]), columns, groups, each)
    return Launch(f"group_norm.{kernel}", sizes, scratch=scratch, **settings)


def group_norm_native(
    inputs: list[Operand], outputs: list[Operand], *, groups: int, epsilon: float
) -> Launch | None:
    """The `native` rule of `group_norm`."""
    settings = {"numbers": (float(epsilon),), "in_place": ((0, 0),)}
    return _launch("group_norm", inputs[0], [*inputs, *outputs], groups, **settings)


def group_norm_grad_native(
    inputs: list[Operand], outputs: list[Operand], *, groups: int
) -> Launch | None:
    """The `native` rule of `group_norm_grad`."""
    pairs = ((0, 0), (0, 3))
    return _launch("group_norm_grad", inputs[3], [*inputs, *outputs], groups, in_place=pairs)
