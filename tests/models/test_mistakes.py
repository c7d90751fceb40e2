"""Mistakes in `compile`, `fit` and `evaluate`: what they say, and that they change nothing."""

import numpy as np
import pytest

from gpunet import callbacks, layers, models, optimizers
from gpunet.errors import ArgumentError, GpunetError, ShapeError, StateError


def network(units=3, activation="softmax", inputs=4):
    return models.Sequential(
        [layers.Input((inputs,)), layers.Dense(5, "relu"), layers.Dense(units, activation)]
    )


def compiled(**options):
    model = network()
    model.compile(**{"optimizer": "sgd", "loss": "sparse_categorical_crossentropy", **options})
    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 4)).astype("float32"), rng.integers(0, 3, 20)


X, Y = np.ones((8, 4), "float32"), np.zeros(8, "int64")

BAD_FITS = {
    "no_data": ({"x": None}, ArgumentError, "Unrecognized data|array-like"),
    "empty": ({"x": X[:0], "y": Y[:0]}, ArgumentError, "no samples"),
    "lengths": ({"x": X, "y": Y[:5]}, ArgumentError, "same number of samples"),
    "batch_size": ({"x": X, "y": Y, "batch_size": 0}, ArgumentError, "batch_size=0"),
    "epochs": ({"x": X, "y": Y, "epochs": 0}, ArgumentError, "epochs=0"),
    "negative": ({"x": X, "y": Y, "epochs": -1}, ArgumentError, "epochs=-1"),
    "initial": ({"x": X, "y": Y, "initial_epoch": -1}, ArgumentError, "initial_epoch=-1"),
    "split": ({"x": X, "y": Y, "validation_split": 1.0}, ArgumentError, "validation_split"),
    "below": ({"x": X, "y": Y, "validation_split": -0.1}, ArgumentError, "validation_split"),
    "frequency": ({"x": X, "y": Y, "validation_freq": "each"}, ArgumentError, "validation_freq"),
    "verbose": ({"x": X, "y": Y, "verbose": 7}, ArgumentError, "verbose=7"),
    "callback": ({"x": X, "y": Y, "callbacks": [print]}, ArgumentError, r"`callbacks\[0\]`"),
    "class": (
        {"x": X, "y": Y, "callbacks": [callbacks.TerminateOnNaN]},
        ArgumentError,
        "pass an instance",
    ),
    "features": ({"x": X[:, :3], "y": Y}, ShapeError, r"\(None, 4\).*shape=\(8, 3\)"),
    "rank": ({"x": np.ones((8, 4, 2)), "y": Y}, ShapeError, r"\(None, 4\).*shape=\(8, 4, 2\)"),
    "weights": ({"x": X, "y": Y, "sample_weight": np.ones(3)}, ArgumentError, "sample_weight"),
    "both": (
        {"x": X, "y": Y, "sample_weight": Y, "class_weight": {0: 1}},
        ArgumentError,
        "same time",
    ),
    "steps": ({"x": X, "y": Y, "steps_per_epoch": 0}, ArgumentError, "steps_per_epoch"),
    "validation": ({"x": X, "y": Y, "validation_data": (X, Y[:2])}, ArgumentError, "samples"),
    "text": ({"x": np.array(["a"] * 8), "y": Y}, GpunetError, "`x`"),
}


@pytest.mark.parametrize("name", BAD_FITS)
def test_a_failed_fit_names_the_mistake_and_changes_nothing(name):
    arguments, error, message = BAD_FITS[name]
    model = compiled()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        model.fit(**{"verbose": 0, **arguments})
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not hasattr(model, "history")
    model.fit(X, Y, verbose=0)  # and it still works


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_compile_is_needed(method):
    with pytest.raises(StateError, match=r"must call `compile\(\)`"):
        getattr(network(), method)(X, Y)


