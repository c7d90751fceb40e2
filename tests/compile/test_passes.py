"""Each pass alone: what it drops, what it keeps, and that no bit changes."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.compile import PASSES, Executable, optimize
from gpunet.compile.passes import (
    common_subexpressions,
    dead_code,
    fold_constants,
    neutral_operations,
)
from gpunet.core.trace import trace

X = gpunet.tensor([[1.5, -0.0], [3.0, -4.0]])


def names(graph):
    return [eq.op.name for eq in graph.equations]


def same(graph, after, *inputs):
    """Both graphs compute the same bits from inputs."""
    for y, reference in zip(Executable(after)(*inputs), graph(*inputs), strict=True):
        assert y.dtype == reference.dtype
        assert y.numpy().tobytes() == reference.numpy().tobytes()


def test_dead_code_goes():
    graph = trace(lambda x: (ops.exp(x) + 1, ops.sin(x))[1], X)
    after = dead_code(graph)
    assert names(graph) == ["exp", "add", "sin"] and names(after) == ["sin"]
    assert not after.constants
    same(graph, after, X)


def test_what_a_variable_gets_is_not_dead():
    v = gpunet.Variable(1.0)
    graph = dead_code(trace(lambda x: v.assign(x.sum()), X))
    assert names(graph) == ["sum"]
    Executable(graph)(X)
    assert v.numpy() == 0.5


def test_equal_equations_become_one():
    graph = trace(lambda x: (ops.exp(x) * 2, ops.exp(x) * 2, ops.exp(x) * 3), X)
    after = common_subexpressions(graph)
    assert names(after) == ["exp", "multiply", "multiply"]
    assert after.outputs[0] is after.outputs[1]
    same(graph, after, X)


def test_equations_with_other_attributes_stay():
    graph = trace(lambda x: (x.sum(axis=0), x.sum(axis=1)), X)
    assert names(common_subexpressions(graph)) == ["sum", "sum"]


def test_draws_with_the_same_seed_are_one_and_with_others_are_not():
    seed = gpunet.random.SeedGenerator(1)
    graph = trace(lambda: [gpunet.random.uniform((2,), seed=seed) for _ in range(2)])
    after = optimize(graph)
    assert names(after).count("random_uniform") == 2
    first, second = Executable(after)()
    assert (first.numpy() != second.numpy()).any()


def test_constants_are_folded_unless_large():
    graph = trace(lambda x: x + ops.exp(gpunet.tensor(2.0)) * 3, X)
    after = fold_constants(graph)
    assert names(after) == ["add"]
    same(graph, after, X)
    large = trace(lambda x: x.sum() + ops.zeros((300, 300)) + ops.ones((300, 1)), X)
    assert names(dead_code(fold_constants(large))) == names(dead_code(large))


def test_operations_that_change_nothing_go():
    def f(x):
        return ops.cast(x, "float32").reshape((2, 2)).transpose((0, 1)) * 1

    graph = trace(f, X)
    after = neutral_operations(graph)
    assert after.outputs == after.inputs and not after.equations
    same(graph, after, X)


@pytest.mark.parametrize(
    "f", [lambda x: x + 0, lambda x: x * gpunet.tensor([[1.0]] * 2), lambda x: x.T, lambda x: 0 + x]
)
def test_operations_that_change_something_stay(f):
    graph = trace(f, X)
    after = neutral_operations(graph)
    assert len(after.equations) == len(graph.equations)
    same(graph, after, X)


def test_a_pass_leaves_its_graph_as_it_is():
    graph = trace(lambda x: (x * 1 + x * 1, x - 2)[0], X)
    before = str(graph)
    for run in PASSES.values():
        run(graph)
    assert str(graph) == before


def test_passes_are_chosen_by_name():
    graph = trace(lambda x: (x * 1, x + 2)[0], X)
    assert names(optimize(graph, [])) == ["multiply", "add"]
    assert names(optimize(graph, ["dead_code"])) == ["multiply"]
    with pytest.raises(KeyError):
        optimize(graph, ["faster"])


def test_a_random_program_keeps_its_bits(rng):
    def f(x):
        values = [x, x * 1, gpunet.tensor(2.0) * 3]
        for i in rng.integers(0, 1 << 30, 60).tolist():
            a, b = values[i % len(values)], values[i // 7 % len(values)]
            values.append([ops.add, ops.multiply, ops.maximum, ops.subtract][i % 4](a, b))
            values[-1] = ops.tanh(values[-1])
        return values[-1], values[10]

    graph = trace(f, X)
    after = optimize(graph)
    assert len(after.equations) < len(graph.equations)
    same(graph, after, X)
    np.testing.assert_array_equal(Executable(after)(X)[0].numpy(), graph(X)[0].numpy())
