"""`gpunet.function`: one graph a signature, Variables, methods, errors, and when Python runs."""

import gc
import weakref

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.backend import native
from gpunet.errors import ArgumentError, ShapeError, TraceError


@pytest.fixture
def counted():
    """A function that counts how often Python runs it."""

    def f(x, scale=2):
        f.runs += 1
        return {"y": x * scale, "n": None}

    f.runs = 0
    return f, gpunet.function(f)


def test_python_runs_once_for_a_signature(counted):
    f, g = counted
    for i in range(3):
        out = g(gpunet.tensor([1.0, i]))
        assert out["y"].tolist() == [2.0, 2.0 * i] and out["n"] is None
    assert f.runs == g.trace_count == 1
    g(gpunet.tensor([1.0, 2.0, 3.0]))
    g(gpunet.tensor([1, 2]))
    g(gpunet.tensor([1.0, 2.0]), scale=3)
    assert g(np.array([1.0, 2.0], "float32"))["y"].tolist() == [2.0, 4.0]
    assert f.runs == 4
    assert g.explain().splitlines() == [
        "1. the first call",
        "2. argument 1 was float32[2] and is float32[3]",
        "3. argument 1 was float32[3] and is int32[2]",
        "4. arguments are nested differently",
    ]


def test_numbers_of_other_types_are_other_arguments():
    g = gpunet.function(lambda x, n: x * n)
    x = gpunet.tensor([1, 2])
    assert [g(x, n).dtype.name for n in (1, 1.0, True)] == ["int32", "float32", "int32"]
    assert g.trace_count == 3


def test_nests_of_tensors():
    @gpunet.function
    def f(pair, *, named):
        return [pair[0] + named["b"], (pair[1],)]

    one = gpunet.tensor(1.0)
    out = f((one, one * 2), named={"b": one * 3})
    assert out[0].item() == 4 and out[1][0].item() == 2


def test_variables_are_read_and_written():
    v, step = gpunet.Variable([1.0, 2.0]), gpunet.Variable(0, dtype="int32")

    @gpunet.function
    def f(x):
        step.assign_add(1)
        v.assign(v + x)
        return v * 2

    assert f(gpunet.tensor(1.0)).tolist() == [4.0, 6.0]
    v.assign([10.0, 20.0])
    assert f(gpunet.tensor(1.0)).tolist() == [22.0, 42.0]
    assert v.numpy().tolist() == [11.0, 21.0] and step.numpy() == 2
    assert f.trace_count == 1


def test_a_failed_step_names_the_op_and_writes_no_variable(monkeypatch, without_kernels):
    v = gpunet.Variable(1.0)

    @gpunet.function
    def f(x):
        v.assign(x.sum())
        return ops.exp(x)

    f(gpunet.tensor([[1.0]]))
    executable = next(iter(f._traced.values())).executable
    monkeypatch.setitem(executable._run.__globals__, "exp", lambda x: x.reshape(7))
    with pytest.raises(ShapeError, match=r"exp: cannot reshape.*Received: \(1, 1\) float32"):
        f(gpunet.tensor([[5.0]]))
    assert v.numpy() == 1.0


