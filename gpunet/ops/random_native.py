"""How random kernels are planned: the `native` rules of `gpunet/ops/random.py`."""

from typing import Any

import numpy as np

from gpunet.backend.native import Launch, Operand

_UINT32, _FLOAT32 = np.dtype(np.uint32), np.dtype(np.float32)
_FLOATS = {_FLOAT32: "f32", np.dtype(np.float64): "f64"}
_INTEGERS = {np.dtype(np.int32): "i32", np.dtype(np.int64): "i64"}


def uniform_plan(
    inputs: list[Operand], outputs: list[Operand], shape: tuple[int, ...], dtype: Any
) -> Launch | None:
    """The `native` rule of `random_uniform`."""
    suffix = _FLOATS.get(outputs[0].dtype)
    if suffix is None or inputs[0].dtype != _UINT32:
        return None
    return Launch(f"random.uniform_{suffix}", (outputs[0].size,))


def integers_plan(
    inputs: list[Operand],
    outputs: list[Operand],
    shape: tuple[int, ...],
    dtype: Any,
    low: int,
    high: int,
) -> Launch | None:
    """The `native` rule of `random_integers`."""
    suffix = _INTEGERS.get(outputs[0].dtype)
    if suffix is None or inputs[0].dtype != _UINT32:
        return None
    numbers = (float(low), float(high) - float(low))
    return Launch(f"random.integers_{suffix}", (outputs[0].size,), numbers)


def dropout_plan(
    inputs: list[Operand], outputs: list[Operand], rate: float, shape: tuple[int, ...]
) -> Launch | None:
    """The `native` rule of `dropout`: masks of the shape of `x`."""
    x, seed = inputs
    if x.dtype != _FLOAT32 or seed.dtype != _UINT32 or tuple(shape) != x.shape or rate == 1:
        return None
    return Launch("random.dropout_f32", (x.size,), (float(rate),), in_place=((0, 0),))
