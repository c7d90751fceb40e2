"""A program: a Graph for the CPU as a list of C++ kernels over memory that was planned before.

All arrays of a step lie in one arena, at addresses fixed by when they are needed; Variables are
updated in their own arrays. So a step allocates its results and nothing else, and one call from
Python runs all kernels that follow each other. What has no kernel is done by its NumPy rule.
"""

import functools
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from gpunet.backend import native
from gpunet.backend.native import Launch
from gpunet.compile.arena import plan
from gpunet.compile.emit_cpp import prepare
from gpunet.compile.executable import explained
from gpunet.compile.layout import View, views, whole
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Equation, Graph, Symbol
from gpunet.core.variable import Variable
from gpunet.errors import KernelError
from gpunet.ops.copy_native import strided_copy

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Step(NamedTuple):
    """One thing to do: a kernel, or the NumPy rule of an equation."""

    equation: Equation | None  # None: a copy that the program needs
    inputs: list[View]
    outputs: list[View]
    launch: Launch | None


class _Planner:
    """Turns the equations of a graph into steps, and finds out what may share memory.

    Attributes:
        steps: All steps, in order.
        views: Symbols that lie in the memory of others.
        variables: The Variables read, by symbol.
        new: The symbol of the new value of each Variable that is written.
        outputs: Where the results of the graph are, in memory that no step writes afterwards.
        in_variable: Results that kernels write over the old value of a Variable.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.views: dict[Symbol, View] = {}
        self.steps: list[Step] = []
        cells = graph.cells.values()
        self.variables = {symbol: variable for variable, symbol, _ in cells}
        self.new = {s: value.data for _, s, value in cells if value.data is not s}
        body, updates = self._ordered()
        for eq in body:
            self._add(eq)
        self.outputs = self._kept_results()
        failing = len(self.steps)
        for eq in updates:
            self._add(eq, contiguous=True)
        self.in_variable = self._shared(failing)
        for symbol, value in self.new.items():
            if self.in_variable.get(value) is not symbol:
                self._copy(self.view(value), whole(symbol))

    def view(self, symbol: Symbol) -> View:
        return self.views.get(symbol) or whole(symbol)

    def _ordered(self):
        """Equations in order; kernels that only make new values of Variables come last.

        Those may write them in place, because nothing that fails can follow.
        """
        used = {s for eq in self.graph.equations for s in eq.inputs} | set(self.graph.outputs)
        values = list(self.new.values())
        body, updates = [], []
        for eq in self.graph.equations:
            last = all(s not in used and values.count(s) == 1 for s in eq.outputs)
            (updates if last and self._is_update(eq) else body).append(eq)
        return body, updates

    def _is_update(self, eq):
        """Whether a kernel makes new values of Variables where the old ones are."""
        launch = self._launch(eq, [whole(s) for s in eq.inputs])
        if launch is None or launch.fails:
            return False
        pairs = [(eq.outputs[o], eq.inputs[i]) for o, i in launch.in_place]
        own = {out for out, x in pairs if self.new.get(x) is out}
        return own == set(eq.outputs)

    def _launch(self, eq, inputs):
        rule = eq.op.rules.get("native")
        if rule is None:
            return None
        outputs = [whole(s).operand for s in eq.outputs]
        return rule([v.operand for v in inputs], outputs, **eq.attributes)

    def _add(self, eq, contiguous=False):
        inputs = [self.view(s) for s in eq.inputs]
        found = views(eq, inputs[0]) if inputs else None
        if found is not None:
            self.views.update(zip(eq.outputs, found, strict=True))
            return
        if contiguous:
            inputs = [self._contiguous(v) for v in inputs]
        launch = self._launch(eq, inputs)
        if launch is not None and not launch.strided:
            inputs = [self._contiguous(v) for v in inputs]
        self.steps.append(Step(eq, inputs, [whole(s) for s in eq.outputs], launch))

    def _contiguous(self, view):
        return view if view.operand.contiguous else self._copy(view)

    def _copy(self, source, target=None):
        target = target or whole(Symbol(source.operand.shape, source.operand.dtype))
        launch = strided_copy(source.operand, target.operand)
        self.steps.append(Step(None, [source], [target], launch))
        return target

    def _kept_results(self):
        """Copies what is returned or kept out of the memory of Variables that will change."""
        for symbol, value in list(self.new.items()):  # as in `x, y = y, x`
            if self.view(value).base in self.new:
                self.new[symbol] = self._copy(self.view(value)).base
        found = [self.view(s) for s in self.graph.outputs]
        return [self._copy(v) if v.base in self.new else v for v in found]

    def _shared(self, first):
        """Pairs of a result and the Variable in whose memory it may be, among the last steps."""
        reads, shared = last_reads(self.steps), {}
        for at, step in enumerate(self.steps[first:], first):
            for o, i in step.launch.in_place if step.launch else ():
                out, base = step.outputs[o].base, step.inputs[i].base
                if self.new.get(base) is out and may_replace(step, o, i) and reads[base] <= at:
                    shared[out] = base
        return shared


def may_replace(step: Step, o: int, i: int) -> bool:
    """Whether a kernel can write output `o` over input `i`, also where it has that input twice."""
    base, pairs = step.inputs[i].base, step.launch.in_place if step.launch else ()
    return all(v.whole and (o, k) in pairs for k, v in enumerate(step.inputs) if v.base is base)


def last_reads(steps: list[Step]) -> dict[Symbol, int]:
    """For each symbol with memory of its own, the last step that reads it."""
    return {view.base: at for at, step in enumerate(steps) for view in step.inputs}


class Program:
    """Runs a Graph on the CPU by C++ kernels; the same to its caller as an `Executable`.

    Variables change when everything that can fail has run. Where somebody else holds the array of
    a Variable - a Tensor, a NumPy view - that array stays as it is, and the Variable gets its own.

    Args:
        graph: What `optimize` returned.

    Attributes:
        graph: The graph.
        arena: Bytes that all intermediate results of a step take together.

    Raises:
        DeviceError: If this machine has no C++ compiler.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._lock = threading.Lock()
        prepare(graph)
        planner = _Planner(graph)
        self._steps, self._variables = planner.steps, planner.variables
        _load_kernels(self._steps)
        self._memory(planner)
        self._tables()
        self._outputs = [self._source(view) for view in planner.outputs]
        self._inputs = [self._array(whole(s)) for s in graph.inputs]
        self._cells = [
            _Cell(variable, symbol, symbol in planner.new, self)
            for symbol, variable in planner.variables.items()
        ]
        self._parts = self._segments()

    @property
    def source(self) -> str:
        """The steps as text, one a line."""
        names: dict[Symbol, str] = {}

        def show(view):
            name = names.setdefault(view.base, f"m{len(names)}")
            return f"{name}:{view.operand.dtype.name}{list(view.operand.shape)}"

        return "\n".join(
            f"{', '.join(map(show, step.outputs))} = {_title(step)}"
            f"({', '.join(map(show, step.inputs))})"
            for step in self._steps
        )

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Computes the outputs from tensors of the traced shapes, and writes the Variables."""
        runtime = native.runtime()
        with self._lock:
            for buffer, x in zip(self._inputs, inputs, strict=True):
                np.copyto(buffer, x.data)
            # Kept for as long as kernels run: another thread may assign to a Variable.
            arrays = [cell.prepare() for cell in self._cells]
            for part in self._parts:
                if type(part) is tuple:
                    self._run(runtime, *part)
                else:
                    with np.errstate(all="ignore"):  # as kernels, which do not warn of inf and nan
                        part()
            del arrays
            device = self.graph.device
            return [Tensor(source().copy(), device) for source in self._outputs]

    # -- planning -----------------------------------------------------------------------------

    def _memory(self, planner):
        """Gives every symbol with memory of its own an address, or a place for a Variable's."""
        graph, end = self.graph, len(self._steps)
        spans = {s: (0, end) for s in graph.inputs}
        reads = last_reads(self._steps) | {view.base: end for view in planner.outputs}
        owner: dict[Symbol, Symbol] = dict(planner.in_variable)
        for at, step in enumerate(self._steps):
            self._share(at, step, spans, owner, reads)
            for view in step.outputs:
                if view.base not in owner and view.base not in planner.variables:
                    spans[view.base] = at, max(reads.get(view.base, at), at)
        scratch = {
            at: step.launch.scratch
            for at, step in enumerate(self._steps)
            if step.launch and step.launch.scratch
        }
        intervals = [(*span, s.nbytes) for s, span in spans.items()]
        intervals += [(at, at, nbytes) for at, nbytes in scratch.items()]
        offsets, self.arena = plan(intervals, _ALIGNMENT)
        self._buffer = _aligned(self.arena)
        start = self._buffer.ctypes.data
        self._at = {s: start + offset for s, offset in zip(spans, offsets, strict=False)}
        places = zip(scratch, offsets[len(spans) :], strict=True)
        self._scratch = {at: start + offset for at, offset in places}
        self._at.update((s, self._at[base]) for s, base in owner.items() if base in self._at)
        self._in_variable = planner.in_variable | {s: s for s in planner.variables}
        self._constants = {}
        for symbol, data in graph.constants.items():
            self._constants[symbol] = array = np.ascontiguousarray(data).reshape(symbol.shape)
            self._at[symbol] = array.ctypes.data

    def _share(self, at, step, spans, owner, reads):
        """Puts results of a kernel where an input was that nothing needs any more."""
        taken = set()
        for o, i in step.launch.in_place if step.launch else ():
            out = step.outputs[o].base
            base = owner.get(step.inputs[i].base, step.inputs[i].base)
            free = base in spans and base not in self.graph.inputs and base not in taken
            if not free or out in owner or reads[base] > at or not may_replace(step, o, i):
                continue
            if out.nbytes == base.nbytes:
                taken.add(base)
                owner[out] = base
                reads[base] = max(reads.get(out, at), at)
                spans[base] = spans[base][0], reads[base]

    def _tables(self):
        """Writes the tables that kernels are called by; see `cpu_kernels/runtime.cpp`."""
        self._patches: dict[Symbol, list[tuple[int, int]]] = {}
        arrays, sizes, numbers, calls = [], [], [], []
        for at, step in enumerate(self._steps):
            if step.launch is None:
                calls.append((0, 0, 0, 0))
                continue
            kernel = step.launch.kernel
            function = kernel if isinstance(kernel, int) else native.address(kernel)
            calls.append((function, len(arrays), len(sizes), len(numbers)))
            for view in (*step.inputs, *step.outputs):
                variable = self._in_variable.get(view.base)
                if variable is not None:
                    self._patches.setdefault(variable, []).append((len(arrays), view.offset))
                arrays.append(self._at.get(view.base, 0) + view.offset)
            arrays.append(self._scratch.get(at, 0))
            sizes += step.launch.sizes
            numbers += step.launch.numbers
        self._addresses = np.array(arrays, np.int64)
        self._sizes, self._numbers = np.array(sizes, np.int64), np.array(numbers, np.float64)
        table = np.array(calls, np.int64).reshape(-1, 4)
        for column, array in enumerate((self._addresses, self._sizes, self._numbers), 1):
            table[:, column] = table[:, column] * 8 + array.ctypes.data
        self._calls = table
        self._first_call = table.ctypes.data

    def _segments(self):
        """Cuts the steps into runs of kernels, and NumPy rules between them."""
        parts: list[Any] = []
        begin = 0
        for at, step in enumerate(self._steps):
            if step.launch is None:
                if at > begin:
                    parts.append((begin, at))
                parts.append(self._rule(step))
                begin = at + 1
        if len(self._steps) > begin:
            parts.append((begin, len(self._steps)))
        return parts

    # -- running ------------------------------------------------------------------------------

    def _run(self, runtime, begin, end):
        stopped = runtime.run_program(self._first_call, begin, end)
        if stopped < end:  # the NumPy rule finds the same fault, and says what it is
            self._rule(self._steps[stopped])()
            raise KernelError(f"The kernel of {_title(self._steps[stopped])} stopped.")

    def _rule(self, step):
        """The NumPy rule of an equation as a function that reads and writes the planned memory."""
        eq, device = step.equation, self.graph.device
        run = eq.op._run.get(device) or eq.op._bind(device)
        targets = [self._array(view) for view in step.outputs]
        sources = [self._source(view) for view in step.inputs]

        def rule():
            try:
                out = run(*[source() for source in sources], **eq.attributes)
            except (ValueError, TypeError, IndexError) as error:
                raise explained(error, eq, device) from error
            outs = out if isinstance(out, (tuple, list)) else (out,)
            for target, y in zip(targets, outs, strict=True):
                np.copyto(target, y)

        return rule

    def _source(self, view):
        """A function that returns a view as an array; a Variable's array may be another one."""
        variable = self._variables.get(view.base)
        if variable is None:
            array = self._array(view)
            return lambda: array
        if view.whole and view.operand.shape == view.base.shape:
            return lambda: variable._data
        return lambda: _strided(variable._data, view)

    def _array(self, view):
        """A NumPy array over the planned memory of a view."""
        symbol = view.base
        if symbol in self._constants:
            memory = self._constants[symbol]
        else:
            start = self._at[symbol] - self._buffer.ctypes.data
            memory = self._buffer[start : start + symbol.nbytes].view(symbol.dtype)
            memory = memory.reshape(symbol.shape)
        return memory if view == whole(symbol) else _strided(memory, view)

    def patch(self, symbol: Symbol, address: int) -> None:
        """Tells the kernels where the array of a Variable is."""
        for place, offset in self._patches.get(symbol, ()):
            self._addresses[place] = address + offset


