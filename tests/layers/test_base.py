"""The behaviour of Layer: tracking, names, building, calling, errors, state."""

import copy
import gc
import json
import pickle
import weakref

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops, regularizers, saving
from gpunet.core.trace import trace
from gpunet.errors import ArgumentError, DTypeError, ShapeError, StateError
from gpunet.layers.tracker import TrackedDict, TrackedList
from gpunet.random import SeedGenerator


def ones(*shape, dtype="float32"):
    return ops.ones(shape, dtype=dtype)


class Scale(layers.Layer):
    """The smallest layer with a weight."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale


class Block(layers.Layer):
    """Two layers inside, built by the first call."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(units, activation="relu")
        self.drop = layers.Dropout(0.5, seed=1)
        self.second = layers.Dense(2)

    def call(self, inputs):
        return self.second(self.drop(self.first(inputs)))


# -- tracking ------------------------------------------------------------------------------------


class Holder(layers.Layer):
    def __init__(self):
        super().__init__()
        self.many = [layers.Dense(1, name="a")]
        self.named = {"b": layers.Dense(1, name="b")}
        self.pair = (layers.Dense(1, name="c"), 5)
        self.variable = gpunet.Variable(1.0)
        self.constant = gpunet.Variable(2.0, trainable=False)
        self.generator = SeedGenerator(1)
        self.plain = {"x": [1, 2]}

    def call(self, inputs):
        return inputs


def test_attributes_are_tracked():
    layer = Holder()
    assert [inner.name for inner in layer._flatten_layers(include_self=False)] == ["a", "b", "c"]
    assert isinstance(layer.many, TrackedList) and isinstance(layer.named, TrackedDict)
    assert isinstance(layer.pair, tuple)
    assert layer.weights == [layer.variable, layer.constant]
    assert layer.variables == [layer.variable, layer.constant, layer.generator.state]
    assert layer.non_trainable_weights == [layer.constant]
    assert layer.non_trainable_variables == [layer.constant, layer.generator.state]


def test_lists_track_what_is_added_and_removed():
    layer = Holder()
    d = layers.Dense(1, name="d")
    layer.many.append(d)
    layer.many += [layers.Dense(1, name="e")]
    layer.many.insert(0, layers.Dense(1, name="f"))
    names = {inner.name for inner in layer._layers}
    assert names == {"a", "b", "c", "d", "e", "f"}
    layer.many.remove(d)
    layer.many.pop()
    layer.named["b"] = layers.Dense(1, name="g")
    layer.named.update(h=layers.Dense(1, name="h"))
    del layer.named["b"]
    layer.many[0] = layers.Dense(1, name="i")
    assert {inner.name for inner in layer._layers} == {"a", "c", "h", "i"}
    layer.many.clear()
    assert {inner.name for inner in layer._layers} == {"c", "h"}


def test_metrics_are_tracked_by_their_class():
    class FakeMetric:
        _is_metric = True
        variables = ()

    layer = Holder()
    layer.metric = FakeMetric()
    layer.named["m"] = FakeMetric()
    assert len(layer.metrics) == 2 and layer.metrics_variables == []


def test_deleting_an_attribute_forgets_it():
    layer = Holder()
    del layer.variable
    assert layer.weights == [layer.constant]


def test_state_cannot_be_added_after_building():
    layer = Scale()
    layer(ones(2, 3))
    with pytest.raises(StateError, match="built"):
        layer.more = layers.Dense(1)
    with pytest.raises(StateError, match="built"):
        layer.add_weight(shape=(1,), initializer="zeros")
    layer.note = "plain values are fine"
    assert len(layer.weights) == 1


def test_weight_lists_follow_changes_below():
    layer = Block()
    assert layer.weights == []
    layer(ones(2, 4))
    assert len(layer.weights) == 4
    assert layer.weights is not layer.weights
    layer.first.trainable = False
    assert len(layer.trainable_weights) == 2 and len(layer.non_trainable_weights) == 2
    layer.trainable = False
    assert layer.trainable_weights == [] and not layer.second.trainable
    layer.trainable = True
    assert len(layer.trainable_variables) == 4


