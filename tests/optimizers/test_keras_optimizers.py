"""Twenty steps of every optimizer, with every option, against Keras."""

import json
import re

import keras
import numpy as np
import pytest

import gpunet
from gpunet import optimizers
from gpunet.core.trace import trace

SHAPES = {"kernel": (3, 4), "bias": (4,), "scale": ()}
NAMES = [
    "SGD",
    "Adam",
    "AdamW",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adamax",
    "Nadam",
    "Lion",
    "Lamb",
]
OWN = {
    "SGD": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5}],
    "Adam": [{"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}, {"amsgrad": True}],
    "AdamW": [{"weight_decay": 0.1}, {"weight_decay": 0.1, "amsgrad": True}],
    "RMSprop": [
        {"rho": 0.7},
        {"momentum": 0.9},
        {"centered": True},
        {"momentum": 0.5, "centered": True, "epsilon": 1e-3},
    ],
    "Adagrad": [{"initial_accumulator_value": 0.5, "epsilon": 1e-2}],
    "Adadelta": [{"rho": 0.5, "epsilon": 1e-2}],
    "Adamax": [{"beta_1": 0.7, "beta_2": 0.9}],
    "Nadam": [{"beta_1": 0.7, "beta_2": 0.9}],
    "Lion": [{"beta_1": 0.7, "beta_2": 0.9}],
    "Lamb": [{"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3}],
}
SHARED = [
    {},
    {"weight_decay": 0.05},
    {"clipnorm": 0.5},
    {"clipvalue": 0.3},
    {"global_clipnorm": 0.7},
    {"use_ema": True, "ema_momentum": 0.8},
    {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3},
    {"loss_scale_factor": 8.0},
    {"gradient_accumulation_steps": 3},
    {"gradient_accumulation_steps": 4, "weight_decay": 0.05, "clipnorm": 0.5},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 3},
]
ROWS = [(name, {"learning_rate": 0.01, **options}) for name in NAMES for options in OWN[name]]
ROWS += [(name, {"learning_rate": 0.01, **options}) for name in NAMES[:4] for options in SHARED]
ROWS += [(name, {"learning_rate": 0.01}) for name in NAMES[4:]]
IDS = [f"{name}-{json.dumps(options)}" for name, options in ROWS]


def variables_of(library, rng):
    return [
        library.Variable(rng.standard_normal(shape).astype("float32"), name=name)
        for name, shape in SHAPES.items()
    ]


def gradients(rng, steps=9):
    return [
        [rng.standard_normal(shape).astype("float32") * 2 for shape in SHAPES.values()]
        for _ in range(steps)
    ]


def pair(name, options, seed=0):
    ours, theirs = (variables_of(lib, np.random.default_rng(seed)) for lib in (gpunet, keras))
    return (
        (getattr(optimizers, name)(**options), ours),
        (getattr(keras.optimizers, name)(**options), theirs),
    )


def numberless(path):
    """A path without the numbers of automatic names."""
    return re.sub(r"_\d+", "", path)


def check_equal(ours, theirs, atol=1e-6):
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.numpy(), np.asarray(y.value), rtol=2e-5, atol=atol)


@pytest.mark.parametrize(("name", "options"), ROWS, ids=IDS)
def test_steps_equal_those_of_keras(name, options, rng):
    (mine, ours), (reference, theirs) = pair(name, options)
    for step in gradients(rng):
        mine.apply([gpunet.tensor(g) for g in step], ours)
        reference.apply([keras.ops.convert_to_tensor(g) for g in step], theirs)
        check_equal(ours, theirs)
    assert len(mine.variables) == len(reference.variables)
    for x, y in zip(mine.variables, reference.variables, strict=True):
        assert (numberless(x.path), x.shape, x.dtype) == (
            numberless(y.path),
            tuple(y.shape),
            y.dtype,
        )
    check_equal(mine.variables, reference.variables, atol=1e-5)
    mine.finalize_variable_values(ours)
    reference.finalize_variable_values(theirs)
    check_equal(ours, theirs)


@pytest.mark.parametrize(("name", "options"), ROWS, ids=IDS)
def test_a_traced_step_equals_an_eager_one(name, options, rng):
    options = {**options, "learning_rate": optimizers.schedules.ExponentialDecay(0.01, 5, 0.5)}
    eager, traced = (
        (getattr(optimizers, name)(**options), variables_of(gpunet, np.random.default_rng(1)))
        for _ in range(2)
    )
    traced[0].build(traced[1])
    graph = trace(
        lambda *gs: traced[0].apply(gs, traced[1]),
        *[gpunet.tensor(g) for g in gradients(rng, 1)[0]],
    )
    for step in gradients(rng, 8):
        eager[0].apply([gpunet.tensor(g) for g in step], eager[1])
        graph(*step)
        for x, y in zip(eager[1], traced[1], strict=True):
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6, atol=1e-6)
    for x, y in zip(eager[0].variables, traced[0].variables, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), ROWS, ids=IDS)
