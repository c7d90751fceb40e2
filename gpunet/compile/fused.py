"""Fused: one primitive for a chain of elementwise ones, which no intermediate result leaves.

`fusion.py` finds the chains of a graph. Here is what such a primitive means and how NumPy computes
it; `emit_cuda.py` and `emit_cpp.py` write a kernel for each chain.
"""

import functools
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.native import Launch, Operand
from gpunet.compile import emit_cpp, emit_cuda, tiles
from gpunet.compile.chain import Chain, value_dtypes
from gpunet.core.primitive import Primitive
from gpunet.core.tensor import FUNCTIONS
from gpunet.core.trace import Symbol

_NAMED = 4  # steps that are named; the others are counted


class Fused(Primitive):
    """A primitive that computes a chain: `fused(x0, x1, ..., *, shape) -> y0, ...`.

    All its results have the shape `shape`, to which inputs are broadcast. It is in no registry:
    `fused(chain)` returns the one of a chain.

    Args:
        chain: What it computes.

    Attributes:
        chain: The same.
    """

    def __init__(self, chain: Chain):
        names = [step.op.name for step in chain.steps]
        more = [f"and_{len(names) - _NAMED}"] if len(names) > _NAMED else []
        name = "_".join(["fused", *names[:_NAMED], *more])
        inputs = ", ".join(f"x{i}" for i in range(chain.arity))
        outputs = ", ".join(f"y{i}" for i in range(len(chain.results)))
        super().__init__(f"{name}({inputs}, *, shape) -> {outputs}", {})
        self.chain = chain
        self._launchers: dict[tuple, Any] = {}
        self.composite(self._meaning)
        self.infer(self._infer)
        self.cpu(self._on_cpu)
        self.cuda(self._on_cuda)
        self.native(self._plan)
        self.cost(self._cost)

    def _meaning(self, *xs, shape):
        values = list(xs)
        for step in self.chain.steps:
            values.append(step.op(*[values[i] for i in step.operands], **dict(step.attributes)))
        results = [values[i] for i in self.chain.results]
        whole = [y if y.shape == shape else FUNCTIONS["broadcast_to"](y, shape) for y in results]
        return tuple(whole) if len(whole) > 1 else whole[0]

    def _infer(self, *xs, shape):
        dtypes = value_dtypes(self.chain, tuple([x.dtype for x in xs]))
        results = [Symbol(shape, dtypes[i]) for i in self.chain.results]
        return tuple(results) if len(results) > 1 else results[0]

    def _cost(self, *xs, shape):
        results = self._infer(*xs, shape=shape)
        results = results if isinstance(results, tuple) else (results,)
        moved = sum(s.nbytes for s in (*xs, *results))
        return moved, len(self.chain.steps) * results[0].size

    def _one_by_one(self, device, xs, shape):
        """The rules of the steps, one after the other."""
        values = list(xs)
        for step in self.chain.steps:
            run = step.op._run.get(device) or step.op._bind(device)
            values.append(run(*[values[i] for i in step.operands], **dict(step.attributes)))
        results = [values[i] for i in self.chain.results]
        xp = device.xp
        whole = [y if y.shape == shape else xp.broadcast_to(y, shape) for y in results]
        return tuple(whole) if len(whole) > 1 else whole[0]

    def _on_cpu(self, *xs, shape):
        dtypes = value_dtypes(self.chain, tuple([x.dtype for x in xs]))
        results = tiles.run(self.chain, dtypes, xs, shape)
        if results is None:
            return self._one_by_one(Device("cpu"), xs, shape)
        return tuple(results) if len(results) > 1 else results[0]

    def _on_cuda(self, *xs, shape):
        hosted = tuple([isinstance(x, np.generic) for x in xs])
        key = tuple([x.dtype for x in xs])
        if emit_cuda.computed_on_host(self.chain, hosted):
            like = next((x for x in xs if not isinstance(x, np.generic)), None)
            return self._one_by_one(_device(like), xs, shape)
        launcher = self._launchers.get(key)
        if launcher is None:
            launcher = self._launchers[key] = emit_cuda.Launcher(self.name, self.chain, key)
        results = launcher(xs, shape)
        return tuple(results) if len(results) > 1 else results[0]

    def _plan(self, inputs: list[Operand], outputs: list[Operand], shape) -> Launch | None:
        return emit_cpp.plan(self.chain, inputs, outputs)


def _device(like):
    """Where an array is; NumPy scalars are computed by NumPy anyway."""
    if like is None or isinstance(like, np.ndarray):
        return Device("emulator")
    return Device(f"cuda:{like.device.id}")


@functools.cache
def fused(chain: Chain) -> Fused:
    """Returns the primitive of a chain; equal chains share it, and its compiled kernels."""
    return Fused(chain)
