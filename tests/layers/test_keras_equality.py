"""Every layer against Keras 3 on the same weights."""

import json

import numpy as np
import pytest

import gpunet
from gpunet import layers, optimizers, saving
from tests.layers.table import CASES

KERAS_CASES = [case for case in CASES if case.keras]
# What Keras writes and gpunet leaves out, because older versions of Keras cannot read it.
OMITTED = {
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "seed": None,  # Keras forgets that of SimpleRNN
}


@pytest.fixture(scope="session")
def keras():
    import keras

    keras.config.disable_traceback_filtering()
    return keras


def leaves(nest):
    if isinstance(nest, (list, tuple)):
        return [x for item in nest for x in leaves(item)]
    return [nest]


def arguments(case, arrays):
    return [list(arrays)] if case.many else list(arrays)


def randomize(keras_layer, rng):
    values = []
    for weight in keras_layer.weights:
        value = np.asarray(weight.value)
        if value.dtype.kind == "f":
            if "variance" in weight.path:
                value = rng.uniform(0.5, 2.0, value.shape)
            else:
                value = value + rng.normal(scale=0.3, size=value.shape)
        values.append(value.astype(np.asarray(weight.value).dtype))
    return values


def set_keras_weights(keras_layer, values):
    keras_layer.set_weights(values)
    if hasattr(keras_layer, "finalize_state"):  # Normalization
        keras_layer.finalize_state()


def masked(xs, case, set_mask, as_mask):
    """Puts the masks of a row on tensors."""
    if case.mask is not None:
        for x in xs:
            set_mask(x, as_mask(case.masks(x.shape[1])))
    return xs


def keras_masked(xs, case, keras):
    """The same for Keras, which keeps the masks of JAX's tracers apart."""
    from keras.src.backend import set_keras_mask

    return masked(xs, case, set_keras_mask, keras.ops.convert_to_tensor)


def inputs_of(case, keras=None):
    arrays = case.arrays()
    if keras is None:
        xs = [gpunet.tensor(a) for a in arrays]
        return masked(xs, case, lambda x, m: setattr(x, "_keras_mask", m), gpunet.tensor)
    xs = [keras.ops.convert_to_tensor(a) for a in arrays]
    return keras_masked(xs, case, keras)


def pair(case, keras):
    """Returns gpunet's layer and Keras's, built, with the same weights; made once for each row."""
    if case.name not in PAIRS:
        gpunet.utils.clear_session()  # names count from one again, in both
        keras.utils.clear_session(free_memory=False)
        mine, theirs = case.build(layers), case.build(keras.layers)
        theirs(*arguments(case, inputs_of(case, keras)), **case.call)
        mine(*arguments(case, inputs_of(case)), **case.call)
        PAIRS[case.name] = mine, theirs, randomize(theirs, np.random.default_rng(5))
    mine, theirs, values = PAIRS[case.name]
    mine.set_weights(values)
    set_keras_weights(theirs, values)
    return mine, theirs


PAIRS = {}


def modes(case):
    return (False, True) if case.training else (False,)


def assert_close(mine, theirs, tol=1.0):
    np.testing.assert_allclose(
        np.asarray(mine, "float64"), np.asarray(theirs, "float64"), rtol=2e-5 * tol, atol=3e-6 * tol
    )


@pytest.mark.parametrize("case", KERAS_CASES, ids=repr)
def test_keras_forward(case, keras):
    mine, theirs = pair(case, keras)
    for training in modes(case):
        y = mine(*arguments(case, inputs_of(case)), training=training, **case.call)
        z = theirs(*arguments(case, inputs_of(case, keras)), training=training, **case.call)
        assert len(leaves(y)) == len(leaves(z))
        for a, b in zip(leaves(y), leaves(z), strict=True):
            assert a.shape == b.shape
            assert str(a.dtype) == keras.backend.standardize_dtype(b.dtype)
            assert_close(a, b, case.tol)
            my_mask, their_mask = (getattr(x, "_keras_mask", None) for x in (a, b))
            assert (my_mask is None) == (their_mask is None)
            if my_mask is not None:
                np.testing.assert_array_equal(my_mask.numpy(), np.asarray(their_mask))
        assert_close(sum(map(float, mine.losses)), sum(map(float, theirs.losses)), case.tol)
        for a, b in zip(mine.weights, theirs.weights, strict=True):
            assert_close(a.numpy(), b.value, case.tol)


