"""Generators, DataLoaders, PyDatasets and other data that come batch by batch; their epochs."""

import threading
import time

import numpy as np
import pytest

import gpunet
from gpunet.backend.device import Device
from gpunet.data import (
    EpochIterator,
    GeneratorDataAdapter,
    IterableDataAdapter,
    PyDataset,
    PyDatasetAdapter,
    TensorEpochIterator,
    get_data_adapter,
)
from gpunet.errors import ArgumentError
from tests.data.torch_like import DataLoader

CPU = Device("cpu")


def generator(count, start=0):
    for i in range(start, start + count):
        yield np.full((2, 1), float(i)), np.full(2, i)


def firsts(epoch):
    """The first number of every batch of an epoch."""
    return [int(np.asarray(batch[0]).ravel()[0]) for _, _, batches in epoch for batch in batches]


def test_a_generator_is_read_on_across_epochs():
    epochs = EpochIterator(generator(7), steps_per_epoch=3)
    assert firsts(epochs) == [0, 1, 2] and firsts(epochs) == [3, 4, 5]
    with pytest.warns(UserWarning, match="ran out of data.*1 of 3"):
        assert firsts(epochs) == [6]


def test_a_generator_without_steps_is_one_epoch():
    epochs = EpochIterator(generator(4))
    assert epochs.num_batches is None
    assert firsts(epochs) == [0, 1, 2, 3] and epochs.num_batches == 4
    with pytest.warns(UserWarning, match="got 0 of 4"):
        assert firsts(epochs) == []


def test_peeking_loses_no_batch():
    epochs = EpochIterator(generator(3))
    assert epochs.peek()[1].tolist() == [0, 0] and epochs.peek()[1].tolist() == [0, 0]
    epochs.reset()
    assert firsts(epochs) == [0, 1, 2]


def test_peeking_at_arrays_does_not_change_the_epochs():
    x = np.arange(6.0)[:, None]
    epochs = EpochIterator((x), np.arange(6), batch_size=2)
    epochs.peek()
    for _ in range(2):
        assert firsts(epochs) == [0, 2, 4]


def test_arrays_go_round_when_steps_divide_them():
    epochs = EpochIterator(np.arange(4.0)[:, None], np.arange(4), batch_size=1, steps_per_epoch=2)
    assert [firsts(epochs) for _ in range(3)] == [[0, 1], [2, 3], [0, 1]]


def test_arrays_with_too_many_steps_end_early_and_start_again():
    epochs = EpochIterator(np.arange(4.0)[:, None], np.arange(4), batch_size=2, steps_per_epoch=3)
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 of 3"):
            assert firsts(epochs) == [0, 2]


def test_several_batches_a_step():
    epochs = EpochIterator(np.arange(5)[:, None], np.arange(5), batch_size=1, steps_per_execution=2)
    steps = [(first, last, len(batches)) for first, last, batches in epochs.enumerate_epoch()]
    assert steps == [(0, 1, 2), (2, 3, 2), (4, 5, 1)]


def test_floats_become_floatx_tensors():
    epochs = TensorEpochIterator(generator(1), device=CPU)
    for _, _, [(x, y)] in epochs:
        assert isinstance(x, gpunet.Tensor) and x.dtype == "float32" and y.dtype == "int64"


def test_any_iterable_that_starts_again():
    class Batches:
        def __iter__(self):
            return generator(3)

    epochs = EpochIterator(Batches())
    assert isinstance(epochs.data_adapter, IterableDataAdapter)
    assert firsts(epochs) == [0, 1, 2] and firsts(epochs) == [0, 1, 2]


def test_torch_data_loader():
    loader = DataLoader(np.arange(6.0)[:, None], np.arange(6), batch_size=4)
    epochs = TensorEpochIterator(loader, device=CPU)
    assert epochs.num_batches == 2 and epochs.data_adapter.batch_size == 4
    assert firsts(epochs) == [0, 4]
    with pytest.raises(ArgumentError, match="torch DataLoader, `y` should not"):
        get_data_adapter(loader, y=np.ones(3))


class Numbers(PyDataset):
    """Twenty batches; remembers epochs, and how many batches were being made at once."""

    def __init__(self, count=20, fail_at=None, **kwargs):
        super().__init__(**kwargs)
        self.count, self.fail_at = count, fail_at
        self.events = []
        self.running = self.at_once = 0

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, index):
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        time.sleep(0.002 * (index % 3))  # later batches are often ready earlier
        self.running -= 1
        if index == self.fail_at:
            raise RuntimeError("no such image")
        return np.full((2, 1), float(index)), np.full(2, index)

    def on_epoch_begin(self):
        self.events.append("begin")

    def on_epoch_end(self):
        self.events.append("end")


