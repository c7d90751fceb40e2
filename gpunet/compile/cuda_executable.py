"""A graph on a GPU: its memory planned, its kernels captured as one CUDA graph, and replayed.

Launching a kernel costs the CPU some microseconds; a training step has hundreds of them, and the
GPU waits. A CUDA graph is launched as a whole. It repeats the captured kernels with the captured
addresses and numbers, so all that changes from step to step must be at a fixed address on the GPU:
inputs, Variables (weights, counters, learning rates, seeds), and the memory in between.

An executable gets there in three calls, each of which does the step:

1. *Warm-up*: op by op, after its kernels were compiled at once, in threads. Modules are loaded,
   cuBLASLt chooses algorithms, workspaces are made.
2. *Recording*: op by op on the fixed arrays, noting what is allocated when. From that follows the
   plan: one arena, an address for each array.
3. *Capture*: the step runs once more into a stream that captures, and gets the planned memory. The
   graph is launched, now and in every later call.

The emulator does the same but for the capture: it runs the kernels in the planned memory.
"""

import contextlib
import os
import warnings
from typing import Any

import numpy as np

from gpunet import config
from gpunet.backend.kernels import Kernel, hooked
from gpunet.compile.blocks import Placer, Recorder
from gpunet.compile.executable import Executable
from gpunet.compile.homes import Cell, Home, MemoryUses
from gpunet.compile.inputs import Inputs
from gpunet.compile.interpreter import Interpreter, describe, run_step_by_step
from gpunet.compile.machine import machine
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Graph
from gpunet.errors import GpunetError

_THREADS = 16  # that compile kernels at the same time


