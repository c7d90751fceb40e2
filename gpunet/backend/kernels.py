"""Finds, assembles, compiles, caches and launches CUDA kernels: one call for GPU and emulator.

`launch` looks at its arrays: CuPy arrays run the kernel on their GPU, NumPy arrays on the emulator.
Both get the same text, instantiation, grid, block and arguments.
"""

import contextlib
import functools
import math
import operator
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend import emulator
from gpunet.backend.rawmodule import CudaFunction
from gpunet.backend.signature import DTYPES, signatures
from gpunet.backend.sources import assemble as assemble
from gpunet.backend.sources import kernel_dir as kernel_dir
from gpunet.backend.sources import name_expression as name_expression
from gpunet.backend.sources import read
from gpunet.errors import DeviceError, DTypeError, KernelError, received

Dim = int | tuple[int, ...]
Template = tuple[str | int, ...]

_CUDA_TYPES = {dtype: cuda for cuda, dtype in DTYPES.items()}
_MAX_BLOCK = (1024, 1024, 64)
_MAX_GRID = (2**31 - 1, 65535, 65535)
_MAX_SHARED = 227 * 1024  # bytes a block may have on sm_90, the most of all; sm_80 has 163 KiB


class Hooks(threading.local):
    """What graphs set for a while, in one thread, to get hold of kernels and of their memory.

    Attributes:
        allocate: Called by `empty` on the emulator with bytes: returns them as a uint8 array, in
            whatever state a kernel shall find them. (On a GPU, CuPy's allocators do this.)
        launch: Called instead of every launch: `launch(kernel, device, grid, block, args, shared)`.
    """

    allocate: Callable[[int], Any] | None = None
    launch: Callable[..., None] | None = None


hooks = Hooks()


@contextlib.contextmanager
def hooked(**functions: Callable | None) -> Iterator[None]:
    """Sets hooks of this thread for a block."""
    before = {name: getattr(hooks, name) for name in functions}
    hooks.__dict__.update(functions)
    try:
        yield
    finally:
        hooks.__dict__.update(before)


def cuda_type(dtype: Any) -> str:
    """Returns the CUDA C++ type that stores a dtype.

    Args:
        dtype: Anything `np.dtype` takes, or `ml_dtypes.bfloat16`.

    Raises:
        DTypeError: If CUDA C++ has no such type.

    Example:
        >>> cuda_type("float16"), cuda_type(np.int64)
        ('__half', 'long long')
    """
    try:
        return _CUDA_TYPES[np.dtype(dtype)]
    except (KeyError, TypeError) as error:
        names = [name.name for name in _CUDA_TYPES]
        raise DTypeError(f"Kernels know the dtypes {names}. {received(dtype=dtype)}") from error


