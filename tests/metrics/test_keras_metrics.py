"""Every metric over several batches, with weights and options, against Keras."""

import inspect
import json
import re

import keras
import numpy as np
import pytest

import gpunet
from gpunet import metrics
from gpunet.core.trace import trace

SHAPE = (8, 4)


def signed(rng):
    return rng.standard_normal(SHAPE).astype("float32")


def unit(rng):
    return rng.uniform(0.05, 0.95, SHAPE).astype("float32")


def coarse(rng):  # with ties, and scores equal to thresholds
    return (rng.integers(0, 11, SHAPE) / 10).astype("float32")


def binary(rng):
    return rng.integers(0, 2, SHAPE).astype("float32")


def probabilities(rng):
    x = rng.uniform(0.1, 1.0, SHAPE)
    return (x / x.sum(-1, keepdims=True)).astype("float32")


def one_hot(rng):
    return np.eye(SHAPE[-1], dtype="float32")[rng.integers(0, SHAPE[-1], SHAPE[:1])]


def labels(rng):
    return rng.integers(0, SHAPE[-1], SHAPE[:1]).astype("int32")


def columns(rng):
    return labels(rng)[:, None]


def few(rng):
    return rng.integers(0, 3, SHAPE).astype("float32")


def positive(rng):
    return rng.uniform(0.1, 4.0, SHAPE).astype("float32")


SCORED = [
    ("Accuracy", {}, few, few),
    ("BinaryAccuracy", {}, binary, unit),
    ("BinaryAccuracy", {"threshold": 0.7}, binary, unit),
    ("CategoricalAccuracy", {}, one_hot, signed),
    ("SparseCategoricalAccuracy", {}, labels, signed),
    ("SparseCategoricalAccuracy", {}, columns, signed),
    ("TopKCategoricalAccuracy", {"k": 2}, one_hot, signed),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, labels, coarse),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, labels, signed),
    ("MeanSquaredError", {}, signed, signed),
    ("RootMeanSquaredError", {}, signed, signed),
    ("MeanAbsoluteError", {}, signed, signed),
    ("MeanAbsolutePercentageError", {}, signed, signed),
    ("MeanSquaredLogarithmicError", {}, positive, positive),
    ("LogCoshError", {}, signed, signed),
    ("CosineSimilarity", {}, signed, signed),
    ("KLDivergence", {}, probabilities, probabilities),
    ("Poisson", {}, positive, positive),
    ("Hinge", {}, binary, signed),
    ("SquaredHinge", {}, binary, signed),
    ("CategoricalHinge", {}, one_hot, signed),
    ("BinaryCrossentropy", {}, binary, unit),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, binary, signed),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, one_hot, probabilities),
    ("CategoricalCrossentropy", {"from_logits": True}, one_hot, signed),
    ("SparseCategoricalCrossentropy", {}, labels, probabilities),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, labels, signed),
    ("R2Score", {}, signed, signed),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, signed, signed),
    ("R2Score", {"class_aggregation": None}, signed, signed),
    ("R2Score", {"num_regressors": 2}, signed, signed),
    ("F1Score", {}, one_hot, probabilities),
    ("F1Score", {"threshold": 0.4, "average": "macro"}, binary, unit),
    ("F1Score", {"average": "weighted"}, one_hot, probabilities),
    ("FBetaScore", {"beta": 2.0, "average": "micro", "threshold": 0.5}, binary, unit),
]
COUNTED = [
    *[
        (name, options, binary, coarse)
        for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")
        for options in ({}, {"thresholds": 0.3}, {"thresholds": [0.8, 0.2, 0.55]})
    ],
    *[
        (name, options, binary, coarse)
        for name in ("Precision", "Recall")
        for options in (
            {},
            {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]},
            {"class_id": 2},
            {"thresholds": [0.6, 0.3], "class_id": 0},
        )
    ],
    *[(name, {"top_k": 2}, binary, unit) for name in ("Precision", "Recall")],
    *[
        ("AUC", {"curve": curve, "summation_method": method}, binary, scores)
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "minoring", "majoring")
        for scores in (unit, coarse)
    ],
    ("AUC", {"num_thresholds": 5}, binary, unit),
    ("AUC", {"thresholds": [0.2, 0.7, 0.35]}, binary, unit),
    ("AUC", {"from_logits": True}, binary, signed),
    ("AUC", {"multi_label": True, "num_labels": 4}, binary, unit),
    ("AUC", {"multi_label": True, "curve": "PR"}, binary, unit),
    ("AUC", {"label_weights": [0.1, 0.2, 0.3, 0.4]}, binary, unit),
    ("AUC", {"multi_label": True, "label_weights": [0.1, 0.2, 0.3, 0.4]}, binary, unit),
    ("SensitivityAtSpecificity", {"specificity": 0.4}, binary, unit),
    ("SpecificityAtSensitivity", {"sensitivity": 0.4, "num_thresholds": 20}, binary, unit),
    ("PrecisionAtRecall", {"recall": 0.5}, binary, unit),
    ("RecallAtPrecision", {"precision": 0.6}, binary, unit),
    ("RecallAtPrecision", {"precision": 0.6, "class_id": 1, "num_thresholds": 1}, binary, unit),
]
ROWS = SCORED + COUNTED
table = pytest.mark.parametrize(
    ("name", "options", "targets", "predictions"),
    ROWS,
    ids=[f"{i}-{name}-{json.dumps(options)}" for i, (name, options, *_) in enumerate(ROWS)],
)


