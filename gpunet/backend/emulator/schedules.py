"""The order in which the emulator runs the threads of a block and the blocks of a grid."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from gpunet.errors import ArgumentError, received

NAMES = ("forward", "reverse", "random")  # the numbers of enum Schedule in cpp/interface.h


def _parse(name: str, seed: int) -> tuple[int, int]:
    if name not in NAMES:
        raise ArgumentError(f"`schedule` must be one of {NAMES}. {received(schedule=name)}")
    if not 0 <= seed < 2**64:
        raise ArgumentError(f"`seed` must be in [0, 2**64). {received(seed=seed)}")
    return NAMES.index(name), seed


def _from_environment() -> tuple[int, int]:
    name, _, seed = os.environ.get("GPUNET_EMULATOR_SCHEDULE", "forward").partition(":")
    return _parse(name, int(seed or 0))


_DEFAULT = _from_environment()
_current: ContextVar[tuple[int, int]] = ContextVar("schedule", default=_DEFAULT)
current = _current.get


@contextlib.contextmanager
def schedule(name: str, seed: int = 0) -> Iterator[None]:
    """Runs the kernels launched inside the block in another order.

    A kernel that is right in every order may still have a race, but one that lacks a barrier is
    rarely right in all three. The environment variable `GPUNET_EMULATOR_SCHEDULE` (`"reverse"`,
    `"random:7"`) sets the order for a whole process.

    Args:
        name: `"forward"`, `"reverse"`, or `"random"`, which also mixes the blocks of the grid and
            the threads that were released with those not yet started.
        seed: Of the random order; equal seeds give equal orders.

    Raises:
        ArgumentError: If there is no such schedule.

    Example:
        >>> with schedule("random", seed=3):
        ...     current()
        (2, 3)
    """
    token = _current.set(_parse(name, seed))
    try:
        yield
    finally:
        _current.reset(token)
