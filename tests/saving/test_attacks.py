"""Files made to do harm: nothing is imported, run, fetched, followed or blown up."""

import builtins
import io
import json
import socket
import sys
import zipfile

import h5py
import numpy as np
import pytest

import gpunet
from gpunet import saving
from gpunet.errors import GpunetError, SavingError
from tests.saving.models import values

MARK = []


@pytest.fixture
def model():
    return gpunet.Sequential([gpunet.Input((3,)), gpunet.layers.Dense(2), gpunet.layers.Dense(2)])


@pytest.fixture
def saved(model, tmp_path):
    saving.save_model(model, tmp_path / "good.keras")
    return tmp_path / "good.keras"


@pytest.fixture(autouse=True)
def nothing_happens(monkeypatch):
    """Loading opens no connection, runs no command and evaluates no text."""

    def forbidden(*args, **kwargs):
        raise AssertionError(f"called with {args}")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr("os.system", forbidden)
    monkeypatch.setattr("subprocess.Popen", forbidden)
    monkeypatch.setattr(builtins, "eval", forbidden)
    MARK.clear()
    yield
    assert not MARK


def parts(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, contents, **options):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content, **options)
    return path


def with_config(saved, change):
    contents = parts(saved)
    config = json.loads(contents["config.json"])
    config = change(config) or config
    contents["config.json"] = json.dumps(config)
    return write(saved.with_name("bad.keras"), contents)


def layer(config, index=1):
    return config["config"]["layers"][index]


