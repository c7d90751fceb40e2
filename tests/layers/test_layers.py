"""What the comparison with Keras does not see: random layers, states, adapt, saving of code."""

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops, saving
from gpunet.errors import ArgumentError, SavingError, ShapeError, StateError


def normal(*shape, seed=0):
    return gpunet.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


# -- dropout and noise ---------------------------------------------------------------------------


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer = layers.Dropout(0.3, seed=1)
    y = layer(ops.ones((200, 100)), training=True).numpy()
    assert abs((y == 0).mean() - 0.3) < 0.01
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-6)


def test_dropout_draws_anew_and_the_same_from_the_same_seed():
    x = ops.ones((10, 10))
    layer, twin = layers.Dropout(0.5, seed=1), layers.Dropout(0.5, seed=1)
    first = layer(x, training=True).numpy()
    assert not np.array_equal(first, layer(x, training=True).numpy())
    np.testing.assert_array_equal(first, twin(x, training=True).numpy())


@pytest.mark.parametrize(
    ("make", "shape", "same"),
    [
        (lambda: layers.Dropout(0.5, noise_shape=(None, 1, None), seed=0), (4, 5, 6), (1,)),
        (lambda: layers.SpatialDropout1D(0.5, seed=0), (4, 5, 6), (1,)),
        (lambda: layers.SpatialDropout2D(0.5, seed=0), (4, 5, 3, 6), (1, 2)),
        (lambda: layers.SpatialDropout2D(0.5, "channels_first", 0), (4, 5, 3, 6), (2, 3)),
        (lambda: layers.SpatialDropout3D(0.5, seed=0), (4, 2, 5, 3, 6), (1, 2, 3)),
    ],
)
def test_dropout_of_whole_slices(make, shape, same):
    y = make()(ops.ones(shape), training=True).numpy()
    kept = y != 0
    assert (kept.all(axis=same) == kept.any(axis=same)).all()
    assert kept.any() and not kept.all()


@pytest.mark.parametrize(
    ("layer", "mean", "deviation"),
    [
        (layers.GaussianNoise(0.5, seed=1), 1.0, 0.5),
        (layers.GaussianDropout(0.2, seed=1), 1.0, 0.5),
        (layers.AlphaDropout(0.2, seed=1), None, None),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_noise(layer, mean, deviation):
    x = ops.ones((300, 100)) if mean else normal(300, 100)
    y = layer(x, training=True).numpy()
    assert abs(y.mean() - (mean or 0.0)) < 0.02
    assert abs(y.std() - (deviation or 1.0)) < 0.02
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(rate):
    y = layers.Dropout(rate)(ops.ones((5, 5)), training=True).numpy()
    assert (y == 1 - rate).all()


# -- recurrent layers ----------------------------------------------------------------------------

RECURRENT = [layers.LSTM, layers.GRU, layers.SimpleRNN]


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}], ids=str)
def test_recurrent_dropout(kind, rates):
    layer = kind(6, seed=1, return_sequences=True, **rates)
    x = normal(2, 5, 4)
    calm = layer(x).numpy()
    wild = layer(x, training=True).numpy()
    assert not np.allclose(calm, wild) and not np.allclose(wild, layer(x, training=True).numpy())
    np.testing.assert_array_equal(layer(x).numpy(), calm)
    assert layer.cell._dropout_mask is None and layer.cell._recurrent_dropout_mask is None


