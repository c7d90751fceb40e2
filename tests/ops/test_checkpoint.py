"""Gradient checkpointing: the same numbers from less memory."""

import functools
import gc
import pickle
import weakref

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops
from gpunet.compile.arena import peak
from gpunet.compile.effects import lifetimes
from gpunet.compile.passes import optimize
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, GradientError
from gpunet.ops import checkpoint as module


@pytest.fixture(autouse=True)
def without_kernels():
    """Graphs on the CPU have the bits of eager ops."""
    gpunet.config.set_cpu_kernels(False)
    yield
    gpunet.config.set_cpu_kernels(True)


def gradients(f, xs, variables=()):
    """The value and all gradients of a scalar function."""
    with gpunet.GradientTape() as tape:
        xs = [gpunet.tensor(x) for x in xs]
        tape.watch(xs)
        y = f(*xs)
    return [y, *tape.gradient(y, [*xs, *variables])]


def assert_same(found, expected):
    for y, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, reference)


X = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)

# -- functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_gradients_are_the_same(compiled, device):
    with gpunet.device(device):
        w = gpunet.Variable(X.T)
        fixed = gpunet.tensor(X)
        part = lambda x: ops.tanh(x @ w) @ fixed  # noqa: E731
        outcomes = []
        for f in (part, gpunet.checkpoint(part), gpunet.remat(part)):
            run = lambda x, f=f: gradients(lambda x: ops.sum(f(f(x)) * x), [x], [w])  # noqa: E731
            run = gpunet.function(run) if compiled else run
            outcomes += [run(gpunet.tensor(X)) for _ in range(4 if compiled else 1)]
        for found in outcomes[1:]:
            for y, reference in zip(found, outcomes[0], strict=True):
                np.testing.assert_allclose(y, reference, rtol=1e-5, atol=1e-6)


def test_tensors_from_outside_and_made_of_each_other_count_once():
    def f(x, wrap):
        y = x * x
        return ops.sum(wrap(lambda x: ops.sin(x) * y + x)(x))

    for again in (False, True):
        run = lambda x, wrap: gradients(lambda x: f(x, wrap), [x])  # noqa: E731
        run = gpunet.function(run) if again else run
        assert_same(run(X, gpunet.checkpoint), run(X, lambda g: g))


def test_gradients_of_gradients():
    f = lambda x: ops.sum(ops.sin(x) * x**2)  # noqa: E731
    twice = lambda f: gpunet.grad(lambda x: ops.sum(gpunet.grad(f)(x) ** 2))  # noqa: E731
    np.testing.assert_allclose(twice(gpunet.checkpoint(f))(X), twice(f)(X), rtol=1e-5)


def test_nests_keywords_and_results_without_gradients():
    @gpunet.checkpoint
    def f(nest, *, scale, name):
        """Has a text."""
        a, b = nest["a"], nest["b"]
        return {"y": [a * b * scale, ops.argmax(a)], "name": name, "same": a}

    assert (f.__name__, f.__doc__) == ("f", "Has a text.")
    with gpunet.GradientTape() as tape:
        a = gpunet.tensor(X)
        tape.watch(a)
        out = f({"a": a, "b": gpunet.tensor(X + 1)}, scale=2.0, name="n")
    assert out["name"] == "n" and out["same"] is a and out["y"][1].item() == 11
    np.testing.assert_allclose(tape.gradient(out["y"][0], a), 2 * (X + 1))


def test_without_a_tape_nothing_changes():
    calls = []
    f = gpunet.checkpoint(lambda x: calls.append(1) or x * 2)
    assert f(gpunet.tensor(2.0)).item() == 4 and len(calls) == 1
    gradients(lambda x: f(x), [1.0])
    assert len(calls) == 3


@pytest.mark.parametrize("compiled", [False, True])
def test_random_draws_and_what_is_written(compiled):
    """The second run sees the seeds of the first, and writes nothing."""

    def outcome(wrap):
        seed = gpunet.random.SeedGenerator(5)
        mean = gpunet.Variable(X[0], trainable=False)
        w = gpunet.Variable(X)

        def part(x):
            mean.assign(mean * 0.9 + ops.mean(x, axis=0))
            x = gpunet.random.dropout(x - mean, 0.5, seed=seed)
            return ops.tanh(x * w)

        f = lambda x: ops.sum(wrap(part)(wrap(part)(x)))  # noqa: E731
        run = lambda x: gradients(f, [x], [w])  # noqa: E731
        run = gpunet.function(run) if compiled else run
        found = [y for _ in range(3) for y in run(gpunet.tensor(X))]
        return [*found, mean.numpy(), seed.state.numpy()]

    expected = outcome(lambda f: f)
    assert_same(outcome(gpunet.checkpoint), expected)
    assert expected[-1].tolist() == [5, 6]
    assert (np.array(expected[0]) != np.array(expected[3])).any()


