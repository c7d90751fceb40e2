"""The random functions: shapes, dtypes, distributions, seeds and errors."""

import numpy as np
import pytest
import scipy.stats

import gpunet
from gpunet.errors import ArgumentError, ShapeError

R = gpunet.random
N = 20_000
CONTINUOUS = {
    "uniform": (lambda **k: R.uniform((N,), -1.0, 3.0, **k), scipy.stats.uniform(-1, 4)),
    "normal": (lambda **k: R.normal((N,), 2.0, 3.0, **k), scipy.stats.norm(2, 3)),
    "truncated_normal": (
        lambda **k: R.truncated_normal((N,), 1.0, 0.5, **k),
        scipy.stats.truncnorm(-2, 2, 1, 0.5),
    ),
    "gamma": (lambda **k: R.gamma((N,), 2.0, **k), scipy.stats.gamma(2)),
    "beta": (lambda **k: R.beta((N,), 2.0, 3.0, **k), scipy.stats.beta(2, 3)),
}
DISCRETE = {
    "randint": lambda **k: R.randint((3, 4), -5, 9, **k),
    "categorical": lambda **k: R.categorical(np.zeros((2, 5), "float32"), 50, **k),
    "binomial": lambda **k: R.binomial((3, 4), 100, 0.5, **k),
    "shuffle": lambda **k: R.shuffle(np.arange(40), **k),
    "dropout": lambda **k: R.dropout(np.ones((5, 6), "float32"), 0.5, **k),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_distribution(name):
    draw, distribution = CONTINUOUS[name]
    y = draw(seed=5).numpy()
    assert (y.shape, y.dtype) == ((N,), "float32")
    assert scipy.stats.kstest(y, distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_seeds(name):
    draw = CONTINUOUS[name][0] if name in CONTINUOUS else DISCRETE[name]
    generator = R.SeedGenerator(5)
    first, same, counted, next_one = (
        draw(seed=s).tolist() for s in (5, gpunet.tensor([5, 0]), generator, generator)
    )
    assert first == same == counted
    assert first != next_one
    R.set_random_seed(1)
    assert draw().tolist() != draw().tolist()


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal", "gamma"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", None])
def test_float_dtypes(name, dtype):
    arguments = [2.0] if name == "gamma" else []
    y = getattr(R, name)((3, 2), *arguments, dtype=dtype, seed=1)
    assert (y.shape, y.dtype) == ((3, 2), dtype or "float32")


def test_randint_draws_every_integer_alike():
    y = R.randint((N,), -3, 4, dtype="int8", seed=2).numpy()
    assert y.dtype == "int8"
    values, counts = np.unique(y, return_counts=True)
    assert values.tolist() == list(range(-3, 4))
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_categorical_draws_with_the_probabilities():
    y = R.categorical(np.log([[0.1, 0.2, 0.7], [1.0, 1e-9, 1e-9]]), N, seed=3).numpy()
    assert (y.shape, y.dtype) == ((2, N), "int32")
    counts = np.bincount(y[0], minlength=3)
    assert scipy.stats.chisquare(counts, N * np.array([0.1, 0.2, 0.7])).pvalue > 0.01
    assert y[1].max() == 0


def test_binomial():
    y = R.binomial((N,), 10, 0.3, seed=4).numpy()
    assert abs(y.mean() - 3) < 0.05 and abs(y.var() - 2.1) < 0.1
    counts, probabilities = np.array([0.0, 5.0]), np.array([0.5, 1.0])
    assert R.binomial((3, 2), counts, probabilities, seed=1).tolist() == [[0, 5]] * 3


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_shuffle_keeps_what_is_together(axis):
    x = np.arange(24).reshape(4, 6)
    y = R.shuffle(x, axis=axis, seed=1).numpy()
    assert y.tolist() != x.tolist()
    rows = np.moveaxis(y, axis, 0)[:, 0].argsort()
    np.testing.assert_array_equal(np.take(y, rows, axis), x)


def test_dropout():
    x = gpunet.tensor(np.arange(1.0, 2001.0).reshape(40, 50), dtype="float32")
    y = R.dropout(x, 0.2, seed=1).numpy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], x.numpy()[kept] / 0.8, 1e-6)
    assert 0.75 < kept.mean() < 0.85
    assert R.dropout(x, 0.0).tolist() == x.tolist()
    assert not R.dropout(x, 1.0).numpy().any()
    rows = R.dropout(x, 0.5, noise_shape=(None, 1), seed=1).numpy() != 0
    assert (rows.all(1) | ~rows.any(1)).all() and not rows.all()
    assert R.dropout(gpunet.KerasTensor((None, 3)), 0.5).shape == (None, 3)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ArgumentError, "floating point `dtype`", lambda: R.uniform((2,), dtype="int32")),
        (ArgumentError, "integer `dtype`", lambda: R.randint((2,), 0, 3, dtype="float32")),
        (ArgumentError, "minval=3, maxval=3", lambda: R.randint((2,), 3, 3)),
        (ShapeError, "2-D tensor", lambda: R.categorical(np.ones(3), 2)),
        (ArgumentError, "rate=1.5", lambda: R.dropout(np.ones(3), 1.5)),
        (ShapeError, "noise_shape", lambda: R.dropout(np.ones((3, 2)), 0.5, (2, 1))),
        (ShapeError, "noise_shape", lambda: R.dropout(np.ones((3, 2)), 0.5, (3,))),
        (ShapeError, "shape", lambda: R.normal((-1,))),
    ],
)
def test_errors(error, match, call):
    with pytest.raises(error, match=match):
        call()
