"""Programs: planned memory, Variables updated in place, and everything NumPy's rules do between."""

import multiprocessing
import threading
import weakref

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.backend import native
from gpunet.compile import Program, optimize
from gpunet.core.primitive import REGISTRY, Primitive
from gpunet.core.trace import Symbol, trace
from gpunet.core.variable import Variable

if reason := native.reason_missing():
    pytest.fail(f"C++ kernels cannot be tested here: {reason}", pytrace=False)


def program(f, *args):
    return Program(optimize(trace(f, *args)))


def numbers(*shape, seed=0):
    return gpunet.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def test_kernels_and_rules_take_turns():
    x = numbers(5, 7)

    def f(x):
        y = ops.exp(x @ x.T)  # kernels
        return ops.cumsum(ops.sort(y, axis=1) * 2, axis=0) + y  # `sort` has none

    run = program(f, x)
    assert "(NumPy)" in run.source and "matmul" in run.source
    np.testing.assert_allclose(run(x)[0], f(x), rtol=1e-5)
    other = numbers(5, 7, seed=1)
    np.testing.assert_allclose(run(other)[0], f(other), rtol=1e-5)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.T + 1,
        lambda x: x[1:, ::-2] * 2,
        lambda x: ops.transpose(x[None], (2, 0, 1)).reshape((8, 6)) + 1,
        lambda x: ops.sum(ops.broadcast_to(x[:, None], (6, 3, 8)) * 2, axis=1),
        lambda x: ops.split(x, 2, axis=1)[1] @ ops.split(x, 2, axis=1)[0].T,
        lambda x: ops.stack(ops.unstack(x, axis=1), axis=0) - 1,
        lambda x: ops.sort(x.T, axis=0)[2:5] + 1,
        lambda x: x[::-1, ::-1] + x,
        lambda x: x,
        lambda x: x.T,
        lambda x: ops.ones((2, 2)),
        lambda x: x[:0] * 2,
        lambda x: ops.stack([x[0, 0], x[1, 2], ops.unstack(x[0])[3]]),
        lambda x: ops.sum(x, axis=None) * x,
    ],
)
def test_views(f):
    x = numbers(6, 8)
    (y,) = program(f, x)(x)
    assert (y.shape, y.dtype) == (f(x).shape, f(x).dtype)
    np.testing.assert_allclose(y, f(x), rtol=1e-6)


def test_results_are_the_callers():
    x = numbers(40)
    run = program(lambda x: x * 2, x)
    first = run(x)[0]
    kept = first.numpy().copy()
    run(numbers(40, seed=3))
    np.testing.assert_array_equal(first, kept)


def test_memory_is_shared_by_what_does_not_meet():
    def f(x):
        for _ in range(20):
            x = ops.tanh(x @ x)
        return x

    x = numbers(64, 64)
    run = program(f, x)
    assert run.arena <= 4 * x.data.nbytes  # of 41 arrays
    np.testing.assert_allclose(run(x)[0], f(x), rtol=2e-5, atol=1e-6)


def update(v, g):
    v.assign(v - g * 0.5)


def test_variables_are_written():
    v, g = Variable(numbers(30)), numbers(30, seed=1)
    expected = v.numpy() - g.numpy() * 0.5
    program(lambda g: update(v, g), g)(g)
    np.testing.assert_array_equal(v, expected)


@pytest.mark.parametrize("held", ["numpy", "value", "view", "other variable"])
def test_who_holds_the_old_value_keeps_it(held):
    v, g = Variable(numbers(30)), numbers(30, seed=1)
    optimizer = gpunet.optimizers.SGD(0.5)
    optimizer.build([v])
    run = program(lambda g: optimizer.apply([g], [v]), g)
    run(g)  # from now on the program knows the array
    if held == "numpy":
        old = v.numpy()
    elif held == "value":
        old = v.value
    elif held == "view":
        old = np.asarray(v)[3:9]
    else:
        old = Variable(np.zeros(30, "float32"))
        old.assign(v.value)
    before, copy = v.numpy().copy(), np.array(old)
    run(g)
    np.testing.assert_array_equal(old, copy)
    np.testing.assert_allclose(v, before - 0.5 * g.numpy(), rtol=1e-6)


