"""Control flow: choices, loops, scans; what unrolls in a trace and what is a graph of its own."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, GradientError, ShapeError, TraceError
from gpunet.testing import check_gradients
from tests.ops.peer import assert_same_as_keras


def _running_sum(carry, x):
    return carry + x, carry * x


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_that_of_keras(rng, reverse):
    init, xs = rng.standard_normal(3).astype("float32"), rng.standard_normal((4, 3)).astype("f")
    assert_same_as_keras("scan", _running_sum, init, xs, reverse=reverse)
    check_gradients(
        lambda a, b: ops.scan(_running_sum, a, b, reverse=reverse), [init, xs], tol=1e-5
    )


def test_scan_over_nests_and_over_nothing():
    xs = {"a": ops.arange(3), "b": ops.ones((3, 2))}
    carry, ys = ops.scan(lambda c, x: (c + x["a"], (x["b"], c)), 0, xs)
    assert carry.item() == 3 and ys[0].shape == (3, 2) and ys[1].tolist() == [0, 0, 1]
    carry, ys = ops.scan(lambda c, x: (c + 1, None), 0, length=4)
    assert carry == 4 and ys is None


def test_associative_scan(rng):
    x = rng.standard_normal((5, 3)).astype("float32")
    for axis in (0, 1):
        for reverse in (False, True):
            assert_same_as_keras(
                "associative_scan", lambda a, b: a + b, x, axis=axis, reverse=reverse
            )


@pytest.mark.parametrize("name", ["map", "vectorized_map"])
def test_map(rng, name):
    x = rng.standard_normal((4, 3)).astype("float32")
    assert_same_as_keras(name, lambda row: row * row[0], x)
    pairs = getattr(ops, name)(lambda ab: ab[0] + ab[1], (gpunet.tensor(x), gpunet.tensor(x)))
    np.testing.assert_array_equal(pairs, x + x)


@pytest.mark.parametrize(("index", "expected"), [(0, 1), (1, 20), (9, 300), (-4, 1)])
def test_switch_limits_the_index(index, expected):
    branches = [lambda x: x * 1, lambda x: x * 20, lambda x: x * 300]
    for i in (index, gpunet.tensor(index)):
        assert ops.switch(i, branches, 1) == expected
    with pytest.raises(ArgumentError, match="one branch"):
        ops.switch(0, [])


def test_loops():
    assert ops.while_loop(lambda i: i < 5, lambda i: i + 1, 0) == 5
    i, total = ops.while_loop(
        lambda i, t: i < 4, lambda i, t: (i + 1, t + i), (gpunet.tensor(0), gpunet.tensor(0))
    )
    assert (i.item(), total.item()) == (4, 6)
    assert ops.while_loop(lambda i: True, lambda i: (i + 1,), (0,), maximum_iterations=3) == (3,)
    assert ops.fori_loop(gpunet.tensor(1), 4, lambda i, x: x * i, 1) == 6


def test_gradients_flow_through_the_branch_taken():
    f = lambda x: ops.cond(x > 0, lambda: x * 3, lambda: x * 5)  # noqa: E731
    assert gpunet.grad(f)(1.0).item() == 3 and gpunet.grad(f)(-1.0).item() == 5


def test_loops_with_known_numbers_unroll():
    graph = trace(lambda x: ops.fori_loop(0, 3, lambda i, y: y * x, x), ops.ones(3))
    assert [eq.op.name for eq in graph.equations] == ["multiply"] * 3
    graph = trace(lambda x: ops.scan(_running_sum, x[0], x)[0], ops.ones((3, 2)))
    assert graph(gpunet.tensor(np.ones((3, 2), "f")))[0].tolist() == [4.0, 4.0]


def test_scan_errors():
    with pytest.raises(ShapeError, match=r"lengths=\[2, 3\]"):
        ops.scan(_running_sum, 0, (ops.ones(2), ops.ones(3)))
    with pytest.raises(ArgumentError, match="xs"):
        ops.scan(_running_sum, 0)


# -- decided by values, in a trace ----------------------------------------------------------------

KINDS = ["cpu", "emulator"]
UP, DOWN, FAR = [1.0, 2.0], [-1.0, -2.0], [-9.0, 1.0]


@pytest.fixture(params=KINDS)
def place(request):
    with gpunet.device(request.param):
        yield request.param


def assert_traced(f, *arguments, tolerance=1e-6):
    """A function computes the same eagerly, replayed op by op and compiled, four times."""
    function = gpunet.function(f)
    for values in arguments:
        xs = [gpunet.tensor(x) for x in values]
        expected = gpunet.tree.flatten(f(*xs))
        graph = trace(f, *xs)
        found = [gpunet.tree.flatten(function(*xs)) for _ in range(4)]
        for results in [graph(*xs), *found]:
            for y, reference in zip(results, expected, strict=True):
                assert y.dtype == gpunet.tensor(reference).dtype
                np.testing.assert_allclose(y, reference, rtol=tolerance, atol=1e-7)
    assert function.trace_count == 1
    return function


def gradient_of(f, *variables):
    """All gradients of the sum of what a function returns, as a function."""

    def gradient(*xs):
        with gpunet.GradientTape() as tape:
            tape.watch(xs)
            y = sum(ops.sum(y) for y in gpunet.tree.flatten(f(*xs)))
        return tape.gradient(y, [*xs, *variables], unconnected_gradients="zero")

    return gradient


def test_a_choice_is_one_equation(place):
    f = lambda x: ops.cond(ops.sum(x) > 0, lambda: x * 3, lambda: ops.sin(x) * x)  # noqa: E731
    assert_traced(f, [UP], [DOWN])
    assert_traced(gradient_of(f), [UP], [DOWN])
    names = [eq.op.name for eq in trace(f, ops.ones(2)).equations]
    assert names == ["sum", "greater", "cond"]


def test_gradients_of_gradients_through_a_choice():
    f = lambda x: ops.cond(ops.sum(x) > 0, lambda: x**3, lambda: ops.sin(x) * x)  # noqa: E731
    second = gradient_of(gradient_of(f))
    assert_traced(second, [UP], [DOWN])
    np.testing.assert_allclose(gpunet.function(second)(gpunet.tensor(UP))[0], [6, 12], rtol=1e-6)
    assert_traced(gradient_of(second), [UP], [DOWN])


def test_values_outside_count_once():
    """`y` is made of `x`; a branch that uses both adds to each gradient its own part only."""

    def f(x):
        y = x * x
        return ops.cond(ops.sum(x) > 0, lambda: x * y, lambda: y + x)

    assert_traced(gradient_of(f), [UP], [DOWN])
    found = gpunet.function(gradient_of(f))(gpunet.tensor(UP))[0]
    np.testing.assert_allclose(found, 3 * np.square(UP), rtol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2, 9, -4])
def test_switch_with_gradients(place, index):
    def f(i, x, y):
        branches = [lambda x, y: (x, y), lambda x, y: (y, x * y), lambda x, y: (x * x, x + 1)]
        return ops.switch(i, branches, x, y)

    g = lambda i, x, y: gradient_of(lambda x, y: f(i, x, y))(x, y)  # noqa: E731
    assert_traced(f, [np.int32(index), UP, DOWN])
    assert_traced(g, [np.int32(index), UP, DOWN])


def test_choices_within_choices_and_loops(place):
    def inner(x):
        return ops.cond(x[0] > -5, lambda: x * x, lambda: ops.cond(x[1] > 5, lambda: x, lambda: -x))

    def f(x):
        return ops.cond(ops.sum(x) > 0, lambda: x, lambda: inner(x * 2) + x)

    assert_traced(f, [UP], [DOWN], [FAR])
    assert_traced(gradient_of(f), [UP], [DOWN], [FAR])
    loop = lambda x: ops.while_loop(  # noqa: E731
        lambda x, n: ops.sum(x) < 20,
        lambda x, n: (ops.cond(n % 2 == 0, lambda: x * 1.5, lambda: inner(x) + 1), n + 1),
        (x, gpunet.tensor(0)),
    )
    assert_traced(loop, [UP], [[3.0, 30.0]])


def test_variables_in_branches(place):
    scale = gpunet.Variable([2.0, 3.0])
    count, other = (gpunet.Variable(0, dtype="int32", trainable=False) for _ in range(2))

    def f(x):
        def yes():
            count.assign_add(1)
            count.assign_add(1)
            return x * scale

        def no():
            other.assign(count.value + 100)
            return scale * scale * x

        return ops.cond(ops.sum(x) > 0, yes, no)

    run = gpunet.function(gradient_of(f, scale))
    for values, expected in ((UP, (2, 0)), (UP, (4, 0)), (DOWN, (4, 104)), (UP, (6, 104))):
        found = run(gpunet.tensor(values))
        assert (count.numpy(), other.numpy()) == expected
        before = count.numpy(), other.numpy()
        for y, reference in zip(found, gradient_of(f, scale)(gpunet.tensor(values)), strict=True):
            np.testing.assert_allclose(y, reference, rtol=1e-6)
        count.assign(before[0])
        other.assign(before[1])


def test_variables_go_from_turn_to_turn(place):
    total = gpunet.Variable(1.0, trainable=False)

    def f(x):
        def body(x):
            total.assign(total * 2 + ops.abs(x[0]))
            return x + total

        y = ops.while_loop(lambda x: (ops.sum(x) < 50) & (total < 40), body, x, 20)
        return y, total.value

    run = gpunet.function(f)
    for values in (UP, UP, DOWN, [100.0, 0.0]):
        total.assign(1.0)
        expected = [np.array(y) for y in f(gpunet.tensor(values))] + [total.numpy().copy()]
        total.assign(1.0)
        found = [*run(gpunet.tensor(values)), total]
        for y, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(y, reference, rtol=1e-6)


def test_random_draws_inside(place):
    seed = gpunet.random.SeedGenerator(3)

    def f(x):
        noisy = lambda: x * gpunet.random.uniform((2,), seed=seed)  # noqa: E731
        y = ops.cond(ops.sum(x) > 0, noisy, lambda: x)
        draw = lambda y: y + gpunet.random.uniform((2,), seed=seed)  # noqa: E731
        return y, ops.while_loop(lambda y: ops.sum(y) < 5, draw, y)

    outcomes = []
    for run in (f, gpunet.function(f)):
        seed.state.assign(np.array([3, 0], np.uint32))
        outcomes.append([np.array(y) for v in (UP, DOWN, UP) for y in run(gpunet.tensor(v))])
        outcomes[-1].append(seed.state.numpy().copy())
    for y, reference in zip(*outcomes, strict=True):
        np.testing.assert_allclose(y, reference, rtol=1e-6)
    assert (outcomes[0][0] != outcomes[0][4]).any()


def test_an_early_stop(place):
    """Newton's method for square roots, until all are good enough."""

    def roots(x):
        wrong = lambda y, n: ops.max(ops.abs(y * y - x)) > 1e-4  # noqa: E731
        return ops.while_loop(wrong, lambda y, n: ((y + x / y) / 2, n + 1), (x, 0), 30)

    run = gpunet.function(roots)
    for values, turns in (([4.0, 9.0], 5), ([1.0, 1.0], 0), ([1e16, 1.0], 30)):
        y, n = run(gpunet.tensor(values))
        assert (int(n), int(roots(gpunet.tensor(values))[1])) == (turns, turns)
        if turns < 30:
            np.testing.assert_allclose(y, np.sqrt(values), rtol=1e-4)


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_maximum_iterations(limit):
    f = lambda x: ops.while_loop(lambda x: ops.sum(x) < 1e6, lambda x: x * 2, x, limit)  # noqa: E731
    assert_traced(f, [UP], [[1e7, 0.0]])
    assert gpunet.function(f)(gpunet.tensor(UP)).tolist() == [2.0**limit, 2 * 2.0**limit]


