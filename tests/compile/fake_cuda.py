"""A CuPy whose GPU is this process: streams, events, capture, and a memory pool as CuPy has them.

Work that is put on a stream waits in a queue, as on a GPU; a random scheduler takes from the
queues, held back by events only. Memory is one heap that is never given back, in which freed blocks
go to the next who asks on the same stream, whatever is still queued: who forgets an event, or lets
go of memory too early, gets wrong numbers. Kernels run on the emulator.
"""

import contextlib
import ctypes
import itertools
import random
import types

import numpy as np

from gpunet.backend.kernels import hooked

_STALE = 0xA5


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where CUDA reports an error."""


class Array(np.ndarray):
    """An array in the heap; `data` is a pointer, as CuPy has it."""

    @property
    def data(self):
        return Pointer(self.ctypes.data, self, self.fake)

    fake = None

    def __array_finalize__(self, other):
        self.fake = getattr(other, "fake", None)

    def astype(self, dtype, copy=True):
        if self.dtype == dtype and not copy:
            return self
        result = self.fake.empty(self.shape, dtype)
        self.fake.copyto(result, self)
        return result

    def set(self, source, stream):
        self.fake.refuse_while_capturing("copies from the host")
        assert source.flags.c_contiguous
        self.fake.move(self.ctypes.data, source.ctypes.data, self.nbytes, stream)


class Pointer:
    """A MemoryPointer."""

    def __init__(self, ptr, keep, fake):
        self.ptr, self.keep, self.fake = ptr, keep, fake

    def copy_from_device_async(self, source, nbytes):
        address = getattr(source, "ptr", None)
        if address is None:  # an array that was made on the host before the test began
            address = np.frombuffer(source, np.uint8).ctypes.data if source.nbytes else 0
            self.fake.kept.append(source)
        self.fake.move(self.ptr, address, nbytes, self.fake.current())


class Memory:
    """A piece of the heap; freed, it belongs to whoever asks next on its stream."""

    def __init__(self, fake, address, nbytes, stream):
        self.fake, self.address, self.nbytes, self.stream = fake, address, nbytes, stream

    def __del__(self):
        self.fake.free.setdefault((self.stream, self.nbytes), []).append(self.address)


class Event:
    """A mark in streams: `times` counts how often it was recorded, `reached` holds which of these.

    Who waits does so for the last time that it was recorded before: on whatever stream that was.
    """

    def __init__(self, fake):
        self.fake, self.times, self.reached = fake, 0, {0}

    def synchronize(self):
        self.fake.refuse_while_capturing("waiting")
        while self.times not in self.reached:
            self.fake.advance()


class Stream:
    """A queue of work: functions, and pairs of an event and the count to wait for."""

    numbers = itertools.count()

    def __init__(self, fake):
        self.fake, self.queue, self.captured = fake, [], None
        self.ptr = next(Stream.numbers)
        fake.streams.append(self)

    def __enter__(self):
        self.fake.stack.append(self)
        return self

    def __exit__(self, *error):
        self.fake.stack.pop()

    def put(self, work):
        if self.captured is not None:
            self.captured.append(work)
        else:
            self.queue.append(work)
            self.fake.advance_a_little()

    def record(self, event):
        event.times += 1
        count = event.times
        self.put(lambda: event.reached.add(count))
        return event

    def wait_event(self, event):
        self.put((event, event.times))

    def synchronize(self):
        self.fake.refuse_while_capturing("waiting")
        while self.queue:
            self.fake.advance()

    def is_capturing(self):
        return self.captured is not None

    def begin_capture(self, mode):
        assert mode == "thread local"
        self.captured = []

    def end_capture(self):
        work, self.captured = self.captured, None
        if self.fake.spoilt:
            self.fake.spoilt = False
            raise CUDARuntimeError("the capture was invalidated")
        return Graph(self.fake, work)


class Graph:
    """Captured work."""

    def __init__(self, fake, work):
        self.fake, self.work = fake, work
        fake.graphs.append(self)

    def upload(self, stream):
        assert not stream.is_capturing()

    def launch(self, stream):
        self.fake.launches += 1
        for work in self.work:
            stream.put(work)


class FakeCuPy:
    """The module.

    Args:
        seed: Of the scheduler.

    Attributes:
        graphs: All that were captured.
        launches: How often graphs were launched.
    """

    def __init__(self, seed, nbytes=1 << 24):
        self.heap = np.full(nbytes, _STALE, np.uint8)
        self.used, self.free, self.kept = 0, {}, []
        self.random = random.Random(seed)
        self.eagerness = seed % 3  # how much work is done while more is put on streams
        self.later_first = seed % 2 == 0  # which streams mostly come first
        self.streams, self.graphs, self.launches, self.spoilt = [], [], 0, False
        self.default = Stream(self)
        self.stack = [self.default]
        self.allocator = self.malloc
        self.cuda = types.SimpleNamespace(
            Stream=lambda non_blocking: Stream(self),
            Event=lambda disable_timing: Event(self),
            MemoryPointer=lambda memory, offset: memory,
            UnownedMemory=lambda address, nbytes, owner, device: Pointer(address, owner, self),
            alloc_pinned_memory=lambda nbytes: bytearray(nbytes),
            get_current_stream=self.current,
            using_allocator=self.using_allocator,
            runtime=types.SimpleNamespace(
                streamCaptureModeThreadLocal="thread local", CUDARuntimeError=CUDARuntimeError
            ),
        )

    # -- memory ---------------------------------------------------------------------------------

    def malloc(self, nbytes):
        nbytes = -(-max(nbytes, 1) // 512) * 512
        stream = self.current().ptr
        known = self.free.get((stream, nbytes))
        if known:
            address = known.pop()
        else:
            self.refuse_while_capturing("asking for memory")
            address = self.heap.ctypes.data + self.used
            self.used += nbytes
            assert self.used <= self.heap.size
        memory = Memory(self, address, nbytes, stream)
        return Pointer(address, memory, self)

    def get_default_memory_pool(self):
        return types.SimpleNamespace(malloc=self.malloc, free_all_blocks=lambda stream: None)

    @contextlib.contextmanager
    def using_allocator(self, allocator):
        before, self.allocator = self.allocator, allocator
        try:
            yield
        finally:
            self.allocator = before

    def empty(self, shape, dtype):
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
        return self.allocate(nbytes)[:nbytes].view(dtype).reshape(shape)

    def allocate(self, nbytes):
        """Memory for a kernel: a hook of `gpunet.backend.kernels`."""
        array = np.asarray(_Holder(self.allocator(nbytes), nbytes)).view(Array)
        array.fake = self
        return array

    # -- work -----------------------------------------------------------------------------------

    def current(self):
        return self.stack[-1]

    def refuse_while_capturing(self, what):
        if any(stream.is_capturing() for stream in self.streams):
            self.spoilt = True
            raise CUDARuntimeError(f"{what} is not permitted while a stream captures")

    def move(self, target, source, nbytes, stream):
        stream.put(lambda: ctypes.memmove(target, source, nbytes))

    def copyto(self, target, source):
        into, of = unheld(target), unheld(source)
        self.current().put(lambda: np.copyto(into, of, casting="unsafe"))

    def take(self, source, rows, axis, out):
        of, at, into = unheld(source), unheld(rows), unheld(out)
        self.current().put(lambda: np.take(of, at, axis=axis, out=into))

    def launch(self, kernel, device, grid, block, args, shared):
        """A kernel on the current stream: a hook of `gpunet.backend.kernels`."""
        compiled = kernel.compiled(None)
        packed = compiled.pack(grid, block, args, shared)  # addresses, as CUDA takes them
        begin, end = self.heap.ctypes.data, self.heap.ctypes.data + self.heap.size
        arrays = [x for x in args if isinstance(x, np.ndarray)]
        # Numbers of the host: constants, which stand for arrays that a GPU has.
        self.kept += [x for x in arrays if not begin <= x.ctypes.data < end]

        def work():
            assert not compiled._runtime.gpunet_launch(compiled._handle, packed)

        self.current().put(work)

    def advance(self):
        """Does one piece of the work that may be done now."""
        ready = [stream for stream in self.streams if stream.queue and _may_run(stream.queue[0])]
        assert ready, "streams wait for each other"
        favourite = ready[-1 if self.later_first else 0]
        chosen = favourite if self.random.random() < 0.9 else self.random.choice(ready)
        work = chosen.queue.pop(0)
        if callable(work):
            work()

    def advance_a_little(self):
        for _ in range(self.random.randint(0, self.eagerness)):
            if any(stream.queue and _may_run(stream.queue[0]) for stream in self.streams):
                self.advance()

    def synchronize(self):
        while any(stream.queue for stream in self.streams):
            self.advance()

    @contextlib.contextmanager
    def running(self):
        """Lets kernels of the emulator and their memory be those of this GPU.

        `replaced` is a dict, a key, and what stands there meanwhile.
        """
        rules, key, rule = self.replaced
        before = rules.get(key)
        rules[key] = rule
        try:
            with hooked(allocate=self.allocate, launch=self.launch):
                yield self
                self.synchronize()
        finally:
            rules.pop(key)
            if before is not None:
                rules[key] = before

    @contextlib.contextmanager
    def off(self):
        """Lets kernels run at once, in memory of the host, as outside of this GPU."""
        self.synchronize()
        rules, key, rule = self.replaced
        del rules[key]
        try:
            with hooked(allocate=None, launch=None):
                yield
        finally:
            rules[key] = rule


def unheld(x):
    """The memory of an array, not held: as an address on a GPU is not."""
    return np.asarray(types.SimpleNamespace(__array_interface__=dict(x.__array_interface__)))


def _may_run(work):
    return callable(work) or work[1] in work[0].reached


class _Holder:
    """Gives NumPy an array over memory, and holds that memory as long as the array lives."""

    def __init__(self, pointer, nbytes):
        self.pointer = pointer
        self.__array_interface__ = {
            "data": (pointer.ptr, False),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }
