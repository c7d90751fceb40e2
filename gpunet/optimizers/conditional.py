"""Updates of Variables that happen only if a tensor says so, also while they are being traced."""

from collections.abc import Callable
from typing import Any

from gpunet import ops
from gpunet.core.state import mode, state
from gpunet.core.tensor import Tensor
from gpunet.core.variable import Variable


class _Pending:
    """Keeps what is written apart; reads see it, and else what the scope outside has."""

    def __init__(self, outer: Any):
        self.outer = outer
        self.values: dict[int, tuple[Variable, Tensor]] = {}

    def read(self, variable: Variable) -> Tensor | None:
        found = self.values.get(id(variable))
        if found is not None:
            return found[1]
        return None if self.outer is None else self.outer.read(variable)

    def write(self, variable: Variable, value: Tensor) -> None:
        self.values[id(variable)] = variable, value


def update_if(
    condition: Any, update: Callable[[], None], otherwise: Callable | None = None
) -> None:
    """Runs `update` where a boolean scalar holds, and `otherwise` where it does not.

    While a graph is traced both are recorded, and every Variable they assign gets one value or the
    other by `ops.where`. Otherwise only one of them runs.

    Args:
        condition: Boolean scalar tensor.
        update: Assigns Variables.
        otherwise: Assigns Variables; default nothing.
    """
    if state.graph is None:
        if bool(condition):
            update()
        elif otherwise is not None:
            otherwise()
        return
    yes, no = _Pending(state.scope), _Pending(state.scope)
    with mode(scope=yes):
        update()
    if otherwise is not None:
        with mode(scope=no):
            otherwise()
    for key, (variable, _) in {**yes.values, **no.values}.items():
        chosen = [scope.values.get(key, (variable, variable.value))[1] for scope in (yes, no)]
        variable.assign(ops.where(condition, *chosen))
