"""Arguments that many layers share: initializers, regularizers, constraints, activations."""

from collections.abc import Callable
from typing import Any

from gpunet import activations, constraints, initializers, regularizers
from gpunet.errors import ArgumentError, received

_ROOMS = {
    "initializer": initializers,
    "regularizer": regularizers,
    "constraint": constraints,
    "activation": activations,
}


def documented(text: str) -> Callable:
    """Decorates a class with a line `<arguments>` in its docstring, where this text belongs."""

    def insert(cls):
        cls.__doc__ = (cls.__doc__ or "").replace("    <arguments>", text.strip("\n").rstrip())
        return cls

    return insert


def set_options(layer: Any, **options: Any) -> None:
    """Sets attributes such as `kernel_initializer` from identifiers; the name says the kind."""
    for name, identifier in options.items():
        setattr(layer, name, _ROOMS[name.rpartition("_")[2]].get(identifier))


def options_config(layer: Any, *names: str) -> dict[str, Any]:
    """Returns the configs of attributes that `set_options` set."""
    return {name: _ROOMS[name.rpartition("_")[2]].serialize(getattr(layer, name)) for name in names}


def positive_int(name: str, value: Any) -> int:
    """Returns a checked size.

    Raises:
        ArgumentError: If it is not a positive integer.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ArgumentError(f"`{name}` must be a positive integer. {received(**{name: value})}")
    return value


def unsupported(**options: Any) -> None:
    """Refuses Keras's arguments for what gpunet does not have.

    Raises:
        ArgumentError: If one is given.
    """
    for name, value in options.items():
        if value is not None:
            raise ArgumentError(
                f"gpunet has neither LoRA nor quantization: leave `{name}` out. "
                + received(**{name: value})
            )


def tuple_of(value: Any, rank: int, name: str, allow_zero: bool = False) -> tuple[int, ...]:
    """Returns an integer, or sequence of `rank` integers, as a tuple of `rank` integers.

    Raises:
        ArgumentError: If it is neither, or a number is not positive.
    """
    values = (value,) * rank if isinstance(value, int) else value
    try:
        values = tuple(int(v.__index__()) for v in values)
    except (TypeError, AttributeError) as error:
        raise ArgumentError(
            f"The `{name}` argument must be an integer or a tuple of {rank} integers. "
            + received(**{name: value})
        ) from error
    if len(values) != rank or any(v < (0 if allow_zero else 1) for v in values):
        sign = "non-negative" if allow_zero else "positive"
        raise ArgumentError(
            f"The `{name}` argument must be a {sign} integer or a tuple of {rank} {sign} integers. "
            + received(**{name: value})
        )
    return values
