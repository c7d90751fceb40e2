"""Configs of models against Keras's, back and forth; clones; summaries."""

import json

import keras
import numpy as np
import pytest

import gpunet
from gpunet import layers, losses, metrics, models, optimizers
from gpunet.errors import ArgumentError, SavingError, StateError
from gpunet.naming import clear_session


class Ours:
    """gpunet under the names that Keras uses."""

    Sequential, Model, Input = models.Sequential, models.Model, layers.Input
    layers, losses, metrics, optimizers = layers, losses, metrics, optimizers


@pytest.fixture(autouse=True)
def names_start_anew():
    clear_session()
    keras.utils.clear_session()


def sequential(library):
    return library.Sequential(
        [
            library.Input((4,), name="in"),
            library.layers.Dense(3, activation="relu", name="one"),
            library.layers.Dropout(0.5, name="two"),
            library.layers.Dense(1, kernel_initializer="he_normal", name="three"),
        ],
        name="stack",
    )


def built_later(library):
    stack = library.Sequential([library.layers.Dense(3, name="one")], name="later")
    stack.build((None, 5))
    return stack


def not_built(library):
    return library.Sequential([library.layers.Dense(3, name="one")], name="open")


def chain(library):
    x = library.Input((4,), name="in")
    y = library.layers.Dense(2, name="out")(library.layers.Dense(3, name="hidden")(x))
    return library.Model(x, y, name="chain")


def shared(library):
    a, b = library.Input((4,), name="a"), library.Input((4,), name="b")
    dense = library.layers.Dense(4, name="shared")
    total = library.layers.Add(name="add")([dense(a), dense(dense(b))])
    return library.Model({"a": a, "b": b}, [total, {"inner": dense(total)}], name="sharing")


def nested(library):
    inner, stack = chain(library), sequential(library)
    x = library.Input((4,), name="outer_in")
    y = library.layers.Concatenate(name="cat")([inner(x), stack(x), inner(inner_twice(library, x))])
    return library.Model(x, [y, inner(x)], name="outer")


def inner_twice(library, x):
    return library.layers.Dense(4, name="between")(x)


def cut(library):
    whole = chain(library)
    return library.Model(whole.get_layer("hidden").output, whole.output, name="tail")


def with_keywords(library):
    x = library.Input((6, 4), name="x")
    attention = library.layers.MultiHeadAttention(2, 3, name="attention")
    return library.Model(x, attention(x, value=x, use_causal_mask=True), name="keywords")


MAKERS = [sequential, built_later, not_built, chain, shared, nested, with_keywords]


def without(config, names):
    """A config without the entries that only one of the libraries has."""
    if isinstance(config, dict):
        return {k: without(v, names) for k, v in config.items() if k not in names}
    return [without(v, names) for v in config] if isinstance(config, list) else config


def comparable(model):
    config = json.loads(model.to_json())
    names = {"quantization_config", "registered_name", "build_config", "compile_config", "mask"}
    return without(config, names)


@pytest.mark.parametrize("make", MAKERS)
def test_configs_are_those_of_keras(make):
    assert comparable(make(Ours)) == comparable(make(keras))


@pytest.mark.parametrize("make", [*MAKERS, cut])
def test_configs_come_back(make):
    model = make(Ours)
    again = models.model_from_json(model.to_json())
    assert type(again) is type(model) and again.to_json() == model.to_json()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert [w.name for w in again.weights] == [w.name for w in model.weights]


@pytest.mark.parametrize("make", [sequential, chain, shared, nested])
def test_models_of_keras_are_read_and_the_other_way_round(make):
    theirs = make(keras)
    ours = models.model_from_json(theirs.to_json())
    ours.set_weights(theirs.get_weights())
    back = keras.models.model_from_json(ours.to_json())
    back.set_weights(ours.get_weights())
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    x = {"a": x, "b": 2 * x} if make is shared else x
    found = [keras.tree.flatten(model.predict(x, verbose=0)) for model in (theirs, ours, back)]
    for a, b, c in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)


COMPILED = [
    lambda library: {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]},
    lambda library: {
        "optimizer": library.optimizers.SGD(0.1, momentum=0.5),
        "loss": library.losses.Huber(delta=0.5),
        "metrics": [library.metrics.MeanAbsoluteError(name="error"), "mse"],
        "weighted_metrics": ["mae"],
        "steps_per_execution": 2,
    },
    lambda library: {"optimizer": "sgd", "loss": {"three": "mae"}, "loss_weights": {"three": 0.5}},
]


@pytest.mark.parametrize("index", range(len(COMPILED)))
def test_compile_configs_are_those_of_keras(index):
    ours, theirs = sequential(Ours), sequential(keras)
    ours.compile(**COMPILED[index](Ours), jit_compile=False)
    theirs.compile(**COMPILED[index](keras), jit_compile=False)
    assert ours.get_compile_config() == theirs.get_compile_config()
    fresh = sequential(Ours)
    fresh.compile_from_config(theirs.get_compile_config())
    assert fresh.get_compile_config() == ours.get_compile_config()
    assert type(fresh.optimizer) is type(ours.optimizer) and fresh.optimizer.built


def test_no_compile_config_before_compile():
    assert chain(Ours).get_compile_config() == {}


def test_own_classes_come_back_only_if_they_are_allowed():
    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

    text = models.Sequential([layers.Input((2,)), Twice(name="twice")]).to_json()
    with pytest.raises(SavingError, match="Twice"):
        models.model_from_json(text)
    model = models.model_from_json(text, custom_objects={"Twice": Twice})
    assert isinstance(model.layers[0], Twice)


