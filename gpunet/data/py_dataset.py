"""PyDataset: batches by number, made by worker threads or processes ahead of the training step."""

import itertools
import multiprocessing
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

from gpunet.data.adapter import DataAdapter
from gpunet.data.iterables import weigh_classes
from gpunet.errors import ArgumentError, StateError, received


class PyDataset:
    """Batches by number: subclasses define `__len__` (how many) and `__getitem__` (one of them).

    `fit` reads each batch exactly once an epoch, in order (or shuffled), whatever the workers do.

    Args:
        workers: Threads or processes that make batches; with one thread or none they are made in
            the training loop itself.
        use_multiprocessing: Whether workers are processes (started fresh, never forked, so the
            dataset must be picklable and scripts need `if __name__ == "__main__":`).
        max_queue_size: Batches made ahead at most.

    Raises:
        ArgumentError: If a number is negative.

    Example:
        >>> import numpy as np
        >>> class Squares(PyDataset):
        ...     def __len__(self):
        ...         return 2
        ...
        ...     def __getitem__(self, index):
        ...         x = np.arange(4) + 4 * index
        ...         return x, x**2
        >>> [y.tolist() for x, y in Squares(workers=2)]
        [[0, 1, 4, 9], [16, 25, 36, 49]]
    """

    _workers: Any = None  # until the constructor has run
    _use_multiprocessing: bool = False
    _max_queue_size: int = 10

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ):
        if workers < 0 or max_queue_size < 0:
            raise ArgumentError(
                "`workers` and `max_queue_size` must not be negative. "
                + received(workers=workers, max_queue_size=max_queue_size)
            )
        self._workers, self._use_multiprocessing = workers, use_multiprocessing
        self._max_queue_size = max_queue_size

    def _warn_if_super_not_called(self):
        if self._workers is None:
            self._workers = 1
            warnings.warn(
                "Your `PyDataset` class should call `super().__init__(**kwargs)` in its "
                "constructor; `**kwargs` can include `workers`, `use_multiprocessing` and "
                "`max_queue_size`. Do not pass these to `fit()`.",
                stacklevel=3,
            )

    @property
    def workers(self) -> int:
        """Threads or processes that make batches."""
        self._warn_if_super_not_called()
        return self._workers

    @workers.setter
    def workers(self, value: int) -> None:
        self._workers = value

    @property
    def use_multiprocessing(self) -> bool:
        """Whether workers are processes."""
        self._warn_if_super_not_called()
        return self._use_multiprocessing

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        self._use_multiprocessing = value

    @property
    def max_queue_size(self) -> int:
        """Batches made ahead at most."""
        self._warn_if_super_not_called()
        return self._max_queue_size

    @max_queue_size.setter
    def max_queue_size(self, value: int) -> None:
        self._max_queue_size = value

    def __getitem__(self, index: int) -> Any:
        """Returns batch number `index`: `(x,)`, `(x, y)`, `(x, y, sample_weight)` or a dict."""
        raise StateError(f"{type(self).__name__} does not define `__getitem__`.")

    def __iter__(self) -> Iterator[Any]:
        try:
            count = self.num_batches
        except (StateError, NotImplementedError):  # it does not say: endless
            count = None
        for index in itertools.count() if count is None else range(count):
            yield self[index]

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; `None` stands for an endless dataset."""
        dataset: Any = self
        if hasattr(dataset, "__len__"):
            return len(dataset)
        raise StateError(f"{type(self).__name__} must define `__len__` or `num_batches`.")

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self) -> None:
        """Called after each epoch."""


class PyDatasetAdapter(DataAdapter):
    """Batches of a PyDataset.

    Args:
        x: The dataset.
        class_weight: Dict from labels to weights.
        shuffle: Whether batches come in a new order each epoch.

    Raises:
        ArgumentError: If it has no batches.
    """

    def __init__(self, x: PyDataset, class_weight: dict | None = None, shuffle: bool = False):
        self.py_dataset, self._class_weight, self._shuffle = x, class_weight, shuffle
        if x.num_batches == 0:
            raise ArgumentError(f"The PyDataset has length 0. {received(x=type(x).__name__)}")
        self._endless = itertools.count()

    def batches(self) -> Iterator[Any]:
        """Yields the batches of one epoch; an endless dataset goes on where it was."""
        dataset, count = self.py_dataset, self.py_dataset.num_batches
        order: Iterable[int] = self._endless if count is None else range(count)
        if count is not None and self._shuffle:
            order = np.random.permutation(count).tolist()
        if dataset.workers > 1 or (dataset.workers > 0 and dataset.use_multiprocessing):
            found = _made_ahead(dataset, order)
        else:
            found = ((index, dataset[index]) for index in order)
        for index, batch in found:
            name = f"PyDataset.__getitem__({index})"
            yield weigh_classes(batch, self._class_weight, name)

    def first_batch(self) -> Any:
        """Returns batch 0; no order is drawn for it."""
        return weigh_classes(self.py_dataset[0], self._class_weight, "PyDataset.__getitem__(0)")

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; `None` for an endless dataset."""
        return self.py_dataset.num_batches

    @property
    def batch_size(self) -> None:
        """Not known."""

    def on_epoch_begin(self) -> None:
        """Tells the dataset."""
        self.py_dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Tells the dataset."""
        self.py_dataset.on_epoch_end()


def _made_ahead(dataset, order):
    """Yields `(index, batch)` in order, while workers make the next ones."""
    pool = _pool(dataset)
    remote = dataset.use_multiprocessing
    waiting: deque = deque()
    order, ahead = iter(order), max(dataset.max_queue_size, 1)
    try:
        while True:
            for index in itertools.islice(order, ahead - len(waiting)):
                work = (_get_remote, index) if remote else (dataset.__getitem__, index)
                waiting.append((index, pool.submit(*work)))
            if not waiting:
                return
            index, future = waiting.popleft()
            try:
                batch = future.result()
            except Exception as error:
                error.add_note(f"This happened while a worker made PyDataset batch {index}.")
                raise
            yield index, batch
    finally:
        pool.shutdown(wait=not remote, cancel_futures=True)


def _pool(dataset) -> Executor:
    if not dataset.use_multiprocessing:
        return ThreadPoolExecutor(dataset.workers, thread_name_prefix="gpunet-data")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(dataset.workers, context, _start_process, (dataset,))


_in_process: list[PyDataset] = []  # in a worker process: the dataset it serves


def _start_process(dataset):
    _in_process[:] = [dataset]


def _get_remote(index):
    return _in_process[0][index]
