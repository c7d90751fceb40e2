"""Graphs inside of graphs: the branches of a choice, and the body of a loop.

Their equations use the symbols of the graph around them as they are: these become the inputs.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optree

from gpunet.backend.device import Device
from gpunet.backend.kernels import hooked
from gpunet.core.autograd import Node, Tape
from gpunet.core.state import mode, state
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.trace import Graph, Symbol
from gpunet.core.variable import Variable
from gpunet.dtypes import numpy_dtype, result_type
from gpunet.errors import TraceError, received

_numbers = itertools.count(1)


class Inner(Graph):
    """A graph inside of an equation: a function of arrays, without Variables.

    Args:
        device: Where it runs.
        outside: What it may use of the graph around it; only while it is traced.

    Attributes:
        writes: The Variables written, with their last values, by the Variable's id.
    """

    # Makes a function of arrays from a graph; `gpunet.compile` puts a faster one here.
    compiled: Callable[[Graph], Callable] = staticmethod(lambda graph: _op_by_op(graph))

    def __init__(self, device: Device, outside: "Outside | None" = None):
        super().__init__(device)
        self.writes: dict[int, tuple[Variable, Tensor]] = {}
        self._outside = outside
        self._number = next(_numbers)
        self._run: Callable | None = None

    def __repr__(self) -> str:
        return f"<graph {self._number} of {len(self.equations)} equations>"

    def read(self, variable: Variable) -> Tensor:
        """Returns the current value of a variable inside of this graph."""
        if id(variable) in self.writes:
            return self.writes[id(variable)][1]
        assert self._outside is not None
        return self._outside.read(variable)

    def write(self, variable: Variable, value: Tensor) -> None:
        """Sets the value of a variable: one more result."""
        self.writes[id(variable)] = variable, Tensor(value.data, value.device)

    def free(self) -> list[Symbol]:
        """Returns the symbols that are used but not made here, in the order of their use."""
        known = {*self.constants, *(s for eq in self.equations for s in eq.outputs)}
        used = [s for eq in self.equations for s in eq.inputs] + self.outputs
        return [s for s in dict.fromkeys(used) if s not in known]

    def extended(self, outside: "Outside") -> "Inner":
        """Returns a graph that begins with the equations of this one."""
        new = Inner(self.device, outside)
        new.equations, new.constants = list(self.equations), dict(self.constants)
        new._constant_symbols = dict(self._constant_symbols)
        return new

    def evaluate(self, arrays: Sequence[Any]) -> tuple:
        """Returns the results for arrays, in memory of their own: a plan cannot know how much."""
        if self._run is None:
            self._run = type(self).compiled(self)
        with hooked(allocate=None):
            # Rules return NumPy scalars, too: results of an equation are arrays of its device.
            return tuple([self.device.xp.asarray(y) for y in self._run(*arrays)])


def _op_by_op(graph):
    def run(*arrays):
        with mode(graph=None, tape=None, scope=None):
            inputs = [Tensor(x, graph.device) for x in arrays]
            return [y.data for y in replay(graph, inputs)]

    return run


def replay(graph: Graph, inputs: Iterable[Tensor]) -> list[Tensor]:
    """Applies the equations of a graph without Variables to tensors."""
    values = {s: Tensor(data, graph.device) for s, data in graph.constants.items()}
    values.update(zip(graph.inputs, inputs, strict=True))
    for eq in graph.equations:
        out = eq.op(*[values[s] for s in eq.inputs], **eq.attributes)
        values.update(zip(eq.outputs, out if isinstance(out, tuple) else (out,), strict=True))
    return [values[s] for s in graph.outputs]


class Outside:
    """What the inner graphs of one equation have in common: what they use from outside.

    Attributes:
        device: Where they run.
        variables: The Variables read, with the tensors for their values inside, by their ids.
    """

    def __init__(self, device: Device):
        self.device = device
        self.variables: dict[int, tuple[Variable, Tensor]] = {}
        self._graph, self._scope = state.graph, state.scope
        self._values: dict[Symbol, Tensor] = {}
        self._spans: list[tuple[Tape, int, int]] = []
        self._leaves: set[Node] = set()

    def again(self) -> "Outside":
        """Returns one for graphs made later from the same ones."""
        new = Outside(self.device)
        new.variables, new._values = self.variables, self._values
        new._spans, new._leaves = list(self._spans), self._leaves
        return new

    def read(self, variable: Variable) -> Tensor:
        """Returns what stands for the value that a variable has outside."""
        if id(variable) not in self.variables:
            with mode(graph=self._graph, scope=self._scope, autocast=None):
                x = variable.value
            if x.node is not None:
                self._leaves.add(x.node)
            symbol = Symbol(x.shape, x.dtype)
            self._values[symbol] = x
            self.variables[id(variable)] = variable, Tensor(symbol, x.device, x.node, x.slot)
        return self.variables[id(variable)][1]

    def trace(self, graph: Inner, f: Callable, *args: Any) -> Any:
        """Calls a function so that its ops land in an inner graph."""
        tape = state.tape
        first = tape.count if tape is not None else 0
        with mode(graph=graph, scope=graph):
            out = f(*args)
        if tape is not None:
            self._spans.append((tape, first, tape.count))
        return out

    def holds(self, node: Node) -> bool:
        """Tells whether a node on the tape was made by an inner graph."""
        spans = [span for span in self._spans if span[0] is node.tape]
        made = any(first < node.index <= last for _, first, last in spans)
        return made and node not in self._leaves

    def close(self, graphs: Sequence[Inner], before: Sequence[Symbol] = ()) -> list[Tensor]:
        """Gives graphs their inputs, the same for all; returns the tensors that go in.

        Args:
            graphs: They have their outputs.
            before: Symbols that are inputs by themselves, and come first.
        """
        used = dict.fromkeys(s for graph in graphs for s in graph.free())
        free = [s for s in used if s not in before]
        for graph in graphs:
            graph.inputs = [*before, *free]
            nest: Any = list(graph.outputs)
            graph.structure = optree.tree_structure(nest)
        return [self.value(s) for s in free]

    def value(self, symbol: Symbol) -> Tensor:
        """Returns the tensor outside that a free symbol stands for."""
        found = self._values.get(symbol)
        return Tensor(symbol, self.device) if found is None else found


# -- nests ----------------------------------------------------------------------------------------


def flatten(nest: Any) -> tuple[list, Any]:
    """Returns the leaves of a nest, and its structure."""
    return optree.tree_flatten(nest, is_leaf=lambda x: isinstance(x, Operators))


def as_like(value: Any, like: Tensor) -> Tensor:
    """Returns a value as a tensor; a number takes the dtype of `like` if that can hold it."""
    if type(value) in (bool, int, float):
        dtype = like.dtype
        if numpy_dtype(result_type(dtype, type(value))) == dtype:
            return as_tensor(value, dtype, like.device)
    return as_tensor(value, device=like.device)


def check_alike(what: str, found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Checks that tensors have the same shapes and dtypes.

    Raises:
        TraceError: If not.
    """
    for i, (x, y) in enumerate(zip(found, expected, strict=True)):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            raise TraceError(
                f"{what}, because a graph has one shape and one dtype for each; cast or reshape "
                f"them. Leaf {i} differs. "
                + received(first=f"{y.dtype}{list(y.shape)}", other=f"{x.dtype}{list(x.shape)}")
            )


def check_structure(what: str, found: Any, expected: Any) -> None:
    """Checks that nests have the same structure.

    Raises:
        TraceError: If not.
    """
    if found != expected:
        raise TraceError(f"{what}. {received(first=expected, other=found)}")