def test_a_subclass_with_its_own_constructor():
    class Net(models.Model):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units, self.dense = units, layers.Dense(units)

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    model = Net(5, name="net")
    model(np.ones((2, 4), "float32"))
    again = models.model_from_json(model.to_json(), {"Net": Net})
    assert again.units == 5 and again.name == "net"
    assert [w.shape for w in again.weights] == [(4, 5), (5,)]  # built as the first one was


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["layers"].pop(1), "hidden"),
        (lambda c: c["layers"][1]["inbound_nodes"].clear(), "no such call|unresolved"),
        (lambda c: c.update(output_layers=["out", 7, 0]), "no such call"),
        (lambda c: c["layers"][1].update(class_name="os.system"), "os.system"),
    ],
)
def test_damaged_configs(change, message):
    config = chain(Ours).get_config()
    change(config)
    with pytest.raises(SavingError, match=message):
        models.Functional.from_config(config)


def test_json_of_something_else():
    with pytest.raises(StateError, match="no config of a model"):
        models.model_from_json("[1, 2]")
    with pytest.raises(ArgumentError, match="'name' and"):
        models.Sequential.from_config({"layers": []})


# -- clones --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sequential, built_later, chain, shared, nested])
def test_clones_have_the_architecture_but_not_the_weights(make):
    model = make(Ours)
    clone = models.clone_model(model)
    if make not in (shared, nested):  # in these the calls of a shared layer may change places
        assert comparable(clone) == comparable(model)
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}
    clone.set_weights(model.get_weights())
    x = np.ones((3, 5 if make is built_later else 4), "float32")
    x = {"a": x, "b": x} if make is shared else x
    for a, b in zip(*map(keras.tree.flatten, (model.predict(x), clone.predict(x))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_clones_are_compiled_alike():
    model = chain(Ours)
    model.compile("adam", "mse", metrics=["mae"])
    clone = models.clone_model(model)
    assert clone.compiled and clone.get_compile_config() == model.get_compile_config()
    assert clone.optimizer is not model.optimizer


def test_clone_functions():
    model = chain(Ours)

    def wider(layer):
        config = layer.get_config()
        if "units" in config and layer.name == "hidden":
            config["units"] = 7
        return type(layer).from_config(config)

    assert models.clone_model(model, clone_function=wider).get_layer("hidden").units == 7
    same = models.clone_model(
        model,
        clone_function=lambda layer: layer,
        call_function=lambda layer, *args, **kwargs: layer(*args, **kwargs) * 2,
    )
    x = np.ones((1, 4), "float32")
    hidden, out = model.get_layer("hidden"), model.get_layer("out")
    np.testing.assert_allclose(same.predict(x, verbose=0), 2 * out(2 * hidden(x)), rtol=1e-6)


def test_clones_on_given_inputs():
    x = layers.Input((4,), name="mine")
    assert models.clone_model(chain(Ours), input_tensors=x).input is x
    assert models.clone_model(sequential(Ours), input_tensors=[x]).inputs[0] is x


def test_recursive_clones_clone_inner_layers():
    made = []

    def note(layer):
        made.append(layer.name)
        return type(layer).from_config(layer.get_config())

    models.clone_model(nested(Ours), clone_function=note, recursive=True)
    assert {"hidden", "one", "between"} <= set(made)
    assert made.count("hidden") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"call_function": print}, "not supported with Sequential"),
        ({"input_tensors": [1, 2]}, "single one"),
        ({"colour": "red"}, "Unexpected keyword"),
    ],
)
def test_bad_clones(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        models.clone_model(sequential(Ours), **arguments)


def test_subclassed_models_have_no_clone_function():
    class Net(models.Model):
        pass

    with pytest.raises(ArgumentError, match="only supported for Sequential models or Functional"):
        models.clone_model(Net(), clone_function=print)


# -- summaries -----------------------------------------------------------------------------------


def summary(model, **options):
    parts = []
    model.summary(print_fn=parts.append, line_length=options.pop("line_length", 76), **options)
    return "\n".join(line.rstrip() for line in "".join(parts).splitlines())


@pytest.mark.parametrize("make", [sequential, not_built, chain, shared, nested])
@pytest.mark.parametrize(
    "options", [{}, {"show_trainable": True}, {"expand_nested": True}], ids=str
)
def test_summaries_are_those_of_keras(make, options):
    ours, theirs = summary(make(Ours), **options), summary(make(keras), **options)
    if make is not nested or not options.get("expand_nested"):
        assert ours == theirs
    assert ours.split("Total params")[1] == theirs.split("Total params")[1]
    assert ours.count("\n") == theirs.count("\n")


def test_summary_of_a_part():
    text = summary(sequential(Ours), layer_range=("two", "three"))
    assert "two" in text and "three" in text and "one (Dense)" not in text
    assert text == summary(sequential(keras), layer_range=("two", "three"))


def test_summary_shows_sizes_and_optimizer():
    model = sequential(Ours)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0)
    model.layers[0].trainable = False
    text = summary(model)
    assert "Trainable params: 4 (16.00 B)" in text
    assert "Non-trainable params: 15 (60.00 B)" in text and "Optimizer params:" in text


@pytest.mark.parametrize("options", [{"layer_range": ("a",)}, {"layer_range": ("x", "y")}])
def test_bad_ranges(options):
    with pytest.raises(ArgumentError, match="layer"):
        summary(sequential(Ours), **options)


def test_too_narrow():
    with pytest.raises(ArgumentError, match="width"):
        summary(sequential(Ours), line_length=8)


def test_summary_prints_by_default(capsys):
    gpunet.models.Sequential([layers.Input((4,)), layers.Dense(2)]).summary()
    assert "Total params: 10 (40.00 B)" in capsys.readouterr().out