class CudaExecutable:
    """Runs a Graph on a GPU, or on the emulator; captured from the third call on.

    Variables are written when the whole graph has run. What cannot be captured - a rule that needs
    a value on the host, say - runs op by op, with one warning that names the equation.

    Args:
        graph: What `trace` or `optimize` returned, for a device of kind `"cuda"` or `"emulator"`.

    Attributes:
        graph: The graph.
        source: The equations as a Python function, as text.
        stage: `"warm-up"`, `"recording"`, `"planned"` (the third call is next), `"replay"`, or
            `"op by op"` where it could not be captured.
        arena_bytes: The size of the arena, once it is planned.

    Example:
        >>> import gpunet
        >>> from gpunet.core.trace import trace
        >>> with gpunet.device("emulator"):  # doctest: +SKIP
        ...     run = CudaExecutable(trace(lambda x: gpunet.ops.exp(x) * 2, gpunet.ops.zeros(3)))
        ...     for _ in range(3):
        ...         y = run(gpunet.ops.zeros(3))[0]
        ...     print(y.tolist(), run.stage)
        [2.0, 2.0, 2.0] replay
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._machine = machine(graph.device)
        self._plain = Executable(graph)
        self.source = self._plain.source
        self.stage = "warm-up"
        self.arena_bytes = 0
        self._interpreter = Interpreter(graph)
        self._cells = [Cell(*cell) for cell in graph.cells.values()]
        self._inputs: Any = None

    def __call__(self, *inputs: Any) -> list[Tensor]:
        """Computes the outputs, and writes the Variables.

        Args:
            *inputs: Tensors of the traced shapes and dtypes, or `Pending` ones.
        """
        machine = self._machine
        if config.is_debug_enabled():
            with machine.working():
                tensors = list(map(as_tensor, inputs))
                return run_step_by_step(self.graph, tensors, machine.synchronize)
        if self.stage == "op by op" or machine.is_captured():
            return self._plain(*map(as_tensor, inputs))
        # Memory of the caller's stream: where it is used, its next user comes later.
        out = [machine.array(s.shape, s.dtype) for s in self.graph.outputs]
        with machine.working():
            if self.stage == "warm-up":
                return self._warm_up(list(map(as_tensor, inputs)))
            if self.stage == "recording":
                return self._record(inputs, out)
            if self.stage == "planned" and not self._capture():
                return self._plain(*map(as_tensor, inputs))
            self._fill(inputs)
            return self._given_out(self._launch(), out)

    # -- the first call -------------------------------------------------------------------------

    def _warm_up(self, tensors):
        self._compile_kernels(tensors)
        out = self._plain(*tensors)
        self.stage = "recording"
        return out

    def _compile_kernels(self, tensors):
        """Compiles all kernels of the step at once: a dry run tells which these are.

        In a dry run nothing is launched, so results are garbage; a rule that looks at values may
        stumble over them. Then the kernels after it are compiled when they are first launched.
        """
        from concurrent.futures import ThreadPoolExecutor

        found: dict[tuple[int, Any], Kernel] = {}

        def note(kernel, device, *launch):
            found[id(kernel), device] = kernel

        values = dict(self.graph.constants)
        values.update((s, x.data) for s, x in zip(self.graph.inputs, tensors, strict=True))
        values.update((cell.symbol, cell.variable._data) for cell in self._cells)
        stumbles = GpunetError, RuntimeError, ArithmeticError, LookupError
        with contextlib.suppress(*stumbles), hooked(launch=note), np.errstate(all="ignore"):
            self._interpreter.run(values, None)
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            jobs = [pool.submit(kernel.compiled, device) for (_, device), kernel in found.items()]
        for job in jobs:
            job.result()

    # -- the second call ------------------------------------------------------------------------

    def _record(self, inputs, out):
        machine = self._machine
        self._inputs = Inputs(self.graph.inputs, machine)
        for cell in self._cells:
            cell.home = Home.of(cell.variable, machine)
        self._fill(inputs)
        recorder = Recorder(machine.memory)
        memory = MemoryUses(self.graph, self._cells, machine, recorder)
        tensors = self._given_out(self._compute(recorder.request, memory), out)
        direct = memory.direct()
        self._memory, self._direct = memory, {cell for _, cell in direct.values()}
        self._placer = Placer(recorder, {index: address for index, (address, _) in direct.items()})
        self.arena_bytes = self._placer.total
        self.stage = "planned"
        return tensors

    def _compute(self, request, memory):
        """Runs the equations and puts new values into their homes; returns the outputs' arrays."""
        graph, machine = self.graph, self._machine
        values = dict(graph.constants)
        values.update(self._inputs.arrays)
        values.update((cell.symbol, cell.home.array) for cell in self._cells)
        recording = self.stage == "recording"
        with machine.allocating(request):
            self._interpreter.run(values, memory.after if recording else None)
            # What lies in a home is saved before any home is written.
            for symbol in memory.at_risk():
                saved = machine.array(symbol.shape, symbol.dtype)
                machine.copy(saved, values[symbol])
                values[symbol] = saved
            for cell in self._cells:
                if cell.written and (recording or cell not in self._direct):
                    machine.copy(cell.home.array, values[cell.new])
            return [values[symbol] for symbol in graph.outputs]

    # -- the third call, and all others ---------------------------------------------------------

    def _capture(self):
        """Captures the step in planned memory; tells whether that went well."""
        machine, placer = self._machine, self._placer
        machine.tidy()
        address, self._arena = machine.memory(max(placer.total, 1))

        def run():
            placer.begin(address)
            return self._compute(placer.request, self._memory)

        try:
            self._launch = machine.capture(run)
        except Exception as error:
            self.stage, self._arena, self._inputs = "op by op", None, None
            eq = self.graph.equations[self._interpreter.position]
            warnings.warn(
                f"A graph of {len(self.graph.equations)} equations runs op by op, slower: it "
                f"cannot be captured because of {describe(eq)}: {error}",
                stacklevel=4,
            )
            return False
        self.stage = "replay"
        return True

    def _fill(self, inputs):
        self._inputs.fill(inputs)
        for cell in self._cells:
            cell.home.move_in(cell.variable)

    def _given_out(self, arrays, out):
        """Tensors with the outputs, copied to `out`; Variables are known to have changed."""
        for cell in self._cells:
            if cell.written:
                cell.home.changed(cell.variable)
        for y, x in zip(out, arrays, strict=True):
            self._machine.copy(y, x)
        return [Tensor(y, self.graph.device) for y in out]
