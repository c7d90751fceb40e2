"""Whether a result is right: against the same op in float64, computed without gpunet's kernels."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import Kernel
from gpunet.core.primitive import REGISTRY
from gpunet.core.tensor import Tensor

# Relative error in the 2-norm, and the greatest error of an element, in units of the precision of
# the dtype and of the greatest element. A wrong element among many does not show in the first.
NORM_UNITS, ELEMENT_UNITS = 1, 8
SUMMED = 1e-5  # what float32 sums of many terms may add


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Every primitive computes by its array code: the reference that owes nothing to a kernel."""
    taken = {p: p.rules.pop("cuda") for p in REGISTRY.values() if "cuda" in p.rules}
    for primitive in REGISTRY.values():
        primitive._run.clear()
    try:
        yield
    finally:
        for primitive, rule in taken.items():
            primitive.cuda(rule)  # which also forgets the rules chosen meanwhile
        for primitive in REGISTRY.values():
            primitive._run.clear()


@contextlib.contextmanager
def noting_kernels() -> Iterator[list[str]]:
    """Yields a list that fills with the kernels launched, as `file:kernel<...>`."""
    launched: list[str] = []
    call = Kernel.__call__

    def note(self, **arguments):
        name = f"{self.file}:{self.expression}"
        if name not in launched:
            launched.append(name)
        return call(self, **arguments)

    Kernel.__call__ = note
    try:
        yield launched
    finally:
        Kernel.__call__ = call


@contextlib.contextmanager
def poisoned(device: Device) -> Iterator[None]:
    """All memory that is allocated on a GPU reads as NaN, or -1; on the emulator it always does."""
    if device.kind != "cuda":
        yield
        return
    pool = device.xp.get_default_memory_pool()

    def allocate(size):
        memory = pool.malloc(size)
        if size:
            memory.memset_async(0xFF, size)
        return memory

    with device.xp.cuda.using_allocator(allocate):
        yield


def tensors(arrays: list, device: Device) -> list[Tensor]:
    """Arrays as tensors of a device, not copied."""
    return [Tensor(x, device) for x in arrays]


def results(run: Callable, inputs: list[Tensor]) -> list:
    """The results of `run` as a list of arrays."""
    out = run(*inputs)
    return [y.data for y in (out if isinstance(out, (tuple, list)) else (out,))]


def reference(run: Callable, inputs: list[Tensor]) -> list:
    """The same with float inputs widened to float64."""
    wide = [
        Tensor(x.data.astype(np.float64), x.device) if x.dtype.kind in "fV" else x for x in inputs
    ]
    with without_kernels():
        return results(run, wide)


def errors(xp: Any, outputs: list, wanted: list) -> list[dict]:
    """For each result: the relative error in the 2-norm, and that of the worst element."""
    found = []
    for y, reference_y in zip(outputs, wanted, strict=True):
        if tuple(y.shape) != tuple(reference_y.shape):
            found.append({"norm": np.inf, "element": np.inf})
            continue
        exact = xp.asarray(reference_y).astype(np.float64)
        error = xp.asarray(y).astype(np.float64) - exact
        norms = [float(xp.sqrt((x * x).sum())) for x in (error, exact)]
        largest = [float(abs(x).max()) if x.size else 0.0 for x in (error, exact)]
        found.append(
            {"norm": norms[0] / (norms[1] or 1.0), "element": largest[0] / (largest[1] or 1.0)}
        )
    return found


def is_right(found: list[dict], outputs: list, factor: float, inputs: list) -> bool:
    """Whether the errors are what the dtypes allow; NaN never is."""
    return all(
        error["norm"] <= factor * (NORM_UNITS * unit + SUMMED)
        and error["element"] <= factor * (ELEMENT_UNITS * unit + SUMMED)
        for error, unit in zip(found, [_unit(y, inputs) for y in outputs], strict=True)
    )


def _unit(y, inputs):
    """The precision of a result: that of the coarsest float among it and the inputs."""
    if y.dtype.kind not in "fV":
        return 0.0
    floats = [x.dtype for x in (y, *inputs) if x.dtype.kind in "fV"]
    return max(float(ml_dtypes.finfo(dtype).eps) for dtype in floats)


def rival_error(xp: Any, outputs: list, wanted: list) -> float:
    """The greatest relative error, in the 2-norm, of the results that a rival has too."""
    count = min(len(outputs), len(wanted))
    found = errors(xp, outputs[:count], wanted[:count])
    return max((error["norm"] for error in found), default=0.0)


def same_bits(one: list, other: list) -> bool:
    """Whether two lists of arrays are equal to the bit."""
    return all(
        bool((_bits(x) == _bits(y)).all()) for x, y in zip(one, other, strict=True) if x.size
    )


def _bits(x):
    return x.reshape(-1).view(np.uint8)
