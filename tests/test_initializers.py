"""Initializers: their distributions, seeds, configs and errors; configs against Keras."""

import inspect
import json

import keras
import numpy as np
import pytest

import gpunet
from gpunet import initializers, random

ROWS = [
    ("Zeros", {}),
    ("Ones", {}),
    ("Constant", {"value": 2.5}),
    ("Identity", {"gain": 2.0}),
    ("RandomNormal", {"mean": 1.0, "stddev": 0.5, "seed": 3}),
    ("RandomUniform", {"minval": -2.0, "maxval": 3.0, "seed": 3}),
    ("TruncatedNormal", {"mean": 1.0, "stddev": 0.5, "seed": 3}),
    ("VarianceScaling", {"scale": 2.0, "mode": "fan_out", "distribution": "normal", "seed": 3}),
    ("VarianceScaling", {"distribution": "untruncated_normal", "seed": 3}),
    ("VarianceScaling", {"mode": "fan_avg", "distribution": "uniform", "seed": 3}),
    *[
        (f"{name}{kind}", {"seed": 3})
        for name in ("Glorot", "He", "Lecun")
        for kind in ("Normal", "Uniform")
    ],
    ("Orthogonal", {"gain": 1.5, "seed": 3}),
]
IDS = [f"{name}-{json.dumps(options)}" for name, options in ROWS]
table = pytest.mark.parametrize(("name", "options"), ROWS, ids=IDS)


@table
def test_distribution_is_that_of_keras(name, options):
    shape = (300, 200)
    ours = getattr(initializers, name)(**options)(shape).numpy()
    theirs = np.asarray(getattr(keras.initializers, name)(**options)(shape))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    scale = theirs.std() + 1e-12
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.03 * scale)
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    for q in (0.0, 0.1, 0.5, 0.9, 1.0):
        margin = 1.0 if q in (0.0, 1.0) and name in ("RandomNormal", "Orthogonal") else 0.15
        margin = 1.0 if options.get("distribution") == "untruncated_normal" else margin
        np.testing.assert_allclose(
            np.quantile(ours, q), np.quantile(theirs, q), atol=margin * scale
        )


@table
def test_configs_are_those_of_keras(name, options):
    mine = getattr(initializers, name)(**options)
    theirs = getattr(keras.initializers, name)(**options)
    config = initializers.serialize(mine)
    wanted = keras.initializers.serialize(theirs)
    if name == "Identity":  # Keras forgets the gain
        wanted["config"] = {"gain": 2.0}
    assert config == wanted
    again = initializers.deserialize(json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again((4, 4)).numpy(), mine((4, 4)).numpy())
    np.testing.assert_array_equal(mine.clone()((4, 4)).numpy(), mine((4, 4)).numpy())
    ours, wanted = (
        [(p.name, p.default) for p in inspect.signature(type(x)).parameters.values()]
        for x in (mine, theirs)
    )
    assert ours == wanted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@table
def test_dtypes(name, options, dtype):
    assert getattr(initializers, name)(**options)((4, 4), dtype=dtype).dtype == dtype


@table
def test_same_weights_on_the_emulator(name, options):
    make = getattr(initializers, name)(**options)
    with gpunet.device("cpu"):
        here = make((5, 7))
    with gpunet.device("emulator"):
        there = make((5, 7))
    np.testing.assert_allclose(here.numpy(), there.numpy(), rtol=1e-6, atol=1e-7)


def test_seeds():
    fixed = initializers.GlorotUniform(seed=1)
    np.testing.assert_array_equal(fixed((3, 3)).numpy(), fixed((3, 3)).numpy())
    counting = initializers.GlorotUniform(seed=random.SeedGenerator(1))
    first, second = counting((3, 3)).numpy(), counting((3, 3)).numpy()
    np.testing.assert_array_equal(first, fixed((3, 3)).numpy())
    assert (first != second).any()
    chosen, other = initializers.RandomNormal(), initializers.RandomNormal()
    assert (chosen((9,)).numpy() != other((9,)).numpy()).any()
    assert chosen.get_config()["seed"] is None
    again = initializers.deserialize(initializers.serialize(counting))
    assert isinstance(again.seed, random.SeedGenerator)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 3, 4), (4, 4)])
def test_orthogonal(shape):
    q = initializers.Orthogonal(gain=2.0, seed=0)(shape).numpy().reshape(-1, shape[-1])
    product = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((5,), (5, 5)), ((2, 3), (2, 3)), ((3, 3, 4, 8), (36, 72))],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


def test_fans_of_chosen_axes():
    assert initializers.compute_fans((2, 3, 5), (0,), (1, 2)) == (2, 15)


def test_get():
    def own(shape, dtype=None):
        return gpunet.ops.ones(shape, dtype=dtype)

    assert initializers.get(None) is None
    assert initializers.get(own) is own
    for name in ("glorot_uniform", "GlorotUniform", "zeros", "zero", "one", "normal", "uniform"):
        theirs = type(keras.initializers.get(name)).__name__
        assert type(initializers.get(name)).__name__ == theirs
    assert isinstance(initializers.get(initializers.Zeros), initializers.Zeros)
    values = np.arange(6.0).reshape(2, 3)
    start = initializers.get(values)
    np.testing.assert_array_equal(start((2, 3), dtype="float32").numpy(), values)
    with pytest.raises(gpunet.errors.ShapeError, match="Received"):
        start((3, 2))
    with pytest.raises(gpunet.errors.ArgumentError, match="glorot_uniform"):
        initializers.get("glorot_unifrom")


@pytest.mark.parametrize(
    "make",
    [
        lambda: initializers.VarianceScaling(scale=0.0),
        lambda: initializers.VarianceScaling(mode="fan"),
        lambda: initializers.VarianceScaling(distribution="gamma"),
        lambda: initializers.RandomNormal(seed="1"),
        lambda: initializers.Orthogonal()((3,)),
        lambda: initializers.Identity()((3,)),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        make()


def test_own_initializers_must_say_what_they_return():
    with pytest.raises(NotImplementedError, match="__call__"):
        initializers.Initializer()((3,))
