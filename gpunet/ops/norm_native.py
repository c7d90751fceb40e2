"""How the C++ kernels of layer and RMS norm are planned; they are in `cpu_kernels/norm.cpp`."""

from collections.abc import Callable

from gpunet.backend import native
from gpunet.backend.native import Launch, Operand
from gpunet.ops.columns_native import float32_table, rows_and_columns


def norm_native(kernel: str, in_place: tuple[tuple[int, int], ...]) -> Callable[..., Launch | None]:
    """Makes the `native` rule of a forward primitive.

    Args:
        kernel: Function in the file.
        in_place: Pairs (output, input) that may be the same memory.
    """

    def plan(inputs: list[Operand], outputs: list[Operand], *, epsilon: float) -> Launch | None:
        if not float32_table([*inputs, *outputs], inputs[0]):
            return None
        sizes = rows_and_columns(inputs[0])
        return Launch(f"norm.{kernel}", sizes, (float(epsilon),), in_place=in_place)

    return plan


def norm_grad_native(
    kernel: str, in_place: tuple[tuple[int, int], ...]
) -> Callable[..., Launch | None]:
    """Makes the `native` rule of a gradient: each thread sums the columns of its rows."""

    def plan(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
        if not float32_table([*inputs, *outputs], inputs[0]):
            return None
        rows, columns = rows_and_columns(inputs[0])
        scratch = 24 * native.runtime().threads * columns + 256
        return Launch(f"norm.{kernel}", (rows, columns), scratch=scratch, in_place=in_place)

    return plan
