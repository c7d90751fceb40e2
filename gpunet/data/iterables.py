"""Batches that come one after the other: generators, torch `DataLoader`s, any iterable."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from gpunet.data.adapter import DataAdapter
from gpunet.data.batches import class_weight_to_sample_weights, unpack_x_y_sample_weight
from gpunet.errors import ArgumentError, received


class GeneratorDataAdapter(DataAdapter):
    """Batches of a Python generator, which can be run through only once.

    Args:
        generator: Yields tuples `(x,)`, `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        ArgumentError: If its first batch is not such a tuple, or there is none.
    """

    def __init__(self, generator: Iterator[Any]):
        first = list(itertools.islice(generator, 1))
        if not first:
            raise ArgumentError(
                "When passing a Python generator to a Keras model, the generator must yield at "
                "least one batch. Received an empty generator."
            )
        if not isinstance(first[0], tuple):
            raise ArgumentError(
                "When passing a Python generator to a Keras model, the generator must return a "
                "tuple, either (input,) or (inputs, targets) or (inputs, targets, sample_weights). "
                + received(type=type(first[0]).__name__)
            )
        unpack_x_y_sample_weight(first[0])
        self._first, self._generator = first, generator

    def batches(self) -> Iterator[Any]:
        """Yields what the generator has left."""
        while self._first:
            yield self._first.pop()
        yield from self._generator

    @property
    def num_batches(self) -> None:
        """Not known."""

    @property
    def batch_size(self) -> None:
        """Not known."""


class IterableDataAdapter(DataAdapter):
    """Batches of an iterable that starts again for each epoch, such as a torch `DataLoader`.

    Args:
        iterable: Gives batches `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`; lists count as
            tuples. Its `len`, if it has one, is the number of batches.
        class_weight: Dict from labels to weights.

    Raises:
        ArgumentError: If it has no batches.
    """

    def __init__(self, iterable: Iterable[Any], class_weight: dict | None = None):
        self._iterable, self._class_weight = iterable, class_weight
        try:
            self._count: int | None = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            self._count = None
        if self._count == 0:
            raise ArgumentError(f"`x` has no batches. {received(x=type(iterable).__name__)}")

    def batches(self) -> Iterator[Any]:
        """Yields the batches of one epoch."""
        for number, batch in enumerate(self._iterable):
            yield weigh_classes(batch, self._class_weight, f"Batch {number}")

    @property
    def num_batches(self) -> int | None:
        """The length of the iterable, if it has one."""
        return self._count

    @property
    def batch_size(self) -> int | None:
        """What the iterable says of itself."""
        size = getattr(self._iterable, "batch_size", None)
        return size if isinstance(size, int) else None


def weigh_classes(batch: Any, class_weight: dict | None, name: str) -> Any:
    """Returns a batch as a tuple (dicts are inputs alone), with sample weights by class.

    Args:
        batch: What the user's data gave.
        class_weight: Dict from labels to weights, or `None`.
        name: How errors call the batch.

    Raises:
        ArgumentError: If it is no batch, or has weights already.
    """
    if isinstance(batch, dict) or hasattr(batch, "shape"):
        batch = (batch,) if not isinstance(batch, dict) else batch
    elif isinstance(batch, (list, tuple)) and 1 <= len(batch) <= 3:
        batch = tuple(batch)
    else:
        raise ArgumentError(
            f"{name} must be a tuple or a dict. If a tuple, it must be ordered either (input,) or "
            "(inputs, targets) or (inputs, targets, sample_weights). "
            + received(type=type(batch).__name__)
        )
    if class_weight is None or not isinstance(batch, tuple) or len(batch) == 1:
        return batch
    if len(batch) == 3:
        raise ArgumentError(
            f"{name} has sample weights: you cannot specify `class_weight` and `sample_weight` at "
            "the same time."
        )
    return (*batch, class_weight_to_sample_weights(batch[1], class_weight))
