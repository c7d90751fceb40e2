"""How the kernel of a `CustomKernel` is launched: by gpunet, or by a callable of the user's."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.kernels import Kernel, ceil_div
from gpunet.backend.nvrtc import Cubin, compile_cubin
from gpunet.backend.signature import DTYPES
from gpunet.cuda.binding import Binding, bind, find_kernel
from gpunet.dtypes import numpy_dtype
from gpunet.errors import KernelError, received

PRELUDE = """\
#include "common.cuh"
// Runs its body for i = 0, ..., n - 1, shared among the threads of the grid.
#define GPUNET_LOOP(i, n) \\
  for (long long i = grid_start<long long>(); i < (n); i += grid_stride<long long>())
"""
Size = int | tuple[int, ...] | Callable | None


class CudaLauncher:
    """Launches a kernel of a CUDA source.

    Args:
        source: CUDA C++.
        file: What compile errors call it.
        entry: The kernel, if there are several.
        threads: How many there are in the grid at least: an int, up to three, or a function of the
            kernel's arguments by name; default: the size of the first result.
        block: Threads of a block: an int or up to three.
        shared: Bytes of dynamic shared memory, or a function of the kernel's arguments by name.
        contiguous: Whether inputs are made C-contiguous first.
        init: What the results are filled with first.
    """

    devices = ("cuda", "emulator")
    broadcast = False  # whether inputs of other shapes are repeated, with `i % x_size` as the index

    def __init__(
        self,
        source: str,
        file: str,
        entry: str | None,
        threads: Size,
        block: int | tuple[int, ...],
        shared: int | Callable,
        contiguous: bool,
        init: float | None,
    ):
        self.source, self.file, self.init = source, file, init
        self.threads, self.block, self.shared = threads, block, shared
        self.contiguous = contiguous
        self.signature = find_kernel(source, entry, file)
        self.name = self.signature.name
        self._kernels: dict[tuple, Kernel] = {}
        sizes = block if isinstance(block, tuple) else (block,)
        if not all(isinstance(b, int) and b > 0 for b in sizes) or math.prod(sizes) > 1024:
            raise KernelError(
                f"{self.name}: a block has 1 to 1024 threads. {received(block=block)}"
            )

    def bind(
        self, inputs: Sequence[str], attributes: Sequence[str], results: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Matches names with the kernel's parameters; returns the names of the results."""
        asked = [name for f in (self.threads, self.shared) if callable(f) for name in _names(f)]
        self.binding: Binding = bind(self.signature, inputs, attributes, results, asked)
        known = {*inputs, *attributes, *self.binding.outputs}
        if unknown := [name for name in asked if name not in known]:
            raise KernelError(
                f"{self.name}: `threads` and `shared` are functions of the kernel's arguments, "
                f"{sorted(known)}. {received(parameters=unknown)}"
            )
        return self.binding.outputs

    def check(self, dtypes: dict[str, np.dtype], attributes: dict) -> None:
        """Refuses inputs of a dtype, and attributes of a type, that the kernel does not take."""
        self.binding.types(dtypes)

    def __call__(self, inputs: dict[str, Any], outputs: dict[str, Any], attributes: dict) -> None:
        """Launches the kernel, if there is anything to write; arrays by name."""
        if not any(y.size for y in outputs.values()):
            return
        arrays = {**inputs, **outputs}
        types = self.binding.types({name: x.dtype for name, x in arrays.items()})
        scalars = self.binding.scalars(arrays, attributes, types)
        given = {**arrays, **attributes}
        threads = self._value(self.threads, given, next(iter(outputs.values())).size)
        sizes = self.block if isinstance(self.block, tuple) else (self.block,)
        wanted = threads if isinstance(threads, tuple) else (threads,)
        if len(wanted) > len(sizes):
            sizes += (1,) * (len(wanted) - len(sizes))
        kernel = self.kernel(types, attributes)
        kernel(
            grid=tuple([ceil_div(n, size) for n, size in zip(wanted, sizes, strict=False)]),
            block=sizes,
            args=[
                _pointer(arrays[p.name]) if p.pointer else scalars[p.name]
                for p in self.signature.parameters
            ],
            shared=self._value(self.shared, given, 0),
        )

    def kernel(self, types: dict[str, str], attributes: dict) -> Kernel:
        """Returns the instantiation for these types."""
        sizes = self.block if isinstance(self.block, tuple) else (self.block,)
        template = self.binding.template(types, attributes, math.prod(sizes))
        key = tuple((type(value), value) for value in template)
        if key not in self._kernels:
            self._kernels[key] = Kernel(
                self.source, self.name, template, file=self.file, prelude=PRELUDE
            )
        return self._kernels[key]

    def text(self) -> str:
        """Returns the translation unit."""
        return Kernel(self.source, self.name, file=self.file, prelude=PRELUDE).text

    def compile(self, dtype: Any, arch: str, attributes: dict) -> Cubin:
        """Compiles for a GPU architecture, without one."""
        names = [name for kind, name in self.signature.template if kind == "typename"]
        stored = next(cuda for cuda, known in DTYPES.items() if known == numpy_dtype(dtype))
        kernel = self.kernel(dict.fromkeys(names, stored), attributes)
        return compile_cubin(kernel.text, [kernel.expression], arch)

    def _value(self, setting, given, default) -> Any:
        if setting is None:
            return default
        if not callable(setting):
            return setting
        value = setting(**{name: given[name] for name in _names(setting)})
        return tuple(value) if isinstance(value, tuple) else value


