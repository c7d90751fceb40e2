"""How the C++ kernels of bias and activation are planned: `cpu_kernels/bias_activation.cpp`."""

from gpunet.backend.native import Launch, Operand
from gpunet.ops.columns_native import column_scratch, float32_table, rows_and_columns


def _launch(kernel, inputs, outputs, in_place):
    x = inputs[0]
    if not float32_table([*inputs, *outputs], x):
        return None
    rows, columns = rows_and_columns(x)
    scratch = column_scratch(columns, 2, 2)
    name = f"bias_activation.bias_{kernel}"
    return Launch(name, (rows, columns), scratch=scratch, in_place=in_place)


def forward_native(
    inputs: list[Operand], outputs: list[Operand], *, activation: str
) -> Launch | None:
    """The `native` rule of `bias_activation` and `bias_smooth_activation`."""
    return _launch(activation, inputs, outputs, ((0, 0),))


def backward_native(
    inputs: list[Operand], outputs: list[Operand], *, activation: str
) -> Launch | None:
    """The `native` rule of their gradients."""
    return _launch(f"{activation}_grad", inputs, outputs, ((0, 0), (0, 1)))
