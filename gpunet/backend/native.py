"""C++ kernels for the CPU, in `cpu_kernels/`: compiled once for this machine, then called.

They make graphs fast and are never required: where there is no C++ compiler, or NumPy's BLAS has no
C interface that can be found, graphs run on NumPy. What the bits of a result depend on is the
processor, the compiler, NumPy's BLAS and the number of threads - never on the number of runs.
"""

import ctypes
import functools
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from gpunet.backend.emulator.cache import cached
from gpunet.backend.emulator.toolchain import cache_key, compiler, excerpt
from gpunet.errors import DeviceError, KernelError

# No contraction to fused multiply-adds unless a kernel asks for one: sums and products have the
# bits of NumPy's.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fno-rtti"),
)
# How builds of NumPy's BLAS spell its C interface, and whether its sizes have 64 bits.
_GEMMS = (
    ("scipy_cblas_{}gemm64_", True),
    ("cblas_{}gemm64_", True),
    ("scipy_cblas_{}gemm", False),
    ("cblas_{}gemm", False),
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
        return int(np.prod(self.shape, dtype=np.int64))

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
        kernel: File and function: `"norm.layer_norm"` is in `cpu_kernels/norm.cpp`.
        sizes: Whole numbers that it is given.
        numbers: Real numbers that it is given.
        scratch: Bytes of scratch memory, whose address follows those of the outputs.
        in_place: Pairs (output, input) of equal size that may be the same memory.
        strided: Whether it reads inputs by the strides it was planned for; all others get copies
            of inputs that are not contiguous. Outputs are always contiguous.
    """

    kernel: str
    sizes: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()
    scratch: int = 0
    in_place: tuple[tuple[int, int], ...] = ()
    strided: bool = False


@functools.cache
def source_dir() -> Path:
    """Returns the folder of the C++ sources: inside the package, or beside it in a checkout.

    Raises:
        FileNotFoundError: If it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_cpu_kernels", package.parent / "cpu_kernels"):
        if (folder / "runtime.h").is_file():
            return folder
    raise FileNotFoundError(f"gpunet's C++ sources are not in or beside {package}; reinstall it.")


@functools.cache
def reason_missing() -> str | None:
    """Returns why there are no C++ kernels on this machine, or `None` if there are."""
    try:
        compiler()
        _blas()
    except DeviceError as error:
        return str(error)
    return None


@functools.cache
def address(kernel: str) -> int:
    """Returns the address of a kernel such as `"norm.layer_norm"`, compiled if need be."""
    file, _, function = kernel.partition(".")
    return _function_address(library(file), function)


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
    command = (*compiler(), *FLAGS, "-I", str(source_dir()), "-x", "c++", "-")

    def make(path: Path) -> None:
        run = [*command, "-o", str(path)]
        result = subprocess.run(run, input=text, capture_output=True, text=True, check=False)
        if result.returncode:
            raise KernelError(f"`{name}` does not compile:\n{excerpt(result.stderr)}")

    flags = shlex.join(FLAGS)
    return cached(cache_key("cpu", flags, _processor(), _headers(), text), make)


@functools.cache
def _headers() -> str:
    return "\0".join(path.read_text() for path in sorted(source_dir().glob("*.h")))


@functools.cache
def _processor() -> str:
    """What `-march=native` stands for here: a cache may be shared by different machines."""
    command = [*compiler(), "-march=native", "-dM", "-E", "-x", "c++", "-"]
    return subprocess.run(command, input="", capture_output=True, text=True, check=False).stdout


class Runtime:
    """The threads and programs of the kernels; `runtime()` returns the one there is.

    Attributes:
        threads: How many threads kernels run on: as many as NumPy's BLAS had at the start.
        shared: Address of what kernels are attached to.
        run_program: `run_program(calls, begin, end)`, see `cpu_kernels/runtime.cpp`.
    """

    def __init__(self):
        blas, functions, wide = _blas()
        self._blas = blas
        self.threads: int = max(1, blas.num_threads)
        loaded = ctypes.CDLL(str(build((source_dir() / "runtime.cpp").read_text(), "runtime.cpp")))
        loaded.start.restype = ctypes.c_void_p
        loaded.start.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self.shared = loaded.start(self.threads, *functions, wide)
        self.run_program: Any = loaded.run_program
        self.run_program.restype = ctypes.c_int64
        self.run_program.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]

    def hold_blas(self) -> int:
        """Keeps BLAS to one thread, because kernels call it on several; returns what it had."""
        threads = self._blas.num_threads
        if threads != 1:
            self._blas.set_num_threads(1)
        return threads

    def release_blas(self, threads: int) -> None:
        """Gives BLAS its threads back."""
        if threads != 1:
            self._blas.set_num_threads(threads)


@functools.cache
def runtime() -> Runtime:
    """Returns the runtime, started with the first call."""
    return Runtime()


@functools.cache
def _blas():
    """Finds NumPy's BLAS: its controller, the addresses of sgemm and dgemm, the width of sizes."""
    for blas in ThreadpoolController().select(user_api="blas").lib_controllers:
        loaded = ctypes.CDLL(blas.filepath)
        for name, wide in _GEMMS:
            names = [name.format(letter) for letter in "sd"]
            if all(hasattr(loaded, n) for n in names):
                return blas, [_function_address(loaded, n) for n in names], wide
    raise DeviceError(
        "NumPy's BLAS has no C interface that can be found, which C++ kernels need. "
        f"Received: platform={sys.platform!r}, numpy={np.__version__}"
    )


def _function_address(loaded, name):
    return ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0


def call(launch: Launch, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> int:
    """Runs one kernel on arrays laid out as planned; returns 0, or 1 if it could not go on."""
    scratch = np.empty(launch.scratch + 64, np.uint8)
    spare = scratch.ctypes.data + -scratch.ctypes.data % 64
    arrays = [*(a.ctypes.data for a in (*inputs, *outputs)), spare]
    table = (ctypes.c_void_p * len(arrays))(*arrays)
    sizes = (ctypes.c_int64 * len(launch.sizes))(*launch.sizes)
    numbers = (ctypes.c_double * len(launch.numbers))(*launch.numbers)
    calls = (ctypes.c_void_p * 4)(
        address(launch.kernel), *(ctypes.addressof(part) for part in (table, sizes, numbers))
    )
    held = runtime().hold_blas()
    try:
        return 1 - runtime().run_program(ctypes.addressof(calls), 0, 1)
    finally:
        runtime().release_blas(held)
