"""An executable: a Graph written out as one straight Python function over arrays.

Each equation is one line that calls the rule of its primitive for the device; an array is let go
in the line after its last use. No tensor is made, no tape asked, no rule chosen while it runs.
"""

import functools
import keyword
from traceback import walk_tb
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.compile.passes import results
from gpunet.core.primitive import REGISTRY, Primitive
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Equation, Graph, Symbol


class Executable:
    """Runs a Graph on its device.

    All Variables are written after the last equation has run: a step that fails changes none.

    Args:
        graph: What `trace` or `optimize` returned.

    Attributes:
        graph: The graph.
        source: The Python function, as text.

    Example:
        >>> import gpunet
        >>> from gpunet.core.trace import trace
        >>> run = Executable(trace(lambda x: gpunet.ops.exp(x) * 2, gpunet.tensor([0.0])))
        >>> print(run.source)
        def run(a):
            c = exp(a)
            del a
            d = multiply(c, b)
            del c
            return (d,), ()
        >>> run(gpunet.tensor([0.0]))[0].tolist()
        [2.0]
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        writer = _Writer(graph)
        self.source, self._equations = writer.source()
        self._read = [variable for variable, _, _ in graph.cells.values()]
        self._written = writer.written
        namespace: dict[str, Any] = writer.namespace
        self._file = f"<graph of {len(graph.equations)} equations>"
        exec(compile(self.source, self._file, "exec"), namespace)
        self._run = namespace["run"]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Computes the outputs from tensors of the traced shapes, and writes the Variables."""
        device = self.graph.device
        try:
            with np.errstate(all="ignore"):  # as kernels, which do not warn of inf and nan
                out, new = self._run(*[x.data for x in inputs], *[v._data for v in self._read])
        except (ValueError, TypeError, IndexError) as error:
            raise self._explained(error) from error
        for variable, data in zip(self._written, new, strict=True):
            variable._data = data
        return [Tensor(y, device) for y in out]

    def _explained(self, error):
        """Rewords an error of the array library as an eager op does, with op and shapes."""
        lines = [at for frame, at in walk_tb(error.__traceback__) if self._is_own(frame)]
        eq = self._equations.get(lines[0]) if lines else None
        if eq is None:
            return error
        return explained(error, eq, self.graph.device)

    def _is_own(self, frame):
        return frame.f_code.co_filename == self._file


def explained(error: Exception, eq: Equation, device: Device) -> Exception:
    """Returns an error of the array library as an eager op words it, with where `eq` is from."""
    inputs = [Tensor(symbol, device) for symbol in eq.inputs]
    error = eq.op._explain(error, inputs, eq.attributes)
    if str(eq.origin):
        error.add_note(f"This is {eq.op.name} of {eq.origin}.")
    return error


def last_uses(graph: Graph) -> list[list[Symbol]]:
    """Returns for each equation the symbols that nothing needs after it."""
    needed = results(graph) | set(graph.constants)
    last: list[list[Symbol]] = [[] for _ in graph.equations]
    for i in reversed(range(len(last))):
        eq = graph.equations[i]
        for symbol in dict.fromkeys([*eq.inputs, *eq.outputs]):
            if symbol not in needed:
                needed.add(symbol)
                last[i].append(symbol)
    return last


class _Writer:
    """Writes the function: names for symbols, and what the names of functions stand for."""

    def __init__(self, graph):
        self.graph = graph
        self.names: dict[Symbol, str] = {}
        self.namespace: dict[str, Any] = {}
        self._functions: dict[tuple, str] = {}
        cells = graph.cells.values()
        changed = [(v, value.data) for v, symbol, value in cells if value.data is not symbol]
        self.written = [variable for variable, _ in changed]
        self._new = [symbol for _, symbol in changed]

    def source(self):
        """Returns the text, and the equation that stands in each of its lines."""
        graph = self.graph
        equations: dict[int, Equation] = {}
        arguments = [*graph.inputs, *[symbol for _, symbol, _ in graph.cells.values()]]
        lines = [f"def run({', '.join(map(self.name, arguments))}):"]
        for symbol, data in graph.constants.items():
            self.namespace[self.name(symbol)] = data
        last = last_uses(graph)
        for i, eq in enumerate(graph.equations):
            call = f"{self.function(eq.op, eq.attributes)}({', '.join(map(self.name, eq.inputs))})"
            gone = [self.name(s) for s in last[i]]
            targets = ", ".join(map(self.name, eq.outputs)) + "," * _is_list(eq)
            lines.append(f"    {targets} = {call}")
            equations[len(lines)] = eq
            if gone:
                lines.append(f"    del {', '.join(gone)}")
        lines.append(f"    return {self._tuple(graph.outputs)}, {self._tuple(self._new)}")
        return "\n".join(lines), equations

    def name(self, symbol):
        if symbol not in self.names:
            number, letters = len(self.names) + 1, ""
            while number:
                number, rest = divmod(number - 1, 26)
                letters = chr(ord("a") + rest) + letters
            taken = keyword.iskeyword(letters) or letters in REGISTRY
            self.names[symbol] = letters + "_" * taken
        return self.names[symbol]

    def function(self, op: Primitive, attributes: dict) -> str:
        """The name of a primitive's rule with its attributes: `matmul`, `matmul_2`, ..."""
        key = op, repr(sorted(attributes.items()))
        if key not in self._functions:
            count = sum(known.name == op.name for known, _ in self._functions)
            name = f"{op.name}_{count + 1}" if count else op.name
            run = op._run.get(self.graph.device) or op._bind(self.graph.device)
            self.namespace[name] = functools.partial(run, **attributes) if attributes else run
            self._functions[key] = name
        return self._functions[key]

    def _tuple(self, symbols):
        return "(" + "".join(f"{self.name(s)}, " for s in symbols).rstrip(" ") + ")"


def _is_list(eq):
    """Tells a list of one result, as of a split into one part, from a single result."""
    if len(eq.outputs) > 1 or "infer" not in eq.op.rules:
        return False
    return isinstance(eq.op.rules["infer"](*eq.inputs, **eq.attributes), tuple)
