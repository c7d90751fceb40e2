"""Tensor: making one, reading it, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.errors import DeviceError, DTypeError, ShapeError


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"),
        (3, "int32"),
        (2**40, "int64"),
        (True, "bool"),
        ([1, 2], "int32"),
        ([[1.0], [2.0]], "float32"),
        (np.float64(1), "float64"),
        ([np.float64(1)], "float64"),
        (np.arange(3), "int64"),
        (np.ones(2, "float16"), "float16"),
        (range(3), "int32"),
    ],
)
def test_dtypes_of_new_tensors(value, dtype):
    assert gpunet.tensor(value).dtype == dtype


def test_a_tensor_does_not_share_memory_with_the_array_it_came_from():
    array = np.ones(3)
    x = gpunet.tensor(array)
    array[0] = 5
    assert x.tolist() == [1, 1, 1]


def test_numpy_is_read_only():
    view = gpunet.tensor([1.0, 2.0]).numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 3


def test_lists_of_tensors_are_stacked():
    x = gpunet.tensor(2.0)
    assert gpunet.tensor([x, x * 2]).tolist() == [2, 4]


@pytest.mark.parametrize("value", ["text", ["a", "b"], [[1, 2], [3]], object(), np.array(["a"])])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(DTypeError):
        gpunet.tensor(value)


def test_operators_agree_with_numpy():
    a, b = np.array([5.0, -3.0, 2.0]), np.array([2.0, 4.0, -3.0])
    x, y = gpunet.tensor(a), gpunet.tensor(b)
    pairs = [
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (x // y, a // b),
        (x % y, a % b),
        (abs(x) ** y, abs(a) ** b),
        (-x, -a),
        (2 - x, 2 - a),
        (2 / x, 2 / a),
        (x < y, a < b),
        (x >= y, a >= b),
        (x == y, a == b),
        (x != y, a != b),
        (a + x, a + a),
        (a * x, a * a),
    ]
    for ours, numpys in pairs:
        assert isinstance(ours, gpunet.Tensor)
        np.testing.assert_array_equal(ours, numpys)
    m, n = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    np.testing.assert_array_equal(gpunet.tensor(m) @ gpunet.tensor(n), m @ n)
    i, j = np.array([6, 3]), np.array([3, 5])
    np.testing.assert_array_equal(gpunet.tensor(i) & gpunet.tensor(j), i & j)
    np.testing.assert_array_equal(~gpunet.tensor(i), ~i)
    np.testing.assert_array_equal(gpunet.tensor(i) << 1, i << 1)


def test_methods():
    x = gpunet.tensor([[3.0, 1.0], [2.0, 4.0]])
    assert x.sum().item() == 10
    assert x.mean(axis=0).tolist() == [2.5, 2.5]
    assert x.max(axis=1).tolist() == [3, 4]
    assert x.reshape(4).tolist() == x.reshape((4,)).tolist() == x.flatten().tolist()
    assert x.T.tolist() == x.transpose(1, 0).tolist() == x.transpose((1, 0)).tolist()
    assert x.astype("int32").dtype == "int32"
    assert x.argmax(axis=1).tolist() == [0, 1]
    assert (x.shape, x.ndim, x.size, x.nbytes, len(x)) == ((2, 2), 2, 4, 16, 2)


def test_conversion_to_python_numbers():
    x = gpunet.tensor(2.5)
    assert (float(x), int(x), bool(x), x.item(), f"{x:.2f}") == (2.5, 2, True, 2.5, "2.50")
    assert [10, 20, 30][gpunet.tensor(1)] == 20
    with pytest.raises(ShapeError, match="one element"):
        gpunet.tensor([1.0, 2.0]).item()
    with pytest.raises(DTypeError, match="integer"):
        [1, 2][gpunet.tensor(1.0)]
    with pytest.raises(ShapeError):
        len(gpunet.tensor(1.0))


def test_iteration_and_indexing():
    x = gpunet.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert x[1, 0].item() == 3
    with pytest.raises(DTypeError, match="slice_update"):
        x[0] = 1


def test_numpy_functions_take_tensors():
    np.testing.assert_array_equal(np.exp(gpunet.tensor([0.0])), [1.0])
    np.testing.assert_array_equal(np.asarray(gpunet.tensor([1.0]), dtype="int32"), [1])


def test_dlpack_both_ways():
    x = gpunet.tensor([1.0, 2.0])
    np.testing.assert_array_equal(np.from_dlpack(x), [1, 2])
    assert gpunet.tensor(memoryview(np.arange(3))).tolist() == [0, 1, 2]


def test_only_cuda_tensors_have_the_cuda_array_interface():
    assert not hasattr(gpunet.tensor(1.0), "__cuda_array_interface__")


def test_bfloat16():
    x = gpunet.tensor([1.0, 2.5], dtype="bfloat16")
    assert (x + 1).dtype == "bfloat16"
    assert (x * gpunet.tensor([1.0, 1.0])).dtype == "float32"
    assert ops.exp(x).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        ("int32", "float32", "float32"),
        ("int64", "float16", "float16"),
        ("float16", "bfloat16", "float32"),
        ("uint8", "int8", "int16"),
        ("bool", "int8", "int8"),
        ("uint32", "int32", "int64"),
    ],
)
def test_promotion(first, second, result):
    x, y = gpunet.tensor([1], dtype=first), gpunet.tensor([1], dtype=second)
    assert (x + y).dtype == (y + x).dtype == result


def test_python_scalars_are_weak():
    assert (gpunet.tensor([1], dtype="int8") + 1).dtype == "int8"
    assert (gpunet.tensor([1], dtype="int8") + 1.0).dtype == "float32"
    assert (gpunet.tensor([1.0], dtype="float16") + 1.0).dtype == "float16"
    assert (1 + gpunet.tensor([True])).dtype == "int32"


def test_devices():
    x = gpunet.tensor([1.0])
    assert str(x.device) == "cpu"
    assert x.to("cpu:0") is x
    y = x.to("emulator")
    assert str(y.device) == "emulator"
    with pytest.raises(DeviceError, match=r"cpu.*emulator|emulator.*cpu"):
        x + y
    with gpunet.device("emulator"):
        assert str(gpunet.tensor(1.0).device) == "emulator"
    with pytest.raises(DeviceError, match="tpu"):
        x.to("tpu")


def test_gradients_flow_through_moves():
    gradient = gpunet.grad(lambda x: (x.to("emulator") * 2).to("cpu").sum())([1.0, 2.0])
    assert gradient.tolist() == [2, 2]
    assert str(gradient.device) == "cpu"


def test_copies():
    x = gpunet.tensor([1.0, 2.0], dtype="bfloat16")
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        np.testing.assert_array_equal(other, x)
        assert other.dtype == "bfloat16"


def test_shape_errors_name_the_op_and_the_shapes():
    with pytest.raises(ShapeError, match=r"add: .*Received: \(3,\) float32, \(4,\) float32"):
        gpunet.tensor([1.0] * 3) + gpunet.tensor([1.0] * 4)