def test_configs_are_those_of_keras(name, options):
    (mine, _), (reference, _) = pair(name, options)
    theirs = keras.optimizers.serialize(reference)
    config = optimizers.serialize(mine)
    mine.name = reference.name
    assert {**config, "config": mine.get_config()} == theirs
    again = optimizers.deserialize(json.loads(json.dumps(theirs)))
    assert type(again) is type(mine)
    assert again.get_config() == mine.get_config()


@pytest.mark.parametrize("name", NAMES[:4])
def test_stateless_apply_changes_nothing(name, rng):
    (mine, ours), (reference, theirs) = pair(name, {"learning_rate": 0.01})
    mine.build(ours)
    reference.build(theirs)
    before = [v.numpy().copy() for v in (*ours, *mine.variables)]
    g = gradients(rng, 1)[0]
    weights, state = mine.stateless_apply(mine.variables, [gpunet.tensor(x) for x in g], ours)
    wanted, wanted_state = reference.stateless_apply(
        [v.value for v in reference.variables],
        [keras.ops.convert_to_tensor(x) for x in g],
        [v.value for v in theirs],
    )
    for x, y in zip([*weights, *state], [*wanted, *wanted_state], strict=True):
        np.testing.assert_allclose(x.numpy(), np.asarray(y), rtol=1e-5, atol=1e-6)
    for v, value in zip((*ours, *mine.variables), before, strict=True):
        np.testing.assert_array_equal(v.numpy(), value)


def test_state_travels_to_keras_and_back(rng):
    (mine, ours), (reference, theirs) = pair("Adam", {"learning_rate": 0.01})
    for step in gradients(rng, 3):
        mine.apply([gpunet.tensor(g) for g in step], ours)
    reference.build(theirs)
    store = {}
    mine.save_own_variables(store)
    reference.load_own_variables(store)
    for x, y in zip(ours, theirs, strict=True):
        y.assign(x.numpy())
    for step in gradients(rng, 3):
        mine.apply([gpunet.tensor(g) for g in step], ours)
        reference.apply([keras.ops.convert_to_tensor(g) for g in step], theirs)
    check_equal(ours, theirs)


def test_loss_scale_steps_equal_those_of_keras(rng):
    ours, theirs = (variables_of(lib, np.random.default_rng(0)) for lib in (gpunet, keras))
    mine = optimizers.LossScaleOptimizer(optimizers.SGD(0.5), 16.0, dynamic_growth_steps=3)
    reference = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5), 16.0, dynamic_growth_steps=3
    )
    mine.build(ours)
    reference.build(theirs)
    for number, step in enumerate(gradients(rng, 12)):
        if number in (4, 9):
            step[1][0] = np.inf if number == 4 else np.nan
        mine.apply([gpunet.tensor(g) for g in step], ours)
        weights, state = reference.stateless_apply(
            [v.value for v in reference.variables],
            [keras.ops.convert_to_tensor(g) for g in step],
            [v.value for v in theirs],
        )
        for v, value in zip((*theirs, *reference.variables), (*weights, *state), strict=True):
            v.assign(value)
        check_equal(ours, theirs)
        check_equal(mine.variables, reference.variables)
    for x, y in zip(mine.variables, reference.variables, strict=True):
        assert numberless(x.path) == numberless(y.path)
    mine.name, mine.inner_optimizer.name = reference.name, reference.inner_optimizer.name
    assert mine.get_config() == reference.get_config()
