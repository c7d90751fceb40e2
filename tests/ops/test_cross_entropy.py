"""Cross-entropies against Keras on JAX: values, gradients, wrong labels and shapes."""

import jax
import keras
import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.backend import emulator
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError
from gpunet.ops import cross_entropy_launch
from gpunet.ops.cross_entropy import dense_cross_entropy, softmax_cross_entropy
from gpunet.ops.cross_entropy_labels import softmax_cross_entropy_with_grad
from gpunet.ops.cross_entropy_launch import (
    sparse_grad_rule,
    sparse_rule,
    sparse_with_grad_rule,
)
from gpunet.testing import assert_close, check_gradients

NAMES = ["binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"]


@pytest.fixture
def data(rng):
    logits = rng.standard_normal((2, 3, 5)).astype("float32") * 3
    dense = rng.random((2, 3, 5)).astype("float32")
    return logits, dense, rng.integers(0, 5, (2, 3))


def inputs(name, from_logits, data):
    logits, dense, labels = data
    target = labels if name.startswith("sparse") else dense
    if from_logits:
        return target, logits
    return target, 1 / (1 + np.exp(-logits)) if name.startswith("binary") else np.exp(logits)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_equals_keras(name, from_logits, data):
    target, output = inputs(name, from_logits, data)
    ours, theirs = getattr(gpunet.ops, name), getattr(keras.ops, name)
    y = ours(target, output, from_logits=from_logits)
    assert y.dtype == "float32"
    expected = theirs(target, output, from_logits=from_logits)
    np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-5, 1e-6)
    gradient = gpunet.grad(lambda o: ours(target, o, from_logits).sum())(output)
    expected = jax.grad(lambda o: theirs(target, o, from_logits).sum())(output)
    np.testing.assert_allclose(gradient.numpy(), np.asarray(expected), 1e-4, 1e-6)
    target, output = inputs(name, from_logits, (data[0] * 0.2, *data[1:]))
    check_gradients(lambda o: ours(target, o, from_logits), [output.astype("float64")])


@pytest.mark.parametrize("from_logits", [True, False])
def test_other_axes(from_logits, data):
    for name in NAMES[1:]:
        target, output = inputs(name, from_logits, data)
        f = getattr(gpunet.ops, name)
        expected = f(target, output, from_logits).numpy()
        moved = np.moveaxis(output, -1, 1)
        target = target if name.startswith("sparse") else np.moveaxis(target, -1, 1)
        y = f(target, moved, from_logits, axis=1).numpy()
        np.testing.assert_allclose(y, expected, 1e-5, 1e-6)


@pytest.mark.parametrize("from_logits", [True, False])
def test_probabilities_of_zero_and_one_are_clipped_as_in_keras(from_logits):
    output = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], "float32")
    for name, target in zip(NAMES, (output[::-1], output[::-1], np.array([0, 1, 0])), strict=True):
        y = getattr(gpunet.ops, name)(target, output, from_logits)
        expected = getattr(keras.ops, name)(np.ascontiguousarray(target), output, from_logits)
        np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-5, 1e-6)


def test_labels_with_a_last_axis_of_one_and_of_any_dtype(data):
    logits, _, labels = data
    expected = gpunet.ops.sparse_categorical_crossentropy(labels, logits, True).numpy()
    for other in (labels[..., None], labels.astype("uint8"), labels.astype("float32")):
        y = gpunet.ops.sparse_categorical_crossentropy(other, logits, True).numpy()
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("label", [-1, 5, 300])
def test_a_label_out_of_range_is_named(from_logits, label, data):
    logits, _, labels = data
    labels[1, 2] = label
    with pytest.raises(ArgumentError, match=rf"0 to 4. Received: label={label}, count=1"):
        gpunet.ops.sparse_categorical_crossentropy(labels, np.abs(logits), from_logits)


def test_shapes_that_differ(data):
    logits, dense, labels = data
    with pytest.raises(ShapeError, match="must have the same shape"):
        gpunet.ops.categorical_crossentropy(dense[..., :1], logits, True)
    with pytest.raises(ShapeError, match="must have the same shape"):
        gpunet.ops.binary_crossentropy(dense[0], logits)
    with pytest.raises(ShapeError, match="must have the same shape"):
        gpunet.ops.sparse_categorical_crossentropy(labels[0], logits)


