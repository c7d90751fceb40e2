"""Gathers and scatters on kernels: what the rows of the case tables do not reach."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.backend import emulator
from gpunet.errors import GpunetError
from gpunet.ops import index_launch, scatter_launch
from gpunet.ops.cross_entropy_labels import pick, place
from gpunet.ops.index import index_add_primitive
from gpunet.testing.numbers import assert_close


def on_emulator(x):
    return gpunet.tensor(x, device="emulator")


def unaligned(x):
    """The same array where it does not begin at a multiple of 16 bytes."""
    wide = np.empty(x.size + 1, x.dtype)
    view = wide[1:].reshape(x.shape)
    view[...] = x
    return view


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_atomic_kernel_adds_the_same(dtype):
    rng = np.random.default_rng(3)
    x, ids = rng.standard_normal((2, 70, 3)).astype(dtype), rng.integers(-5, 5, 70)
    fixed = scatter_launch.index_add_rule(x, ids, 1, 5)
    loose = scatter_launch.index_add_rule(x, ids, 1, 5, atomic=True)
    assert loose.dtype == fixed.dtype
    assert_close(loose, fixed, dtype)


@pytest.mark.parametrize(("count", "length"), [(3000, 700), (20000, 200)])
def test_equal_places_keep_the_order_of_their_rows(count, length):
    places = np.random.default_rng(4).integers(0, length, count).astype(np.uint32)
    keys, order = scatter_launch.sort_places(places, length)
    expected = np.argsort(places, kind="stable")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(keys, places[expected])


def test_sums_are_the_same_bits_in_every_order_of_threads():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 5)).astype(np.float32)
    ids = rng.integers(0, 3, 300)
    expected = scatter_launch.index_add_rule(x, ids, 0, 3)
    for seed in range(2):
        with emulator.schedule("random", seed=seed):
            again = scatter_launch.index_add_rule(x, ids, 0, 3)
        np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_arrays_that_are_not_aligned(dtype):
    rng = np.random.default_rng(6)
    x, ids = unaligned(rng.integers(-9, 9, (6, 16)).astype(dtype)), rng.integers(0, 6, 9)
    np.testing.assert_array_equal(index_launch.take_rule(x, ids, 0), x[ids])
    sums = np.zeros((4, 16), dtype)
    np.add.at(sums, ids[:6] % 4, x)
    np.testing.assert_array_equal(scatter_launch.index_add_rule(x, ids[:6] % 4, 0, 4), sums)


def test_indices_out_of_range_wrap_around_and_read_nothing_else():
    x = on_emulator(np.arange(5.0, dtype=np.float32))
    assert ops.take(x, on_emulator(np.array([7, -6, 5])), axis=0).tolist() == [2.0, 4.0, 0.0]


def test_nothing_can_be_taken_from_nothing():
    x, ids = on_emulator(np.zeros((0, 3), np.float32)), on_emulator(np.array([0]))
    for gather in (lambda: ops.take(x, ids, axis=0), lambda: ops.get_item(x, (ids, ids))):
        with pytest.raises(GpunetError, match="axis of length 0"):
            gather()
    with pytest.raises(GpunetError, match="axis of length 0"):
        index_add_primitive(on_emulator(np.zeros((1, 3), np.float32)), ids, axis=0, length=0)


def test_too_many_places_are_refused():
    with pytest.raises(GpunetError, match=r"2\*\*32"):
        index_launch.row_places([(np.zeros(1, np.int32), 1, 0)] * 2, (2**20, 2**13), 1)


def test_labels_out_of_range_pick_nan_and_place_nothing():
    x, labels = np.ones((3, 4), np.float32), np.array([4, -1, 2])
    picked = pick(on_emulator(x), on_emulator(labels))
    np.testing.assert_array_equal(picked.numpy(), [np.nan, np.nan, 1.0])
    placed = place(picked, on_emulator(labels), classes=4).numpy()
    np.testing.assert_array_equal(placed, [[0] * 4, [0] * 4, [0, 0, 1, 0]])


def test_the_gradient_of_an_embedding_is_that_of_the_cpu():
    table = np.random.default_rng(7).standard_normal((11, 4)).astype(np.float32)
    ids = np.random.default_rng(8).integers(0, 3, (6, 50))
    found = []
    for device in ("cpu", "emulator"):
        weight, tokens = gpunet.tensor(table, device=device), gpunet.tensor(ids, device=device)
        loss = gpunet.grad(lambda w, t=tokens: ops.sum(ops.square(ops.take(w, t, axis=0))))
        found.append(loss(weight).numpy())
    assert_close(found[1], found[0])
