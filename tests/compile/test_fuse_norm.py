"""Batch norm and ReLU become one; what needs the results between them keeps them apart."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.compile import Executable
from gpunet.compile.fuse_norm import fuse_batch_norm_relu
from gpunet.compile.passes import common_subexpressions, dead_code
from gpunet.core.trace import trace
from gpunet.ops.activation import relu_grad
from gpunet.ops.batch_norm import batch_norm_grad, batch_norm_train

EPSILON = {"epsilon": 1e-3}
RELU = ["batch_norm_relu", "batch_norm_relu_grad"]
ADD_RELU = ["batch_norm_add_relu", "batch_norm_add_relu_grad"]


@pytest.fixture
def given(rng):
    """A batch, another of its shape, scale and offset."""
    shapes = (2, 5, 3), (2, 5, 3), (3,), (3,)
    return [gpunet.tensor(rng.standard_normal(s).astype("float32")) for s in shapes]


def norm(x, scale, offset):
    return batch_norm_train(x, scale, offset, **EPSILON)


def names(graph):
    return [eq.op.name for eq in graph.equations]


def norms(graph):
    return [name for name in names(graph) if "batch_norm" in name or "relu" in name]


def fused(f, *inputs):
    """The graph of a function before and after; both compute the same bits."""
    graph = dead_code(common_subexpressions(trace(f, *inputs)))
    before = str(graph)
    after = fuse_batch_norm_relu(graph)
    assert str(graph) == before
    for y, reference in zip(after(*inputs), graph(*inputs), strict=True):
        assert y.dtype == reference.dtype
        assert y.numpy().tobytes() == reference.numpy().tobytes()
    for y, reference in zip(Executable(after)(*inputs), graph(*inputs), strict=True):
        np.testing.assert_allclose(y.numpy(), reference.numpy(), rtol=1e-4, atol=1e-5)
    return graph, after


def gradients(f):
    """A function of the results of `f` and the gradients of their weighted sum."""

    def call(*inputs):
        weights = ops.cos(inputs[0])
        return f(*inputs), gpunet.grad(lambda *xs: (f(*xs) * weights).sum(), argnums=(0, 1, 2, 3))(
            *inputs
        )

    return call


def plain(x, other, scale, offset):
    return ops.relu(norm(x + other, scale, offset)[0])


def residual(x, other, scale, offset):
    return ops.relu(norm(x, scale, offset)[0] + other)


def residual_first(x, other, scale, offset):
    return ops.relu(other + norm(x, scale, offset)[0])


def shortcut(x, other, scale, offset):
    return ops.relu(norm(x, scale, offset)[0] + norm(other, offset, scale)[0])


@pytest.mark.parametrize(
    ("f", "forward", "both"),
    [
        (plain, RELU[:1], RELU),
        (residual, ADD_RELU[:1], ADD_RELU),
        (residual_first, ADD_RELU[:1], ADD_RELU),
        (shortcut, ["batch_norm_train", *ADD_RELU[:1]], None),
    ],
)
def test_norm_and_relu_become_one(f, forward, both, given):
    graph, after = fused(f, *given)
    assert "relu" in names(graph)
    assert sorted(norms(after)) == sorted(forward)
    graph, after = fused(gradients(f), *given)
    assert "relu_grad" in names(graph)
    expected = both or ["batch_norm_train", "batch_norm_grad", *ADD_RELU]
    assert sorted(norms(after)) == sorted(expected)


def test_a_network_of_blocks(given):
    mean = gpunet.Variable(np.zeros(3, "float32"))

    def network(x, other, scale, offset):
        for _ in range(3):
            y, average, _ = norm(x * 2, scale, offset)
            mean.assign(mean * 0.5 + average)
            z = norm(ops.tanh(ops.relu(y)), offset, scale)[0]
            x = ops.relu(x + z)
        return x + other

    graph, after = fused(gradients(network), *given)
    left = norms(after)
    assert len(left) == 12 and set(left) == {*RELU, *ADD_RELU}
    assert len(after.equations) < len(graph.equations)


def test_statistics_that_are_used_before_the_residual_is_there(given):
    def f(x, other, scale, offset):
        y, mean, variance = norm(x, scale, offset)
        average = mean * 0.9 + variance  # stands before `other * 2`
        return ops.relu(y + other * 2), average

    graph, after = fused(f, *given)
    assert norms(graph) == ["batch_norm_train", "relu"] and norms(after) == ADD_RELU[:1]


def test_two_gradients_of_one_relu(given):
    def f(x, other, scale, offset):
        pull = gpunet.grad(lambda a, w: (plain(a, other, scale, offset) * w).sum())
        return pull(x, other), pull(x, x)

    _, after = fused(f, *given)
    assert sorted(norms(after)) == sorted([*RELU, RELU[1]])


def test_halves(given):
    halves = [x.astype("float16") for x in given]
    _, after = fused(residual, *halves)
    assert norms(after) == ADD_RELU[:1]


def masked_twice(x, other, scale, offset):
    """The masked cotangent has another use."""
    y, mean, variance = norm(x, scale, offset)
    masked = relu_grad(other, ops.relu(y))
    zero = ops.zeros((3,))
    return batch_norm_grad(masked, zero, zero, x, scale, mean, variance, **EPSILON)[0], masked


def masked_statistics(x, other, scale, offset):
    """The cotangent of a statistic depends on the masked one."""
    y, mean, variance = norm(x, scale, offset)
    masked = relu_grad(other, ops.relu(y + x))
    given = masked, masked.sum(axis=(0, 1)), offset, x, scale, mean, variance
    return batch_norm_grad(*given, **EPSILON)


def other_norm(x, other, scale, offset):
    """The gradient is that of another norm."""
    y, mean, variance = norm(x, scale, offset)
    masked, zero = relu_grad(other, ops.relu(y)), ops.zeros((3,))
    return batch_norm_grad(masked, zero, zero, x, offset, mean, variance, **EPSILON)


def other_epsilon(x, other, scale, offset):
    y, mean, variance = norm(x, scale, offset)
    masked, zero = relu_grad(other, ops.relu(y)), ops.zeros((3,))
    return batch_norm_grad(masked, zero, zero, x, scale, mean, variance, epsilon=0.5)


@pytest.mark.parametrize(
    ("f", "forward"),
    [
        (masked_twice, RELU[0]),
        (masked_statistics, ADD_RELU[0]),
        (other_norm, RELU[0]),
        (other_epsilon, RELU[0]),
    ],
)
def test_gradients_that_stay(f, forward, given):
    _, after = fused(f, *given)
    assert sorted(norms(after)) == sorted([forward, "relu_grad", "batch_norm_grad"])


def test_norms_that_stay(given):
    def between(x, other, scale, offset):
        y = norm(x, scale, offset)[0]
        return ops.relu(y), y * other

    def sum_between(x, other, scale, offset):
        y = norm(x, scale, offset)[0] + other
        return ops.relu(y), y

    def of_statistics(x, other, scale, offset):
        y, mean, _ = norm(x, scale, offset)
        return ops.relu(y + ops.broadcast_to(mean, x.shape))

    cases = {
        "y has another use": between,
        "y is a result": lambda x, other, *v: (lambda y: (ops.relu(y), y))(norm(x, *v)[0]),
        "the sum is a result": sum_between,
        "both are one": lambda x, other, *v: (lambda y: ops.relu(y + y))(norm(x, *v)[0]),
        "the residual is broadcast": lambda x, other, *v: ops.relu(norm(x, *v)[0] + v[0]),
        "the residual needs the mean": of_statistics,
        "another activation": lambda x, other, *v: ops.tanh(norm(x, *v)[0]),
        "the mean goes into the ReLU": lambda x, other, *v: ops.relu(norm(x, *v)[1]),
    }
    for why, f in cases.items():
        graph, after = fused(f, *given)
        assert names(after) == names(graph), why
