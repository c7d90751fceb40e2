"""Functional models: graphs of layers in any shape, called, cut, shared, nested, masked."""

import numpy as np
import pytest

import gpunet
from gpunet import layers, models, ops
from gpunet.errors import ArgumentError, GpunetError, ShapeError, StateError
from gpunet.models.function import map_graph


def tensor(*shape, seed=0):
    return gpunet.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def equal(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


def test_the_constructor_of_model_makes_a_functional():
    x = layers.Input((3,))
    model = models.Model(inputs=x, outputs=layers.Dense(2)(x), name="small")
    assert type(model) is models.Functional and isinstance(model, models.Model)
    assert model.name == "small" and model.built and not model.compiled
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Dense"]
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))
    assert (model.input is x and model.inputs == [x]) or model.inputs[0] is x
    assert len(model.weights) == 2 and model.count_params() == 8


def test_it_computes_what_its_layers_compute():
    x = layers.Input((3,))
    first, second = layers.Dense(4, "relu"), layers.Dense(2)
    model = models.Model(x, second(first(x)))
    value = tensor(5, 3)
    equal(model(value), second(first(value)))
    equal(model(value), model(value))  # the second call takes the fast way
    equal(model(value.numpy()), model(value))


STRUCTURES = {
    "list": (lambda a, b: [a, b], lambda a, b: [a, b]),
    "tuple": (lambda a, b: (a, b), lambda a, b: (a, b)),
    "dict": (lambda a, b: {"b": b, "a": a}, lambda a, b: {"sum": a, "other": b}),
    "nest": (lambda a, b: {"a": [a], "z": (b,)}, lambda a, b: [{"x": a}, (b, [a])]),
}


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
@pytest.mark.parametrize("structure", STRUCTURES)
def test_inputs_and_outputs_keep_their_structure(structure):
    pack_inputs, pack_outputs = STRUCTURES[structure]
    a, b = layers.Input((3,), name="a"), layers.Input((2,), name="b")
    total, dense = ops.sum(a, axis=1), layers.Dense(2)
    model = models.Model(pack_inputs(a, b), pack_outputs(total, dense(b)))
    va, vb = tensor(4, 3), tensor(4, 2)
    found = model(pack_inputs(va, vb))
    wanted = pack_outputs(ops.sum(va, axis=1), dense(vb))
    assert gpunet.tree.assert_same_structure(found, wanted) is None
    for x, y in zip(gpunet.tree.flatten(found), gpunet.tree.flatten(wanted), strict=True):
        equal(x, y)
    spec = model.compute_output_spec(pack_inputs(a, b))
    assert gpunet.tree.flatten(spec)[0].shape is not None


def test_inputs_by_name():
    a, b = layers.Input((3,), name="a"), layers.Input((2,), name="b")
    model = models.Model([a, b], [a * 2, b * 3])
    values = {"b": tensor(4, 2), "a": tensor(4, 3)}
    equal(model(values)[1], values["b"] * 3)
    with pytest.raises(ArgumentError, match='Missing data for input "b"'):
        model({"a": values["a"], "c": values["b"]})


def test_a_shared_layer_has_one_set_of_weights():
    a, b = layers.Input((3,)), layers.Input((3,))
    shared = layers.Dense(3)
    model = models.Model([a, b], shared(shared(a)) + shared(b))
    assert len(model.weights) == 2 and len(shared._inbound_nodes) == 3
    x, y = tensor(2, 3), tensor(2, 3, seed=1)
    equal(model([x, y]), shared(shared(x)) + shared(y))


def test_models_in_models():
    x = layers.Input((3,))
    inner = models.Model(x, layers.Dense(4, "tanh")(x), name="inner")
    stack = models.Sequential([layers.Dense(2)], name="stack")
    y = layers.Input((3,))
    outer = models.Model(y, stack(inner(y)) + stack(inner(y * 2)))
    value = tensor(5, 3)
    equal(outer(value), stack(inner(value)) + stack(inner(value * 2)))
    assert outer.get_layer("inner") is inner and len(outer.weights) == 4
    assert outer.compute_output_shape((7, 3)) == (7, 2)


def test_a_part_of_a_model_is_a_model():
    x = layers.Input((3,))
    first, middle, last = layers.Dense(4), layers.Dense(5, "relu"), layers.Dense(2)
    hidden = first(x)
    deeper = middle(hidden)
    whole = models.Model(x, last(deeper))
    head, tail = models.Model(x, deeper), models.Model(hidden, [whole.output, deeper])
    value = tensor(6, 3)
    equal(head(value), middle(first(value)))
    equal(tail(first(value))[0], whole(value))
    assert [type(layer).__name__ for layer in tail.layers] == ["InputLayer", "Dense", "Dense"]
    assert tail.layers[1] is middle and len(whole.layers) == 4


