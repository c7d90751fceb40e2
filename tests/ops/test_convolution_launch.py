"""What the rows of the case tables do not reach in the kernels of convolutions."""

import numpy as np
import pytest

from gpunet import config
from gpunet.dtypes import numpy_dtype
from gpunet.ops import convolution_launch
from gpunet.ops.convolution import conv_input_grad, conv_kernel_grad, conv_primitive
from gpunet.testing import assert_close

SETTINGS = {"strides": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2), "groups": 1}
SIZES, COUNTS = (9, 7), (5, 4)
# How a rule is made, its primitive, the shapes of its operands, and its own attributes.
DIRECTIONS = [
    ("forward_rule", conv_primitive, ((2, *SIZES, 16), (3, 3, 16, 72)), {}),
    ("input_grad_rule", conv_input_grad, ((2, *COUNTS, 8), (3, 3, 72, 8)), {"sizes": SIZES}),
    ("kernel_grad_rule", conv_kernel_grad, ((2, *SIZES, 16), (2, *COUNTS, 72)), {"window": (3, 3)}),
]


@pytest.fixture(params=DIRECTIONS, ids=[name for name, *_ in DIRECTIONS])
def direction(request):
    return request.param


@pytest.fixture
def tf32():
    config.set_float32_matmul_precision("high")
    yield
    config.set_float32_matmul_precision("highest")


def computed(direction, inputs):
    """What the kernels compute, and the array rule in float64."""
    make, primitive, _, attributes = direction
    array = primitive.rules["array"]
    settings = {**attributes, **SETTINGS}
    y = getattr(convolution_launch, make)(array)(*inputs, **settings)
    return y, array(np, *[x.astype(np.float64) for x in inputs], **settings)


def made(rng, direction, dtype):
    return [rng.standard_normal(shape).astype(numpy_dtype(dtype)) for shape in direction[2]]


TILES = [("float32", 128), *((half, n) for half in ("float16", "bfloat16") for n in (64, 128))]


@pytest.mark.parametrize(("dtype", "columns"), TILES)
def test_large_tiles(rng, direction, dtype, columns, monkeypatch):
    monkeypatch.setattr(convolution_launch, "_tile", lambda *_: (128, columns))
    assert_close(*computed(direction, made(rng, direction, dtype)), dtype)


def rounded_to_tf32(x):
    """float32 with 10 bits after the leading one, to nearest, halfway cases away from zero."""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("size", [64, 128])
def test_tf32_rounds_the_operands_and_nothing_else(rng, tf32, direction, size, monkeypatch):
    monkeypatch.setattr(convolution_launch, "_tile", lambda *_: (size, size))
    inputs = made(rng, direction, "float32")
    y, exact = computed(direction, inputs)
    _, expected = computed(direction, [rounded_to_tf32(x) for x in inputs])
    assert_close(y, expected)
    with pytest.raises(AssertionError):
        assert_close(y, exact)


def test_single_elements_are_exact_with_tf32_too(rng, tf32, direction, monkeypatch):
    monkeypatch.setattr(convolution_launch, "_chunk", lambda *_: 1)
    assert_close(*computed(direction, made(rng, direction, "float32")))


def test_rows_that_are_not_aligned(rng, direction):
    """An array in the middle of another one: its rows do not begin at multiples of 16 bytes."""
    inputs = made(rng, direction, "float32")
    moved = []
    for x in inputs:
        moved.append(np.empty(x.size + 1, x.dtype)[1:].reshape(x.shape))
        moved[-1][...] = x
    y, expected = computed(direction, moved)
    assert_close(y, expected)


def test_sizes_of_tiles():
    half, single = np.dtype(np.float16), np.dtype(np.float32)
    places = 256 * 56 * 56
    assert convolution_launch._tile(half, places, 128, 8) == (128, 128)
    assert convolution_launch._tile(half, places, 64, 8) == (128, 64)
    assert convolution_launch._tile(single, places, 64, 4) == (64, 64)
    assert convolution_launch._tile(half, places, 128, 1) == (64, 64)  # single elements
    assert convolution_launch._tile(half, 1000, 128, 8) == (64, 64)  # would not fill a GPU
