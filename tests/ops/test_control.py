"""Control flow: choices, loops, scans; what unrolls in a trace and what cannot be traced."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, ShapeError, TraceError
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


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ops.cond(x.sum() > 0, lambda: x, lambda: -x),
        lambda x: ops.switch(ops.cast(x[0], "int32"), [lambda: x, lambda: -x]),
        lambda x: ops.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x),
        lambda x: ops.fori_loop(0, ops.cast(x[0], "int32"), lambda i, y: y + i, x),
    ],
)
def test_values_cannot_decide_while_tracing(f):
    with pytest.raises(TraceError, match=r"where|depends on values"):
        trace(f, ops.ones(3))


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