def test_intermediate_results_of_a_stack():
    stack = models.Sequential([layers.Input((3,)), layers.Dense(4), layers.Dense(2)])
    features = models.Model(stack.inputs, [layer.output for layer in stack.layers])
    value = tensor(2, 3)
    equal(features(value)[1], stack(value))


def test_other_shapes_and_ranks():
    x = layers.Input((None, 4))
    model = models.Model(x, layers.Dense(2)(x))
    assert model(tensor(2, 7, 4)).shape == (2, 7, 2)
    assert model.compute_output_shape((2, 9, 4)) == (2, 9, 2)
    y = layers.Input((1,))
    flat = models.Model(y, y * 2)
    assert flat(tensor(5)).shape == (5, 1)  # a last axis of length 1 may be left out
    z = layers.Input(())
    scalars = models.Model(z, z + 1)
    assert scalars(tensor(5, 1)).shape == (5,)


def test_integers_are_cast_to_the_dtype_of_the_input():
    x = layers.Input((2,))
    assert models.Model(x, x * 1)(np.ones((3, 2), "uint8")).dtype == "float32"
    y = layers.Input((2,), dtype="int32")
    assert models.Model(y, y + 1)(np.ones((3, 2), "int64")).dtype == "int32"


def test_training_reaches_all_layers():
    x = layers.Input((100,))
    inner_input = layers.Input((100,))
    inner = models.Model(inner_input, layers.Dropout(0.5, seed=1)(inner_input))
    model = models.Model(x, inner(layers.Dropout(0.5, seed=2)(x)))
    ones = gpunet.tensor(np.ones((1, 100), "float32"))
    for call in (model, model.call):
        assert np.all(call(ones).numpy() == 1)
        assert np.all(call(ones, training=False).numpy() == 1)
        assert set(np.unique(call(ones, training=True).numpy())) == {0.0, 4.0}


def test_masks_pass_through_the_graph():
    x = layers.Input((4,), dtype="int32")
    embedded = layers.Embedding(5, 3, mask_zero=True)(x)
    model = models.Model(x, layers.Activation("tanh")(embedded))
    out = model(np.array([[1, 2, 0, 0]]))
    assert out._keras_mask.tolist() == [[True, True, False, False]]


def test_gradients_flow_through_the_plan():
    x = layers.Input((3,))
    dense = layers.Dense(2)
    model = models.Model(x, [dense(x), dense(x * 2)])
    with gpunet.GradientTape() as tape:
        a, b = model(tensor(4, 3))
        loss = ops.sum(a) + ops.sum(b)
    kernel, bias = tape.gradient(loss, model.trainable_variables)
    equal(bias, [8.0, 8.0])
    equal(kernel, np.tile(3 * tensor(4, 3).numpy().sum(0)[:, None], (1, 2)))


def test_unused_inputs_belong_to_the_model():
    a, b = layers.Input((2,), name="used"), layers.Input((2,), name="unused")
    model = models.Model([a, b], a * 2)
    equal(model([tensor(1, 2), tensor(1, 2)]), tensor(1, 2) * 2)
    assert {layer.name for layer in model.layers} == {"used", "unused"}


def test_optional_inputs():
    class Either(layers.Layer):
        def call(self, x, y=None):
            return x if y is None else x + y

        def compute_output_shape(self, x_shape, y_shape=None):
            return x_shape

    a, b = layers.Input((2,), name="a"), layers.Input((2,), name="b", optional=True)
    model = models.Model({"a": a, "b": b}, Either()(a, b))
    x = tensor(3, 2)
    equal(model({"a": x, "b": None}), x)
    equal(model({"a": x, "b": x}), x + x)
    with pytest.raises(ArgumentError, match="'a' is not optional"):
        model({"a": None, "b": x})


def test_a_deep_graph_needs_no_recursion():
    x = layers.Input((2,))
    y = x
    for _ in range(1500):
        y = y + 0.001
    model = models.Model(x, y)
    equal(model(np.zeros((1, 2), "float32")), [[1.5, 1.5]])


def test_intermediate_results_are_freed():
    import weakref

    seen = []

    class Watch(layers.Layer):
        def call(self, x):
            seen.append(weakref.ref(x))
            return x * 1

    x = layers.Input((2,))
    model = models.Model(x, Watch()(Watch()(Watch()(x * 1))))
    with gpunet.no_grad():
        seen.clear()
        alive = []
        value = tensor(1, 2)
        model(value)
        alive = [ref() is not None for ref in seen]
    assert not any(alive)


def test_function_alone():
    x = gpunet.KerasTensor((None, 3))
    f = models.Function(x, {"double": x * 2, "sum": ops.sum(x)}, name="f")
    assert f.name == "f" and [op.name for op in f.operations]
    equal(f(tensor(2, 3))["double"], tensor(2, 3) * 2)
    assert f.compute_output_shape((5, 3)) == {"double": (5, 3), "sum": ()}
    with pytest.raises(ShapeError, match="expected shape"):
        f(tensor(2, 4))
    with pytest.raises(ArgumentError, match="structure"):
        f([tensor(2, 3)])