def test_input_dropout_is_the_same_at_every_step():
    layer = layers.SimpleRNN(
        3, "linear", use_bias=False, recurrent_initializer="zeros", dropout=0.5, seed=1,
        return_sequences=True,
    )  # fmt: skip
    y = layer(ops.ones((4, 6, 5)), training=True).numpy()
    np.testing.assert_allclose(y, y[:, :1].repeat(6, axis=1), rtol=1e-6)


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_fused_way_is_the_way_of_the_cell(kind):
    layer = kind(4, return_sequences=True, return_state=True)
    x = normal(3, 5, 2)
    mask = gpunet.tensor(np.arange(5)[None] < np.array([[5], [3], [1]]))
    fused = layer(x, mask=mask)
    generic = layers.RNN(layer.cell, return_sequences=True, return_state=True)(x, mask=mask)
    for a, b in zip(fused, generic, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", RECURRENT)
def test_stateful_layers_go_on_where_they_were(kind):
    whole = kind(3, return_sequences=True)
    x = normal(2, 6, 4)
    expected = whole(x).numpy()
    parts = kind(3, return_sequences=True, stateful=True)
    parts(x)
    parts.reset_state()
    parts.set_weights(whole.get_weights())
    found = [parts(x[:, :2]).numpy(), parts(x[:, 2:]).numpy()]
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-5, atol=1e-6)
    assert len(parts.weights) == len(whole.weights)
    with pytest.raises(ShapeError, match="batch size"):
        parts(x[:1])


def test_initial_state():
    layer = layers.LSTM(3, return_state=True)
    x = normal(2, 4, 5)
    first = layer(x[:, :2])
    again = layer(x[:, 2:], initial_state=list(first[1:]))
    np.testing.assert_allclose(again[0].numpy(), layer(x)[0].numpy(), rtol=1e-5, atol=1e-6)
    states = [layers.Input((3,)), layers.Input((3,))]
    out = layer(layers.Input((4, 5)), initial_state=states)
    assert [y.shape for y in out] == [(None, 3)] * 3


def test_empty_sequences_are_an_error():
    with pytest.raises(ShapeError):
        layers.SimpleRNN(3)(ops.ones((2, 0, 3)))


def test_a_cell_may_be_any_object():
    class Sum:
        state_size = 3

        def call(self, inputs, states):
            new = states[0] + inputs
            return new, [new]

    y = layers.RNN(Sum())(ops.ones((2, 5, 3)))
    assert y.tolist() == [[5.0] * 3] * 2


def test_bidirectional_with_a_layer_of_its_own_backwards():
    layer = layers.Bidirectional(
        layers.LSTM(3, return_sequences=True),
        backward_layer=layers.GRU(2, return_sequences=True, go_backwards=True),
    )
    assert layer(normal(2, 4, 5)).shape == (2, 4, 5)
    with pytest.raises(ArgumentError, match="go_backwards"):
        layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3))
    with pytest.raises(ArgumentError, match="return_sequences"):
        layers.Bidirectional(
            layers.LSTM(3), backward_layer=layers.LSTM(3, return_sequences=True, go_backwards=True)
        )


def test_bidirectional_states_and_weights():
    inner = layers.LSTM(3, stateful=True)
    first = layers.Bidirectional(inner)
    x = normal(2, 4, 5)
    first(x)
    assert len(first.states) == 4
    first.reset_state()
    assert not any(s.numpy().any() for s in first.states)
    again = layers.Bidirectional(inner, weights=first.get_weights())
    np.testing.assert_allclose(again(x).numpy(), first(x).numpy(), rtol=1e-6)
    with pytest.raises(StateError, match="stateful"):
        layers.Bidirectional(layers.LSTM(3)).reset_state()


# -- merging, masks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add", 3.0),
        ("subtract", -1.0),
        ("multiply", 2.0),
        ("average", 1.5),
        ("maximum", 2.0),
        ("minimum", 1.0),
    ],
)
def test_functional_forms(name, expected):
    x = ops.ones((2, 3))
    assert getattr(layers, name)([x, x * 2]).tolist() == [[expected] * 3] * 2


def test_functional_concatenate_and_dot():
    x = ops.ones((2, 3))
    assert layers.concatenate([x, x], axis=0).shape == (4, 3)
    assert layers.dot([x, x], axes=1).tolist() == [[3.0], [3.0]]


