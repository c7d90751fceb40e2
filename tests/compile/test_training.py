"""Twenty training steps op by op, of a replayed trace and of `fit`: the same losses and weights.

Without C++ kernels all three have the same bits. With them results differ in the last bits, which
twenty steps let grow a little; the bounds are some ten times what was seen.
"""

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops

STEPS = 20
BOUNDS = {"float32": (2e-5, 5e-5), "mixed": (1e-3, 1e-3)}  # relative of losses, of weights


# -- models ---------------------------------------------------------------------------------------
#
# Each returns a model, its optimizer, inputs and labels. `small` is what the emulator gets. The
# optimizers' epsilon is not tiny: where the true gradient is zero, such as that of a bias before a
# normalization, Adam would make a whole step of the rounding errors' sign.


def mlp(rng, small=False):
    units = [layers.Dense(n, activation="relu") for n in ((3,) if small else (16, 8))]
    model = gpunet.Sequential([gpunet.Input((6,)), *units, layers.Dropout(0.2), layers.Dense(3)])
    return model, gpunet.optimizers.Adam(1e-2, epsilon=1e-3), rng.normal(size=(8, 6)), (8,)


def cnn(rng, small=False):
    model = gpunet.Sequential(
        [
            gpunet.Input((6, 6, 1) if small else (10, 10, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            *([] if small else [layers.Conv2D(6, 3, activation="relu")]),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(3),
        ]
    )
    shape = (2, 6, 6, 1) if small else (8, 10, 10, 2)
    optimizer = gpunet.optimizers.Adam(1e-2, epsilon=1e-3)
    return model, optimizer, rng.normal(size=shape), shape[:1]


def resnet(rng, small=False):
    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = gpunet.Input((4, 4, 3) if small else (8, 8, 3))
    x = layers.ReLU()(convolution(image, 4, 3))
    for filters, strides in ((4, 1), (8, 2)) if small else ((4, 1), (8, 2), (12, 2)):
        y = layers.ReLU()(convolution(x, filters, 3, strides))
        y = convolution(y, filters, 3)
        x = convolution(x, filters, 1, strides) if strides > 1 else x
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    model = gpunet.Model(image, layers.Dense(3)(x))
    shape = (2, 4, 4, 3) if small else (8, 8, 8, 3)
    return model, gpunet.optimizers.SGD(0.05, momentum=0.9), rng.normal(size=shape), shape[:1]


class Block(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.norms = [layers.LayerNormalization(epsilon=1e-5) for _ in range(2)]
        self.attention = layers.MultiHeadAttention(2, width // 2, dropout=0.1)
        self.wide = layers.Dense(4 * width, activation="gelu")
        self.narrow = layers.Dense(width)
        self.dropout = layers.Dropout(0.1)

    def call(self, x, training=False):
        y = self.norms[0](x)
        x = x + self.attention(y, y, use_causal_mask=True, training=training)
        y = self.narrow(self.wide(self.norms[1](x)))
        return x + self.dropout(y, training=training)


class Embedding(layers.Layer):
    def __init__(self, vocabulary, length, width):
        super().__init__()
        self.length = length
        self.tokens = layers.Embedding(vocabulary, width)
        self.places = layers.Embedding(length, width)

    def call(self, x):
        return self.tokens(x) + self.places(ops.arange(self.length))


def gpt(rng, small=False):
    length, width, depth = (3, 4, 1) if small else (6, 16, 2)
    text = gpunet.Input((length,), dtype="int32")
    x = Embedding(3, length, width)(text)
    for _ in range(depth):
        x = Block(width)(x)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    model = gpunet.Model(text, layers.Dense(3, use_bias=False)(x))
    optimizer = gpunet.optimizers.AdamW(1e-2, weight_decay=0.1, epsilon=1e-3, clipnorm=1.0)
    shape = (2 if small else 4, length)
    return model, optimizer, rng.integers(0, 3, shape, "int32"), shape


def lstm(rng, small=False):
    length = 2 if small else 6
    model = gpunet.Sequential(
        [gpunet.Input((length, 4)), layers.LSTM(5, dropout=0.2), layers.Dense(3)]
    )
    shape = (4, length, 4)
    return model, gpunet.optimizers.RMSprop(1e-2, epsilon=1e-3), rng.normal(size=shape), shape[:1]


MODELS = [mlp, cnn, resnet, gpt, lstm]


def made(build, small=False, **options):
    """A compiled model with its batch; equal each time."""
    gpunet.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    model, optimizer, x, labels = build(rng, small)
    loss = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **options)
    x = x.astype("float32") if x.dtype.kind == "f" else x
    return model, x, rng.integers(0, 3, labels)


# -- three ways to train --------------------------------------------------------------------------


def eager(model, x, y, steps):
    model.run_eagerly = True
    return compiled(model, x, y, steps)


def compiled(model, x, y, steps):
    """One batch each epoch: the losses of the history are those of the steps."""
    history = model.fit(x, y, batch_size=len(x), epochs=steps, shuffle=False, verbose=0)
    return history.history["loss"]


def replayed(model, x, y, steps):
    x, y = gpunet.tensor(x), gpunet.tensor(y)
    model._symbolic_build(data_batch=(x, y))
    graph = gpunet.trace(model._lazy_train_step, (x, y))
    losses = []
    for _ in range(steps):
        model.reset_metrics()
        graph(x, y)
        losses.append(float(model.get_metrics_result()["loss"]))
    return losses


def state(model):
    """Everything that training changed: weights, statistics, seeds and slots of the optimizer."""
    return [v.numpy() for v in [*model.variables, *model.optimizer.variables]]


def assert_same(found, expected, bounds=None):
    """Losses and states: bit for bit, or within bounds (of losses, of weights)."""
    (losses, values), (expected_losses, expected_values) = found, expected
    if bounds is None:
        np.testing.assert_array_equal(losses, expected_losses)
    else:
        np.testing.assert_allclose(losses, expected_losses, rtol=bounds[0], atol=bounds[0])
    for value, reference in zip(values, expected_values, strict=True):
        assert (value.shape, value.dtype) == (reference.shape, reference.dtype)
        if bounds is None or value.dtype.kind != "f":
            np.testing.assert_array_equal(value, reference)
        else:
            scale = max(1.0, float(np.abs(reference).max(initial=0)))
            np.testing.assert_allclose(value, reference, rtol=0, atol=bounds[1] * scale)


def outcome(way, build, steps=STEPS, small=False, **options):
    model, x, y = made(build, small, **options)
    losses = way(model, x, y, steps)
    return losses, state(model)


@pytest.mark.parametrize("build", MODELS)
def test_twenty_steps(build, kernels):
    expected = outcome(eager, build)
    assert expected[0][-1] < expected[0][0]
    assert_same(outcome(compiled, build), expected, BOUNDS["float32"] if kernels else None)
    if not kernels:
        assert_same(outcome(replayed, build), expected)


@pytest.mark.parametrize("build", MODELS)
def test_steps_on_the_emulator(build):
    with gpunet.device("emulator"):
        found = [outcome(way, build, steps=4, small=True) for way in (eager, compiled)]
    assert_same(found[1], found[0])


def test_a_second_compiled_run_has_the_same_bits(kernels):
    assert_same(outcome(compiled, gpt), outcome(compiled, gpt))


# -- dropout --------------------------------------------------------------------------------------


def test_dropout_masks_are_those_of_eager(kernels):
    """The output is the mask itself: the weights are ones."""
    masks = []
    for run_eagerly in (True, False):
        gpunet.utils.set_random_seed(7)
        dropout = layers.Dropout(0.5)
        f = dropout.__call__ if run_eagerly else gpunet.function(dropout.__call__)
        ones = gpunet.tensor(np.ones((5, 9), "float32"))
        masks.append([f(ones, training=True).numpy() for _ in range(3)])
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0][0] != masks[0][1]).any()


# -- mixed precision ------------------------------------------------------------------------------


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request):
    gpunet.dtype_policies.set_dtype_policy(request.param)
    with np.errstate(over="ignore", invalid="ignore"):  # a step that overflows is left out
        yield request.param
    gpunet.dtype_policies.set_dtype_policy("float32")


