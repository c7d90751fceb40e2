"""Matrix products through cuBLASLt, on a stand-in for the library that computes on the CPU."""

import contextlib
import ctypes
import subprocess
import sys
import types
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gpunet import config
from gpunet.backend import blas
from gpunet.backend.emulator import toolchain
from gpunet.errors import ArgumentError, DTypeError, KernelError, ShapeError
from gpunet.ops.matmul_launch import gpu_matmul
from gpunet.testing import assert_close

DTYPES = [np.dtype(d) for d in ("f4", "f2", ml_dtypes.bfloat16)]


class Array(np.ndarray):
    """A NumPy array that tells its address as CuPy arrays do."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)


def array(x):
    return np.asarray(x).view(Array)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("cublaslt") / "libcublasLt.so"
    source = Path(__file__).with_name("cublaslt.cpp")
    flags = ("-std=c++17", "-O1", "-fPIC", "-shared", "-I", str(toolchain.CPP))
    subprocess.run([*toolchain.compiler(), *flags, str(source), "-o", str(path)], check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.cublasLtGetStatusString.restype = ctypes.c_char_p
    return loaded


@pytest.fixture
def capturing():
    """Whether the current stream captures a graph."""
    return False


@pytest.fixture(autouse=True)
def cuda(library, monkeypatch, capturing):
    """CuPy and cuBLASLt, both stand-ins; nothing that earlier tests kept is used."""
    cuda = types.SimpleNamespace(
        Device=lambda index: contextlib.nullcontext(),
        runtime=types.SimpleNamespace(getDevice=lambda: 0),
        get_current_stream=lambda: types.SimpleNamespace(ptr=7, is_capturing=lambda: capturing),
    )
    cupy = types.SimpleNamespace(
        cuda=cuda,
        empty=lambda shape, dtype: array(np.full(shape, -7).astype(dtype)),
        zeros=lambda shape, dtype: array(np.zeros(shape, dtype)),
        ascontiguousarray=lambda x: array(np.ascontiguousarray(x)),
        broadcast_to=lambda x, shape: array(np.broadcast_to(x, shape)),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(blas, "_library", lambda: library)
    kept = (blas._plan, blas._handle)
    monkeypatch.setattr(blas, "_workspaces", {})
    for cache in kept:
        cache.cache_clear()
    yield
    for cache in kept:
        cache.cache_clear()


@pytest.fixture
def plans(monkeypatch):
    """The keys of the plans that were asked for."""
    asked, plan = [], blas._plan
    monkeypatch.setattr(blas, "_plan", lambda *key: asked.append(key) or plan(*key))
    return asked


def draw(*shape, dtype="f4", seed=0):
    return array(np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype))


def wide(x):
    return np.asarray(x, np.float64)


def check(y, expected, dtype=np.float32):
    assert type(y) is Array and y.dtype == dtype and y.flags.c_contiguous
    assert_close(np.asarray(y), expected, np.dtype(dtype).name)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_every_dtype(dtype, transpose_a, transpose_b):
    a = draw(*((5, 3) if transpose_a else (3, 5)), dtype=dtype)
    b = draw(*((7, 5) if transpose_b else (5, 7)), dtype=dtype)
    y = blas.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    left, right = wide(a.T if transpose_a else a), wide(b.T if transpose_b else b)
    check(y, left @ right, dtype)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (2, 6, 4, 5)),
        ((1, 6, 3, 4), (2, 6, 4, 5)),
        ((6, 1, 3, 4), (1, 2, 4, 5)),
        ((0, 3, 4), (4, 5)),
        ((1, 1), (1, 1)),
        ((1, 4), (4, 5)),
        ((3, 4), (4, 1)),
        ((2, 3, 0), (0, 5)),
        ((3, 0), (0, 5)),
        ((0, 4), (4, 5)),
    ],
)
def test_leading_axes_and_lengths_of_zero_and_one(first, second):
    a, b = draw(*first), draw(*second)
    check(blas.matmul(a, b), wide(a) @ wide(b))


VIEWS = {
    "rows at a distance": lambda x: np.repeat(x, 2, -2)[..., ::2, :],
    "columns at a distance": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "part of a wider matrix": lambda x: np.concatenate([x, x], -1)[..., : x.shape[-1]],
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :],
    "batch in the middle": lambda x: np.ascontiguousarray(x.swapaxes(0, -2)).swapaxes(0, -2),
    "batch of the same": lambda x: np.broadcast_to(x[:1], x.shape),
    "matrices in reverse": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every other matrix": lambda x: np.repeat(x, 2, 0)[::2],
}


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_views(view, transpose):
    a, b = (array(VIEWS[view](np.asarray(draw(4, 4, 4, seed=i)))) for i in range(2))
    y = blas.matmul(a, b, transpose_a=transpose, transpose_b=not transpose)
    left, right = (x.swapaxes(-1, -2) if t else x for x, t in ((a, transpose), (b, not transpose)))
    check(y, wide(left) @ wide(right))


@pytest.mark.parametrize(
    ("view", "stays"),
    [("rows at a distance", True), ("transposed", True), ("columns at a distance", False)],
)
def test_views_are_copied_only_if_they_must_be(view, stays):
    a = array(VIEWS[view](np.asarray(draw(2, 3, 5))))
    read, layout = blas._layout(a, (2,), False)
    assert (read is a) is stays
    assert layout.stride == (a.strides[0] // a.itemsize if stays else 15)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_epilogues(dtype):
    a, b, bias = draw(3, 5, dtype=dtype), draw(5, 8, dtype=dtype), draw(8, dtype=dtype)
    product = wide(a) @ wide(b)
    check(blas.matmul(a, b, epilogue="bias", bias=bias), product + wide(bias), dtype)
    check(blas.matmul(a, b, epilogue="relu"), np.maximum(product, 0), dtype)
    y = blas.matmul(a, b, epilogue="relu_bias", bias=bias)
    check(y, np.maximum(product + wide(bias), 0), dtype)
    check(blas.matmul(a, b, epilogue="gelu"), gelu(product), dtype)
    check(blas.matmul(a, b, epilogue="gelu_bias", bias=bias), gelu(product + wide(bias)), dtype)


def test_epilogues_that_write_twice():
    a, b, bias = draw(3, 5), draw(5, 8), draw(8)
    product = wide(a) @ wide(b)
    aux = array(np.empty((3, 8), "f4"))
    y = blas.matmul(a, b, epilogue="gelu_aux_bias", bias=bias, aux=aux)
    check(y, gelu(product + wide(bias)))
    check(aux, product + wide(bias))
    slope = (gelu(wide(aux) + 1e-5) - gelu(wide(aux) - 1e-5)) / 2e-5
    sums = array(np.empty(8, "f4"))
    np.testing.assert_allclose(
        blas.matmul(a, b, epilogue="dgelu", aux=aux), product * slope, rtol=1e-3, atol=1e-3
    )
    blas.matmul(a, b, epilogue="dgelu_bias_gradient", aux=aux, bias=sums)
    np.testing.assert_allclose(sums, (product * slope).sum(0), rtol=1e-3, atol=1e-3)
    check(blas.matmul(a, b, epilogue="bias_gradient", bias=sums), product)
    check(sums, wide(b).sum(0))


def test_plans_are_kept_and_addresses_are_not():
    first, second = draw(3, 5), draw(3, 5, seed=1)
    b, biases = draw(5, 8), (draw(8), draw(8, seed=1))
    for a, bias in zip((first, second), biases, strict=True):
        y = blas.matmul(a, b, epilogue="bias", bias=bias)
        check(y, wide(a) @ wide(b) + wide(bias))
    assert blas._plan.cache_info().misses == 1
    blas.matmul(first, b, tf32=True)
    assert blas._plan.cache_info().misses == 2
    out = array(np.empty((3, 8), "f4"))
    assert blas.matmul(first, b, out=out) is out
    check(out, wide(first) @ wide(b))


@pytest.mark.parametrize("capturing", [False, True])
def test_scratch_memory_of_a_graph_is_not_kept(capturing):
    for _ in range(2):
        check(blas.matmul(draw(3, 5), draw(5, 8)), wide(draw(3, 5)) @ wide(draw(5, 8)))
    assert len(blas._workspaces) == (0 if capturing else 1)


@pytest.mark.parametrize("capturing", [True])
def test_a_graph_uses_the_scratch_memory_that_its_stream_has(monkeypatch):
    monkeypatch.setattr(blas, "_workspaces", {(0, 7): array(np.empty(4, "u1"))})
    monkeypatch.setattr(sys.modules["cupy"], "empty", lambda shape, dtype: 1 / 0)
    out = array(np.empty((3, 8), "f4"))
    blas.matmul(draw(3, 5), draw(5, 8), out=out)
    check(out, wide(draw(3, 5)) @ wide(draw(5, 8)))


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        (((3, 4), (5, 6)), {}, ShapeError, r"one length. Received: a=\(3, 4\), b=\(5, 6\)"),
        (((3,), (3, 6)), {}, ShapeError, "needs two axes"),
        (((2, 3, 4), (3, 4, 6)), {}, ShapeError, "leading axes must broadcast"),
        (((3, 4), (4, 6)), {"epilogue": "tanh"}, ArgumentError, "one of .*epilogue='tanh'"),
        (((3, 4), (4, 6)), {"epilogue": "bias"}, ArgumentError, "needs `bias`"),
        (((3, 4), (4, 6)), {"bias": draw(6)}, ArgumentError, r"\) False. Received: bias"),
        (((3, 4), (4, 6)), {"epilogue": "bias", "bias": draw(3)}, ArgumentError, r"\(\(3,\)"),
        (((3, 4), (4, 8)), {"epilogue": "dgelu"}, ArgumentError, "needs `aux`"),
        (((3, 4), (4, 6)), {"out": draw(4, 6)}, ShapeError, r"`out` must be .*\(3, 6\)"),
        (((2, 3, 4), (4, 8)), {"epilogue": "bias_gradient"}, ShapeError, "not a batch"),
        (((3, 4), (4, 6)), {"epilogue": "dgelu"}, ShapeError, "multiple of 8 columns"),
        (((3, 4), (4, 13)), {}, KernelError, r"no algorithm for matmul \(3, 13\) x 1"),
    ],
)
def test_bad_arguments(shapes, options, error, message):
    with pytest.raises(error, match=message):
        blas.matmul(*map(lambda s: draw(*s), shapes), **options)


def test_dtypes_that_cublaslt_does_not_multiply():
    with pytest.raises(DTypeError, match="a='float64'"):
        blas.matmul(draw(2, 2, dtype="f8"), draw(2, 2, dtype="f8"))
    with pytest.raises(DTypeError, match="b='float16'"):
        blas.matmul(draw(2, 2), draw(2, 2, dtype="f2"))
    assert blas.supports("float16") and not blas.supports("float64")


def test_failures_name_the_product(library, monkeypatch):
    with pytest.raises(KernelError, match="cublasLtMatrixLayoutCreate failed: invalid value"):
        blas._matrix_layout(0, blas.Layout(4, 4, 3, 0, False), 1)


def test_the_rule_of_matmul_makes_one_product_of_many(plans):
    x, kernel = draw(2, 3, 4), draw(4, 5)
    check(gpu_matmul(x, kernel), wide(x) @ wide(kernel))
    check(gpu_matmul(x, draw(5, 4), transpose2=True), wide(x) @ wide(draw(5, 4)).T)
    check(gpu_matmul(x, draw(2, 3, 5), transpose1=True), wide(x).swapaxes(1, 2) @ draw(2, 3, 5))
    shapes = [key[4:6] for key in plans]
    assert shapes == [((6, 5), 1), ((6, 5), 1), ((4, 5), 2)]


def test_the_setting_of_precision_reaches_cublaslt(plans):
    for precision in ("highest", "high"):
        config.set_float32_matmul_precision(precision)
        try:
            gpu_matmul(draw(2, 3), draw(3, 4))
            gpu_matmul(draw(2, 3, dtype="f2"), draw(3, 4, dtype="f2"))
        finally:
            config.set_float32_matmul_precision("highest")
    assert [key[7] for key in plans] == [False, False, True, False]
    with pytest.raises(ArgumentError, match="'highest', 'high'"):
        config.set_float32_matmul_precision("tf32")
