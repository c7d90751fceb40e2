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
    fuse_loss_gradient,
    neutral_operations,
)
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError
from gpunet.ops.cross_entropy_labels import softmax_cross_entropy, softmax_cross_entropy_grad

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


# -- losses of labels and their gradient ----------------------------------------------------------

BOTH = "softmax_cross_entropy_with_grad"
PLAIN = {"ignore_index": None, "label_smoothing": 0.0}


@pytest.fixture
def batch(rng):
    logits = rng.standard_normal((4, 3, 7)).astype("float32")
    labels = rng.integers(0, 7, (4, 3))
    with gpunet.device("emulator"):
        yield [gpunet.tensor(logits), gpunet.tensor(labels)]


def losses(logits, labels, **settings):
    return softmax_cross_entropy(logits, labels, **{**PLAIN, **settings})


def mean_loss(logits, labels):
    return losses(logits, labels)[0].mean()


def smoothed(logits, labels):
    return losses(logits, labels, ignore_index=1, label_smoothing=0.1)[0].astype("float32").sum()


def two_losses(logits, labels):
    return mean_loss(logits, labels) + smoothed(logits * 2, labels)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("f", "count"), [(mean_loss, 1), (smoothed, 1), (two_losses, 2)])
def test_a_loss_and_its_gradient_become_one(f, count, dtype, batch):
    batch[0] = batch[0].astype(dtype)
    number = gpunet.Variable(1024.0, trainable=False)  # read when the losses are there already

    def step(logits, labels):
        gradient = gpunet.grad(lambda x: f(x, labels) * number)(logits)
        return f(logits, labels), gradient, gradient * 2

    graph = common_subexpressions(trace(step, *batch))
    after = fuse_loss_gradient(graph)
    assert names(graph).count("softmax_cross_entropy") == count
    assert names(after).count(BOTH) == count
    assert not {"softmax_cross_entropy", "softmax_cross_entropy_grad"} & set(names(after))
    same(graph, after, *batch)
    same(graph, optimize(graph), *batch)
    assert BOTH in names(optimize(trace(step, *batch)))


def gradients(given, cotangents, gradient_labels=None, **settings):
    """Losses, and for each cotangent a gradient with settings of its own."""
    loss, lse = losses(*given)
    logits, labels = given[0], given[1] if gradient_labels is None else gradient_labels
    grad = [
        softmax_cross_entropy_grad(
            *(ops.broadcast_to(g, loss.shape) for g in pair(loss)), logits, labels, lse,
            **{**PLAIN, **settings},
        )
        for pair in cotangents
    ]  # fmt: skip
    return loss, *grad


def test_losses_that_must_not_be_fused(batch):
    one, zeros, ones = gpunet.tensor(1.0), ops.zeros((4, 3)), ops.ones((4, 3))
    usual = [lambda loss: (one, zeros)]

    def weighted(logits, labels):
        weights = gpunet.tensor(np.arange(12.0).reshape(4, 3))
        return gpunet.grad(lambda x: (losses(x, labels)[0] * weights).mean())(logits)

    cases = {
        "weights of samples": weighted,
        "two gradients": lambda *xs: gradients(xs, [*usual, lambda loss: (one * 2, zeros)]),
        "other attributes": lambda *xs: gradients(xs, usual, label_smoothing=0.1),
        "other labels": lambda x, y: gradients((x, y), usual, (y + 1) % 7),
        "a gradient of lse": lambda *xs: gradients(xs, [lambda loss: (one, zeros + 1)]),
        "a constant gradient of lse": lambda *xs: gradients(xs, [lambda loss: (one, ones)]),
        "a scale of the losses": lambda *xs: gradients(xs, [lambda loss: (loss.sum(), zeros)]),
        "a number for each row": lambda *xs: gradients(
            xs, [lambda loss: (gpunet.tensor([[1.0]] * 4), zeros)]
        ),
        "no gradient": mean_loss,
    }
    assert BOTH in names(fuse_loss_gradient(trace(lambda *xs: gradients(xs, usual), *batch)))
    for why, f in cases.items():
        graph = trace(f, *batch)
        assert names(fuse_loss_gradient(graph)) == names(graph), why


def test_graphs_for_numpy_keep_both(batch, without_kernels):
    graph = trace(gpunet.grad(mean_loss), *[x.to("cpu") for x in batch])
    assert "softmax_cross_entropy_grad" in names(fuse_loss_gradient(graph))


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
    with pytest.raises(ArgumentError, match=r"dead_code.*Received: name='faster'"):
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