BAD_COMPILES = {
    "optimizer": ({"optimizer": "adamm"}, "adam"),
    "loss_weights": ({"loss_weights": "heavy"}, "loss_weights"),
    "metrics": ({"metrics": "accuracy"}, "Expected `metrics` argument to be a list"),
    "weighted": ({"weighted_metrics": 3}, "Expected `weighted_metrics`"),
    "execution": ({"steps_per_execution": 0}, "steps_per_execution=0"),
}


@pytest.mark.parametrize("name", BAD_COMPILES)
def test_a_failed_compile_keeps_the_old_settings(name):
    arguments, message = BAD_COMPILES[name]
    model = compiled()
    optimizer = model.optimizer
    with pytest.raises(ArgumentError, match=message):
        model.compile(**{"optimizer": "adam", "loss": "mse", **arguments})
    assert model.optimizer is optimizer and model.loss == "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "mean_squared"}, "mean_squared"),
        ({"loss": "mse", "metrics": ["acuracy"]}, "acuracy"),
        ({"loss": "mse", "metrics": [None]}, "Expected metric"),
        ({"loss": ["mse", "mse"], "loss_weights": [1.0]}, "2 losses and 1 weights"),
        ({"loss": {"other": "mse"}}, "Expected keys"),
        ({}, "No loss to compute"),
    ],
)
def test_wrong_names_are_found_before_training(settings, message):
    model = network()
    model.compile("sgd", **settings)
    before = model.get_weights()
    with pytest.raises(GpunetError, match=message):
        model.fit(X, Y, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", ["mse", "mae", "binary_crossentropy"])
@pytest.mark.parametrize("shape", [(8, 2), (8, 3, 2), (8, 5)])
def test_losses_never_broadcast(loss, shape):
    model = network()
    model.compile("sgd", loss)
    with pytest.raises(ShapeError):
        model.fit(X, np.ones(shape, "float32"), verbose=0)


def test_an_error_in_a_step_names_batch_and_epoch():
    class Picky(layers.Layer):
        def call(self, x):
            if x.shape[0] == 2:
                raise ValueError("too few samples")
            return x

    model = models.Sequential([layers.Input((4,)), Picky()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="too few samples") as found:
        model.fit(X, X, batch_size=3, shuffle=False, verbose=0)
    assert any("batch 2 of epoch 1" in note for note in found.value.__notes__)


def test_a_diverged_training_is_reported():
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile(optimizers.SGD(1e30), "mse")
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="diverged.*TerminateOnNaN"):
        model.fit(X * 1e10, np.ones((8, 1)), epochs=4, verbose=0, batch_size=2)


def test_terminate_on_nan_names_the_batch(capsys):
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    y = np.ones((8, 1), "float32")
    y[5] = np.nan
    options = {"batch_size": 2, "shuffle": False, "verbose": 0, "epochs": 3}
    with pytest.warns(UserWarning, match=r"loss is nan after epoch 1 \(since its batch 2\)"):
        history = model.fit(X, y, callbacks=[callbacks.TerminateOnNaN()], **options)
    assert history.epoch == [0] and "Batch 2: Invalid loss" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="batch 0"):
        model.fit(X, y, callbacks=[callbacks.TerminateOnNaN(raise_error=True)], **options)


def test_an_exhausted_generator_warns_as_in_keras(data):
    x, y = data
    short = iter([(x[:5], y[:5])] * 3)
    with pytest.warns(UserWarning, match="ran out of data"):
        compiled().fit(short, steps_per_epoch=5, verbose=0)


def test_unknown_arguments_of_evaluate():
    with pytest.raises(ArgumentError, match="not recognized"):
        compiled().evaluate(X, Y, batches=3)


def test_train_on_batch_refuses_both_weights():
    with pytest.raises(ArgumentError, match="same time"):
        compiled().train_on_batch(X, Y, sample_weight=np.ones(8), class_weight={0: 1.0})


def test_limits_of_the_environment(data, monkeypatch):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "1")
    monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", "2")
    seen = []
    count = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    with pytest.warns(UserWarning, match="Limiting"):
        history = compiled().fit(*data, batch_size=5, epochs=4, callbacks=[count], verbose=0)
    assert history.epoch == [0] and seen == [0, 1]