def test_multi_head_attention_uses_the_masks_of_its_inputs():
    layer = layers.MultiHeadAttention(2, 4)
    x = normal(2, 5, 6)
    layer(x, x)
    mask = gpunet.tensor(np.arange(5)[None] < np.array([[5], [3]]))
    masked = gpunet.Tensor(x.data, x.device)
    masked._keras_mask = mask
    y = layer(masked, masked)
    np.testing.assert_array_equal(y._keras_mask.numpy(), mask.numpy())
    assert masked._keras_mask is mask
    short = layer(x[1:, :3], x[1:, :3]).numpy()
    np.testing.assert_allclose(y.numpy()[1:, :3], short, rtol=1e-4, atol=1e-5)


def test_multi_head_attention_dropout_is_for_training_only():
    layer = layers.MultiHeadAttention(2, 4, dropout=0.5, seed=1)
    x = normal(2, 5, 6)
    calm = layer(x, x).numpy()
    assert not np.allclose(calm, layer(x, x, training=True).numpy())
    np.testing.assert_array_equal(layer(x, x).numpy(), calm)


# -- embedding, lambda, preprocessing ------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: [w]])
def test_embedding_takes_weights(wrap):
    table = np.arange(6.0).reshape(3, 2)
    layer = layers.Embedding(3, 2, weights=wrap(table))
    assert layer(gpunet.tensor([2, 0])).tolist() == [[4.0, 5.0], [0.0, 1.0]]


@saving.register_keras_serializable("tests")
def double(x, factor=2.0):
    return x * factor


def test_lambda_of_a_registered_function_is_saved():
    layer = layers.Lambda(double, arguments={"factor": 3.0})
    again = saving.deserialize_keras_object(saving.serialize_keras_object(layer))
    assert again(ops.ones(2)).tolist() == [3.0, 3.0]


def test_lambda_saves_and_loads_no_code():
    with pytest.raises(SavingError, match="code"):
        layers.Lambda(lambda x: x).get_config()
    code = {"class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None}}
    for safe_mode in (True, False):
        with pytest.raises(SavingError, match="code"):
            layers.Lambda.from_config({"name": "x", "function": code}, safe_mode=safe_mode)


def test_lambda_shapes_masks_and_training():
    traced = layers.Lambda(lambda x: ops.concatenate([x, x], axis=1))
    assert traced(layers.Input((3,))).shape == (None, 6)
    assert traced.compute_output_shape((None, 3)) == (None, 6)
    told = layers.Lambda(lambda x: x, output_shape=(5,), mask=lambda x, m: x > 0)
    assert told(layers.Input((3,))).shape == (None, 5)
    assert told(normal(2, 3))._keras_mask.shape == (2, 3)
    flag = layers.Lambda(lambda x, training=None: x * (2.0 if training else 1.0))
    assert flag(ops.ones(1), training=True).tolist() == [2.0]


def test_gelu_layer():
    x = normal(4, 5)
    np.testing.assert_allclose(
        layers.GELU()(x).numpy(), ops.gelu(x, approximate=False).numpy(), rtol=1e-6
    )
    layer = layers.GELU(approximate=True)
    again = saving.deserialize_keras_object(saving.serialize_keras_object(layer))
    assert again.approximate and again(layers.Input((3,))).shape == (None, 3)


@pytest.mark.parametrize("how", ["array", "tensor", "batches", "pairs"])
def test_adapt(how):
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4)).astype("float32")
    data = {
        "array": x,
        "tensor": gpunet.tensor(x),
        "batches": [x[:7], x[7:]],
        "pairs": ((part, None) for part in (x[:30], x[30:])),
    }[how]
    layer = layers.Normalization()
    layer.adapt(data)
    np.testing.assert_allclose(layer(x).numpy(), (x - x.mean(0)) / x.std(0), rtol=1e-4, atol=1e-5)
    inverse = layers.Normalization(invert=True)
    inverse.adapt(x)
    np.testing.assert_allclose(inverse(layer(x)).numpy(), x, rtol=1e-4, atol=1e-4)
    fresh = layers.Normalization()
    fresh.build((None, 4))
    fresh.set_weights(layer.get_weights())
    np.testing.assert_array_equal(fresh(x).numpy(), layer(x).numpy())


