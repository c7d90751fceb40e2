"""Seeds: generators that count, the global one, and what is refused."""

import random

import keras
import numpy as np
import pytest

import gpunet
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError
from gpunet.random.seed_generator import draw_seed


def test_a_generator_counts_its_draws_as_keras_does():
    ours, theirs = gpunet.random.SeedGenerator(5), keras.random.SeedGenerator(5)
    for _ in range(3):
        np.testing.assert_array_equal(ours.next().numpy(), np.asarray(theirs.next()))
    assert ours.state.numpy().tolist() == [5, 3]
    assert (ours.state.shape, ours.state.dtype, ours.state.trainable) == ((2,), "uint32", False)
    assert ours.state.name == theirs.state.name


def test_config_round_trip():
    generator = gpunet.random.SeedGenerator(seed=3, name="mine")
    assert generator.get_config() == {"seed": 3, "name": "mine"}
    again = gpunet.random.SeedGenerator.from_config(generator.get_config())
    assert again.next().tolist() == generator.next().tolist()
    assert gpunet.random.SeedGenerator().get_config()["seed"] is None


def test_a_seed_of_64_bits_uses_both_words():
    assert draw_seed(5 + (9 << 32)).tolist() == [5, 9]
    assert gpunet.random.SeedGenerator(5 + (9 << 32)).next().tolist() == [5, 9]


@pytest.mark.parametrize("seed", ["7", 1.5, True, [1, 2]])
def test_what_is_no_seed(seed):
    with pytest.raises(ArgumentError, match="Argument `seed` must be"):
        gpunet.random.SeedGenerator(seed)
    with pytest.raises(ArgumentError, match="Argument `seed` must be"):
        gpunet.random.normal((2,), seed=seed)


def test_what_is_no_argument():
    with pytest.raises(ArgumentError, match="Unrecognized keyword"):
        gpunet.random.SeedGenerator(1, sed=2)
    with pytest.raises(ArgumentError, match="2\\*\\*32"):
        gpunet.random.set_random_seed(-1)
    with pytest.raises(ArgumentError, match=r"shape=\(3,\)"):
        gpunet.random.normal((2,), seed=gpunet.tensor([1, 2, 3]))


def test_set_random_seed_makes_everything_reproducible():
    def draw():
        gpunet.random.set_random_seed(11)
        unseeded = gpunet.random.SeedGenerator()
        return (
            random.random(),
            np.random.rand(),
            gpunet.random.uniform((2,)).tolist(),
            gpunet.random.uniform((2,)).tolist(),
            gpunet.random.uniform((2,), seed=unseeded).tolist(),
        )

    first, second = draw(), draw()
    assert first == second
    assert first[2] != first[3]


def test_devices_share_the_global_sequence():
    gpunet.random.set_random_seed(4)
    here = [gpunet.random.uniform((3,)).tolist() for _ in range(2)]
    with gpunet.device("emulator"):
        there = [gpunet.random.uniform((3,)).tolist() for _ in range(2)]
    assert here == there


def test_a_graph_advances_the_generator():
    generator = gpunet.random.SeedGenerator(1)
    graph = trace(lambda x: x + gpunet.random.uniform((3,), seed=generator), np.zeros(3, "float32"))
    assert generator.state.numpy().tolist() == [1, 0]
    first, second = (graph(np.zeros(3, "float32"))[0].tolist() for _ in range(2))
    assert generator.state.numpy().tolist() == [1, 2]
    assert first == gpunet.random.uniform((3,), seed=1).tolist()
    assert second == gpunet.random.uniform((3,), seed=1 + (1 << 32)).tolist()
