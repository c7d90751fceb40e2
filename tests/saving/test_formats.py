"""Files of all formats come back as they were."""

import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy

import gpunet
from gpunet import saving
from gpunet.errors import ArgumentError, SavingError, StateError
from tests.saving.models import MODELS, data, randomize, values

WEIGHTS = (".weights.h5", ".safetensors", ".keras")


def dense_model(*units, inputs=3, **options):
    layers = [gpunet.layers.Dense(n, **options) for n in units]
    return gpunet.Sequential([gpunet.Input((inputs,)), *layers])


def save(model, path):
    (saving.save_model if path.suffix == ".keras" else saving.save_weights)(model, path)


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_comes_back(kind, tmp_path):
    model = MODELS[kind](gpunet)
    randomize(model)
    x, _ = data(model)
    saving.save_model(model, tmp_path / "m.keras")
    back = saving.load_model(tmp_path / "m.keras")
    assert type(back) is type(model)
    same(values(model), values(back))
    np.testing.assert_array_equal(model.predict(x, verbose=0), back.predict(x, verbose=0))
    assert [v.name for v in model.weights] == [v.name for v in back.weights]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("ending", WEIGHTS)
def test_weights_come_back(kind, ending, tmp_path):
    model, other = MODELS[kind](gpunet), MODELS[kind](gpunet)
    randomize(model)
    path = tmp_path / f"m{ending}"
    save(model, path)
    saving.load_weights(other, path)
    same(values(model), values(other))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("kind", ["sequential", "functional", "subclassed"])
def test_training_goes_on_as_if_it_had_not_stopped(kind, optimizer, tmp_path):
    model = MODELS[kind](gpunet)
    model.compile(optimizer=optimizer, loss="mse")
    x, y = data(model)
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    back = saving.load_model(tmp_path / "m.keras")
    assert int(back.optimizer.iterations) == 2
    same(values(model), values(back))
    for m in (model, back):
        m.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    same(values(model), values(back))


def test_weights_with_an_optimizer_that_has_not_begun(tmp_path):
    def compiled():
        model = dense_model(4, 2)
        model.compile(optimizer="adam", loss="mse")
        return model

    model, other = compiled(), compiled()
    x, y = data(model)
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    same(values(model), values(other))


def test_an_optimizer_of_another_kind_keeps_its_state(tmp_path):
    model, other = dense_model(2), dense_model(2)
    x, y = data(model)
    model.compile(optimizer="adam", loss="mse")
    other.compile(optimizer="sgd", loss="mse")
    for m in (model, other):
        m.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    before = [v.numpy() for v in other.optimizer.variables]
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        other.load_weights(tmp_path / "m.weights.h5")
    same([v.numpy() for v in model.weights], [v.numpy() for v in other.weights])
    same(before, [v.numpy() for v in other.optimizer.variables])


def test_compile_false(tmp_path):
    model = dense_model(2)
    model.compile(optimizer="adam", loss="mse")
    x, y = data(model)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    back = saving.load_model(tmp_path / "m.keras", compile=False)
    assert back.optimizer is None and not back.compiled
    same([v.numpy() for v in model.weights], [v.numpy() for v in back.weights])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "mixed_float16"])
@pytest.mark.parametrize("ending", WEIGHTS)
def test_dtypes(dtype, ending, tmp_path):
    model, other = dense_model(3, 2, dtype=dtype), dense_model(3, 2, dtype=dtype)
    randomize(model)
    save(model, tmp_path / f"m{ending}")
    saving.load_weights(other, tmp_path / f"m{ending}")
    same(values(model), values(other))


