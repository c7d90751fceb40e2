"""Optimizer kernels: arenas, arrays that are not aligned, measures over many tensors."""

import numpy as np
import pytest

import gpunet
from gpunet.backend.kernels import Kernel
from gpunet.ops import update_launch
from gpunet.ops.update import adam_updates, all_finite, sum_squares
from gpunet.testing.numbers import assert_close

SHAPES = [(3, 5), (), (70,), (2, 2)]
ADAM = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "weight_decay": 0.5}
RATE, STEP = np.float32(0.125), np.float32(3)


def arena(rng, alignment):
    """Parts of one array, which begin at multiples of so many elements."""
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    starts, end = [], 0
    for size in sizes:
        starts.append(-(-end // alignment) * alignment)
        end = starts[-1] + size
    flat = rng.uniform(0.5, 2.0, end).astype(np.float32)
    parts = zip(starts, sizes, SHAPES, strict=True)
    return [flat[start : start + size].reshape(shape) for start, size, shape in parts]


def launches(monkeypatch):
    """Notes the kernels that are launched, and launches them."""
    noted, call = [], Kernel.__call__

    def note(self, **settings):
        noted.append(self.expression)
        call(self, **settings)

    monkeypatch.setattr(Kernel, "__call__", note)
    return noted


def adam_of(kinds):
    scalars = [np.asarray(RATE), np.asarray(STEP)]
    return adam_updates.rules["cuda"](*scalars, *[x for kind in kinds for x in kind], **ADAM)


@pytest.mark.parametrize("alignment", [1, 32])
def test_an_arena_is_updated_by_one_launch(alignment, monkeypatch):
    kinds = [arena(np.random.default_rng(seed), alignment) for seed in range(4)]
    expected = adam_of([[x.copy() for x in kind] for kind in kinds])
    noted = launches(monkeypatch)
    found = adam_of(kinds)
    assert len(noted) == 1
    for y, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, reference)


def test_parts_in_other_places_are_updated_one_by_one(monkeypatch):
    kinds = [arena(np.random.default_rng(seed), 1 if seed else 32) for seed in range(4)]
    noted = launches(monkeypatch)
    adam_of(kinds)
    assert len(noted) == len(SHAPES)


def test_arrays_are_joined_only_if_they_stand_together():
    flat = np.arange(12, dtype=np.float32)
    found = update_launch.joined([flat[1:4], flat[4:6]], 1)
    assert found is not None
    whole, places = found
    np.testing.assert_array_equal(whole, flat[1:6])
    assert places == [0, 3]
    for arrays in (
        [flat[:2], flat[3:4]],  # a gap
        [flat[4:6], flat[:4]],  # the other way round
        [flat[:2], flat[2:6:2]],  # strided
        [flat[:2], flat[2:4].copy()],  # of another array
        [flat.copy(), flat[:2]],  # no part of an array
    ):
        assert update_launch.joined(arrays, 1) is None


@pytest.mark.parametrize("counted", [40, 41])
def test_arrays_that_are_not_aligned(counted):
    wide = np.random.default_rng(1).uniform(0.5, 2.0, (4, counted + 1)).astype(np.float32)
    for dtype in (np.float32, np.float16):
        arrays = [row.astype(dtype)[1:] for row in wide]
        scalars = (np.asarray(RATE), np.asarray(STEP))
        found = update_launch.adam_rule(*arrays, *scalars, **ADAM)
        aligned = update_launch.adam_rule(*[x.copy() for x in arrays], *scalars, **ADAM)
        for y, reference in zip(found, aligned, strict=True):
            np.testing.assert_array_equal(y, reference)


def test_one_launch_measures_an_arena(monkeypatch):
    parts = arena(np.random.default_rng(2), 1)
    total = sum(float(np.square(x, dtype=np.float64).sum()) for x in parts)
    noted = launches(monkeypatch)
    found = sum_squares(*[gpunet.tensor(x, device="emulator") for x in parts])
    copied = len(noted)
    together = update_launch.sum_squares_rule(*parts)
    assert len(noted) - copied == 2
    assert_close(found.numpy(), np.asarray(total))
    assert_close(together, np.asarray(total))


def test_measures_of_mixed_dtypes():
    xs = [np.ones(3, np.float32), np.full(2, 2.0, np.float16), np.full(2, 3.0)]
    tensors = [gpunet.tensor(x, device="emulator") for x in xs]
    assert sum_squares(*tensors).item() == 29.0
    assert all_finite(*tensors).item() is True
    assert (
        all_finite(*tensors, gpunet.tensor(np.array([np.nan]), device="emulator")).item() is False
    )
