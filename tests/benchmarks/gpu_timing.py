"""How long a call takes on a GPU: replays of a CUDA graph between two events.

A graph holds many launches, so that what the CPU does between them does not count. The launches
take turns on sets of buffers that together are larger than the L2 cache. The harness does not know
whose graph it is: CuPy's for gpunet, PyTorch's for PyTorch, or a test's.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

CACHES = 240 << 20  # bytes, four times the L2 cache of an H200
WINDOW = 1e-3  # seconds that a replay should take at least
MOST = 4000  # launches in a graph
REPLAYS = 20


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median of the replays, and their spread."""

    median: float
    low: float
    high: float
    captured: bool

    def json(self) -> dict:
        names = {"us": self.median, "p10 us": self.low, "p90 us": self.high}
        return {name: 1e6 * value for name, value in names.items()} | {"graph": self.captured}


def buffer_sets(nbytes: int) -> int:
    """How many sets of buffers a call of so many bytes takes turns on."""
    return max(1, min(math.ceil(CACHES / max(nbytes, 1)), 64))


def measure(graphs: Any, call: Callable[[int], Any], sets: int, replays: int = REPLAYS) -> Timing:
    """Times `call(i)`, which works on buffer set `i`.

    Args:
        graphs: With `seconds(work)`, the device's time of `work()`, and `capture(work)`, which
            returns a function that replays it, or None where it cannot be captured.
        call: What is timed; it keeps its results alive, so that they have buffers of their own.
        sets: How many buffer sets there are.
        replays: How often the graph is replayed.
    """
    work = by_turns(call, range(sets), sets)
    graphs.seconds(work)  # compiles, and chooses algorithms
    count, once = sets, graphs.seconds(work)
    for _ in range(3):  # launches one by one take longer than in a graph: the count may grow
        count = sets * max(1, min(math.ceil(count / sets * WINDOW / once), MOST // sets))
        work = by_turns(call, range(count), sets)
        replay = graphs.capture(work)
        once = graphs.seconds(replay or work)
        if once >= WINDOW / 2 or count + sets > MOST:
            break
    run = replay or work
    for _ in range(3):
        graphs.seconds(run)
    times = sorted(graphs.seconds(run) / count for _ in range(replays))
    tenths = quantiles(times, n=10, method="inclusive")
    return Timing(tenths[4], tenths[0], tenths[8], replay is not None)


def by_turns(call, every, sets):
    """Work that calls each of `every`, by turns on the buffer sets."""

    def work():
        for i in every:
            call(i % sets)

    return work


class CupyGraphs:
    """CUDA graphs of what is launched through CuPy, on a stream and in a memory pool of its own.

    Freed arrays return to the pool while the graph still writes to them; nobody else may get them.
    """

    def __init__(self, cupy: Any):
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pool = cupy.cuda.MemoryPool()

    @contextlib.contextmanager
    def active(self):
        with self.cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            yield

    def seconds(self, work: Callable) -> float:
        events = [self.cupy.cuda.Event() for _ in range(2)]
        with self.active():
            events[0].record(self.stream)
            work()
            events[1].record(self.stream)
        events[1].synchronize()
        return self.cupy.cuda.get_elapsed_time(*events) * 1e-3

    def capture(self, work: Callable) -> Callable | None:
        errors = (RuntimeError, NotImplementedError)  # what CuPy and CUDA say while capturing
        with self.active():
            self.stream.begin_capture()
            try:
                work()
            except errors:
                with contextlib.suppress(*errors):  # the capture is void, but must be ended
                    self.stream.end_capture()
                self.stream = self.cupy.cuda.Stream(non_blocking=True)
                return None
            graph = self.stream.end_capture()
        return lambda: graph.launch(self.stream)


class TorchGraphs:
    """CUDA graphs of PyTorch."""

    def __init__(self, torch: Any):
        self.torch = torch
        self.stream = torch.cuda.Stream()

    def active(self):
        return self.torch.cuda.stream(self.stream)

    def seconds(self, work: Callable) -> float:
        events = [self.torch.cuda.Event(enable_timing=True) for _ in range(2)]
        with self.active():
            events[0].record(self.stream)
            work()
            events[1].record(self.stream)
        events[1].synchronize()
        return events[0].elapsed_time(events[1]) * 1e-3

    def capture(self, work: Callable) -> Callable | None:
        graph = self.torch.cuda.CUDAGraph()
        try:
            with self.torch.cuda.graph(graph, stream=self.stream):
                work()
        except RuntimeError:
            self.torch.cuda.synchronize()
            self.stream = self.torch.cuda.Stream()
            return None
        return graph.replay
