"""Graphs on a GPU: planned and replayed on the emulator, and captured on a stand-in for CuPy."""

import contextlib
import re
import types
import warnings

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.backend.device import Device
from gpunet.backend.kernels import Kernel, hooks
from gpunet.compile import cuda_executable
from gpunet.compile.blocks import Placer, Recorder
from gpunet.compile.cuda_executable import CudaExecutable
from gpunet.compile.executable import Executable
from gpunet.compile.inputs import HostArray, Rows
from gpunet.compile.machine import Cuda
from gpunet.compile.passes import optimize
from gpunet.core.primitive import Primitive
from gpunet.core.state import mode
from gpunet.core.trace import Symbol, trace
from gpunet.errors import GpunetError, KernelError
from gpunet.ops.products import matmul_primitive
from tests.compile.fake_cuda import FakeCuPy, unheld

EMULATOR = Device("emulator")


@pytest.fixture(autouse=True)
def on_emulator():
    with gpunet.device("emulator"):
        yield


@pytest.fixture(params=range(4))
def gpu(request, monkeypatch):
    """A GPU that runs emulated kernels some time after they were launched, in some order."""
    fake = FakeCuPy(request.param)
    device = types.SimpleNamespace(xp=fake, index=0, activate=EMULATOR.activate)
    cuda = Cuda(device)
    monkeypatch.setattr(cuda_executable, "machine", lambda device: cuda)
    fake.replaced = matmul_primitive._run, EMULATOR, _matmul_of(fake)
    with fake.running():
        yield fake


def _matmul_of(fake):
    """What stands for cuBLASLt: it multiplies when its turn on the stream comes."""

    def run(x1, x2, transpose1, transpose2):
        a, b = (x.T if t else x for x, t in ((x1, transpose1), (x2, transpose2)))
        y = fake.empty((a.shape[0], b.shape[1]), x1.dtype)
        left, right, out = (unheld(z) for z in (a, b, y))
        fake.current().put(lambda: np.matmul(left, right, out=out))
        return y

    return run


def compiled(f, *args, kind=CudaExecutable):
    with mode(tape=None):
        return kind(optimize(trace(f, *args)))


def training(kind, optimizer="adam", dropout=0.3, steps=6):
    """Losses and final variables of a small MLP; every run of it starts alike."""
    gpunet.random.set_random_seed(1)
    model = gpunet.models.Sequential(
        [
            gpunet.layers.Input((8,)),
            gpunet.layers.Dense(16, activation="relu"),
            gpunet.layers.Dropout(dropout, seed=3),
            gpunet.layers.Dense(4),
        ]
    )
    optimizer = gpunet.optimizers.get(optimizer)
    optimizer.build(model.trainable_variables)
    loss_of = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(x, y):
        with gpunet.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    draw = np.random.default_rng(0)
    batches = [
        (draw.normal(size=(32, 8)).astype("f4"), draw.integers(0, 4, 32).astype("i4"))
        for _ in range(steps)
    ]
    tensors = [tuple(map(gpunet.tensor, batch)) for batch in batches]
    run = compiled(step, *tensors[0], kind=kind)
    return run, tensors, model.variables + optimizer.variables


def values_of(variables):
    return [v.numpy() for v in variables]


def read(gpu, variable):
    """The value of a Variable when all work is done."""
    value = variable.value
    gpu.synchronize()
    return value.tolist()


def assert_same(found, expected):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y)


# -- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "lion", "adadelta"])
def test_training_is_the_same_planned(optimizer):
    run, batches, variables = training(Executable, optimizer)
    expected = [run(*batch)[0].item() for batch in batches]
    planned, batches, found = training(CudaExecutable, optimizer)
    assert [planned(*batch)[0].item() for batch in batches] == expected
    assert planned.stage == "replay"
    assert_same(values_of(found), values_of(variables))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_is_the_same_captured(gpu, optimizer):
    planned, batches, found = training(CudaExecutable, optimizer)
    losses = [planned(*batch)[0] for batch in batches]
    assert planned.stage == "replay"
    assert (len(gpu.graphs), gpu.launches) == (1, 4)
    values = [v.value for v in found]
    with gpu.off():
        run, batches, variables = training(Executable, optimizer)
        assert [loss.item() for loss in losses] == [run(*batch)[0].item() for batch in batches]
        assert_same(values, values_of(variables))