def test_fori_loop_with_a_traced_end(place):
    f = lambda n, x: ops.fori_loop(1, n, lambda i, y: y * x + i, 0.0)  # noqa: E731
    assert_traced(f, [5, 1.5], [0, 1.5], [2, -0.5])
    assert "while_loop" in str(trace(f, gpunet.tensor(5), gpunet.tensor(1.5)))


def test_numbers_take_the_dtype_of_the_other_branch():
    f = lambda x: ops.cond(x > 0, lambda: (x, 1), lambda: (0, 2.5))  # noqa: E731
    y, n = gpunet.function(f)(gpunet.tensor(-1.0))
    assert (y.dtype.name, y.item(), n.dtype.name, n.item()) == ("float32", 0, "float32", 2.5)


def test_what_is_not_traced_when_python_knows():
    f = lambda x: ops.cond(x.shape[0] > 2, lambda: x * 3, lambda: "not a tensor")  # noqa: E731
    assert [eq.op.name for eq in trace(f, ops.ones(3)).equations] == ["multiply"]
    assert trace(lambda x: ops.switch(1, [lambda: x, lambda: x + 1]), ops.ones(3)).equations


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: ops.cond(x[0] > 0, lambda: x, lambda: x[0]), r"same shapes.*float32\[\]"),
        (lambda x: ops.cond(x[0] > 0, lambda: x, lambda: x > 0), "same shapes and dtypes"),
        (lambda x: ops.cond(x[0] > 0, lambda: x, lambda: (x,)), "same nest"),
        (lambda x: ops.cond(x[0] > 0, lambda: x, lambda: None), "same nest"),
        (lambda x: ops.cond(x[0] > 0, lambda: "a", lambda: "b"), "return tensors"),
        (lambda x: ops.while_loop(lambda y: y[0] < 3, lambda y: y[0], x), "keep shapes"),
        (lambda x: ops.while_loop(lambda y: y[0] < 3, lambda y: (y, y), x), "what it takes"),
        (lambda x: ops.while_loop(lambda y: y[0] < 3, lambda y: y, x, x[0]), "maximum_iter"),
        (lambda x: x if x[0] > 0 else -x, "ops.cond"),
    ],
)
def test_what_cannot_be_traced_says_where(f, message):
    with pytest.raises(TraceError, match=rf"(?s){message}.*test_control.py, line \d+: `.*lambda x"):
        gpunet.function(f)(ops.ones(3))


