"""A file that does not fit, or is damaged, changes nothing in the model, and the error says why."""

import warnings
import zipfile

import h5py
import numpy as np
import pytest

import gpunet
from gpunet import saving
from gpunet.errors import SavingError
from tests.saving.models import data, randomize, values

ENDINGS = (".weights.h5", ".safetensors", ".keras")


def dense_model(*units, inputs=3, **options):
    layers = [gpunet.layers.Dense(n, **options) for n in units]
    model = gpunet.Sequential([gpunet.Input((inputs,)), *layers])
    randomize(model)
    return model


def save(model, path):
    (saving.save_model if path.suffix == ".keras" else saving.save_weights)(model, path)
    return path


def unchanged(before, model):
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "stored, message",
    [
        (
            (4, 3),
            r"layers/dense_1 .*'dense.*'.*kernel needs shape \(4, 2\).*Received: shape=\(4, 3",
        ),
        ((5, 2), r"layers/dense .*kernel needs shape \(3, 4\).*Received: shape=\(3, 5\)"),
        ((4,), r"layers/dense_1 .*2 variables \(kernel, bias\).*Received: variables=0"),
        ((4, 2, 2), r"layers/dense_2.*model does not have"),
    ],
)
def test_other_shapes_missing_and_extra(ending, stored, message, tmp_path):
    path = save(dense_model(*stored), tmp_path / f"m{ending}")
    model = dense_model(4, 2)
    before = values(model)
    with pytest.raises(SavingError, match=message):
        saving.load_weights(model, path)
    unchanged(before, model)


@pytest.mark.parametrize("ending", ENDINGS)
def test_fewer_variables_in_a_layer(ending, tmp_path):
    path = save(dense_model(4, 2, use_bias=False), tmp_path / f"m{ending}")
    model = dense_model(4, 2)
    before = values(model)
    with pytest.raises(SavingError, match=r"dense.*2 variables \(kernel, bias\).*variables=1"):
        saving.load_weights(model, path)
    unchanged(before, model)


@pytest.mark.parametrize("ending", ENDINGS)
def test_skip_mismatch_warns_for_each_layer(ending, tmp_path):
    source = dense_model(4, 3, 3)
    path = save(source, tmp_path / f"m{ending}")
    model = dense_model(4, 2)
    before = values(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        saving.load_weights(model, path, skip_mismatch=True)
    messages = sorted(str(w.message) for w in caught)
    assert len(messages) == 2
    assert "layers/dense_1" in messages[0] and "shape" in messages[0]
    assert "layers/dense_2" in messages[1]
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), source.layers[0].kernel.numpy())
    np.testing.assert_array_equal(model.layers[1].kernel.numpy(), before[2])


@pytest.mark.parametrize("ending", ENDINGS)
def test_truncated_files(ending, tmp_path):
    path = save(dense_model(40, 20), tmp_path / f"m{ending}")
    content = path.read_bytes()
    model = dense_model(40, 20)
    before = values(model)
    cut = tmp_path / f"cut{ending}"
    for length in sorted({0, 1, 7, 8, 100, len(content) // 2, len(content) - 1}):
        cut.write_bytes(content[:length])
        with pytest.raises(SavingError, match=r"(?i)damaged|missing"):
            saving.load_weights(model, cut)
        unchanged(before, model)


@pytest.mark.parametrize("ending", [".keras", ".safetensors"])
def test_flipped_bytes(ending, tmp_path):
    """The archive has checksums; a .safetensors header must add up. Values alone may differ."""
    path = save(dense_model(40, 20), tmp_path / f"m{ending}")
    content = bytearray(path.read_bytes())
    model = dense_model(40, 20)
    bad = tmp_path / f"bad{ending}"
    rng = np.random.default_rng(0)
    end = len(content) if ending == ".keras" else 300
    refused = 0
    for place in rng.integers(0, end, 60):
        changed = bytearray(content)
        changed[place] ^= 0x55
        bad.write_bytes(changed)
        before = values(model)
        try:
            saving.load_weights(model, bad)
        except SavingError:
            refused += 1
            unchanged(before, model)
    assert refused >= 30


def test_flipped_bytes_in_hdf5(tmp_path):
    path = save(dense_model(40, 20), tmp_path / "m.weights.h5")
    content = bytearray(path.read_bytes())
    model = dense_model(40, 20)
    bad = tmp_path / "bad.weights.h5"
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 4000, 60):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        bad.write_bytes(changed)
        before = values(model)
        try:
            saving.load_weights(model, bad)
        except SavingError:
            unchanged(before, model)


def test_a_chunk_that_cannot_be_unpacked(tmp_path):
    """The shapes are right, the last layer's bytes are not: the first layer keeps its values."""
    path = save(dense_model(40, 20), tmp_path / "m.weights.h5")
    with h5py.File(path, "a") as file:
        group = file["layers/dense_1/vars"]
        kernel = group["0"][()]
        del group["0"]
        dataset = group.create_dataset("0", data=kernel, compression="gzip", fletcher32=True)
        place = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 10] ^= 0xFF
    path.write_bytes(content)
    model = dense_model(40, 20)
    before = values(model)
    with pytest.raises(SavingError, match=r"layers/dense_1.*damaged"):
        saving.load_weights(model, path)
    unchanged(before, model)


