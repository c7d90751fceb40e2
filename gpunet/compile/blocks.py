"""The memory of a step: recorded once, planned, and handed out again at the same addresses.

Rules allocate what they return, and what they need on the way. The first time, `Recorder` gives
them ordinary memory and notes when each array begins and ends to live; `arena.plan` then finds a
place in one arena for each. From then on `Placer` answers the same requests with these places.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gpunet.compile import arena
from gpunet.errors import KernelError, received

ALIGNMENT = 512  # bytes; what CuPy's allocator gives, and more than any load of a kernel wants


class Block:
    """A piece of memory in use. Arrays hold it; when the last of them goes, so does it.

    Attributes:
        address: Of its first byte.
        nbytes: How many there are.
        fresh: Whether they hold nothing of value.
    """

    __slots__ = ("_keep", "_let_go", "address", "fresh", "nbytes")

    def __init__(self, address: int, nbytes: int, let_go: Callable[[], object], keep: Any = None):
        self.address, self.nbytes, self.fresh = address, nbytes, True
        self._let_go, self._keep = let_go, keep

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The bytes, for NumPy: an array made from them holds the block."""
        return {
            "data": (self.address, False),
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self):
        self._let_go()


class Recorder:
    """Notes what one run of a step allocates, and when it lets go of it.

    Args:
        allocate: Gives memory: bytes to `(address, what keeps it alive)`.

    Attributes:
        sizes: The bytes of each request, in their order.
    """

    def __init__(self, allocate: Callable[[int], tuple[int, Any]]):
        self._allocate = allocate
        self._time = 0
        self._lives: list[list[int]] = []
        self._at: dict[int, int] = {}
        self.sizes: list[int] = []

    def request(self, nbytes: int) -> Block:
        """Returns new memory."""
        address, keep = self._allocate(nbytes)
        index, self._time = len(self.sizes), self._time + 1
        self.sizes.append(nbytes)
        self._lives.append([self._time, -1])
        self._at[address] = index
        return Block(address, nbytes, lambda: self._end(index), keep)

    def _end(self, index):
        self._time += 1
        self._lives[index][1] = self._time

    def index(self, address: int, nbytes: int) -> int | None:
        """Returns the number of the request whose memory is just this, if there is one."""
        index = self._at.get(address)
        return index if index is not None and self.sizes[index] == nbytes else None

    def intervals(self) -> list[arena.Interval]:
        """Returns when each request lived: to the end, where it still does."""
        end = self._time + 1
        pairs = zip(self._lives, self.sizes, strict=True)
        return [(first, end if last < 0 else last, size) for (first, last), size in pairs]


class Placer:
    """Answers the requests of a recorded run with planned places.

    It trusts nothing: a request of another size than was recorded, or for a place that an array of
    this run still holds, is an error, never a wrong result.

    Args:
        recorder: What recorded the run.
        fixed: Addresses of requests (by their number) that have memory of their own: results that
            go straight to a Variable.
    """

    def __init__(self, recorder: Recorder, fixed: Mapping[int, int]):
        self._sizes, self._fixed = recorder.sizes, fixed
        intervals = [
            (first, last, 0 if i in fixed else size)
            for i, (first, last, size) in enumerate(recorder.intervals())
        ]
        self._offsets, self.total = arena.plan(intervals, ALIGNMENT)
        self._start = self._next = 0
        self._live: dict[int, tuple[int, int]] = {}

    def begin(self, address: int) -> None:
        """Begins a run in an arena of `total` bytes.

        Raises:
            KernelError: If arrays of an earlier run are still alive.
        """
        if self._live:
            raise KernelError(
                f"{len(self._live)} arrays of a graph's memory are in use after its run: a rule "
                "keeps an array that it was given or made. Copy what outlives the step."
            )
        self._start, self._next = address, 0

    def request(self, nbytes: int) -> Block:
        """Returns the memory planned for this request."""
        index, self._next = self._next, self._next + 1
        if index >= len(self._sizes) or self._sizes[index] != nbytes:
            planned = self._sizes[index] if index < len(self._sizes) else None
            raise KernelError(
                "A step asks for other memory than the time before: what a rule allocates may "
                "depend on shapes only. " + received(request=index, nbytes=nbytes, planned=planned)
            )
        if index in self._fixed:
            block = Block(self._fixed[index], nbytes, _nothing)
            block.fresh = False
            return block
        begin = self._offsets[index]
        end = begin + nbytes
        for other_begin, other_end in self._live.values():
            if begin < other_end and other_begin < end:
                raise KernelError(
                    "An array of a step lives longer than the time before, so that its memory "
                    f"would be given away. {received(request=index, nbytes=nbytes)}"
                )
        if nbytes:
            self._live[index] = begin, end
        return Block(self._start + begin, nbytes, lambda: self._live.pop(index, None))


def _nothing():
    pass