def batches(targets, predictions, count=3):
    rng = np.random.default_rng(0)
    return [(targets(rng), predictions(rng)) for _ in range(count)]


def pair(name, options):
    return getattr(metrics, name)(**options), getattr(keras.metrics, name)(**options)


def close(x, y, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=atol)


@table
def test_results_equal_those_of_keras(name, options, targets, predictions):
    mine, reference = pair(name, options)
    for y_true, y_pred in batches(targets, predictions):
        mine.update_state(y_true, y_pred)
        reference.update_state(y_true, y_pred)
        close(mine.result(), reference.result())
    for x, y in zip(mine.variables, reference.variables, strict=True):
        assert re.sub(r"_\d+", "", x.path) == re.sub(r"_\d+", "", y.path)
        close(x.numpy(), y.value)
    mine.reset_state()
    reference.reset_state()
    (y_true, y_pred), _ = batches(targets, predictions, 2)
    close(mine(y_true, y_pred), reference(y_true, y_pred))


@table
def test_weights_count_as_in_keras(name, options, targets, predictions, rng):
    mine, reference = pair(name, options)
    for y_true, y_pred in batches(targets, predictions):
        weight = rng.random(len(y_pred)).astype("float32")
        mine.update_state(y_true, y_pred, sample_weight=weight)
        reference.update_state(y_true, y_pred, sample_weight=weight)
    close(mine.result(), reference.result())


@table
def test_a_traced_update_equals_an_eager_one(name, options, targets, predictions):
    eager, traced = (getattr(metrics, name)(**options) for _ in range(2))
    data = batches(targets, predictions)
    traced(*data[0])  # makes the variables
    traced.reset_state()
    graph = trace(lambda x, y: traced(x, y), *map(gpunet.tensor, data[0]))
    for y_true, y_pred in data:
        close(graph(y_true, y_pred)[0], eager(y_true, y_pred), 1e-6)


@table
def test_stateless_methods(name, options, targets, predictions):
    mine, reference = pair(name, options)
    data = batches(targets, predictions)
    mine(*data[0])
    reference(*data[0])
    before = [v.numpy().copy() for v in mine.variables]
    values = mine.stateless_update_state(mine.stateless_reset_state(), *data[1])
    theirs = [np.zeros(v.shape, "float32") for v in reference.variables]
    theirs = reference.stateless_update_state(theirs, *data[1])
    close(mine.stateless_result(values), reference.stateless_result(theirs))
    for v, value in zip(mine.variables, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), value)
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        mine.stateless_result(values[1:])


@table
def test_configs_are_those_of_keras(name, options, targets, predictions):
    mine, reference = pair(name, options)
    theirs = keras.metrics.serialize(reference)
    if options.get("label_weights"):  # Keras puts a tensor there
        theirs["config"]["label_weights"] = mine.label_weights.tolist()
    config = metrics.serialize(mine)
    theirs["config"]["name"] = mine.name
    assert config == theirs
    again = metrics.deserialize(json.loads(json.dumps(config)))
    assert type(again) is type(mine)
    assert again.get_config() == mine.get_config()
    signatures = [inspect.signature(type(x).__init__).parameters for x in (mine, reference)]
    ours, wanted = ([(p.name, p.default) for p in s.values()] for s in signatures)
    assert ours == wanted


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize(
    ("values", "weight"),
    [
        (3.0, None),
        (3.0, 0.5),
        ([1.0, 2.0], None),
        ([1.0, 2.0], [0.5, 0.1]),
        ([[1.0, 2.0], [3.0, 5.0]], None),
        ([[1.0, 2.0], [3.0, 5.0]], [0.5, 0.1]),
        ([[1.0, 2.0], [3.0, 5.0]], [[0.5, 0.1], [0.2, 0.3]]),
        ([[1.0, 2.0], [3.0, 5.0]], [[0.5], [0.1]]),
        ([[[1.0, 2.0]], [[3.0, 5.0]]], [[0.5], [0.1]]),
        ([], None),
    ],
)
def test_reductions(name, values, weight):
    mine, reference = pair(name, {})
    for _ in range(2):
        mine.update_state(np.array(values, "float32"), weight)
        reference.update_state(np.array(values, "float32"), weight)
    close(mine.result(), reference.result())


def test_weights_that_do_not_fit():
    with pytest.raises(gpunet.errors.ShapeError, match=r"sample_weight.*Received"):
        metrics.Mean().update_state(np.ones((2, 3)), np.ones(3))
    with pytest.raises(gpunet.errors.ShapeError, match=r"sample_weight.*Received"):
        metrics.AUC().update_state(np.ones((2, 3)), np.ones((2, 3)), np.ones(5))


