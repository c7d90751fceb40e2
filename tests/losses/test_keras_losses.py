"""Every loss, with its options, weights and masks, against Keras."""

import inspect
import json

import keras
import numpy as np
import pytest

import gpunet
from gpunet import losses
from gpunet.core.trace import trace


def signed(rng, shape):
    return rng.standard_normal(shape)


def unit(rng, shape):
    return rng.uniform(0.05, 0.95, shape)


def positive(rng, shape):
    return rng.uniform(0.1, 4.0, shape)


def binary(rng, shape):
    return rng.integers(0, 2, shape)


def probabilities(rng, shape):
    x = rng.uniform(0.1, 1.0, shape)
    return x / x.sum(-1, keepdims=True)


def one_hot(rng, shape):
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


def labels(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1]).astype("int32")


LOGITS = [{"from_logits": True}, {"from_logits": True, "label_smoothing": 0.2}]
ROWS = [
    ("MeanSquaredError", {}, signed, signed),
    ("MeanAbsoluteError", {}, signed, signed),
    ("MeanAbsolutePercentageError", {}, signed, signed),
    ("MeanSquaredLogarithmicError", {}, positive, positive),
    ("CosineSimilarity", {}, signed, signed),
    ("CosineSimilarity", {"axis": 0}, signed, signed),
    ("Huber", {}, signed, signed),
    ("Huber", {"delta": 0.3}, signed, signed),
    ("LogCosh", {}, signed, signed),
    ("Poisson", {}, positive, positive),
    ("KLDivergence", {}, probabilities, probabilities),
    ("Hinge", {}, binary, signed),
    ("Hinge", {}, lambda rng, s: binary(rng, s) * 2 - 1, signed),
    ("SquaredHinge", {}, binary, signed),
    ("CategoricalHinge", {}, one_hot, signed),
    ("Dice", {}, binary, unit),
    ("Dice", {"axis": (1,)}, binary, unit),
    ("Tversky", {"alpha": 0.3, "beta": 0.6}, binary, unit),
    ("BinaryCrossentropy", {}, binary, unit),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, binary, unit),
    *[("BinaryCrossentropy", options, binary, signed) for options in LOGITS],
    ("BinaryFocalCrossentropy", {}, binary, unit),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "gamma": 1.5}, binary, unit),
    *[("BinaryFocalCrossentropy", options, binary, signed) for options in LOGITS],
    ("CategoricalCrossentropy", {}, one_hot, probabilities),
    ("CategoricalCrossentropy", {"label_smoothing": 0.2}, one_hot, unit),
    *[("CategoricalCrossentropy", options, one_hot, signed) for options in LOGITS],
    ("CategoricalFocalCrossentropy", {"alpha": 0.5, "gamma": 1.5}, one_hot, unit),
    *[("CategoricalFocalCrossentropy", options, one_hot, signed) for options in LOGITS],
    ("SparseCategoricalCrossentropy", {}, labels, probabilities),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, labels, signed),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 1}, labels, signed),
    ("SparseCategoricalCrossentropy", {"ignore_class": 0}, labels, probabilities),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.3}, labels, probabilities),
]
IDS = [f"{i}-{name}-{json.dumps(options)}" for i, (name, options, *_) in enumerate(ROWS)]
table = pytest.mark.parametrize(("name", "options", "targets", "predictions"), ROWS, ids=IDS)
REDUCTIONS = ["sum_over_batch_size", "sum", "none", "mean", "mean_with_sample_weight", None]


def batch(targets, predictions, shape, seed=0):
    rng = np.random.default_rng(seed)
    y_true = targets(rng, shape)
    y_true = y_true if y_true.dtype == "int32" else y_true.astype("float32")
    return y_true, predictions(rng, shape).astype("float32")


def close(x, y, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=atol)


@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4)], ids=str)
@table
def test_values_equal_those_of_keras(name, options, targets, predictions, shape):
    y_true, y_pred = batch(targets, predictions, shape)
    for reduction in REDUCTIONS:
        mine = getattr(losses, name)(**options, reduction=reduction)
        reference = getattr(keras.losses, name)(**options, reduction=reduction)
        close(mine(y_true, y_pred), reference(y_true, y_pred))