def test_updates_are_in_place_where_nobody_looks():
    v, g = Variable(numbers(30)), numbers(30, seed=1)
    optimizer = gpunet.optimizers.Adam(0.5)
    optimizer.build([v])
    run = program(lambda g: optimizer.apply([g], [v]), g)
    run(g)
    address = v._data.ctypes.data
    run(g)
    assert v._data.ctypes.data == address


def test_averages_are_in_place():
    v, g = Variable(numbers(30)), numbers(30, seed=1)
    average = REGISTRY["average_update"]
    run = program(lambda g: v.assign(average(v.value, g, momentum=0.5)), g)
    assert "copy" not in run.source


def test_a_variable_assigned_between_runs():
    v, g = Variable(numbers(30)), numbers(30, seed=1)
    run = program(lambda g: update(v, g), g)
    run(g)
    v.assign(np.ones(30, "float32"))
    run(g)
    np.testing.assert_array_equal(v, 1 - g.numpy() * 0.5)
    v.assign(np.ones((30, 2), "float32")[:, 1])  # not contiguous
    run(g)
    np.testing.assert_array_equal(v, 1 - g.numpy() * 0.5)


def test_a_variable_that_is_read_only_is_a_result():
    v, x = Variable(numbers(4, 5)), numbers(3)
    run = program(lambda x: (v.value, ops.transpose(v.value)[1:], x + 1), x)
    for value in (v.numpy().copy(), np.ones((4, 5), "float32")):
        v.assign(value)
        whole, part, _ = run(x)
        np.testing.assert_array_equal(whole, value)
        np.testing.assert_array_equal(part, value.T[1:])
    v.assign(v * 2)
    np.testing.assert_array_equal(whole, value)


def test_a_variable_gets_a_constant():
    v, x = Variable(numbers(4, 5)), numbers(3)

    def f(x):
        v.assign(ops.ones((4, 5)))
        return x + 1

    run = gpunet.function(f)
    run(x)
    np.testing.assert_array_equal(v, np.ones((4, 5)))
    update(v, ops.ones((4, 5)))
    run(x)
    np.testing.assert_array_equal(v, np.ones((4, 5)))


def test_two_variables_change_places():
    a, b = Variable(numbers(9)), Variable(numbers(9, seed=1))
    x, y = a.numpy().copy(), b.numpy().copy()

    def swap():
        old = a.value
        a.assign(b.value)
        b.assign(old)
        return old

    run = program(swap)
    (old,) = run()
    np.testing.assert_array_equal(old, x)
    np.testing.assert_array_equal(a, y)
    np.testing.assert_array_equal(b, x)


def test_a_variable_and_its_transpose():
    a, b = Variable(numbers(4, 4)), Variable(numbers(4, 4, seed=1))
    x = a.numpy().copy()

    def f():
        turned = ops.transpose(a.value)
        a.assign(a.value * 2)
        b.assign(turned)
        return turned

    (turned,) = program(f)()
    np.testing.assert_array_equal(turned, x.T)
    np.testing.assert_array_equal(b, x.T)
    np.testing.assert_array_equal(a, 2 * x)


def test_a_failed_run_changes_no_variable():
    v, table = Variable(numbers(3)), Variable(numbers(4, 3))
    optimizer = gpunet.optimizers.SGD(0.5)
    optimizer.build([v])

    def f(i):
        optimizer.apply([ops.take(table, i, axis=0)], [v])

    run = program(f, gpunet.tensor(2))
    run(gpunet.tensor(2))
    before = v.numpy().copy(), int(optimizer.iterations)
    with pytest.raises((IndexError, ValueError), match=r"range|bounds"):
        run(gpunet.tensor(9))
    np.testing.assert_array_equal(v, before[0])
    assert int(optimizer.iterations) == before[1]