def test_shared_layers_count_once():
    inner = layers.Dense(4)

    class Twice(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b = inner, [inner]

        def call(self, inputs):
            return self.b[0](self.a(inputs))

    layer = Twice()
    layer(ones(2, 4))
    assert len(layer.weights) == 2 and len(layer._flatten_layers(include_self=False)) == 1


def test_no_reference_cycles():
    layer = Block()
    layer(ones(2, 4))
    gc.collect()
    gc.disable()
    try:
        seen = weakref.ref(layer)
        del layer
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_independent(clone):
    layer = layers.Bidirectional(layers.LSTM(3))
    x = ones(2, 4, 3)
    y = layer(x)
    twin = clone(layer)
    np.testing.assert_array_equal(twin(x).numpy(), y.numpy())
    assert not {id(w) for w in twin.weights} & {id(w) for w in layer.weights}
    twin.set_weights([w * 2 for w in twin.get_weights()])
    np.testing.assert_array_equal(layer(x).numpy(), y.numpy())
    assert not np.array_equal(twin(x).numpy(), y.numpy())


# -- names ---------------------------------------------------------------------------------------


def test_names_and_paths():
    gpunet.naming.clear_session()
    a, b = layers.Dense(1), layers.Dense(1)
    assert (a.name, b.name) == ("dense", "dense_1")
    block = Block(name="block")
    assert block.path is None
    block(ones(2, 4))
    assert block.path == "block" and block.first.path == "block/dense_2"
    assert [w.path for w in block.weights] == [
        "block/dense_2/kernel",
        "block/dense_2/bias",
        "block/dense_3/kernel",
        "block/dense_3/bias",
    ]


def test_weights_made_in_init_have_a_path():
    class Early(layers.Layer):
        def __init__(self):
            super().__init__(name="early")
            self.w = self.add_weight(shape=(2,), name="w")

        def call(self, inputs):
            return inputs * self.w

    layer = Early()
    assert layer.w.path == "early/w"
    assert layer(ones(1, 2)).shape == (1, 2)


# -- building ------------------------------------------------------------------------------------


def test_build_by_keywords_and_from_config():
    class Two(layers.Layer):
        def build(self, left_shape, right_shape):
            self.w = self.add_weight(shape=(left_shape[-1], right_shape[-1]))

        def call(self, left, right):
            return ops.matmul(left, self.w) * right

    layer = Two()
    assert layer(ones(2, 3), right=ones(2, 4)).shape == (2, 4)
    config = layer.get_build_config()
    assert config == {"shapes_dict": {"left_shape": (2, 3), "right_shape": (2, 4)}}
    again = Two()
    again.build_from_config(json.loads(json.dumps(config)))
    assert again.built and again.w.shape == (3, 4)


def test_build_argument_names_are_checked():
    class Wrong(layers.Layer):
        def build(self, left_shape, other):
            pass

        def call(self, left, right):
            return left

    with pytest.raises(ArgumentError, match="_shape"):
        Wrong()(ones(1), ones(1))


def test_super_build_is_one_build():
    class More(Scale):
        def build(self, input_shape):
            super().build(input_shape)
            assert not self.built
            self.offset = self.add_weight(shape=input_shape[-1:], initializer="zeros")

        def call(self, inputs):
            return super().call(inputs) + self.offset

    layer = More()
    layer(ones(2, 3))
    assert layer.built and len(layer.weights) == 2
    assert layer.get_build_config() == {"input_shape": (2, 3)}


def test_stateless_layers_are_built_unless_a_subclass_builds():
    class Custom(layers.ReLU):
        def build(self, input_shape):
            self.w = self.add_weight(shape=())

    assert layers.ReLU().built and not Custom().built


def test_a_failed_build_changes_nothing():
    class Fragile(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1],))
            if input_shape[-1] == 3:
                raise ValueError("three is bad")

        def call(self, inputs):
            return inputs * self.w

    layer = Fragile(name="fragile")
    with pytest.raises(ValueError, match=r"fragile.*three is bad"):
        layer(ones(2, 3))
    assert not layer.built and layer.weights == []
    layer(ones(2, 4))
    assert len(layer.weights) == 1