def test_a_whole_training_step(without_kernels):
    layer, optimizer = gpunet.layers.Dense(3), gpunet.optimizers.Adam(0.1)
    twin, other = gpunet.layers.Dense(3), gpunet.optimizers.Adam(0.1)

    def train(layer, optimizer, x):
        with gpunet.GradientTape() as tape:
            loss = (layer(x) ** 2).mean()
        optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
        return loss

    x = gpunet.random.normal((5, 4), seed=1)
    for each in (layer, twin):
        each.build((None, 4))
    twin.set_weights(layer.get_weights())
    compiled = gpunet.function(train)
    for _ in range(20):
        loss, expected = compiled(layer, optimizer, x), train(twin, other, x)
        assert loss.item() == expected.item()
    for w, reference in zip(layer.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(w, reference)
    assert compiled.trace_count <= 2  # the first call made the optimizer's variables


def test_a_variable_made_trainable_is_another_graph():
    v = gpunet.Variable(2.0, trainable=False)

    @gpunet.function
    def f(x):
        with gpunet.GradientTape() as tape:
            y = v * x
        gradient = tape.gradient(y, v)
        return ops.zeros(()) if gradient is None else gradient

    x = gpunet.tensor(3.0)
    assert f(x).item() == 0
    v.trainable = True
    assert f(x).item() == 3 and f.trace_count == 2
    assert "made trainable" in f.explain()


def test_draws_differ_from_call_to_call_and_equal_those_of_eager():
    def f():
        return gpunet.random.normal((3,), seed=seed)

    seed = gpunet.random.SeedGenerator(5)
    eager = [f().tolist() for _ in range(3)]
    seed = gpunet.random.SeedGenerator(5)
    compiled = gpunet.function(f)
    assert [compiled().tolist() for _ in range(3)] == eager
    assert eager[0] != eager[1]


def test_inside_of_a_trace_and_under_a_tape_python_runs():
    @gpunet.function
    def square(x):
        return x * x

    @gpunet.function
    def outer(x):
        return square(x) + 1

    x = gpunet.tensor(3.0)
    assert outer(x).item() == 10 and square.trace_count == 0
    assert [eq.op.name for eq in outer.graph(x).equations] == ["multiply", "add"]
    assert gpunet.grad(square)(x).item() == 6 and square.trace_count == 0


def test_methods_have_graphs_for_each_object():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        @gpunet.function
        def apply(self, x):
            return x * self.factor

    two, three = Scale(2.0), Scale(3.0)
    x = gpunet.tensor([1.0])
    assert [s.apply(x).item() for s in (two, three, two)] == [2, 3, 2]
    assert two.apply.trace_count == 1 and two.apply.__name__ == "apply"
    gone = weakref.ref(two)
    del two
    gc.collect()
    assert gone() is None


def test_python_may_not_ask_for_values():
    @gpunet.function
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(TraceError, match=r"ops.where.*test_function.py, line \d+: `if x.sum\(\)"):
        f(gpunet.tensor([1.0]))


def test_arguments_that_cannot_be_told_apart():
    g = gpunet.function(lambda x, s: x)
    with pytest.raises(ArgumentError, match="neither a tensor nor hashable"):
        g(gpunet.tensor(1.0), {1, 2})


def test_many_traces_warn_once_with_the_reason():
    g = gpunet.function(lambda x, n: x * n)
    x = gpunet.tensor(1.0)
    for n in range(7):
        g(x, n)
    with pytest.warns(UserWarning, match="traced 8 times.* argument 2 was 6 and is 7"):
        g(x, 7)
    for n in range(8, 50):
        g(x, n)
    assert len(g._traced) == 32 and g(x, 49).item() == 49 and g.trace_count == 50


def test_the_device_is_part_of_the_signature():
    g = gpunet.function(lambda x: ops.exp(x))
    assert g(gpunet.tensor([0.0])).device.name == "cpu"
    with gpunet.device("emulator"):
        y = g(gpunet.tensor([0.0]))
    assert y.device.name == "emulator" and y.tolist() == [1.0] and g.trace_count == 2


def test_without_tensors_variables_say_where_a_graph_runs():
    with gpunet.device("emulator"):
        count = gpunet.Variable([1.0, 2.0])
    double = gpunet.function(lambda: count.assign(count * 2) or count.value)
    seen = [double() for _ in range(4)]
    assert {double.graph().device.kind, *[y.device.kind for y in seen]} == {"emulator"}
    assert seen[-1].tolist() == [16.0, 32.0]


def test_a_kernel_that_does_not_compile_leaves_the_graph_to_numpy(monkeypatch):
    def refuse(file):
        raise gpunet.errors.KernelError(f"`{file}` does not compile")

    monkeypatch.setattr(native, "library", refuse)
    f = gpunet.function(lambda x: ops.exp(x) @ x)
    x = gpunet.ops.ones((3, 3))
    with pytest.warns(UserWarning, match=r"runs on NumPy, slower.*does not compile"):
        y = f(x)
    np.testing.assert_allclose(y, 3 * np.e, rtol=1e-6)