@pytest.mark.parametrize("build", [mlp, cnn, gpt, lstm])
def test_mixed_precision(build, policy, kernels):
    expected = outcome(eager, build, steps=5)
    assert_same(outcome(compiled, build, 5), expected, BOUNDS["mixed"] if kernels else None)
    if not kernels:
        assert_same(outcome(replayed, build, 5), expected)
    scales = policy == "mixed_float16"
    model = made(build)[0]
    assert isinstance(model.optimizer, gpunet.optimizers.LossScaleOptimizer) == scales
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_a_step_that_overflows_is_left_out(policy, kernels):
    found = []
    for way in (eager, compiled, replayed):
        model, x, y = made(mlp)
        way(model, x, y, 1)
        before = [v.numpy().copy() for v in model.trainable_variables]
        model.optimizer.dynamic_scale.assign(2.0**40)  # its gradients are infinite in float16
        way(model, x, y, 1)
        for v, value in zip(model.trainable_variables, before, strict=True):
            np.testing.assert_array_equal(v, value)
        assert model.optimizer.dynamic_scale.numpy() == 2.0**39
        assert model.optimizer.iterations.numpy() == 1
        model.optimizer.dynamic_scale.assign(2.0**10)
        way(model, x, y, 2)
        assert model.optimizer.iterations.numpy() == 3
        found.append(state(model))
    for values in found[1:]:
        assert_same(([], values), ([], found[0]), BOUNDS["mixed"] if kernels else None)