EVIL = {
    "os.system": {"module": "os", "class_name": "system", "config": {"command": "echo"}},
    "posix": {"module": "posix", "class_name": "function", "config": "system"},
    "eval": {"module": "builtins", "class_name": "function", "config": "eval"},
    "exec class": {"module": "builtins", "class_name": "exec", "config": {}},
    "subprocess": {"module": "subprocess", "class_name": "Popen", "config": {"args": ["ls"]}},
    "keras lambda": {
        "class_name": "__lambda__",
        "config": {"value": ["4wEAAAAAAAAAAAAAAAEAAAABAAAA", None, None]},
    },
    "lambda layer": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"function": {"class_name": "__lambda__", "config": {"value": "4wEA"}}},
    },
    "private keras": {"module": "keras.src.utils.file_utils", "class_name": "File", "config": {}},
    "get_file": {
        "module": "keras.utils",
        "class_name": "function",
        "config": "get_file",
        "registered_name": "get_file",
    },
    "load_model": {"module": "keras.models", "class_name": "load_model", "config": {}},
    "own module": {"module": __name__, "class_name": "Harm", "config": {}},
    "own function": {"module": __name__, "class_name": "function", "config": "harm"},
    "gpunet private": {"module": "gpunet.saving.files", "class_name": "_Budget", "config": {}},
    "dunder": {"module": "keras.layers", "class_name": "__class__", "config": {}},
    "typespec": {"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []},
    "no string": {"module": "keras.layers", "class_name": ["Dense"], "config": {}},
    "module no string": {"module": {"a": 1}, "class_name": "Dense", "config": {}},
    "path as name": {"module": "keras.layers", "class_name": "../../etc/passwd", "config": {}},
    "dotted name": {"module": "keras", "class_name": "layers.Dense", "config": {"units": 2}},
    "dtype bomb": {
        "class_name": "__numpy__",
        "config": {"value": [1], "dtype": "V1000000000000"},
    },
    "object dtype": {"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}},
}


class Harm:
    def __init__(self):
        MARK.append(1)

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


def harm(*args):
    MARK.append(1)


@pytest.mark.parametrize("safe_mode", [True, False])
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_configs_that_name_what_they_may_not(evil, safe_mode):
    before = set(sys.modules)
    with pytest.raises(SavingError):
        saving.deserialize_keras_object(evil, safe_mode=safe_mode)
    assert set(sys.modules) <= before | {"difflib"}


@pytest.mark.parametrize("safe_mode", [True, False])
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_the_same_in_a_file(saved, evil, safe_mode):
    def as_layer(config):
        config["config"]["layers"][1] = evil

    def as_initializer(config):
        layer(config)["config"]["kernel_initializer"] = evil

    def as_model(config):
        return evil

    for change in (as_layer, as_initializer, as_model):
        with pytest.raises(GpunetError):
            saving.load_model(with_config(saved, change), safe_mode=safe_mode)


def test_a_string_names_nothing_but_activations(saved):
    for name in ("system", "os.system", "__import__('os').system", "harm", "eval"):

        def change(config, name=name):
            layer(config)["config"]["activation"] = name

        with pytest.raises(GpunetError):
            saving.load_model(with_config(saved, change))


def test_a_module_that_is_not_imported_stays_so(saved):
    def change(config):
        layer(config)["module"] = "this"
        layer(config)["class_name"] = "Zen"

    with pytest.raises(SavingError, match="Zen"):
        saving.load_model(with_config(saved, change))
    assert "this" not in sys.modules


def test_registered_name_cannot_pose_as_a_builtin(saved):
    def change(config):
        layer(config)["registered_name"] = "evil>Dense"

    with pytest.raises(SavingError, match="evil>Dense"):
        saving.load_model(with_config(saved, change))


def test_a_config_that_asks_for_too_much_memory(saved):
    def change(config):
        layer(config)["config"]["units"] = 10**12
        layer(config)["build_config"] = {"input_shape": [None, 3]}

    with pytest.raises(SavingError, match="more memory than the file has weights"):
        saving.load_model(with_config(saved, change))


def test_a_config_that_is_endlessly_deep(saved):
    contents = parts(saved)
    for text in ("[" * 100_000, '{"a":' * 100_000, "not json", "3", "null", "[]", "{}"):
        contents["config.json"] = text
        with pytest.raises(GpunetError):
            saving.load_model(write(saved.with_name("deep.keras"), contents))


@pytest.mark.parametrize(
    "name, settings, args",
    [
        ("Zeros", {"shape": [10**12]}, []),
        ("Ones", {"shape": [10**12]}, []),
        ("Arange", {}, [10**12]),
        ("Eye", {"N": 10**7}, []),
        ("Full", {"shape": [10**12], "fill_value": 1}, []),
    ],
)
def test_an_op_without_tensors(tmp_path, name, settings, args):
    x = gpunet.Input((3,), name="x")
    path = tmp_path / "m.keras"
    saving.save_model(gpunet.Model(x, gpunet.ops.relu(x)), path)

    def change(config):
        op = config["config"]["layers"][1]
        op |= {"module": "keras.src.ops.numpy", "class_name": name, "registered_name": name}
        op["config"] = {"name": op["name"], **settings}
        op["inbound_nodes"] = [{"args": args, "kwargs": {}}]

    with pytest.raises(SavingError, match=r"(must be called on tensors|no op of this name)"):
        saving.load_model(with_config(path, change))


# -- the zip archive ------------------------------------------------------------------------------


def test_zip_bomb(saved):
    contents = parts(saved)
    for name in ("config.json", "model.weights.h5", "assets/bomb"):
        bomb = {**contents, name: b" " * (1 << 24)}
        path = write(saved.with_name("bomb.keras"), bomb, compress_type=zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 1 << 17
        with pytest.raises(SavingError, match="far more bytes"):
            saving.load_model(path)


def test_a_header_that_lies_about_the_size(saved):
    contents = parts(saved)
    path = write(saved.with_name("lie.keras"), contents, compress_type=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("model.weights.h5").file_size
    data = data.replace(size.to_bytes(4, "little"), (size + 50_000).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(SavingError):
        saving.load_model(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(saved):
    path = saved.with_name("two.keras")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [*parts(saved).items(), ("config.json", b"{}")]:
            archive.writestr(name, content)
    with pytest.raises(SavingError, match="two entries"):
        saving.load_model(path)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "assets/../../evil", "assets/a\\..\\evil", "C:/evil", "a/b/c"]
)
def test_names_that_lead_out_are_not_written(saved, tmp_path, name):
    contents = {**parts(saved), name: b"evil"}
    path = tmp_path / "deep" / "er" / "bad.keras"
    path.parent.mkdir(parents=True)
    write(path, contents)
    saving.load_model(path)  # these entries are not read at all
    assert not [p for p in tmp_path.parent.rglob("*evil*")]


@pytest.mark.parametrize("name", ["assets/../evil", "assets/dense//x", "assets/.", "assets/a\\b"])
def test_assets_that_lead_out(tmp_path, name):
    @saving.register_keras_serializable("attacks")
    class WithAssets(gpunet.layers.Dense):
        def save_assets(self, directory):
            pass

        def load_assets(self, directory):
            MARK.append(directory)

    path = tmp_path / "a.keras"
    saving.save_model(gpunet.Sequential([gpunet.Input((3,)), WithAssets(2)]), path)
    write(path, {**parts(path), name: b"evil"})
    with pytest.raises(SavingError, match="Not allowed"):
        saving.load_model(path)


# -- HDF5 -----------------------------------------------------------------------------------------


@pytest.fixture
def weights(model, tmp_path):
    saving.save_weights(model, tmp_path / "good.weights.h5")
    return tmp_path / "good.weights.h5"


def dense(file):
    return file["layers/dense/vars"]


def external_link(file, secret):
    del dense(file)["0"]
    dense(file)["0"] = h5py.ExternalLink(str(secret), "/secret")


def external_group(file, secret):
    del file["layers/dense"]
    file["layers/dense"] = h5py.ExternalLink(str(secret), "/")


def soft_link(file, secret):
    del dense(file)["0"]
    dense(file)["0"] = h5py.SoftLink("/layers/dense_1/vars/0")


def virtual(file, secret):
    del dense(file)["0"]
    layout = h5py.VirtualLayout((3, 2), "float32")
    layout[:] = h5py.VirtualSource(str(secret), "secret", (3, 2))
    dense(file).create_virtual_dataset("0", layout)


def external_storage(file, secret):
    del dense(file)["0"]
    dense(file).create_dataset("0", (3, 2), "float32", external=[(str(secret), 0, 24)])


def object_dtype(file, secret):
    del dense(file)["0"]
    dense(file).create_dataset("0", (3, 2), h5py.string_dtype())


def reference_dtype(file, secret):
    del dense(file)["0"]
    dense(file).create_dataset("0", (3, 2), h5py.ref_dtype)


def compound_dtype(file, secret):
    del dense(file)["0"]
    dense(file).create_dataset("0", (3, 2), [("a", "f4"), ("b", "f4")])


def shape_bomb(file, secret):
    del dense(file)["0"]
    dense(file).create_dataset("0", (10**7, 10**6), "float32", chunks=(1000, 1000))


def cycle(file, secret):
    dense(file)["again"] = file["layers"]


def named_type(file, secret):
    dense(file)["type"] = np.dtype("float32")


def no_weights(file, secret):
    file["data"] = np.zeros(3)


HDF5_ATTACKS = [
    external_link, external_group, soft_link, virtual, external_storage, object_dtype,
    reference_dtype, compound_dtype, shape_bomb, cycle, named_type, no_weights,
]  # fmt: skip


@pytest.mark.parametrize("attack", HDF5_ATTACKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("skip_mismatch", [False, True])
def test_hdf5(model, weights, tmp_path, attack, skip_mismatch):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.full((3, 2), 42, "float32")
    with h5py.File(weights, "a") as file:
        attack(file, secret)
    before = values(model)
    with pytest.raises(SavingError):
        saving.load_weights(model, weights, skip_mismatch=skip_mismatch)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("attack", HDF5_ATTACKS, ids=lambda f: f.__name__)
def test_hdf5_in_a_model_file(saved, tmp_path, attack):
    contents = parts(saved)
    file = io.BytesIO(contents["model.weights.h5"])
    with h5py.File(file, "a") as opened:
        attack(opened, tmp_path / "secret.h5")
    contents["model.weights.h5"] = file.getvalue()
    with pytest.raises(SavingError):
        saving.load_model(write(tmp_path / "bad.keras", contents))


def test_hdf5_with_a_huge_shape_that_the_model_does_not_have(model, weights):
    with h5py.File(weights, "a") as file:
        del dense(file)["0"]
        dense(file)["0"] = np.zeros((300, 200), "float32")
    with pytest.raises(SavingError, match=r"kernel needs shape \(3, 2\).*Received.*300, 200"):
        saving.load_weights(model, weights)


def test_a_pickle_is_no_model(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return harm, ()

    for name in ("a.keras", "a.weights.h5", "a.safetensors"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Evil()))
        model = gpunet.Sequential([gpunet.Input((3,)), gpunet.layers.Dense(2)])
        with pytest.raises(SavingError):
            saving.load_weights(model, path)
