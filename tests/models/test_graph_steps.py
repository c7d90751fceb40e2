"""`fit`, `evaluate` and `predict` run as graphs, equal to eager steps bit for bit."""

import warnings

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops
from gpunet.errors import TraceError


def data(samples=50):
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, 6)).astype("float32"), rng.integers(0, 3, samples)


def network(cls=gpunet.Sequential, **options):
    gpunet.utils.set_random_seed(3)
    model = cls(
        [
            gpunet.Input((6,)),
            layers.Dense(8, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def trained(model, **options):
    x, y = data()
    history = model.fit(x, y, batch_size=16, epochs=3, verbose=0, validation_split=0.2, **options)
    return history.history, model.predict(x, batch_size=16, verbose=0), model.get_weights()


def test_graphs_train_as_eager_does(without_kernels):
    history, predictions, weights = trained(network())
    expected = trained(network(run_eagerly=True))
    assert history == expected[0]
    np.testing.assert_array_equal(predictions, expected[1])
    for w, reference in zip(weights, expected[2], strict=True):
        np.testing.assert_array_equal(w, reference)


def test_several_steps_an_execution():
    assert trained(network(steps_per_execution=3))[0] == trained(network())[0]


class Counted(gpunet.Sequential):
    """Counts how often Python runs a step."""

    runs = 0

    def train_step(self, batch):
        type(self).runs += 1
        return super().train_step(batch)


def test_python_runs_a_step_once_for_each_shape_of_batch():
    Counted.runs = 0
    trained(network(Counted))
    assert Counted.runs == 2  # full batches, and the last one
    Counted.runs = 0
    trained(network(Counted, run_eagerly=True))
    assert Counted.runs == 9


class Penalty(layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(x**2))
        return x


def test_losses_that_layers_add_count_and_are_not_kept_from_a_trace():
    x, _ = data(32)
    found = []
    for eager in (False, True):
        gpunet.utils.set_random_seed(3)
        model = gpunet.Sequential([gpunet.Input((6,)), layers.Dense(3), Penalty()])
        model.compile("sgd", "mse", run_eagerly=eager)
        found.append(model.fit(x, np.zeros((32, 3)), verbose=0, epochs=2).history["loss"])
        assert all(loss.numpy() is not None for loss in model.losses)
    assert found[0] == found[1]


class Branching(gpunet.Sequential):
    def train_step(self, batch):
        x, y = batch
        if ops.sum(x) > 1e9:
            raise AssertionError
        return super().train_step((x, y))


def test_a_step_that_cannot_be_traced_runs_eagerly_with_one_warning(without_kernels):
    with pytest.warns(UserWarning, match=r"op by op.*test_graph_steps.py, line \d+: `if ops.sum"):
        history = trained(network(Branching))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trained(network(Branching, run_eagerly=True))[0] == history
        assert trained(network())[0] == history


def test_a_step_that_must_be_a_graph_and_cannot():
    model = network(Branching, jit_compile=True)
    with pytest.raises(TraceError, match=r"line \d+: `if ops.sum"):
        trained(model)


def test_run_eagerly_may_change_at_any_time():
    model = network(Counted)
    x, y = data(32)
    Counted.runs = 0
    for eager, runs in ((False, 1), (True, 3), (False, 3)):
        model.run_eagerly = eager
        model.fit(x, y, batch_size=16, verbose=0)
        assert Counted.runs == runs


def test_what_is_frozen_after_training_stays():
    model = network()
    x, y = data()
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    frozen, free = (model.layers[i].get_weights() for i in (0, 3))
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], frozen[0])
    assert (model.layers[3].get_weights()[0] != free[0]).any()


def test_callbacks_change_the_learning_rate():
    def schedule(epoch, rate):
        return 0.0 if epoch else rate

    model = network()
    x, y = data()
    callback = gpunet.callbacks.LearningRateScheduler(schedule)
    model.fit(x, y, verbose=0, callbacks=[callback])
    before = model.layers[3].get_weights()[0]
    model.fit(x, y, verbose=0, epochs=2, initial_epoch=1, callbacks=[callback])
    np.testing.assert_array_equal(model.layers[3].get_weights()[0], before)


def test_a_step_that_fails_changes_no_variable(monkeypatch):
    model = network()
    x, y = data(16)
    model.train_on_batch(x, y)
    before = [v.numpy().copy() for v in [*model.variables, *model.optimizer.variables]]
    with pytest.raises(gpunet.errors.GpunetError):
        model.train_on_batch(x, y + 7)  # no such class
    for v, value in zip([*model.variables, *model.optimizer.variables], before, strict=True):
        np.testing.assert_array_equal(v, value)


class Valued(gpunet.Model):
    """Its `call` needs the values of its input."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x if float(ops.max(x)) > 0 else -x)


def test_a_model_that_needs_values_runs_op_by_op():
    x, y = data(32)
    model = Valued()
    model.compile("adam", gpunet.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match=r"train_step of valued.* runs op by op.*float\(ops.max"):
        history = model.fit(x, y, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    eager = Valued()
    eager.compile("adam", "mse", run_eagerly=True)
    eager.fit(x, np.zeros((32, 3)), verbose=0)
    strict = Valued()
    strict.compile("adam", "mse", jit_compile=True)
    with pytest.raises(TraceError):
        strict.fit(x, np.zeros((32, 3)), verbose=0)
