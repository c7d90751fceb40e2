"""Training against Keras: the same weights and data give the same curves in every kind of call."""

import keras
import numpy as np
import pytest

import gpunet

TOLERANCE = 1e-4


def network(library):
    return library.Sequential(
        [
            library.layers.Input((6,)),
            library.layers.Dense(8, activation="relu"),
            library.layers.Dense(3, activation="softmax"),
        ]
    )


def convolutional(library):
    return library.Sequential(
        [
            library.layers.Input((6, 6, 2)),
            library.layers.Conv2D(4, 3, activation="relu"),
            library.layers.BatchNormalization(),
            library.layers.MaxPooling2D(),
            library.layers.Flatten(),
            library.layers.Dense(3),
        ]
    )


def regularized(library):
    l2 = library.regularizers.L2(0.01)
    return library.Sequential(
        [
            library.layers.Input((6,)),
            library.layers.Dense(5, "tanh", kernel_regularizer=l2, activity_regularizer=l2),
            library.layers.Dense(3, "softmax", kernel_constraint="unit_norm"),
        ]
    )


def branched(library):
    """Two inputs, a shared layer, an inner model, two outputs."""
    layers = library.layers
    a, b = layers.Input((6,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(5, "relu", name="shared")
    x = layers.Dense(5, name="widen")(b)
    joined = layers.Concatenate(name="join")([shared(shared(layers.Dense(5)(a))), shared(x)])
    inner_input = layers.Input((10,))
    inner = library.Model(inner_input, layers.Dense(4, "tanh")(inner_input), name="inner")
    features = inner(joined)
    outputs = [
        layers.Dense(3, "softmax", name="label")(features),
        layers.Dense(1, name="size")(features),
    ]
    return library.Model([a, b], outputs)


class Namespace:
    """What both libraries call the same, without the public names that only come later."""

    def __init__(self, name):
        if name == "keras":
            self.Sequential, self.Model = keras.Sequential, keras.Model
            self.layers, self.regularizers = keras.layers, keras.regularizers
            self.optimizers, self.losses, self.metrics = (
                keras.optimizers,
                keras.losses,
                keras.metrics,
            )
        else:
            from gpunet import layers, losses, metrics, models, optimizers, regularizers

            self.Sequential, self.Model = models.Sequential, models.Model
            self.layers, self.regularizers, self.losses = layers, regularizers, losses
            self.optimizers, self.metrics = optimizers, metrics


OURS, KERAS = Namespace("gpunet"), Namespace("keras")


def pair(make):
    ours, theirs = make(OURS), make(KERAS)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def data(*shape, count=50, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, *shape)).astype("float32")
    return x, rng.integers(0, classes, count)


def assert_same_logs(ours, theirs):
    assert list(ours) == list(theirs)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], TOLERANCE, TOLERANCE, err_msg=name)


def compare(make, fit, compile_with, test=None):
    """Compiles, trains, evaluates and predicts with both; everything must agree."""
    logs, weights, results, predictions = [], [], [], []
    for model, library in zip(pair(make), (OURS, KERAS), strict=True):
        model.compile(**compile_with(library))
        options = {"verbose": 0, "shuffle": False, "epochs": 3, "batch_size": 16, **fit}
        logs.append(model.fit(**options).history)
        weights.append(model.get_weights())
        x, y = test or (fit["x"], fit["y"])
        results.append(model.evaluate(x, y, batch_size=16, verbose=0))
        predictions.append(model.predict(x, batch_size=16, verbose=0))
    assert_same_logs(*logs)
    np.testing.assert_allclose(*results, TOLERANCE, TOLERANCE)
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, 10 * TOLERANCE, TOLERANCE)
    for ours, theirs in zip(*map(keras.tree.flatten, predictions), strict=True):
        np.testing.assert_allclose(ours, theirs, 10 * TOLERANCE, TOLERANCE)
    return logs[0]


OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda o: o.Adam(0.01),
    "adamw": lambda o: o.AdamW(0.01, weight_decay=0.01, clipnorm=1.0),
    "rmsprop": lambda o: o.RMSprop(0.01, use_ema=True, ema_momentum=0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_dense_network(optimizer):
    x, y = data(6)
    logs = compare(
        network,
        {"x": x, "y": y, "validation_split": 0.2},
        lambda library: {
            "optimizer": OPTIMIZERS[optimizer](library.optimizers),
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
        },
    )
    assert set(logs) == {"accuracy", "loss", "val_accuracy", "val_loss"}


def test_convolutional_network():
    x, y = data(6, 6, 2)
    compare(
        convolutional,
        {"x": x, "y": y},
        lambda library: {
            "optimizer": library.optimizers.SGD(0.05, momentum=0.5),
            "loss": library.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": ["acc"],
        },
    )


def test_penalties_and_constraints():
    x, y = data(6)
    compare(
        regularized,
        {"x": x, "y": np.eye(3, dtype="float32")[y]},
        lambda library: {
            "optimizer": library.optimizers.Adam(0.02),
            "loss": "categorical_crossentropy",
            "metrics": ["accuracy", library.metrics.TopKCategoricalAccuracy(k=2)],
        },
    )


BRANCHED_LOSSES = {
    "list": ["sparse_categorical_crossentropy", "mse"],
    "dict": {"size": "mae", "label": "sparse_categorical_crossentropy"},
    "one_output": [None, "mse"],
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
@pytest.mark.parametrize("loss", BRANCHED_LOSSES)
def test_several_inputs_and_outputs(loss):
    (a, label), (b, _) = data(6), data(4, seed=1)
    size = np.abs(a).sum(axis=1, keepdims=True)
    x, y = [a, b], [label, size]
    compare(
        branched,
        {"x": x, "y": y},
        lambda library: {
            "optimizer": library.optimizers.SGD(0.01),
            "loss": BRANCHED_LOSSES[loss],
            "loss_weights": None if loss == "one_output" else [0.5, 2.0],
            "metrics": {"label": ["accuracy"], "size": "mae"},
        },
        test=(x, y),
    )


def test_class_weights():
    x, y = data(6)
    compare(
        network,
        {"x": x, "y": y, "class_weight": {0: 0.5, 2: 3.0}},
        lambda library: {
            "optimizer": "sgd",
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
            "weighted_metrics": ["accuracy"],
        },
    )


def test_sample_weights_and_validation_data_with_weights():
    x, y = data(6)
    weight = np.random.default_rng(2).uniform(0.1, 2, 50).astype("float32")
    compare(
        network,
        {
            "x": x,
            "y": y,
            "sample_weight": weight,
            "validation_data": (x[:20], y[:20], weight[:20]),
            "validation_batch_size": 7,
            "validation_freq": 2,
        },
        lambda library: {
            "optimizer": "adam",
            "loss": "sparse_categorical_crossentropy",
            "weighted_metrics": ["accuracy"],
        },
    )


@pytest.mark.parametrize("execution", [1, 3])
def test_steps_per_epoch_and_execution(execution):
    x, y = data(6)
    compare(
        network,
        {"x": x, "y": y, "steps_per_epoch": 3, "batch_size": 8, "epochs": 2},
        lambda library: {
            "optimizer": "sgd",
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
            "steps_per_execution": execution,
        },
    )


def test_binary_labels_choose_binary_metrics():
    def binary(library):
        layers = library.layers
        return library.Sequential([layers.Input((6,)), layers.Dense(1, activation="sigmoid")])

    x, y = data(6, classes=2)
    compare(
        binary,
        {"x": x, "y": y},
        lambda library: {
            "optimizer": "sgd",
            "loss": "binary_crossentropy",
            "metrics": ["accuracy", library.metrics.AUC(name="auc"), "mse"],
        },
    )


def test_on_batch_methods():
    x, y = data(6)
    ours, theirs = pair(network)
    for model, library in ((ours, OURS), (theirs, KERAS)):
        model.compile(
            library.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
    for _ in range(3):
        np.testing.assert_allclose(
            ours.train_on_batch(x, y), theirs.train_on_batch(x, y), TOLERANCE
        )
        np.testing.assert_allclose(ours.test_on_batch(x, y), theirs.test_on_batch(x, y), TOLERANCE)
    assert ours.train_on_batch(x, y, class_weight={0: 2.0}, return_dict=True).keys() == {
        "loss",
        "accuracy",
    }
    assert isinstance(ours.predict_on_batch(x), np.ndarray)


def test_the_seed_decides_the_order_of_shuffled_data():
    x, y = data(6)
    weights = pair(network)[0].get_weights()

    def curve(seed):
        model = network(OURS)
        model.set_weights(weights)
        model.compile(OURS.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        np.random.seed(seed)
        return model.fit(x, y, epochs=2, batch_size=8, verbose=0).history["loss"]

    assert curve(5) == curve(5) != curve(6)


def test_gradient_accumulation_and_gpunet_tensors():
    x, y = data(6)
    logs = compare(
        network,
        {"x": x, "y": y},
        lambda library: {
            "optimizer": library.optimizers.Adam(0.01, gradient_accumulation_steps=2),
            "loss": "sparse_categorical_crossentropy",
        },
    )
    model = pair(network)[0]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(gpunet.tensor(x), gpunet.tensor(y), verbose=0)
    assert set(logs) == {"loss"}
