"""Callbacks against Keras's, on scripted logs and a model that remembers what was done to it."""

import csv
import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras.src.trainers.compile_utils import MetricsList

from gpunet import callbacks

LOSSES = [3.0, 2.0, 2.0, 1.99995, 2.5, 1.5, 1.5, 1.6, 1.7, 1.8, 0.5, 0.6]
NOISE = np.random.default_rng(7).normal(1.0, 0.3, 12).round(3).tolist()
RISING = [0.1, 0.5, 0.4, 0.4, 0.6, 0.61, 0.6, 0.59, 0.58, 0.7, 0.1, 0.1]
SCRIPTS = {"falling": LOSSES, "noise": NOISE, "rising": RISING, "short": [1.0], "flat": [1.0] * 12}


class ScriptedModel:
    """Weights that count epochs; an optimizer that is a learning rate; saves that are noted."""

    def __init__(self):
        self.optimizer = SimpleNamespace(learning_rate=0.1)
        self.metrics = [MetricsList([SimpleNamespace(name="accuracy", _direction="up")])]
        self.stop_training = False
        self.weights = 0
        self.saved = []
        self.built = True

    def get_weights(self):
        return [self.weights]

    def set_weights(self, weights):
        self.weights = weights[0]

    def save(self, path, overwrite=True):
        self.saved.append(str(path))

    save_weights = save


def train(callback, values, monitor, batches=3):
    """Runs the hooks of a training as `fit` does; returns everything that could be seen."""
    model, seen = ScriptedModel(), []
    callback.set_params({"epochs": len(values), "steps": batches, "verbose": 0})
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        model.weights = epoch + 1
        for batch in range(batches):
            callback.on_train_batch_begin(batch)
            callback.on_train_batch_end(batch, {monitor: value})
        logs = {monitor: value, "other": 1.0}
        callback.on_epoch_end(epoch, logs)
        seen.append((epoch, round(float(model.optimizer.learning_rate), 9), sorted(logs)))
        if model.stop_training:
            break
    callback.on_train_end({})
    return seen, model.weights, model.saved, model.stop_training


def both(name, values, logged, **options):
    ours = train(getattr(callbacks, name)(**options), values, logged)
    theirs = train(getattr(keras.callbacks, name)(**options), values, logged)
    assert ours == theirs
    return ours


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2},
        {"patience": 1, "min_delta": 0.01},
        {"patience": 2, "restore_best_weights": True},
        {"patience": 1, "baseline": 1.7},
        {"patience": 2, "start_from_epoch": 4, "restore_best_weights": True},
        {"patience": 1, "mode": "max"},
    ],
    ids=str,
)
def test_early_stopping(script, options):
    both("EarlyStopping", SCRIPTS[script], "val_loss", **options)


@pytest.mark.parametrize("script", SCRIPTS)
def test_early_stopping_finds_the_direction_of_a_metric(script):
    both("EarlyStopping", SCRIPTS[script], "val_accuracy", monitor="val_accuracy", patience=2)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5},
        {"patience": 1, "cooldown": 2},
        {"patience": 1, "min_lr": 0.02, "factor": 0.3},
        {"patience": 1, "mode": "max", "min_delta": 0.05},
    ],
    ids=str,
)
def test_reduce_learning_rate(script, options):
    both("ReduceLROnPlateau", SCRIPTS[script], "val_loss", **options)


@pytest.mark.parametrize("script", ["falling", "rising"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save_best_only": True},
        {"save_best_only": True, "mode": "max"},
        {"save_best_only": True, "initial_value_threshold": 1.9},
        {"save_freq": 4},
        {"save_freq": 2},
    ],
    ids=str,
)
def test_model_checkpoint(script, options, tmp_path):
    path = str(tmp_path / "e{epoch:02d}_{val_loss:.3f}.keras")
    assert both("ModelCheckpoint", SCRIPTS[script], "val_loss", filepath=path, **options)[2]


def test_model_checkpoint_names_batches(tmp_path):
    options = {"filepath": str(tmp_path / "{epoch}-{batch}.weights.h5"), "save_freq": 2}
    both("ModelCheckpoint", LOSSES, "loss", save_weights_only=True, **options)


@pytest.mark.parametrize("schedule", [lambda e, r: r * 0.9, lambda e: 0.1 / (e + 1)])
def test_learning_rate_scheduler(schedule):
    both("LearningRateScheduler", LOSSES, "loss", schedule=schedule)


@pytest.mark.parametrize("options", [{}, {"separator": ";"}, {"append": True}], ids=str)
def test_csv_logger_writes_the_same_rows(options, tmp_path):
    tables = []
    for library in (callbacks, keras.callbacks):
        path = tmp_path / f"{library.__name__}.csv"
        for _ in range(2):
            train(library.CSVLogger(str(path), **options), LOSSES[:3], "loss")
        rows = csv.reader(path.read_text().splitlines(), delimiter=options.get("separator", ","))
        tables.append(list(rows))
    assert tables[0] == tables[1]
    assert len(tables[0]) == (7 if options.get("append") else 4)


def test_terminate_on_nan_stops_where_keras_does():
    values = [1.0, 2.0, float("nan"), 1.0]
    for value in (float("nan"), float("inf")):
        values[2] = value
        stopped = both("TerminateOnNaN", values, "loss")
        assert stopped[3] and len(stopped[0]) == 3


def test_lambda_callback_calls_the_same_hooks():
    records = []
    for library in (callbacks, keras.callbacks):
        record = []
        hooks = {
            name: lambda *args, name=name, record=record, **kwargs: record.append((name, args[:1]))
            for name in ("on_epoch_begin", "on_epoch_end", "on_train_batch_end")
        }
        train(library.LambdaCallback(**hooks), LOSSES[:2], "loss")
        records.append(record)
    assert records[0] == records[1] and len(records[0]) == 10


@pytest.mark.parametrize(("target", "width"), list(itertools.product([1, 9, 10, 1000], [20, 5])))
def test_progbar_shows_the_numbers_of_keras(target, width, capsys):
    texts = []
    for library in (callbacks.Progbar, keras.utils.Progbar):
        bar = library(target, width=width, stateless_metrics=["mean"])
        for step in range(1, min(target, 10) + 1):
            bar.update(step, [("mean", float(step)), ("last", 0.0001 * step)], finalize=False)
        bar.update(target, [("mean", 2.0), ("last", 0.5)])
        texts.append(capsys.readouterr().out.splitlines()[-1].rstrip())
    ours, theirs = (text.split(" - ", 1) for text in texts)
    assert ours[1] == theirs[1] == "mean: 2.0000 - last: 0.5000"
    assert ours[0].startswith(f"{target}/{target} " + "━" * width)