def test_a_predicate_has_one_element():
    for f in (
        lambda x: ops.cond(x > 0, lambda: x, lambda: x),
        lambda x: ops.switch(ops.cast(x, "int32"), [lambda: x, lambda: x]),
        lambda x: ops.while_loop(lambda y: y > 0, lambda y: y, x),
    ):
        with pytest.raises(ShapeError, match=r"one element.*shape=\(3,\)"):
            gpunet.function(f)(ops.ones(3))


def test_a_loop_of_unknown_length_has_no_gradient_in_a_graph():
    f = lambda x: ops.while_loop(lambda y: ops.sum(y) < 9, lambda y: y * 2, x)  # noqa: E731
    assert gpunet.function(gradient_of(lambda x: x * ops.stop_gradient(f(x))))(ops.ones(2))
    np.testing.assert_array_equal(gradient_of(f)(ops.ones(2))[0], [8, 8])
    for fails in (f, lambda x: ops.cond(x[0] > 0, lambda: f(x), lambda: x)):
        with pytest.raises(GradientError, match=r"`scan` with\s+a number"):
            gpunet.function(gradient_of(fails))(ops.ones(2))


def test_a_gradient_inside_of_a_loop(place):
    """Descent to a minimum: the gradient belongs to the body."""
    slope = gpunet.grad(lambda x: ops.sum((x - 3) ** 2))
    f = lambda x: ops.while_loop(  # noqa: E731
        lambda x: ops.max(ops.abs(x - 3)) > 1e-3, lambda x: x - 0.25 * slope(x), x
    )
    assert_traced(f, [UP], [DOWN])