@pytest.mark.parametrize(
    ("name", "options", "targets", "predictions"),
    [row for row in ROWS if "axis" not in row[1] and row[0] not in ("Dice", "Tversky")],
)
def test_weights_and_masks_count_as_in_keras(name, options, targets, predictions, rng):
    y_true, y_pred = batch(targets, predictions, (3, 5, 4))
    for weight in (rng.random((3, 5)), rng.random((3, 1)), np.array(0.7)):
        for reduction in REDUCTIONS:
            mine = getattr(losses, name)(**options, reduction=reduction)
            reference = getattr(keras.losses, name)(**options, reduction=reduction)
            weight = weight.astype("float32")
            close(mine(y_true, y_pred, weight), reference(y_true, y_pred, weight))
            mask = np.array([[True] * 4 + [False], [True] * 5, [False] * 5])
            ours, theirs = gpunet.tensor(y_pred), keras.ops.convert_to_tensor(y_pred)
            ours._keras_mask = gpunet.tensor(mask)
            keras.src.backend.set_keras_mask(theirs, keras.ops.convert_to_tensor(mask))
            close(mine(y_true, ours), reference(y_true, theirs))
            close(mine(y_true, ours, weight), reference(y_true, theirs, weight))


@table
def test_gradients_equal_those_of_keras(name, options, targets, predictions):
    import jax

    y_true, y_pred = batch(targets, predictions, (6, 4))
    mine, reference = (getattr(m, name)(**options) for m in (losses, keras.losses))
    x = gpunet.tensor(y_pred)
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        loss = mine(y_true, x)
    close(tape.gradient(loss, x), jax.grad(lambda p: reference(y_true, p))(y_pred), 1e-4)


@table
def test_a_traced_loss_equals_an_eager_one(name, options, targets, predictions):
    y_true, y_pred = batch(targets, predictions, (6, 4))
    mine = getattr(losses, name)(**options)
    graph = trace(mine, gpunet.tensor(y_true), gpunet.tensor(y_pred))
    close(graph(y_true, y_pred)[0], mine(y_true, y_pred), 0, 0)


@table
def test_configs_are_those_of_keras(name, options, targets, predictions):
    mine, reference = (getattr(m, name)(**options) for m in (losses, keras.losses))
    config = losses.serialize(mine)
    assert config == keras.losses.serialize(reference)
    again = losses.deserialize(json.loads(json.dumps(config)))
    assert (type(again), again.get_config()["name"]) == (type(mine), mine.name)
    signatures = [inspect.signature(type(x).__init__).parameters for x in (mine, reference)]
    ours, theirs = ([(p.name, p.default) for p in s.values()] for s in signatures)
    assert ours == theirs


@pytest.mark.parametrize(
    "name", sorted({row[0] for row in ROWS} - {"CategoricalGeneralizedCrossEntropy"})
)
def test_half_precision(name):
    _, options, targets, predictions = next(row for row in ROWS if row[0] == name)
    y_true, y_pred = batch(targets, predictions, (6, 4))
    exact = getattr(losses, name)(**options)(y_true, y_pred).item()
    for dtype, rtol in (("float16", 1e-2), ("bfloat16", 6e-2)):
        y = getattr(losses, name)(**options, dtype=dtype)(y_true, y_pred)
        assert y.dtype == dtype
        np.testing.assert_allclose(float(y), exact, rtol=rtol, atol=rtol)