def test_adapt_refuses_what_does_not_fit():
    layer = layers.Normalization()
    layer.adapt(np.ones((3, 4)))
    before = layer.get_weights()
    with pytest.raises(ShapeError, match="input_shape"):
        layer.adapt(np.ones((3, 5)))
    with pytest.raises(ArgumentError, match="no batches"):
        layer.adapt([])
    with pytest.raises(StateError, match="adapt"):
        layers.Normalization(mean=0.0, variance=1.0).adapt(np.ones((3, 4)))
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rescaling_of_channels_first_images():
    gpunet.config.set_image_data_format("channels_first")
    try:
        y = layers.Rescaling([1.0, 2.0, 3.0])(ops.ones((1, 3, 2, 2)))
    finally:
        gpunet.config.set_image_data_format("channels_last")
    assert y.numpy()[0, :, 0, 0].tolist() == [1.0, 2.0, 3.0]


def test_input_layer():
    x = layers.Input((4,), 3, "int32", name="x")
    assert (x.shape, x.dtype, x.name) == ((3, 4), "int32", "x")
    layer = x._keras_history.operation
    assert layer.get_config() == {
        "batch_shape": (3, 4),
        "dtype": "int32",
        "sparse": False,
        "ragged": False,
        "name": "x",
        "optional": False,
    }
    again = layers.InputLayer.from_config(layer.get_config())
    assert again.output.shape == (3, 4) and again.built
    assert layers.Input(tensor=x) is x
    with pytest.raises(ArgumentError, match="batch_size"):
        layers.Input(tensor=x, batch_size=4)


def test_batch_normalization_forgets_masked_steps():
    layer = layers.BatchNormalization(momentum=0.0)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    mask = np.array([[True, True, False, False], [True, True, True, False]])
    layer(gpunet.tensor(x), mask=gpunet.tensor(mask), training=True)
    np.testing.assert_allclose(layer.moving_mean.numpy(), x[mask].mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x[mask].var(0), rtol=1e-4)


def test_gradients_do_not_flow_through_moving_statistics():
    layer = layers.BatchNormalization()
    x = normal(5, 3)
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        layer(x, training=True)
        y = layer.moving_mean.value.sum()
    assert tape.gradient(y, x) is None


def test_multi_head_attention_of_a_subclass():
    class Sub(layers.MultiHeadAttention):
        def _compute_attention(self, query, key, value, attention_mask=None, *args):
            self.__dict__["seen"] = attention_mask
            return super()._compute_attention(query, key, value, attention_mask, *args)

    x = normal(2, 5, 6)
    layer, plain = Sub(2, 4), layers.MultiHeadAttention(2, 4)
    y = layer(x, x, use_causal_mask=True)
    assert layer.seen.shape == (1, 5, 5)
    plain(x, x)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(plain(x, x, use_causal_mask=True), y, rtol=1e-5, atol=1e-6)
    with pytest.raises(ArgumentError, match="Dropout"):
        layers.MultiHeadAttention(2, 4, flash_attention=True, dropout=0.5)
    with pytest.raises(ArgumentError, match="scores"):
        layers.MultiHeadAttention(2, 4, flash_attention=True)(x, x, return_attention_scores=True)


def test_dtype_policies_of_a_map():
    policies = gpunet.dtype_policies.DTypePolicyMap("float32")
    layer = layers.Dense(2, name="d", dtype=policies)
    layer.build((None, 1))
    for name in ("mixed_bfloat16", "mixed_float16"):
        layer.dtype_policy = name
        assert layer.dtype_policy is policies and policies["d"].name == name
    assert layer.compute_dtype == "float16"
    assert layer(ops.ones((1, 1))).dtype == "float16"


def test_weights_added_later_keep_the_path():
    class Around(layers.Layer):
        def __init__(self):
            super().__init__(name="around")
            self.inner = layers.Dense(2, name="inner")

        def call(self, inputs):
            return self.inner(inputs)

    layer = Around()
    layer(ops.ones((1, 3)))
    layer.inner._tracker.unlock()
    assert layer.inner.add_weight((), "zeros", name="late").path == "around/inner/late"
    assert len(layer.weights) == 3