class _Cell:
    """A Variable that a program reads or writes, and the array whose address the kernels have.

    A written array must be the variable's alone: the program writes over it.
    """

    def __init__(self, variable: Variable, symbol: Symbol, written: bool, program: Program):
        self.variable, self.written = variable, written
        self._tell = functools.partial(program.patch, symbol)
        self._known: Any = None

    def prepare(self) -> np.ndarray:
        """Before a run: makes sure that the kernels have the address of the right array.

        Returns:
            The array.
        """
        variable = self.variable
        data = variable._data
        # The two that are not somebody else's: the Variable, and `data`.
        alone = not self.written or sys.getrefcount(variable._data) <= _ALONE + 1
        if self._known is not None and self._known() is data and alone:
            return data
        usable = type(data) is np.ndarray and data.flags.c_contiguous and data.flags.aligned
        if usable and self.written:
            usable = alone and data.base is None and data.flags.writeable
        if not usable:
            data = variable._data = np.array(data, order="C")
        self._known = weakref.ref(data)
        self._tell(data.ctypes.data)
        return data


class _Probe:
    """Stands for a Variable whose array nobody else holds."""

    def __init__(self):
        self._data = np.empty(1)


_probe = _Probe()
_ALONE = sys.getrefcount(_probe._data)


def _load_kernels(steps):
    """Compiles and loads the libraries of all kernels, those not cached at the same time."""
    kernels = {s.launch.kernel for s in steps if s.launch and isinstance(s.launch.kernel, str)}
    files = sorted({kernel.partition(".")[0] for kernel in kernels})
    native.runtime()
    with ThreadPoolExecutor() as pool:
        list(pool.map(native.library, files))


def _strided(memory, view):
    """The elements of a view in the memory of its base."""
    operand = view.operand
    start = view.offset // operand.dtype.itemsize
    strides = [s * operand.dtype.itemsize for s in operand.strides]
    return np.lib.stride_tricks.as_strided(
        memory.reshape(-1)[start:], operand.shape, strides, writeable=False
    )


def _aligned(nbytes):
    buffer = np.empty(nbytes + _ALIGNMENT, np.uint8)
    skip = -buffer.ctypes.data % _ALIGNMENT
    return buffer[skip : skip + nbytes]


def _title(step):
    if step.launch is None:
        return f"{step.equation.op.name} (NumPy)"
    kernel = step.launch.kernel
    return kernel if isinstance(kernel, str) else step.equation.op.name
