"""Variables: the one thing that changes."""

import copy
import pickle

import numpy as np
import pytest

import gpunet
from gpunet.core.naming import name_scope
from gpunet.core.state import mode
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, ShapeError


def test_assignment():
    v = gpunet.Variable([1.0, 2.0])
    v.assign([3.0, 4.0])
    v.assign_add(1)
    v.assign_sub([1.0, 0.0])
    np.testing.assert_array_equal(v, [3, 5])
    assert v.dtype == "float32"


def test_a_value_of_the_wrong_shape_changes_nothing():
    v = gpunet.Variable([1.0, 2.0], name="w")
    with pytest.raises(ShapeError, match=r"w: .*Received: shape=\(2,\), value_shape=\(3,\)"):
        v.assign([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError):
        v.assign(1.0)
    np.testing.assert_array_equal(v, [1, 2])


def test_values_are_cast():
    v = gpunet.Variable([1.0], dtype="float16")
    v.assign(np.array([2.0]))
    assert v.value.dtype == "float16"


def test_initializers():
    v = gpunet.Variable(lambda shape, dtype: np.full(shape, 2, dtype), shape=(2, 3))
    assert (v.shape, v.dtype, v.ndim, v.size) == ((2, 3), "float32", 2, 6)
    with pytest.raises(ArgumentError, match="shape"):
        gpunet.Variable(lambda shape, dtype: np.zeros(shape))
    with pytest.raises(ShapeError, match="given shape"):
        gpunet.Variable([1.0], shape=(2,))


def test_names_and_paths():
    with name_scope("outer"), name_scope("inner"):
        v = gpunet.Variable(1.0, name="w")
    assert (v.name, v.path) == ("w", "outer/inner/w")
    with pytest.raises(ArgumentError, match="slash"):
        gpunet.Variable(1.0, name="a/b")


def test_it_takes_part_in_operations():
    v = gpunet.Variable([1.0, 2.0])
    np.testing.assert_array_equal(v * 2 + v, [3, 6])
    np.testing.assert_array_equal(np.ones(2, "float32") + v, [2, 3])
    assert v[1].item() == 2


def test_a_stateless_scope_keeps_writes_apart():
    v = gpunet.Variable(1.0)
    with gpunet.StatelessScope([(v, gpunet.tensor(10.0))]) as scope:
        assert v.value.item() == 10
        v.assign_add(1.0)
        assert v.value.item() == 11
    assert v.value.item() == 1
    assert scope.get_current_value(v).item() == 11
    with pytest.raises(ShapeError):
        scope.add_update((v, [1.0, 2.0]))


def test_gradients_with_respect_to_values_given_to_a_scope():
    v = gpunet.Variable(3.0)

    def f(value):
        with gpunet.StatelessScope([(v, value)]):
            return v * v

    assert gpunet.grad(f)(5.0).item() == 10


def test_autocast():
    v, w = gpunet.Variable([1.0]), gpunet.Variable([1.0], autocast=False)
    with mode(autocast="float16"):
        assert v.value.dtype == "float16"
        assert v.dtype == "float16"
        assert w.value.dtype == "float32"
        v.assign([0.1])
    assert v.value.item() == pytest.approx(0.1, rel=1e-6)


def test_a_trace_reads_and_writes_variables():
    v = gpunet.Variable(1.0)

    def step(x):
        v.assign_add(x)
        return v * 2

    graph = trace(step, gpunet.tensor(2.0))
    assert v.value.item() == 1
    assert graph(3.0)[0].item() == 8
    assert v.value.item() == 4
    assert "write" in str(graph)


def test_copies():
    v = gpunet.Variable([1.0, 2.0], name="w")
    for other in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        other.assign([5.0, 6.0])
        np.testing.assert_array_equal(v, [1, 2])
        assert other.name == "w"
