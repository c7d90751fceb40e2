"""KernelOp: a kernel and its reference as an op: called, launched, traced."""

import functools
import inspect
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.device import Device, current_device, device
from gpunet.backend.kernels import empty
from gpunet.backend.memory import as_array
from gpunet.core.primitive import Primitive
from gpunet.core.state import mode
from gpunet.core.symbolic import any_symbolic_tensors
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol, trace
from gpunet.core.variable import Variable
from gpunet.cuda.binding import plain_value
from gpunet.cuda.launch import CudaLauncher, ExternLauncher
from gpunet.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GpunetError,
    ShapeError,
    received,
)
from gpunet.ops.elementwise_launch import contiguous

# Not gpunet's registry: its ops are tested row by row, and a kernel's name is the user's. The names
# differ from gpunet's and from each other, because compiled graphs tell ops apart by their names.
_PRIMITIVES: weakref.WeakValueDictionary[str, Primitive] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


def _unique(name):
    name = f"kernel_{name}"
    return name if name not in _PRIMITIVES else f"{name}_{next(_numbers)}"


class KernelOp:
    """A kernel with its meaning, as an op; `CustomKernel` adds gradients and checks.

    Args:
        name: What errors and graphs call it.
        reference: The Python function, in gpunet ops.
        inputs: Names of its tensors.
        attributes: Its other arguments, with their defaults (`inspect.Parameter.empty`: none).
        launcher: Launches the kernel.
        results: Names that results may have; `None`: any.
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        inputs: Sequence[str],
        attributes: dict[str, Any],
        launcher: CudaLauncher | ExternLauncher,
        results: Sequence[str] | None = None,
    ):
        self.__name__, self.__doc__ = name, reference.__doc__
        self.reference, self.launcher = reference, launcher
        self.inputs, self.attributes = tuple(inputs), tuple(attributes)
        if not inputs:
            raise ArgumentError(f"{name}: a kernel needs at least one tensor as its input.")
        self.outputs = launcher.bind(self.inputs, self.attributes, results)
        kind, default = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(x, kind) for x in inputs]
            + [inspect.Parameter(x, default, default=value) for x, value in attributes.items()]
        )
        self._like: list[int] | None = None  # the inputs whose shapes and dtypes the results have
        self._specs: dict[tuple, tuple[tuple[Any, Any], ...]] = {}
        settings = f", *, {', '.join(attributes)}" if attributes else ""
        signature = f"({', '.join(inputs)}{settings}) -> {', '.join(self.outputs)}"
        self.primitive = Primitive(_unique(name) + signature, _PRIMITIVES)
        self.primitive.composite(self._meaning)
        self.primitive.infer(self._infer)
        self.primitive.cuda(self._launch)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name__}{self.__signature__}>"

    def __deepcopy__(self, memo: dict) -> "KernelOp":
        return self  # a copy of a layer applies the same kernel

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Applies the kernel.

        Args:
            *args: Tensors, or anything that makes one.
            **kwargs: Attributes, by name.

        Returns:
            A tensor, or a tuple of them if the kernel has several results.

        Raises:
            ArgumentError: If an argument is missing or unknown.
            DeviceError: If the tensors are on different devices.
            DTypeError: If the kernel does not take tensors of this dtype.
            KernelError: If the kernel does not compile or run.
        """
        tensors, attributes = self.arguments(*args, **kwargs)
        if len({x.device for x in tensors}) > 1:
            raise DeviceError(
                f"{self.__name__}: all tensors must be on one device; move them with "
                f"`x.to(device)`. Received: {', '.join(str(x.device) for x in tensors)}"
            )
        dtypes = {name: x.dtype for name, x in zip(self.inputs, tensors, strict=True)}
        self.launcher.check(dtypes, attributes)
        self._results([Symbol(x.shape, x.dtype) for x in tensors], attributes, tensors[0].device)
        return self.primitive(*tensors, **attributes)

    def arguments(self, *args: Any, **kwargs: Any) -> tuple[list[Tensor], dict[str, Any]]:
        """Returns the tensors and the attributes of a call."""
        if any_symbolic_tensors(args, kwargs):
            raise ArgumentError(
                f"{self.__name__}: in a functional model a kernel is a layer; write "
                f"`layers.Kernel({self.__name__})(x)`. Received: a KerasTensor"
            )
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(
                f"{self.__name__}{self.__signature__}: {error}. "
                f"Received: {len(args)} positional arguments and {sorted(kwargs)}"
            ) from error
        bound.apply_defaults()
        given = bound.arguments
        devices = [x.device for x in args if isinstance(x, (Tensor, Variable))]
        place = devices[0] if devices else current_device()
        tensors = [as_tensor(given[name], device=place) for name in self.inputs]
        values = {x: plain_value(self.__name__, x, given[x]) for x in self.attributes}
        return tensors, values

    def check_attributes(self, attributes: dict[str, Any]) -> None:
        """Refuses attributes that the kernel does not have.

        Raises:
            ArgumentError: If there are such.
        """
        if unknown := sorted(attributes.keys() - set(self.attributes)):
            raise ArgumentError(
                f"{self.__name__} has the attributes {list(self.attributes)}. "
                + received(unknown=unknown)
            )

    # -- the rules of the op --------------------------------------------------------------------

    def _meaning(self, *tensors, **attributes):
        with device(tensors[0].device):  # for what it makes anew, such as zeros
            out = self.reference(*tensors, **attributes)
        outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        if len(outs) != len(self.outputs):
            raise ArgumentError(
                f"{self.__name__}: the Python function must return one tensor for each result of "
                f"the kernel, {list(self.outputs)}. Received: {len(outs)} results"
            )
        tensors = [as_tensor(y) for y in outs]
        return tuple(tensors) if len(tensors) > 1 else tensors[0]

    def _results(self, symbols, attributes, place=None) -> tuple[tuple[Any, Any], ...]:
        """Returns (shape, dtype) of each result, as the Python function has them."""
        if self._like is not None:
            return tuple([(symbols[i].shape, symbols[i].dtype) for i in self._like])
        given = tuple([(name, type(value), value) for name, value in attributes.items()])
        key = (tuple([(x.shape, x.dtype) for x in symbols]), given)
        known = self._specs.get(key)
        if known is None:
            meaning = functools.partial(self._meaning, **attributes)
            try:
                with mode(tape=None):
                    graph = trace(meaning, *symbols, device=place or current_device())
            except GpunetError:
                raise
            except (ValueError, TypeError, IndexError) as error:
                kind = DTypeError if isinstance(error, TypeError) else ShapeError
                raise kind(f"{self.__name__}: {error}. Received: {symbols}") from error
            known = tuple([(y.shape, y.dtype) for y in graph.outputs])
            inputs = zip(self.inputs, [x.dtype for x in symbols], strict=True)
            outputs = zip(self.outputs, [dtype for _, dtype in known], strict=True)
            self.launcher.check(dict([*inputs, *outputs]), attributes)
            if len(self._specs) >= 512:
                self._specs.clear()
            self._specs[key] = known
        return known

    def _infer(self, *symbols, **attributes):
        outs = [Symbol(*spec) for spec in self._results(symbols, attributes)]
        return tuple(outs) if len(outs) > 1 else outs[0]

    def _launch(self, *arrays, **attributes):
        """The `cuda` rule; NumPy arrays are those of the emulator."""
        place = _place(arrays[0])
        if place.kind not in self.launcher.devices:
            with mode(tape=None, graph=None):
                out = self._meaning(*[Tensor(x, place) for x in arrays], **attributes)
            return tuple([y.data for y in out]) if isinstance(out, tuple) else out.data
        known = self._results([Symbol(x.shape, x.dtype) for x in arrays], attributes)
        if self.launcher.broadcast:
            arrays = [_repeatable(x, known[0][0], place.xp) for x in arrays]
        if self.launcher.contiguous:
            arrays = [contiguous(x) for x in arrays]
        outs = [empty(shape, dtype, like=arrays[0]) for shape, dtype in known]
        if self.launcher.init is not None:
            for y in outs:
                y.fill(self.launcher.init)
        inputs = dict(zip(self.inputs, arrays, strict=True))
        returned = self.launcher(inputs, dict(zip(self.outputs, outs, strict=True)), attributes)
        if returned is not None:
            outs = self._taken(returned, known, place)
        return tuple(outs) if len(outs) > 1 else outs[0]

    def _taken(self, returned, known, place):
        """Checks what a callable returned against what the reference says."""
        arrays = returned if isinstance(returned, (tuple, list)) else (returned,)
        outs = [as_array(y, None, place, copy=False) for y in arrays]
        found = [(tuple(y.shape), y.dtype) for y in outs]
        if found != [(tuple(shape), dtype) for shape, dtype in known]:
            raise ShapeError(
                f"{self.__name__}: the callable must return what the reference does, {known}. "
                f"Received: {found}"
            )
        return outs


def _place(array):
    """Returns the device of an array that a `cuda` rule got."""
    numpy = isinstance(array, np.ndarray | np.generic)
    return Device("emulator") if numpy else Device(f"cuda:{array.device.id}")


def _repeatable(x, shape, xp):
    """Returns an array whose elements, repeated in order, are those of `x` in this shape."""
    inner = x.shape
    while inner and inner[0] == 1:
        inner = inner[1:]
    return x if inner == shape[len(shape) - len(inner) :] else xp.broadcast_to(x, shape)
