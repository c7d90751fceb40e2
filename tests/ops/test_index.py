"""Indexing against NumPy, scatters and segments against Keras, gradients, errors."""

import types

import keras
import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, DTypeError, ShapeError, TraceError
from gpunet.ops.accumulate import add_at, in_rounds
from gpunet.testing import assert_close, check_gradients
from tests.ops.peer import assert_same_as_keras

FIRST, THIRD = np.array([0, 1, -1]), np.array([[2], [0]])
KEYS = [
    np.s_[1],
    np.s_[-1, 0],
    np.s_[..., 1],
    np.s_[1:, ::-1],
    np.s_[:, None, 0],
    np.s_[..., None],
    np.s_[0, ..., -2:],
    np.s_[:0],
    np.s_[FIRST],
    np.s_[:, FIRST],
    np.s_[..., FIRST],
    np.s_[FIRST, THIRD],
    np.s_[FIRST, :, THIRD],
    np.s_[0, :, FIRST],
    np.s_[:, 0, FIRST],
    np.s_[None, :, FIRST, THIRD],
    np.s_[FIRST, None, THIRD, 1:],
    np.s_[1:, None, FIRST, ::2],
    np.s_[FIRST, ..., 0],
    np.s_[np.array(1), 2],
]


def _tensors(key):
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(gpunet.tensor(k) if isinstance(k, np.ndarray) else k for k in parts)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indexing_is_that_of_numpy(rng, key):
    x = rng.standard_normal((2, 3, 4))
    expected = x[key]
    for found in (gpunet.tensor(x)[key], gpunet.tensor(x)[_tensors(key)]):
        np.testing.assert_array_equal(found, expected)
    graph = trace(lambda t: t[_tensors(key)], gpunet.tensor(x))
    assert graph.outputs[0].shape == expected.shape
    check_gradients(lambda t: t[_tensors(key)], [x])


def test_an_empty_list_chooses_nothing():
    assert gpunet.tensor(np.ones((2, 3)))[[], 1].shape == (0,)


def test_masks(rng):
    x = rng.standard_normal((3, 4))
    t = gpunet.tensor(x)
    np.testing.assert_array_equal(t[t > 0], x[x > 0])
    np.testing.assert_array_equal(t[[True, False, True]], x[[True, False, True]])
    np.testing.assert_array_equal(t[:, x[0] > 0], x[:, x[0] > 0])
    check_gradients(lambda a: a[gpunet.tensor(x > 0)], [x])


def test_an_index_may_be_traced():
    graph = trace(lambda x, i: (x[i], x[:, i]), ops.ones((3, 3)), gpunet.tensor(1))
    assert [y.shape for y in graph.outputs] == [(3,), (3,)]
    x = gpunet.tensor(np.arange(9.0).reshape(3, 3))
    graph = trace(lambda x, i: x[i], x, gpunet.tensor(1))
    assert graph(x, gpunet.tensor(2))[0].tolist() == [6.0, 7.0, 8.0]


def test_iteration_and_length():
    x = gpunet.tensor([[1, 2], [3, 4]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]] and len(x) == 2


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (5, ShapeError, "out of range for axis 0"),
        ((0, 0, 0), ShapeError, "Too many indices"),
        ((..., ...), ShapeError, "Too many"),
        (1.5, DTypeError, "integers, slices or masks"),
        ([0, 7], ShapeError, "out of bounds"),
        (np.array([True, False, True]), ShapeError, r"mask=\(3,\)"),
    ],
)
def test_keys_that_do_not_fit(key, error, message):
    with pytest.raises(error, match=message):
        gpunet.tensor([[1, 2], [3, 4]])[key]


def test_masks_cannot_be_traced():
    for f in (lambda x: x[x > 0], ops.nonzero, lambda x: ops.where(x > 0)):
        with pytest.raises(TraceError, match="depends on values"):
            trace(f, ops.ones(3))


def test_tensors_do_not_change():
    with pytest.raises(DTypeError, match="slice_update"):
        gpunet.tensor([1, 2])[0] = 5


# -- take ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_take(rng, axis, shape):
    x = rng.standard_normal((4, 5)).astype("float32")
    indices = rng.integers(-4, 4, shape).astype("int32")
    assert_same_as_keras("take", x, indices, axis=axis)
    check_gradients(lambda t: ops.take(t, indices, axis), [x])


