"""Shapes: every rearrangement against NumPy or Keras, its gradients, its errors."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, ShapeError
from gpunet.testing import check_gradients
from tests.ops.peer import assert_same_as_keras

# name, shape of the tensor, further arguments
CALLS = [
    ("reshape", (3, 4), [(2, -1)]),
    ("reshape", (3, 4), [-1]),
    ("reshape", (0, 4), [(4, -1)]),
    ("transpose", (2, 3, 4), []),
    ("transpose", (2, 3, 4), [(1, 2, 0)]),
    ("moveaxis", (2, 3, 4), [0, -1]),
    ("moveaxis", (2, 3, 4), [(0, 1), (2, 0)]),
    ("swapaxes", (2, 3, 4), [0, -1]),
    ("expand_dims", (2, 3), [1]),
    ("expand_dims", (2, 3), [(0, -1)]),
    ("squeeze", (1, 3, 1), []),
    ("squeeze", (1, 3, 1), [0]),
    ("squeeze", (1, 3, 1), [(0, -1)]),
    ("ravel", (2, 3), []),
    ("broadcast_to", (3, 1), [(2, 3, 4)]),
    ("flip", (2, 3), []),
    ("flip", (2, 3, 4), [(0, 2)]),
    ("fliplr", (2, 3), []),
    ("flipud", (2, 3), []),
    ("roll", (2, 3), [2]),
    ("roll", (2, 3), [-1, 1]),
    ("roll", (2, 5), [(1, 7), (0, 1)]),
    ("roll", (0, 5), [1, 0]),
    ("rot90", (2, 3), []),
    ("rot90", (2, 3), [2]),
    ("rot90", (2, 3, 4), [3, (1, 2)]),
    ("rot90", (2, 3), [-1, (1, 0)]),
    ("tile", (2, 3), [2]),
    ("tile", (3,), [(2, 2)]),
    ("tile", (2, 3, 1), [(2, 1)]),
    ("repeat", (2, 3), [2]),
    ("repeat", (2, 3), [2, 1]),
    ("repeat", (2, 3), [np.array([1, 0, 2]), 1]),
    ("pad", (2, 3), [1]),
    ("pad", (2, 3), [((1, 0), (0, 2))]),
    ("pad", (2, 3), [(1, 2), "constant", 5]),
    ("pad", (2, 3), [((1, 1), (2, 2)), "reflect"]),
    ("pad", (2, 3), [((2, 1), (0, 3)), "symmetric"]),
    ("pad", (2, 3), [2, "edge"]),
    ("pad", (2, 3), [((0, 0), (4, 1)), "wrap"]),
    ("split", (6, 2), [3]),
    ("split", (6, 2), [[1, 4]]),
    ("split", (2, 6), [2, 1]),
    ("split", (6,), [[0, 3, 6]]),
    ("array_split", (7, 2), [3]),
    ("array_split", (2, 5), [4, 1]),
    ("hsplit", (2, 4), [2]),
    ("hsplit", (4,), [2]),
    ("vsplit", (4, 2), [[1]]),
    ("dsplit", (1, 2, 4), [2]),
    ("unstack", (3, 2), []),
    ("unstack", (3, 2), [2, 1]),
    ("diagonal", (3, 4), []),
    ("diagonal", (3, 4), [1]),
    ("diagonal", (3, 4), [-2]),
    ("diagonal", (3, 4), [9]),
    ("diagonal", (2, 3, 4, 3), [1, 3, 1]),
    ("trace", (3, 4), []),
    ("trace", (2, 3, 4), [1, 2, 0]),
    ("diag", (3,), []),
    ("diag", (3,), [2]),
    ("diag", (3,), [-1]),
    ("diag", (3, 4), [1]),
    ("diagflat", (2, 2), [1]),
    ("tril", (3, 4), []),
    ("tril", (2, 3, 3), [-1]),
    ("triu", (3, 4), []),
    ("triu", (2, 3, 3), [1]),
    ("vander", (3,), []),
    ("vander", (3,), [4, True]),
    ("vander", (3,), [0]),
]
JOINS = ["concatenate", "stack", "hstack", "vstack", "dstack"]


@pytest.mark.parametrize(("name", "shape", "rest"), CALLS)
def test_results_are_those_of_keras(rng, name, shape, rest):
    for dtype in ("float32", "int32", "bfloat16"):
        x = rng.integers(-9, 9, shape).astype(gpunet.tensor(0, dtype).dtype)
        if not (name == "trace" and dtype == "bfloat16"):
            assert_same_as_keras(name, x, *rest)


@pytest.mark.parametrize(("name", "shape", "rest"), CALLS)
def test_gradients(rng, name, shape, rest):
    def f(x):
        y = getattr(ops, name)(x, *rest)
        return tuple(y) if isinstance(y, list) else y

    check_gradients(f, [rng.standard_normal(shape)])


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 3)])
def test_joining_is_that_of_keras(rng, name, shape):
    first, second = rng.integers(0, 9, shape), rng.standard_normal(shape).astype("float32")
    assert_same_as_keras(name, [first.astype("int32"), second])
    check_gradients(lambda a, b: getattr(ops, name)([a, b * a]), [second, second + 1])


def test_cuts_beyond_the_end_give_empty_parts():
    x = np.arange(6)
    for cuts in ([0, 3, 9], [-2], [7, 8]):
        expected = [part.tolist() for part in np.split(x, cuts)]
        assert [part.tolist() for part in ops.split(x, cuts)] == expected


def test_stacking_numbers():
    assert ops.stack([1, 2.5]).tolist() == ops.hstack([1, 2.5]).tolist() == [1, 2.5]
    assert ops.vstack([1, 2]).shape == (2, 1) and ops.dstack([1, 2]).shape == (1, 1, 2)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_append(rng, axis):
    x = rng.standard_normal((2, 3)).astype("float32")
    assert_same_as_keras("append", x, x, axis)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_meshgrid(indexing, count):
    rows = [np.arange(n + 2, dtype="float32") for n in range(count)]
    assert_same_as_keras("meshgrid", *rows, indexing=indexing)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.reshape(x, (4, 2)), ShapeError, r"x_shape=\(2, 3\), newshape=\(4, 2\)"),
        (lambda x: ops.reshape(x, (-1, -1)), ShapeError, "at most one"),
        (lambda x: ops.reshape(x, (-1, 4)), ShapeError, "newshape"),
        (lambda x: ops.reshape(x, (-2, -3)), ShapeError, "newshape"),
        (lambda x: ops.transpose(x, (0, 0)), ArgumentError, "twice"),
        (lambda x: ops.transpose(x, (0,)), ArgumentError, "each of the 2 axes"),
        (lambda x: ops.transpose(x, (0, 2)), ArgumentError, "axes=2"),
        (lambda x: ops.broadcast_to(x, (2, 4)), ShapeError, "broadcast"),
        (lambda x: ops.broadcast_to(x, (-1, 3)), ShapeError, "negative"),
        (lambda x: ops.squeeze(x, 0), ShapeError, "length 1"),
        (lambda x: ops.expand_dims(x, 4), ArgumentError, "axis=4"),
        (lambda x: ops.concatenate([x, x[0]]), ShapeError, r"\(2, 3\) float32, \(3,\)"),
        (lambda x: ops.concatenate([x, ops.zeros((2, 2))]), ShapeError, "axis=0"),
        (lambda x: ops.concatenate([]), ArgumentError, "At least one"),
        (lambda x: ops.stack([x, x[0]]), ShapeError, "equal shapes"),
        (lambda x: ops.split(x, 2, axis=1), ShapeError, "equal parts"),
        (lambda x: ops.split(x, 0), ShapeError, "equal parts"),
        (lambda x: ops.split(x, [2, 1], axis=1), ArgumentError, r"indices=\[2, 1\]"),
        (lambda x: ops.array_split(x, 0), ArgumentError, "At least one"),
        (lambda x: ops.unstack(x, 3), ShapeError, "num=3"),
        (lambda x: ops.pad(x, -1), ArgumentError, "pad_width=-1"),
        (lambda x: ops.pad(x, 1, "mirror"), ArgumentError, "mode='mirror'"),
        (lambda x: ops.pad(x, 1, "edge", 5), ArgumentError, "constant_values=5"),
        (lambda x: ops.pad(x, ((1, 1),) * 3), ShapeError, "2 axes"),
        (lambda x: ops.repeat(x, [1, 2, 3], 0), ShapeError, r"repeats=\[1, 2, 3\]"),
        (lambda x: ops.roll(x, (1, 2), 0), ArgumentError, "shift"),
        (lambda x: ops.rot90(x, axes=(0, 0)), ArgumentError, "twice"),
        (lambda x: ops.moveaxis(x, (0, 1), 0), ArgumentError, "equally many"),
        (lambda x: ops.meshgrid(x[0], indexing="yx"), ArgumentError, "indexing='yx'"),
        (lambda x: ops.diagonal(x[0]), ShapeError, "two axes"),
        (lambda x: ops.tril(x[0]), ShapeError, "two axes"),
        (lambda x: ops.diag(x[None]), ShapeError, "one or two"),
        (lambda x: ops.vander(x), ShapeError, "one axis"),
    ],
)
def test_errors_name_what_was_received(call, error, message):
    with pytest.raises(error, match=message):
        call(ops.ones((2, 3)))


def test_shapes_of_functional_models():
    x = gpunet.KerasTensor((None, 4, 6))
    assert ops.reshape(x, (-1, 24)).shape == (None, 24)
    assert ops.transpose(x, (0, 2, 1)).shape == (None, 6, 4)
    assert ops.concatenate([x, x], axis=-1).shape == (None, 4, 12)
    assert ops.stack([x, x]).shape == (2, None, 4, 6)
    assert [y.shape for y in ops.split(x, 2, axis=2)] == [(None, 4, 3)] * 2
    assert ops.pad(x, ((0, 0), (1, 2), (0, 0))).shape == (None, 7, 6)
    assert ops.tile(x, (1, 2, 1)).shape == (None, 8, 6)
    assert ops.squeeze(ops.expand_dims(x, -1), -1).shape == (None, 4, 6)
    assert ops.flip(x, 1).shape == x.shape and x.reshape(-1, 4, 2, 3).shape == (None, 4, 2, 3)


def test_methods_take_separate_integers():
    x = ops.zeros((2, 3, 4))
    assert x.reshape(4, -1).shape == (4, 6) and x.transpose(2, 0, 1).shape == (4, 2, 3)
    assert x.T.shape == (4, 3, 2) and x.swapaxes(0, 1).shape == (3, 2, 4)


def test_shapes_that_cannot_be_joined_are_found_while_tracing():
    with pytest.raises(ShapeError, match=r"shapes=\[\(2, 3\), \(2, 2\)\]"):
        trace(lambda x: ops.concatenate([x, x[:, :2]]), ops.ones((2, 3)))


def test_views_are_never_written_to(rng):
    x = rng.standard_normal((3, 4))
    t = gpunet.tensor(x)
    ops.slice_update(ops.transpose(ops.reshape(t, (4, 3))), (0, 0), [[9.0]])
    ops.scatter_update(ops.flip(t), [[0]], [[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(t, x)
