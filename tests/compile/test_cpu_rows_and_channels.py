"""The C++ kernels of rows and channels where the case tables do not reach.

Tables that several threads share, results over inputs, infinities and NaN, means that are large
beside the deviation, labels that do not exist.
"""

import numpy as np
import pytest

from gpunet.backend import native
from gpunet.core.primitive import REGISTRY
from gpunet.testing import ops as checks
from gpunet.testing.numbers import assert_close
from tests.compile.test_cpu_kernels import launch, operand
from tests.ops.case import case, integers, normal, uniform
from tests.ops.cases import CASES

_FORWARD = [
    *("bias_activation", "bias_smooth_activation", "softmax", "log_softmax"),
    *("layer_norm", "residual_layer_norm", "rms_norm", "residual_rms_norm"),
    *("batch_norm_relu", "batch_norm_add_relu", "group_norm"),
]
_NAMES = [
    *_FORWARD,
    *(f"{name}_grad" for name in _FORWARD),
    *("batch_norm_train", "batch_norm_grad", "batch_norm_inference"),
    *("softmax_cross_entropy_grad", "dense_cross_entropy_grad", "sigmoid_cross_entropy"),
]


def plan(name, inputs, attributes):
    """The launch of a kernel, and arrays for its results."""
    outputs = [np.empty(y.shape, y.dtype) for y in checks.run(REGISTRY[name], inputs, attributes)]
    rule = REGISTRY[name].rules["native"]
    made = rule([operand(x) for x in inputs], [operand(y) for y in outputs], **attributes)
    return made, outputs


# -- results over inputs --------------------------------------------------------------------------


@pytest.mark.parametrize("name", _NAMES)
def test_results_may_lie_over_inputs(name):
    tried = 0
    for row in CASES[name]:
        inputs = row.inputs("float32")
        made, outputs = plan(name, inputs, row.attributes)
        if made is None or (row.dtypes and "float32" not in row.dtypes):
            continue
        native.call(made, inputs, outputs)
        for output, at in made.in_place:
            assert inputs[at].shape == outputs[output].shape
            copies = [np.ascontiguousarray(x).copy() for x in inputs]
            over = [np.empty_like(y) for y in outputs]
            over[output] = copies[at]
            native.call(made, copies, over)
            for y, reference in zip(over, outputs, strict=True):
                np.testing.assert_array_equal(y.ravel(), reference.ravel())
            tried += 1
    assert tried


# -- tables that threads share --------------------------------------------------------------------

# Lines and a rest, of few and of many columns; columns that no vector fits.
_SHAPES = ((2900, 10), (701, 40), (200, 300), (350, 65), (90, 515))
_EPS = {"epsilon": 1e-3}


def _large(shape):
    n, rows = shape[-1], shape[:-1]
    x, v, r, scale = normal(*shape), normal(n), normal(*rows), uniform(0.5, 1.5, n)
    variance, rstd = uniform(0.5, 1.5, n), uniform(0.5, 1.5, *rows)
    labels, lse = integers(0, n, *rows, dtype="int64"), uniform(3, 5, *rows)
    yield "bias_activation", case(x, v, activation="sigmoid")
    yield "bias_activation_grad", case(x, x, activation="relu")
    yield "bias_activation_grad", case(x, x, activation="tanh")
    yield "bias_smooth_activation", case(x, v, activation="gelu_tanh")
    yield "bias_smooth_activation_grad", case(x, x, v, activation="gelu")
    yield "batch_norm_train", case(x, scale, v, **_EPS)
    yield "batch_norm_relu", case(x, scale, v, **_EPS)
    yield "batch_norm_add_relu", case(x, x, scale, v, **_EPS)
    yield "batch_norm_grad", case(x, v, v, x, scale, v, variance, **_EPS)
    yield "batch_norm_add_relu_grad", case(x, v, v, x, x, scale, v, variance, **_EPS)
    yield "layer_norm", case(x, scale, v, **_EPS)
    yield "layer_norm_grad", case(x, r, r, x, scale, r, rstd)
    yield "residual_rms_norm_grad", case(x, x, r, x, scale, rstd)
    yield "softmax", case(x, axis=1)
    yield "softmax", case(x, axis=0)
    yield "log_softmax_grad", case(x, x, axis=0)
    yield "softmax_cross_entropy", case(x, labels)
    yield "softmax_cross_entropy_grad", case(r, r, x, labels, lse)


def _samples(*shape):
    x, v, scale = normal(*shape), normal(shape[-1]), uniform(0.5, 1.5, shape[-1])
    one, groups = normal(shape[0], 4), {"groups": 4}
    yield "group_norm", case(x, scale, v, **groups, **_EPS)
    rstd = uniform(0.5, 1.5, shape[0], 4)
    yield "group_norm_grad", case(x, one, one, x, scale, one, rstd, **groups)


