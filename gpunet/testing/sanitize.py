"""Races and accesses out of bounds in CUDA kernels, found without a GPU and named by line."""

import math
from collections.abc import Sequence

from gpunet.backend.emulator.sanitizers import SANITIZERS, watch
from gpunet.backend.kernels import Dim, Kernel, Template
from gpunet.backend.sources import read
from gpunet.errors import ArgumentError, KernelError, received
from gpunet.testing.findings import findings

_MAX_THREADS = 4096  # ThreadSanitizer knows some 8000, those that have ended included


def sanitize(
    kernel: Kernel | tuple[str, str, Template],
    *,
    grid: Dim,
    block: Dim,
    args: Sequence[object],
    shared: int = 0,
    tools: Sequence[str] = ("address", "thread"),
    timeout: float = 120.0,
    whole: bool = False,
) -> None:
    """Runs a kernel on the emulator under AddressSanitizer, then under ThreadSanitizer.

    AddressSanitizer finds accesses outside the arrays and outside shared memory; with it come
    checks of alignment, of signed integer overflow and of division by zero. ThreadSanitizer finds
    races on global and shared memory, also where the result happens to be right in every order: two
    accesses of which one is a write, that no barrier, no `__syncwarp` and no fence with an atomic
    puts in order. Shuffles and votes do not count, as CUDA does not let them order memory.

    Args:
        kernel: A `Kernel`, or the file, name and template arguments that `launch` takes.
        grid: Blocks; all threads together at most 4096. Two or three blocks show most faults.
        block: Threads of a block.
        args: NumPy arrays and numbers, as `launch` takes them. The kernel works on copies.
        shared: Bytes of dynamic shared memory.
        tools: `"address"`, `"thread"` or both. If one finds something, the next does not run.
        timeout: Seconds after which a run is ended.
        whole: Whether an argument that is a view of a larger array stands for all of that array, as
            for kernels that take a first element and strides. By default a view is all there is.

    Raises:
        KernelError: If something was found: of each finding its kind, the memory, and of each
            access the line and the thread. Also if the kernel does not compile or fails by itself.
        ArgumentError: If the launch is too large, or there is no such tool.
        DeviceError: If the compiler has no sanitizers here.

    Example:
        >>> import numpy as np
        >>> from gpunet.backend.kernels import Kernel
        >>> text = '''
        ... __global__ void count(const int* x, int* y) { y[x[threadIdx.x]] += 1; }'''
        >>> x, y = np.array([0, 1, 1], "int32"), np.zeros(2, "int32")
        >>> sanitize(Kernel(text, "count"), grid=1, block=3, args=(x, y))  # doctest: +SKIP
        Traceback (most recent call last):
            ...
        KernelError: `count`: ThreadSanitizer found 1 problem.
        race: argument 1 (int32, shape (2,)), element 1
            read of 4 bytes at source.cu line 2 by block (0, 0, 0), thread (2, 0, 0)
            write of 4 bytes at source.cu line 2 by block (0, 0, 0), thread (1, 0, 0)

    Source: AddressSanitizer (Serebryany et al. 2012), ThreadSanitizer (Serebryany et al. 2009).
    """
    if not isinstance(kernel, Kernel):
        file, name, template = kernel
        kernel = Kernel(read(file), name, template, file=file)
    shapes = _shape("grid", grid), _shape("block", block)
    threads = math.prod(shapes[0]) * math.prod(shapes[1])
    if not 0 < threads <= _MAX_THREADS:
        raise ArgumentError(
            f"A launch under a sanitizer has 1 to {_MAX_THREADS} threads; take a few blocks. "
            f"{received(grid=grid, block=block)}"
        )
    for tool in tools:
        if tool not in SANITIZERS:
            raise ArgumentError(f"`tools` are of {tuple(SANITIZERS)}. {received(tools=tools)}")
        watched = watch(tool, kernel.text, kernel.expression, *shapes, args, shared, timeout, whole)
        found = findings(watched)
        if found:
            count = f"{len(found)} problem{'s' * (len(found) > 1)}"
            report = "\n".join(map(str, found))
            raise KernelError(
                f"`{kernel.expression}`: {SANITIZERS[tool].name} found {count}.\n{report}"
            )
        if watched.failure:
            raise KernelError(f"`{kernel.expression}`, {watched.failure}")


def _shape(name: str, value: Dim) -> tuple[int, int, int]:
    shape = (value,) if isinstance(value, int) else tuple(value)
    if not 1 <= len(shape) <= 3 or min(shape) < 0:
        raise ArgumentError(f"`{name}` is an int or up to three. {received(**{name: value})}")
    x, y, z = (*shape, 1, 1)[:3]
    return x, y, z
