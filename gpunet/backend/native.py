"""C++ kernels for the CPU, in `cpu_kernels/`: compiled once for this machine, then called.

They make graphs fast and are never required: where there is no C++ compiler, graphs run on NumPy.
What the bits of a result depend on is the processor, the compiler and the number of threads - never
on the number of runs.
"""

import ctypes
import functools
import math
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from gpunet.backend.emulator.cache import cache_dir, cached
from gpunet.backend.emulator.toolchain import cache_key, compiler, excerpt
from gpunet.backend.sources import find_folder
from gpunet.config import cpu_kernels, is_interactive_logging_enabled
from gpunet.errors import DeviceError, KernelError

# All instructions of this processor; clang knows it by this name only on ARM.
_NATIVE = f"-m{'cpu' if platform.machine().lower() in ('arm64', 'aarch64') else 'arch'}=native"
# No contraction to fused multiply-adds unless a kernel asks for one: sums and products have the
# bits of NumPy's.
FLAGS = (
    *("-std=c++17", "-O3", _NATIVE, "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fno-rtti"),
)


class Operand(NamedTuple):
    """What a kernel is planned for: an array of this shape, dtype and layout.

    Attributes:
        shape: Lengths of the axes.
        dtype: NumPy dtype.
        strides: Elements from one index of an axis to the next.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether elements lie one after the other, the last axis fastest."""
        expected = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != expected:
                return self.size == 0
            expected *= length
        return True