def projection(ys, rng_values):
    return sum((y * r).sum() for y, r in zip(ys, rng_values, strict=True))


@pytest.mark.parametrize("case", [case for case in KERAS_CASES if case.gradients], ids=repr)
def test_keras_gradients_and_sgd_step(case, keras):
    import jax

    mine, theirs = pair(case, keras)
    rng = np.random.default_rng(7)
    training = case.training
    xs = inputs_of(case)
    wanted = [x for x in xs if x.dtype.kind == "f"]
    with gpunet.GradientTape() as tape:
        for x in wanted:
            tape.watch(x)
        ys = leaves(mine(*arguments(case, xs), training=training, **case.call))
        weights = [rng.normal(size=y.shape).astype("float32") for y in ys]
        total = projection(ys, weights)
    found = tape.gradient(total, [wanted, mine.trainable_weights], unconnected_gradients="zero")

    arrays = [keras.ops.convert_to_tensor(a) for a in case.arrays()]
    floats = [i for i, a in enumerate(arrays) if "float" in str(a.dtype)]
    steady = [v.value for v in theirs.non_trainable_variables]

    def scalar(chosen, trainable):
        inputs = list(arrays)
        for i, x in zip(floats, chosen, strict=True):
            inputs[i] = x + 0
        keras_masked(inputs, case, keras)
        call = dict(case.call)
        # `stateless_call` bypasses what hands the masks on.
        if case.mask is not None and "mask" in theirs.call_signature_parameters:
            masks = [keras.ops.convert_to_tensor(case.masks(x.shape[1])) for x in inputs]
            call["mask"] = masks if case.many else masks[0]
        if "training" in theirs.call_signature_parameters:
            call["training"] = training
        out, _ = theirs.stateless_call(trainable, steady, *arguments(case, inputs), **call)
        return projection(leaves(out), weights)

    trainable = [v.value for v in theirs.trainable_variables]
    expected = jax.grad(scalar, argnums=(0, 1))([arrays[i] for i in floats], trainable)
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        scale = max(float(np.abs(np.asarray(b)).max(initial=0)), 1.0)
        assert_close(a.numpy() / scale, np.asarray(b) / scale, 3 * case.tol)

    optimizer = optimizers.SGD(0.1)
    optimizer.build(mine.trainable_weights)
    optimizer.apply(found[1], mine.trainable_weights)
    reference = keras.optimizers.SGD(0.1)
    reference.build(theirs.trainable_variables)
    reference.apply(list(expected[1]), theirs.trainable_variables)
    for a, b in zip(mine.trainable_weights, theirs.trainable_variables, strict=True):
        scale = max(float(np.abs(np.asarray(b.value)).max(initial=0)), 1.0)
        assert_close(a.numpy() / scale, np.asarray(b.value) / scale, 3 * case.tol)


def plain(config):
    """A config as JSON gives it, without what gpunet leaves out."""

    def drop(value):
        if isinstance(value, dict):
            kept = {k: drop(v) for k, v in value.items() if not (k in OMITTED and v == OMITTED[k])}
            return kept
        if isinstance(value, float):
            return round(value, 7)  # Keras rounds the factors of regularizers to float32
        return [drop(v) for v in value] if isinstance(value, list) else value

    return drop(json.loads(json.dumps(config)))


@pytest.mark.parametrize("case", KERAS_CASES, ids=repr)
def test_keras_config(case, keras):
    mine, theirs = case.build(layers), case.build(keras.layers)
    assert type(mine).__name__ == type(theirs).__name__
    config = {**mine.get_config(), "name": "x"}
    expected = {**theirs.get_config(), "name": "x"}
    assert plain(config) == plain(expected)
    full = saving.serialize_keras_object(mine)
    assert full["module"] == "keras.layers" and full["registered_name"] is None
    revived = saving.deserialize_keras_object(json.loads(json.dumps(full)))
    assert plain(revived.get_config()) == plain(mine.get_config())
    assert set(dir(revived)) == set(dir(mine))
    from_keras = keras.saving.serialize_keras_object(theirs)
    assert type(saving.deserialize_keras_object(from_keras)) is type(mine)
    keras.saving.deserialize_keras_object(full)


