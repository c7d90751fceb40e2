"""What a user can do with `fit`, `evaluate`, `predict`, their steps and their callbacks."""

import io
import math
import re

import numpy as np
import pytest

import gpunet
from gpunet import callbacks, layers, losses, metrics, models, ops, optimizers
from gpunet.data import PyDataset
from gpunet.errors import ArgumentError, StateError
from tests.data.torch_like import DataLoader


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


class Restarting:
    """An iterable of batches that is nothing else."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter([(self.x[i : i + 5], self.y[i : i + 5]) for i in range(0, 20, 5)])


KINDS = {
    "arrays": lambda x, y: {"x": x, "y": y, "batch_size": 5},
    "lists": lambda x, y: {"x": x.tolist(), "y": y.tolist(), "batch_size": 5},
    "tensors": lambda x, y: {"x": gpunet.tensor(x), "y": gpunet.tensor(y), "batch_size": 5},
    "generator": lambda x, y: {"x": endless(x, y), "steps_per_epoch": 4},
    "py_dataset": lambda x, y: {"x": Batches(x, y, 5)},
    "workers": lambda x, y: {"x": Batches(x, y, 5, workers=3)},
    "torch": lambda x, y: {"x": DataLoader(x, y, batch_size=5)},
    "iterable": lambda x, y: {"x": Restarting(x, y)},
}


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
    for validation in ((x, y), [x, y], Batches(x, y, 5), DataLoader(x, y, batch_size=5)):
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


# -- losses of nests, and state as nests ---------------------------------------------------------


def two_outputs(structure):
    x = layers.Input((4,))
    a, b = layers.Dense(1, name="first")(x), layers.Dense(1, name="second")(x)
    return models.Model(x, structure(a, b))


def test_a_loss_may_take_several_outputs_together():
    model = two_outputs(lambda a, b: {"a": a, "b": b})

    def difference(y_true, y_pred):
        assert set(y_true) == set(y_pred) == {"a", "b"}
        return ops.mean(ops.square(y_pred["a"] - y_pred["b"]), axis=-1)

    model.compile("sgd", loss=[difference, {"a": "mae"}])
    y = {"a": np.ones((8, 1)), "b": np.ones((8, 1))}
    history = model.fit(X, y, verbose=0).history
    assert set(history) == {"loss", "a_b_loss", "a_loss"}
    assert history["loss"][0] == pytest.approx(history["a_b_loss"][0] + history["a_loss"][0], 1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"a": {"c": "mse"}}, "can't be found in the model's output"),
        ({"c": "mse"}, "can't be found"),
        ({"a": "mse", "b": ["mse", "other"]}, "other"),
    ],
)
def test_losses_for_outputs_that_do_not_exist(loss, message):
    model = two_outputs(lambda a, b: {"a": a, "b": b})
    model.compile("sgd", loss)
    with pytest.raises(ArgumentError, match=message):
        model.fit(X, {"a": np.ones((8, 1)), "b": np.ones((8, 1))}, verbose=0)


def test_targets_must_match_the_outputs():
    model = two_outputs(lambda a, b: [a, b])
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="different structures"):
        model.fit(X, [np.ones((8, 1))] * 3, verbose=0)
    model.fit(X, {"first": np.ones((8, 1)), "second": np.ones((8, 1))}, verbose=0)


def test_one_loss_for_all_outputs():
    model = two_outputs(lambda a, b: (a, b))
    model.compile("sgd", "mse", metrics=[["mae"], None])
    history = model.fit(X, (np.ones((8, 1)), np.ones((8, 1))), verbose=0).history
    assert set(history) == {"loss", "first_loss", "second_loss", "first_mae"}


def test_sample_weights_by_output():
    model = two_outputs(lambda a, b: {"a": a, "b": b})
    model.compile("sgd", {"a": "mse", "b": "mse"})
    y = {"a": np.ones((8, 1)), "b": np.ones((8, 1))}
    full = model.evaluate(X, y, verbose=0, return_dict=True)
    none = model.evaluate(
        X, y, sample_weight={"a": np.ones(8), "b": np.zeros(8)}, verbose=0, return_dict=True
    )
    assert none["b_loss"] == 0 and none["a_loss"] == pytest.approx(full["a_loss"])


def test_state_trees():
    model = compiled(optimizer="adam", metrics=["accuracy"])
    model.fit(X, Y, verbose=0)
    state = model.get_state_tree("numpy_array")
    assert set(state) == {
        "trainable_variables",
        "non_trainable_variables",
        "optimizer_variables",
        "metrics_variables",
    }
    kernel = next(iter(state["trainable_variables"].values()))
    assert isinstance(kernel, dict)
    other = compiled(optimizer="adam")
    with pytest.raises(ArgumentError, match="no such variable"):
        other.set_state_tree(state)
    before = model.get_weights()
    model.set_weights([0 * w for w in before])
    model.set_state_tree(state)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ArgumentError, match="value_format"):
        model.get_state_tree("list")
    with pytest.raises(ArgumentError, match="Unknown"):
        model.set_state_tree({"weights": {}})
