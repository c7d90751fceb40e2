"""Reductions against Keras, NumPy and float64: values, dtypes, gradients, errors."""

import ml_dtypes
import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, ShapeError, TraceError
from gpunet.testing import assert_close, check_gradients
from tests.ops.peer import assert_same_as_keras

DTYPES = "bool int8 uint8 int16 uint16 int32 uint32 float16 bfloat16 float32".split()  # noqa: SIM905
ARITHMETIC = (
    "sum mean prod var std logsumexp max amax min amin any all median average".split()  # noqa: SIM905
)
NO_KEEPDIMS = {"average", "count_nonzero"}
NAN = [
    "nansum",
    "nanprod",
    "nanmax",
    "nanmin",
    "nanmean",
    "nanvar",
    "nanstd",
    "nanmedian",
    "nanargmax",
    "nanargmin",
]


def _values(rng, dtype, *shape):
    x = rng.integers(0, 4, shape)
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("name", [*ARITHMETIC, "count_nonzero", "argmax", "argmin", "norm"])
def test_dtypes_and_values_are_those_of_keras(rng, name):
    for dtype in DTYPES:
        assert_same_as_keras(name, _values(rng, dtype, 5), factor=2)


@pytest.mark.parametrize("name", [*ARITHMETIC, "count_nonzero"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (2, 1), ()])
def test_axes(rng, name, axis):
    x = rng.uniform(0.5, 1.5, (2, 3, 4)).astype("float32")
    options = [{}] if name in NO_KEEPDIMS else [{"keepdims": False}, {"keepdims": True}]
    if axis == () and name in ("median", "average"):
        return
    for kwargs in options:
        assert_same_as_keras(name, x, axis=axis, **kwargs)