# -- mistakes ------------------------------------------------------------------------------------


def test_not_connected():
    a, b = layers.Input((2,), name="a"), layers.Input((2,), name="b")
    with pytest.raises(ArgumentError, match=r"'b'.*Received: inputs"):
        models.Model(a, a + b)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], [], "cannot be empty"),
        ([np.ones(3)], [], "must be KerasTensors"),
        (None, None, "must be KerasTensors"),
    ],
)
def test_no_keras_tensors(inputs, outputs, message):
    with pytest.raises(ArgumentError, match=message):
        models.Model(inputs, outputs)


def test_names_must_differ():
    x = layers.Input((2,))
    with pytest.raises(ArgumentError, match='"twin" is used 2 times'):
        models.Model(x, layers.Dense(2, name="twin")(layers.Dense(2, name="twin")(x)))


def test_wrong_shapes_name_the_input():
    x = layers.Input((3, 2), name="pixels")
    model = models.Model(x, x * 2, name="net")
    for shape in ((4, 2, 3), (4, 3), (3, 2, 1, 1)):
        with pytest.raises(GpunetError, match=r"pixels.*|net.*\(None, 3, 2\)"):
            model(tensor(*shape))


def test_reserved_attributes_and_unknown_layers():
    x = layers.Input((3,))
    model = models.Model(x, layers.Dense(1, name="only")(x))
    with pytest.raises(AttributeError, match="reserved"):
        model.layers = []
    with pytest.raises(ArgumentError, match=r"Existing layers.*only"):
        model.get_layer("other")
    with pytest.raises(ArgumentError, match="index 9"):
        model.get_layer(index=9)
    with pytest.raises(ArgumentError, match="either"):
        model.get_layer()
    with pytest.raises(StateError, match="add_loss"):
        model.add_loss(3.0)


def test_keys_that_are_not_names_warn():
    x = layers.Input((3,), name="x")
    with pytest.warns(UserWarning, match="key 'other'"):
        models.Model({"other": x}, x * 2)


def test_another_structure_warns():
    a, b = layers.Input((2,), name="a"), layers.Input((2,), name="b")
    model = models.Model([[a], b], a + b)
    with pytest.warns(UserWarning, match="structure of `inputs`"):
        model([tensor(1, 2), tensor(1, 2)])


def test_map_graph_orders_operations_by_depth():
    x = layers.Input((2,), name="x")
    left = layers.Dense(2, name="left")(x)
    right = layers.Dense(2, name="right")(layers.Dense(2, name="before")(x))
    _, by_depth, operations = map_graph([x], [layers.Add(name="add")([left, right])])
    assert [op.name for op in operations] == ["x", "before", "left", "right", "add"]
    assert sorted(by_depth) == [0, 1, 2, 3]


# -- sequential and subclassed models ------------------------------------------------------------


def test_sequential_builds_when_it_knows_the_shape():
    model = models.Sequential()
    model.add(layers.Dense(4, name="a"))
    model.add(layers.Dense(2, name="b"))
    assert not model.built and model.weights == []
    with pytest.raises(AttributeError, match="no defined input shape yet"):
        _ = model.input_shape
    assert model(tensor(5, 3)).shape == (5, 2)
    assert model.built and len(model.weights) == 4 and model.count_params() == 26
    assert [layer.name for layer in model.layers] == ["a", "b"]
    assert model.weights[0].path == f"{model.name}/a/kernel"


def test_sequential_grows_and_shrinks():
    model = models.Sequential([layers.Input((3,)), layers.Dense(4)])
    model.add(layers.Dense(5))
    assert model.output_shape == (None, 5) and len(model.weights) == 4
    assert isinstance(model.pop(), layers.Dense)
    assert model.output_shape == (None, 4) and len(model.weights) == 2
    assert model(tensor(2, 3)).shape == (2, 4)
    model.pop()
    with pytest.raises(ArgumentError, match="no layers"):
        model.pop()


def test_sequential_of_models_and_nests():
    inner = models.Sequential([layers.Input((3,)), layers.Dense(4)])
    model = models.Sequential([inner, layers.Dense(2)])
    assert model.built and model(tensor(2, 3)).shape == (2, 2)
    added = models.Sequential([layers.Add(), layers.Dense(2)])
    assert added([tensor(2, 3), tensor(2, 3)]).shape == (2, 2)