def test_a_failed_first_call_leaves_a_layer_unbuilt():
    class Bad(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(2)

        def call(self, inputs):
            if inputs.shape[-1] == 3:
                raise RuntimeError("no")
            return self.inner(inputs)

    layer = Bad()
    with pytest.raises(RuntimeError, match="no"):
        layer(ones(2, 3))
    assert not layer.built
    assert layer(ones(2, 4)).shape == (2, 2) and len(layer.weights) == 2


def test_layers_that_look_at_values_are_built_by_running_them():
    class Eager(layers.Layer):
        def __init__(self):
            super().__init__(name="eager")
            self.inner = layers.Dense(2, name="inner")

        def call(self, inputs):
            return self.inner(inputs) if float(inputs.sum()) > 0 else inputs

    layer = Eager()
    assert layer(ones(2, 3)).shape == (2, 2)
    assert [w.path for w in layer.weights] == ["eager/inner/kernel", "eager/inner/bias"]


def test_unknown_lengths_of_weights_are_an_error():
    with pytest.raises(ShapeError, match="unknown"):
        layers.Dense(3, name="d")(layers.Input((None,)))


# -- calling -------------------------------------------------------------------------------------


def test_arrays_become_tensors_of_the_compute_dtype():
    layer = layers.Dense(2)
    for x in (np.ones((2, 3)), np.ones((2, 3), "float16"), ones(2, 3, dtype="float64")):
        y = layer(x)
        assert type(y) is gpunet.Tensor and y.dtype == "float32" and y.shape == (2, 2)
    assert layers.Identity()(np.ones(2, "int64")).dtype == "int64"
    assert layers.Identity(autocast=False)(np.ones(2)).dtype == "float64"
    nest = layers.Identity()({"a": np.ones(2), "b": [np.ones(3)]})
    assert nest["a"].dtype == "float32" and nest["b"][0].shape == (3,)


class Probe(layers.Layer):
    """Notes the `training` it is given."""

    def call(self, inputs, training=None):
        self.__dict__["seen"] = training
        return inputs


class Outer(layers.Layer):
    def __init__(self):
        super().__init__()
        self.probe, self.other = Probe(), Probe()

    def call(self, inputs):
        return self.other(self.probe(inputs))


@pytest.mark.parametrize("training", [True, False, None])
def test_training_reaches_sublayers(training):
    outer = Outer()
    for _ in range(3):  # the slow way, then the fast one
        outer(ones(2), training=training)
        assert outer.probe.seen is training and outer.other.seen is training
    outer(ones(2))
    assert outer.probe.seen is None


def test_training_given_to_one_sublayer_stays_there():
    class Mixed(Outer):
        def call(self, inputs):
            return self.other(self.probe(inputs, training=True))

    layer = Mixed()
    for _ in range(3):
        layer(ones(2))
        assert layer.probe.seen is True and layer.other.seen is None


def test_training_default_of_the_call():
    class Default(Probe):
        def call(self, inputs, training=True):
            return super().call(inputs, training)

    layer = Default()
    for _ in range(3):
        layer(ones(2))
        assert layer.seen is True
    layer(ones(2), training=False)
    assert layer.seen is False


def test_registered_arguments_reach_sublayers():
    class Inner(layers.Layer):
        def __init__(self):
            super().__init__()
            self._register_call_context_args("factor")

        def call(self, inputs, factor=1.0):
            return inputs * factor

    class Around(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def call(self, inputs):
            return self.inner(inputs)

    layer = Around()
    layer._register_call_context_args("factor")
    for _ in range(2):
        assert layer(ones(2), factor=3.0).tolist() == [3.0, 3.0]
        assert layer(ones(2)).tolist() == [1.0, 1.0]
    with pytest.raises(StateError, match="called already"):
        layer._register_call_context_args("other")


@pytest.mark.parametrize("call", ["slow", "fast"])
def test_context_is_clean_after_an_error(call):
    class Fails(layers.Layer):
        def call(self, inputs, training=False):
            if training:
                raise KeyError("x")
            return inputs

    layer = Fails()
    if call == "fast":
        layer(ones(2))
    with pytest.raises(KeyError):
        layer(ones(2), training=True)
    from gpunet.core.state import state

    assert state.training is None and not state.calling and state.autocast is None


def test_the_fast_way_still_checks_shapes():
    layer = layers.Dense(2)
    layer(ones(2, 3))
    layer(ones(2, 3))
    with pytest.raises(ShapeError, match="axis -1"):
        layer(ones(2, 4))
    layer.input_spec = layers.InputSpec(ndim=3)
    with pytest.raises(ShapeError, match="ndim=3"):
        layer(ones(2, 3))


def test_gradients_flow_through_nested_layers():
    block = Block()
    x = ones(2, 4)
    block(x)
    with gpunet.GradientTape() as tape:
        y = block(x, training=True).sum()
    grads = tape.gradient(y, block.trainable_weights)
    assert [g.shape for g in grads] == [w.shape for w in block.weights]


def test_layers_trace_as_they_run():
    block = Block()
    x = gpunet.tensor(np.random.default_rng(0).normal(size=(3, 4)).astype("float32"))
    expected = block(x)
    graph = trace(lambda x: block(x), x)
    np.testing.assert_allclose(graph(x)[0].numpy(), expected.numpy(), rtol=1e-6)
    norm = layers.BatchNormalization()
    norm(x)
    graph = trace(lambda x: norm(x, training=True), x)
    assert norm.moving_mean.numpy().tolist() == [0.0] * 4
    graph(x)
    assert norm.moving_mean.numpy().any()


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: layers.Dense(2, name="d")(ones(3)), ShapeError, "'d'.*min_ndim=2, found ndim=1"),
        (lambda: layers.LSTM(2, name="r")(ones(2, 3)), ShapeError, "'r'.*expected ndim=3"),
        (lambda: layers.Dense(2, name="d")([[1.0]]), ArgumentError, "'d'.*positional"),
        (lambda: layers.Dense(2, name="d")(), DTypeError, "'d'.*missing"),
        (lambda: layers.Dense(2)(ones(1, 2), nonsense=1), DTypeError, "nonsense"),
        (lambda: layers.Dense(0), ArgumentError, "positive integer.*units=0"),
        (lambda: layers.Dense(2, nonsense=1), ArgumentError, "nonsense=1"),
        (lambda: layers.Dense(2, trainable="yes"), ArgumentError, "trainable"),
        (lambda: layers.Dense(2, activation="nonsense"), ArgumentError, "nonsense"),
        (lambda: layers.Dense(2, lora_rank=2), ArgumentError, "lora_rank"),
        (lambda: layers.Dense(2, name="a/b"), ArgumentError, "a/b"),
        (lambda: layers.Dense(2).count_params(), StateError, "not built"),
        (lambda: Scale().add_weight("w"), ArgumentError, "keyword"),
        (lambda: layers.Layer()(ones(2)), NotImplementedError, "call"),
        (lambda: layers.Identity().add_loss(1.0), DTypeError, "loss=1.0"),
        (lambda: layers.Conv2D(2, 9)(ones(1, 4, 4, 1)), ShapeError, "zero or negative"),
        (lambda: layers.Conv2D(3, 2, groups=2), ArgumentError, "groups=2"),
        (lambda: layers.Conv2D(2, 2, padding="big"), ArgumentError, "padding='big'"),
        (lambda: layers.Conv2D(2, (1, 2, 3)), ArgumentError, "kernel_size"),
        (lambda: layers.Conv2D(2, 2, 2, dilation_rate=2), ArgumentError, "not supported"),
        (lambda: layers.Conv2DTranspose(2, 2, 2, output_padding=2), ArgumentError, "less than"),
        (lambda: layers.MaxPooling2D("two"), ArgumentError, "pool_size"),
        (lambda: layers.Dropout(1.5), ArgumentError, "rate=1.5"),
        (lambda: layers.Dropout(0.5, noise_shape="x"), ArgumentError, "noise_shape"),
        (lambda: layers.GaussianNoise(-1), ArgumentError, "stddev=-1"),
        (lambda: layers.BatchNormalization(renorm=True), ArgumentError, "renorm"),
        (lambda: layers.BatchNormalization(3)(ones(2, 3)), ShapeError, "out of bounds"),
        (lambda: layers.LayerNormalization("x"), DTypeError, "axis='x'"),
        (lambda: layers.GroupNormalization(5)(ones(2, 3)), ShapeError, "multiple"),
        (lambda: layers.Embedding(0, 2), ArgumentError, "input_dim=0"),
        (lambda: layers.Reshape((5,))(ones(2, 3)), ShapeError, "unchanged"),
        (lambda: layers.Reshape((-1, -1)), ArgumentError, "-1"),
        (lambda: layers.Permute((0, 1)), ArgumentError, "consecutive"),
        (lambda: layers.RepeatVector(2.0), DTypeError, "n=2.0"),
        (lambda: layers.Cropping1D(2)(ones(1, 4, 1)), ShapeError, "cropping"),
        (lambda: layers.Add()(ones(2)), ArgumentError, "list of inputs"),
        (lambda: layers.Add()([ones(2, 3), ones(3, 3)]), ShapeError, "batch sizes"),
        (lambda: layers.Add()([ones(2, 3), ones(2, 4)]), ShapeError, "incompatible shapes"),
        (lambda: layers.Concatenate()([ones(2, 3), ones(3, 3)]), ShapeError, "matching shapes"),
        (lambda: layers.Subtract()([ones(2)] * 3), ArgumentError, "exactly 2"),
        (lambda: layers.Dot(1)([ones(2, 3), ones(2, 4)]), ShapeError, "Incompatible"),
        (lambda: layers.Softmax()(ones(2, 3), mask=ones(2, 2)), ShapeError, "broadcastable"),
        (lambda: layers.ReLU(negative_slope=-1), ArgumentError, "negative_slope"),
        (lambda: layers.RNN(5), ArgumentError, "call"),
        (lambda: layers.LSTM(2, stateful=True)(layers.Input((3, 2))), ShapeError, "static"),
        (lambda: layers.Bidirectional(layers.LSTM(2), "sub"), ArgumentError, "merge mode"),
        (lambda: layers.TimeDistributed(5), ArgumentError, "wraps a layer"),
        (lambda: layers.TimeDistributed(layers.Dense(1))(ones(2, 3)), ShapeError, "3 dim"),
        (lambda: layers.MultiHeadAttention(0, 2), ArgumentError, "num_heads=0"),
        (lambda: layers.Attention()(ones(1, 2, 3)), ArgumentError, "list of inputs"),
        (lambda: layers.EinsumDense("ab->a", 3)(ones(2, 3)), ArgumentError, "einsum equation"),
        (lambda: layers.Normalization()(layers.Input(())), ArgumentError, "axis"),
        (lambda: layers.Normalization(mean=1.0), ArgumentError, "both"),
        (lambda: layers.Input(), ArgumentError, "shape"),
        (lambda: layers.Input((2,), batch_shape=(1, 2)), ArgumentError, "same time"),
        (lambda: layers.InputSpec(ndim=2, axes={2: 1}), ArgumentError, "maximum"),
        (lambda: layers.InputSpec(axes=[1]), DTypeError, "axes"),
    ],
)
def test_bad_arguments(call, kind, words):
    with pytest.raises(kind, match="(?s)" + words):
        call()