def contiguous(shape: Sequence[int], dtype: Any) -> Operand:
    """Returns the operand of a C-contiguous array."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return Operand(tuple(shape), np.dtype(dtype), tuple(reversed(strides)))


class Launch(NamedTuple):
    """One call of a kernel, planned for operands.

    Attributes:
        kernel: File and function: `"norm.layer_norm"` is in `cpu_kernels/norm.cpp`. The address of
            a kernel that is in no file, but was written for a graph.
        sizes: Whole numbers that it is given.
        numbers: Real numbers that it is given.
        scratch: Bytes of scratch memory, whose address follows those of the outputs.
        in_place: Pairs (output, input) of equal size that may be the same memory.
        strided: Whether it reads inputs by the strides it was planned for; all others get copies
            of inputs that are not contiguous. Outputs are always contiguous.
        fails: Whether it may find values that it cannot go on with. It is not run in place on the
            memory of a Variable.
    """

    kernel: str | int
    sizes: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()
    scratch: int = 0
    in_place: tuple[tuple[int, int], ...] = ()
    strided: bool = False
    fails: bool = False


@functools.cache
def source_dir() -> Path:
    """Returns the folder of the C++ sources: inside the package, or beside it in a checkout.

    Raises:
        FileNotFoundError: If it is in neither place.
    """
    return find_folder("cpu_kernels", "runtime.h")


@functools.cache
def reason_missing() -> str | None:
    """Returns why there are no C++ kernels on this machine, or `None` if there are.

    A compiler that does not work, or a folder for what it makes that cannot be used, is worth a
    warning; no compiler is not.
    """
    try:
        compiler()
    except DeviceError as error:
        return str(error)
    try:
        runtime()
    except (DeviceError, KernelError, OSError) as error:
        warnings.warn(f"Graphs on the CPU run on NumPy, slower: {error}", stacklevel=2)
        return str(error)
    return None


def wanted() -> bool:
    """Tells whether graphs on the CPU run C++ kernels: they can, and the user wants it."""
    return cpu_kernels() and reason_missing() is None


@functools.cache
def address(kernel: str | int) -> int:
    """Returns the address of a kernel such as `"norm.layer_norm"`, compiled if need be."""
    if isinstance(kernel, int):
        return kernel
    file, _, function = kernel.partition(".")
    return function_address(library(file), function)


@functools.cache
def library(file: str) -> ctypes.CDLL:
    """Returns the loaded library of `cpu_kernels/<file>.cpp`, compiled if need be."""
    return load((source_dir() / f"{file}.cpp").read_text(), f"{file}.cpp")


def load(text: str, name: str) -> ctypes.CDLL:
    """Compiles C++ that includes `runtime.h` and defines kernels, through the cache; loads it.

    Raises:
        KernelError: If it does not compile.
        DeviceError: If there is no C++ compiler.
    """
    loaded = ctypes.CDLL(str(build(text, name)))
    loaded.attach.argtypes = [ctypes.c_void_p]
    loaded.attach(runtime().shared)
    return loaded


def build(text: str, name: str) -> Path:
    """Returns the library that `text` is compiled to."""
    options = (*FLAGS, *_vectors())
    command = (*compiler(), *options, "-I", str(source_dir()), "-x", "c++", "-")

    def make(path: Path) -> None:
        _tell_once()
        run = [*command, "-o", str(path)]
        result = subprocess.run(run, input=text, capture_output=True, text=True, check=False)
        if result.returncode:
            raise KernelError(f"`{name}` does not compile:\n{excerpt(result.stderr)}")

    return cached(cache_key("cpu", *options, _processor(), _headers(), text), make)


@functools.cache
def _tell_once():
    """Says why a first step takes long."""
    if is_interactive_logging_enabled():
        print(
            "gpunet compiles C++ kernels for this machine, which takes some seconds; they are kept "
            f"in {cache_dir()}.",
            file=sys.stderr,
        )


def _vectors():
    """Asks for the widest vectors: compilers choose half of them on some processors."""
    return ("-mprefer-vector-width=512",) if "__AVX512F__" in _processor() else ()


@functools.cache
def _headers() -> str:
    return "\0".join(path.read_text() for path in sorted(source_dir().glob("*.h")))


@functools.cache
def _processor() -> str:
    """What the flag for this processor stands for: a cache may be shared by different machines."""
    command = [*compiler(), _NATIVE, "-dM", "-E", "-x", "c++", "-"]
    return subprocess.run(command, input="", capture_output=True, text=True, check=False).stdout


class Runtime:
    """The threads and programs of the kernels; `runtime()` returns the one there is.

    Attributes:
        threads: How many threads kernels run on.
        shared: Address of what kernels are attached to.
        run_program: `run_program(calls, begin, end)`, see `cpu_kernels/runtime.cpp`.
    """

    def __init__(self):
        self.threads: int = _threads()
        loaded = ctypes.CDLL(str(build((source_dir() / "runtime.cpp").read_text(), "runtime.cpp")))
        loaded.start.restype, loaded.start.argtypes = ctypes.c_void_p, [ctypes.c_int64]
        self.shared = loaded.start(self.threads)
        self.run_program: Any = loaded.run_program
        self.run_program.restype = ctypes.c_int64
        self.run_program.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]


@functools.cache
def runtime() -> Runtime:
    """Returns the runtime, started with the first call."""
    return Runtime()


def _threads():
    """As many as NumPy's BLAS has: what is set for it (`OMP_NUM_THREADS`, ...) holds here, too."""
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return max(blas.num_threads for blas in found) if found else os.cpu_count() or 1


def function_address(loaded: ctypes.CDLL, name: str) -> int:
    """Returns the address of a function of a loaded library."""
    return ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0


def call(
    launch: Launch,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    scratch: np.ndarray | None = None,
) -> int:
    """Runs one kernel by itself.

    Args:
        launch: The plan.
        inputs: Arrays laid out as planned.
        outputs: Contiguous arrays.
        scratch: 64-byte aligned memory of `launch.scratch` bytes; by default new memory.

    Returns:
        0, or 1 if it could not go on.
    """
    spare = np.empty(launch.scratch + 64, np.uint8)
    spare = spare[-spare.ctypes.data % 64 :] if scratch is None else scratch
    addresses = [a.ctypes.data for a in (*inputs, *outputs, spare)]
    table = (ctypes.c_void_p * len(addresses))(*addresses)
    sizes = (ctypes.c_int64 * len(launch.sizes))(*launch.sizes)
    numbers = (ctypes.c_double * len(launch.numbers))(*launch.numbers)
    calls = (ctypes.c_void_p * 4)(
        address(launch.kernel), *(ctypes.addressof(part) for part in (table, sizes, numbers))
    )
    return 1 - runtime().run_program(ctypes.addressof(calls), 0, 1)