def test_sequential_fit_keeps_the_batch_size_open(rng):
    model = models.Sequential([layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(rng.normal(size=(10, 3)), rng.normal(size=(10, 2)), batch_size=4, verbose=0)
    assert model.input_shape == (None, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.Sequential([layers.Dense]), "Pass an instance"),
        (lambda: models.Sequential(["dense"]), "Only instances"),
        (
            lambda: models.Sequential([layers.Dense(1, name="x"), layers.Dense(1, name="x")]),
            "unique names",
        ),
        (lambda: models.Sequential([layers.Input((1,)), layers.Input((1,))]), "different Input"),
        (lambda: models.Sequential([layers.Dense(1), layers.Input((1,))]), "first layer"),
        (lambda: models.Sequential().build((None, 3)), "has no layers"),
        (
            lambda: models.Sequential([layers.Input((3,)), layers.Dense(1)]).build((None, 4)),
            "already been configured",
        ),
    ],
)
def test_bad_stacks(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_layers_of_a_stack_take_one_argument():
    class Two(layers.Layer):
        def call(self, a, b):
            return a + b

    with pytest.raises((ArgumentError, TypeError), match=r"single required|missing"):
        models.Sequential([layers.Input((1,)), Two()])


def test_subclassed_models():
    class Net(models.Model):
        def __init__(self):
            super().__init__(name="net")
            self.blocks = [layers.Dense(4), layers.Dense(2)]
            self.drop = layers.Dropout(0.9, seed=0)

        def call(self, x, training=None):
            for block in self.blocks:
                x = block(x)
            return self.drop(x, training=training)

    model = Net()
    assert model(tensor(3, 5)).shape == (3, 2) and len(model.weights) == 4
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Dense", "Dropout"]
    assert np.any(model(tensor(3, 5), training=True).numpy() == 0)
    built = Net()
    built.build((None, 5))
    assert [w.shape for w in built.weights] == [w.shape for w in model.weights]
    x = layers.Input((5,))
    assert models.Model(x, model(x)).output_shape == (None, 2)


def test_a_model_without_call():
    with pytest.raises(NotImplementedError, match="does not have a `call"):
        models.Model()(tensor(1, 1))


def test_a_subclass_made_with_inputs_and_outputs_is_functional():
    class Mine(models.Model):
        pass

    x = layers.Input((3,))
    model = Mine(x, layers.Dense(2)(x), name="mine")
    assert isinstance(model, models.Functional) and type(model) is Mine
    assert model(tensor(1, 3)).shape == (1, 2)
    again = Mine.from_config(model.get_config())
    assert type(again) is Mine and again.output_shape == (None, 2)


def test_unconnected_outputs_are_named_by_their_path():
    a, b = layers.Input((2,), name="a"), layers.Input((2,), name="b")
    with pytest.raises(ArgumentError, match=r"Output with path `second\.0` is not connected.*'b'"):
        models.Model(a, {"first": a * 2, "second": [b * 3]})


def test_more_keys_than_inputs_warn():
    a = layers.Input((2,), name="a")
    model = models.Model({"a": a}, a * 5)
    with pytest.warns(UserWarning, match="structure of `inputs`"):
        equal(model({"a": tensor(1, 2), "extra": tensor(1, 9)}), 5 * tensor(1, 2))


def test_a_training_argument_in_the_graph_stays():
    x = layers.Input((50,))
    model = models.Model(x, layers.Dropout(0.5, seed=1)(x, training=True))
    assert np.any(model(np.ones((1, 50), "float32"), training=False).numpy() == 0)


def test_a_stack_whose_shapes_only_data_can_tell():
    class Unclear(layers.Layer):
        def compute_output_spec(self, *args, **kwargs):
            raise NotImplementedError

        def call(self, x):
            return x * 2

    model = models.Sequential([layers.Input((3,)), Unclear()])
    equal(model(tensor(2, 3)), 2 * tensor(2, 3))


def test_clones_of_ops():
    x = layers.Input((3,))
    model = models.Model(x, ops.sum(layers.Dense(2)(x) * 2 + 1, axis=-1, keepdims=True))
    clone = models.clone_model(model)
    clone.set_weights(model.get_weights())
    equal(clone(tensor(4, 3)), model(tensor(4, 3)))
    assert not {id(op) for op in clone.operations} & {id(op) for op in model.operations}


def test_masks_of_inputs_given_by_name():
    a, b = layers.Input((2, 3), name="z"), layers.Input((2, 3), name="y")

    class Masked(layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def call(self, x, mask=None):
            return x if mask is None else x * ops.cast(mask, "float32")[..., None]

    model = models.Model([a, b], [Masked()(a), Masked()(b)])
    x, y = tensor(1, 2, 3), tensor(1, 2, 3, seed=1)
    y._keras_mask = gpunet.tensor([[True, False]])
    plain, masked = model({"y": y, "z": x})
    equal(plain, x)
    equal(masked, y.numpy() * [[[1.0], [0.0]]])
