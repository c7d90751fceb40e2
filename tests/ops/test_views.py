"""Views that kernels get: copied on the emulator by kernels, or read as they lie in memory."""

import numpy as np
import pytest

import gpunet.ops  # noqa: F401 - fills the registry
from gpunet.backend import emulator
from gpunet.core.primitive import REGISTRY
from gpunet.ops.copy_launch import contiguous, merge_axes

PERMUTED = [
    ((33, 65), (1, 0)),
    ((3, 40, 70), (0, 2, 1)),
    ((2, 9, 3, 33), (0, 3, 1, 2)),
    ((2, 33, 4, 8), (0, 2, 1, 3)),
    ((2, 3, 31, 32), (1, 0, 3, 2)),
    ((2, 3, 4, 5, 6), (4, 2, 0, 3, 1)),
    ((7, 3), (1, 0)),
]
CUT = [
    np.s_[::2],
    np.s_[:, ::2],
    np.s_[:, 3:],
    np.s_[:, 8:24],
    np.s_[:, ::-1],
    np.s_[::-1, ::-1],
    np.s_[:0, ::2],
    np.s_[1:2, 1:2],
]


def matrix(shape, dtype, rng):
    return rng.integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8"])
@pytest.mark.parametrize(("shape", "axes"), PERMUTED)
def test_permuted_views(shape, axes, dtype, rng):
    x = matrix(shape, dtype, rng).transpose(axes)
    y = contiguous(x)
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8"])
@pytest.mark.parametrize("cut", CUT, ids=str)
def test_cut_views(cut, dtype, rng):
    x = matrix((40, 70), dtype, rng)[cut]
    np.testing.assert_array_equal(contiguous(x), x)


def test_repeated_views(rng):
    x = matrix((5, 1, 7), "f4", rng)
    for shape in [(5, 9, 7), (3, 5, 1, 7), (2, 5, 4, 7)]:
        view = np.broadcast_to(x, shape)
        np.testing.assert_array_equal(contiguous(view), view)


def test_contiguous_arrays_are_not_copied(rng):
    x = matrix((3, 4), "f4", rng)
    assert contiguous(x) is x
    assert contiguous(np.float32(2)).shape == ()


@pytest.mark.parametrize("order", ["reverse", "random"])
def test_transposes_in_other_orders_of_threads(order, rng):
    x = matrix((65, 70), "f4", rng).T
    with emulator.schedule(order, seed=1):
        np.testing.assert_array_equal(contiguous(x), x)


@pytest.mark.parametrize("cut", [np.s_[:, 4:], np.s_[:, 3:], np.s_[::2], np.s_[::-1]], ids=str)
def test_elementwise_kernels_read_rows_where_they_lie(cut, rng):
    x = rng.standard_normal((12, 36)).astype("f4")[cut]
    column = rng.standard_normal((12, 2)).astype("f4")[: len(x), 1:]
    run = REGISTRY["add"].rules["cuda"]
    np.testing.assert_array_equal(run(x, x), x + x)
    np.testing.assert_array_equal(run(column, x), column + x)
    np.testing.assert_array_equal(run(x.T, x.T), x.T + x.T)


def test_unaligned_arrays(rng):
    x = rng.standard_normal(1024).astype("f4")[1:]
    np.testing.assert_array_equal(REGISTRY["negative"].rules["cuda"](x), -x)
    np.testing.assert_array_equal(REGISTRY["add"].rules["cuda"](x, x), x + x)
    rows = x[:1022].reshape(2, 511)
    for axis in ((0,), (1,)):
        total = REGISTRY["sum"].rules["cuda"](rows, axis=axis, keepdims=False)
        np.testing.assert_allclose(total, rows.sum(axis, dtype="f8"), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("axis", [(0,), (1,), (2,), (0, 1), (0, 2), None])
def test_reductions_of_permuted_views(axis, rng):
    x = rng.integers(0, 9, (6, 17, 9)).astype("f4")
    for axes in [(2, 1, 0), (1, 0, 2), (0, 2, 1)]:
        view = x.transpose(axes)
        for name in ("sum", "max"):
            found = REGISTRY[name].rules["cuda"](view, axis=axis, keepdims=False)
            np.testing.assert_array_equal(found, getattr(view, name)(axis))
        if axis is None or len(axis) == 1:
            where = axis and axis[0]
            found = REGISTRY["argmax"].rules["cuda"](view, axis=where, keepdims=False)
            np.testing.assert_array_equal(found, view.argmax(where))


def test_axes_that_are_stepped_through_as_one_are_merged():
    assert merge_axes((2, 3, 4), (12, 4, 1)) == ([24], [[1]])
    assert merge_axes((2, 1, 4), (8, 0, 1), (1, 0, 2)) == ([2, 4], [[8, 1], [1, 2]])
    assert merge_axes((1, 1), (0, 0)) == ([1], [[0]])
