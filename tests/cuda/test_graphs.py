"""Captured graphs on a real GPU: the same results as op by op, and much less time on the CPU."""

import time
import warnings

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops
from gpunet.backend.device import Device
from gpunet.compile.cuda_executable import CudaExecutable
from gpunet.compile.inputs import HostArray, Rows

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def on_gpu():
    with gpunet.device("cuda:0"):
        yield Device("cuda:0")


def executables(function):
    return [traced.executable for traced in function._traced.values()]


def networks():
    dense = [
        gpunet.Input((12,)),
        layers.Dense(32, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(4),
    ]
    convolutional = [
        gpunet.Input((8, 8, 3)),
        layers.Conv2D(16, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(4),
    ]
    recurrent = [gpunet.Input((5, 6)), layers.LSTM(16), layers.Dense(4)]
    return {"dense": dense, "convolutional": convolutional, "recurrent": recurrent}


def fitted(kind, **settings):
    gpunet.utils.set_random_seed(3)
    model = gpunet.Sequential(networks()[kind])
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, *model.input_shape[1:])).astype("f4")
    y = draw.integers(0, 4, 200)
    loss = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(gpunet.optimizers.AdamW(1e-2, global_clipnorm=1.0), loss, **settings)
    history = model.fit(x, y, epochs=3, verbose=0, validation_split=0.2)
    return history.history, [*model.get_weights(), model.predict(x, verbose=0)]


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("kind", ["dense", "convolutional", "recurrent"])
def test_fit_is_captured_and_the_same(kind, together, monkeypatch):
    captured = []
    capture = CudaExecutable._capture
    monkeypatch.setattr(
        CudaExecutable, "_capture", lambda self: captured.append(self) or capture(self)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history, arrays = fitted(kind, steps_per_execution=together)
    assert captured
    assert {run.stage for run in captured} == {"replay"}
    expected, reference = fitted(kind, run_eagerly=True)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4)
    for x, y in zip(arrays, reference, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_values_given_out_and_assigned():
    v = gpunet.Variable([1.0, 2.0], trainable=False)

    @gpunet.function
    def add(x):
        v.assign_add(x)
        return v.value

    held = []
    for n in range(8):
        if n == 5:
            v.assign([0.0, 0.0])
        held.append((v.value, add(ops.ones(2))))
    seen = [(before.tolist()[0], after.tolist()[0]) for before, after in held]
    counts = [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0]
    assert seen == [(n, n + 1) for n in counts]
    assert executables(add)[0].stage == "replay"


@pytest.mark.parametrize("kind", ["tensor", "host", "rows"])
def test_inputs_of_every_kind(kind, on_gpu):
    data = np.random.default_rng(0).normal(size=(64, 300, 100)).astype("f4")
    order = np.random.default_rng(1).permutation(64)
    resident, rows = on_gpu.xp.asarray(data), on_gpu.xp.asarray(order)

    def batch(n):
        chosen = data[order[4 * n : 4 * n + 4]]
        if kind == "tensor":
            return gpunet.tensor(chosen)
        if kind == "host":
            return HostArray(chosen, on_gpu)
        return Rows(resident, rows, 4 * n, 4 * n + 4, on_gpu)

    @gpunet.function
    def work(x):
        for _ in range(20):  # so that copies run ahead of the steps
            x = ops.sin(x) * 2
        return x

    results = [work(batch(n)) for n in range(16)]
    for n, y in enumerate(results):
        x = data[order[4 * n : 4 * n + 4]].astype("f8")
        for _ in range(20):
            x = np.sin(x) * 2
        np.testing.assert_allclose(y, x, atol=1e-3)


def test_what_cannot_be_captured_runs_op_by_op_with_one_warning():
    @gpunet.function
    def step(x):
        return ops.exp(x) * gpunet.random.gamma((3,), 2.0)

    with pytest.warns(UserWarning, match=r"op by op.*random_variate") as caught:
        values = [step(ops.ones(3)).tolist() for _ in range(6)]
    assert len(caught) == 1
    assert len({tuple(value) for value in values}) == 6
    assert float(ops.sum(ops.ones(3))) == 3.0  # the stream is usable again


def test_two_graphs_take_turns():
    f, g = gpunet.function(lambda x: x @ x + 1), gpunet.function(lambda x: ops.sum(x @ x, axis=0))
    x = gpunet.tensor(np.eye(300, dtype="f4") * 2)
    for _ in range(5):
        y, z = f(x), g(x)
        np.testing.assert_array_equal(y, np.eye(300) * 4 + 1)
        np.testing.assert_array_equal(z, np.full(300, 4.0))


def test_debug_runs_op_by_op():
    f = gpunet.function(lambda x: ops.exp(x) * 2)
    with gpunet.config.debug():
        assert f(ops.zeros(2)).tolist() == [2.0, 2.0]
    assert executables(f)[0].stage == "warm-up"


def test_a_replayed_step_takes_the_cpu_less_time():
    def work(x):
        for _ in range(200):
            x = ops.sin(x) + x
        return x

    def seconds(f, x):
        for _ in range(4):
            f(x)
        float(f(x)[0])
        start = time.perf_counter()
        for _ in range(20):
            y = f(x)
        float(y[0])
        return time.perf_counter() - start

    x = ops.ones(64)
    assert seconds(gpunet.function(work), x) * 2 < seconds(work, x)
