"""Where seeds come from: numbers, generators that count their draws, or the global generator."""

import random as python_random
from typing import Any

import numpy as np

from gpunet.backend.device import Device, current_device
from gpunet.backend.device import device as on_device
from gpunet.core.naming import name_scope
from gpunet.core.state import mode
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, received
from gpunet.naming import auto_name
from gpunet.ops.elementwise import add, cast_to

_UINT32 = np.dtype(np.uint32)
_MASK = 0xFFFFFFFF


class SeedGenerator:
    """Gives a new seed at each draw; its state is a Variable, so it also counts inside of a graph.

    Random functions are stateless: an integer seed gives the same numbers at every call. A
    generator as the seed gives new ones at each call, and the same sequence from the same start.

    Args:
        seed: Integer; default a new one from Python's `random` (which `set_random_seed` seeds).
        name: Name; default an automatic one.

    Attributes:
        state: Variable of shape `(2,)`: the seed and the number of draws.

    Raises:
        ArgumentError: If `seed` is no integer.

    Example:
        >>> import gpunet
        >>> generator = gpunet.random.SeedGenerator(seed=7)
        >>> a, b = (gpunet.random.uniform((3,), seed=generator).tolist() for _ in range(2))
        >>> a == b, a == gpunet.random.uniform((3,), seed=7).tolist()
        (False, True)
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any):
        kwargs.pop("backend", None)
        if kwargs:
            raise ArgumentError(f"Unrecognized keyword arguments: {kwargs}")
        self.name = name or auto_name(type(self).__name__)
        self._initial_seed = seed
        if seed is None:
            seed = make_default_seed()
        first = _words(seed)
        with name_scope(self.name):
            self.state = Variable(
                np.array(first, _UINT32), trainable=False, name="seed_generator_state"
            )
        with mode(graph=None, tape=None):
            self._one = as_tensor(np.array([0, 1], _UINT32), device=self.state.device)

    def next(self, ordered: bool = True) -> Tensor:
        """Returns the seed of this draw and moves on to the next.

        Args:
            ordered: Accepted for Keras; draws are always counted.

        Returns:
            Tensor of shape `(2,)`.
        """
        seed = self.state.value
        self.state.assign(add(seed, self._one))
        return seed

    def get_config(self) -> dict:
        """Returns what `from_config` needs."""
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "SeedGenerator":
        """Makes a generator from its config."""
        return cls(**config)


def _words(seed):
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
        raise ArgumentError(f"Argument `seed` must be an integer. {received(seed=seed)}")
    return [int(seed) & _MASK, int(seed) >> 32 & _MASK]


_generators: dict[Device, SeedGenerator] = {}
_start: list[int] = []


def global_seed_generator(device: Device | None = None) -> SeedGenerator:
    """Returns the generator that serves where no seed is given.

    Each device has its own, and all start from the same seed, so the numbers do not depend on the
    device.

    Args:
        device: Default the current device.

    Example:
        >>> import gpunet
        >>> gpunet.random.global_seed_generator().state.shape
        (2,)
    """
    device = device or current_device()
    if device not in _generators:
        if not _start:
            _start.append(make_default_seed())
        with on_device(device), mode(graph=None, tape=None, scope=None):
            _generators[device] = SeedGenerator(_start[0], name="global_seed_generator")
    return _generators[device]


def set_random_seed(seed: int) -> None:
    """Makes everything random reproducible: Python's `random`, NumPy's, and the global generator.

    Args:
        seed: Integer from 0 to 2**32 - 1, as NumPy wants it.

    Raises:
        ArgumentError: If it is none.

    Example:
        >>> import gpunet
        >>> gpunet.random.set_random_seed(1)
        >>> a = gpunet.random.normal((2,)).tolist()
        >>> gpunet.random.set_random_seed(1)
        >>> a == gpunet.random.normal((2,)).tolist()
        True
    """
    _words(seed)
    if not 0 <= seed <= _MASK:
        raise ArgumentError(f"`seed` must be from 0 to 2**32 - 1. {received(seed=seed)}")
    python_random.seed(int(seed))
    np.random.seed(int(seed))
    _generators.clear()
    _start[:] = [int(seed)]


def make_default_seed() -> int:
    """Returns a seed drawn from Python's `random`."""
    return python_random.randint(1, int(1e9))


def draw_seed(seed: Any, device: Device | None = None) -> Tensor:
    """Returns the seed tensor of one draw.

    Args:
        seed: Integer, `SeedGenerator`, tensor of shape `(2,)`, or `None` for the global generator.
        device: Where the numbers are needed; default the current device, or that of the seed.

    Returns:
        Tensor of shape `(2,)`, uint32.

    Raises:
        ArgumentError: If `seed` is none of these.

    Example:
        >>> draw_seed(3).tolist()
        [3, 0]
    """
    if isinstance(seed, SeedGenerator):
        drawn = seed.next()
    elif seed is None:
        drawn = global_seed_generator(device).next()
    elif isinstance(seed, (Operators, np.ndarray)):
        drawn = cast_to(as_tensor(seed, device=device), _UINT32)
        if drawn.shape != (2,):
            raise ArgumentError(
                f"A tensor as `seed` must have shape (2,). {received(shape=drawn.shape)}"
            )
    elif isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return as_tensor(np.array(_words(seed), _UINT32), device=device)
    else:
        raise ArgumentError(
            "Argument `seed` must be either an integer or an instance of `SeedGenerator`. "
            + received(seed=seed, type=type(seed))
        )
    return drawn if device is None or drawn.device is device else drawn.to(device)
