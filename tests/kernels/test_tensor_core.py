"""`tensor_core.cuh`: fragments, products and asynchronous copies, and what the twins refuse."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend import nvrtc
from gpunet.backend.kernels import assemble, cuda_type
from gpunet.errors import KernelError

FILE = "test_tensor_core.cu"
HALVES = [np.dtype("f2"), np.dtype(ml_dtypes.bfloat16)]
half = pytest.mark.parametrize("dtype", HALVES, ids=["half", "bfloat16"])


def in_order(a, b, c):
    """The product as the twin adds it up: one k after another, each sum rounded to float."""
    a, b, total = a.astype("f4"), b.astype("f4"), c.astype("f4")
    for k in range(a.shape[1]):
        total = total + a[:, k, None] * b[None, k]
    return total


def same_bits(actual, expected):
    np.testing.assert_array_equal(actual.view("u4"), expected.view("u4"))


@half
@pytest.mark.parametrize("transposed", [False, True])
def test_product_through_shared_memory(kernel, any_order, rng, dtype, transposed):
    a, b = rng.normal(size=(16, 16)).astype(dtype), rng.normal(size=(16, 8)).astype(dtype)
    c = rng.normal(size=(16, 8)).astype("f4")
    expected, near = in_order(a, b, c), a.astype("f8") @ b.astype("f8") + c
    stored = np.ascontiguousarray(b.T) if transposed else b
    run = kernel(FILE, "multiply_16x8x16", (cuda_type(dtype), transposed))
    run(grid=1, block=32, args=(a, stored, c))
    same_bits(c, expected)
    np.testing.assert_allclose(c, near, atol=2e-5)


@half
def test_product_of_fragments_packed_by_hand(kernel, rng, dtype):
    a, b = rng.normal(size=(16, 16)).astype(dtype), rng.normal(size=(16, 8)).astype(dtype)
    c = np.empty((16, 8), "f4")
    run = kernel(FILE, "multiply_packed", (cuda_type(dtype),))
    run(grid=1, block=32, args=(a.view("u2"), b.view("u2"), c))
    same_bits(c, in_order(a, b, np.zeros((16, 8))))


@half
def test_products_of_the_whole_range(kernel, rng, dtype):
    """Subnormals, infinities and NaN go through like any float."""
    a = rng.integers(0, 65536, (16, 16)).astype("u2")
    b = rng.integers(0, 65536, (16, 8)).astype("u2")
    c = np.empty((16, 8), "f4")
    kernel(FILE, "multiply_packed", (cuda_type(dtype),))(grid=1, block=32, args=(a, b, c))
    with np.errstate(all="ignore"):
        expected = in_order(a.view(dtype), b.view(dtype), np.zeros((16, 8)))
    np.testing.assert_array_equal(c, expected)


def tf32(x):
    """To nearest with ten bits after the leading one, halfway cases away from zero."""
    mantissa, exponent = np.frexp(x.astype("f8"))
    scaled = np.abs(mantissa) * 2**11
    rounded = np.floor(scaled + 0.5)
    return np.copysign(np.ldexp(rounded, exponent - 11), x).astype("f4")


def test_round_to_tf32(kernel, rng):
    x = rng.normal(size=5000).astype("f4")
    x[:1000].view("u4")[:] = x[:1000].view("u4") & 0xFFFFF000 | 0x1000  # exactly halfway
    x[-4:] = [0.0, -0.0, np.inf, -np.inf]
    y = np.empty_like(x)
    kernel(FILE, "round_to_tf32")(grid=4, block=256, args=(x, y, x.size))
    same_bits(y, np.where(np.isfinite(x), tf32(np.where(np.isfinite(x), x, 0)), x))
    assert (y.view("u4") & 0x1FFF == 0).all()
    z = np.array([np.nan, -np.nan], "f4")
    kernel(FILE, "round_to_tf32")(grid=1, block=32, args=(z, y, 2))
    assert np.isnan(y[:2]).all()


@pytest.mark.parametrize("rounded", [True, False])
def test_product_in_tf32(kernel, any_order, rng, rounded):
    a, b = rng.normal(size=(16, 8)).astype("f4"), rng.normal(size=(8, 8)).astype("f4")
    c = np.empty((16, 8), "f4")
    kernel(FILE, "multiply_tf32", (rounded,))(grid=1, block=32, args=(a, b, c))
    # Without rounding, the hardware does not see the lower bits.
    short = [tf32(x) if rounded else (x.view("u4") & 0xFFFFE000).view("f4") for x in (a, b)]
    same_bits(c, in_order(*short, np.zeros((16, 8))))
    np.testing.assert_allclose(c, a @ b, atol=1e-2)


@pytest.mark.parametrize("transposed", [False, True])
def test_fragments_of_four_matrices(kernel, any_order, transposed):
    x, out = np.arange(256, dtype="u2"), np.empty((32, 4), "u4")
    kernel(FILE, "load_four", (transposed,))(grid=1, block=32, args=(x, out))
    matrices = x.reshape(4, 8, 8).astype("u4")
    if transposed:
        matrices = matrices.transpose(0, 2, 1)
    low, high = matrices[..., 0::2], matrices[..., 1::2]
    np.testing.assert_array_equal(out, (low | high << 16).reshape(4, 32).T)


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("size", [4, 8, 16])
def test_pipeline_of_asynchronous_copies(kernel, any_order, rng, stages, size):
    per, threads = size // 4, 512 // size
    run = kernel(FILE, "sum_tiles", (stages, size))
    for n in (4, 128, 1000):
        tiles = -(-n // 128)
        x, y = rng.integers(0, 100, n).astype("f4"), np.empty(threads, "f4")
        run(grid=1, block=threads, args=(x, y, np.int32(tiles), n))
        padded = np.zeros(tiles * 128)
        padded[:n] = x
        turned = np.roll(padded.reshape(tiles, 128), -per, axis=1)
        np.testing.assert_array_equal(y, turned.reshape(-1, threads).sum(0))


def test_a_copy_cannot_be_seen_before_it_was_waited_for(kernel):
    x, y = np.arange(1, 5, dtype="f4"), np.empty(6, "f4")
    kernel(FILE, "look_early")(grid=1, block=1, args=(x, y))
    np.testing.assert_array_equal(y, [np.nan, np.nan, 1, np.nan, 1, 0])


MISUSE = [
    r"mma_m16n8k16 .* needs all 32 lanes of its warp; only 0x7fffffff take part",
    r"ldmatrix_x4 \(test_tensor_core.cu line \d+\): misaligned address .* multiple of 16",
    r"ldmatrix_x4 .*is not in shared memory",
    r"thread \(1, 0, 0\): ldmatrix_x2 .*is not in shared memory",
    r"cp_async_16 .*: misaligned address .* multiple of 16",
    r"cp_async_16 .*: the global address .* is not a multiple of 16",
    r"cp_async_4 .*is not in shared memory",
    r"cp_async_16 \(test_tensor_core.cu line \d+\): the thread ends before it has waited",
    r"cp_async_16 .*: the thread ends before it has waited",
]


@pytest.mark.parametrize("kind", range(len(MISUSE)))
def test_misuse_is_refused(kernel, kind):
    memory = np.zeros(80, "f4")
    start = -memory.ctypes.data % 16 // 4
    x = memory[start : start + 64]  # at a multiple of 16 bytes
    run = kernel(FILE, "misuse", (kind,))
    for _ in range(2):  # also after a failure, nothing is left of it
        with pytest.raises(KernelError, match=MISUSE[kind]):
            run(grid=1, block=32, args=(x,))


@pytest.mark.parametrize("block", [20, 40])
def test_a_warp_that_is_not_whole(kernel, block):
    a, b, c = np.zeros((16, 16), "u2"), np.zeros((16, 8), "u2"), np.zeros((16, 8), "f4")
    with pytest.raises(KernelError, match=r"mma_m16n8k16 .*needs all 32 lanes"):
        kernel(FILE, "multiply_packed", ("__half",))(grid=1, block=block, args=(a, b, c))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_compiles_for_real_gpus(architecture):
    names = [f"multiply_16x8x16<{t}, {b}>" for t in ("__half", "__nv_bfloat16") for b in (0, 1)]
    names += ["multiply_packed<__half>", "multiply_packed<__nv_bfloat16>", "round_to_tf32"]
    names += ["multiply_tf32<true>", "multiply_tf32<false>", "load_four<true>", "load_four<false>"]
    names += [f"sum_tiles<3, {size}>" for size in (4, 8, 16)] + ["look_early"]
    text = assemble(Path(__file__).with_name(FILE).read_text(), FILE)
    cubin = nvrtc.compile_cubin(text, names, architecture)
    assert set(cubin.kernels) == set(names) and not cubin.spills
