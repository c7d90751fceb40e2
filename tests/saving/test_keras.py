"""Files travel both ways between gpunet and Keras 3."""

import importlib
import inspect
import io
import zipfile

import h5py
import keras
import numpy as np
import pytest

import gpunet
from gpunet.core.symbolic import FunctionOperation
from gpunet.core.tensor import FUNCTIONS
from gpunet.saving.operations import _NAMES, _by_class, _is_operand, serialize_operation
from gpunet.saving.registry import _BUILTINS, builtin_home, find_class
from tests.saving.models import MODELS, data, randomize, values

FRAMEWORKS = {"gpunet to keras": (gpunet, keras), "keras to gpunet": (keras, gpunet)}


@pytest.fixture(params=FRAMEWORKS.values(), ids=FRAMEWORKS.keys())
def direction(request):
    return request.param


def close(a, b, tolerance=1e-6):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", MODELS)
def test_models(kind, direction, tmp_path):
    source, target = direction
    if kind == "subclassed":
        MODELS[kind](target)  # registers the class there
    model = MODELS[kind](source)
    randomize(model)
    x, _ = data(model)
    model.save(tmp_path / "m.keras")
    back = target.saving.load_model(tmp_path / "m.keras")
    close(values(model), values(back), 0)
    close([model.predict(x, verbose=0)], [back.predict(x, verbose=0)], 1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_weights(kind, direction, tmp_path):
    source, target = direction
    model, other = MODELS[kind](source), MODELS[kind](target)
    randomize(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    close(values(model), values(other), 0)


def many_layers(k):
    """One layer of each kind that files hold in a way of its own."""
    layers = k.layers
    image = k.Input((8, 8, 2), name="image")
    words = k.Input((6,), dtype="int32", name="words")
    x = layers.Rescaling(0.5, offset=0.1)(image)
    x = layers.Normalization(mean=[0.1, 0.2], variance=[1.0, 2.0])(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same")(x)
    x = layers.LeakyReLU(0.2)(layers.Permute((2, 1, 3))(x))
    x = layers.Conv2D(6, 3, groups=2, dilation_rate=2, activation="gelu")(
        layers.AveragePooling2D(1)(x)
    )
    x = layers.RMSNormalization()(layers.Softmax()(x))
    x = layers.GlobalMaxPooling2D()(x)
    y = layers.Embedding(11, 4, mask_zero=True)(words)
    y = layers.LSTM(3, return_sequences=True, recurrent_dropout=0.0)(y)
    y = layers.Dense(6)(layers.GlobalAveragePooling1D()(y))
    z = layers.Multiply()([layers.Reshape((6,))(x), y])
    policy = k.dtype_policies.DTypePolicy("mixed_bfloat16")
    z = layers.Dense(3, dtype=policy, kernel_initializer=k.initializers.HeNormal(seed=3))(z)
    return k.Model({"image": image, "words": words}, layers.Activation("tanh", dtype="float32")(z))


def test_many_layers(direction, tmp_path):
    source, target = direction
    model = many_layers(source)
    randomize(model)
    model.save(tmp_path / "m.keras")
    back = target.saving.load_model(tmp_path / "m.keras")
    rng = np.random.default_rng(0)
    x = {
        "image": rng.normal(size=(3, 8, 8, 2)).astype("float32"),
        "words": np.array([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [9, 10, 1, 0, 0, 0]]),
    }
    a, b = (np.asarray(m.predict(x, verbose=0)) for m in (model, back))
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)  # the last layer is in bfloat16
    assert [layer.name for layer in model.layers] == [layer.name for layer in back.layers]
    assert [v.dtype for v in model.weights] == [v.dtype for v in back.weights]
    close(values(model), values(back), 0)
    for old, new in zip(model.layers, back.layers, strict=True):
        new = new.get_config()
        for key in old.get_config().keys() & new.keys():
            assert str(new[key]) == str(old.get_config()[key]) or "Policy" in str(new[key]), key


OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda k: k.optimizers.Adam(0.01, clipnorm=1.0, amsgrad=True),
    "adamw": lambda k: k.optimizers.AdamW(k.optimizers.schedules.CosineDecay(0.01, 100)),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.01, centered=True, momentum=0.5),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "kind", ["functional", pytest.param("subclassed", marks=pytest.mark.thorough)]
)
def test_training_goes_on_there(kind, optimizer, direction, tmp_path):
    source, target = direction
    MODELS[kind](target)
    model = MODELS[kind](source)
    model.compile(OPTIMIZERS[optimizer](source), loss="mse", metrics=["mae"])
    x, y = data(model)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    back = target.saving.load_model(tmp_path / "m.keras")
    close(values(model), values(back), 0)
    for m in (model, back):
        m.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    close(values(model), values(back), 2e-5)


def test_averaged_weights(direction, tmp_path):
    """Keras on JAX cannot go on training with them, so only the state is compared."""
    source, target = direction
    model = MODELS["functional"](source)
    model.compile(source.optimizers.SGD(0.01, use_ema=True), loss="mse")
    x, y = data(model)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    close(values(model), values(target.saving.load_model(tmp_path / "m.keras")), 0)


