"""Tracing: ops recorded into a Graph of equations over Symbols, instead of being computed."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import optree

from gpunet.backend.device import Device, current_device
from gpunet.core.primitive import Primitive
from gpunet.core.state import mode, state
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ShapeError, TraceError, received
from gpunet.origin import Origin, users_line


class Symbol:
    """Stands for an array of a known shape and dtype whose values do not exist yet."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Sequence[int], dtype: Any):
        self.shape, self.dtype = tuple(shape), numpy_dtype(dtype)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"

    def __bool__(self) -> bool:
        raise TraceError(
            "Python needs the value of a tensor that is only being traced: use `ops.where` or "
            f"`ops.cond`, or a Variable for what changes between steps. {received(symbol=self)}"
        )


class Equation:
    """One application of a primitive in a graph: `outputs = op(inputs, attributes)`."""

    __slots__ = ("attributes", "inputs", "op", "origin", "outputs")

    def __init__(self, op, inputs: list, attributes: dict, outputs: list, origin: Any = None):
        self.op, self.inputs, self.attributes, self.outputs = op, inputs, attributes, outputs
        self.origin: Origin = origin or Origin()


class Graph:
    """Equations over symbols. `trace` makes one; it prints, and calling it replays it.

    Attributes:
        inputs: Symbols of the arguments.
        equations: In the order they were traced.
        constants: Arrays met while tracing, by the symbol that stands for each.
        cells: For each Variable used: the symbol read, and the symbol of its last value.
        outputs: Symbols of the results.
        structure: The nest (optree) in which the traced function returned them.
    """

    def __init__(self, device: Device):
        self.device = device
        self.inputs: list[Symbol] = []
        self.equations: list[Equation] = []
        self.constants: dict[Symbol, Any] = {}
        self.cells: dict[int, tuple[Variable, Symbol, Tensor]] = {}
        self.outputs: list[Symbol] = []
        self.structure: Any = None
        self._constant_symbols: dict[int, Symbol] = {}

    # -- recording (called by Primitive and Variable) -------------------------------------------

    def record(self, op: Primitive, inputs: Sequence[Tensor], attributes: dict) -> Any:
        """Appends an equation; returns the symbols of its results."""
        symbols = [self.symbol(x.data) for x in inputs]
        out = infer(op, symbols, attributes, inputs[0].device)
        outputs = list(out) if isinstance(out, tuple) else [out]
        if len(set(outputs)) < len(outputs):
            raise ValueError("`infer` must return a new Symbol for each result")
        origin = state.origin or Origin(state.layer, users_line())
        self.equations.append(Equation(op, symbols, attributes, outputs, origin))
        return tuple(outputs) if isinstance(out, tuple) else out

    def symbol(self, data: Any) -> Symbol:
        """Returns the symbol of an array: itself while tracing, else a constant's."""
        if type(data) is Symbol:
            return data
        known = self._constant_symbols.get(id(data))
        if known is None:
            known = self._constant_symbols[id(data)] = Symbol(data.shape, data.dtype)
            self.constants[known] = data
        return known

    def read(self, variable: Variable) -> Tensor:
        """Returns the current value of a variable in this graph."""
        if id(variable) not in self.cells:
            symbol = Symbol(variable.shape, variable._dtype)
            self.cells[id(variable)] = variable, symbol, Tensor(symbol, variable.device)
        return self.cells[id(variable)][2]

    def write(self, variable: Variable, value: Tensor) -> None:
        """Sets the value of a variable in this graph: one more output."""
        self.read(variable)
        _, symbol, _ = self.cells[id(variable)]
        self.cells[id(variable)] = variable, symbol, Tensor(value.data, value.device)

    # -- using ----------------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> list[Tensor]:
        """Replays the equations on arrays, op by op, and updates the Variables written.

        Raises:
            ShapeError: If an input has not the shape or dtype that was traced.
        """
        values: dict[Symbol, Tensor] = {
            symbol: Tensor(data, self.device) for symbol, data in self.constants.items()
        }
        for symbol, x in zip(self.inputs, inputs, strict=True):
            x = as_tensor(x)
            if x.shape != symbol.shape or x.dtype != symbol.dtype:
                raise ShapeError(
                    f"This graph was traced for {symbol}. {received(shape=x.shape, dtype=x.dtype)}"
                )
            values[symbol] = x
        for variable, symbol, _ in self.cells.values():
            values[symbol] = Tensor(variable._data, variable.device)
        for eq in self.equations:
            out = eq.op(*[values[s] for s in eq.inputs], **eq.attributes)
            outs = out if isinstance(out, tuple) else (out,)
            values.update(zip(eq.outputs, outs, strict=True))
        for variable, symbol, value in self.cells.values():
            if self.symbol(value.data) is not symbol:
                variable.assign(values[self.symbol(value.data)])
        return [values[symbol] for symbol in self.outputs]

    def __str__(self) -> str:
        names: dict[Symbol, str] = {}

        def show(symbol):
            return f"{names.setdefault(symbol, _letters(len(names)))}:{symbol!r}"

        lines = ["{ graph " + " ".join(show(s) for s in self.inputs)]
        for variable, symbol, _ in self.cells.values():
            lines.append(f"  {show(symbol)} = read {variable.path}")
        for symbol, data in self.constants.items():
            lines.append(f"  {show(symbol)} = constant {data if data.size == 1 else '...'}")
        for eq in self.equations:
            outs = " ".join(show(s) for s in eq.outputs)
            attributes = "".join(f" {k}={v!r}" for k, v in eq.attributes.items())
            ins = " ".join(names.setdefault(s, _letters(len(names))) for s in eq.inputs)
            lines.append(f"  {outs} = {eq.op.name} {ins}{attributes}")
        for variable, symbol, value in self.cells.values():
            if value.data is not symbol:
                lines.append(f"  write {variable.path} {show(self.symbol(value.data))}")
        return "\n".join([*lines, "  return " + " ".join(show(s) for s in self.outputs) + " }"])