_SHARED = [*(row for s in _SHAPES for row in _large(s)), *_samples(5, 300, 64)]
_ROWS = [pytest.param(*row, id=f"{row[0]}-{row[1]!r}") for row in _SHARED]


@pytest.mark.parametrize(("name", "row"), _ROWS)
def test_threads_share_a_table(name, row):
    inputs = row.inputs("float32")
    results = launch(name, inputs, row.attributes)
    again = launch(name, inputs, row.attributes)
    wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
    references = checks.run(REGISTRY[name], wide, row.attributes)
    for y, second, reference in zip(results, again, references, strict=True):
        assert_close(y, reference.numpy(), "float32", 4)
        assert y.tobytes() == second.tobytes()


# -- numbers at the limits ------------------------------------------------------------------------


def test_a_mean_that_is_large_beside_the_deviation(rng):
    x = (3000 + rng.standard_normal((640, 24))).astype("float32")
    x[:320] -= 2000  # what comes first has another mean
    one, zero = np.ones(24, "float32"), np.zeros(24, "float32")
    for name, table in (("batch_norm_train", x), ("group_norm", x.reshape(2, 320, 24))):
        settings = {"groups": 24, **_EPS} if name == "group_norm" else _EPS
        _, mean, spread = launch(name, [table, one, zero], settings)
        wide = table.astype("float64")
        np.testing.assert_allclose(mean, wide.mean(axis=-2), rtol=1e-6)
        spread = 1 / spread.astype("float64") ** 2 - 1e-3 if name == "group_norm" else spread
        np.testing.assert_allclose(spread, wide.var(axis=-2), rtol=1e-5)


@pytest.mark.parametrize("name", ["batch_norm_relu", "batch_norm_add_relu"])
def test_a_relu_after_a_norm_cuts_where_its_gradient_does(name, rng):
    x, g = rng.standard_normal((2, 900, 16)).astype("float32")
    scale, offset = rng.standard_normal((2, 16)).astype("float32")
    zero = np.zeros(16, "float32")
    residual = [x[::-1].copy()] if "add" in name else []
    y, mean, variance = launch(name, [x, *residual, scale, offset], _EPS)
    tail = [y, scale] if residual else [scale, offset]
    given = [g, zero, zero, x, *tail, mean, variance]
    sums = launch(f"{name}_grad", given, _EPS)[-1]
    np.testing.assert_allclose(sums, np.where(y > 0, g, 0).sum(0), rtol=1e-4, atol=1e-4)


def test_infinities_and_nan_in_rows():
    inf, nan = np.inf, np.nan
    x = np.zeros((5, 40), "float32")
    x[0, 3], x[1, 20], x[2, 39], x[3] = nan, inf, -inf, -inf
    with np.errstate(invalid="ignore"):
        for name in ("softmax", "log_softmax"):
            (y,) = launch(name, [x], {"axis": 1})
            (reference,) = checks.run(REGISTRY[name], [x], {"axis": 1})
            np.testing.assert_allclose(y, reference.numpy(), rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"])
def test_large_numbers_and_nan_in_activations(activation):
    x = np.array([[-1e30, -90, -15, 0, 15, 90, 1e30, np.nan] * 3], "float32")
    smooth = "smooth_" * (activation in ("silu", "gelu", "gelu_tanh"))
    zero, settings = np.zeros(24, "float32"), {"activation": activation}
    with np.errstate(over="ignore"):
        (y,) = launch(f"bias_{smooth}activation", [x, zero], settings)
    limits = {"tanh": [-1, -1, -1, 0, 1, 1, 1], "sigmoid": [0, 0, 0, 0.5, 1, 1, 1]}
    expected = limits.get(activation, [0, 0, 0, 0, 15, 90, 1e30])
    np.testing.assert_allclose(y[0, :8], [*expected, np.nan], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_slopes_at_large_numbers(activation):
    x = np.array([[-1e38, -1e30, -90, 90, 1e30, 1e38] * 4], "float32")
    given = np.ones_like(x), x, np.zeros(24, "float32")
    with np.errstate(over="ignore"):
        gx, _ = launch("bias_smooth_activation_grad", given, {"activation": activation})
    np.testing.assert_allclose(gx[0, :6], [0, 0, 0, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("label", [-1, 7, -2])
@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy", "softmax_cross_entropy_with_grad", "pick"]
)
def test_labels_that_do_not_exist_are_refused(name, label, rng):
    x = rng.standard_normal((5, 7)).astype("float32")
    labels = np.array([0, 3, 6, label, 2])
    fine = np.array([0, 3, 6, 6, 2])
    more = [np.array(1.0, "float32")] if "with_grad" in name else []
    settings = {} if name == "pick" else {"ignore_index": -2, "label_smoothing": 0.0}
    made, outputs = plan(name, [x, fine, *more], settings)
    assert native.call(made, [x, fine, *more], outputs) == 0
    ignored = label == -2 and name != "pick"
    assert native.call(made, [x, labels, *more], outputs) == (0 if ignored else 1)