def test_errors_in_a_call_name_the_innermost_layer():
    class Inner(layers.Layer):
        def call(self, inputs):
            raise ZeroDivisionError

    class Around(layers.Layer):
        def __init__(self):
            super().__init__(name="around")
            self.inner, self.dense = Inner(name="inner"), layers.Dense(2, name="dense")

        def call(self, inputs):
            return self.inner(self.dense(inputs))

    layer = Around()
    with pytest.raises(ShapeError, match=r"^Layer '(around/)?dense' .Dense.: "):
        layer(ones(3))
    with pytest.raises(ZeroDivisionError) as caught:
        layer(ones(2, 3))
    assert "around/inner" in caught.value.__notes__[0] or "inner" in caught.value.__notes__[0]


def test_missing_super_init_is_told():
    class Lazy(layers.Layer):
        def __init__(self):
            self.units = 3

    with pytest.raises(StateError, match="super"):
        Lazy()(ones(2))


# -- losses --------------------------------------------------------------------------------------


def test_losses_are_those_of_the_last_call():
    class Adds(layers.Layer):
        def call(self, inputs):
            self.add_loss(inputs.sum())
            return inputs

    class Around(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.dense = Adds(), layers.Dense(2, kernel_regularizer="l2")

        def call(self, inputs):
            return self.dense(self.a(self.a(inputs)))

    layer = Around()
    for factor in (1.0, 2.0):
        layer(ones(2, 3) * factor)
        assert [float(x) for x in layer.losses[:2]] == [6.0 * factor] * 2
        assert len(layer.losses) == 3
    layer.dense.trainable = False
    assert len(layer.losses) == 2


def test_activity_regularizer_is_divided_by_the_batch():
    layer = layers.Identity(activity_regularizer=regularizers.L1(0.5))
    layer(ones(4, 3))
    assert float(layer.losses[0]) == 0.5 * 12 / 4
    assert "activity_regularizer" in layer.get_config()


# -- stateless -----------------------------------------------------------------------------------


def test_stateless_call_changes_nothing():
    layer = layers.BatchNormalization()
    x = gpunet.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))
    layer(x)
    before = layer.get_weights()
    trainable = [w.value * 2 for w in layer.trainable_variables]
    steady = [w.value for w in layer.non_trainable_variables]
    y, after = layer.stateless_call(trainable, steady, x, training=True)
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(after[0].numpy(), before[2])
    layer.set_weights([w.numpy() for w in (*trainable, *steady)])
    np.testing.assert_allclose(layer(x, training=True).numpy(), y.numpy(), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean.numpy(), after[0].numpy(), rtol=1e-6)