def test_custom_gradients_inside():
    @gpunet.custom_gradient
    def passed(x):
        return ops.round(x), lambda g: g * 10

    f = lambda x: ops.cond(  # noqa: E731
        ops.sum(x) > 0, lambda: passed(x), lambda: ops.stop_gradient(x) * x
    )
    assert_traced(gradient_of(f), [UP], [DOWN])
    assert gpunet.function(gradient_of(f))(gpunet.tensor(UP))[0].tolist() == [10, 10]


def test_gradients_are_those_of_jax():
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 4)).astype("f"), rng.normal(size=(4, 4)).astype("f")

    def ours(x, w):
        hidden = x @ w
        return ops.cond(ops.sum(hidden) > 0, lambda: ops.tanh(hidden) @ w, lambda: ops.exp(-hidden))

    def theirs(x, w):
        hidden = x @ w
        tanh = lambda: jax.numpy.tanh(hidden) @ w  # noqa: E731
        return jax.lax.cond(hidden.sum() > 0, tanh, lambda: jax.numpy.exp(-hidden)).sum()

    for sign in (1, -1):
        expected = jax.grad(theirs, (0, 1))(x * sign, w)
        found = gpunet.function(gradient_of(ours))(gpunet.tensor(x * sign), gpunet.tensor(w))
        for y, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(y, reference, rtol=2e-5, atol=2e-5)


