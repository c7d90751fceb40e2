"""The compile gate: turns kernels into machine code for real GPUs, with neither GPU nor driver.

NVRTC comes as a wheel (`nvidia-cuda-nvrtc`, headers from `nvidia-cuda-runtime`). Its log tells how
many registers each kernel takes and whether some spill to memory, which tests forbid.
"""

import ctypes
import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpunet.errors import DeviceError, KernelError

_OPTIONS = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")  # as CuPy has them
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Usage:
    """What one kernel takes of a multiprocessor.

    Attributes:
        registers: Of each thread.
        stack: Bytes of each thread in local memory: arrays that are indexed at run time.
        spills: Bytes of registers that are stored to and loaded from local memory.
        shared: Bytes of static shared memory of each block.
    """

    registers: int
    stack: int
    spills: int
    shared: int


@dataclass(frozen=True)
class Cubin:
    """Compiled kernels.

    Attributes:
        image: The machine code.
        log: What the compiler said.
        kernels: What each name expression takes.
    """

    image: bytes
    log: str
    kernels: dict[str, Usage]

    @property
    def registers(self) -> int:
        """The most registers of a thread, over the kernels."""
        return max((usage.registers for usage in self.kernels.values()), default=0)

    @property
    def spills(self) -> int:
        """Bytes spilled by all kernels; 0 is what tests ask for."""
        return sum(usage.spills for usage in self.kernels.values())

    @property
    def shared(self) -> int:
        """The most static shared memory of a block, over the kernels."""
        return max((usage.shared for usage in self.kernels.values()), default=0)


def compile_cubin(text: str, name_expressions: Sequence[str], arch: str = "sm_90") -> Cubin:
    """Compiles kernels for a GPU architecture.

    Args:
        text: CUDA source, as `assemble` returns it.
        name_expressions: The instantiations to compile, such as `"scale<float, 256>"`.
        arch: `"sm_80"` (A100), `"sm_90"` (H100, H200), ...

    Raises:
        KernelError: If the source does not compile; the message is the compiler's log.
        DeviceError: If NVRTC or the CUDA headers are not installed.

    Example:
        >>> text = "template <typename T> __global__ void clear(T* x) { x[threadIdx.x] = 0; }"
        >>> compile_cubin(text, ["clear<float>"]).spills  # doctest: +SKIP
        0
    """
    options = [*_OPTIONS, f"-arch={arch}", "--ptxas-options=-v"]
    options += [f"-I{folder}" for folder in include_dirs()]
    program = _Program(text, name_expressions)
    try:
        log = program.compile(options)
        lowered = {program.lowered_name(e): e for e in name_expressions}
        usages = {lowered[name]: usage for name, usage in _usages(log).items() if name in lowered}
        return Cubin(program.image(), log, usages)
    finally:
        program.close()


def _usages(log: str) -> dict[str, Usage]:
    """Reads the assembler's report, one section an entry function."""
    parts = _ENTRY.split(log)
    return {name: _usage(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _usage(text: str) -> Usage:
    spills, registers, shared = (p.search(text) for p in (_SPILLS, _REGISTERS, _SHARED))
    if not spills or not registers:
        raise KernelError(f"The assembler's report on a kernel was not understood:\n{text}")
    stack, stores, loads = map(int, spills.groups())
    return Usage(int(registers[1]), stack, stores + loads, int(shared[1]) if shared else 0)


# ---- the library --------------------------------------------------------------------------------


class _Program:
    """An NVRTC program; every call is checked."""

    def __init__(self, text, name_expressions):
        self._handle = ctypes.c_void_p()
        self._call(
            "CreateProgram", ctypes.byref(self._handle), text.encode(), b"kernel.cu", 0, None, None
        )
        for expression in name_expressions:
            self._call("AddNameExpression", self._handle, expression.encode())

    def compile(self, options):
        encoded = [option.encode() for option in options]
        array = (ctypes.c_char_p * len(encoded))(*encoded)
        failed = _nvrtc().nvrtcCompileProgram(self._handle, len(encoded), array)
        log = self._bytes("ProgramLog").rstrip(b"\0").decode()
        if failed:
            raise KernelError(f"NVRTC {' '.join(options)}: the source does not compile:\n{log}")
        return log

    def lowered_name(self, expression):
        name = ctypes.c_char_p()
        self._call("GetLoweredName", self._handle, expression.encode(), ctypes.byref(name))
        return (name.value or b"").decode()

    def image(self):
        return self._bytes("CUBIN")

    def close(self):
        self._call("DestroyProgram", ctypes.byref(self._handle))

    def _bytes(self, what):
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", self._handle, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", self._handle, buffer)
        return buffer.raw

    @staticmethod
    def _call(function, *args):
        if code := getattr(_nvrtc(), f"nvrtc{function}")(*args):
            reason = _nvrtc().nvrtcGetErrorString(code).decode()
            raise KernelError(f"nvrtc{function} failed: {reason}")


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    # NVRTC opens its built-ins by name only: load them first, by path.
    for folder in _nvidia_dirs("lib", "lib64", "bin"):
        for builtins in sorted(folder.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins))
        for path in sorted(folder.glob("libnvrtc.so.*")):
            library = ctypes.CDLL(str(path))
            library.nvrtcGetErrorString.restype = ctypes.c_char_p
            return library
    raise DeviceError(
        'NVRTC is not installed: pip install "nvidia-cuda-nvrtc==13.0.*" '
        '"nvidia-cuda-runtime==13.0.*" (Linux), or set CUDA_PATH to a CUDA toolkit.'
    )


@functools.cache
def include_dirs() -> tuple[str, ...]:
    """Returns the folders with `cuda_fp16.h` and `cuda_bf16.h`: of a wheel, or of a toolkit.

    Raises:
        DeviceError: If there is none.
    """
    for folder in _nvidia_dirs("include"):
        if (folder / "cuda_fp16.h").is_file() and (folder / "cuda_bf16.h").is_file():
            return (str(folder),)
    raise DeviceError(
        'The CUDA headers are not installed: pip install "nvidia-cuda-runtime" for CUDA 13, '
        '"nvidia-cuda-runtime-cu12" for CUDA 12, or set CUDA_PATH to a CUDA toolkit.'
    )


def _nvidia_dirs(*names: str) -> list[Path]:
    """Returns folders of these names in NVIDIA's wheels and in CUDA toolkits, wheels first."""
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(path) for path in (spec and spec.submodule_search_locations) or []]
    roots = [root / part for root in wheels for part in ("cu13", "cuda_nvrtc", "cuda_runtime")]
    toolkits = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    roots += [Path(root) for root in toolkits if root]
    return [root / name for root in roots for name in names if (root / name).is_dir()]
