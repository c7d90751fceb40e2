"""Tracing and functional models' tensors."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.symbolic import compute_output_spec
from gpunet.core.trace import Symbol, trace
from gpunet.errors import ShapeError, TraceError
from gpunet.utils import get_source_inputs


def test_a_whole_training_step_is_one_graph():
    w = gpunet.Variable(np.array([[1.0], [2.0]]))
    rate = gpunet.Variable(np.float64(0.1), trainable=False)

    def step(x, y):
        with gpunet.GradientTape() as tape:
            loss = ((ops.matmul(x, w) - y) ** 2).mean()
        w.assign_sub(rate * tape.gradient(loss, w))
        return loss

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 2)), rng.standard_normal((4, 1))
    graph = trace(step, x, y)
    start = w.numpy().copy()
    losses, weights = [], []
    for run in (step, lambda *batch: graph(*batch)[0]):
        w.assign(start)
        losses.append([run(x, y).item() for _ in range(5)])
        weights.append(w.numpy().copy())
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(*weights)
    rate.assign(0.0)
    before = w.numpy().copy()
    graph(x, y)
    np.testing.assert_array_equal(w, before)


def test_python_cannot_ask_for_traced_values():
    for ask in (bool, float, int, lambda x: x.numpy(), lambda x: x.item(), np.asarray):
        with pytest.raises(TraceError, match="only being traced"):
            trace(lambda x, ask=ask: ask(x.sum()), gpunet.tensor([1.0]))


def test_a_graph_refuses_other_shapes():
    graph = trace(lambda x: x + 1, Symbol((2,), "float32"))
    assert graph(gpunet.tensor([1.0, 2.0]))[0].tolist() == [2, 3]
    with pytest.raises(ShapeError, match=r"float32\[2\]"):
        graph(gpunet.tensor([1.0]))


def test_nests_keep_their_structure():
    graph = trace(lambda d: {"y": d["a"] + d["b"]}, {"a": 1.0, "b": 2.0})
    assert graph(3.0, 4.0)[0].item() == 7


def test_unknown_lengths_stay_unknown():
    x = gpunet.KerasTensor((None, 3, None))
    assert (x + 1).shape == (None, 3, None)
    assert ops.reshape(x, (-1, 3)).shape == (None, 3)
    assert ops.sum(x, axis=2).shape == (None, 3)
    assert compute_output_spec(lambda t: ops.concatenate([t, t], axis=1), x).shape == (
        None,
        6,
        None,
    )


def test_ops_on_keras_tensors_know_their_inputs():
    x, y = gpunet.KerasTensor((None, 2)), gpunet.KerasTensor((None, 2))
    for t in (x, y):
        t._keras_history = None
    z = x * 2 + y
    operation, index, _ = z._keras_history
    assert len(operation._inbound_nodes[index].input_tensors) == 2
    with pytest.raises(ShapeError, match="no model"):
        get_source_inputs(x)


def test_keras_tensors_have_no_values():
    x = gpunet.KerasTensor((2,))
    for ask in (bool, list, np.asarray):
        with pytest.raises(TraceError):
            ask(x)
    with pytest.raises(ShapeError):
        x + gpunet.KerasTensor((3,))