def test_stateless_call_returns_losses_and_advances_seeds():
    layer = layers.Dropout(0.5, activity_regularizer="l2", seed=3)
    x = ones(4, 3)
    state = [v.value for v in layer.non_trainable_variables]
    _, after, losses = layer.stateless_call([], state, x, training=True, return_losses=True)
    assert len(losses) == 1 and layer.losses == []
    assert after[0].tolist() != state[0].tolist()
    assert layer.non_trainable_variables[0].numpy().tolist() == state[0].tolist()
    with pytest.raises(ArgumentError, match="length=1"):
        layer.stateless_call([x], state, x)
    with pytest.raises(StateError, match="built"):
        layers.Dense(1).stateless_call([], [], x)


# -- weights in and out --------------------------------------------------------------------------


def test_set_weights_sets_all_or_none():
    layer = layers.Dense(2)
    layer(ones(1, 3))
    before = layer.get_weights()
    with pytest.raises(ShapeError, match="bias"):
        layer.set_weights([np.zeros((3, 2)), np.zeros(3)])
    with pytest.raises(ShapeError, match="2 arrays"):
        layer.set_weights([np.zeros((3, 2))])
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_variables_in_and_out():
    layer, other = layers.Dense(2), layers.Dense(2)
    layer(ones(1, 3))
    store = {}
    layer.save_own_variables(store)
    assert sorted(store) == ["0", "1"]
    with pytest.raises(StateError, match="never built"):
        other.load_own_variables(store)
    other.build((1, 3))
    other.load_own_variables(store)
    np.testing.assert_array_equal(other.kernel.numpy(), layer.kernel.numpy())


