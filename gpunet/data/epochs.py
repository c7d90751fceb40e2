"""EpochIterator: how many batches an epoch has, and what to do when data run out."""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

from gpunet.backend.device import Device
from gpunet.config import max_steps_per_epoch
from gpunet.data.choose import get_data_adapter
from gpunet.errors import ArgumentError, received


class EpochIterator:
    """Iterates over the steps of an epoch: `(first_step, last_step, [batches])`.

    Args:
        x: Data; see `get_data_adapter`.
        y: Targets.
        sample_weight: Weights.
        batch_size: Samples in a batch, for arrays.
        steps_per_epoch: Batches in an epoch; default all that there are.
        shuffle: Whether arrays are shuffled each epoch.
        class_weight: Dict from labels to weights.
        steps_per_execution: Batches given at once.

    Raises:
        ArgumentError: If the data or a number is not valid.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        shuffle: bool | str = False,
        class_weight: dict | None = None,
        steps_per_execution: int = 1,
    ):
        limit = max_steps_per_epoch()
        if limit and (not steps_per_epoch or limit < steps_per_epoch):
            warnings.warn(f"Limiting steps_per_epoch to {limit}", stacklevel=2)
            steps_per_epoch = limit
        for name, value in (
            ("steps_per_epoch", steps_per_epoch),
            ("steps_per_execution", steps_per_execution),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ArgumentError(f"`{name}` must be a positive integer. {received(value=value)}")
        self.steps_per_epoch, self.steps_per_execution = steps_per_epoch, steps_per_execution
        self.data_adapter = get_data_adapter(
            x, y, sample_weight, batch_size, steps_per_epoch, shuffle, class_weight
        )
        self._num_batches = self.data_adapter.num_batches
        self._iterator: Any = None
        self._peeked: list[Any] = []
        self._begun = False

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; learnt at the end of the first one if the data do not tell."""
        return self.steps_per_epoch or self._num_batches

    def reset(self) -> None:
        """Starts again from the beginning of the data, where these can be read again."""
        if not self._peeked:
            self._end()
            self._iterator = None

    def peek(self) -> Any:
        """Returns a batch from which shapes can be told; the next epoch loses nothing by it.

        Raises:
            ArgumentError: If there is none.
        """
        if not self._peeked:
            self._begin()
            batch = self.data_adapter.first_batch()
            if batch is not None:
                return batch
            self._iterator = iter(self._get_iterator())
            self._peeked = list(itertools.islice(self._iterator, 1))
        if not self._peeked:
            raise ArgumentError("`x` has no batches.")
        return self._peeked[0]

    def _get_iterator(self) -> Iterator[Any]:
        return self.data_adapter.get_numpy_iterator()

    def __iter__(self) -> Iterator[tuple[int, int, list[Any]]]:
        self._begin()
        try:
            yield from self._steps()
        finally:
            self._end()

    enumerate_epoch = __iter__

    def _begin(self):
        if not self._begun:
            self._begun = True
            self.data_adapter.on_epoch_begin()

    def _end(self):
        if self._begun:
            self._begun = False
            self.data_adapter.on_epoch_end()

    def _steps(self):
        goes_on = self.steps_per_epoch is not None  # an epoch begins where the last one ended
        used = goes_on and self._iterator is not None and not self._peeked
        if not used and not self._peeked:
            self._iterator = iter(self._get_iterator())
        size, limit, step = self.steps_per_execution, self.num_batches, 0
        while limit is None or step < limit:
            batches = self._take(size if limit is None else min(size, limit - step))
            if not batches and used and step == 0:  # the last epoch ended with the data
                used, self._iterator = False, iter(self._get_iterator())
                continue
            if not batches:
                self._ran_out(step, limit)
                return
            yield step, step + size - 1, batches
            step += len(batches)

    def _take(self, count):
        if count == 1 and not self._peeked:
            for batch in self._iterator:
                return [batch]
            return []
        batches, self._peeked = self._peeked, []
        return batches + list(itertools.islice(self._iterator, count - len(batches)))

    def _ran_out(self, step, limit):
        self._iterator = None
        if limit is None:
            self._num_batches = step
        if limit is not None or step == 0:
            warnings.warn(
                "Your input ran out of data; interrupting training. Make sure that your dataset "
                "or generator can generate at least `steps_per_epoch * epochs` batches: this "
                f"epoch got {step}" + (f" of {limit}." if limit else "."),
                stacklevel=2,
            )


class TensorEpochIterator(EpochIterator):
    """The same with batches as Tensors.

    Args:
        *args: As of EpochIterator.
        device: Where the Tensors are.
        for_graphs: Whether batches on a GPU may be what graphs turn into Tensors themselves.
        **kwargs: As of EpochIterator.
    """

    def __init__(self, *args: Any, device: Device, for_graphs: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._device, self._for_graphs = device, for_graphs

    def _get_iterator(self) -> Iterator[Any]:
        adapter: Any = self.data_adapter
        if self._for_graphs and hasattr(adapter, "get_input_iterator"):
            return adapter.get_input_iterator(self._device)
        return self.data_adapter.get_tensor_iterator(self._device)
