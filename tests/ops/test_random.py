"""Random primitives: one stream for every device, and what is made from it."""

import numpy as np
import pytest
import scipy.stats

import gpunet
from gpunet.errors import ShapeError
from gpunet.ops.random import dropout, philox, random_normal, random_uniform

SEED = np.array([7, 3], "uint32")


@pytest.mark.parametrize("seed", [(0, 0), (7, 3), (2**32 - 1, 2**32 - 1)])
def test_array_code_of_philox_is_that_of_numpy(seed):
    words = philox(np, np.array(seed, "uint32"), 9)
    expected = np.random.Philox(key=seed[0] | seed[1] << 64).random_raw(36)
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 7), (1001,)])
def test_every_rule_draws_the_same_bits(dtype, shape):
    y = random_uniform(gpunet.tensor(SEED), shape=shape, dtype=dtype)
    assert (y.shape, y.dtype) == (shape, dtype)
    other = random_uniform.rules["array"](np, SEED, shape, dtype)
    np.testing.assert_array_equal(y.numpy(), other)
    emulated = random_uniform(gpunet.tensor(SEED, device="emulator"), shape=shape, dtype=dtype)
    np.testing.assert_array_equal(y.numpy(), emulated.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_uniform_is_uniform_and_never_one(dtype):
    y = random_uniform(gpunet.tensor(SEED), shape=(50_000,), dtype=dtype).numpy().astype("float64")
    assert y.min() >= 0 and y.max() < 1
    assert scipy.stats.kstest(y, "uniform").statistic < 0.012


def test_normal_is_normal():
    y = random_normal(gpunet.tensor(SEED), shape=(50_001,), dtype="float32").numpy()
    assert scipy.stats.kstest(y, "norm").pvalue > 0.01
    assert abs(np.corrcoef(y[:25_000], y[25_001:])[0, 1]) < 0.02


def test_dropout_draws_its_mask_again_for_the_gradient():
    x, seed = gpunet.tensor(np.full((40, 50), 3.0, "float32")), gpunet.tensor(SEED)
    y, gradient = gpunet.value_and_grad(
        lambda t: dropout(t, seed, rate=0.25, shape=(40, 50)).sum()
    )(x)
    kept = gradient.numpy() != 0
    np.testing.assert_allclose(gradient.numpy()[kept], 1 / 0.75, 1e-6)
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(float(y), 4 * kept.sum(), 1e-5)


def test_a_seed_has_two_numbers():
    with pytest.raises(ShapeError, match=r"shape=\(3,\)"):
        random_uniform(gpunet.tensor([1, 2, 3]), shape=(2,), dtype="float32")