def ceil_div(n: int, size: int) -> int:
    """Returns how many groups of `size` hold `n` items.

    Example:
        >>> ceil_div(1000, 256)
        4
    """
    return -(-n // size)


def launch(
    file: str,
    kernel: str,
    template: Template,
    *,
    grid: Dim,
    block: Dim,
    args: Sequence[object],
    shared: int = 0,
) -> None:
    """Runs a kernel of `cuda_kernels/` where its arrays are: on their GPU, or on the emulator.

    Compiled on the first call with these template arguments; later calls look it up.

    Args:
        file: A file in `cuda_kernels/`, such as `"softmax.cu"`.
        kernel: The name of a `__global__` function in it.
        template: Its template arguments: C++ types and functors as text (see `cuda_type`), ints,
            bools; `()` for a function that is no template.
        grid: Blocks: an int or up to three. A grid of zero blocks does nothing.
        block: Threads of a block, likewise; at most 1024.
        args: All NumPy or all CuPy arrays, C-contiguous, passed as pointers; `None` as a null
            pointer; int as `long long`, float as `float`, bool as `bool`; NumPy scalars as they
            are.
        shared: Bytes of dynamic shared memory.

    Raises:
        KernelError: If the kernel does not compile, cannot be launched so, or fails.
        DeviceError: If the arrays are on different devices, or the device does not work here.

    Example:
        >>> x, y = np.arange(5, dtype="float32"), np.empty(5, "float32")
        >>> launch("examples.cu", "scale", ("float",), grid=1, block=32, args=(x, y, 5, 2.0))
        ... # doctest: +SKIP
    """
    key = (file, kernel, template)
    found = _kernels.get(key)
    if found is None:
        found = _kernels[key] = Kernel(read(file), kernel, template, file=file)
    found(grid=grid, block=block, args=args, shared=shared)


_kernels: dict[tuple[str, str, Template], "Kernel"] = {}


class Kernel:
    """A `__global__` function of any CUDA source, compiled for a device when first called there.

    Args:
        source: CUDA C++ text; it may include headers of `cuda_kernels/`.
        kernel: The name of a `__global__` function in it.
        template: Its template arguments, as for `launch`.
        file: What error messages call the source.
        prelude: CUDA C++ that is put before the source, on lines of its own.

    Example:
        >>> double = Kernel(
        ...     '''
        ... __global__ void twice(const float* x, float* y, long long n) {
        ...   long long i = blockIdx.x * blockDim.x + threadIdx.x;
        ...   if (i < n) y[i] = 2 * x[i];
        ... }''',
        ...     "twice",
        ... )
        >>> x, y = np.arange(3, dtype="float32"), np.empty(3, "float32")
        >>> double(grid=1, block=32, args=(x, y, 3))
        >>> y
        array([0., 2., 4.], dtype=float32)
    """

    def __init__(
        self,
        source: str,
        kernel: str,
        template: Template = (),
        *,
        file: str = "source.cu",
        prelude: str = "",
    ) -> None:
        self.expression = name_expression(kernel, template)
        self.file, self.name, self.template = file, kernel, template
        self._prelude = prelude
        self._source = source
        self._compiled: dict[int | None, Callable] = {}  # by CUDA device; None: the emulator
        self._compiling = threading.Lock()  # of its own: several kernels may compile at once

    @functools.cached_property
    def text(self) -> str:
        """The assembled source, as the compiler gets it."""
        return assemble(self._source, self.file, self._prelude)

    def __call__(self, *, grid: Dim, block: Dim, args: Sequence[object], shared: int = 0) -> None:
        """Runs the kernel; arguments and errors as for `launch`."""
        grid, block = self._shape("grid", grid, _MAX_GRID), self._shape("block", block, _MAX_BLOCK)
        if 0 in grid:
            return
        threads = block[0] * block[1] * block[2]
        if not 0 < threads <= 1024:
            raise KernelError(
                f"`{self.expression}`: a block has 1 to 1024 threads. {received(block=block)}"
            )
        if type(shared) is not int or not 0 <= shared <= _MAX_SHARED:
            raise KernelError(
                f"`{self.expression}`: `shared` is a number of bytes, at most {_MAX_SHARED} on any "
                f"GPU. {received(shared=shared)}"
            )
        device = self._device(args)
        if hooks.launch is not None:
            hooks.launch(self, device, grid, block, args, shared)
            return
        compiled = self._compiled.get(device) or self.compiled(device)
        compiled(grid, block, args, shared)

    def compiled(self, device: int | None) -> Callable:
        """Returns what launches the kernel on a CUDA device, or (`None`) on the emulator.

        Threads may call it for several kernels at once, to compile them in parallel.

        Raises:
            KernelError: If the kernel does not compile.
        """
        with self._compiling:
            if device not in self._compiled:  # else another thread compiled it meanwhile
                self._compiled[device] = self._compile(device)
            return self._compiled[device]

    def _compile(self, device):
        if device is None:
            return emulator.Function(self.text, self.expression)
        found = signatures(self.text).get(self.name)
        parameters = found.types(tuple(map(_word, self.template))) if found else None
        return CudaFunction(self.text, self.expression, device, parameters)

    def _shape(self, name, value, limits):
        """Returns a grid or block as three ints."""
        try:
            shape = (value,) if isinstance(value, int) else tuple(map(operator.index, value))
            x, y, z = shape + (1,) * (3 - len(shape))
            if 0 <= x <= limits[0] and 0 <= y <= limits[1] and 0 <= z <= limits[2]:
                return x, y, z
        except (TypeError, ValueError):  # not integers, or more than three
            pass
        raise KernelError(
            f"`{self.expression}`: `{name}` is an int or up to three, at most {limits}. "
            f"{received(**{name: value})}"
        )

    def _device(self, args):
        """Returns the CUDA device of the arrays in `args`, or None for NumPy arrays."""
        cupy = sys.modules.get("cupy")
        devices = {
            None if isinstance(value, np.ndarray) else value.device.id
            for value in args
            if isinstance(value, np.ndarray) or (cupy and isinstance(value, cupy.ndarray))
        }
        if len(devices) == 1:
            return devices.pop()
        where = [
            f"{i}: {type(value).__module__}"
            for i, value in enumerate(args)
            if hasattr(value, "dtype") and getattr(value, "ndim", 0)
        ]
        if devices:
            raise DeviceError(
                f"`{self.expression}`: all arrays must be on one device. "
                f"Received: {', '.join(where)}"
            )
        raise KernelError(
            f"`{self.expression}`: at least one argument must be a NumPy or CuPy "
            f"array; it tells where to run. Received: {[type(a) for a in args]}"
        )


def _word(argument):
    return str(argument).lower() if isinstance(argument, bool) else str(argument)


def empty(shape: int | tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Returns an array for a kernel to write, where `like` is; on the emulator it is poisoned.

    Args:
        shape: Of the new array.
        dtype: Of the new array.
        like: A NumPy or CuPy array.

    Example:
        >>> empty(2, "float32", like=np.zeros(3))
        array([nan, nan], dtype=float32)
    """
    if isinstance(like, np.ndarray):
        return _host_memory(shape, np.dtype(dtype))
    return sys.modules["cupy"].empty(shape, dtype)


def _host_memory(shape, dtype):
    """A poisoned NumPy array, or one in the memory of a graph."""
    count = math.prod(shape) if isinstance(shape, tuple) else shape
    if hooks.allocate is None or not count:
        return emulator.poison(np.empty(shape, dtype))
    return hooks.allocate(count * dtype.itemsize).view(dtype).reshape(shape)


def empty_like(array: Any, dtype: Any = None) -> Any:
    """Returns an array for a kernel to write, with the shape, device and dtype of another one.

    Example:
        >>> empty_like(np.zeros((1, 2), "int8"))
        array([[-1, -1]], dtype=int8)
    """
    return empty(array.shape, dtype or array.dtype, like=array)