def test_the_loss_scale_grows_in_a_graph():
    scales = []
    for run_eagerly in (True, False):
        model, x, y = made(mlp, run_eagerly=run_eagerly)
        inner = gpunet.optimizers.SGD(0.01)
        optimizer = gpunet.optimizers.LossScaleOptimizer(inner, 8.0, dynamic_growth_steps=2)
        model.compile(optimizer, model.loss, run_eagerly=run_eagerly)
        scales.append([])
        for _ in range(5):
            compiled(model, x, y, 1)
            scales[-1].append(float(optimizer.dynamic_scale.numpy()))
    assert scales[0] == scales[1] == [8, 16, 16, 32, 32]


# -- how steps run --------------------------------------------------------------------------------


class Clipped(gpunet.Sequential):
    """A training of its own: gradients limited one by one, twice the loss, a metric of its own."""

    traced = 0

    def train_step(self, data):
        type(self).traced += 1
        x, y = data
        with gpunet.GradientTape() as tape:
            loss = 2 * self.compute_loss(y=y, y_pred=self(x, training=True))
        variables = self.trainable_variables
        gradients = [ops.clip(g, -0.1, 0.1) for g in tape.gradient(loss, variables)]
        self.optimizer.apply(gradients, variables)
        return {"loss": loss, "largest": ops.max(ops.abs(gradients[0]))}


def clipped(rng, small=False):
    model, optimizer, x, labels = mlp(rng)
    return Clipped(model.layers), optimizer, x, labels


def test_a_train_step_of_its_own(kernels):
    Clipped.traced = 0
    expected = outcome(eager, clipped)
    assert Clipped.traced == STEPS
    found = outcome(compiled, clipped)
    assert Clipped.traced == STEPS + 1
    assert_same(found, expected, BOUNDS["float32"] if kernels else None)


@pytest.mark.parametrize("jit_compile", [True, False, "auto"])
def test_jit_compile(jit_compile):
    assert_same(outcome(compiled, mlp, 3, jit_compile=jit_compile), outcome(compiled, mlp, 3))


@pytest.mark.parametrize("steps_per_execution", [2, 5])
def test_several_steps_an_execution(steps_per_execution, kernels):
    found = []
    for options in ({}, {"steps_per_execution": steps_per_execution}):
        model, x, y = made(mlp, **options)
        x, y = np.concatenate([x] * 4 + [x[:3]]), np.concatenate([y] * 4 + [y[:3]])
        history = model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        found.append((history.history["loss"], state(model)))
    assert_same(found[1], found[0])


def test_train_on_batch_and_fit_are_one_step(kernels):
    model, x, y = made(mlp)
    losses = []
    for _ in range(3):
        model.reset_metrics()
        losses.append(model.train_on_batch(x, y, return_dict=True)["loss"])
    assert_same((losses, state(model)), outcome(compiled, mlp, 3))


def test_predictions_and_evaluations(kernels):
    found = []
    for run_eagerly in (True, False):
        model, x, y = made(resnet)
        compiled(model, x, y, 2)
        model.run_eagerly = run_eagerly
        found.append([model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)[0]])
    tolerance = 1e-5 if kernels else 0
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# -- control flow ---------------------------------------------------------------------------------

X = np.array([1.0, -2.0, 3.0], "float32")


def unrolled_scan(x):
    carry, outputs = ops.scan(lambda c, v: (c * 0.5 + v, c + v), ops.zeros(()), x)
    return carry, outputs


