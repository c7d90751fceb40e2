"""What a graph needs of a machine: memory, copies, streams, and capture. CUDA, and the emulator.

CUDA in four sentences. A *stream* is a queue: the CPU puts work on it and goes on; the GPU does it
in order. An *event* is a mark in a queue that another queue can wait for, without the CPU. While a
stream *captures*, work put on it is not done but written down, with its addresses, as a graph. To
*launch* the graph puts all of it on a stream at once, for the CPU cost of one kernel.
"""

import contextlib
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.emulator import poison
from gpunet.backend.kernels import hooked, hooks
from gpunet.compile.blocks import Block

_T = TypeVar("_T")


class Emulator:
    """The CPU in the place of a GPU: the same memory plan, no streams, and nothing to capture."""

    def __init__(self, device: Device):
        self.device, self._lock = device, threading.RLock()

    def array(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Returns an array that lasts longer than a step; it holds anything."""
        return np.empty(shape, dtype)

    def copy(self, target: Any, source: Any) -> None:
        """Puts the values of an array into another one of the same shape and dtype."""
        if hooks.launch is None:  # else this is a rehearsal
            np.copyto(target, source)

    def take(self, target: Any, source: Any, rows: Any) -> None:
        """Puts rows of an array into another one."""
        np.take(source, rows, axis=0, out=target)

    def uploader(self, target: Any) -> Callable[[np.ndarray], None]:
        """Returns what puts arrays of the host into an array of this machine."""
        return functools.partial(np.copyto, target)

    def address(self, array: Any) -> tuple[int, int]:
        """Returns the addresses of the first byte of an array and of the one behind its last."""
        if isinstance(array, np.generic):  # a number that NumPy took out of an array
            return 0, 0
        return _extent(array, array.ctypes.data)

    def memory(self, nbytes: int) -> tuple[int, Any]:
        """Returns the address of new memory, and what keeps it alive."""
        memory = np.empty(nbytes, np.uint8)
        return memory.ctypes.data, memory

    def allocating(self, request: Callable[[int], Block]) -> Any:
        """Lets what rules allocate come from `request`, for a block."""

        def allocate(nbytes):
            block = request(nbytes)
            memory = np.asarray(block)
            return poison(memory) if block.fresh else memory

        return hooked(allocate=allocate)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A block of work that sees all that was done before, and is seen by all that follows."""
        with self._lock:
            yield

    def tidy(self) -> None:
        """Gives memory back that only the first runs needed."""

    def synchronize(self) -> None:
        """Waits until all work is done."""

    def is_captured(self) -> bool:
        """Tells whether somebody else captures the current stream."""
        return False

    def capture(self, run: Callable[[], _T]) -> Callable[[], _T]:
        """Rehearses the work of `run`, launching nothing; returns what does it: `run` itself."""
        with hooked(launch=lambda *launch: None), np.errstate(all="ignore"):
            run()
        return run


class Cuda:
    """A GPU through CuPy.

    All graphs of a GPU share one stream: what they keep from run to run (workspaces of cuBLASLt,
    counters of reductions) is then never used by two at once.
    """

    def __init__(self, device: Device):
        self.device, self.cupy, self._lock = device, device.xp, threading.RLock()
        cuda = self.cupy.cuda
        with device.activate():
            # A non-blocking stream does not wait for the default stream by itself, and capturing
            # does not forbid work there.
            self.stream = cuda.Stream(non_blocking=True)
            self._copies = cuda.Stream(non_blocking=True)
            self._before = cuda.Event(disable_timing=True)
            self._behind = cuda.Event(disable_timing=True)

    def array(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Returns an array that lasts longer than a step; it holds anything."""
        with self.device.activate():
            return self.cupy.empty(shape, dtype)

    def copy(self, target: Any, source: Any) -> None:
        """Puts the values of an array into another one, on the current stream."""
        alike = source.dtype == target.dtype and source.shape == target.shape
        if alike and source.flags.c_contiguous:
            target.data.copy_from_device_async(source.data, target.nbytes)
        else:
            self.cupy.copyto(target, source)

    def take(self, target: Any, source: Any, rows: Any) -> None:
        """Puts rows of an array into another one, by one kernel."""
        self.cupy.take(source, rows, axis=0, out=target)

    def uploader(self, target: Any) -> Callable[[np.ndarray], None]:
        """Returns what puts arrays of the host into an array of the GPU, while that works on."""
        return Upload(self.cupy, self.stream, self._copies, target)

    def address(self, array: Any) -> tuple[int, int]:
        """Returns the addresses of the first byte of an array and of the one behind its last."""
        return _extent(array, array.data.ptr)

    def memory(self, nbytes: int) -> tuple[int, Any]:
        """Returns the address of new memory, and what keeps it alive."""
        pointer = self.cupy.get_default_memory_pool().malloc(nbytes)
        return pointer.ptr, pointer

    def allocating(self, request: Callable[[int], Block]) -> Any:
        """Lets what rules allocate come from `request`, for a block and in this thread."""
        cuda, index = self.cupy.cuda, self.device.index

        def allocate(nbytes):
            block = request(nbytes)
            owner = cuda.UnownedMemory(block.address, max(nbytes, 1), block, index)
            return cuda.MemoryPointer(owner, 0)

        return cuda.using_allocator(allocate)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Puts work on the stream of graphs, in order with the stream that is current outside.

        The stream waits for what was put on the current one before, and the current one for what
        the block puts on the stream: neither waits on the CPU.
        """
        with self._lock, self.device.activate():
            current = self.cupy.cuda.get_current_stream()
            self.stream.wait_event(current.record(self._before))
            try:
                with self.stream:
                    yield
            finally:  # also what was put there before an error comes first
                current.wait_event(self.stream.record(self._behind))

    def tidy(self) -> None:
        """Gives memory back that only the first runs needed: the arena takes its place."""
        self.cupy.get_default_memory_pool().free_all_blocks(self.stream)

    def synchronize(self) -> None:
        """Waits until all work of the stream is done, so that an error comes up here."""
        self.stream.synchronize()

    def is_captured(self) -> bool:
        """Tells whether somebody else captures the current stream: then work belongs to him."""
        with self.device.activate():
            return bool(self.cupy.cuda.get_current_stream().is_capturing())

    def capture(self, run: Callable[[], _T]) -> Callable[[], _T]:
        """Writes down the work of `run` as a graph; returns what launches it, with its results.

        In the strict *thread-local* mode, all that would not be repeated is an error in this
        thread: asking CUDA for memory, waiting, copies to or from the host.
        """
        stream, mode = self.stream, self.cupy.cuda.runtime.streamCaptureModeThreadLocal
        gc.collect()  # a finalizer in the middle of it might call CUDA, too
        collects = gc.isenabled()
        gc.disable()
        try:
            stream.begin_capture(mode)
            results = run()
        except BaseException:
            with contextlib.suppress(self.cupy.cuda.runtime.CUDARuntimeError):
                stream.end_capture()  # reports again what has spoilt the capture
            raise
        finally:
            if collects:
                gc.enable()
        graph = stream.end_capture()
        graph.upload(stream)

        def launch():
            graph.launch(stream)
            return results

        return launch


class Upload:
    """The way of batches from the host: copied by a stream of their own, one step ahead.

    An asynchronous copy needs *pinned* host memory, which the system never moves. There are two
    pairs of a pinned and a device buffer: the CPU fills one while the GPU still reads the other.
    Events keep the order: the copy waits until the GPU has read what its buffer held before, the
    step waits for the copy, and the CPU only for the copy of two steps ago.

    Args:
        cupy: The CuPy module.
        stream: The stream of graphs.
        copies: The stream of copies.
        target: A fixed input of a graph.
    """

    def __init__(self, cupy: Any, stream: Any, copies: Any, target: Any):
        self._stream, self._copies, self._target = stream, copies, target
        self._slots = [_Slot(cupy, stream, target) for _ in range(2)]

    def __call__(self, source: np.ndarray) -> None:
        """Puts an array of the target's shape and dtype into it."""
        slot = self._slots[0]
        self._slots.reverse()
        slot.filled.synchronize()
        slot.pinned[...] = source
        self._copies.wait_event(slot.read)
        slot.device.set(slot.pinned, stream=self._copies)
        self._copies.record(slot.filled)
        self._stream.wait_event(slot.filled)
        self._target.data.copy_from_device_async(slot.device.data, self._target.nbytes)
        self._stream.record(slot.read)


class _Slot:
    """A pinned buffer, its copy on the GPU, and the events that say when each may be reused."""

    def __init__(self, cupy, stream, target):
        self.filled = cupy.cuda.Event(disable_timing=True)
        memory = cupy.cuda.alloc_pinned_memory(target.nbytes)
        count = target.size
        self.pinned = np.frombuffer(memory, target.dtype, count).reshape(target.shape)
        with stream:  # what used this memory before was work of the stream
            self.device = cupy.empty(target.shape, target.dtype)
        self.read = stream.record(cupy.cuda.Event(disable_timing=True))

    def __del__(self):
        self.filled.synchronize()  # the pinned memory must not be given away under a copy


def _extent(array, begin):
    """Where the elements of a non-empty array begin and end; its strides may be negative."""
    end = begin + array.itemsize
    for length, stride in zip(array.shape, array.strides, strict=True):
        step = (length - 1) * stride
        begin, end = begin + min(step, 0), end + max(step, 0)
    return begin, end


@functools.cache
def machine(device: Device) -> Any:
    """Returns the machine of a device: `Cuda` or `Emulator`.

    Args:
        device: `"cuda:N"` or `"emulator"`.
    """
    return Cuda(device) if device.kind == "cuda" else Emulator(device)