FUNCTIONS = sorted(f.__name__ for f in losses._FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_found_by_name(name):
    f = getattr(losses, name)
    assert losses.get(name) is f
    assert losses.deserialize(losses.serialize(f)) is f
    assert list(inspect.signature(f).parameters) == list(
        inspect.signature(getattr(keras.losses, name)).parameters
    )


@pytest.mark.parametrize("name", ["mse", "MAE", "mape", "MSLE", "bce", "KLD"])
def test_short_names(name):
    assert losses.get(name).__name__ == keras.losses.get(name).__name__


def test_get():
    def own(y_true, y_pred):
        return y_pred

    instance = losses.Huber()
    assert losses.get(None) is None
    assert losses.get(own) is own
    assert losses.get(instance) is instance
    assert isinstance(losses.get("MeanSquaredError"), losses.MeanSquaredError)
    assert isinstance(losses.get(losses.Hinge), losses.Hinge)
    assert losses.get({"class_name": "Huber", "config": {"delta": 2.0}})._fn_kwargs == {
        "delta": 2.0
    }
    with pytest.raises(gpunet.errors.ArgumentError, match=r"mean_squared_error.*Received"):
        losses.get("mean_squared_eror")
    with pytest.raises(gpunet.errors.ArgumentError, match="loss identifier"):
        losses.get(3)


@pytest.mark.parametrize(
    ("name", "y_true", "y_pred"),
    [
        ("MeanSquaredError", (4,), (4, 4)),
        ("MeanSquaredError", (4, 1), (4, 5)),
        ("MeanAbsoluteError", (4, 5), (4, 1)),
        ("BinaryCrossentropy", (4, 1), (4, 3)),
        ("CategoricalCrossentropy", (4, 3), (4, 5)),
        ("SparseCategoricalCrossentropy", (4, 5), (4, 5)),
        ("SparseCategoricalCrossentropy", (5,), (4, 5)),
        ("CosineSimilarity", (1, 5), (4, 5)),
        ("Hinge", (1,), (4, 1)),
    ],
)
def test_nothing_is_broadcast(name, y_true, y_pred):
    with pytest.raises(gpunet.errors.ShapeError) as error:
        getattr(losses, name)()(np.zeros(y_true, "int32"), np.ones(y_pred, "float32"))
    assert "Received" in str(error.value)


@pytest.mark.parametrize(
    ("y_true", "y_pred"), [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3, 1), (4, 3))]
)
def test_an_axis_of_length_one_may_be_left_out(y_true, y_pred, rng):
    x, y = rng.random(y_true).astype("float32"), rng.random(y_pred).astype("float32")
    close(losses.MeanSquaredError()(x, y), keras.losses.MeanSquaredError()(x, y))


@pytest.mark.parametrize("weight", [(4,), (2, 4), (3, 5), (3, 4, 4)], ids=str)
def test_weights_that_do_not_fit(weight):
    x = np.zeros((3, 4, 4), "float32")
    with pytest.raises(gpunet.errors.ShapeError, match=r"sample_weight.*Received"):
        losses.MeanSquaredError()(x, x, np.ones(weight))


def test_all_ignored_or_masked_is_zero():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=0)
    assert loss(np.zeros(3, "int32"), np.full((3, 2), 0.5, "float32")).item() == 0.0


def test_own_losses_and_wrappers():
    def worst(y_true, y_pred, scale=1.0):
        return gpunet.ops.max(gpunet.ops.abs(y_true - y_pred), axis=-1) * scale

    loss = losses.LossFunctionWrapper(worst, name="worst", scale=2.0)
    assert loss([[0, 0]], [[1.0, 3.0]]).item() == 6.0
    with gpunet.saving.custom_object_scope({"worst": worst}):
        again = losses.deserialize(losses.serialize(loss))
    assert again([[0, 0]], [[1.0, 3.0]]).item() == 6.0
    assert losses.Loss(name=None).name.startswith("loss")
    with pytest.raises(NotImplementedError):
        losses.Loss()([1.0], [1.0])


def test_bad_arguments():
    with pytest.raises(gpunet.errors.ArgumentError, match=r"reduction.*Received"):
        losses.MeanSquaredError(reduction="average")
    with pytest.raises(gpunet.errors.ArgumentError, match="axis"):
        losses.categorical_crossentropy([[1.0, 0.0]], [[1.0, 0.0]], axis=True)
    with pytest.raises(gpunet.errors.ArgumentError, match="q must be"):
        losses.CategoricalGeneralizedCrossEntropy(q=1.0)
    with pytest.warns(SyntaxWarning, match="binary_crossentropy"):
        losses.categorical_crossentropy([[1.0]], [[1.0]])
