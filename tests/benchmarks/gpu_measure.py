"""Measures one row: checks gpunet's result first, then times it and PyTorch by turns."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import gpu_check as check
from gpu_ceilings import Ceilings
from gpu_row import Row
from gpu_timing import CupyGraphs, Timing, TorchGraphs, buffer_sets, measure

from gpunet.backend.device import Device
from gpunet.backend.device import device as on_device
from gpunet.dtypes import BFLOAT16

MISSING = {"us": None, "note": "PyTorch is not installed, or finds no GPU"}
RIVAL_ERROR = 0.05  # in the 2-norm: a rival that is further off computes something else


class Machine:
    """Where the rows run: the device, and what times gpunet and PyTorch there.

    Args:
        device: `"cuda:0"` or `"emulator"`; on the emulator nothing is timed, and PyTorch, where it
            is installed, computes on the CPU: its results are compared all the same.
    """

    def __init__(self, device: str):
        self.device = Device(device)
        self.times = self.device.kind == "cuda"
        self.xp = self.device.xp

    @functools.cached_property
    def torch(self) -> Any:
        """PyTorch, or None; imported only where it takes part."""
        return _torch(self.times)

    def graphs(self) -> Any:
        return CupyGraphs(self.xp)

    def torch_graphs(self) -> Any:
        return TorchGraphs(self.torch)

    def wait(self) -> None:
        """Waits until the device has done everything asked of it."""
        self.xp.cuda.Device().synchronize()

    def release(self) -> None:
        """Gives the memory of the last row back."""
        if self.times:
            self.xp.get_default_memory_pool().free_all_blocks()
        if self.torch and self.times:
            self.torch._dynamo.reset()  # it stops compiling after some versions of one lambda
            self.torch.cuda.empty_cache()

    def to_torch(self, x: Any) -> Any:
        """PyTorch's view of an array on a GPU; on a CPU a copy, since NumPy lacks bfloat16."""
        if self.times:
            return self.torch.from_dlpack(x)
        if x.dtype == BFLOAT16:
            return self.torch.from_numpy(x.astype("float32")).bfloat16()
        return self.torch.from_numpy(x.copy())

    def from_torch(self, x: Any) -> Any:
        """The other way round; on a CPU in float64."""
        x = x.detach()
        return self.xp.from_dlpack(x) if self.times else x.double().numpy()


def _torch(on_gpu):
    try:
        import torch
    except ImportError:
        return None
    torch.backends.cudnn.benchmark = True
    return torch if torch.cuda.is_available() or not on_gpu else None


