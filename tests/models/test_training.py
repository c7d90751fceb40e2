"""What a user can do with `fit`, `evaluate` and `predict`, and what happens after a mistake."""

import io
import math
import re

import numpy as np
import pytest

import gpunet
from gpunet import callbacks, layers, losses, metrics, models, ops, optimizers
from gpunet.data import PyDataset
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


# -- kinds of data -------------------------------------------------------------------------------


class Batches(PyDataset):
    def __init__(self, x, y, size, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return math.ceil(len(self.x) / self.size)

    def __getitem__(self, i):
        rows = slice(i * self.size, (i + 1) * self.size)
        return self.x[rows], self.y[rows]


def endless(x, y):
    while True:
        for start in range(0, len(x), 5):
            yield x[start : start + 5], y[start : start + 5]


def torch_loader(x, y):
    import torch

    dataset = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(dataset, batch_size=5)


KINDS = {
    "arrays": lambda x, y: {"x": x, "y": y, "batch_size": 5},
    "lists": lambda x, y: {"x": x.tolist(), "y": y.tolist(), "batch_size": 5},
    "tensors": lambda x, y: {"x": gpunet.tensor(x), "y": gpunet.tensor(y), "batch_size": 5},
    "generator": lambda x, y: {"x": endless(x, y), "steps_per_epoch": 4},
    "py_dataset": lambda x, y: {"x": Batches(x, y, 5)},
    "workers": lambda x, y: {"x": Batches(x, y, 5, workers=3)},
    "torch": lambda x, y: {"x": torch_loader(x, y)},
    "tuples": lambda x, y: {"x": [(x[i : i + 5], y[i : i + 5]) for i in range(0, 20, 5)].__iter__},
}
KINDS["tuples"] = lambda x, y: {"x": Restarting(x, y)}


class Restarting:
    """An iterable of batches that is nothing else."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter([(self.x[i : i + 5], self.y[i : i + 5]) for i in range(0, 20, 5)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_trains_alike(kind, data):
    reference = compiled(metrics=["accuracy"])
    model = compiled(metrics=["accuracy"])
    model.set_weights(reference.get_weights())
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    wanted = reference.fit(**KINDS["arrays"](*data), **options).history
    found = model.fit(**KINDS[kind](*data), **options).history
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    predictions = model.predict(data[0], batch_size=7, verbose=0)
    np.testing.assert_allclose(predictions, reference.predict(data[0], verbose=0), rtol=1e-4)


def test_data_frames(data):
    class Frame:
        def __init__(self, values):
            self.values, self.shape = values, values.shape

        def __getitem__(self, i):
            return self.values[i]

        def to_numpy(self):
            return self.values

    history = compiled().fit(Frame(data[0]), Frame(data[1]), verbose=0)
    assert math.isfinite(history.history["loss"][0])


def test_validation_from_every_kind_of_data(data):
    x, y = data
    model = compiled()
    logs = []
    for validation in ((x, y), [x, y], Batches(x, y, 5), torch_loader(x, y)):
        logs.append(model.evaluate(*_as_arguments(validation), verbose=0))
        model.fit(x, y, validation_data=validation, validation_batch_size=5, verbose=0)
    assert np.allclose(logs[0], logs[0])
    history = model.fit(x, y, validation_data=endless(x, y), validation_steps=2, verbose=0)
    assert "val_loss" in history.history


def _as_arguments(validation):
    return validation if isinstance(validation, (tuple, list)) else (validation,)


def test_predict_joins_nests_of_outputs(rng):
    a = layers.Input((3,), name="a")
    model = models.Model(a, {"sum": ops.sum(a, axis=1), "pair": (a * 2, a + 1)})
    x = rng.normal(size=(70, 3)).astype("float32")
    found = model.predict(x, batch_size=8, verbose=0)
    assert found["sum"].shape == (70,) and type(found["pair"]) is tuple
    np.testing.assert_allclose(found["pair"][1], x + 1, rtol=1e-6)


def test_predict_does_not_need_compile(data):
    assert network().predict(data[0], verbose=0).shape == (20, 3)


# -- one's own steps -----------------------------------------------------------------------------


def test_own_train_step(data):
    class Mine(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, "softmax")
            self.seen = metrics.Mean(name="seen")

        def call(self, x):
            return self.dense(x)

        def train_step(self, batch):
            x, y = batch
            with gpunet.GradientTape() as tape:
                loss = self.compute_loss(x=x, y=y, y_pred=self(x))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            self.seen.update_state(x.shape[0])
            return {"loss": loss, "seen": self.seen.result()}

    model = Mine()
    model.compile(optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    history = model.fit(*data, epochs=5, batch_size=20, verbose=0).history
    assert history["seen"] == [20.0] * 5 and history["loss"][-1] < history["loss"][0]
    assert [metric.name for metric in model.metrics] == ["loss", "seen"]


def test_own_train_step_in_the_style_of_metrics(data):
    class Mine(models.Model):
        def train_step(self, batch):
            x, y = batch
            with gpunet.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    inputs = layers.Input((4,))
    model = Mine(inputs, layers.Dense(3, "softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    assert set(model.fit(*data, verbose=0).history) == {"loss", "accuracy"}
    assert isinstance(model, models.Functional)


def test_own_loss_and_metrics_of_layers(data):
    class Penalty(layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = metrics.Mean(name="mean_activation")

        def call(self, x):
            self.add_loss(0.5 * ops.mean(x * x))
            self.mean.update_state(ops.mean(x))
            return x

    model = models.Sequential([layers.Input((4,)), layers.Dense(3), Penalty()])
    model.compile("sgd")
    history = model.fit(*data, epochs=4, verbose=0).history
    assert set(history) == {"loss", "mean_activation"}
    assert history["loss"][-1] < history["loss"][0]
    penalty = 0.5 * np.mean(model.predict(data[0], verbose=0) ** 2)
    assert model.evaluate(*data, verbose=0, return_dict=True)["loss"] == pytest.approx(
        penalty, 1e-4
    )


def test_own_compute_loss_without_the_training_argument(data):
    class Mine(models.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.mean(y_pred) * 0 + 7.0

    inputs = layers.Input((4,))
    model = Mine(inputs, layers.Dense(1)(inputs))
    model.compile("sgd")
    assert model.fit(*data, verbose=0).history["loss"] == [7.0]


def test_trainer_mixed_into_a_layer(data):
    class Trainable(models.Trainer, layers.Dense):
        def __init__(self, units):
            layers.Dense.__init__(self, units, activation="softmax")
            models.Trainer.__init__(self)

    model = Trainable(3)
    model.compile(optimizers.SGD(0.5), losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    history = model.fit(*data, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and model.built


def test_a_model_without_weights_can_be_fitted(data):
    model = models.Sequential([layers.Input((4,)), layers.Rescaling(2.0)])
    model.compile("sgd", "mse")
    assert len(model.fit(data[0], data[0], verbose=0).history["loss"]) == 1


def test_frozen_layers_keep_their_weights(data):
    model = network()
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    model.fit(*data, verbose=0)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[2], after[2])


def test_mixed_precision_scales_the_loss(data):
    model = models.Sequential(
        [layers.Input((4,)), layers.Dense(3, "softmax", dtype="mixed_float16")], name="mixed"
    )
    model.dtype_policy = "mixed_float16"
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    history = model.fit(*data, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.get_compile_config()["optimizer"]["class_name"] == "SGD"


# -- callbacks in training -----------------------------------------------------------------------


class Recorder(callbacks.Callback):
    def __init__(self):
        self.calls = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.calls.append(name)
        return object.__getattribute__(self, name)


def test_hooks_are_called_in_order(data):
    recorder = Recorder()
    compiled().fit(
        *data, batch_size=10, validation_data=data, callbacks=[recorder], verbose=0, epochs=1
    )
    batch = ["on_train_batch_begin", "on_train_batch_end"]
    test = ["on_test_begin", "on_test_batch_begin", "on_test_batch_end"]
    assert recorder.calls == [
        "on_train_begin",
        "on_epoch_begin",
        *batch,
        *batch,
        *test,
        *test[1:],
        "on_test_end",
        "on_epoch_end",
        "on_train_end",
    ]


def test_batch_logs_are_running_averages_as_floats(data):
    seen = []
    compiled(metrics=["accuracy"]).fit(
        *data,
        batch_size=5,
        shuffle=False,
        verbose=0,
        callbacks=[callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(logs))],
    )
    assert len(seen) == 4 and all(type(v) is float for logs in seen for v in logs.values())
    assert all(set(logs) == {"loss", "accuracy"} for logs in seen)


def test_a_callback_can_stop_the_training(data):
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    history = compiled().fit(*data, epochs=5, batch_size=5, callbacks=Stop(), verbose=0)
    assert history.epoch == [0]


def test_early_stopping_restores_the_best_weights(data):
    model = compiled(optimizer=optimizers.SGD(20.0))
    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = model.fit(*data, epochs=30, callbacks=[stop], verbose=0)
    assert len(history.epoch) < 30
    assert stop.best == min(history.history["loss"])


def test_learning_rate_callbacks_note_the_rate(data):
    model = compiled()
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(*data, epochs=3, callbacks=[schedule], verbose=0)
    np.testing.assert_allclose(history.history["learning_rate"], [0.005, 0.0025, 0.00125])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.00125)


def test_moving_averages_are_swapped_in_for_validation(data):
    model = compiled(optimizer=optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))
    swap = callbacks.SwapEMAWeights()
    model.fit(*data, epochs=2, validation_data=data, callbacks=[swap], verbose=0)
    averages = [v.numpy() for v in model.optimizer._model_variables_moving_average]
    for weight, average in zip(model.get_weights(), averages, strict=True):
        np.testing.assert_allclose(weight, average, rtol=1e-6)
    with pytest.raises(StateError, match="use_ema"):
        compiled().fit(*data, validation_data=data, callbacks=[swap], verbose=0)


def test_the_history_is_the_models_too(data):
    model = compiled()
    history = model.fit(*data, epochs=2, verbose=0)
    assert model.history is history and history.epoch == [0, 1]
    again = model.fit(*data, initial_epoch=1, epochs=3, verbose=0)
    assert again.epoch == [1, 2]


# -- what is printed -----------------------------------------------------------------------------


def test_the_progress_bar_in_a_file_has_one_line_an_epoch(data, capsys):
    compiled(metrics=["accuracy"]).fit(*data, epochs=2, batch_size=5, validation_data=data)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2" and len(lines) == 4
    number = r"\d+\.\d{4}(e-\d+)?"
    pattern = (
        rf"4/4 ━{{20}} \d+s \d+[mu]?s/step - accuracy: {number} - loss: {number} - "
        rf"val_accuracy: {number} - val_loss: {number}"
    )
    assert re.fullmatch(pattern, lines[1])


def test_verbose_two_prints_one_line_an_epoch(data, capsys):
    model = compiled()
    model.fit(*data, epochs=1, verbose=2)
    model.evaluate(*data, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.match(r"1/1 - 0s - \d+[mu]s/step - loss: ", line) for line in lines)
    model.fit(*data, verbose=0)
    assert capsys.readouterr().out == ""


def test_a_terminal_line_is_rewritten(data, monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    bar = callbacks.Progbar(3, interval=0)
    for step in range(1, 4):
        bar.update(step, [("loss", 1.0)])
    assert terminal.getvalue().count("\r") == 3 and terminal.getvalue().count("\n") == 1


# -- mistakes ------------------------------------------------------------------------------------

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
    with pytest.warns(UserWarning, match="loss is nan"):
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
