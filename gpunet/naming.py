"""Automatic names: `dense`, `dense_1`, ..."""

import re
from collections import Counter

_used: Counter[str] = Counter()


def to_snake_case(name: str) -> str:
    """Returns a class name in snake case.

    Example:
        >>> to_snake_case("BatchNormalization"), to_snake_case("LSTM")
        ('batch_normalization', 'lstm')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def get_uid(prefix: str = "") -> int:
    """Returns how often this prefix was asked for, counting from 1."""
    _used[prefix] += 1
    return _used[prefix]


def uniquify(name: str) -> str:
    """Returns `name`, `name_1`, `name_2`, ... in the order asked for."""
    number = get_uid(name)
    return name if number == 1 else f"{name}_{number - 1}"


def auto_name(class_name: str) -> str:
    """Returns the default name of a new object of a class, such as `dense_1`."""
    return uniquify(to_snake_case(class_name))


def clear_session(free_memory: bool = True) -> None:
    """Starts automatic names again from the beginning.

    Args:
        free_memory: Accepted for Keras; memory is freed when objects are dropped.
    """
    _used.clear()
