"""Fused steps on kernels: the factor that clips goes into the step."""

import numpy as np
import pytest

import gpunet
from gpunet import optimizers
from gpunet.backend.kernels import Kernel
from gpunet.testing.numbers import assert_close

MAKERS = {
    "sgd": lambda **k: optimizers.SGD(0.1, **k),
    "momentum": lambda **k: optimizers.SGD(0.1, momentum=0.9, nesterov=True, **k),
    "rmsprop": lambda **k: optimizers.RMSprop(0.1, **k),
    "adam": lambda **k: optimizers.Adam(0.1, **k),
    "adamw": lambda **k: optimizers.AdamW(0.1, **k),
    "lion": lambda **k: optimizers.Lion(0.1, weight_decay=0.1, **k),
    "amsgrad": lambda **k: optimizers.Adam(0.1, amsgrad=True, **k),
}
GRADS = [np.array([3.0, -4.0, 12.0], np.float32), np.array([[0.5], [2.0]], np.float32)]


def steps(make, device, grads, count=3):
    with gpunet.device(device):
        variables = [gpunet.Variable(np.ones_like(g)) for g in grads]
        optimizer = make(global_clipnorm=1.5)
        for _ in range(count):
            optimizer.apply([gpunet.tensor(g) for g in grads], variables)
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("name", MAKERS)
def test_clipped_steps_on_kernels_are_those_of_the_cpu(name):
    expected, found = (steps(MAKERS[name], device, GRADS) for device in ("cpu", "emulator"))
    for y, reference in zip(found, expected, strict=True):
        assert_close(y, reference, factor=4)


def test_clipping_passes_no_second_time_over_the_gradients(monkeypatch):
    noted, call = [], Kernel.__call__

    def note(self, **settings):
        sizes = [a.size for a in settings["args"] if isinstance(a, np.ndarray)]
        noted.append((self.expression.split("<")[0], max(sizes)))
        call(self, **settings)

    monkeypatch.setattr(Kernel, "__call__", note)
    steps(MAKERS["adam"], "emulator", [np.ones(1000, np.float32)], count=1)
    large = [kernel for kernel, size in noted if size >= 1000]
    assert large[-2:] == ["measure_chunks", "update"]


def test_an_infinite_gradient_is_not_clipped_to_a_finite_step():
    grads = [np.array([np.inf, 1.0], np.float32)]
    for device in ("cpu", "emulator"):
        with np.errstate(invalid="ignore"):
            assert np.isnan(steps(MAKERS["sgd"], device, grads, count=1)[0]).all()


def test_the_scale_is_forgotten_after_the_step():
    with gpunet.device("emulator"):
        w = gpunet.Variable(np.ones(2, np.float32))
        optimizer = MAKERS["sgd"](global_clipnorm=1.0)
        optimizer.apply([gpunet.tensor(np.array([30.0, 40.0], np.float32))], [w])
        optimizer.global_clipnorm = None
        optimizer.apply([gpunet.tensor(np.array([1.0, 1.0], np.float32))], [w])
    assert_close(w.numpy(), np.array([0.84, 0.82], np.float32))