def test_nothing_is_kept_on_the_way():
    kept = []

    def part(x):
        y = ops.exp(x)
        kept.append(weakref.ref(y.data))
        return ops.sum(ops.sin(y))

    for f, alive in ((part, True), (gpunet.checkpoint(part), False)):
        with gpunet.GradientTape() as tape:
            x = gpunet.tensor(X)
            tape.watch(x)
            y = f(x)
        gc.collect()
        assert (kept[-1]() is not None) == alive
        assert tape.gradient(y, x) is not None


def test_within_choices_and_around_them():
    part = lambda x: ops.exp(ops.sin(x))  # noqa: E731

    def f(x, wrap):
        inside = ops.cond(ops.sum(x) > 0, lambda: wrap(part)(x), lambda: wrap(ops.cos)(x) * x)
        choice = lambda x: ops.cond(x[0] > 0, lambda: x * x, lambda: ops.sin(x))  # noqa: E731
        return ops.sum(inside * wrap(choice)(x[0]))

    for sign in (1, -1):
        x = gpunet.tensor(sign * X + 0.1)
        expected = gradients(lambda x: f(x, lambda g: g), [x])
        run = gpunet.function(lambda x: gradients(lambda x: f(x, gpunet.checkpoint), [x]))
        for y, reference in zip(run(x), expected, strict=True):
            np.testing.assert_allclose(y, reference, rtol=1e-5, atol=1e-6)


def test_a_function_that_returns_something_else():
    calls = []

    def f(x):
        calls.append(1)
        return (x * 2,) if len(calls) == 1 else x * 2

    with pytest.raises(GradientError, match="the same each time"):
        gradients(lambda x: gpunet.checkpoint(f)(x)[0], [1.0])


# -- memory of graphs -----------------------------------------------------------------------------


def step_graph(mode, depth=8):
    """The graph of a training step of a deep network, and the model."""
    gpunet.utils.set_random_seed(2)
    with gpunet.RematScope(mode):
        blocks = [Block() for _ in range(depth)]
    model = gpunet.Sequential([gpunet.Input((16,)), *blocks, layers.Dense(1)])
    model.compile(gpunet.optimizers.SGD(0.1), "mse")
    x, y = ops.ones((64, 16)), ops.ones((64, 1))
    model._symbolic_build(data_batch=(x, y))
    return optimize(trace(lambda x, y: model._lazy_train_step((x, y)), x, y))


class Block(layers.Layer):
    def __init__(self):
        super().__init__()
        self.wide = layers.Dense(64, activation="gelu")
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.3)
        self.narrow = layers.Dense(16, activation="tanh")

    def call(self, x, training=False):
        y = self.norm(self.wide(x), training=training)
        return x + self.narrow(self.dropout(y, training=training))


def test_a_graph_needs_less_memory():
    plain, again = step_graph(None), step_graph("full")
    memory = [peak(lifetimes(graph), 1) for graph in (plain, again)]
    assert memory[1] < 0.4 * memory[0], memory
    names = [eq.op.name for eq in again.equations]
    assert names.count("barrier") and len(names) > len(plain.equations)
    arenas = [gpunet.compile.Program(graph).arena for graph in (plain, again)]
    assert arenas[1] < 0.6 * arenas[0], arenas


def test_no_two_barriers_are_one():
    f = lambda x: ops.exp(module.barrier(x)) + ops.exp(module.barrier(x)) + ops.exp(x)  # noqa: E731
    names = [eq.op.name for eq in optimize(trace(f, ops.ones(2))).equations]
    assert (names.count("barrier"), names.count("exp")) == (2, 3)


def test_a_second_run_of_passes_does_not_join_the_two():
    graph = step_graph("full")
    products = [eq.op.name for eq in graph.equations].count("matmul")
    again = optimize(optimize(graph))
    assert [eq.op.name for eq in again.equations].count("matmul") == products


# -- models ---------------------------------------------------------------------------------------


def trained(mode, eager, policy="float32", **settings):
    gpunet.dtype_policies.set_dtype_policy(policy)
    try:
        gpunet.utils.set_random_seed(3)
        with gpunet.RematScope(mode, **settings):
            blocks = [Block() for _ in range(3)]
        model = gpunet.Sequential([gpunet.Input((16,)), *blocks, layers.Dense(1)])
        model.compile(gpunet.optimizers.Adam(0.01), "mse", run_eagerly=eager)
        x = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
        with np.errstate(over="ignore", invalid="ignore"):  # a step that overflows is left out
            losses = model.fit(x, x[:, :1], batch_size=16, epochs=2, verbose=0).history["loss"]
        return [losses, *[v.numpy() for v in [*model.variables, *model.optimizer.variables]]]
    finally:
        gpunet.dtype_policies.set_dtype_policy("float32")


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_fit_has_the_same_bits(eager, policy):
    assert_same(trained("full", eager, policy), trained(None, eager, policy))


