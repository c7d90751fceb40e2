"""LSTM and GRU over sequences against Keras's layers on JAX."""

import keras
import numpy as np
import pytest

import gpunet
from gpunet.core.trace import trace
from gpunet.errors import ShapeError
from gpunet.testing import check_gradients

BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 2
OPTIONS = [
    (backwards, masked, zeros)
    for backwards in (False, True)
    for masked, zeros in ((False, False), (True, False), (True, True))
]


@pytest.fixture
def data(rng):
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype("float32")
    states = rng.standard_normal((2, BATCH, UNITS)).astype("float32")
    mask = np.array([[1, 1, 1, 1, 0], [0, 1, 0, 1, 1], [1, 0, 0, 0, 0]], bool)
    return x, states, mask


def keras_layer(kind, rng, backwards, zeros, **options):
    layer = kind(UNITS, return_sequences=True, return_state=True, go_backwards=backwards, **options)
    layer.zero_output_for_mask = zeros
    layer.build((BATCH, STEPS, FEATURES))
    weights = [rng.standard_normal(w.shape).astype("float32") * 0.5 for w in layer.weights]
    for variable, value in zip(layer.weights, weights, strict=True):
        variable.assign(value)
    return layer, weights


@pytest.mark.parametrize(("backwards", "masked", "zeros"), OPTIONS)
def test_lstm_equals_keras(backwards, masked, zeros, data, rng):
    x, (h, c), mask = data
    mask = mask if masked else None
    layer, weights = keras_layer(keras.layers.LSTM, rng, backwards, zeros)
    expected = layer(x, mask=mask, initial_state=[h, c])
    last, outputs, states = gpunet.ops.lstm(
        x, h, c, *weights, mask=mask, go_backwards=backwards, zero_output_for_mask=zeros
    )
    for y, reference in zip([outputs, *states], expected, strict=True):
        np.testing.assert_allclose(y.numpy(), np.asarray(reference), 1e-5, 1e-6)
    np.testing.assert_array_equal(last.numpy(), outputs.numpy()[:, -1])


@pytest.mark.parametrize(("backwards", "masked", "zeros"), OPTIONS)
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_equals_keras(reset_after, backwards, masked, zeros, data, rng):
    x, (h, _), mask = data
    mask = mask if masked else None
    layer, weights = keras_layer(keras.layers.GRU, rng, backwards, zeros, reset_after=reset_after)
    expected = layer(x, mask=mask, initial_state=h)
    last, outputs, states = gpunet.ops.gru(
        x,
        h,
        *weights,
        mask=mask,
        reset_after=reset_after,
        go_backwards=backwards,
        zero_output_for_mask=zeros,
    )
    for y, reference in zip([outputs, *states], expected, strict=True):
        np.testing.assert_allclose(y.numpy(), np.asarray(reference), 1e-5, 1e-6)
    np.testing.assert_array_equal(last.numpy(), outputs.numpy()[:, -1])


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_reach_every_argument(masked, data, rng):
    x, (h, c), mask = data
    mask = mask if masked else None
    weights = [
        rng.standard_normal(s) * 0.5
        for s in ((FEATURES, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,))
    ]
    check_gradients(lambda *a: gpunet.ops.lstm(*a, mask=mask)[1], [x, h, c, *weights])
    weights = [w[..., : 3 * UNITS] for w in weights]
    bias = rng.standard_normal((2, 3 * UNITS))
    check_gradients(lambda *a: gpunet.ops.gru(*a, mask=mask)[1], [x, h, *weights[:2], bias])
    check_gradients(
        lambda *a: gpunet.ops.gru(*a, mask=mask, reset_after=False)[0], [x, h, *weights], order=1
    )


def test_only_the_last_output(data, rng):
    x, (h, c), _ = data
    weights = rng.standard_normal((FEATURES, 4 * UNITS)), rng.standard_normal((UNITS, 4 * UNITS))
    last, outputs, _ = gpunet.ops.lstm(x, h, c, *weights, return_sequences=False)
    full = gpunet.ops.lstm(x, h, c, *weights)[1].numpy()
    assert outputs.shape == (BATCH, 1, UNITS)
    np.testing.assert_array_equal(last.numpy(), full[:, -1])


def test_a_sequence_is_one_equation(data):
    x, (h, c), _ = data
    kernel, recurrent = np.ones((FEATURES, 4 * UNITS), "f"), np.ones((UNITS, 4 * UNITS), "f")
    graph = trace(lambda t: gpunet.ops.lstm(t, h, c, kernel, recurrent)[0], x)
    assert [e.op.name for e in graph.equations].count("lstm_sequence") == 1
    expected = gpunet.ops.lstm(x, h, c, kernel, recurrent)[0].numpy()
    np.testing.assert_array_equal(graph(x)[0].numpy(), expected)


def test_errors(data):
    x, (h, c), mask = data
    kernel, recurrent = np.ones((FEATURES, 4 * UNITS)), np.ones((UNITS, 4 * UNITS))
    with pytest.raises(ShapeError, match=r"\(batch, steps, features\)"):
        gpunet.ops.lstm(x[0], h, c, kernel, recurrent)
    with pytest.raises(ShapeError, match=r"mask=\(3, 4\)"):
        gpunet.ops.lstm(x, h, c, kernel, recurrent, mask=mask[:, :4])
    with pytest.raises(ShapeError, match="at least one step"):
        gpunet.ops.lstm(x[:, :0], h, c, kernel, recurrent)
    with pytest.raises(ShapeError, match=r"\(2, 6\)"):
        gpunet.ops.gru(x, h, kernel[:, :6], recurrent[:, :6], bias=np.ones(6))