def _letters(number):
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("a") + rest) + name
    return name


def infer(op: Primitive, symbols: list[Symbol], attributes: dict, device: Device) -> Any:
    """Returns a symbol for the result of an op, or a tuple of them.

    Without an `infer` rule, its smaller ops are traced into a scratch graph to find out.
    """
    if "infer" in op.rules:
        return op.rules["infer"](*symbols, **attributes)
    scratch = Graph(device)
    with mode(graph=scratch, tape=None):
        out = op.rules["composite"](*[Tensor(s, device) for s in symbols], **attributes)
    if isinstance(out, tuple):
        return tuple(Symbol(y.shape, y.dtype) for y in out)
    return Symbol(out.shape, out.dtype)


def trace(f: Callable, *args: Any, device: Device | None = None) -> Graph:
    """Runs `f` on symbols of the arguments' shapes and dtypes, and returns the Graph recorded.

    Args:
        f: Function of nests of tensors; Python control flow may not depend on their values.
        *args: Nests of tensors, arrays or Symbols; other leaves are passed through.
        device: Where the graph is for; default that of the first tensor, or of a Variable.

    Raises:
        TraceError: If Python asks for the value of a tensor.

    Example:
        >>> import gpunet
        >>> print(trace(lambda x: x * 2 + 1, gpunet.tensor([1.0, 2.0])))
        { graph a:float32[2]
          b:float32[] = constant 2.0
          c:float32[] = constant 1.0
          d:float32[2] = multiply a b
          e:float32[2] = add d c
          return e:float32[2] }
    """
    leaves, structure = optree.tree_flatten(args, is_leaf=_is_leaf)  # type: ignore[arg-type]
    tensors = [x if type(x) is Symbol else as_tensor(x) for x in leaves]
    device = device or next((x.device for x in tensors if type(x) is Tensor), current_device())
    graph = Graph(device)
    graph.inputs = [Symbol(x.shape, x.dtype) for x in tensors]
    with mode(graph=graph, scope=graph, origin=None):
        out = f(*optree.tree_unflatten(structure, [Tensor(s, device) for s in graph.inputs]))
        results = [as_tensor(y) for y in optree.tree_leaves(out, is_leaf=_is_leaf)]
        graph.outputs = [graph.symbol(y.data) for y in results]
        for key, (variable, symbol, value) in graph.cells.items():  # a value may be a constant
            graph.cells[key] = variable, symbol, Tensor(graph.symbol(value.data), value.device)
            graph.device = graph.device if tensors else variable.device
        graph.structure = optree.tree_structure(out, is_leaf=_is_leaf)
    return graph


def _is_leaf(x):
    return isinstance(x, (Operators, Symbol))