def test_the_kept_log_sum_exp_has_a_gradient_too(rng):
    labels = gpunet.tensor([2, 0])
    check_gradients(lambda x: softmax_cross_entropy(x, labels), [rng.standard_normal((2, 4))])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_halves(dtype, device, data):
    logits, _, labels = data
    x = gpunet.tensor(logits, dtype=dtype, device=device)
    labels = gpunet.tensor(labels, device=device)
    loss, gradient = gpunet.value_and_grad(
        lambda t: gpunet.ops.sparse_categorical_crossentropy(labels, t, True).sum()
    )(x)
    wide, expected = gpunet.value_and_grad(
        lambda t: gpunet.ops.sparse_categorical_crossentropy(labels.to("cpu"), t, True).sum()
    )(x.numpy().astype("float64"))
    assert loss.dtype == gradient.dtype == dtype
    assert abs(float(loss) - float(wide)) < 0.02 * float(wide)
    actual = gradient.numpy().astype("float64")
    np.testing.assert_allclose(actual, expected.numpy(), 0.01, 0.004)


@pytest.mark.parametrize("columns", [7, 16, 1030])
def test_the_gradient_may_be_written_over_the_logits(rng, columns):
    """As the kernel says: no thread reads an element that another one writes."""
    logits = rng.standard_normal((3, columns)).astype("float32")
    labels, g = np.array([0, -1, columns - 1]), np.ones(3, "float32")
    lse = np.log(np.exp(logits).sum(1))
    given = (g, 0 * g, logits, labels, lse)
    settings = {"ignore_index": -1, "label_smoothing": 0.1}
    for order in ("forward", "reverse", "random"):
        buffer = logits.copy()
        with emulator.schedule(order, seed=1):
            expected = sparse_grad_rule(*given, **settings)
            y = sparse_grad_rule(g, 0 * g, buffer, labels, lse, **settings, out=buffer)
        assert y is buffer
        np.testing.assert_array_equal(y, expected)
    assert not buffer[1].any() and buffer[0].any()


@pytest.mark.parametrize("kept", [100_864, 1024, 64])
@pytest.mark.parametrize("columns", [7, 16, 1030, 4104])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_kernel_gives_the_bits_of_two_also_over_the_logits(
    rng, dtype, columns, kept, monkeypatch
):
    monkeypatch.setattr(cross_entropy_launch, "_KEPT", kept)
    logits = rng.standard_normal((5, columns)).astype(numpy_dtype(dtype)) * 3
    labels = np.array([0, -1, columns - 1, 3, columns])
    settings = {"ignore_index": -1, "label_smoothing": 0.1}
    scale = np.array(0.125, "float32")
    loss, lse = sparse_rule(logits, labels, **settings)
    g = np.full(5, 0.125, logits.dtype)
    expected = loss, lse, sparse_grad_rule(g, 0 * lse, logits, labels, lse, **settings)
    for order in ("forward", "reverse", "random"):
        buffer = logits.copy()
        with emulator.schedule(order, seed=1):
            apart = sparse_with_grad_rule(logits, labels, scale, **settings)
            inside = sparse_with_grad_rule(buffer, labels, scale, **settings, out=buffer)
        assert inside[2] is buffer
        for y in (apart, inside):
            assert [part.tobytes() for part in y] == [part.tobytes() for part in expected]


def test_scale_is_one_number(data):
    logits, _, labels = (gpunet.tensor(x) for x in data)
    with pytest.raises(ShapeError, match="one number"):
        gpunet.function(softmax_cross_entropy_with_grad)(logits, labels, gpunet.tensor([1.0]))


def test_labels_out_of_range_give_nan_in_kernels(rng):
    logits, labels = rng.standard_normal((3, 5)).astype("float32"), np.array([1, 5, -2])
    loss, lse = sparse_rule(logits, labels)
    assert np.isfinite(lse).all() and list(np.isnan(loss)) == [False, True, True]
    dx = sparse_grad_rule(np.ones(3, "float32"), 0 * lse, logits, labels, lse)
    assert list(np.isnan(dx).all(1)) == [False, True, True]


def test_settings_mean_what_smoothed_and_masked_targets_mean(rng):
    logits, labels = rng.standard_normal((4, 5)), np.array([0, 2, 4, 2])
    target = np.eye(5)[labels] * 0.9 + 0.02
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(target * log_p).sum(1)
    settings = {"ignore_index": None, "label_smoothing": 0.1}
    x, y = (ops.convert_to_tensor(v) for v in (logits, labels))
    assert_close(softmax_cross_entropy(x, y, **settings)[0], expected, "float64")
    dense = dense_cross_entropy(x, ops.convert_to_tensor(np.eye(5)[labels]), label_smoothing=0.1)
    assert_close(dense[0], expected, "float64")
    ignored = softmax_cross_entropy(x, y, ignore_index=2, label_smoothing=0.1)[0]
    assert_close(ignored, expected * (labels != 2), "float64")