# -- configuration -------------------------------------------------------------------------------


def test_automatic_config():
    layer = Block(5, name="block", trainable=False, dtype="float16")
    config = layer.get_config()
    assert config["units"] == 5 and config["name"] == "block" and config["trainable"] is False
    again = Block.from_config(json.loads(json.dumps(config)))
    assert again.first.units == 5 and again.compute_dtype == "float16"
    assert again.get_config() == config


def test_no_automatic_config_for_objects():
    class Odd(layers.Layer):
        def __init__(self, thing):
            super().__init__()

    with pytest.raises(StateError, match="get_config"):
        Odd(object()).get_config()


def test_config_of_a_bare_constructor():
    class Bare(layers.Layer):
        def __init__(self, n=2):
            super().__init__()

    assert Bare(3).get_config() == {"n": 3}
    assert type(Bare.from_config({"n": 3})) is Bare


def test_build_config_travels():
    layer = layers.Dense(2)
    layer(ones(4, 3))
    full = json.loads(json.dumps(saving.serialize_keras_object(layer)))
    again = saving.deserialize_keras_object(full)
    assert again.built and again.kernel.shape == (3, 2)
    assert set(dir(again)) == set(dir(layer))


# -- dtypes --------------------------------------------------------------------------------------

POLICIES = ["float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"]
MAKERS = [
    ("dense", lambda p: layers.Dense(3, activation="relu", dtype=p), (2, 4)),
    ("conv", lambda p: layers.Conv2D(3, 2, dtype=p), (2, 4, 4, 2)),
    ("norm", lambda p: layers.BatchNormalization(dtype=p), (4, 3)),
    ("layer_norm", lambda p: layers.LayerNormalization(dtype=p), (4, 3)),
    ("rms_norm", lambda p: layers.RMSNormalization(dtype=p), (4, 3)),
    ("group_norm", lambda p: layers.GroupNormalization(1, dtype=p), (4, 3)),
    ("dropout", lambda p: layers.Dropout(0.5, dtype=p), (4, 3)),
    ("pool", lambda p: layers.AveragePooling2D(2, dtype=p), (2, 4, 4, 2)),
    ("lstm", lambda p: layers.LSTM(3, dtype=p), (2, 3, 4)),
    ("lstm_relu", lambda p: layers.LSTM(3, activation="relu", dtype=p), (2, 3, 4)),
    ("gru", lambda p: layers.GRU(3, dtype=p), (2, 3, 4)),
    ("attention", lambda p: layers.EinsumDense("abc,cd->abd", (None, 3), dtype=p), (2, 3, 4)),
    ("prelu", lambda p: layers.PReLU(dtype=p), (2, 4)),
    ("rescaling", lambda p: layers.Rescaling(0.5, dtype=p), (2, 4)),
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "make", "shape"), MAKERS, ids=[m[0] for m in MAKERS])
def test_dtype_policies(name, make, shape, policy):
    layer = make(policy)
    compute = policy.removeprefix("mixed_")
    assert layer.compute_dtype == compute
    assert layer.variable_dtype == ("float32" if "mixed" in policy else policy)
    x = np.random.default_rng(0).normal(size=shape)
    for training in (True, False):
        for _ in range(2):
            y = layer(gpunet.tensor(x.astype("float32")), training=training)
            assert str(y.dtype) == compute
    assert {w.value.dtype.name for w in layer.weights} <= {layer.variable_dtype}
    spec = make(policy)(layers.Input(shape[1:]))
    assert spec.dtype == compute
    reference = make("float64")
    reference(x)
    reference.set_weights([w.astype("float64") for w in layer.get_weights()])
    error = np.abs(np.asarray(layer(x), "float64") - np.asarray(reference(x))).max()
    assert error < {"float16": 0.02, "bfloat16": 0.15, "float64": 1e-12}[compute]


