"""Shuffles, votes and reductions of a warp: right with every width and mask, strict with misuse."""

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend.kernels import cuda_type
from gpunet.errors import KernelError

DTYPES = ["i4", "u4", "i8", "f4", "f8", "f2", ml_dtypes.bfloat16]


def sources(kind, argument, width):
    """The lane that each lane reads, as the CUDA C++ Programming Guide defines it."""
    lane = np.arange(32)
    first, place = lane // width * width, lane % width
    if kind == "index":
        return first + argument % width
    if kind == "up":
        return np.where(place >= argument, lane - argument, lane)
    if kind == "down":
        return np.where(place + argument < width, lane + argument, lane)
    return np.where((lane ^ argument) < first + width, lane ^ argument, lane)


@pytest.mark.parametrize("dtype", DTYPES, ids=[np.dtype(d).name for d in DTYPES])
def test_shuffles_of_every_type(kernel, any_order, dtype):
    x = (np.arange(96) * 7 % 96 - 40).astype(dtype)
    out = np.empty((4, 96), dtype)
    run = kernel("warps.cu", "shuffles", (cuda_type(dtype), 32))
    run(grid=1, block=96, args=(x, out, np.int32(5)))
    for row, kind in zip(out, ("index", "up", "down", "xor"), strict=True):
        expected = x.reshape(3, 32)[:, sources(kind, 5, 32)].ravel()
        np.testing.assert_array_equal(row, expected, err_msg=kind)


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("argument", [0, 1, 3, 16, 31])
def test_shuffles_of_every_width(kernel, width, argument):
    x, out = np.arange(32, dtype="i4"), np.empty((4, 32), "i4")
    run = kernel("warps.cu", "shuffles", ("int", width))
    run(grid=1, block=32, args=(x, out, np.int32(argument)))
    for row, kind in zip(out, ("index", "up", "down", "xor"), strict=True):
        np.testing.assert_array_equal(row, sources(kind, argument, width), err_msg=kind)


def test_groups_of_lanes_on_different_paths(kernel, any_order):
    x, y = np.arange(64, dtype="i4"), np.empty(64, "i4")
    kernel("warps.cu", "halves")(grid=1, block=64, args=(x, y))
    np.testing.assert_array_equal(y, np.where(x % 32 < 16, x ^ 3, x ^ 5))


def test_lanes_meet_from_different_lines(kernel, any_order):
    y = np.empty(32, "i4")
    kernel("warps.cu", "meet")(grid=1, block=32, args=(y,))
    box = np.where(np.arange(32) < 7, np.arange(32), 100 + np.arange(32))
    np.testing.assert_array_equal(y, box[::-1])


@pytest.mark.parametrize("values", ["some", "none", "all"])
def test_votes(kernel, any_order, values):
    x = {"some": np.arange(64) % 3, "none": np.zeros(64), "all": np.full(64, 9)}[values]
    x, out = x.astype("i4"), np.empty((4, 64), "u4")
    kernel("warps.cu", "votes")(grid=1, block=64, args=(x, out))
    lanes = (x != 0).reshape(2, 32)
    ballots = (lanes * 2 ** np.arange(32, dtype="u8")).sum(1)
    expected = [ballots, lanes.any(1), lanes.all(1), [1, 1]]
    np.testing.assert_array_equal(out, np.repeat(expected, 32, axis=1))


def test_matches(kernel, any_order):
    x, out = (np.arange(32) * 5 % 7).astype("i4"), np.zeros(168, "u4")
    kernel("warps.cu", "matches")(grid=1, block=32, args=(x, out))
    equal = (x == x[:, None]) @ 2 ** np.arange(32, dtype="u8")
    rows = [equal, [0] * 32, [0] * 32, [2**32 - 1] * 32, [1] * 32, (equal & 0xFF)[:8]]
    np.testing.assert_array_equal(out, np.concatenate(rows))


@pytest.mark.parametrize("dtype", ["i4", "u4"])
def test_reductions(kernel, any_order, dtype):
    x = np.random.default_rng(0).integers(0, 1000, 64).astype(dtype)
    x -= np.array(0 if dtype == "u4" else 500, dtype)
    out = np.empty((3, 64), dtype)
    kernel("warps.cu", "reductions", (cuda_type(dtype),))(grid=1, block=64, args=(x, out))
    warps = x.reshape(2, 32)
    expected = [warps.sum(1), warps.min(1), warps.max(1)]
    np.testing.assert_array_equal(out, np.repeat(expected, 32, axis=1))


@pytest.mark.parametrize("block", [32, 20])
def test_lanes_that_left_do_not_count(kernel, any_order, block):
    x, y = np.arange(32, dtype="i4"), np.empty(32, "i4")
    kernel("warps.cu", "some_left")(grid=1, block=block, args=(x, y, np.int32(11), np.int32(4)))
    np.testing.assert_array_equal(y[:11], 4 + 11)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("some_left", (np.arange(32, dtype="i4"), np.int32(11), np.int32(30)), "reads lane 30 by"),
        ("not_in_mask", (), r"calls __shfl_sync \(warps.cu line \d+\) but is not in its mask"),
        ("outside_mask", (), r"lane 8 reads lane 16 by __shfl_down_sync .*not in the mask"),
        ("different_functions", (), "call different warp functions: __(shfl|any)_sync"),
        ("odd_width", (), "width is 1, 2, 4, 8, 16 or 32, not 12"),
        ("one_lane_missing", (), r"31 threads? at __shfl_sync .*, 0 threads exited"),
    ],
)
def test_misuse(kernel, any_order, name, args, message):
    y = np.zeros(32, "i4")
    with pytest.raises(KernelError, match=message):
        kernel("warps.cu", name)(grid=1, block=32, args=(*args[:1], y, *args[1:]))


def test_twin_of_a_warp_instruction(kernel, any_order):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 4)).astype("f4"), rng.normal(size=(4, 8)).astype("f4")
    c = np.empty((8, 8), "f4")
    kernel("warps.cu", "matrix_product")(grid=1, block=32, args=(a, b, c))
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-6)