def keys_of(path):
    found = {}

    def note(name, item):
        found[name] = getattr(item, "shape", None), item.attrs.get("dtype")

    with zipfile.ZipFile(path) as archive:
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))).visititems(note)
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_the_paths_in_the_file_are_those_of_keras(kind, tmp_path):
    found = []
    for k in (gpunet, keras):
        model = MODELS[kind](k)
        model.compile("adam", "mse", metrics=["mae"])
        x, y = data(model)
        model.fit(x, y, verbose=0)
        model.save(tmp_path / "m.keras")
        found.append(keys_of(tmp_path / "m.keras"))
    assert found[0] == found[1]


def test_bfloat16(direction, tmp_path):
    source, target = direction
    models = [
        k.Sequential([k.Input((3,)), k.layers.Dense(2, dtype="bfloat16")]) for k in (source, target)
    ]
    randomize(models[0])
    models[0].save_weights(tmp_path / "m.weights.h5")
    models[1].load_weights(tmp_path / "m.weights.h5")
    a, b = (np.asarray(m.layers[0].kernel.numpy()).astype("float32") for m in models)
    np.testing.assert_array_equal(a, b)


def test_ops_in_functional_models(direction, tmp_path):
    source, target = direction
    ops = source.ops
    x = inputs = source.Input((4, 6))
    x = 1 - x * 2.0 + ops.relu(x)
    x = x[:, 0:3]
    x = ops.concatenate([x, -x], axis=-1)
    x = ops.reshape(x, (-1, 6, 6))
    x = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
    x = ops.where(x > 0, x, ops.zeros_like(x))
    x = ops.softmax(x / 10, axis=-1)
    x = ops.mean(x, axis=1, keepdims=True) + ops.sum(x, axis=1, keepdims=True)
    x = ops.einsum("abc->ac", x)
    x = ops.clip(ops.expand_dims(x, 1), 0.1, 1.0)
    model = source.Model(inputs, ops.logsumexp(x, axis=1))
    model.save(tmp_path / "m.keras")
    back = target.saving.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    y = np.asarray(model.predict(x, verbose=0))
    np.testing.assert_allclose(y, np.asarray(back.predict(x, verbose=0)), rtol=1e-5, atol=1e-6)
    again = tmp_path / "again.keras"  # what was loaded can be saved
    back.save(again)
    last = source.saving.load_model(again).predict(np.asarray(x), verbose=0)
    np.testing.assert_allclose(y, np.asarray(last), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", ["numpy", "nn", "core", "math", "linalg", "image"])
def test_ops_have_the_class_and_the_arguments_of_keras(module):
    """For every op that gpunet has too: class, module, and which arguments are settings."""
    wrong = []
    theirs = vars(importlib.import_module(f"keras.src.ops.{module}"))
    for name, cls in theirs.items():
        ours = _NAMES.get(name) or _by_class().get(name)
        if ours not in FUNCTIONS or getattr(cls, "__module__", "") != f"keras.src.ops.{module}":
            continue
        config = serialize_operation(FunctionOperation(ours))
        if (config["module"], config["class_name"]) != (f"keras.src.ops.{module}", name):
            wrong.append(f"{ours} is written as {config}, not as {module}.{name}")
        known = inspect.signature(FUNCTIONS[ours]).parameters
        for setting in set(inspect.signature(cls.__init__).parameters) - {"self", "name", "kwargs"}:
            if setting in known and _is_operand(ours, setting):
                wrong.append(f"{ours}: {setting} is a setting")
        for operand in set(inspect.signature(cls.call).parameters) - {"self", "kwargs"}:
            if operand in known and not _is_operand(ours, operand):
                wrong.append(f"{ours}: {operand} is an operand")
    assert not wrong, "\n".join(wrong)


def test_every_builtin_is_found_under_the_name_that_keras_gives_it():
    """Configs name classes; files travel only if each side finds the names of the other."""
    wrong = []
    for obj in {id(obj): obj for obj in _BUILTINS.values() if hasattr(obj, "get_config")}.values():
        home, name = builtin_home(obj), obj.__name__
        if home.startswith("gpunet.") or name == "LossFunctionWrapper":
            continue  # Keras has no such class, or none that files name
        theirs = keras.src.api_export.get_symbol_from_name(f"{home}.{name}")
        if theirs is None and home.startswith("keras.src."):
            theirs = vars(importlib.import_module(home)).get(name)
        if theirs is None:
            wrong.append(f"Keras cannot find {home}.{name}")
            continue
        exported = keras.src.api_export.get_name_from_symbol(theirs) or f"{home}.{name}"
        module, _, found = exported.rpartition(".")
        if find_class(found, module, None) is not obj:
            wrong.append(f"gpunet does not find {exported}")
    assert not wrong, "\n".join(wrong)