class Pairs(Numbers):
    """Makes batches two by two: the first of a pair waits until the second is being made."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pair = threading.Barrier(2)

    def __getitem__(self, index):
        self.pair.wait(timeout=60)
        return super().__getitem__(index)


@pytest.mark.parametrize("options", [{}, {"workers": 4}, {"workers": 2, "max_queue_size": 1}])
def test_py_dataset_keeps_its_order(options):
    data = Numbers(**options)
    epochs = EpochIterator(data)
    for _ in range(2):
        assert firsts(epochs) == list(range(20))
    assert data.events == ["begin", "end"] * 2
    if data.workers == 1 or data.max_queue_size == 1:
        assert data.at_once == 1


def test_workers_make_batches_at_the_same_time():
    assert firsts(EpochIterator(Pairs(workers=2))) == list(range(20))


def test_py_dataset_in_processes():
    data = Numbers(count=5, workers=2, use_multiprocessing=True)
    assert firsts(EpochIterator(data)) == list(range(5))


def test_endless_py_dataset_goes_on():
    epochs = EpochIterator(Numbers(count=None, workers=3), steps_per_epoch=3)
    assert firsts(epochs) == [0, 1, 2] and firsts(epochs) == [3, 4, 5]


def test_shuffled_py_dataset_gives_each_batch_once():
    epochs = EpochIterator(Numbers(workers=2), shuffle=True)
    first, second = firsts(epochs), firsts(epochs)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_of_workers_come_out(workers):
    epochs = EpochIterator(Numbers(fail_at=4, workers=workers))
    with pytest.raises(RuntimeError, match="no such image") as found:
        firsts(epochs)
    if workers > 1:
        assert "batch 4" in found.value.__notes__[0]


def test_class_weights_reach_batches():
    adapter = get_data_adapter(Numbers(count=2), class_weight={1: 4.0})
    assert [weight.tolist() for _, _, weight in adapter.batches()] == [[1, 1], [4, 4]]


def test_iterating_over_a_py_dataset():
    assert [y[0] for _, y in Numbers(count=3)] == [0, 1, 2]


def test_super_not_called():
    class Bad(PyDataset):
        def __init__(self):
            pass

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return (np.ones((1, 1)),)

    with pytest.warns(UserWarning, match="super"):
        assert firsts(EpochIterator(Bad())) == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_data_adapter("text"), "Unrecognized data type"),
        (lambda: get_data_adapter(3), "Unrecognized data type"),
        (lambda: get_data_adapter(iter([])), "empty generator"),
        (lambda: get_data_adapter(iter([np.ones(3)])), "must return a tuple"),
        (lambda: get_data_adapter(iter([(1, 2, 3, 4)])), "length=4"),
        (lambda: get_data_adapter(generator(2), y=np.ones(2)), "generator, `y` should not"),
        (lambda: get_data_adapter(generator(2), sample_weight=np.ones(2)), "sample_weights"),
        (lambda: get_data_adapter(generator(2), class_weight={0: 1}), "class_weight"),
        (lambda: get_data_adapter(Numbers(count=0)), "length 0"),
        (lambda: PyDataset(workers=-1), "workers=-1"),
        (lambda: EpochIterator(generator(2), steps_per_epoch=0), "steps_per_epoch"),
        (lambda: EpochIterator(generator(2), steps_per_execution=-1), "steps_per_execution"),
    ],
)
def test_bad_data(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_bad_batch_is_named():
    class Bad(Numbers):
        def __getitem__(self, index):
            return "text" if index == 2 else super().__getitem__(index)

    with pytest.raises(ArgumentError, match=r"__getitem__\(2\).*str"):
        firsts(EpochIterator(Bad()))


def test_an_infinite_py_dataset_is_not_shuffled():
    with pytest.warns(UserWarning, match="shuffle=True"):
        get_data_adapter(Numbers(count=None), shuffle=True)


def test_adapters_pass_through():
    adapter = GeneratorDataAdapter(generator(1))
    assert get_data_adapter(adapter) is adapter
    assert isinstance(get_data_adapter(Numbers()), PyDatasetAdapter)