class Strict(gpunet.layers.Dense):
    """Refuses, after it changed itself."""

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.loaded = True
        raise RuntimeError("not today")


def test_a_layer_that_refuses(tmp_path):
    model = gpunet.Sequential(
        [gpunet.Input((3,)), gpunet.layers.Dense(2), Strict(2), gpunet.layers.Dense(2)]
    )
    save(model, tmp_path / "m.weights.h5")
    randomize(model)
    before = values(model)
    with pytest.raises(SavingError, match=r"layers/strict .*not today"):
        model.load_weights(tmp_path / "m.weights.h5")
    unchanged(before, model)
    assert not hasattr(model.layers[1], "loaded")


def test_an_optimizer_that_does_not_fit(tmp_path):
    model, other = dense_model(4), dense_model(4)
    for m in (model, other):
        m.compile(optimizer="adam", loss="mse")
        x, y = data(m)
        m.fit(x, y, verbose=0)
    save(model, tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        group = file["optimizer/vars"]
        del group["2"]
        group["2"] = np.zeros((9, 9), "float32")
    before = values(other)
    with pytest.raises(SavingError, match=r"optimizer .*\(9, 9\)"):
        other.load_weights(tmp_path / "m.weights.h5")
    unchanged(before, other)


def test_wrong_kind_of_dtype(tmp_path):
    model = dense_model(2)
    save(model, tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        group = file["layers/dense/vars"]
        del group["0"]
        group["0"] = np.zeros((3, 2), "int32")
    with pytest.raises(SavingError, match=r"dtype float32.*int32"):
        model.load_weights(tmp_path / "m.weights.h5")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_entry(tmp_path, name):
    path = save(dense_model(2), tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        rest = {n: archive.read(n) for n in archive.namelist() if n != name}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in rest.items():
            archive.writestr(entry, content)
    with pytest.raises(SavingError, match=f"{name} is missing"):
        saving.load_model(path)


def test_weights_of_another_model_in_a_model_file(tmp_path):
    path, other = save(dense_model(2), tmp_path / "m.keras"), tmp_path / "other.weights.h5"
    save(dense_model(3), other)
    with zipfile.ZipFile(path) as archive:
        contents = {n: archive.read(n) for n in archive.namelist()}
    contents["model.weights.h5"] = other.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in contents.items():
            archive.writestr(entry, content)
    with pytest.raises(SavingError, match=r"kernel needs shape \(3, 2\).*\(3, 3\)"):
        saving.load_model(path)


def test_one_optimizer_step_after_a_failed_load_is_as_without_it(tmp_path):
    bad = tmp_path / "bad.weights.h5"
    save(dense_model(9), bad)
    models = [dense_model(4), dense_model(4)]
    for model in models:
        model.compile(optimizer="adam", loss="mse")
    x, y = data(models[0])
    with pytest.raises(SavingError):
        models[1].load_weights(bad)
    for model in models:
        model.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(values(models[0]), values(models[1]), strict=True):
        np.testing.assert_array_equal(a, b)