def test_memory_is_shared_by_what_never_meets():
    def chain(x):
        for _ in range(50):
            x = ops.exp(ops.sin(x))
        return x

    x = ops.ones((100, 100))
    run = compiled(chain, x)
    assert [run(x)[0].shape for _ in range(3)] == [(100, 100)] * 3
    assert run.arena_bytes <= 3 * 40448


def test_new_values_go_straight_to_the_variables():
    run, batches, _ = training(CudaExecutable, dropout=0.0)
    for batch in batches:
        run(*batch)
    written = [cell for cell in run._cells if cell.written]
    assert written
    assert run._direct == set(written)


# -- Variables ------------------------------------------------------------------------------------


def counting():
    """A Variable, and a graph that adds its input to it and returns the sum."""
    total = gpunet.Variable([1.0, 2.0], trainable=False)

    def add(x):
        total.assign_add(x)
        return total.value

    return total, compiled(add, ops.ones(2))


@pytest.mark.parametrize("calls", range(5))
def test_who_holds_a_value_keeps_it(gpu, calls):
    total, run = counting()
    for _ in range(calls):
        run(ops.ones(2))
    held = total.value
    later = [run(ops.ones(2))[0] for _ in range(3)]
    gpu.synchronize()
    assert held.tolist() == [1.0 + calls, 2.0 + calls]
    assert [y.tolist() for y in later] == [[1.0 + n, 2.0 + n] for n in range(calls + 1, calls + 4)]


@pytest.mark.parametrize("calls", range(5))
def test_values_assigned_between_calls_count(gpu, calls):
    total, run = counting()
    for _ in range(calls):
        run(ops.ones(2))
    total.assign([10.0, 20.0])
    y = run(ops.ones(2))[0]
    value = total.value
    gpu.synchronize()
    assert y.tolist() == value.tolist() == [11.0, 21.0]


def test_graphs_share_the_home_of_a_variable(gpu):
    total, add = counting()
    double = compiled(lambda: total.assign(total * 2) or total.value)
    seen = [add(ops.ones(2))[0] if n % 2 else double()[0] for n in range(10)]
    gpu.synchronize()
    expected = np.array([1.0, 2.0])
    for n, y in enumerate(seen):
        expected = expected + 1 if n % 2 else expected * 2
        assert y.tolist() == expected.tolist()


def test_a_value_read_on_another_stream_waits_for_the_graph(gpu):
    total, run = counting()
    for _ in range(4):
        run(ops.ones(2))
    with gpu.cuda.Stream(non_blocking=True):
        held = total.value
    for _ in range(4):
        run(ops.ones(2))
    gpu.synchronize()
    assert held.tolist() == [5.0, 6.0]


def test_results_belong_to_the_stream_that_asked_for_them(gpu):
    """Work of one stream may still read a result that Python has let go of."""
    run = compiled(lambda x: x * 3, ops.ones(2))
    for _ in range(3):
        run(ops.ones(2))
    gpu.synchronize()
    first, second = (gpu.cuda.Stream(non_blocking=True) for _ in range(2))
    with second:
        y = ops.exp(run(ops.zeros(2))[0])
    with first:
        others = [run(ops.ones(2))[0] for _ in range(3)]
    gpu.synchronize()
    assert y.tolist() == [1.0, 1.0]
    assert [other.tolist() for other in others] == [[3.0, 3.0]] * 3


def test_a_weight_that_graphs_use_is_in_memory_once(gpu):
    weight = gpunet.Variable([1.0, 2.0])
    run = compiled(lambda x: x * weight, ops.ones(2))
    for n in range(4):
        weight.assign([n, 2.0])
        y = run(ops.ones(2))[0]
        assert n == 0 or "_data" not in weight.__dict__
    assert read(gpu, weight) == y.tolist() == [3.0, 2.0]


def test_variables_that_change_places(gpu):
    a, b = gpunet.Variable([1.0]), gpunet.Variable([2.0])

    def swap():
        before = a.value
        a.assign(b)
        b.assign(before)
        return before, a.value

    run = compiled(swap)
    seen = [run() for _ in range(5)]
    gpu.synchronize()
    assert [[y.item() for y in pair] for pair in seen] == [[1.0, 2.0], [2.0, 1.0]] * 2 + [
        [1.0, 2.0]
    ]


