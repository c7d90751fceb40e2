"""Dtype policies against Keras."""

import json
import pickle

import keras
import numpy as np
import pytest

import gpunet
from gpunet import dtype_policies
from gpunet.dtype_policies import DTypePolicy, DTypePolicyMap, FloatDTypePolicy

NAMES = ["float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "int8"]


@pytest.fixture(autouse=True)
def restore():
    yield
    dtype_policies.set_dtype_policy("float32")


@pytest.mark.parametrize("name", NAMES)
def test_policies_are_those_of_keras(name):
    mine, theirs = DTypePolicy(name), keras.dtype_policies.DTypePolicy(name)
    for attribute in ("name", "compute_dtype", "variable_dtype", "quantization_mode"):
        assert getattr(mine, attribute) == getattr(theirs, attribute)
    config = dtype_policies.serialize(mine)
    assert config == keras.dtype_policies.serialize(theirs)
    assert dtype_policies.deserialize(json.loads(json.dumps(config))) == mine
    assert repr(mine) == repr(theirs)
    assert pickle.loads(pickle.dumps(mine)) == mine
    assert mine == FloatDTypePolicy(name)
    assert mine != name


@pytest.mark.parametrize(
    "identifier", ["float16", np.float16, np.dtype("float16"), DTypePolicy("float16")]
)
def test_get(identifier):
    assert dtype_policies.get(identifier) == DTypePolicy("float16")


def test_the_global_policy():
    assert dtype_policies.get(None).name == "float32"
    dtype_policies.set_dtype_policy("mixed_float16")
    assert DTypePolicy().name == "mixed_float16"
    assert dtype_policies.get(None).compute_dtype == "float16"
    for wrong in (None, 3):
        with pytest.raises(gpunet.errors.ArgumentError, match="Invalid `policy` argument"):
            dtype_policies.set_dtype_policy(wrong)
    assert dtype_policies.dtype_policy().name == "mixed_float16"


def test_convert_input():
    policy = DTypePolicy("mixed_float16")
    for x in (gpunet.ops.ones(2), np.ones(2), gpunet.KerasTensor((2,))):
        y = policy.convert_input(x, True, "float16")
        assert y.dtype == "float16"
        assert policy.convert_input(x, False, "float16").dtype == x.dtype
    assert policy.convert_input(np.arange(2), True, "float16").dtype.kind == "i"
    assert policy.convert_input("text", True, "float16") == "text"
    assert isinstance(policy.convert_input(gpunet.Variable(1.0), True, "float16"), gpunet.Tensor)


def test_maps():
    policies = DTypePolicyMap("float32", {"block_.*": DTypePolicy("mixed_float16")})
    policies["head"] = "bfloat16"
    assert (policies["block_1"].name, policies["head"].name) == ("mixed_float16", "bfloat16")
    assert (policies["other"].name, policies.name) == ("float32", "map_float32")
    assert (policies.compute_dtype, policies.variable_dtype) == ("float32", "float32")
    assert "head" in policies and len(policies) == 2 and list(policies) == ["block_.*", "head"]
    again = dtype_policies.deserialize(json.loads(json.dumps(dtype_policies.serialize(policies))))
    assert again == policies
    policies["block_1.*"] = "float64"
    with pytest.raises(gpunet.errors.ArgumentError, match="multiple"):
        policies["block_1"]
    with pytest.raises(gpunet.errors.ArgumentError, match="already exist"):
        policies["head"] = "float16"
    del policies["head"]
    assert "head" not in policies
    assert "map" in repr(policies).lower()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: DTypePolicy("mixed_float15"), ValueError),
        (lambda: DTypePolicy(""), ValueError),
        (lambda: DTypePolicy(3), TypeError),
        (lambda: dtype_policies.get(object()), ValueError),
        (lambda: DTypePolicyMap(DTypePolicyMap("float32")), ValueError),
        (lambda: DTypePolicyMap(policy_map=[1]), TypeError),
    ],
)
def test_bad_arguments(make, error):
    with pytest.raises(error, match="Received"):
        make()
