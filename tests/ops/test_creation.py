"""New tensors, sequences, windows and conversions."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, DTypeError, ShapeError, TraceError
from gpunet.testing import check_gradients
from tests.ops.peer import assert_same_as_keras

CALLS = [
    ("zeros", [(2, 3)], {}),
    ("zeros", [3], {"dtype": "int8"}),
    ("ones", [(2, 0)], {"dtype": "bfloat16"}),
    ("full", [(2,), 2], {}),
    ("full", [(2,), 2.7], {"dtype": "int32"}),
    ("full", [(2, 2), np.array([1.0, 2.0], "float32")], {}),
    ("zeros_like", [np.ones((2, 3), "float16")], {}),
    ("ones_like", [np.ones((2, 3), "int32")], {"dtype": "bool"}),
    ("full_like", [np.ones(2, "int32"), 2.7], {}),
    ("full_like", [np.ones((2, 2), "int32"), np.array([1, 2], "int32")], {"dtype": "float32"}),
    ("arange", [5], {}),
    ("arange", [5.0], {}),
    ("arange", [2, 9, 3], {}),
    ("arange", [0, 1, 0.25], {}),
    ("arange", [3], {"dtype": "float16"}),
    ("arange", [5, 0, -2], {}),
    ("eye", [3], {}),
    ("eye", [2, 4, 1], {"dtype": "int32"}),
    ("identity", [2], {}),
    ("tri", [3], {}),
    ("tri", [2, 4, -1], {"dtype": "int32"}),
    ("linspace", [0, 10, 5], {}),
    ("linspace", [0, 10, 4], {"endpoint": False}),
    ("linspace", [0, 10, 5], {"dtype": "int32"}),
    ("linspace", [np.array([0.0, 1.0], "float32"), 5.0, 3], {"axis": -1}),
    ("linspace", [np.array([0.0, 1.0], "float32"), 5.0, 3], {"retstep": True}),
    ("linspace", [1.0, 1.0, 1], {}),
    ("logspace", [0, 3, 4], {}),
    ("logspace", [np.array([0.0, 1.0], "float32"), 2.0, 3], {"base": 2}),
    ("geomspace", [1, 16, 5], {}),
    ("geomspace", [np.array([1.0, 2.0], "float32"), 32.0, 3], {}),
    ("unravel_index", [np.array([0, 5, 11], "int32"), (3, 4)], {}),
    *[(name, [7], {}) for name in ("bartlett", "blackman", "hamming", "hanning")],
    ("kaiser", [7, 3.0], {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS)
def test_results_are_those_of_keras(name, args, kwargs):
    assert_same_as_keras(name, *args, factor=2, **kwargs)


def test_gradients_of_sequences_between_tensors(rng):
    ends = [rng.uniform(1, 2, 3), rng.uniform(3, 4, 3)]
    for op in (ops.linspace, ops.logspace, ops.geomspace):
        check_gradients(lambda a, b, op=op: op(a, b, 4), ends, tol=1e-5)


def test_both_ends_are_hit_exactly():
    y = ops.linspace(np.array([0.1], "float32"), np.array([0.7], "float32"), 1000)
    assert (y[0].item(), y[-1].item()) == (np.float32(0.1), np.float32(0.7))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, "int32"),
        (2**40, "int64"),
        (1.5, "float32"),
        (True, "bool"),
        ([1, 2.0], "float32"),
        (np.float64(1), "float64"),
        (np.array([1], "int8"), "int8"),
    ],
)
def test_natural_dtypes(value, dtype):
    assert ops.convert_to_tensor(value).dtype.name == ops.dtype(value) == dtype


def test_conversions():
    assert ops.convert_to_tensor([1.7], "int32").tolist() == [1]
    assert ops.array(gpunet.tensor([1]), "float16").dtype == "float16"
    x = ops.convert_to_numpy(gpunet.tensor([1.0]))
    x[0] = 5  # the copy may be changed
    assert x.tolist() == [5.0]
    assert ops.convert_to_numpy(gpunet.Variable([2.0])).tolist() == [2.0]
    variable = gpunet.Variable(np.ones((2, 3)))
    assert ops.convert_to_tensor(variable).shape == ops.shape(variable) == (2, 3)


def test_questions_about_tensors():
    x = gpunet.KerasTensor((None, 3), "float16")
    assert (ops.shape(x), ops.ndim(x), ops.size(x)) == ((None, 3), 2, None)
    assert ops.dtype(x) == "float16"
    assert ops.size([[1, 2], [3, 4]]) == 4
    assert ops.is_tensor(ops.ones(1)) and not ops.is_tensor(np.ones(1)) and not ops.is_tensor(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.zeros((2, -1)), ShapeError, "negative"),
        (lambda: ops.zeros((2.5,)), ShapeError, "integers"),
        (lambda: ops.ones(2, "float7"), DTypeError, "float7"),
        (lambda: ops.arange(1, 5, 0), ArgumentError, "step=0"),
        (lambda: ops.linspace(0, 1, -1), ArgumentError, "num=-1"),
        (lambda: ops.linspace(ops.ones(2), 1, -1), ArgumentError, "num=-1"),
        (lambda: ops.full((2,), [1.0, 2.0, 3.0]), ShapeError, "broadcast"),
        (lambda: ops.convert_to_tensor("text"), DTypeError, "strings"),
        (lambda: ops.convert_to_tensor(1, sparse=True), ArgumentError, "sparse=True"),
    ],
)
def test_errors_name_what_was_received(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_is_like_a_traced_tensor_has_its_shape():
    graph = trace(lambda x: ops.zeros_like(x) + ops.ones_like(x, "float32"), ops.zeros((2, 3)))
    assert graph.outputs[0].shape == (2, 3)
    with pytest.raises(TraceError):
        trace(lambda x: ops.arange(x), gpunet.tensor(3))


def test_functional_models_know_what_is_like_their_tensors():
    x = gpunet.KerasTensor((None, 3))
    assert ops.zeros_like(x).shape == ops.full_like(x, 2).shape == (None, 3)
    assert ops.ones_like(x, "int32").dtype == "int32"