def test_a_value_that_is_read_after_its_update(gpu):
    """The old value is needed to the end: the new one may not be written over it at once."""
    v = gpunet.Variable([1.0, 5.0])

    def step(x):
        old = v.value
        new = old + x
        v.assign(new)
        return ops.reshape(old, (2, 1)) * ops.sin(new)

    run = compiled(step, ops.ones(2))
    seen = [run(ops.ones(2))[0] for _ in range(4)]
    gpu.synchronize()
    for n, y in enumerate(seen):
        old = np.array([1.0 + n, 5.0 + n], "f4")
        np.testing.assert_allclose(y, old[:, None] * np.sin(old + 1), rtol=1e-5)


def test_copies_of_a_variable_stand_alone():
    import copy
    import pickle

    total, run = counting()
    for _ in range(4):
        run(ops.ones(2))
    copies = copy.deepcopy(total), pickle.loads(pickle.dumps(total))
    run(ops.ones(2))
    assert [v.numpy().tolist() for v in copies] == [[5.0, 6.0]] * 2
    copies[0].assign([0.0, 0.0])
    assert total.numpy().tolist() == [6.0, 7.0]


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tensor", "host", "rows"])
def test_inputs_of_every_kind(gpu, kind):
    data = np.arange(120, dtype="f4").reshape(30, 4)
    order = np.random.default_rng(0).permutation(30)
    resident, rows = gpu.empty(data.shape, data.dtype), gpu.empty(order.shape, order.dtype)
    resident[...], rows[...] = data, order

    def batch(n):
        chosen = data[order[3 * n : 3 * n + 3]]
        if kind == "tensor":
            return gpunet.tensor(chosen)
        if kind == "host":
            return HostArray(chosen, EMULATOR)
        return Rows(resident, rows, 3 * n, 3 * n + 3, EMULATOR)

    run = compiled(lambda x: ops.exp(-x) + x, gpunet.tensor(data[:3]))
    seen = [run(batch(n))[0] for n in range(10)]
    gpu.synchronize()
    for n, y in enumerate(seen):
        x = data[order[3 * n : 3 * n + 3]]
        np.testing.assert_allclose(y, np.exp(-x) + x, rtol=1e-6)


def test_a_function_takes_inputs_that_are_not_there_yet():
    f = gpunet.function(lambda x: x * 2)
    for n in range(4):
        assert f(HostArray(np.full(2, n, "f4"), EMULATOR)).tolist() == [2.0 * n] * 2
    assert f(gpunet.tensor([3.0, 4.0])).tolist() == [6.0, 8.0]
    assert f.trace_count == 1


# -- what cannot be captured ----------------------------------------------------------------------


def primitive(name, rule):
    """An op that the emulator runs by a function of its own."""
    op = Primitive(f"{name}(x) -> y", {})
    op.infer(lambda x: Symbol(x.shape, x.dtype))
    op.cuda(rule)
    return op