def test_bfloat16_is_marked_as_keras_marks_it(tmp_path):
    model = dense_model(2, dtype="bfloat16")
    saving.save_weights(model, tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        dataset = file["layers/dense/vars/0"]
        assert dataset.attrs["dtype"] == "bfloat16" and dataset.dtype.itemsize == 2


@pytest.mark.parametrize("ending", WEIGHTS)
def test_floats_of_another_precision_are_cast(ending, tmp_path):
    model, half = dense_model(2), dense_model(2, dtype="float16")
    save(model, tmp_path / f"m{ending}")
    saving.load_weights(half, tmp_path / f"m{ending}")
    for a, b in zip(values(model), values(half), strict=True):
        np.testing.assert_array_equal(a.astype("float16"), b)


class Counter(gpunet.layers.Layer):
    """Weights of many kinds."""

    def __init__(self, wide=False, **kwargs):
        super().__init__(**kwargs)
        self.wide = wide
        integer = "int64" if wide else "int32"
        for name, dtype in [("count", integer), ("flag", "bool"), ("seed", "uint32")]:
            v = self.add_weight(shape=(2,), initializer="ones", dtype=dtype, trainable=False)
            setattr(self, name, v)
        self.build(None)

    def build(self, shape):
        """Nothing is left to do."""

    def call(self, x):
        return x


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_integers_and_booleans(ending, tmp_path):
    layer, other, wide = Counter(), Counter(), Counter(wide=True)
    layer.count.assign([2**31 - 1, -5])
    layer.flag.assign([True, False])
    path = tmp_path / f"m{ending}"
    saving.save_weights(layer, path)
    saving.load_weights(other, path)
    same(values(layer), values(other))
    saving.load_weights(wide, path)
    assert wide.count.numpy().tolist() == [2**31 - 1, -5]
    wide.count.assign([2**40, 0])
    saving.save_weights(wide, path)
    with pytest.raises(SavingError, match="int32, which cannot hold the values"):
        saving.load_weights(other, path)
    same(values(layer), values(other))


def test_safetensors_is_plain_for_others(tmp_path):
    model = dense_model(4, 2)
    saving.save_weights(model, tmp_path / "m.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert sorted(arrays) == [
        "layers/dense/bias", "layers/dense/kernel", "layers/dense_1/bias", "layers/dense_1/kernel",
    ]  # fmt: skip
    np.testing.assert_array_equal(arrays["layers/dense/kernel"], model.layers[0].kernel.numpy())
    with safetensors.safe_open(tmp_path / "m.safetensors", "numpy") as file:
        assert file.metadata()["format"] == "gpunet"


def test_safetensors_named_by_variable_path(tmp_path):
    model = dense_model(4, 2)
    arrays = {v.path: np.full(v.shape, i, "float32") for i, v in enumerate(model.weights)}
    safetensors.numpy.save_file(arrays, tmp_path / "m.safetensors")
    saving.load_weights(model, tmp_path / "m.safetensors")
    assert [float(v.numpy().ravel()[0]) for v in model.weights] == [0, 1, 2, 3]


@pytest.mark.parametrize("as_path", [str, pathlib.Path, os.fsencode])
def test_paths(as_path, tmp_path):
    model = dense_model(2)
    path = as_path(tmp_path / "m.keras")
    model.save(path)
    same(values(saving.load_model(path)), values(model))


def test_open_files(tmp_path):
    model, buffer = dense_model(2), io.BytesIO()
    saving.save_model(model, buffer)
    buffer.seek(0)
    same(values(saving.load_model(buffer)), values(model))


def test_directory(tmp_path):
    model = dense_model(2)
    for _ in range(2):
        randomize(model)
        saving.save_model(model, tmp_path / "saved", zipped=False)
        same(values(saving.load_model(tmp_path / "saved")), values(model))
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "config.json", "metadata.json", "model.weights.h5",
    ]  # fmt: skip


def test_what_is_in_the_file(tmp_path):
    model = dense_model(2)
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert {"keras_version", "gpunet_version", "date_saved"} <= json.loads(
            archive.read("metadata.json")
        ).keys()
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            assert sorted(file) == ["layers", "vars"]
            assert file["layers/dense/vars"].attrs["name"] == model.layers[0].name


