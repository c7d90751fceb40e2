"""Configs: what they hold, and what they may name."""

import json

import numpy as np
import pytest

import gpunet
from gpunet import saving
from gpunet.errors import ArgumentError, SavingError
from gpunet.saving.registry import get_custom_objects
from gpunet.saving.serialization import (
    sharing_while_loading,
    sharing_while_saving,
    without_single_ids,
)


class Point:
    """An object of a user's."""

    def __init__(self, x, y=0, inner=None):
        self.x, self.y, self.inner = x, y, inner

    def get_config(self):
        return {"x": self.x, "y": self.y, "inner": self.inner}

    @classmethod
    def from_config(cls, config):
        config["inner"] = saving.deserialize_keras_object(config["inner"])
        return cls(**config)


def double(x):
    return 2 * x


@pytest.fixture
def registered():
    before = dict(get_custom_objects())
    saving.register_keras_serializable("tests")(Point)
    saving.register_keras_serializable("tests", name="twice")(double)
    yield
    get_custom_objects().clear()
    get_custom_objects().update(before)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, "text", [1, [2, "a"]], (1, (2, 3)), {"a": {"b": [1]}},
        b"bytes", slice(1, None, 2), ...,
    ],
)  # fmt: skip
def test_plain_values_come_back(value):
    assert saving.deserialize_keras_object(saving.serialize_keras_object(value)) == value


@pytest.mark.parametrize(
    "value", [np.arange(6.0).reshape(2, 3), np.array([1, 2], "int8"), np.array([True, False])]
)
def test_arrays_come_back(value):
    config = json.loads(json.dumps(saving.serialize_keras_object(value)))
    back = saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(back, value)
    assert back.dtype == value.dtype and config["class_name"] == "__numpy__"


def test_tensors_come_back():
    x = gpunet.ops.convert_to_tensor(np.arange(3, dtype="float16"))
    config = json.loads(json.dumps(saving.serialize_keras_object(x)))
    back = saving.deserialize_keras_object(config)
    assert isinstance(back, gpunet.Tensor) and back.dtype == "float16"
    np.testing.assert_array_equal(back.numpy(), x.numpy())


def test_numbers_of_numpy_become_plain():
    config = saving.serialize_keras_object(
        {"a": np.float64(0.5), "b": np.int32(3), "c": np.array(1)}
    )
    assert config == {"a": 0.5, "b": 3, "c": 1}
    assert [type(x) for x in config.values()] == [float, int, int]


def test_builtins_are_named_as_keras_names_them():
    config = saving.serialize_keras_object(gpunet.regularizers.L2(0.5))
    assert config == {
        "module": "keras.regularizers",
        "class_name": "L2",
        "config": {"l2": 0.5},
        "registered_name": None,
    }


def test_an_object_within_an_object(registered):
    config = saving.serialize_keras_object(Point(1, inner=Point(2, inner=gpunet.regularizers.L1())))
    assert config["registered_name"] == "tests>Point"
    back = saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert (back.x, back.inner.x, type(back.inner.inner)) == (1, 2, gpunet.regularizers.L1)


def test_the_config_is_not_changed(registered):
    config = saving.serialize_keras_object(Point(1, inner=Point(2)))
    text = json.dumps(config)
    saving.deserialize_keras_object(config)
    assert json.dumps(config) == text


def test_functions(registered):
    config = saving.serialize_keras_object(double)
    assert config == {
        "module": "builtins",
        "class_name": "function",
        "config": "tests>twice",
        "registered_name": "function",
    }
    assert saving.deserialize_keras_object(config) is double
    relu = saving.serialize_keras_object(gpunet.activations.relu)
    assert relu["config"] == "relu"
    assert saving.deserialize_keras_object(relu) is gpunet.activations.relu


def test_the_user_passes_objects():
    config = saving.serialize_keras_object(Point(3))
    with pytest.raises(SavingError, match=r"Point.*does not know.*custom_objects.*Received"):
        saving.deserialize_keras_object(config)
    assert saving.deserialize_keras_object(config, {"Point": Point}).x == 3
    with saving.custom_object_scope({"Point": Point}):
        assert saving.deserialize_keras_object(config).x == 3
        with saving.CustomObjectScope({"other": double}):
            assert saving.deserialize_keras_object(config).x == 3
            assert saving.get_registered_object("other") is double
        assert saving.get_registered_object("other") is None
    assert saving.get_registered_object("Point") is None


def test_names_of_registered_objects(registered):
    assert saving.get_registered_name(Point) == "tests>Point"
    assert saving.get_registered_name(double) == "tests>twice"
    assert saving.get_registered_name(int) == "int"
    assert saving.get_registered_object("tests>Point") is Point
    assert saving.get_registered_object("nothing") is None
    assert saving.get_registered_object("n", module_objects={"n": 1}) == 1
    assert saving.get_registered_object("n", {"n": 2}, {"n": 1}) == 2
    assert saving.get_custom_objects()["tests>twice"] is double


def test_a_class_without_get_config_is_not_registered():
    with pytest.raises(ArgumentError, match="get_config"):
        saving.register_keras_serializable()(type("Plain", (), {}))
    with pytest.raises(ArgumentError, match="dict"):
        saving.CustomObjectScope([Point])


def test_shared_objects_stay_one(registered):
    one = Point(5)
    with sharing_while_saving():
        config = saving.serialize_keras_object([one, Point(6), {"again": Point(7, inner=one)}])
    config = json.loads(json.dumps(without_single_ids(config)))
    assert "shared_object_id" in config[0] and "shared_object_id" not in config[1]
    with sharing_while_loading():
        first, _, other = saving.deserialize_keras_object(config)
    assert other["again"].inner is first
    first, _, other = saving.deserialize_keras_object(config)
    assert other["again"].inner is not first


def test_what_cannot_be_saved(registered):
    for thing in (lambda x: x, object(), {"deep": [lambda x: x]}):
        with pytest.raises(SavingError):
            saving.serialize_keras_object(thing)


def test_an_unfit_config_names_the_class(registered):
    config = saving.serialize_keras_object(Point(1))
    config["config"]["unknown"] = 3
    with pytest.raises(SavingError, match=r"Point.*unexpected keyword.*unknown"):
        saving.deserialize_keras_object(config)


@pytest.mark.parametrize(
    "module, name",
    [
        ("keras.src.regularizers.regularizers", "L2"),
        ("keras.regularizers", "L2"),
        (None, "L2"),
        ("keras", "L2"),
    ],
)
def test_private_and_missing_modules_of_keras(module, name):
    config = {"module": module, "class_name": name, "config": {"l2": 0.25}}
    assert saving.deserialize_keras_object(config).l2 == 0.25


def test_the_same_name_in_two_namespaces():
    for home in ("losses", "metrics"):
        config = {"module": f"keras.{home}", "class_name": "MeanSquaredError", "config": {}}
        found = type(saving.deserialize_keras_object(config))
        assert found is getattr(gpunet, home).MeanSquaredError
    with pytest.raises(SavingError):
        saving.deserialize_keras_object({**config, "module": "keras.layers"})