def _names(f):
    return tuple(inspect.signature(f).parameters)


def _pointer(array):
    """Returns an array whose address is that of the first element, also of a strided view."""
    if array.flags.c_contiguous:
        return array
    if not array.size:
        return array.reshape(-1)
    return array[(slice(0, 1),) * array.ndim].reshape(-1)


class ExternLauncher:
    """Calls a function of the user's that launches a kernel by itself.

    Args:
        function: Takes inputs, results to write, and attributes, by name. If it names no results it
            returns them.
        name: Name of the op.
        devices: Kinds of devices it can run on.
        convert: Applied to every array it gets, such as `torch.from_dlpack`.
        init: What the results are filled with first.
    """

    contiguous = True
    broadcast = False

    def __init__(
        self,
        function: Callable,
        name: str,
        devices: tuple[str, ...],
        convert: Callable | None,
        init: float | None,
    ):
        self.function, self.name, self.devices = function, name, devices
        self.convert, self.init = convert, init
        self.returns = False

    def bind(
        self, inputs: Sequence[str], attributes: Sequence[str], results: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Matches names with the function's parameters; returns the names of the results."""
        names = _names(self.function)
        outputs = [x for x in names if x not in inputs and x not in attributes and x != "n"]
        if unused := [x for x in [*inputs, *attributes] if x not in names and results is None]:
            raise KernelError(
                f"{self.name}: the reference takes {unused}, which no parameter of the callable is "
                f"named after. {received(parameters=list(names))}"
            )
        if results is not None and (wrong := [x for x in outputs if x not in results]):
            raise KernelError(
                f"{self.name}: parameters {wrong} match no result; there are {list(results)}. "
                + received(parameters=list(names))
            )
        self.returns = not outputs
        return tuple(outputs or results or ("y",))

    def check(self, dtypes: dict[str, np.dtype], attributes: dict) -> None:
        """Nothing is known of what the callable takes."""

    def __call__(self, inputs: dict[str, Any], outputs: dict[str, Any], attributes: dict) -> Any:
        """Calls the function; returns what it returns, if that is the result."""
        convert = self.convert or (lambda array: array)
        given = {name: convert(x) for name, x in {**inputs, **outputs}.items()}
        given |= {**attributes, "n": next(iter(outputs.values())).size}
        out = self.function(**{name: given[name] for name in _names(self.function)})
        return out if self.returns else None