def test_a_scatter_that_fails_changes_no_variable():
    a, b, x = Variable(numbers(3)), Variable(numbers(3, 2)), numbers(3)
    rows = numbers(1, 2)

    def f(x, i):
        a.assign(REGISTRY["average_update"](a.value, x, momentum=0.5))
        b.assign(ops.scatter_update(b.value, i, rows))

    run = program(f, x, gpunet.tensor([[1]]))
    run(x, gpunet.tensor([[1]]))
    before = a.numpy().copy(), b.numpy().copy()
    with pytest.raises(gpunet.errors.ShapeError, match="out of bounds"):
        run(x, gpunet.tensor([[7]]))
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_an_input_that_is_read_twice_stays_while_it_is_read():
    x, i = numbers(3, 2), gpunet.tensor([[2], [1], [0]])

    def reverse(x, i):
        y = ops.negative(x)
        return ops.scatter_update(y, i, y)

    np.testing.assert_array_equal(program(reverse, x, i)(x, i)[0], -x.numpy()[::-1])


def test_two_threads_run_one_program():
    run = program(lambda x: ops.tanh(x @ x) @ x, numbers(50, 50))
    inputs = [numbers(50, 50, seed=i) for i in range(4)]
    expected = [run(x)[0].numpy() for x in inputs]
    wrong = []

    def work(i):
        for _ in range(30):
            if run(inputs[i])[0].numpy().tobytes() != expected[i].tobytes():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def _in_a_child(seed):
    x = numbers(300, 300, seed=seed)
    return float(program(lambda x: ops.tanh(x @ x).sum(), x)(x)[0])


def test_an_array_that_kernels_read_is_not_freed():
    v, x = Variable(numbers(40)), numbers(40, seed=1)
    old, array = v.numpy().copy(), weakref.ref(v._data)
    alive = []

    def assign(xp, x):  # as another thread may, at any time
        v._data = np.zeros(40, "float32")
        alive.append(array() is not None)
        return x

    meanwhile = Primitive("meanwhile(x) -> y", {})
    meanwhile.array(assign)
    meanwhile.infer(lambda x: Symbol(x.shape, x.dtype))
    (y,) = program(lambda x: meanwhile(x) + v, x)(x)
    np.testing.assert_array_equal(y, x.numpy() + old)
    assert alive == [True]


def test_a_forked_process_has_threads_of_its_own():
    here = _in_a_child(0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_in_a_child, (0,)).get(30) == here


def test_the_same_bits_every_time():
    x = numbers(200, 300)
    run = program(lambda x: ops.softmax(x @ x.T).sum(axis=0), x)
    first = run(x)[0].numpy().tobytes()
    assert all(run(x)[0].numpy().tobytes() == first for _ in range(20))


def test_without_kernels_the_bits_are_those_of_eager_ops():
    x = numbers(20, 30)
    f = gpunet.function(lambda x: ops.softmax(ops.tanh(x @ x.T)))
    with_kernels = f(x)
    gpunet.config.set_cpu_kernels(False)
    try:
        eager = ops.softmax(ops.tanh(x @ x.T))
        np.testing.assert_array_equal(f(x), eager)
    finally:
        gpunet.config.set_cpu_kernels(True)
    np.testing.assert_allclose(with_kernels, eager, rtol=1e-5)
    assert f.trace_count == 2


def test_graphs_run_on_numpy_where_nothing_can_be_compiled(monkeypatch):
    def runtime():
        raise gpunet.errors.DeviceError("The folder cannot be written.")

    monkeypatch.setattr(native, "runtime", runtime)
    with pytest.warns(UserWarning, match="run on NumPy, slower: The folder cannot be written"):
        assert native.reason_missing.__wrapped__() == "The folder cannot be written."