def test_mixed_precision_gradients_are_those_of_the_weights():
    layer = layers.Dense(3, dtype="mixed_float16")
    x = ones(2, 4)
    layer(x)
    with gpunet.GradientTape() as tape:
        y = layer(x).sum()
    assert [str(g.dtype) for g in tape.gradient(y, layer.trainable_weights)] == ["float32"] * 2


def test_sublayers_of_another_dtype():
    class Around(layers.Layer):
        def __init__(self):
            super().__init__(dtype="mixed_float16")
            self.full = layers.Dense(2, dtype="float32")
            self.half = layers.Dense(2, dtype="mixed_float16")

        def call(self, inputs):
            return self.full(inputs), self.half(inputs)

    layer = Around()
    for _ in range(2):
        full, half = layer(ones(2, 3))
        assert (str(full.dtype), str(half.dtype)) == ("float32", "float16")


# -- symbolic ------------------------------------------------------------------------------------


def test_symbolic_calls_of_nested_and_keyword_arguments():
    class Sum(layers.Layer):
        def call(self, pair, scale=None):
            total = pair["a"] + pair["b"]
            return {"out": total if scale is None else total * scale}

    a, b = layers.Input((3,)), layers.Input((3,))
    layer = Sum()
    out = layer({"a": a, "b": b}, scale=a)
    assert out["out"].shape == (None, 3)
    assert len(layer._inbound_nodes[0].input_tensors) == 3
    eager = layer({"a": np.ones((2, 3)), "b": np.ones((2, 3))}, scale=np.full((2, 3), 2.0))
    assert eager["out"].numpy().tolist() == [[4.0] * 3] * 2


def test_symbolic_calls_do_not_change_state():
    layer = layers.BatchNormalization()
    layer(layers.Input((3,)), training=True)
    assert layer.moving_mean.numpy().tolist() == [0.0] * 3
    drop = layers.Dropout(0.5, seed=1)
    before = drop.seed_generator.state.numpy().tolist()
    drop(layers.Input((3,)), training=True)
    assert drop.seed_generator.state.numpy().tolist() == before


def test_input_and_output():
    x = layers.Input((3,))
    layer = layers.Dense(2)
    y = layer(x)
    assert layer.input is x and layer.output is y


def test_masks_travel_and_are_dropped_with_a_warning():
    x = gpunet.tensor([[1, 2, 0], [3, 0, 0]])
    embedded = layers.Embedding(5, 4, mask_zero=True)(x)
    mask = embedded._keras_mask.numpy().tolist()
    assert mask == [[True, True, False], [True, False, False]]
    assert layers.Dropout(0.5)(embedded)._keras_mask.numpy().tolist() == mask
    with pytest.warns(UserWarning, match="mask"):
        y = layers.Conv1D(2, 1)(embedded)
    assert getattr(y, "_keras_mask", None) is None
    kt = layers.Embedding(5, 4, mask_zero=True)(layers.Input((3,), dtype="int32"))
    assert layers.LSTM(2)(kt).shape == (None, 2) and kt._keras_mask.shape == (None, 3)