def test_a_rule_that_waits_for_the_gpu_runs_op_by_op(gpu):
    def needs_a_value(x):
        gpu.current().synchronize()
        return x + float(x[0])

    op, v = primitive("needs_a_value", needs_a_value), gpunet.Variable([1.0, 1.0])

    def step(x):
        v.assign_add(op(x * 2))

    run = compiled(step, ops.ones(2))
    for _ in range(2):
        run(ops.ones(2))
    with pytest.warns(UserWarning, match=r"op by op.*float32.2. = needs_a_value.*not permitted"):
        run(ops.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(ops.ones(2))
    assert run.stage == "op by op"
    assert read(gpu, v) == [17.0, 17.0]


def test_numbers_without_memory_of_their_own():
    """NumPy's rules return them where CuPy's return arrays."""
    run = compiled(lambda x: ops.unstack(x)[1] * 2, ops.ones(2))
    seen = [run(gpunet.tensor([1.0, n]))[0].item() for n in range(4)]
    assert (seen, run.stage) == ([0.0, 2.0, 4.0, 6.0], "replay")


def test_a_rule_that_returns_another_dtype_than_it_says(gpu):
    """The planned result has the dtype of the trace: bytes of another are no numbers there."""
    op = primitive("narrow", lambda x: x.astype(np.float16))
    run = compiled(lambda x: op(x * 2), ops.ones(3))
    seen = [run(ops.ones(3))[0] for _ in range(4)]
    gpu.synchronize()
    assert [y.tolist() for y in seen] == [[2.0] * 3] * 4


def test_a_failed_step_changes_no_variable(gpu):
    """In the warm-up, in the recording, and in the capture."""
    fails = []

    def rule(x):
        if fails:
            raise fails.pop()
        return x

    op, v = primitive("sometimes", rule), gpunet.Variable([1.0])

    def step(x):
        v.assign_add(x)
        return op(x)

    run = compiled(step, ops.ones(1))
    for n, stage in enumerate(["warm-up", "recording"]):
        assert run.stage == stage
        fails += [RuntimeError("broken")] * 2  # the dry run meets one, too
        with pytest.raises(RuntimeError, match="broken"):
            run(ops.ones(1))
        fails.clear()
        assert read(gpu, v) == [1.0 + n]
        run(ops.ones(1))
    fails.append(RuntimeError("broken"))
    with pytest.warns(UserWarning, match=r"sometimes.*broken"):
        run(ops.ones(1))
    assert read(gpu, v) == [4.0]


def test_a_rule_that_allocates_otherwise_each_time_is_found_out():
    sizes = iter(range(1, 100))

    def rule(x):
        from gpunet.backend.kernels import empty

        empty((next(sizes) * 1000,), "float32", like=x)
        return x

    op = primitive("moody", rule)
    run = compiled(lambda x: op(x) + 1, ops.ones(1))
    with pytest.warns(UserWarning, match="other memory than the time before"):
        assert [run(ops.ones(1))[0].item() for _ in range(4)] == [2.0] * 4


def test_what_a_rule_keeps_is_found_out():
    kept = []

    def rule(x):
        from gpunet.backend.kernels import empty_like

        y = empty_like(x)
        y[...] = x
        if run.stage == "planned":
            kept.append(y)
        return y

    op = primitive("keeps", rule)
    run = compiled(lambda x: op(x) + 1, ops.ones(1))
    with pytest.raises(KernelError, match="keeps an array"):
        for _ in range(4):
            run(ops.ones(1))


def test_memory_that_is_held_longer_than_recorded_is_not_given_away():
    recorder = Recorder(lambda nbytes: (0, None))
    for _ in range(2):
        recorder.request(100)  # let go at once, so that both have one place
    placer = Placer(recorder, {})
    assert placer.total == 512
    placer.begin(0)
    held = placer.request(100)
    with pytest.raises(KernelError, match="lives longer"):
        placer.request(100)
    del held
    placer.begin(0)
    assert [placer.request(100).address for _ in range(2)] == [0, 0]
    with pytest.raises(KernelError, match="other memory"):
        placer.request(100)


# -- debugging, compiling -------------------------------------------------------------------------


def test_debug_names_the_equation():
    def rule(x):
        raise KernelError("trap")

    op, v = primitive("traps", rule), gpunet.Variable([1.0])

    def step(x):
        v.assign_add(x)
        return op(ops.exp(x))

    run = compiled(step, ops.ones(1))
    with gpunet.config.debug(), pytest.raises(GpunetError, match="trap") as caught:
        run(ops.ones(1))
    assert any(
        re.search(r"Equation \d of the graph: .* = traps\(", n) for n in caught.value.__notes__
    )
    assert v.numpy().tolist() == [1.0]


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_debug_computes_the_same(device):
    with gpunet.device(device):
        v = gpunet.Variable([1.0, 2.0])
        f = gpunet.function(lambda x: v.assign(v * x) or ops.sum(v.value))
        x = gpunet.tensor([2.0, 3.0])
        expected = [8.0, 22.0, 62.0, 178.0, 518.0]
        found = []
        for n in range(5):
            with gpunet.config.debug() if n in (1, 3) else contextlib.nullcontext():
                found.append(f(x).item())
    assert found == expected


def test_kernels_are_compiled_before_the_first_launch(monkeypatch):
    order = []
    compiled_of, called = Kernel.compiled, Kernel.__call__

    def note_compiling(self, device):
        order.append(("compile", self.expression))
        return compiled_of(self, device)

    def note_launch(self, **launch):
        if hooks.launch is None:
            order.append(("launch", self.expression))
        called(self, **launch)

    run = compiled(lambda x: ops.exp(ops.sin(x)) + ops.cos(x), ops.ones(3))
    monkeypatch.setattr(Kernel, "compiled", note_compiling)
    monkeypatch.setattr(Kernel, "__call__", note_launch)
    run(ops.ones(3))
    kinds = [kind for kind, _ in order]
    assert kinds == sorted(kinds)
    assert {kernel for kind, kernel in order if kind == "launch"} <= {
        kernel for kind, kernel in order if kind == "compile"
    }


# -- fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [1, 3, 20])
def test_fit_is_the_same_with_several_steps_a_graph(together):
    def fitted(**settings):
        gpunet.utils.set_random_seed(3)
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(70, 8)).astype("f4"), draw.integers(0, 4, 70)
        model = gpunet.Sequential([gpunet.Input((8,)), gpunet.layers.Dense(4)])
        loss = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"], **settings)
        history = model.fit(x, y, batch_size=16, epochs=4, verbose=0, validation_split=0.2)
        return history.history, [*model.get_weights(), model.predict(x, verbose=0)]

    history, arrays = fitted(run_eagerly=True)
    found, values = fitted(steps_per_execution=together)
    assert found == history
    assert_same(values, arrays)


