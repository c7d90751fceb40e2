"""What kernels build on: `common.cuh` and `philox.cuh`, on the emulator."""

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend import emulator
from gpunet.backend.kernels import cuda_type
from gpunet.errors import KernelError

FLOATS = [np.dtype(d) for d in ("f4", "f2", ml_dtypes.bfloat16, "f8")]
INTEGERS = [np.dtype(d) for d in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")]
every = pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=lambda d: d.name)


@every
@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_block_sum(kernel, any_order, dtype, n):
    x, y = (np.arange(5 * n).reshape(5, n) % 3).astype(dtype), np.empty(5, dtype)
    run = kernel("common.cu", "block_sums", (cuda_type(dtype), 128))
    run(grid=5, block=128, args=(x, y, n))
    np.testing.assert_array_equal(y, x.astype("f8").sum(1).astype(dtype))


def test_half_sums_are_kept_in_float(kernel):
    x, y = np.ones((1, 5000), "f2"), np.empty(1, "f2")  # half cannot count past 2048
    run = kernel("common.cu", "block_sums", ("__half", 32))
    run(grid=1, block=32, args=(x, y, 5000))
    assert y[0] == 5000


@pytest.mark.parametrize("block", [32, 64, 256, 1024])
def test_block_sum_has_the_same_bits_in_every_order(kernel, block):
    x = np.random.default_rng(0).normal(size=(1, 4096)).astype("f4")
    sums = []
    for schedule in (("forward",), ("reverse",), ("random", 1)):
        y = np.empty(1, "f4")
        with emulator.schedule(*schedule):
            run = kernel("common.cu", "block_sums", ("float", block))
            run(grid=1, block=block, args=(x, y, 4096))
        sums.append(y.tobytes())
    assert len(set(sums)) == 1
    np.testing.assert_allclose(np.frombuffer(sums[0], "f4"), x.astype("f8").sum(), atol=1e-4)


@pytest.mark.parametrize("operation", ["Max", "Min"])
@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype("i4"), np.dtype("u8")], ids=lambda d: d.name)
def test_block_extremes(kernel, any_order, dtype, operation):
    x = (np.arange(300).reshape(3, 100) * 77 % 300).astype(dtype)
    y = np.empty((3, 64), dtype)
    run = kernel("common.cu", "block_extremes", (cuda_type(dtype), 64, operation))
    run(grid=3, block=64, args=(x, y, 100))
    expected = getattr(x, operation.lower())(axis=1, keepdims=True)
    np.testing.assert_array_equal(y, np.broadcast_to(expected, y.shape))


def test_extremes_keep_nan_and_of_nothing_are_infinite(kernel):
    x, y = np.array([[1, np.nan, 3, 4]], "f4"), np.empty((1, 32), "f4")
    for operation, empty in (("Max", -np.inf), ("Min", np.inf)):
        run = kernel("common.cu", "block_extremes", ("float", 32, operation))
        run(grid=1, block=32, args=(x, y, 4))
        assert np.isnan(y).all()
        run(grid=1, block=32, args=(x, y, 0))
        assert (y == empty).all()


@pytest.mark.parametrize("width", [1, 2, 8, 32])
def test_warp_sum_of_segments(kernel, width):
    x, y = np.arange(64, dtype="f4"), np.empty(64, "f4")
    kernel("common.cu", "warp_sums", (width,))(grid=1, block=64, args=(x, y))
    np.testing.assert_array_equal(y, np.repeat(x.reshape(-1, width).sum(1), width))


@every
@pytest.mark.parametrize("index", ["int", "long long"])
@pytest.mark.parametrize("n", [1, 15, 16, 1000])
def test_vectors(kernel, dtype, index, n):
    x, y = (np.arange(n) % 40).astype(dtype), np.empty(n, dtype)
    run = kernel("common.cu", "scale_vectors", (cuda_type(dtype), index))
    run(grid=2, block=32, args=(x, y, np.int32(n) if index == "int" else n, 2.0))
    np.testing.assert_array_equal(y, (x.astype("f8") * 2).astype(dtype))


def test_misaligned_vector(kernel):
    x, y = np.arange(9, dtype="f4")[1:], np.empty(8, "f4")
    with pytest.raises(KernelError, match="misaligned access to 16 bytes"):
        kernel("common.cu", "scale_vectors", ("float", "int"))(
            grid=1, block=32, args=(x, y, np.int32(8), 2.0)
        )


@pytest.mark.parametrize("key", [(0, 0), (1, 0), (12345678901234567890, 987654321), (2**64 - 1, 7)])
def test_uniform_is_numpys(kernel, key):
    y = np.empty(1000, "f4")
    run = kernel("common.cu", "uniform")
    run(grid=3, block=64, args=(y, np.uint64(key[0]), np.uint64(key[1]), 1000))
    generator = np.random.Generator(np.random.Philox(key=key[0] | key[1] << 64))
    assert y.tobytes() == generator.random(1000, dtype=np.float32).tobytes()


@pytest.mark.parametrize("first", [0, 5, 2**63, 2**64 - 10])
def test_philox_words_are_numpys_also_past_the_first_counter_word(kernel, first):
    y, z = np.empty(128, "u8"), np.empty(128)
    kernel("common.cu", "words")(
        grid=1, block=32, args=(y, np.uint64(3), np.uint64(4), np.uint64(first), z)
    )
    # Blocks are numbered by 64 bits; at the end of that range the numbers start again.
    starts = [(first + i) % 2**64 for i in range(32)]
    raw = [np.random.Philox(key=3 | 4 << 64, counter=start).random_raw(4) for start in starts]
    np.testing.assert_array_equal(y, np.concatenate(raw))
    draws = [
        np.random.Generator(np.random.Philox(key=3 | 4 << 64, counter=start)).random(4)
        for start in starts
    ]
    np.testing.assert_array_equal(z, np.concatenate(draws))