@pytest.mark.parametrize("rows", [1, 40, 3000])
@pytest.mark.parametrize("vocabulary", [1, 7, 500])
def test_gradients_of_embeddings_add_up(rng, rows, vocabulary):
    indices = rng.integers(0, vocabulary, rows)
    g = rng.standard_normal((rows, 5)).astype("float32")
    table = ops.zeros((vocabulary, 5))
    found = gpunet.grad(lambda t: (ops.take(t, indices, axis=0) * g).sum())(table)
    expected = np.zeros((vocabulary, 5))
    np.add.at(expected, indices, g.astype("float64"))
    assert_close(found, expected, "float32", factor=4)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_take_along_axis(rng, axis):
    x = rng.standard_normal((4, 5)).astype("float32")
    shape = {None: (6,), 0: (3, 5), 1: (4, 2)}[axis]
    indices = rng.integers(0, 4, shape).astype("int32")
    assert_same_as_keras("take_along_axis", x, indices, axis=axis)
    check_gradients(lambda t: ops.take_along_axis(t, indices, axis), [x])


def test_take_along_axis_broadcasts(rng):
    x = rng.standard_normal((4, 5))
    expected = x[:, [1, 3]]
    np.testing.assert_array_equal(ops.take_along_axis(x, [[1, 3]], axis=1), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.take(x, [0.5]), DTypeError, "must be integers"),
        (lambda x: ops.take(x, [9], axis=0), ShapeError, "out of bounds"),
        (lambda x: ops.take(x, [0], axis=2), ArgumentError, "axis=2"),
        (lambda x: ops.take_along_axis(x, [0], axis=0), ShapeError, "rank"),
        (lambda x: ops.take_along_axis(x, [[0, 1]], axis=0), ShapeError, "along all axes but 0"),
        (lambda x: ops.take_along_axis(x, [[9, 0, 0]], axis=0), ShapeError, "out of bounds"),
    ],
)
def test_indices_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call(ops.ones((2, 3)))


# -- scatters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [None, "add", "max", "min", "mul"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bfloat16"])
def test_scatter_update(rng, reduction, dtype):
    dtype = gpunet.tensor(0, dtype).dtype
    x = rng.integers(0, 9, (4, 5)).astype(dtype)
    places = np.array([[0, 1], [3, 4], [2, 2]], "int32")
    updates = rng.integers(0, 9, 3).astype(dtype)
    assert_same_as_keras("scatter_update", x, places, updates, reduction=reduction)
    rows = rng.integers(0, 9, (2, 5)).astype(dtype)
    places = np.array([[3], [1]], "int32")
    assert_same_as_keras("scatter_update", x, places, rows, reduction=reduction)


@pytest.mark.parametrize("shape", [(6,), (4, 5)])
def test_scatter(rng, shape):
    values = rng.standard_normal((3, *shape[1:])).astype("float32")
    assert_same_as_keras("scatter", np.array([[0], [2], [0]], "int32"), values, shape)
    check_gradients(lambda v: ops.scatter([[0], [2], [0]], v, shape), [values])
    if len(shape) > 1:
        places = np.array([[0, 1], [3, 4], [0, 1]], "int32")
        assert_same_as_keras("scatter", places, values[:, 0], shape)


@pytest.mark.parametrize("name", ["maximum", "minimum", "multiply", "add"])
@pytest.mark.parametrize("depth", [1, 2])
def test_combining_in_rounds_is_that_of_numpy(rng, name, depth):
    """What array libraries use that have no `ufunc.at` of this kind."""
    y, values = rng.standard_normal((4, 3, 2)), rng.standard_normal((9, *(3, 2)[depth - 1 :]))
    places = tuple(rng.integers(-n, n, 9) for n in (4, 3)[:depth])
    expected = y.copy()
    getattr(np, name).at(expected, places, values)
    np.testing.assert_allclose(in_rounds(np, name, y, places, values), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "int32", "float32"])
def test_adding_where_atomics_are_few_is_that_of_numpy(rng, dtype):
    """A module that is not NumPy itself takes the way of CuPy."""
    other = types.SimpleNamespace(add=np.add)
    values, places = rng.integers(-9, 9, 20).astype(dtype), (rng.integers(0, 4, 20),)
    expected = np.zeros(4, dtype)
    np.add.at(expected, places, values)
    found = add_at(other, np.zeros(4, dtype), places, values)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype


def test_slices(rng):
    x = rng.standard_normal((4, 5)).astype("float32")
    assert ops.slice(x, (1, 2), (2, -1)).shape == (2, 3)
    for start in ((1, 2), np.array([1, 2], "int32")):
        assert_same_as_keras("slice", x, start, (2, 3))
        assert_same_as_keras("slice_update", x, start, x[:2, :2])
    for start in ((1, 2), gpunet.tensor([1, 2])):
        check_gradients(lambda a, s=start: ops.slice(a, s, (2, 3)), [x])
        check_gradients(lambda a, b, s=start: ops.slice_update(a, s, b), [x, x[:2, :2]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.scatter_update(x, [[0]], [[1.0]]), ShapeError, r"shape \(1, 3\)"),
        (lambda x: ops.scatter_update(x, [[0, 0, 0]], [1.0]), ShapeError, "1 to `ndim` axes"),
        (lambda x: ops.scatter_update(x, [[0, 0]], [1.0], "mean"), ArgumentError, "'mean'"),
        (lambda x: ops.scatter_update(x, [[0, 9]], [1.0]), ShapeError, "out of bounds"),
        (lambda x: ops.scatter([[9]], [1.0], (3,)), ShapeError, "out of range"),
        (lambda x: ops.scatter([[0.5]], [1.0], (3,)), DTypeError, "integers"),
        (lambda x: ops.slice(x, (1, 1), (2, 2)), ShapeError, "must fit"),
        (lambda x: ops.slice(x, (0,), (1,)), ShapeError, "must fit"),
        (lambda x: ops.slice_update(x, (0, 2), ops.ones((1, 2))), ShapeError, "must fit"),
        (lambda x: ops.slice_update(x, (-1, 0), ops.ones((1, 2))), ShapeError, "must fit"),
    ],
)
def test_updates_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call(ops.ones((2, 3)))


