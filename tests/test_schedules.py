"""Schedules: values along the steps and configs against Keras; tracing; errors."""

import inspect
import json

import keras
import numpy as np
import pytest

import gpunet
from gpunet import schedules
from gpunet.core.trace import trace

THEIRS = keras.optimizers.schedules
DECAY = {"initial_learning_rate": 0.1, "decay_steps": 7}
RESTARTS = {"initial_learning_rate": 0.1, "first_decay_steps": 5}
ROWS = [
    ("ExponentialDecay", {**DECAY, "decay_rate": 0.5}),
    ("ExponentialDecay", {**DECAY, "decay_rate": 0.5, "staircase": True}),
    ("InverseTimeDecay", {**DECAY, "decay_rate": 0.5}),
    ("InverseTimeDecay", {**DECAY, "decay_rate": 0.5, "staircase": True}),
    ("PolynomialDecay", {**DECAY}),
    ("PolynomialDecay", {**DECAY, "end_learning_rate": 0.03, "power": 2.0}),
    ("PolynomialDecay", {**DECAY, "power": 0.5, "cycle": True}),
    ("PiecewiseConstantDecay", {"boundaries": [3, 9], "values": [1.0, 0.5, 0.1]}),
    ("PiecewiseConstantDecay", {"boundaries": [4], "values": [1.0, 0.5]}),
    ("CosineDecay", {**DECAY}),
    ("CosineDecay", {**DECAY, "alpha": 0.2}),
    ("CosineDecay", {**DECAY, "warmup_target": 0.5, "warmup_steps": 4, "alpha": 0.1}),
    ("CosineDecayRestarts", {**RESTARTS}),
    ("CosineDecayRestarts", {**RESTARTS, "t_mul": 1.0, "m_mul": 0.8, "alpha": 0.1}),
    ("CosineDecayRestarts", {**RESTARTS, "t_mul": 1.5, "m_mul": 0.9}),
]
table = pytest.mark.parametrize(
    ("name", "options"), ROWS, ids=[f"{n}-{json.dumps(o)}" for n, o in ROWS]
)


@table
def test_rates_equal_those_of_keras(name, options):
    mine, reference = getattr(schedules, name)(**options), getattr(THEIRS, name)(**options)
    for step in range(30):
        rate = mine(step)
        assert (rate.dtype, rate.shape) == ("float32", ())
        np.testing.assert_allclose(rate.numpy(), reference(step), rtol=2e-5, atol=1e-7)


@table
def test_a_traced_rate_follows_the_step(name, options):
    schedule = getattr(schedules, name)(**options)
    graph = trace(schedule, gpunet.tensor(0, dtype="int32"))
    for step in (0, 3, 7, 20):
        rate = graph(gpunet.tensor(step, dtype="int32"))[0]
        np.testing.assert_allclose(rate.numpy(), schedule(step).numpy(), rtol=1e-6)


@table
def test_configs_are_those_of_keras(name, options):
    mine, theirs = getattr(schedules, name)(**options), getattr(THEIRS, name)(**options)
    config = schedules.serialize(mine)
    assert config == THEIRS.serialize(theirs)
    again = schedules.deserialize(json.loads(json.dumps(config)))
    assert again.get_config() == mine.get_config()
    signatures = (inspect.signature(type(x)).parameters.values() for x in (mine, theirs))
    ours, wanted = ([(p.name, p.default) for p in s] for s in signatures)
    assert ours == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.ExponentialDecay(0.1, 0, 0.5),
        lambda: schedules.InverseTimeDecay(0.1, -1, 0.5),
        lambda: schedules.PolynomialDecay(0.1, 0),
        lambda: schedules.CosineDecay(0.1, 0),
        lambda: schedules.CosineDecayRestarts(0.1, 0),
        lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2]),
        lambda: schedules.deserialize("NoSuchDecay"),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        make()


def test_base_class():
    with pytest.raises(NotImplementedError, match="__call__"):
        schedules.LearningRateSchedule()(0)
    with pytest.raises(NotImplementedError, match="get_config"):
        schedules.LearningRateSchedule().get_config()
