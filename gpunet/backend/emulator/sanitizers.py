"""Runs one launch of a kernel in a process of its own, watched by a sanitizer of the compiler.

A sanitizer's runtime must be there from the start of a process, so it cannot watch a library that
Python loads. `cpp/sanitize.cpp` is a program with the emulator's runtime in it; it gets the kernel,
compiled with the sanitizer, and copies of the arguments.
"""

import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpunet.backend.emulator.cache import cached
from gpunet.backend.emulator.loader import LAUNCH, Function
from gpunet.backend.emulator.toolchain import (
    CPP,
    KERNEL_FLAGS,
    cache_key,
    compiler,
    excerpt,
    host_text,
    parsed_headers,
)
from gpunet.errors import DeviceError, KernelError

# As in ordinary builds, but for the lines to be told exactly: -O1, no merged functions.
_FLAGS = ("-std=c++17", "-O1", "-g", "-fPIC", "-ffp-contract=off", "-fno-math-errno")
_FLAGS += ("-fno-strict-aliasing", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
_KERNEL_FAILED = 3  # exit status of cpp/sanitize.cpp
_DONE = "gpunet: done"
_REPORT = re.compile(r"(WARNING|ERROR): \w+Sanitizer: |: runtime error: ")
_MISPLACED = "unexpected memory mapping"
_ALIGNMENT = 256
_OPTIONS = {
    "TSAN_OPTIONS": "report_thread_leaks=0:atexit_sleep_ms=0:history_size=7:exitcode=0",
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
}


@dataclass(frozen=True)
class Sanitizer:
    """One of the compiler's sanitizers.

    Attributes:
        name: What it calls itself.
        define: The macro that tells the emulator's headers.
        flags: Of the compiler, for kernels.
        link: Of the compiler, for the program.
    """

    name: str
    define: str
    flags: tuple[str, ...]
    link: tuple[str, ...]


SANITIZERS = {
    "address": Sanitizer(
        "AddressSanitizer",
        "-DGPUNET_ASAN",
        (
            "-fsanitize=address,alignment,bounds,signed-integer-overflow,integer-divide-by-zero",
            "-fno-sanitize-recover=all",
        ),
        ("-fsanitize=address,undefined",),
    ),
    "thread": Sanitizer(
        "ThreadSanitizer", "-DGPUNET_TSAN", ("-fsanitize=thread",), ("-fsanitize=thread",)
    ),
}


@dataclass(frozen=True)
class Watched:
    """What came of a launch.

    Attributes:
        log: What the sanitizer said.
        reported: Whether that is more than nothing.
        failure: The emulator's own error, or "".
        buffers: Where each array lay in that process: (parameter, address, array).
    """

    log: str
    reported: bool
    failure: str
    buffers: list[tuple[int, int, np.ndarray]]


def watch(
    tool: str,
    text: str,
    expression: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    args: Sequence[object],
    shared: int,
    timeout: float,
    whole: bool = False,
) -> Watched:
    """Runs a launch under a sanitizer, on copies of its arrays.

    Args:
        tool: A key of `SANITIZERS`.
        text: CUDA source, as `assemble` returns it.
        expression: The kernel, with its template arguments.
        grid: Blocks.
        block: Threads of a block.
        args: The arguments, as `Function` takes them.
        shared: Bytes of dynamic shared memory.
        timeout: Seconds after which the process is ended.
        whole: Whether a view gives access to all of the array that it is a view of.

    Raises:
        KernelError: If the kernel does not compile, an argument does not fit, or time is up.
        DeviceError: If the compiler has no such sanitizer here, or it does not work.
    """
    packed = Function(text, expression).pack(grid, block, args, shared)
    if sys.platform != "linux":
        raise DeviceError(
            f"Kernels run under {SANITIZERS[tool].name} on Linux. Received: {sys.platform!r}"
        )
    program, library = _program(tool), _library(tool, text, expression)
    memories = {
        index: _owner(value) if whole else value
        for index, value in enumerate(args)
        if isinstance(value, np.ndarray)
    }
    spans = _spans(memories.values())
    layout = _layout(packed, args, spans)
    with tempfile.NamedTemporaryFile(prefix="gpunet-") as file:
        file.write(layout)
        file.flush()
        command = [str(program), str(library), file.name]
        try:
            result = _execute(command, timeout)
            if _MISPLACED in result.stderr and (setarch := shutil.which("setarch")):
                # Some kernels put libraries where ThreadSanitizer does not expect them, at random.
                result = _execute([setarch, os.uname().machine, "-R", *command], timeout)
        except subprocess.TimeoutExpired:
            raise KernelError(
                f"`{expression}` did not end within {timeout} seconds under "
                f"{SANITIZERS[tool].name}; launch fewer threads, or give it more time"
            ) from None
    return _watched(tool, result, memories, spans)


def _execute(command, timeout):
    return subprocess.run(
        command,
        env={**os.environ, **_OPTIONS},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def _watched(tool, result, memories, spans):
    log = result.stderr
    starts = [int(line.split()[2], 16) for line in log.splitlines() if "gpunet: buffer" in line]
    failure = ""
    if result.returncode == _KERNEL_FAILED:
        failure = log.partition("gpunet: failed: ")[2].partition("\n")[0]
    elif _DONE not in log and not _REPORT.search(log):
        raise DeviceError(
            f"{SANITIZERS[tool].name} does not work here: status {result.returncode}\n{log[-2000:]}"
        )
    buffers = []
    for index, array in memories.items():
        number, offset = _place(array, spans)
        buffers.append((index, starts[number] + offset, array))
    return Watched(log, bool(_REPORT.search(log)), failure, buffers)


# ---- what the program reads ---------------------------------------------------------------------


def _layout(packed, args, spans):
    """Returns the launch file."""
    words = [struct.pack("=q", len(spans))]
    for address, size in spans:
        words.append(struct.pack("=2q", address % _ALIGNMENT, size))
        words.append(ctypes.string_at(address, size))
    words.append(struct.pack("=q", len(args)))
    start = struct.calcsize(LAUNCH)
    values = struct.unpack_from(f"={len(args)}q", packed, start)
    for value, argument in zip(values, args, strict=True):
        is_array = isinstance(argument, np.ndarray)
        words.append(struct.pack("=2q", *(_place(argument, spans) if is_array else (-1, value))))
    return b"".join([*words, packed[:start]])


def _owner(array):
    """Returns the array that a view is a part of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _spans(arrays):
    """Returns (address, bytes) of all arrays; those that overlap share one."""
    spans: list[tuple[int, int]] = []
    for address, end in sorted({np.lib.array_utils.byte_bounds(array) for array in arrays}):
        size = end - address
        if spans and address < sum(spans[-1]):
            first, length = spans[-1]
            spans[-1] = first, max(length, address + size - first)
        else:
            spans.append((address, size))
    return spans


def _place(array, spans):
    """Returns the number of the span that an array lies in, and its offset there."""
    begin, end = np.lib.array_utils.byte_bounds(array)
    for number, (address, length) in enumerate(spans):
        if address <= begin and end <= address + length:
            return number, array.ctypes.data - address
    raise AssertionError("every array lies in a span")


# ---- compilation --------------------------------------------------------------------------------


def _library(tool: str, text: str, expression: str) -> Path:
    """Returns the library of a kernel, compiled with a sanitizer."""
    sanitizer = SANITIZERS[tool]
    command = (
        *(*compiler(), *_FLAGS, "-shared", "-fvisibility=hidden", *KERNEL_FLAGS),
        *(sanitizer.define, *sanitizer.flags),
    )
    source = host_text(text, expression)

    def make(path: Path) -> None:
        headers = parsed_headers(command)
        result = _run((*command, *headers, "-x", "c++", "-", "-o", str(path)), source)
        if result.returncode:
            _refuse_if_missing(tool, result.stderr)
            raise KernelError(f"`{expression}` does not compile:\n{excerpt(result.stderr)}")

    return cached(cache_key(*command, source), make)


def _program(tool: str) -> Path:
    """Returns the program that runs kernels under a sanitizer; it itself is not watched."""
    sanitizer = SANITIZERS[tool]
    compile_ = (*compiler(), *_FLAGS, sanitizer.define, "-c", str(CPP / "sanitize.cpp"))
    link = (*compiler(), *sanitizer.link, "-ldl", "-lpthread")

    def make(path: Path) -> None:
        unlinked = path.with_suffix(".o")
        try:
            for command in (
                (*compile_, "-o", str(unlinked)),
                (*link[:-2], str(unlinked), *link[-2:], "-o", str(path)),
            ):
                result = _run(command)
                if result.returncode:
                    _refuse_if_missing(tool, result.stderr)
                    raise DeviceError(f"`sanitize.cpp` does not compile:\n{excerpt(result.stderr)}")
        finally:
            unlinked.unlink(missing_ok=True)
        path.chmod(0o700)

    return cached(cache_key(*compile_, *link), make, ".exe")


def _run(command, text=None):
    # From here, so that the places in reports do not depend on where Python was started.
    return subprocess.run(
        command, input=text, cwd=CPP.parent, capture_output=True, text=True, check=False
    )


def _refuse_if_missing(tool, errors):
    if "-fsanitize" in errors or any(f"{name}san" in errors for name in ("t", "a", "ub")):
        raise DeviceError(
            f"The compiler has no {SANITIZERS[tool].name} here. Install it (`apt install g++`, "
            "`dnf install libtsan libasan libubsan`; musl and Windows have none), or name another "
            f"compiler in the environment variable CXX.\n{excerpt(errors)}"
        )