# -- encodings and segments ---------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", [None, "int32", "bool"])
def test_one_hot(axis, dtype):
    x = np.array([[0, 2], [-1, 5]], "int32")
    assert_same_as_keras("one_hot", x, 4, axis=axis, dtype=dtype)


def test_multi_hot():
    assert_same_as_keras("multi_hot", np.array([0, 2], "int32"), 4)
    assert_same_as_keras("multi_hot", np.array([[0, 1, 1], [3, -1, 9]], "int32"), 4)
    assert ops.multi_hot([[0, 1], [2, 2]], 3, axis=0).tolist() == [[1, 0], [1, 0], [0, 1]]
    assert ops.multi_hot([1], num_tokens=2).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("op", [ops.one_hot, ops.multi_hot])
def test_encoding_errors(op):
    with pytest.raises(DTypeError, match="integers"):
        op([0.5], 2)
    with pytest.raises(ArgumentError, match="sparse=True"):
        op([0], 2, sparse=True)
    with pytest.raises(ArgumentError, match="num_classes"):
        ops.multi_hot([0])


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_min", "segment_prod"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "bfloat16"])
def test_segments(rng, name, dtype):
    data = rng.integers(1, 4, (6, 2)).astype(gpunet.tensor(0, dtype).dtype)
    ids = np.array([0, 0, 3, 1, 3, 9], "int32")
    assert_same_as_keras(name, data, ids, num_segments=5)
    assert getattr(ops, name)(data, ids).shape == (10, 2)
    assert getattr(ops, name)(data[:, 0], ids - 1, 4).shape == (4,)


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_min", "segment_prod"])
def test_gradients_of_segments(rng, name):
    data = rng.permutation(12).reshape(6, 2) * 0.3 + 0.5
    ids = np.array([0, 0, 3, 1, 3, 9])
    check_gradients(lambda x: getattr(ops, name)(x, ids, 4)[:4:3], [data], tol=1e-5)


def test_segment_errors():
    with pytest.raises(ShapeError, match=r"segment_ids=\(2,\)"):
        ops.segment_sum([1.0, 2.0, 3.0], [0, 1])
    with pytest.raises(ArgumentError, match="num_segments=-1"):
        ops.segment_sum([1.0], [0], -1)
    with pytest.raises(TraceError, match="num_segments"):
        trace(lambda x, i: ops.segment_sum(x, i), ops.ones(2), gpunet.tensor([0, 1]))


def test_bincount(rng):
    x = rng.integers(0, 5, 20)
    np.testing.assert_array_equal(ops.bincount(x), np.bincount(x))
    np.testing.assert_array_equal(ops.bincount(x, minlength=9), np.bincount(x, minlength=9))
    weights = rng.standard_normal(20).astype("float32")
    assert_close(ops.bincount(x, weights), np.bincount(x, weights), "float32")
    batch = x.reshape(4, 5).astype("int32")
    expected = keras.ops.bincount(batch, minlength=6)
    np.testing.assert_array_equal(ops.bincount(batch, minlength=6), expected)
    assert ops.bincount(np.zeros(0, int), minlength=2).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("args", "error"),
    [(([-1],), ArgumentError), (([[[1]]],), ArgumentError), (([1], [1, 2]), ShapeError)],
)
def test_bincount_errors(args, error):
    with pytest.raises(error, match="Received"):
        ops.bincount(*args)


def test_shapes_of_functional_models():
    x = gpunet.KerasTensor((None, 4, 6))
    assert x[:, 0].shape == (None, 6) and x[..., ::2].shape == (None, 4, 3)
    assert ops.take(x, [0, 1], axis=1).shape == (None, 2, 6)
    tokens = gpunet.KerasTensor((None, 7), "int32")
    assert ops.take(np.ones((9, 5)), tokens, axis=0).shape == (None, 7, 5)
    assert ops.one_hot(tokens, 3).shape == (None, 7, 3)
