"""How the C++ kernels of the cross-entropies are planned: `cpu_kernels/cross_entropy.cpp`."""

from collections.abc import Callable

import numpy as np

from gpunet.backend.native import Launch, Operand
from gpunet.ops.columns_native import float32_table, rows_and_columns

_SIGMOID_PAIRS = ((0, 0), (0, 1))


def _kind(labels):
    """How the kernels read labels: bytes, negative where there is a sign; or None."""
    if labels.dtype.kind not in "iu" or labels.dtype == np.uint64:
        return None
    return labels.dtype.itemsize * (-1 if labels.dtype.kind == "i" else 1)


def labels_native(
    kernel: str, logits: int, in_place: tuple[tuple[int, int], ...] = ()
) -> Callable[..., Launch | None]:
    """Makes the `native` rule of a primitive of logits and labels, which follow each other.

    Args:
        kernel: Function in the file.
        logits: Which input is the logits.
        in_place: Pairs (output, input) that may be the same memory.
    """

    def plan(
        inputs: list[Operand],
        outputs: list[Operand],
        *,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
    ) -> Launch | None:
        labels, kind = inputs[logits + 1], _kind(inputs[logits + 1])
        floats = [x for x in [*inputs, *outputs] if x is not labels]
        if kind is None or not float32_table(floats, inputs[logits]):
            return None
        ignored = (0, 0) if ignore_index is None else (1, int(ignore_index))
        sizes = (*rows_and_columns(inputs[logits]), kind, *ignored)
        name = f"cross_entropy.{kernel}"
        numbers = (float(label_smoothing),)
        return Launch(name, sizes, numbers, in_place=in_place, fails=True)

    return plan


def pick_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `pick`."""
    (x, labels), (y,) = inputs, outputs
    kind = _kind(labels)
    if kind is None or not float32_table([x, y], x):
        return None
    return Launch("cross_entropy.pick", (*rows_and_columns(x), kind))


def place_native(inputs: list[Operand], outputs: list[Operand], *, classes: int) -> Launch | None:
    """The `native` rule of `place`."""
    (y, labels), (x,) = inputs, outputs
    kind = _kind(labels)
    if kind is None or not float32_table([x, y], x):
        return None
    return Launch("cross_entropy.place", (*rows_and_columns(x), kind))


def dense_native(
    kernel: str, logits: int, in_place: tuple[tuple[int, int], ...] = ()
) -> Callable[..., Launch | None]:
    """Makes the `native` rule of a primitive of logits and probabilities."""

    def plan(
        inputs: list[Operand], outputs: list[Operand], *, label_smoothing: float = 0.0
    ) -> Launch | None:
        if not float32_table([*inputs, *outputs], inputs[logits]):
            return None
        sizes, smoothing = rows_and_columns(inputs[logits]), (float(label_smoothing),)
        return Launch(f"cross_entropy.{kernel}", sizes, smoothing, in_place=in_place)

    return plan


def sigmoid_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `sigmoid_cross_entropy`."""
    operands = [*inputs, *outputs]
    if any(x.dtype != np.float32 or x.shape != outputs[0].shape for x in operands):
        return None
    return Launch("cross_entropy.sigmoid", (outputs[0].size,), in_place=_SIGMOID_PAIRS)