def run_row(row: Row, machine: Machine, ceilings: Ceilings, quick: bool) -> dict:
    """Measures a row; returns what the report holds of it.

    A row whose result is wrong, or that fails, has no figure: `"note"` says why.
    """
    line: dict[str, Any] = {"op": row.name, "size": row.size_text(quick), "dtype": row.dtype}
    line |= {"us": None, "share": None, "of": row.of, "target": row.target, "note": ""}
    details: dict[str, Any] = {"rivals": {}}
    started = time.perf_counter()
    try:
        _measure(row, machine, ceilings, quick, line, details)
    except Exception as error:  # whatever a kernel does wrong concerns its row only
        line["note"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        if machine.times and _is_lost(machine):
            details["device lost"] = True
    details["seconds"] = round(time.perf_counter() - started, 2)
    return line | {"details": details}


def _is_lost(machine):
    """Whether CUDA refuses everything from now on, as after an illegal access."""
    try:
        machine.xp.zeros(1).get()
    except Exception:  # any answer but a number
        return True
    return False


def _measure(row, machine, ceilings, quick, line, details):
    drawn = row.draw(machine.xp, quick)
    with on_device(machine.device):
        inputs = check.tensors(drawn, machine.device)
        if row.prepare:
            inputs = list(row.prepare(*inputs))
        with check.poisoned(machine.device), check.noting_kernels() as launched:
            outputs = check.results(row.run, inputs)
        details["kernels"] = launched
        again = check.results(row.run, inputs)
        details["deterministic"] = check.same_bits(outputs, again)
        del again
        exact = check.reference(row.reference or row.run, inputs)
        details["errors"] = check.errors(machine.xp, outputs, exact)
        arrays = [x.data for x in inputs]
        if not check.is_right(details["errors"], outputs, row.tolerance, arrays):
            line["note"] = f"wrong, not timed: errors {details['errors']}"
            return
        nbytes, flops = row.cost(arrays, outputs)
        details |= {"bytes": nbytes, "flops": flops}
        compared = exact if row.compared is None else exact[: row.compared]
        if not machine.times:
            line["note"] = "emulated"
            for name, run in _torch_forms(row, machine).items():
                details["rivals"][name] = _rival(row, machine, drawn, run, nbytes, compared)
            return
        _time(row, machine, drawn, inputs, compared, line, details)
        if row.of in ("copy", "read", "write"):
            most = ceilings.at(row.of, nbytes)
            line["share"] = most and nbytes / details["own"]["us"] * 1e6 / most
        else:
            line["share"] = details["rivals"].get(row.of, {}).get("ratio")


def _time(row, machine, drawn, inputs, compared, line, details):
    """Own, rivals, own again: the two figures of our own tell how much the machine wavers."""
    outputs = check.results(row.run, inputs)
    own_bytes = sum(x.nbytes for x in [x.data for x in inputs] + outputs)
    del outputs
    first = _own(row, machine, inputs, own_bytes)
    for name, run in _torch_forms(row, machine).items():
        details["rivals"][name] = _rival(row, machine, drawn, run, own_bytes, compared)
    second = _own(row, machine, inputs, own_bytes)
    best = min(first, second, key=lambda timing: timing.median)
    details["own"] = best.json()
    details["noise"] = abs(first.median - second.median) / best.median
    details["GB/s"] = details["bytes"] / best.median * 1e-9
    line["us"] = best.median * 1e6
    for rival in details["rivals"].values():
        if rival.get("us"):
            rival["ratio"] = rival["us"] / line["us"]


def _own(row: Row, machine: Machine, inputs: list, nbytes: int) -> Timing:
    sets = buffer_sets(nbytes)
    graphs = machine.graphs()
    copies = [
        inputs if i == 0 else check.tensors([x.data.copy() for x in inputs], machine.device)
        for i in range(sets)
    ]
    machine.wait()  # before another stream reads the copies
    held: list[Any] = [None] * sets

    def call(i):
        held[i] = row.run(*copies[i])

    return measure(graphs, call, sets)


def _torch_forms(row: Row, machine: Machine) -> dict[str, Callable]:
    """What PyTorch is asked for, by name."""
    torch, forms = machine.torch, dict(row.rivals)
    if row.torch:
        forms = {"PyTorch": row.torch, **forms}
        if row.compiled and machine.times and torch:
            eager = row.torch
            compiled = torch.compile(lambda *xs: eager(torch, *xs), dynamic=False)
            forms["compile"] = lambda torch, *xs: compiled(*xs)
    return forms


def _rival(row, machine, drawn, run, nbytes, compared) -> dict:
    if machine.torch is None:
        return dict(MISSING)
    try:
        return _time_rival(row, machine, drawn, run, nbytes, compared)
    except Exception as error:  # a rival that cannot do it is no reason to lose our figure
        return {"us": None, "note": f"{type(error).__name__}: {error}".splitlines()[0][:300]}


def _time_rival(row, machine, drawn, run, nbytes, compared) -> dict:
    torch = machine.torch
    if not machine.times:
        call = _torch_call(row, machine, drawn, run, fresh=row.in_place)
        return _compare(machine, call(), compared) | {"note": "emulated"}
    graphs, sets = machine.torch_graphs(), buffer_sets(nbytes)
    machine.wait()
    with graphs.active():
        calls = [
            _torch_call(row, machine, drawn, run, fresh=i > 0 or row.in_place) for i in range(sets)
        ]
        first = calls[0]()
    machine.wait()
    found = _compare(machine, first, compared)
    del first
    held: list[Any] = [None] * sets

    def call(i):
        held[i] = calls[i]()

    with contextlib.nullcontext() if row.wrt else torch.no_grad():
        return found | measure(graphs, call, sets).json()


def _torch_call(row, machine, drawn, run, fresh):
    """A function without arguments that computes once, on PyTorch's view of our arrays."""
    torch = machine.torch
    arrays = [machine.to_torch(x) for x in drawn]
    arrays = [x.clone() for x in arrays] if fresh else arrays
    if row.pack:
        arrays = list(row.pack(torch, *arrays))
    if not row.wrt:
        return lambda: run(torch, *arrays)
    cotangent, *others = arrays
    others = [x.detach() for x in others]
    wanted = [others[i].requires_grad_() for i in row.wrt]
    result = run(torch, *others)
    return lambda: torch.autograd.grad(result, wanted, cotangent, retain_graph=True)


def _compare(machine, out, compared) -> dict:
    """The error of a rival, which must compute what we do.

    Raises:
        ValueError: If it does not: its time would say nothing.
    """
    listed = list(out) if isinstance(out, (tuple, list)) else [out]
    arrays = [machine.from_torch(y) for y in listed][: len(compared)]
    error = check.rival_error(machine.xp, arrays, compared)
    if not error <= RIVAL_ERROR:
        raise ValueError(f"differs from ours by {error:.2g} in the 2-norm")
    return {"us": None, "error": error}
