"""The arena: no two arrays alive at once share a byte, and the plan is near the least possible."""

import numpy as np
import pytest

from gpunet.compile.arena import peak, plan


def _random_intervals(seed, n=120):
    draw = np.random.default_rng(seed)
    first = draw.integers(0, n, n)
    last = first + draw.integers(0, 12, n)
    nbytes = 2 ** draw.integers(0, 16, n) + draw.integers(0, 100, n)
    return list(zip(first.tolist(), last.tolist(), nbytes.tolist(), strict=True))


def _step(seed, layers=40):
    """A training step: activations live from the forward pass into the backward pass."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1000, 50000, layers).tolist()
    forward = [(i, 2 * layers - i, size) for i, size in enumerate(sizes)]
    backward = [(2 * layers - i, 2 * layers - i + 1, size) for i, size in enumerate(sizes)]
    return forward + backward


@pytest.mark.parametrize("alignment", [1, 64, 256])
@pytest.mark.parametrize("seed", range(5))
def test_no_two_that_live_at_once_overlap(seed, alignment):
    intervals = _random_intervals(seed)
    offsets, total = plan(intervals, alignment)
    owner = np.zeros((max(last for _, last, _ in intervals) + 1, total), dtype=bool)
    for (first, last, nbytes), offset in zip(intervals, offsets, strict=True):
        assert offset % alignment == 0
        room = owner[first : last + 1, offset : offset + nbytes]
        assert room.shape[1] == nbytes
        assert not room.any()
        room[...] = True


@pytest.mark.parametrize("seed", range(5))
def test_total_is_near_the_most_that_lives_at_once(seed):
    for intervals, slack in ((_random_intervals(seed), 1.25), (_step(seed), 1.1)):
        _, total = plan(intervals)
        assert peak(intervals) <= total <= slack * peak(intervals)


def test_touching_lives_do_not_share():
    """What an equation reads and what it writes are alive together."""
    offsets, total = plan([(0, 3, 100), (3, 5, 100)], 64)
    assert sorted(offsets) == [0, 128]
    assert total == 256
    assert plan([(0, 3, 100), (4, 5, 100)], 64) == ([0, 0], 128)


def test_small_arrays_fill_the_gaps():
    offsets, total = plan([(0, 1, 1024), (2, 3, 512), (2, 3, 512)], 64)
    assert total == 1024
    assert sorted(offsets[1:]) == [0, 512]


def test_same_intervals_same_plan():
    intervals = _random_intervals(3)
    assert plan(intervals) == plan(list(intervals))


def test_nothing_and_zero_bytes():
    assert plan([]) == ([], 0)
    assert plan([(0, 9, 0), (0, 9, 8), (0, 9, 0)], 64) == ([0, 0, 0], 64)
    assert peak([]) == 0
