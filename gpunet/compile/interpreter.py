"""Runs the equations of a graph one by one: to plan its memory, to capture it, and to debug it."""

from collections.abc import Callable, Sequence
from typing import Any

from gpunet.compile.executable import explained, last_uses
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Equation, Graph, Symbol


def describe(eq: Equation) -> str:
    """Returns an equation as text: shapes, op and attributes.

    Example:
        >>> import gpunet
        >>> from gpunet.core.trace import trace
        >>> describe(trace(lambda x: x.sum(axis=0), gpunet.tensor([1.0, 2.0])).equations[0])
        'float32[] = sum(float32[2], axis=None, keepdims=False)'
    """
    inputs = [*map(repr, eq.inputs), *(f"{k}={v!r}" for k, v in eq.attributes.items())]
    return f"{', '.join(map(repr, eq.outputs))} = {eq.op.name}({', '.join(inputs)})"


class Interpreter:
    """Runs the rules of a graph's equations in their order, on arrays.

    Args:
        graph: The graph.

    Attributes:
        position: The number of the equation that runs.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._last = last_uses(graph)
        self.position = 0

    def run(
        self, values: dict[Symbol, Any], after: Callable[[int, dict[Symbol, Any]], None] | None
    ) -> None:
        """Computes all equations.

        Arrays are let go as soon as nothing needs them, so that two runs allocate and free in the
        same order.

        Args:
            values: Arrays of the inputs, Variables and constants; what is needed at the end is
                added.
            after: Called after each equation with its number, before its inputs are let go.

        Raises:
            GpunetError: If a rule fails; a note names the equation.
        """
        device = self.graph.device
        for i, eq in enumerate(self.graph.equations):
            self.position = i
            rule = eq.op._run.get(device) or eq.op._bind(device)
            try:
                out = rule(*[values[symbol] for symbol in eq.inputs], **eq.attributes)
                outs = out if isinstance(out, (tuple, list)) else (out,)
                values.update(zip(eq.outputs, outs, strict=True))
                out = outs = None  # else they would keep memory until the next equation is done
                if after is not None:
                    after(i, values)
            except Exception as error:
                raise self._explained(error, eq) from error
            for symbol in self._last[i]:
                values.pop(symbol, None)

    def _explained(self, error, eq):
        if isinstance(error, (ValueError, TypeError, IndexError)):
            error = explained(error, eq, self.graph.device)
        error.add_note(f"Equation {self.position} of the graph: {describe(eq)}")
        return error


def run_step_by_step(
    graph: Graph, inputs: Sequence[Tensor], synchronize: Callable[[], Any] = tuple
) -> list[Tensor]:
    """Runs a graph for debugging: waits after each equation, so that an error comes up in it.

    Variables are written when all equations have run.

    Args:
        graph: The graph.
        inputs: Tensors.
        synchronize: Waits for the device, where there is something to wait for.

    Raises:
        GpunetError: If an equation fails; a note names it.
    """
    values = dict(graph.constants)
    values.update((symbol, x.data) for symbol, x in zip(graph.inputs, inputs, strict=True))
    values.update((symbol, variable._data) for variable, symbol, _ in graph.cells.values())
    Interpreter(graph).run(values, lambda *_: synchronize())
    for variable, symbol, value in graph.cells.values():
        if value.data is not symbol:
            variable._data = values[value.data]
    return [Tensor(values[symbol], graph.device) for symbol in graph.outputs]
