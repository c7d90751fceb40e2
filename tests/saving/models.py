"""The models of these tests, made with gpunet or with Keras: pass the namespace."""

import numpy as np


def sequential(k):
    return k.Sequential(
        [
            k.Input((8, 8, 1)),
            k.layers.Conv2D(4, 3, activation="relu", kernel_regularizer=k.regularizers.L2(1e-3)),
            k.layers.BatchNormalization(),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dropout(0.0),
            k.layers.Dense(3, activation="softmax", kernel_constraint=k.constraints.MaxNorm(2.0)),
        ]
    )


def functional(k):
    """Two inputs, a shared layer, and ops between layers."""
    a, b = k.Input((6,), name="a"), k.Input((6,), name="b")
    shared = k.layers.Dense(4, activation="tanh", name="shared")
    x = k.layers.Concatenate()([shared(a), shared(b)])
    x = k.layers.LayerNormalization()(x) + k.layers.Dense(8)(x)
    return k.Model([a, b], k.layers.Dense(2)(x))


def nested(k):
    """Models and layers within models and layers."""
    inner = k.Sequential([k.Input((5, 4)), k.layers.Dense(6), k.layers.Activation("relu")])
    x = inputs = k.Input((5, 4))
    x = inner(x)
    x = k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(x)
    x = k.layers.MultiHeadAttention(2, 2)(x, x)
    x = k.layers.GRU(3)(x)
    return k.Model(inputs, k.Sequential([k.layers.Dense(3), k.layers.Dense(2)])(x))


def subclassed(k):
    """State in attributes, lists, lists of lists and dicts; private attributes too."""

    @k.saving.register_keras_serializable("saving_tests", name="Subclassed")
    class Subclassed(k.Model):
        def __init__(self, width=4, **kwargs):
            super().__init__(**kwargs)
            self.width = width
            self.blocks = [k.layers.Dense(width), k.layers.Dense(5), [k.layers.Dense(width)]]
            self.by_name = {
                "x": k.layers.Dense(3, activation="tanh"),
                "y": k.layers.Dense(3, use_bias=False),
            }
            self.norm = k.layers.BatchNormalization()
            self._private = k.layers.Dense(2)

        def call(self, x, training=False):
            x = self.blocks[2][0](self.blocks[1](self.blocks[0](x)))
            x = self.norm(self.by_name["y"](self.by_name["x"](x)), training=training)
            return self._private(x)

        def get_config(self):
            return {"width": self.width, "name": self.name}

    model = Subclassed()
    model(np.zeros((1, 6), "float32"))
    return model


def data(model, n=16, seed=0):
    """Inputs and targets for a model, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    shapes = [(6,)] if not hasattr(model, "input_shape") else model.input_shape
    if isinstance(shapes, tuple):
        shapes = [shapes]
    inputs = [
        rng.normal(size=(n, *(d for d in shape if d is not None))).astype("float32")
        for shape in shapes
    ]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    width = np.asarray(model.predict(inputs, verbose=0)).shape[-1]
    return inputs, rng.normal(size=(n, width)).astype("float32")


MODELS = {f.__name__: f for f in (sequential, functional, nested, subclassed)}


def values(model):
    """The values of all weights, and of the optimizer, as a list of NumPy arrays."""
    variables = list(model.weights)
    if getattr(model, "optimizer", None) is not None:
        variables += list(model.optimizer.variables)
    return [np.array(v.numpy()) for v in variables]


def randomize(model, seed=1):
    """Gives every weight a value of its own."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        v.assign(rng.uniform(0.1, 1.0, v.shape).astype("float32"))