CONTROL = {
    "cond of a known value": lambda x: ops.cond(x.shape[0] > 2, lambda: x * 2, lambda: x - 1),
    "switch of a known value": lambda x: ops.switch(1, [lambda v: v, lambda v: v * 3], x),
    "scan": unrolled_scan,
    "map": lambda x: ops.map(lambda v: v * v + 1, x),
    "vectorized_map": lambda x: ops.vectorized_map(lambda v: v * v + 1, x),
    "fori_loop": lambda x: ops.fori_loop(0, 3, lambda i, v: v * 2 + i, x),
    "while_loop of a known number": lambda x: ops.while_loop(
        lambda i, v: i < 4, lambda i, v: (i + 1, v * 0.5), (0, x)
    )[1],
    "associative_scan": lambda x: ops.associative_scan(lambda a, b: a + b, x),
}
UNKNOWN = {
    "cond": lambda x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x - 1),
    "switch": lambda x: ops.switch(ops.cast(x[0], "int32"), [lambda v: v, lambda v: v * 3], x),
    "while_loop": lambda x: ops.while_loop(
        lambda v: ops.sum(v * v) > 1, lambda v: (v * 0.5,), (x,)
    )[0],
    "fori_loop": lambda x: ops.fori_loop(0, ops.cast(ops.sum(x), "int32"), lambda i, v: v * 2, x),
}


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow_that_python_knows(name, kernels):
    f, x = CONTROL[name], gpunet.tensor(X)
    function = gpunet.function(f)
    for _ in range(2):
        for y, reference in zip(
            gpunet.tree.flatten(function(x)), gpunet.tree.flatten(f(x)), strict=True
        ):
            np.testing.assert_allclose(y, reference, rtol=1e-6 if kernels else 0)
    assert function.trace_count == 1


@pytest.mark.parametrize("name", UNKNOWN)
def test_control_flow_that_a_tensor_decides(name, kernels):
    """One graph is right for every value."""
    f = UNKNOWN[name]
    function = gpunet.function(f)
    for x in (X, -X, 2 * X):
        x = gpunet.tensor(x)
        np.testing.assert_allclose(function(x), f(x), rtol=1e-6 if kernels else 0)
    assert function.trace_count == 1


class Gated(layers.Layer):
    """A part with dropout where the mean says so, which counts that."""

    def __init__(self, units):
        super().__init__()
        self.inner = layers.Dense(units, activation="tanh")
        self.dropout = layers.Dropout(0.2)
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        def used():
            self.count.assign_add(1)
            return self.dropout(self.inner(x), training=training)

        return ops.cond(ops.mean(x) > 0.05, used, lambda: x + self.inner(x))


def gated(rng, small=False):
    parts = [layers.Dense(6), Gated(6), Gated(6), layers.Dense(3)]
    model = gpunet.Sequential([gpunet.Input((6,)), *parts])
    return model, gpunet.optimizers.Adam(1e-2, epsilon=1e-3), rng.normal(size=(8, 6)), (8,)


def test_a_model_that_chooses(kernels):
    expected = outcome(eager, gated)
    counts = [int(v) for v in expected[1] if v.shape == () and v.dtype == np.int32]
    assert any(0 < count < STEPS for count in counts), "both branches must be taken"
    assert_same(outcome(compiled, gated), expected, BOUNDS["float32"] if kernels else None)
    if not kernels:
        assert_same(outcome(replayed, gated), expected)


def test_a_loop_that_cannot_be_differentiated_trains_op_by_op():
    class Halved(layers.Layer):
        def call(self, x):
            return ops.while_loop(lambda y: ops.max(ops.abs(y)) > 1, lambda y: y * 0.5, x)

    def build(rng, small=False):
        model = gpunet.Sequential([gpunet.Input((6,)), layers.Dense(4), Halved(), layers.Dense(3)])
        return model, gpunet.optimizers.SGD(0.01), rng.normal(size=(8, 6)), (8,)

    with pytest.warns(UserWarning, match="runs op by op.*cannot be differentiated"):
        found = outcome(compiled, build, 3)
    assert_same(found, outcome(eager, build, 3))


@pytest.mark.parametrize("name", ["scan", "map", "fori_loop"])
def test_gradients_through_loops(name):
    def loss(x):
        return sum(ops.sum(y**2) for y in gpunet.tree.flatten(CONTROL[name](x)))

    gradient, x = gpunet.grad(loss), gpunet.tensor(X)
    np.testing.assert_allclose(gpunet.function(gradient)(x), gradient(x), rtol=1e-6)
