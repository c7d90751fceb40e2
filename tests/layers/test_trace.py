"""Every layer traces: the graph of a call and its gradients, replayed, computes what eager does."""

import numpy as np
import pytest

import gpunet
from gpunet import layers
from gpunet.core.trace import trace
from tests.layers.table import CASES


def tensors_of(nest):
    """The tensors in the results of a layer."""
    return [x for x in gpunet.tree.flatten(nest) if isinstance(x, gpunet.Tensor)]


@pytest.mark.parametrize("row", CASES, ids=repr)
def test_a_traced_layer_computes_the_same(row):
    gpunet.utils.set_random_seed(0)
    layer = row.build(layers)
    inputs = [gpunet.tensor(x) for x in row.arrays()]

    def call(*xs):
        ys = tensors_of(
            layer([*xs] if row.many else xs[0], *([] if row.many else xs[1:]), **row.call)
        )
        return [y for y in ys if y.dtype.kind == "f"] or [y.astype("float32") for y in ys]

    def step(*xs):
        with gpunet.GradientTape() as tape:
            ys = call(*xs)
            loss = sum((y * y).sum() for y in ys)
        gradients = tape.gradient(loss, layer.trainable_variables)
        return ys, [g for g in gradients if g is not None]

    call(*inputs)  # builds the layer
    before = [v.numpy().copy() for v in layer.variables]
    eager = tensors_of(step(*inputs))
    after = [v.numpy().copy() for v in layer.variables]
    for v, value in zip(layer.variables, before, strict=True):
        v.assign(value)
    graph = trace(step, *inputs)
    for v, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(v, value, err_msg="tracing changed a variable")
    replayed = graph(*inputs)
    assert len(replayed) == len(eager) > 0
    for y, reference in zip(replayed, eager, strict=True):
        np.testing.assert_array_equal(y, reference)
    for v, value in zip(layer.variables, after, strict=True):
        np.testing.assert_array_equal(v, value)


def test_a_function_inside_of_a_layer_has_a_graph_for_training_and_one_for_inference():
    dropout = layers.Dropout(0.5, seed=1)

    class Dropped(layers.Layer):
        @gpunet.function
        def dropped(self, x):
            return dropout(x)

        def call(self, x, training=None):
            return self.dropped(x)

    layer, x = Dropped(), gpunet.tensor(np.ones((4, 8), "float32"))
    for training in (False, True, False):
        y = layer(x, training=training).numpy()
        assert (y != 1).any() == training