@pytest.mark.parametrize("case", KERAS_CASES, ids=repr)
def test_keras_weights(case, keras):
    mine, theirs = pair(case, keras)
    described = [(w.name, w.shape, str(w.dtype), w.trainable) for w in mine.weights]
    assert described == [
        (w.name, tuple(w.shape), keras.backend.standardize_dtype(w.dtype), w.trainable)
        for w in theirs.weights
    ]
    inside = [w.path.split("/")[1:] for w in mine.weights]
    assert inside == [w.path.split("/")[1:] for w in theirs.weights]
    for name in ("trainable_weights", "non_trainable_weights", "variables", "trainable_variables"):
        assert len(getattr(mine, name)) == len(getattr(theirs, name)), name
    assert mine.count_params() == theirs.count_params()
    store = {}
    mine.save_own_variables(store)
    their_store = {}
    theirs.save_own_variables(their_store)
    assert {k: np.shape(v) for k, v in store.items()} == {
        k: tuple(v.shape) for k, v in their_store.items()
    }


@pytest.mark.parametrize("case", KERAS_CASES, ids=repr)
def test_keras_symbolic(case, keras):
    mine, theirs = case.build(layers), case.build(keras.layers)
    arrays = case.arrays()
    call = {k: v for k, v in case.call.items() if isinstance(v, bool)}
    ours = [layers.Input(a.shape[1:], dtype=str(a.dtype)) for a in arrays]
    keras_inputs = [keras.Input(a.shape[1:], dtype=str(a.dtype)) for a in arrays]
    y = mine(*arguments(case, ours), **call)
    z = theirs(*arguments(case, keras_inputs), **call)
    eager = mine(*arguments(case, inputs_of(case)), **case.call)
    for a, b, c in zip(leaves(y), leaves(z), leaves(eager), strict=True):
        assert isinstance(a, gpunet.KerasTensor)
        assert len(a.shape) == len(c.shape)
        assert all(d in (None, n) for d, n in zip(a.shape, c.shape, strict=True))
        assert a.dtype == str(c.dtype)
        if not case.call.get("return_attention_scores"):  # Keras takes as many keys as queries
            assert all(d == e or e is None for d, e in zip(a.shape, b.shape, strict=True))
            assert a.dtype == keras.backend.standardize_dtype(b.dtype)
        assert (getattr(a, "_keras_mask", None) is None) == (
            getattr(b, "_keras_mask", None) is None
        )
        assert a._keras_history.operation is mine


@pytest.mark.parametrize("case", KERAS_CASES, ids=repr)
def test_keras_output_shape(case, keras):
    mine, theirs = case.build(layers), case.build(keras.layers)
    arrays = case.arrays()
    shapes = [a.shape for a in arrays]
    try:
        expected = theirs.compute_output_shape(*([shapes] if case.many else shapes))
    except NotImplementedError:
        pytest.fail("Keras has no compute_output_shape here: leave the row out of this test")
    found = mine.compute_output_shape(*([shapes] if case.many else shapes))

    def lengths(shape):
        return (
            [d for s in shape for d in lengths(s)] if isinstance(shape, (list, tuple)) else [shape]
        )

    assert all(a == b or b is None for a, b in zip(lengths(found), lengths(expected), strict=True))


def test_keras_has_a_row_for_every_layer(keras):
    made = set()
    for case in CASES:
        layer = case.build(layers)
        made |= {type(inner).__name__ for inner in layer._flatten_layers()}
    public = {
        name
        for name in dir(layers)
        if isinstance(getattr(layers, name), type)
        and issubclass(getattr(layers, name), layers.Layer)
    }
    names = {getattr(layers, name).__name__ for name in public}
    tested_elsewhere = {"Layer", "InputLayer", "Lambda", "Wrapper"}
    assert names - made - tested_elsewhere == set()
    assert names - {"GELU", "Kernel"} <= set(dir(keras.layers))