# -- wrong calls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m", "m.h5", "m.hdf5", "m.pt", "m.keras.bak", "m.weights"])
def test_unknown_endings_name_the_known_ones(name, tmp_path):
    model = dense_model(2)
    (tmp_path / name).write_bytes(b"")
    for call in (saving.save_model, saving.save_weights, saving.load_weights):
        with pytest.raises(ArgumentError, match=r"(\.keras|\.weights\.h5).*Received"):
            call(model, tmp_path / name)
    with pytest.raises(ArgumentError, match=r"\.keras.*Received"):
        saving.load_model(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b""


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.keras"):
        saving.load_model(tmp_path / "nothing.keras")
    for ending in WEIGHTS:
        with pytest.raises(FileNotFoundError, match="nothing"):
            saving.load_weights(dense_model(2), tmp_path / f"nothing{ending}")
        with pytest.raises(FileNotFoundError):
            save(dense_model(2), tmp_path / "no" / f"m{ending}")


def test_not_overwriting(tmp_path):
    model = dense_model(2)
    for ending in WEIGHTS:
        path = tmp_path / f"m{ending}"
        path.write_bytes(b"old")
        with pytest.raises(ArgumentError, match="overwrite=True"):
            (model.save if ending == ".keras" else model.save_weights)(path, overwrite=False)
        assert path.read_bytes() == b"old"


def test_no_path():
    for path in (None, 3, ["m.keras"]):
        with pytest.raises(ArgumentError, match="filepath"):
            saving.load_model(path)


def test_models_that_are_not_built(tmp_path):
    model = gpunet.Sequential([gpunet.layers.Dense(2)])
    for call in (saving.save_weights, saving.load_weights):
        with pytest.raises(StateError, match="not built"):
            call(model, tmp_path / "m.weights.h5")
    with pytest.warns(UserWarning, match="before it is built"):
        saving.save_model(model, tmp_path / "m.keras")


# -- the user's own -------------------------------------------------------------------------------


class Scale(gpunet.layers.Layer):
    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale * self.start

    def get_config(self):
        return {**super().get_config(), "start": self.start}


def swish_like(x):
    return x * gpunet.ops.sigmoid(x)


def test_custom_objects(tmp_path):
    model = gpunet.Sequential(
        [gpunet.Input((3,)), Scale(2.0), gpunet.layers.Dense(2, activation=swish_like)]
    )
    randomize(model)
    model.save(tmp_path / "m.keras")
    with pytest.raises(SavingError, match=r"'Scale'.*custom_objects"):
        saving.load_model(tmp_path / "m.keras")
    objects = {"Scale": Scale, "swish_like": swish_like}
    back = saving.load_model(tmp_path / "m.keras", custom_objects=objects)
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(model(x).numpy(), back(x).numpy())
    with saving.custom_object_scope(objects):
        saving.load_model(tmp_path / "m.keras")


class Words(gpunet.layers.Layer):
    """State that is neither variables nor of a fixed size, and a file of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table, self.words = np.zeros(0, "int32"), []

    def call(self, x):
        return x

    def save_own_variables(self, store):
        store["table"] = self.table

    def load_own_variables(self, store):
        self.table = np.asarray(store["table"])

    def save_assets(self, directory):
        pathlib.Path(directory, "words.txt").write_text("\n".join(self.words), "utf-8")

    def load_assets(self, directory):
        self.words = pathlib.Path(directory, "words.txt").read_text("utf-8").split("\n")


@pytest.mark.parametrize("zipped", [True, False])
def test_state_of_any_size_and_assets(tmp_path, zipped):
    model = gpunet.Sequential([gpunet.Input((3,)), Words(), gpunet.layers.Dense(2), Words()])
    for i, layer in enumerate(model.layers[::2]):
        layer.table, layer.words = np.arange(4 + i, dtype="int32"), ["a", f"ü{i}"]
    path = tmp_path / ("m.keras" if zipped else "m")
    saving.save_model(model, path, zipped=zipped)
    back = saving.load_model(path, custom_objects={"Words": Words})
    for a, b in zip(model.layers[::2], back.layers[::2], strict=True):
        np.testing.assert_array_equal(a.table, b.table)
        assert a.words == b.words


def test_lambdas_are_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(b"old")
    model = gpunet.Sequential(
        [gpunet.Input((3,)), gpunet.layers.Dense(2, activation=lambda x: x * 2)]
    )
    with pytest.raises(SavingError, match="lambda"):
        model.save(path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_layers_shared_between_two_models_stay_shared(tmp_path):
    shared = gpunet.layers.Dense(3)
    a = gpunet.Sequential([gpunet.Input((3,)), shared])
    b = gpunet.Sequential([gpunet.Input((3,)), shared, gpunet.layers.Dense(3)])
    x = gpunet.Input((3,))
    model = gpunet.Model(x, gpunet.layers.Add()([a(x), b(x)]))
    randomize(model)
    model.save(tmp_path / "m.keras")
    back = saving.load_model(tmp_path / "m.keras")
    assert len(back.weights) == len(model.weights) == 4
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(model(x).numpy(), back(x).numpy())


def test_skipped_objects(tmp_path):
    model, other = dense_model(3, 2), dense_model(3, 2)
    before = other.layers[1].kernel.numpy()
    saving.save_weights(model, tmp_path / "a.weights.h5", objects_to_skip=[model.layers[1]])
    with h5py.File(tmp_path / "a.weights.h5") as file:
        assert sorted(file["layers"]) == ["dense"]
    saving.load_weights(other, tmp_path / "a.weights.h5", objects_to_skip=[other.layers[1]])
    np.testing.assert_array_equal(other.layers[1].kernel.numpy(), before)
    np.testing.assert_array_equal(other.layers[0].kernel.numpy(), model.layers[0].kernel.numpy())


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = "import sys, gpunet; print({'h5py', 'safetensors'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
