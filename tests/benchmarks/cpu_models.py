"""The networks of the CPU benchmark, written once, as Keras code: for gpunet and for Keras.

`cpu_torch.py` and `cpu_jax.py` hold the same networks for PyTorch and JAX; that all have equally
many parameters is checked before anything is timed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Workload(NamedTuple):
    """What is trained.

    Attributes:
        title: What tables call it.
        build: Makes the model from the library, gpunet or Keras.
        optimizer: Name of the optimizer and its arguments.
        batch: Samples of a step.
        arrays: Makes the fixed batch, inputs and labels; `None`: the digits, shuffled each epoch.
    """

    title: str
    build: Callable
    optimizer: tuple[str, dict]
    batch: int
    arrays: Callable | None

    def data(self):
        """Returns inputs and labels: one batch, or a whole data set where there is no `arrays`."""
        return self.arrays(np.random.default_rng(0), self.batch) if self.arrays else digits_data()


def digits_data():
    from gpunet.datasets import digits

    (x, y), _ = digits.load_data()
    return x.reshape(-1, 64).astype("float32") / 16, y.astype("int32")


# --------------------------------------------------------------------------------------- networks


def dense(keras, *units):
    layers = keras.layers
    hidden = [layers.Dense(n, activation="relu") for n in units[1:-1]]
    return keras.Sequential([keras.Input((units[0],)), *hidden, layers.Dense(units[-1])])


def lenet(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def resnet(keras):
    layers = keras.layers

    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    def block(x, filters, strides):
        y = layers.ReLU()(convolution(x, filters, 3, strides))
        y = convolution(y, filters, 3)
        if strides > 1:
            x = convolution(x, filters, 1, strides)
        return layers.ReLU()(layers.Add()([x, y]))

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(image, 16, 3))
    for filters in (16, 32, 64):
        for i in range(3):
            x = block(x, filters, 2 if filters > 16 and i == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x))


def gpt(keras, vocabulary=65, block=64, width=128, heads=4, depth=4, tied=False):
    layers = keras.layers

    class Embedding(layers.Layer):
        def __init__(self):
            super().__init__()
            self.tokens = layers.Embedding(vocabulary, width)
            self.places = layers.Embedding(block, width)

        def call(self, x):
            return self.tokens(x) + self.places(keras.ops.arange(block))

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = layers.LayerNormalization(epsilon=1e-5)
            self.attention = layers.MultiHeadAttention(heads, width // heads)
            self.second_norm = layers.LayerNormalization(epsilon=1e-5)
            self.wide = layers.Dense(4 * width, activation="gelu")
            self.narrow = layers.Dense(width)

        def call(self, x):
            y = self.norm(x)
            x = x + self.attention(y, y, use_causal_mask=True)
            return x + self.narrow(self.wide(self.second_norm(x)))

    class TiedHead(layers.Layer):
        def __init__(self, embedding):
            super().__init__()
            self.embedding = embedding

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.embedding.tokens.embeddings))

    text, embedding = keras.Input((block,), dtype="int32"), Embedding()
    x = embedding(text)
    for _ in range(depth):
        x = Block()(x)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    head = TiedHead(embedding) if tied else layers.Dense(vocabulary, use_bias=False)
    return keras.Model(text, head(x))


def lstm(keras, steps=64, features=32, units=128):
    layers = keras.layers
    return keras.Sequential([keras.Input((steps, features)), layers.LSTM(units), layers.Dense(10)])


# ------------------------------------------------------------------------------------------- data


def classes(*shape):
    def arrays(rng, batch):
        x = rng.normal(size=(batch, *shape)).astype("float32")
        return x, rng.integers(0, 10, batch, "int32")

    return arrays


def text(rng, batch):
    characters = rng.integers(0, 65, (batch, 65), "int32")
    return characters[:, :-1].copy(), characters[:, 1:].copy()


WORKLOADS = {
    "digits": Workload(
        "digits MLP 64-64-32-10, batch 32",
        lambda keras: dense(keras, 64, 64, 32, 10),
        ("Adam", {"learning_rate": 1e-3}),
        32,
        None,
    ),
    "mlp": Workload(
        "MLP 784-512-512-10, batch 128",
        lambda keras: dense(keras, 784, 512, 512, 10),
        ("Adam", {"learning_rate": 1e-3}),
        128,
        classes(784),
    ),
    "lenet": Workload(
        "LeNet 28x28, batch 128", lenet, ("Adam", {"learning_rate": 1e-3}), 128, classes(28, 28, 1)
    ),
    "resnet": Workload(
        "ResNet-20 32x32, batch 64",
        resnet,
        ("SGD", {"learning_rate": 0.01, "momentum": 0.9}),
        64,
        classes(32, 32, 3),
    ),
    "gpt": Workload(
        "char GPT 4x128, batch 12x64",
        gpt,
        ("AdamW", {"learning_rate": 1e-3, "weight_decay": 0.1}),
        12,
        text,
    ),
    "lstm": Workload(
        "LSTM 128, batch 64x64", lstm, ("Adam", {"learning_rate": 1e-3}), 64, classes(64, 32)
    ),
}
