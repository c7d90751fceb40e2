"""Eager and compiled are equal: every primitive, every layer, a whole training.

Bit for bit on NumPy, and within the tolerances of the case tables where C++ kernels run.
"""

import numpy as np
import pytest

import gpunet
from gpunet import layers
from gpunet.backend.device import Device
from gpunet.compile import Executable, optimize
from gpunet.core.primitive import REGISTRY
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol, trace
from gpunet.testing import ops as checks
from tests.layers.table import CASES as LAYERS
from tests.ops.cases import CASES

ROWS = [
    pytest.param(name, row, id=f"{name}-{row!r}") for name in sorted(CASES) for row in CASES[name]
]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_primitive(name, row):
    # A row without other dtypes may have graphs among its attributes, which are for float64.
    op, inputs = REGISTRY[name], row.inputs("float32" if row.dtypes else "float64")
    graph = trace(
        lambda *xs: op(*xs, **row.attributes), *[Symbol(x.shape, x.dtype) for x in inputs]
    )
    compiled = Executable(optimize(graph))(*[Tensor(x, Device("cpu")) for x in inputs])
    for y, reference in zip(compiled, checks.run(op, inputs, row.attributes), strict=True):
        assert (y.shape, y.dtype) == (reference.shape, reference.dtype)
        assert y.numpy().tobytes() == reference.numpy().tobytes()


@pytest.mark.parametrize("row", LAYERS, ids=repr)
def test_every_layer(row, kernels):
    gpunet.utils.set_random_seed(0)
    layer = row.build(layers)
    inputs = [gpunet.tensor(x) for x in row.arrays()]

    def step(*xs):
        with gpunet.GradientTape() as tape:
            ys = layer([*xs] if row.many else xs[0], *([] if row.many else xs[1:]), **row.call)
            ys = [y for y in gpunet.tree.flatten(ys) if isinstance(y, gpunet.Tensor)]
            loss = sum((y.astype("float32") ** 2).sum() for y in ys)
        return ys, [g for g in tape.gradient(loss, layer.trainable_variables) if g is not None]

    layer([*inputs] if row.many else inputs[0], *([] if row.many else inputs[1:]), **row.call)
    before = [v.numpy().copy() for v in layer.variables]
    eager = gpunet.tree.flatten(step(*inputs))
    after = [v.numpy().copy() for v in layer.variables]
    for v, value in zip(layer.variables, before, strict=True):
        v.assign(value)
    compiled = gpunet.tree.flatten(gpunet.function(step)(*inputs))
    for y, reference in zip([*compiled, *layer.variables], [*eager, *after], strict=True):
        if kernels:
            scale = max(1.0, float(np.abs(reference).max(initial=0)))
            np.testing.assert_allclose(y, reference, rtol=1e-4, atol=2e-5 * scale)
        else:
            np.testing.assert_array_equal(y, reference)


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_twenty_steps_of_a_convolutional_network(device, without_kernels):
    with gpunet.device(device):
        losses = []
        for compiled in (False, True):
            gpunet.utils.set_random_seed(1)
            model = gpunet.Sequential(
                [
                    gpunet.Input((6, 6, 1)),
                    layers.Conv2D(4, 3, padding="same", use_bias=False),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    layers.MaxPooling2D(),
                    layers.Dropout(0.25),
                    layers.Flatten(),
                    layers.Dense(3),
                ]
            )
            optimizer = gpunet.optimizers.AdamW(1e-2, clipnorm=1.0)
            optimizer.build(model.trainable_variables)
            loss = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)

            def train(x, y, model=model, optimizer=optimizer, loss=loss):
                with gpunet.GradientTape() as tape:
                    value = loss(y, model(x, training=True))
                variables = model.trainable_variables
                optimizer.apply(tape.gradient(value, variables), variables)
                return value

            step = gpunet.function(train) if compiled else train
            rng = np.random.default_rng(0)
            x = gpunet.tensor(rng.normal(size=(8, 6, 6, 1)).astype("float32"))
            y = gpunet.tensor(rng.integers(0, 3, 8))
            count = 20 if device == "cpu" else 3
            losses.append([step(x, y).item() for _ in range(count)])
            losses[-1] += [float(w.sum()) for w in model.get_weights()]
        assert losses[0] == losses[1]
