"""Normalisation against Keras on JAX, over every choice of axes."""

import keras
import numpy as np
import pytest

import gpunet
from gpunet.errors import ArgumentError, ShapeError
from gpunet.testing import check_gradients

SHAPE = (6, 4, 5)
AXES = [-1, 0, 1, (1, 2), (0, 2), [0, 1]]


def lengths(axis):
    return tuple(SHAPE[i] for i in sorted(np.atleast_1d(axis) % 3))


@pytest.fixture
def x(rng):
    return rng.standard_normal(SHAPE).astype("float32") * 3 + 1


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_normalization(axis, affine, x, rng):
    gamma = rng.random(lengths(axis)).astype("float32") if affine else None
    beta = rng.random(lengths(axis)).astype("float32") if affine else None
    y = gpunet.ops.layer_normalization(x, gamma, beta, axis=axis, epsilon=1e-3)
    expected = keras.ops.layer_normalization(x, gamma, beta, axis=axis, epsilon=1e-3)
    np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-5, 2e-6)


@pytest.mark.parametrize("axis", AXES)
def test_rms_normalization(axis, x, rng):
    y = gpunet.ops.rms_normalization(x, 2.0, axis=axis, epsilon=1e-3)
    expected = keras.ops.rms_normalization(x, 2.0, axis=axis, epsilon=1e-3)
    np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-5, 2e-6)


def test_rms_scaling_divides_without_centering(x):
    y = gpunet.ops.layer_normalization(x, axis=-1, epsilon=1e-3, rms_scaling=True).numpy()
    np.testing.assert_allclose(y, x / np.sqrt(x.var(-1, keepdims=True) + 1e-3), 1e-5)
    with pytest.raises(ArgumentError, match="centre"):
        gpunet.ops.layer_normalization(x, centre=True)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_batch_normalization(axis, x, rng):
    vectors = [rng.random(SHAPE[axis]).astype("float32") + 0.5 for _ in range(4)]
    mean, variance, offset, scale = vectors
    y = gpunet.ops.batch_normalization(x, mean, variance, axis, offset, scale)
    expected = keras.ops.batch_normalization(x, mean, variance, axis, offset, scale)
    np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-5, 1e-5)
    y = gpunet.ops.batch_normalization(x, mean, variance, axis)
    expected = keras.ops.batch_normalization(x, mean, variance, axis)
    np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-5, 1e-5)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_batch_normalization_training(axis, x, rng):
    scale, offset = rng.random((2, SHAPE[axis]))
    y, mean, variance = gpunet.ops.batch_normalization_training(x, axis, offset, scale)
    others = tuple(i for i in range(3) if i != axis % 3)
    np.testing.assert_allclose(mean.numpy(), x.mean(others), 1e-5, 1e-6)
    np.testing.assert_allclose(variance.numpy(), x.var(others), 1e-5)
    again = gpunet.ops.batch_normalization(x, mean, variance, axis, offset, scale)
    np.testing.assert_allclose(y.numpy(), again.numpy(), 1e-5, 1e-5)
    check_gradients(
        lambda *t: gpunet.ops.batch_normalization_training(t[0], axis, *t[1:]),
        [x.astype("float64"), offset, scale],
    )


def test_narrow_tables_of_many_rows(rng):
    x = rng.standard_normal((64, 16, 16, 3)) + 5
    y, mean, variance = gpunet.ops.batch_normalization_training(x.astype("float32"))
    np.testing.assert_allclose(mean.numpy(), x.mean((0, 1, 2)), 1e-5)
    np.testing.assert_allclose(variance.numpy(), x.var((0, 1, 2)), 1e-4)
    np.testing.assert_allclose(y.numpy().mean((0, 1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_group_normalization(groups, data_format, rng):
    x = rng.standard_normal((3, 4, 5, 6)).astype("float32")
    axis = -1 if data_format == "channels_last" else 1
    x = np.moveaxis(x, -1, axis)
    layer = keras.layers.GroupNormalization(groups, axis=axis)
    layer.build(x.shape)
    gamma, beta = rng.random((2, 6)).astype("float32")
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    y = gpunet.ops.group_normalization(x, groups, gamma, beta, data_format=data_format)
    np.testing.assert_allclose(y.numpy(), np.asarray(layer(x)), 1e-4, 1e-5)


@pytest.mark.parametrize("axes", [0, (0, 1), -1, [1, 2]])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_moments(axes, keepdims, dtype, x):
    x = x.astype(dtype)
    axes = axes if isinstance(axes, int) else tuple(axes)
    for y, expected in zip(
        gpunet.ops.moments(x, axes, keepdims), keras.ops.moments(x, axes, keepdims), strict=True
    ):
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy(), np.asarray(expected), 1e-3, 1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("axis", [-1, 0])
def test_normalize(order, axis, x):
    y = gpunet.ops.normalize(x, axis, order)
    np.testing.assert_allclose(
        y.numpy(), np.asarray(keras.ops.normalize(x, axis, order)), 1e-5, 1e-6
    )
    assert gpunet.ops.normalize(x * 0, axis, order).numpy().max() == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_gradients_of_halves(dtype, device, rng):
    arrays = rng.standard_normal((5, 7)), rng.random(7) + 0.5, rng.standard_normal(7)
    weights = rng.standard_normal((5, 7))

    def f(x, scale, offset, w):
        y = gpunet.ops.layer_normalization(x, scale, offset, epsilon=1e-3)
        return (y * w).sum()

    halves = [gpunet.tensor(a, dtype=dtype, device=device) for a in (*arrays, weights)]
    wide = [t.numpy().astype("float64") for t in halves]
    found = gpunet.grad(f, (0, 1, 2))(*halves)
    for g, expected in zip(found, gpunet.grad(f, (0, 1, 2))(*wide), strict=True):
        assert g.dtype == dtype
        scale = np.abs(expected.numpy()).max()
        np.testing.assert_allclose(g.numpy().astype("float64"), expected.numpy(), 0, 0.02 * scale)


def test_errors(x):
    with pytest.raises(ShapeError, match=r"shape=\(3,\), expected=\(5,\)"):
        gpunet.ops.layer_normalization(x, np.ones(3))
    with pytest.raises(ShapeError, match="each of the 5 channels"):
        gpunet.ops.batch_normalization(x, np.ones(4), np.ones(5), -1)
    with pytest.raises(ArgumentError, match="groups=3, channels=5"):
        gpunet.ops.group_normalization(x, 3)
    with pytest.raises(ArgumentError, match="order=0"):
        gpunet.ops.normalize(x, order=0)
    with pytest.raises(ArgumentError, match="synchronized=True"):
        gpunet.ops.moments(x, 0, synchronized=True)