@pytest.mark.parametrize("name", ["argmax", "argmin", "nanargmax", "nanargmin"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_positions(rng, name, axis):
    x = rng.integers(0, 3, (4, 5)).astype("float32")
    for keepdims in (False, True):
        assert_same_as_keras(name, x, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("name", NAN)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_nan_is_left_out(name, axis):
    x = np.array([[1.0, np.nan, 3.0, 0.5], [np.nan] * 4, [2.0, 2.0, np.nan, -1.0]], "float32")
    for keepdims in (False, True):
        assert_same_as_keras(name, x, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("name", ["nancumsum", "nancumprod", "cumsum", "cumprod"])
def test_running_totals(rng, name):
    x = np.array([[1.0, 2.0, 0.0], [np.nan, 0.5, 4.0]], "float32")
    for axis in (None, 0, 1):
        assert_same_as_keras(name, x, axis=axis)
    for dtype in DTYPES:
        assert_same_as_keras(name, _values(rng, dtype, 5), axis=0)
    assert_same_as_keras(name, np.array([1, 2], "int32"), axis=0, dtype="float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["sum", "mean", "var"])
def test_halves_accumulate_in_float32(dtype, name):
    x = np.full(40000, 1.5).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    x[1::2] = 1
    y = getattr(ops, name)(x)
    expected = getattr(np, name)(x.astype("float64"))
    assert float(y) == pytest.approx(expected, rel=2**-8) and y.dtype == x.dtype


def test_a_mean_of_halves_does_not_overflow():
    assert ops.mean(np.full(4, 60000, "float16")).item() == 60000


@pytest.mark.parametrize("initial", [None, -3, 99])
def test_max_and_min_with_an_initial_value(rng, initial):
    x = rng.standard_normal((3, 4)).astype("float32")
    for name in ("max", "min"):
        assert_same_as_keras(name, x, axis=1, initial=initial)


def test_an_empty_set_has_no_maximum_unless_it_has_an_initial_value():
    empty = ops.zeros((0, 3))
    for reduce in (ops.max, ops.min, ops.argmax):
        with pytest.raises(ShapeError, match=r"shape=\(0, 3\)"):
            reduce(empty, axis=0)
        assert reduce(empty, axis=1).shape == (0,)
    assert ops.max(empty, axis=0, initial=-1.0).tolist() == [-1.0] * 3


def test_sums_and_means_of_nothing():
    empty = ops.zeros((0, 3))
    assert ops.sum(empty, axis=0).tolist() == [0.0] * 3
    assert ops.prod(empty, axis=0).tolist() == [1.0] * 3
    assert np.isnan(ops.mean(empty, axis=0).numpy()).all()


@pytest.mark.parametrize("ord", [None, 0, 1, 2, 3, -1, 0.5, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [0, -1])
def test_norms_of_vectors(rng, ord, axis):
    x = rng.standard_normal((3, 4)).astype("float32")
    for keepdims in (False, True):
        assert_same_as_keras("norm", x, ord=ord, axis=axis, keepdims=keepdims, factor=4)


@pytest.mark.parametrize("ord", [None, "fro", 1, -1, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [(0, 1), (2, 0)])
def test_norms_of_matrices(rng, ord, axis):
    x = rng.standard_normal((3, 4, 2)).astype("float32")
    for keepdims in (False, True):
        assert_same_as_keras("norm", x, ord=ord, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize(
    ("x", "options"),
    [([1.0, 2.0], {"ord": "fro"}), ([[1.0]], {"ord": 7}), ([[[1.0]]], {"ord": 1})],
)
def test_norms_there_are_not(x, options):
    with pytest.raises(ArgumentError, match="Received"):
        ops.norm(x, **options)


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("q", [0.5, 0.0, [0.1, 0.35, 1.0], [[0.2], [0.9]]])
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_quantiles_are_those_of_numpy(rng, method, q, axis):
    x = rng.standard_normal((5, 4, 3)).astype("float32")
    for keepdims in (False, True):
        options = {"axis": axis, "method": method, "keepdims": keepdims}
        expected = np.quantile(x.astype("float64"), q, **options)
        assert_close(ops.quantile(x, q, **options), expected, "float32")
        percent = np.array(q) * 100
        assert_close(ops.percentile(x, percent, **options), expected, "float32")
        assert_close(ops.quantile(x, gpunet.tensor(q, "float64"), **options), expected, "float32")


def test_quantiles_with_nan():
    x = np.array([[1.0, np.nan, 3.0, 7.0], [np.nan] * 4, [5.0, 2.0, 1.0, 4.0]], "float32")
    for name in ("quantile", "nanquantile"):
        assert_same_as_keras(name, x, 0.3, axis=1)
    assert_same_as_keras("nanpercentile", x, 30.0, axis=1, factor=2)
    assert_same_as_keras("median", x, axis=1)


def test_quantile_errors():
    with pytest.raises(ArgumentError, match="method='middle'"):
        ops.quantile([1.0], 0.5, method="middle")
    with pytest.raises(ShapeError, match="no elements"):
        ops.median(ops.zeros((0,)))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ops.std(x, axis=0),
        lambda x: ops.norm(x, axis=1),
        lambda x: ops.norm(x, ord=3, axis=0),
        lambda x: ops.norm(x, ord=np.inf, axis=(0, 1)),
        lambda x: ops.median(x, axis=1),
        lambda x: ops.quantile(x, [0.3, 0.8], axis=0),
        lambda x: ops.average(x, axis=0, weights=[1.0, 2.0, 0.5, 1.0]),
        lambda x: ops.nanmean(x, axis=1),
        lambda x: ops.nanvar(x, axis=1),
        lambda x: ops.ptp(x, axis=1),
        lambda x: ops.trapezoid(x, dx=0.5),
        lambda x: ops.diff(x, n=2),
        lambda x: ops.corrcoef(x),
    ],
)
def test_gradients(rng, f):
    check_gradients(f, [rng.standard_normal((4, 5))], tol=1e-5)


def test_averages(rng):
    x = rng.standard_normal((3, 4)).astype("float32")
    weights = rng.uniform(0.1, 1, (3, 4)).astype("float32")
    assert_same_as_keras("average", x, weights=weights)
    assert_same_as_keras("average", x, axis=1, weights=weights)
    assert_same_as_keras("average", x, axis=0, weights=weights[:, 0])
    assert_same_as_keras("average", np.array([1, 2], "int32"), weights=np.array([1, 3], "int32"))
    with pytest.raises(ShapeError, match=r"weights=\(2,\)"):
        ops.average(x, axis=0, weights=[1.0, 2.0])


@pytest.mark.parametrize("range", [None, (0.0, 2.0)])
def test_histograms_are_those_of_numpy(rng, range):
    x = rng.uniform(-1, 2, 200).astype("float32")
    counts, edges = ops.histogram(x, bins=7, range=range)
    expected, expected_edges = np.histogram(x, bins=7, range=range)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(edges, expected_edges, rtol=1e-5)
    assert ops.histogram([3.0, 3.0], bins=2)[0].tolist() == [0, 2]


def test_correlations_are_those_of_numpy(rng):
    x = rng.standard_normal((3, 8))
    np.testing.assert_allclose(ops.corrcoef(x), np.corrcoef(x), rtol=1e-12)


def test_differences_and_integrals(rng):
    x = rng.standard_normal((3, 5)).astype("float32")
    for n in (0, 1, 2, 6):
        np.testing.assert_allclose(ops.diff(x, n), np.diff(x, n), rtol=1e-5, atol=1e-6)
    assert_same_as_keras("diff", np.array([True, False, False]))
    places = np.sort(rng.uniform(0, 3, 5)).astype("float32")
    assert_same_as_keras("trapezoid", x, x=places, factor=2)
    assert_same_as_keras("trapezoid", x, dx=0.5, axis=0, factor=2)


@pytest.mark.parametrize("axis", [2, -3, (0, 0), 1.5])
@pytest.mark.parametrize("name", ["sum", "max", "var", "median", "cumsum", "argmax"])
def test_an_axis_that_is_none(name, axis):
    with pytest.raises(ArgumentError, match="axis="):
        getattr(ops, name)([[1.0, 2.0]], axis=axis)


def test_second_order_gradients_of_a_product_with_zeros():
    f = lambda x: ops.prod(x)  # noqa: E731
    hessian = gpunet.grad(lambda x: gpunet.grad(f)(x)[0])([0.0, 0.0, 3.0])
    assert hessian.tolist() == [0.0, 3.0, 0.0]


def test_shapes_of_functional_models():
    x = gpunet.KerasTensor((None, 3, 4))
    assert ops.sum(x, axis=1).shape == (None, 4)
    assert ops.mean(x).shape == ()
    assert ops.max(x, axis=0, keepdims=True).shape == (1, 3, 4)
    assert ops.median(x, axis=-1).shape == (None, 3)


def test_tensors_have_the_reductions_as_methods():
    x = gpunet.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.sum(axis=0).tolist() == [4.0, 6.0] and x.mean().item() == 2.5
    assert x.max().item() == 4 and x.argmax(axis=1).tolist() == [1, 1]


def test_reductions_do_not_read_values_while_tracing():
    graph = trace(lambda x: (ops.median(x), ops.histogram(x)[0]), gpunet.tensor([1.0, 2.0]))
    assert [y.shape for y in graph.outputs] == [(), (10,)]
    with pytest.raises(TraceError, match="bincount"):
        trace(ops.bincount, gpunet.tensor([1, 2]))
