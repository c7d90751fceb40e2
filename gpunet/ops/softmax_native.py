"""How the C++ kernels of softmax and log-softmax are planned: `cpu_kernels/softmax.cpp`."""

import math
from collections.abc import Callable

from gpunet.backend.native import Launch, Operand
from gpunet.ops.columns_native import float32_table


def softmax_native(kernel: str) -> Callable[..., Launch | None]:
    """Makes the `native` rule of a primitive, all of whose arrays have one shape."""

    def plan(inputs: list[Operand], outputs: list[Operand], *, axis: int) -> Launch | None:
        (y,) = outputs
        if not float32_table([*inputs, y], y) or not y.size:
            return None
        sizes = math.prod(y.shape[:axis]), y.shape[axis], math.prod(y.shape[axis + 1 :])
        pairs = tuple((0, i) for i in range(len(inputs)))
        return Launch(f"softmax.{kernel}", sizes, in_place=pairs)

    return plan
