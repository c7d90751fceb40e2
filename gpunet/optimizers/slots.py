"""Reading and writing what one update step works on, with little Python around it."""

from collections.abc import Iterable
from typing import Any

from gpunet.core.state import state
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import numpy_dtype
from gpunet.ops.elementwise import cast_to


def step_inputs(variable: Variable, gradient: Any, learning_rate: Any) -> tuple[Tensor, ...]:
    """Returns a variable's value, its gradient and the learning rate, floats of one dtype.

    The learning rate of a 16-bit variable stays as precise as it is.
    """
    w = variable.value
    dtype = w.data.dtype
    g = cast_to(as_tensor(gradient), dtype)
    rate = as_tensor(learning_rate)
    if rate.data.dtype != dtype and dtype.itemsize > 2:
        rate = cast_to(rate, numpy_dtype(dtype))
    return w, g, rate


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
