"""Finds the host's C++ compiler and makes shared libraries with it, through the cache."""

import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gpunet.backend.emulator.cache import cached
from gpunet.errors import DeviceError, KernelError

CPP = Path(__file__).parent / "cpp"
# No contraction to fused multiply-adds and no fast math: the same bits on every machine.
FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing"),
)
# A kernel throws nothing, and the emulator runs it on one OS thread at a time.
KERNEL_FLAGS = (
    *("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
    *("-I", str(CPP), "-I", str(CPP / "cuda")),
)
_INSTALL = {
    "linux": "`apt install g++`, `dnf install gcc-c++`, `apk add g++` or `conda install gxx`",
    "darwin": "`xcode-select --install`",
}
_ERROR_LINES = 20
# CUDA's own spelling of dynamic shared memory, inside a function: host C++ has nothing like it.
_DYNAMIC = re.compile(
    r"(?<=[{; \t])extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?"
    r"([\w:<>,* ]+?)\s+(\w+)\s*\[\s*\]\s*;"
)


@functools.cache
def compiler() -> tuple[str, ...]:
    """Returns the command of the C++ compiler: `$CXX`, else `g++`, `clang++` or `c++`.

    Raises:
        DeviceError: If there is none, or the platform is not one the emulator runs on.
    """
    if sys.platform not in _INSTALL:
        raise DeviceError(
            "The CUDA emulator runs on Linux and macOS; on Windows use it inside WSL 2. "
            f"Received: platform={sys.platform!r}"
        )
    candidates = [shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"], ["c++"]]
    for command in filter(None, candidates):
        if shutil.which(command[0]):
            return tuple(command)
    raise DeviceError(
        "The CUDA emulator needs a C++ compiler and found none. Install one with "
        f"{_INSTALL[sys.platform]}, or name one in the environment variable CXX. "
        f"Received: CXX={os.environ.get('CXX')!r}"
    )


def build_runtime() -> Path:
    """Returns the library that schedules the threads of a block, compiled if need be."""
    return _build((CPP / "runtime.cpp").read_text(), "runtime.cpp", ("-I", str(CPP)))


def build_kernel(text: str, expression: str) -> Path:
    """Returns the library of one kernel, compiled if need be.

    Args:
        text: CUDA source, as `assemble` returns it.
        expression: The kernel, with its template arguments: `"scale<float, 256>"`.

    Raises:
        KernelError: If the source does not compile; the message holds file and line.
        DeviceError: If there is no C++ compiler.
    """
    return _build(host_text(text, expression), expression, KERNEL_FLAGS, _prelude)


def host_text(text: str, expression: str) -> str:
    """Returns the source of a kernel's library: as host C++ can read it, and with an entry."""
    text = _DYNAMIC.sub(r"\1* \2 = gpunet::emulator::dynamic_shared<\1>();", text)
    return f'{text}\n#line 1 "{expression}"\nGPUNET_ENTRY({expression})\n'


def _build(
    text: str, name: str, flags: tuple[str, ...], prelude: Callable[[], tuple[str, ...]] = tuple
) -> Path:
    command = (*compiler(), *FLAGS, *flags)

    def make(path: Path) -> None:
        _compile((*command, *prelude(), "-x", "c++", "-"), path, name, text)

    return cached(cache_key(*command, text), make)


def _compile(command: tuple[str, ...], path: Path, name: str, text: str | None = None) -> None:
    run = [*command, "-o", str(path)]
    result = subprocess.run(run, input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        raise KernelError(f"`{name}` does not compile:\n{excerpt(result.stderr)}")


def cache_key(*made_from: str) -> str:
    """Returns the hash of a compilation: of the compiler, the emulator's headers, and these."""
    everything = "\0".join([_version(), _headers(), *made_from])
    return hashlib.sha256(everything.encode()).hexdigest()[:32]


@functools.cache
def _prelude() -> tuple[str, ...]:
    return parsed_headers((*compiler(), *FLAGS, *KERNEL_FLAGS))


@functools.cache
def parsed_headers(command: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the options that put the emulator's headers before a kernel.

    g++ reads them already parsed, which halves the time of compiling a small kernel.

    Args:
        command: The compiler with all options that kernels are compiled with.
    """
    header = CPP / "emulator.h"
    if "Free Software Foundation" not in _version():
        return ("-include", str(header))
    command = (*command, "-x", "c++-header", str(header))
    kind = ".h.gch"
    parsed = cached(cache_key(*command), lambda path: _compile(command, path, header.name), kind)
    return ("-include", str(parsed).removesuffix(".gch"))


@functools.cache
def _version() -> str:
    command = [*compiler(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@functools.cache
def _headers() -> str:
    return "\0".join(path.read_text() for path in sorted(CPP.rglob("*.*")))


def excerpt(log: str) -> str:
    """Returns the first lines of a compiler's log from its first error on."""
    lines = log.splitlines()
    first = next((i for i, line in enumerate(lines) if "error:" in line), 0)
    kept = lines[first : first + _ERROR_LINES]
    left = len(lines) - first - len(kept)
    return "\n".join(kept + [f"... and {left} more lines"] * (left > 0))