@pytest.mark.parametrize(
    ("name", "y_true", "y_pred"),
    [
        ("Accuracy", (4, 1), (4, 3)),
        ("BinaryAccuracy", (4,), (4, 4)),
        ("CategoricalAccuracy", (4, 3), (4, 5)),
        ("SparseCategoricalAccuracy", (5,), (4, 5)),
        ("TopKCategoricalAccuracy", (4, 3), (4, 5)),
        ("MeanSquaredError", (4,), (4, 4)),
        ("AUC", (4, 1), (4, 3)),
        ("Precision", (4,), (4, 4)),
        ("F1Score", (4, 1), (4, 3)),
    ],
)
def test_nothing_is_broadcast(name, y_true, y_pred):
    metric = getattr(metrics, name)()
    with pytest.raises(gpunet.errors.ShapeError, match="Received"):
        metric.update_state(np.zeros(y_true), np.zeros(y_pred, "float32"))
    assert all(not v.numpy().any() for v in metric.variables)


def test_masks_on_predictions(rng):
    y_true, y_pred = rng.integers(0, 4, (2, 3)), rng.random((2, 3, 4)).astype("float32")
    mask = np.array([[True, True, False], [True, False, False]])
    mine, reference = pair("SparseCategoricalAccuracy", {})
    ours, theirs = gpunet.tensor(y_pred), keras.ops.convert_to_tensor(y_pred)
    ours._keras_mask = gpunet.tensor(mask)
    keras.src.backend.set_keras_mask(theirs, keras.ops.convert_to_tensor(mask))
    close(mine(y_true, ours), reference(y_true, theirs))


def test_from_sorted_ids():
    metric = metrics.SparseTopKCategoricalAccuracy(k=2, from_sorted_ids=True)
    assert metric([2, 1], [[0, 2, 1], [0, 2, 1]]).item() == 0.5
    assert metric.get_config()["from_sorted_ids"] is True


def test_ignored_classes_do_not_count(rng):
    y_true, y_pred = rng.integers(0, 3, 9), rng.random((9, 3)).astype("float32")
    mine, reference = pair("SparseCategoricalCrossentropy", {"ignore_class": 1})
    weight = rng.random(9).astype("float32")
    close(mine(y_true, y_pred, weight), reference(y_true, y_pred, weight))


class Pair(metrics.Metric):
    def __init__(self, name="pair", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.first = metrics.Mean(name="first")
        self.others = [metrics.Sum(name="second")]
        self.steps = gpunet.Variable(0.0, trainable=False, name="steps")

    def update_state(self, values, sample_weight=None):
        self.first.update_state(values)
        self.others[0].update_state(values)
        self.steps.assign_add(1)

    def result(self):
        return {"mean": self.first.result(), "sum": self.others[0].result()}


def test_metrics_of_metrics():
    metric = Pair()
    assert [v.name for v in metric.variables] == ["steps", "total", "count", "total"]
    result = metric([1.0, 3.0])
    assert (result["mean"].item(), result["sum"].item()) == (2.0, 4.0)
    metric.reset_state()
    assert all(v.numpy() == 0 for v in metric.variables)


def test_get():
    def own(y_true, y_pred):
        return y_pred

    assert metrics.get(None) is None
    assert metrics.get(own) is own
    assert isinstance(metrics.get("AUC"), metrics.AUC)
    assert isinstance(metrics.get("sparse_categorical_accuracy"), metrics.SparseCategoricalAccuracy)
    for short in ("mse", "MAE", "bce", "mape", "MSLE"):
        assert type(metrics.get(short)).__name__ == type(keras.metrics.get(short)).__name__
    with pytest.raises(gpunet.errors.ArgumentError, match=r"accuracy.*Received"):
        metrics.get("acuracy")


def test_wrapper_configs():
    metric = metrics.MeanMetricWrapper(gpunet.losses.huber, name="huber", delta=0.5)
    config = json.loads(json.dumps(metrics.serialize(metric)))
    again = metrics.deserialize(config)
    x, y = [[0.0, 2.0]], [[1.0, 1.0]]
    assert again(x, y).item() == metric(x, y).item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: metrics.Precision(thresholds=1.5),
        lambda: metrics.AUC(num_thresholds=1),
        lambda: metrics.AUC(curve="ROCK"),
        lambda: metrics.AUC(summation_method="half"),
        lambda: metrics.AUC(num_labels=3),
        lambda: metrics.R2Score(class_aggregation="sum"),
        lambda: metrics.R2Score(num_regressors=-1),
        lambda: metrics.FBetaScore(average="all"),
        lambda: metrics.FBetaScore(beta=-1.0),
        lambda: metrics.FBetaScore(threshold=2.0),
        lambda: metrics.PrecisionAtRecall(recall=1.5),
        lambda: metrics.RecallAtPrecision(0.5, num_thresholds=0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        make()


def test_forgotten_super():
    class Forgetful(metrics.Metric):
        def __init__(self):
            self.total = self.add_weight(name="total")

    with pytest.raises(gpunet.errors.StateError, match="super"):
        Forgetful()
