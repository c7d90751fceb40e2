"""`layers.Kernel`: in every kind of model, saved by name, loaded only with the caller's kernel."""

import json

import numpy as np
import pytest

import gpunet
from gpunet import cuda, layers, ops, saving
from gpunet.errors import ArgumentError, SavingError


def make(name="scaled_square"):
    return cuda.elementwise(
        "T x, float scale, bool name",
        "T y",
        "y = (name ? scale : -scale) * x * x",
        lambda x, *, scale=1.0, name=True: (scale if name else -scale) * x * x,
        name=name,
    )


@pytest.fixture
def model():
    """A small functional model with a kernel in the middle."""
    gpunet.utils.set_random_seed(0)
    inputs = layers.Input((4,))
    y = layers.Kernel(make(), scale=2.0, name="squares")(layers.Dense(3)(inputs))
    return gpunet.Model(inputs, layers.Dense(1)(y))


def test_attributes_go_to_the_kernel_and_the_rest_to_the_layer():
    layer = layers.Kernel(make(), scale=3.0, name="three", arguments={"name": False})
    assert (layer.name, layer.arguments) == ("three", {"scale": 3.0, "name": False})
    assert layer(gpunet.tensor([1.0, 2.0])).tolist() == [-3.0, -12.0]
    assert layer.built and layer.weights == []
    for wrong, message in [
        (lambda: layers.Kernel(lambda x: x), "must be made with `gpunet.cuda.kernel`"),
        (lambda: layers.Kernel(make(), sclae=1.0), "no such keyword arguments: .'sclae'"),
        (lambda: layers.Kernel(make(), arguments={"beta": 1}), r"has the attributes .*\['beta'\]"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            wrong()


def test_several_inputs_and_mixed_precision():
    product = cuda.elementwise("T x, T w", "T y", "y = x * w", lambda x, w: x * w)
    x, w = (gpunet.tensor(np.arange(3, dtype="float32") + i) for i in (0, 1))
    assert layers.Kernel(product)([x, w]).tolist() == [0, 2, 6]
    half = layers.Kernel(product, dtype="mixed_float16")([x, w])
    assert half.dtype == np.float16 and half.tolist() == [0, 2, 6]
    symbolic = layers.Kernel(product)([layers.Input((3,)), layers.Input((3,))])
    assert symbolic.shape == (None, 3)


def test_it_trains_the_same_on_all_devices(model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    start, results = model.get_weights(), {}
    for device in ("cpu", "emulator"):
        with gpunet.device(device):
            copy = gpunet.models.clone_model(model)
            copy.set_weights(start)
            copy.compile("sgd", "mse")
            history = copy.fit(x, x[:, :1], batch_size=16, epochs=2, shuffle=False, verbose=0)
            results[device] = history.history["loss"]
    np.testing.assert_allclose(results["emulator"], results["cpu"], rtol=1e-4)
    assert results["cpu"][1] < results["cpu"][0]


def test_a_file_holds_the_name_only_and_the_caller_passes_the_kernel(model, tmp_path):
    path = tmp_path / "model.keras"
    model.save(path)
    text = json.dumps(json.loads(model.to_json()))
    assert "scaled_square" in text and "__global__" not in text and "x * x" not in text
    with pytest.raises(SavingError, match=r"CUDA kernel 'scaled_square'.*custom_objects=\{'scaled"):
        saving.load_model(path)
    for wrong in (lambda x: x, "text", layers.Dense):
        with pytest.raises(SavingError, match="CUDA kernel 'scaled_square'"):
            saving.load_model(path, custom_objects={"scaled_square": wrong})
    loaded = saving.load_model(path, custom_objects={"scaled_square": make()})
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())
    assert loaded.get_layer("squares").arguments == {"scale": 2.0}


def test_a_registered_kernel_is_found(tmp_path):
    kernel = saving.register_keras_serializable("tests")(make("registered_square"))
    try:
        config = saving.serialize_keras_object(layers.Kernel(kernel))
        assert config["config"]["kernel"]["config"] == {"name": "tests>registered_square"}
        assert saving.deserialize_keras_object(config).kernel is kernel
    finally:
        del saving.get_custom_objects()["tests>registered_square"]
    config["config"]["kernel"]["config"] = None
    with pytest.raises(SavingError, match="CUDA kernel None"):
        saving.deserialize_keras_object(config)


def test_a_copy_in_memory_needs_no_name(model):
    copy = layers.Kernel.from_config(model.get_layer("squares").get_config())
    assert copy.kernel is model.get_layer("squares").kernel
    assert copy(ops.ones((2,))).tolist() == [2.0, 2.0]
