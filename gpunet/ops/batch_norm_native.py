"""How the C++ kernels of batch norm are planned; they are in `cpu_kernels/batch_norm.cpp`."""

from collections.abc import Callable

from gpunet.backend.native import Launch, Operand
from gpunet.ops.columns_native import column_scratch, float32_table, rows_and_columns

_SUMS, _VECTORS = 2, 12  # of a line for each thread; of a column or a line


def batch_norm_native(
    kernel: str, table: int, in_place: tuple[tuple[int, int], ...]
) -> Callable[..., Launch | None]:
    """Makes the `native` rule of a primitive.

    Args:
        kernel: Function in the file.
        table: Which input is `x`.
        in_place: Pairs (output, input) that may be the same memory.
    """

    def plan(inputs: list[Operand], outputs: list[Operand], *, epsilon: float) -> Launch | None:
        x = inputs[table]
        if not float32_table([*inputs, *outputs], x):
            return None
        rows, columns = rows_and_columns(x)
        scratch = column_scratch(columns, _SUMS, _VECTORS)
        settings = (rows, columns), (float(epsilon),)
        return Launch(f"batch_norm.{kernel}", *settings, scratch=scratch, in_place=in_place)

    return plan


train_native = batch_norm_native("train", 0, ((0, 0),))
relu_native = batch_norm_native("relu", 0, ((0, 0),))
add_relu_native = batch_norm_native("add_relu", 0, ((0, 0), (0, 1)))
grad_native = batch_norm_native("train_grad", 3, ((0, 0), (0, 3)))
relu_grad_native = batch_norm_native("relu_grad", 3, ((0, 0), (0, 3)))
add_relu_grad_native = batch_norm_native("add_relu_grad", 3, ((0, 3), (1, 0), (1, 4)))
inference_native = batch_norm_native("inference", 0, ((0, 0),))
