"""C++ kernels for products, updates, indices and draws: what tables of cases do not ask."""

import numpy as np
import pytest

from gpunet.backend import native
from gpunet.core.primitive import REGISTRY


def operand(x):
    return native.Operand(x.shape, x.dtype, tuple(s // x.itemsize for s in x.strides))


def plan(name, inputs, outputs, **attributes):
    rule = REGISTRY[name].rules["native"]
    return rule([operand(x) for x in inputs], [operand(y) for y in outputs], **attributes)


def run(name, inputs, outputs, **attributes):
    return native.call(plan(name, inputs, outputs, **attributes), inputs, outputs)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- products -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_products_of_any_lengths_and_strides(seed):
    rng = np.random.default_rng(seed)
    m, n, k = (int(rng.choice([1, 2, 7, 8, 16, 33, 64, 97, 130, 300, 500])) for _ in range(3))
    flips = [bool(f) for f in rng.integers(0, 2, 2)]
    steps = rng.integers(1, 3, 4)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    given = []
    for x, flip, step in ((a, flips[0], steps[:2]), (b, flips[1], steps[2:])):
        x = (x.T if flip else x).astype(np.float32)
        wide = np.full([length * s for length, s in zip(x.shape, step, strict=True)], np.nan, "f")
        wide[:: step[0], :: step[1]] = x
        given.append(wide[:: step[0], :: step[1]])
    y = np.full((m, n), np.nan, np.float32)
    assert run("matmul", given, [y], transpose1=flips[0], transpose2=flips[1]) == 0
    np.testing.assert_allclose(y, a @ b, rtol=1e-4, atol=1e-4)


def test_products_read_no_further_than_their_operands():
    """Tiles are wider than these matrices; what follows them in memory is NaN."""
    for m, k, n in ((1, 5, 3), (9, 7, 17), (33, 3, 65), (16, 16, 48)):
        memory = np.full(2 * (m * k + k * n), np.nan, np.float32)
        a, b = memory[: m * k].reshape(m, k), memory[2 * m * k :][: k * n].reshape(k, n)
        a[:], b[:] = normal(m, k), normal(k, n)
        around = np.full(m * n + 32, 5, np.float32)
        y = around[16:-16].reshape(m, n)
        assert run("matmul", [a, b], [y], transpose1=False, transpose2=False) == 0
        np.testing.assert_allclose(y, a @ b, rtol=1e-4, atol=1e-5)
        assert (around[:16] == 5).all() and (around[-16:] == 5).all()


def test_a_product_has_the_same_bits_each_time():
    a, b = normal(70, 9000), normal(9000, 40, seed=1)
    first, again = np.empty((2, 70, 40), np.float32)
    for y in (first, again):
        run("matmul", [a, b], [y], transpose1=False, transpose2=False)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("abc,cde->abde", ((2, 6, 8), (8, 2, 4), (2, 6, 2, 4))),
        ("abcd,cde->abe", ((2, 6, 2, 4), (2, 4, 8), (2, 6, 8))),
        ("abe,cde->abcd", ((2, 6, 8), (2, 4, 8), (2, 6, 2, 4))),
        ("abe,abcd->cde", ((2, 6, 8), (2, 6, 2, 4), (2, 4, 8))),
        ("abde,cde->abc", ((2, 6, 2, 4), (8, 2, 4), (2, 6, 8))),
        ("abde,abc->cde", ((2, 6, 2, 4), (2, 6, 8), (8, 2, 4))),
        ("btnh,bsnh->bnts", ((2, 6, 2, 4), (2, 5, 2, 4), (2, 2, 6, 5))),
    ],
)
def test_attention_heads_need_no_copies(equation, shapes):
    arrays = [normal(*shape) for shape in shapes]
    launch = plan("einsum", arrays[:2], arrays[2:], equation=equation)
    assert launch.strided and launch.scratch == 0


# -- updates --------------------------------------------------------------------------------------

_UPDATES = {
    "sgd_update": (0, {}),
    "momentum_update": (1, {"momentum": 0.9, "nesterov": True}),
    "rmsprop_update": (1, {"rho": 0.9, "epsilon": 1e-7}),
    "adam_update": (2, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "lion_update": (1, {"beta_1": 0.9, "beta_2": 0.99}),
}


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.004])
@pytest.mark.parametrize("name", _UPDATES)
def test_updates_have_the_bits_of_numpy_in_place(name, decay, scale):
    slots, attributes = _UPDATES[name]
    arrays = [np.abs(normal(20011, seed=i)) - (i < 2) for i in range(2 + slots)]
    scalars = [np.array(0.003, np.float32)]
    scalars += [np.array(3, np.int32)] * (name == "adam_update")
    scalars += [np.array(0.37, np.float32)] * scale
    attributes = {**attributes, "weight_decay": decay}
    expected = REGISTRY[name].rules["cpu"](*arrays, *scalars, **attributes)
    outputs = [arrays[0], *arrays[2:]]
    launch = plan(name, [*arrays, *scalars], outputs, **attributes)
    assert launch.in_place == ((0, 0), *((1 + i, 2 + i) for i in range(slots)))
    assert native.call(launch, [*arrays, *scalars], outputs) == 0
    for y, other in zip(outputs, expected if slots else (expected,), strict=True):
        np.testing.assert_array_equal(y, other)


def test_all_finite_finds_one_infinity_anywhere():
    for place in (0, 31, 32, 70000, 99999):
        x, y = normal(100000), np.array(True)
        assert run("all_finite", [x], [y]) == 0
        assert y
        x[place] = np.inf
        assert run("all_finite", [x], [y]) == 0
        assert not y


# -- indices --------------------------------------------------------------------------------------

_PLACES = {
    "take": (((5, 3), (2,)), (2, 3), {"axis": 0}),
    "index_add": (((2, 3), (2,)), (5, 3), {"axis": 0, "length": 5}),
    "take_along_axis": (((5, 3), (2, 3)), (2, 3), {"axis": 0}),
    "add_along_axis": (((2, 3), (2, 3)), (5, 3), {"axis": 0, "length": 5}),
    "gather_rows": (((5, 3), (2, 1)), (2, 3), {}),
    "scatter_update": (((5, 3), (2, 1), (2, 3)), (5, 3), {"reduction": "add"}),
}


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("name", _PLACES)
def test_indices_out_of_range_end_a_kernel(name, dtype):
    (shape, index_shape, *others), out, attributes = _PLACES[name]
    x, rest = normal(*shape), [normal(*s) for s in others]
    y = x if name == "scatter_update" else np.empty(out, np.float32)
    before = x.copy()
    for bad, status in ((-5, 0), (4, 0), (-6, 1), (5, 1)):
        ids = np.zeros(index_shape, dtype)
        ids.flat[-1] = bad
        x[:] = before
        assert run(name, [x, ids, *rest], [y], **attributes) == status
        if status:
            np.testing.assert_array_equal(x, before)


# -- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8, 511, 513, 4097, 20001])
def test_draws_have_the_bits_of_numpy(size):
    seed, x = np.array([2**32 - 1, 7], np.uint32), normal(size)
    shape = (size,)
    for name, dtype, given, attributes in (
        ("random_uniform", "float32", [seed], {"shape": shape, "dtype": "float32"}),
        ("random_uniform", "float64", [seed], {"shape": shape, "dtype": "float64"}),
        ("dropout", "float32", [x, seed], {"shape": shape, "rate": 0.3}),
    ):
        y = np.empty(shape, dtype)
        assert run(name, given, [y], **attributes) == 0
        np.testing.assert_array_equal(y, REGISTRY[name].rules["cpu"](*given, **attributes))