@pytest.mark.parametrize("together", [1, 3])
def test_a_generator_may_fill_one_array_again_and_again(together):
    batch = np.zeros((4, 2), "f4"), np.zeros((4, 1), "f4")

    def batches():
        for n in range(12):
            for array in batch:
                array[...] = n
            yield batch

    gpunet.utils.set_random_seed(0)
    model = gpunet.Sequential([gpunet.Input((2,)), gpunet.layers.Dense(1)])
    loss = lambda y_true, y_pred: y_true + 0 * y_pred  # noqa: E731
    model.compile("sgd", loss, steps_per_execution=together)
    history = model.fit(batches(), epochs=1, verbose=0)
    assert history.history["loss"] == [5.5]


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_a_learning_rate_by_a_python_function_is_not_frozen(device):
    with gpunet.device(device):
        rates = iter([1.0, 0.5, 0.25])
        model = gpunet.Sequential(
            [gpunet.Input((1,)), gpunet.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
        )
        model.compile(gpunet.optimizers.SGD(lambda: next(rates)), lambda y_true, y_pred: y_pred)
        x = np.ones((1, 1), "f4")
        next(rates)  # what the trace would have kept
        with pytest.warns(UserWarning, match="op by op"):
            model.train_on_batch(x, x)
    assert model.get_weights()[0].item() == -0.25


def test_what_changes_from_step_to_step_is_on_the_device():
    """Step count, schedule, loss scale, clipping, seeds: a replayed step is not the same step."""

    def steps(run_of):
        gpunet.utils.set_random_seed(1)
        model = gpunet.Sequential(
            [gpunet.Input((4,)), gpunet.layers.Dropout(0.5), gpunet.layers.Dense(2)]
        )
        schedule = gpunet.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        inner = gpunet.optimizers.Adam(schedule, global_clipnorm=0.1, use_ema=True)
        optimizer = gpunet.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=2)
        optimizer.build(model.trainable_variables)

        def step(x):
            with gpunet.GradientTape() as tape:
                loss = ops.sum(ops.square(model(x, training=True)))
                scaled = optimizer.scale_loss(loss)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(scaled, variables), variables)
            return loss

        x = gpunet.tensor(np.random.default_rng(0).normal(size=(8, 4)).astype("f4"))
        run = run_of(step, x)
        losses = [np.asarray(run(x)[0]).item() for _ in range(7)]
        return losses, values_of(model.variables + optimizer.variables)

    losses, values = steps(compiled)
    expected, reference = steps(lambda f, x: lambda x: [f(x)])
    assert losses == expected
    assert len(set(losses)) == len(losses)
    assert_same(values, reference)
