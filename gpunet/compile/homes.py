"""Homes: the arrays in which Variables live while CUDA graphs use them.

A captured graph has the addresses baked in of all it reads and writes. So a Variable that a graph
uses gets one array that never moves, shared by all graphs that use it. Nobody else ever sees this
array: who asks for the value gets a copy, made at the first question after a step that changed it.
Tensors given out thus keep their values, however often the graph runs.
"""

from typing import Any

from gpunet.compile.blocks import Recorder
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Graph, Symbol
from gpunet.core.variable import Variable

# Kernels that read element i of their inputs only to write element i of the results: a result may
# have the memory of an input of its shape.
_ELEMENTWISE = {"add", "subtract", "multiply"} | {
    f"{name}_update" for name in ("sgd", "momentum", "rmsprop", "adam", "lion")
}


class Home:
    """Where the value of one Variable lives for graphs.

    Args:
        variable: The Variable; its value moves in.
        machine: The device it is on.

    Attributes:
        array: Read and written by graphs only.
    """

    def __init__(self, variable: Variable, machine: Any):
        self._machine = machine
        self.array = machine.array(variable.shape, variable._dtype)
        self._same: Any = None  # an array outside that is known to hold the same value
        variable._home = self
        self.move_in(variable)

    @staticmethod
    def of(variable: Variable, machine: Any) -> "Home":
        """Returns the home of a Variable, made now if it has none."""
        home = getattr(variable, "_home", None)
        return home if isinstance(home, Home) else Home(variable, machine)

    def move_in(self, variable: Variable) -> None:
        """Before a step: takes over a value that was assigned outside of graphs."""
        data = variable.__dict__.get("_data")
        if data is not None and data is not self._same:
            self._machine.copy(self.array, data)
            self.changed(variable)

    def changed(self, variable: Variable) -> None:
        """After a new value came into the array: what is outside is out of date, or not needed."""
        variable.__dict__.pop("_data", None)
        self._same = None

    def show(self, variable: Variable) -> Any:
        """Gives a Variable an array with the value, for the world outside, and returns it."""
        array = self._machine.array(self.array.shape, self.array.dtype)  # of the caller's stream
        with self._machine.working():
            self._machine.copy(array, self.array)
            self._same = variable._data = array
        return array


class Cell:
    """A Variable of a graph.

    Attributes:
        variable: The Variable.
        symbol: Its value before the step.
        new: Its value after it.
        written: Whether these differ.
        home: Its home, once it has one.
    """

    home: Home

    def __init__(self, variable: Variable, symbol: Symbol, value: Tensor):
        self.variable, self.symbol, self.new = variable, symbol, value.data
        self.written = self.new is not symbol


class MemoryUses:
    """Finds out, in a recorded run, who uses the memory of homes.

    A new value of a Variable goes straight to its home, instead of being copied there at the end,
    if nobody reads the old value afterwards.

    Args:
        graph: The graph.
        cells: Its Variables; they have homes.
        machine: The machine.
        recorder: Records the memory of the run.
    """

    def __init__(self, graph: Graph, cells: list[Cell], machine: Any, recorder: Recorder):
        self._graph, self._machine, self._recorder = graph, machine, recorder
        self._cells = cells
        self._ranges = [
            (*machine.address(cell.home.array), cell) for cell in cells if cell.home.array.size
        ]
        self._aliases: dict[Symbol, Cell] = {cell.symbol: cell for cell in cells}
        self._targets = {cell.new: cell for cell in reversed(cells) if cell.written}
        self._made: dict[Cell, tuple[int, int]] = {}  # equation and request that made new values
        self._requests = 0

    def after(self, position: int, values: dict[Symbol, Any]) -> None:
        """Looks at what an equation has returned; `Interpreter` calls it."""
        first, self._requests = self._requests, len(self._recorder.sizes)
        for symbol in self._graph.equations[position].outputs:
            array = values[symbol]
            if not array.size:
                continue
            begin, end = self._machine.address(array)
            for home_begin, home_end, cell in self._ranges:
                if begin < home_end and home_begin < end:
                    self._aliases[symbol] = cell
            cell = self._targets.get(symbol)
            if cell is not None and array.flags.c_contiguous:
                index = self._recorder.index(begin, end - begin)
                if index is not None and index >= first:
                    self._made[cell] = position, index

    def at_risk(self) -> list[Symbol]:
        """Returns the results that lie in a home which the step writes."""
        return [s for s in self._results() if s in self._aliases and self._aliases[s].written]

    def _results(self):
        new = [cell.new for cell in self._cells if cell.written]
        return list(dict.fromkeys([*self._graph.outputs, *new]))

    def direct(self) -> dict[int, tuple[int, Cell]]:
        """Returns which requests of memory get that of a home: its address, and whose it is."""
        last = dict.fromkeys(self._cells, -1)
        for i, eq in enumerate(self._graph.equations):
            for symbol in eq.inputs:
                cell = self._aliases.get(symbol)
                if cell is not None and not self._harmless(cell, symbol, eq, i):
                    last[cell] = i
        for symbol in self._results():
            if symbol in self._aliases:
                last[self._aliases[symbol]] = len(self._graph.equations)
        return {
            index: (self._machine.address(cell.home.array)[0], cell)
            for cell, (position, index) in self._made.items()
            if last[cell] < position
        }

    def _harmless(self, cell, symbol, eq, position):
        """Tells whether an equation may read the old value and write the new one over it."""
        made = self._made.get(cell)
        alike = symbol is cell.symbol and (symbol.shape, symbol.dtype) == (
            cell.new.shape,
            cell.new.dtype,
        )
        return made is not None and made[0] == position and alike and eq.op.name in _ELEMENTWISE