def test_a_graph_with_choices_and_loops_is_printed_drawn_and_kept(tmp_path):
    v = gpunet.Variable(2.0, name="v")

    @gpunet.function
    def f(x):
        y = ops.cond(ops.sum(x) > 0, lambda: x * np.float32([3, 4]) * v, lambda: -x)
        return ops.while_loop(lambda y: ops.sum(y) < 9, lambda y: y + ops.abs(x), y)

    graph = f.graph(gpunet.tensor(UP))
    assert "equations>" in str(graph) and "cond" in graph.draw()
    graph.save(tmp_path / "graph.safetensors")
    read = type(graph).load(tmp_path / "graph.safetensors")
    again = gpunet.compile.Executable(gpunet.compile.optimize(read))
    for values in (UP, DOWN):
        x = gpunet.tensor(values)
        np.testing.assert_array_equal(read(x)[0], f(x))
        np.testing.assert_array_equal(again(x)[0], f(x))


def test_equal_branches_of_different_choices_are_not_mixed_up():
    def f(x):
        a = ops.cond(x[0] > 0, lambda: x * 2, lambda: x)
        b = ops.cond(x[0] > 0, lambda: x * 3, lambda: x)
        return a, b

    assert [y.tolist() for y in gpunet.function(f)(ops.ones(1))] == [[2.0], [3.0]]


def test_a_replayed_graph_has_gradients_on_a_tape():
    graph = trace(lambda x: ops.cond(x[0] > 0, lambda: x * x, lambda: -x), ops.ones(2))
    with gpunet.GradientTape() as tape:
        x = gpunet.tensor(UP)
        tape.watch(x)
        y = graph(x)[0]
    assert tape.gradient(y, x).tolist() == [2, 4]


def test_functional_models_may_choose():
    x = gpunet.Input((3,))
    y = gpunet.layers.Lambda(lambda x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: -x))(x)
    model = gpunet.Model(x, y)
    for values in (np.ones((2, 3), "f"), -np.ones((2, 3), "f")):
        expected = values * 2 if values.sum() > 0 else -values
        np.testing.assert_array_equal(model.predict(values, verbose=0), expected)