@pytest.mark.parametrize("mode", ["activations", "larger_than", "list_of_layers"])
def test_modes_have_the_same_numbers(mode):
    for y, reference in zip(trained(mode, False), trained(None, False), strict=True):
        np.testing.assert_allclose(y, reference, rtol=1e-4, atol=1e-5)


class Counting(layers.Layer):
    calls = 0

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = activation

    def call(self, x):
        self.calls += 1
        return x * 2 if self.activation is None else self.activation(x * 2)


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        ({}, True),
        ({"mode": "full"}, True),
        ({"mode": None}, False),
        ({"mode": "larger_than", "output_size_threshold": 11}, True),
        ({"mode": "larger_than", "output_size_threshold": 12}, False),
        ({"mode": "list_of_layers", "layer_names": ["mine"]}, True),
        ({"mode": "list_of_layers", "layer_names": ["other"]}, False),
        ({"mode": "activations"}, False),
    ],
)
def test_which_layers_run_again(settings, again):
    with gpunet.RematScope(**settings):
        layer = Counting(name="mine")
    for _ in range(2):
        layer.calls = 0
        _, gradient = gradients(lambda x: ops.sum(layer(x)), [X])
        assert layer.calls == (2 if again else 1)
        np.testing.assert_array_equal(gradient, np.full_like(X, 2))
    assert pickle.loads(pickle.dumps(layer._remat_mode)) == layer._remat_mode


def test_activations_alone_run_again():
    calls = []
    with gpunet.RematScope("activations"):
        layer = Counting(lambda x: calls.append(1) or ops.exp(x))
    activation = layer.activation
    gradients(lambda x: ops.sum(layer(x)), [X])
    assert (layer.calls, len(calls), layer.activation is activation) == (1, 2, True)


def test_the_innermost_scope_where_a_layer_is_made_counts():
    with gpunet.RematScope("full"):
        outer = Counting()
        with gpunet.RematScope("larger_than", 10**6):
            inner = Counting()
        with gpunet.RematScope(None):
            none = Counting()
        last = Counting()
    free = Counting()
    modes = [layer._remat_mode and layer._remat_mode.mode for layer in (outer, inner, none, last)]
    assert modes == ["full", "larger_than", None, "full"] and free._remat_mode is None
    assert module.current_remat_mode() is None
    with pytest.raises(ArgumentError, match="mode='half'"):
        gpunet.RematScope("half")


def test_a_layer_inside_of_one_runs_again_with_it_only():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Counting()

        def call(self, x):
            return self.inner(x)

    with gpunet.RematScope("full"):
        layer = Outer()
    layer(X)
    layer.inner.calls = 0
    gradients(lambda x: ops.sum(layer(x)), [X])
    assert layer.inner.calls == 2
    with gpunet.RematScope("full"):
        model = gpunet.Sequential([gpunet.Input((4,)), Counting()])
    model.layers[0].calls = 0
    gradients(lambda x: ops.sum(model(x)), [X])
    assert model.layers[0].calls == 2


def test_losses_of_layers_are_added_once():
    class Penalized(layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(x * x))
            return x * 3

    with gpunet.RematScope("full"):
        layer = Penalized()
    _, gradient = gradients(lambda x: ops.sum(layer(x)) + layer.losses[0], [X])
    assert len(layer.losses) == 1
    np.testing.assert_allclose(gradient, 3 + 2 * X, rtol=1e-6)


def test_training_is_as_in_the_first_run():
    """`training` reaches sublayers by itself: the second run must have it, too."""

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dropout = layers.Dropout(0.5, seed=1)

        def call(self, x):
            return self.dropout(x) * x

    for training in (True, False):
        found = []
        for mode in (None, "full"):
            with gpunet.RematScope(mode):
                layer = Outer()
            f = functools.partial(layer, training=training)
            found.append(gradients(lambda x, f=f: ops.sum(f(x)), [X]))
        assert_same(*found)
        assert ((np.array(found[0][1]) == 0).sum() > 2) == training


def test_gradients_are_those_of_keras_with_its_remat():
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(1)
    w = [rng.normal(size=(4, 4)).astype("float32") for _ in range(3)]
    theirs = jax.checkpoint(lambda x, w: jax.numpy.tanh(x @ w) * x)
    ours = gpunet.checkpoint(lambda x, w: ops.tanh(x @ w) * x)

    def chain(f):
        return lambda x, a, b, c: f(f(f(x, a), b), c).sum()

    expected = jax.grad(chain(theirs), (0, 1, 2, 3))(X, *w)
    for y, reference in zip(gradients(chain(ours), [X, *w])[1:], expected, strict=True):
        np.testing.assert_allclose(y, reference, rtol=2e-5, atol=1e-5)
