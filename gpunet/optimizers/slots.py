"""Reading and writing what one update step works on, with little Python around it."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpunet.core.state import state
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.ops.elementwise import cast_to

_FLOAT32 = np.dtype(np.float32)


def step_inputs(
    variable: Variable, gradient: Any, learning_rate: Any, wide: bool = True
) -> tuple[Tensor, ...]:
    """Returns a variable's value, its gradient and the learning rate, as floats of one dtype.

    Args:
        variable: The variable.
        gradient: Its gradient.
        learning_rate: Scalar.
        wide: Whether 16-bit variables are computed in float32. Fused ops do that by themselves.
    """
    w, rate = variable.value, as_tensor(learning_rate)
    dtype = w.data.dtype
    if dtype.itemsize < 4:
        if wide:
            w = cast_to(w, _FLOAT32)
        return w, cast_to(as_tensor(gradient), w.data.dtype), rate
    return w, cast_to(as_tensor(gradient), dtype), cast_to(rate, dtype)


def set_all(variables: tuple[Variable, ...], values: tuple[Tensor, ...]) -> None:
    """Sets variables to tensors computed from them: of their shape, dtype and device."""
    scope = state.scope
    for variable, value in zip(variables, values, strict=True):
        if value.data.dtype != variable._dtype:
            variable.assign(value)
        elif scope is None:
            variable._data = value.data
        else:
            scope.write(variable, value)


def read_all(variables: Iterable[Variable]) -> list[Tensor]:
    """Returns the values of variables; while an optimizer runs, nothing records or casts them."""
    if state.scope is None:
        return [Tensor(v._data, v.device) for v in variables]
    return [v.value for v in variables]
