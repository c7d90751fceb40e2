"""Matrix products against NumPy, in values, dtypes and gradients, and their errors."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError
from gpunet.ops.bias_activation import FROM_INPUT, FROM_OUTPUT, bias_activation
from gpunet.testing import assert_close, check_gradients

MATMUL = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((3, 4), (2, 4, 5)),
    ((0, 4), (4, 5)),
    ((2, 3, 0), (0, 2)),
]
EINSUM = [
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("ij,jk", (3, 4), (4, 5)),
    ("ba", (3, 4)),
    (" i j , j -> i ", (3, 4), (4,)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iii->i", (3, 3, 3)),
    ("iij,j->ij", (3, 3, 4), (4,)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...i,i...->...", (2, 3), (3, 2)),
    ("...a,...b", (4, 2), (4, 3)),
    ("i...->...", (3, 2, 2)),
    ("ij,ij->ij", (1, 4), (3, 4)),
    ("ij,jk->ik", (3, 1), (4, 5)),
    ("btnh,bsnh->bnts", (2, 3, 2, 5), (2, 4, 2, 5)),
    ("ij,jk,kl,l->i", (3, 4), (4, 5), (5, 6), (6,)),
    ("a,b,c->abc", (2,), (3,), (4,)),
    ("ab,ac,ad->bcd", (5, 2), (5, 3), (5, 4)),
    ("a,a,a,a,a,a,a->a", *[(3,)] * 7),
    ("a,b,c,d,e,f->bf", *[(2,)] * 6),
]
TENSORDOT = [
    ((2, 3, 4), (3, 4, 5), 2),
    ((2, 3), (3, 4), 1),
    ((2, 3), (4,), 0),
    ((2, 3, 4), (4, 3), ([2, 1], [0, 1])),
    ((2, 3, 4), (5, 4), (-1, 1)),
    ((2, 3), (2, 3), 2),
]
PAIRS = [
    ("dot", (3,), (3,)),
    ("dot", (2, 3), (3,)),
    ("dot", (2, 3), (4, 3, 5)),
    ("dot", (), (2, 3)),
    ("vdot", (2, 3), (3, 2)),
    ("vdot", (), ()),
    ("inner", (2, 3), (4, 3)),
    ("inner", (3,), (2, 4, 3)),
    ("inner", (2, 3), ()),
    ("outer", (2, 3), (4,)),
    ("outer", (), (4,)),
    ("kron", (2, 3), (3, 2)),
    ("kron", (2,), (2, 3)),
    ("kron", (2, 1, 2), (3,)),
    ("cross", (3,), (3,)),
    ("cross", (4, 3), (3,)),
    ("cross", (4, 1, 3), (5, 3)),
]


def arrays(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def same(op, reference, xs):
    y = op(*xs)
    assert y.dtype == np.float64
    assert_close(y, reference(*xs), "float64")
    check_gradients(op, xs)


@pytest.mark.parametrize(("shape1", "shape2"), MATMUL)
def test_matmul(rng, shape1, shape2):
    same(ops.matmul, np.matmul, arrays(rng, shape1, shape2))


@pytest.mark.parametrize(("equation", "shapes"), [(e, s) for e, *s in EINSUM])
def test_einsum(rng, equation, shapes):
    xs = arrays(rng, *shapes)
    same(lambda *a: ops.einsum(equation, *a), lambda *a: np.einsum(equation, *a), xs)


def test_einsum_of_operands_with_one_long_axis_left_over(rng):
    """An axis of length one that is squeezed away leaves a product without that letter."""
    xs = arrays(rng, (1, 4), (3, 1))
    same(lambda *a: ops.einsum("ij,ik->jk", *a), lambda *a: np.einsum("ij,ik->jk", *a), xs)


@pytest.mark.parametrize(("shape1", "shape2", "axes"), TENSORDOT)
def test_tensordot(rng, shape1, shape2, axes):
    xs = arrays(rng, shape1, shape2)
    same(lambda *a: ops.tensordot(*a, axes), lambda *a: np.tensordot(*a, axes), xs)


@pytest.mark.parametrize(("name", "shape1", "shape2"), PAIRS)
def test_products(rng, name, shape1, shape2):
    same(getattr(ops, name), getattr(np, name), arrays(rng, shape1, shape2))


@pytest.mark.parametrize(
    ("shape1", "shape2", "options"),
    [
        ((2,), (3,), {}),
        ((4, 2), (4, 3), {}),
        ((3, 2), (2, 3), {"axis": None, "axisa": 0}),
        ((3, 4), (3, 4), {"axis": 0}),
        ((4, 3), (4, 3), {"axisc": 0}),
    ],
)
def test_cross_of_plane_vectors_and_axes(rng, shape1, shape2, options):
    x1, x2 = arrays(rng, shape1, shape2)
    a = np.moveaxis(
        x1, options.get("axis", options.get("axisa", -1)) or options.get("axisa", 0), -1
    )
    b = np.moveaxis(x2, options["axis"] if options.get("axis") is not None else -1, -1)
    a, b = [np.concatenate([v, 0 * v[..., :1]], -1)[..., :3] for v in (a, b)]
    expected = np.cross(a, b)
    where = options["axis"] if options.get("axis") is not None else options.get("axisc", -1)
    expected = np.moveaxis(expected, -1, where)
    assert_close(ops.cross(x1, x2, **options), expected, "float64")


def test_cross_of_two_plane_vectors_is_a_number():
    assert ops.cross([1.0, 2.0], [3.0, 4.0]).item() == -2.0


@pytest.mark.parametrize(
    ("dtype1", "dtype2", "expected"),
    [
        ("int8", "int8", "int32"),
        ("int8", "int16", "int16"),
        ("uint8", "uint8", "uint8"),
        ("int32", "float16", "float16"),
        ("bool", "bool", "bool"),
        ("bool", "int32", "int32"),
        ("float16", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float32", "float64", "float64"),
    ],
)
@pytest.mark.parametrize("op", [ops.matmul, lambda a, b: ops.einsum("ij,jk->ik", a, b)])
def test_dtypes_are_those_of_keras(op, dtype1, dtype2, expected):
    import keras

    x1 = np.ones((2, 3), numpy_dtype(dtype1))
    x2 = np.ones((3, 2), numpy_dtype(dtype2))
    assert op(x1, x2).dtype == numpy_dtype(expected)
    if "64" not in dtype1 + dtype2:
        assert keras.ops.matmul(x1, x2).dtype == expected


def test_halves_are_summed_in_float32():
    """Adding one 4,096 times in float16 would stop at 2,048."""
    x = gpunet.tensor(np.ones((1, 4096)), dtype="float16")
    assert ops.matmul(x, ops.transpose(x)).item() == 4096.0
    assert ops.einsum("ij,kj->ik", x, x).item() == 4096.0


def test_weights_shared_over_a_batch_have_one_gradient_product(rng):
    """The sum over the batch is inside of the product: no array of one gradient per sample."""
    x, w = arrays(rng, (6, 5, 4), (4, 3))
    graph = gpunet.core.trace.trace(gpunet.grad(lambda a, b: ops.matmul(a, b).sum(), 1), x, w)
    largest = max(s.size for eq in graph.equations for s in eq.outputs)
    assert largest <= 6 * 5 * 4


@pytest.mark.parametrize("activation", FROM_OUTPUT + FROM_INPUT)
def test_bias_activation_is_the_activation_of_the_sum(rng, activation):
    x, b = arrays(rng, (5, 4), (4,))
    name, options = activation, {}
    if activation.startswith("gelu"):
        name, options = "gelu", {"approximate": activation == "gelu_tanh"}
    z = ops.add(x, b)
    expected = z if name == "linear" else getattr(ops, name)(z, **options)
    assert_close(bias_activation(x, b, activation), expected, "float64")
    check_gradients(lambda a, c: bias_activation(a, c, activation), [x, b])


ERRORS = [
    (lambda: ops.matmul(np.ones((2, 3)), np.ones((4, 5))), ShapeError),
    (lambda: ops.matmul(np.ones((2, 3)), 2.0), ShapeError),
    (lambda: ops.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), ShapeError),
    (lambda: ops.dot(np.ones(3), np.ones(4)), ShapeError),
    (lambda: ops.vdot(np.ones(3), np.ones(4)), ShapeError),
    (lambda: ops.inner(np.ones(3), np.ones((3, 4))), ShapeError),
    (lambda: ops.tensordot(np.ones((2, 3)), np.ones((4, 3)), 1), ShapeError),
    (lambda: ops.tensordot(np.ones((2, 3)), np.ones((3, 4)), 3), ArgumentError),
    (lambda: ops.tensordot(np.ones((2, 3)), np.ones((3, 4)), ([0, 0], [0, 1])), ArgumentError),
    (lambda: ops.tensordot(np.ones((2, 3)), np.ones((3, 4)), ([2], [0])), ArgumentError),
    (lambda: ops.tensordot(np.ones((2, 3)), np.ones((3, 4)), ([1],)), ArgumentError),
    (lambda: ops.cross(np.ones(4), np.ones(3)), ShapeError),
    (lambda: ops.einsum("ij,jk->ik", np.ones((2, 3))), ArgumentError),
    (lambda: ops.einsum("ij->ik", np.ones((2, 3))), ArgumentError),
    (lambda: ops.einsum("ij->ii", np.ones((2, 3))), ArgumentError),
    (lambda: ops.einsum("...i->i", np.ones((2, 3))), ArgumentError),
    (lambda: ops.einsum("i1->i", np.ones((2, 3))), ArgumentError),
    (lambda: ops.einsum("ij->->i", np.ones((2, 3))), ArgumentError),
    (lambda: ops.einsum("ijk->i", np.ones((2, 3))), ShapeError),
    (lambda: ops.einsum("i->i", np.ones((2, 3))), ShapeError),
    (lambda: ops.einsum("ij,jk->ik", np.ones((2, 3)), np.ones((4, 5))), ShapeError),
    (lambda: ops.einsum(np.ones(3), [0]), ArgumentError),
    (lambda: ops.einsum("ij"), ArgumentError),
    (lambda: bias_activation(np.ones((2, 3)), np.ones(2)), ShapeError),
    (lambda: bias_activation(np.ones((2, 3)), np.ones(3), "softplus"), ArgumentError),
]


@pytest.mark.parametrize(("call", "error"), ERRORS)
def test_errors_say_what_was_received(call, error):
    with pytest.raises(error, match="Received: "):
        call()


def test_shapes_of_keras_tensors():
    x = gpunet.KerasTensor((None, 5, 4))
    assert ops.matmul(x, np.ones((4, 3), "float32")).shape == (None, 5, 3)
    assert ops.einsum("bij,jk->bk", x, np.ones((4, 3), "float32")).shape == (None, 3)
    assert ops.tensordot(x, np.ones((4, 3), "float32"), 1).shape == (None, 5, 3)
