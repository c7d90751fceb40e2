"""Arrays in memory as batches: kinds of arrays, nests, order, partial batches, weights, errors."""

import numpy as np
import pytest

import gpunet
from gpunet.backend.device import Device
from gpunet.data import (
    ArrayDataAdapter,
    class_weight_to_sample_weights,
    pack_x_y_sample_weight,
    train_validation_split,
    unpack_x_y_sample_weight,
)
from gpunet.errors import ArgumentError, DTypeError, ShapeError
from tests.data.torch_like import TorchTensor

CPU = Device("cpu")


class Frame:
    """What pandas and polars have in common."""

    def __init__(self, values):
        self._values = np.asarray(values)
        self.shape = self._values.shape

    def __getitem__(self, index):
        return self._values[index]

    def to_numpy(self):
        return self._values


KINDS = {
    "numpy": np.asarray,
    "tensor": gpunet.tensor,
    "torch": TorchTensor,
    "frame": Frame,
    "list": lambda values: np.asarray(values).tolist(),
    "variable": lambda values: gpunet.Variable(values, trainable=False),
}


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_same_batches(kind, shuffle):
    x = np.arange(34 * 3, dtype="float32").reshape(34, 3)
    y = np.arange(34, dtype="int32")[:, None]
    adapter = ArrayDataAdapter(KINDS[kind](x), KINDS[kind](y), batch_size=16, shuffle=shuffle)
    assert (adapter.num_batches, adapter.batch_size, adapter.partial_batch_size) == (3, 16, 2)
    batches = list(adapter.get_tensor_iterator(CPU))
    assert [len(bx) for bx, _ in batches] == [16, 16, 2]
    assert all(isinstance(t, gpunet.Tensor) for batch in batches for t in batch)
    assert batches[0][0].dtype == "float32" and batches[0][1].dtype.kind == "i"
    order = np.concatenate([by.numpy().ravel() for _, by in batches])
    np.testing.assert_array_equal(np.concatenate([bx.numpy() for bx, _ in batches]), x[order])
    assert sorted(order) == list(range(34))
    assert (order.tolist() == list(range(34))) is (shuffle is False)
    if shuffle == "batch":
        assert sorted(order[:16]) == list(range(16))


def test_each_epoch_has_a_new_order_that_the_seed_repeats():
    x = np.arange(20.0)[:, None]

    def epochs():
        np.random.seed(3)
        adapter = ArrayDataAdapter(x, batch_size=20, shuffle=True)
        return [next(iter(adapter.get_numpy_iterator())).ravel().tolist() for _ in range(2)]

    first, again = epochs(), epochs()
    assert first == again and first[0] != first[1]


def test_floats_become_floatx_and_integers_stay():
    for dtype, wanted in {"float64": "float32", "float16": "float32", "uint8": "uint8"}.items():
        batch = next(iter(ArrayDataAdapter(np.ones((2, 2), dtype)).get_tensor_iterator(CPU)))
        assert batch.dtype == wanted


def test_unshuffled_batches_are_views():
    x = np.ones((8, 2), "float32")
    batch = next(iter(ArrayDataAdapter(x, batch_size=4).get_tensor_iterator(CPU)))
    assert np.shares_memory(batch.data, x)


def test_nests_keep_their_structure():
    rng = np.random.default_rng(0)
    x = {"b": rng.normal(size=(10, 2)), "a": (rng.normal(size=(10, 1)), rng.normal(size=(10, 3)))}
    y, weight = [np.arange(10), np.arange(10) * 2], np.ones(10)
    adapter = ArrayDataAdapter(x, y, weight, batch_size=4, shuffle=True)
    for bx, by, bw in adapter.get_numpy_iterator():
        assert set(bx) == {"a", "b"} and type(bx["a"]) is tuple and type(by) is list
        rows = by[0]
        np.testing.assert_array_equal(by[1], 2 * rows)
        np.testing.assert_array_equal(bx["b"], x["b"][rows].astype("float32"))
        np.testing.assert_array_equal(bx["a"][1], x["a"][1][rows].astype("float32"))
        assert len(bw) == 2 and bw[0].shape == (len(rows),)


def test_steps_choose_the_batch_size():
    assert ArrayDataAdapter(np.ones((10, 1)), steps=3).batch_size == 4
    assert ArrayDataAdapter(np.ones((100, 1))).batch_size == 32


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0, 1, 2, 1], [1, 5, 0.5, 5]),
        ([[0], [1], [2], [1]], [1, 5, 0.5, 5]),
        (np.eye(3)[[0, 1, 2, 1]], [1, 5, 0.5, 5]),
        ([0.0, 1.0, 2.0, 1.0], [1, 5, 0.5, 5]),
        ([-7, 9, 9, 9], [1, 1, 1, 1]),
    ],
)
def test_class_weights(labels, wanted):
    weights = class_weight_to_sample_weights(labels, {1: 5.0, 2: 0.5})
    assert weights.dtype == "float32"
    np.testing.assert_array_equal(weights, wanted)


def test_validation_split_takes_the_end_before_shuffling():
    arrays = (np.arange(10)[:, None], {"a": np.arange(10)}, None)
    train, validation = train_validation_split(arrays, 0.25)
    assert train[0].ravel().tolist() == list(range(7))
    assert validation[1]["a"].tolist() == [7, 8, 9] and validation[2] is None


def test_packing_and_unpacking():
    for batch in ((1,), (1, 2), (1, 2, 3)):
        x, y, weight = unpack_x_y_sample_weight(batch)
        packed = pack_x_y_sample_weight(x, y, weight)
        assert packed == (batch if len(batch) > 1 else 1)
    assert unpack_x_y_sample_weight([1, 2]) == (1, 2, None)
    assert pack_x_y_sample_weight([1]) == ([1],)
    with pytest.raises(ArgumentError, match="length=4"):
        unpack_x_y_sample_weight((1, 2, 3, 4))


ONES, PAIR = np.ones((4, 2)), [np.ones((4, 1)), np.ones((4, 1))]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.ones((0, 2))}, ArgumentError, "no samples"),
        ({"x": ONES, "y": np.ones(3)}, ArgumentError, "cardinality.*'x' sizes: 4, 'y' sizes: 3"),
        ({"x": ONES, "y": ONES, "sample_weight": np.ones(5)}, ArgumentError, "'sample_weight'"),
        ({"x": ONES, "batch_size": 0}, ArgumentError, "at least 1.*batch_size=0"),
        ({"x": ONES, "batch_size": -3}, ArgumentError, "batch_size=-3"),
        ({"x": ONES, "batch_size": 2.5}, ArgumentError, "integer.*batch_size=2.5"),
        ({"x": ONES, "shuffle": "epoch"}, ArgumentError, "shuffle"),
        ({"x": None}, ArgumentError, "array-like"),
        ({"x": np.array(["a", "b"])}, DTypeError, "`x`.*no strings"),
        ({"x": {"a": np.array([object()])}}, DTypeError, r"`x\['a'\]`"),
        ({"x": np.float32(3)}, ShapeError, "axis of samples"),
        ({"x": ONES, "y": PAIR, "class_weight": {0: 1.0}}, ArgumentError, "single output"),
        ({"x": ONES, "class_weight": {0: 1.0}}, ArgumentError, "single output"),
        (
            {"x": ONES, "y": np.ones(4), "class_weight": {}, "sample_weight": np.ones(4)},
            ArgumentError,
            "same time",
        ),
        ({"x": ONES, "y": np.ones(4), "class_weight": [1.0]}, ArgumentError, "dict.*class_weight"),
        ({"x": ONES, "y": PAIR, "sample_weight": np.ones((4, 3))}, ShapeError, "scalar score"),
        ({"x": ONES, "y": PAIR, "sample_weight": PAIR[:1]}, ArgumentError, "did not match"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, dict) else "-".join(value),
)
def test_bad_arrays(arguments, error, message):
    with pytest.raises(error, match=message):
        ArrayDataAdapter(**arguments)


@pytest.mark.parametrize("split", [-0.1, 1, 1.5, "half", 0.9])
def test_bad_splits(split):
    with pytest.raises(ArgumentError, match="validation_split"):
        train_validation_split((np.ones((4, 1)), None, None), split)


def test_splits_need_arrays():
    with pytest.raises(ArgumentError, match="only supported for"):
        train_validation_split((iter([]), None, None), 0.5)


@pytest.mark.cuda
def test_arrays_on_a_gpu_stay_there():
    import cupy

    device = Device("cuda:0")
    x, y = cupy.arange(20.0)[:, None], np.arange(20)
    for bx, by in ArrayDataAdapter(x, y, batch_size=8, shuffle=True).get_tensor_iterator(device):
        assert bx.device is device and by.device is device and bx.dtype == "float32"
        np.testing.assert_array_equal(bx.numpy().ravel(), by.numpy())
