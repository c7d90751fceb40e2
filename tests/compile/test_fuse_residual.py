"""Residual connections and norms become one; the bits stay."""

import numpy as np
import pytest

import gpunet
from gpunet import layers, ops
from gpunet.compile import Executable, Program, optimize
from gpunet.compile.fuse_residual import fuse_residual_norm
from gpunet.core.trace import trace
from gpunet.ops.norm import layer_norm, rms_norm

SHAPE = (4, 3, 6)


@pytest.fixture
def given(rng):
    """Two arrays, scale and offset."""
    shapes = SHAPE, SHAPE, SHAPE[-1:], SHAPE[-1:]
    return [gpunet.tensor(rng.standard_normal(s).astype("float32")) for s in shapes]


def names(graph):
    return [eq.op.name for eq in graph.equations if "norm" in eq.op.name or eq.op.name == "add"]


def fused(f, *inputs):
    """The names after the pass; before and after, the same bits are computed."""
    graph = trace(f, *inputs)
    after = fuse_residual_norm(graph)
    for y, reference in zip(Executable(after)(*inputs), Executable(graph)(*inputs), strict=True):
        assert y.numpy().tobytes() == reference.numpy().tobytes()
    return names(after)


def layer(x, scale, offset):
    return layer_norm(x, scale, offset, epsilon=1e-5)[0]


def rms(x, scale, offset):
    return rms_norm(x, scale, epsilon=1e-5)[0]


@pytest.mark.parametrize(("norm", "name"), [(layer, "layer_norm"), (rms, "rms_norm")])
def test_forward_and_backward(given, norm, name):
    def f(x, r, scale, offset):
        total = x + r
        return ops.sum(ops.sin(norm(total, scale, offset)) + ops.cos(total))

    assert fused(lambda *xs: f(*xs), *given).count(f"residual_{name}") == 1
    found = fused(lambda *xs: gpunet.grad(f, argnums=(0, 1, 2))(*xs), *given)
    assert found.count(f"residual_{name}") == 1
    assert found.count(f"residual_{name}_grad") == 1
    assert name not in found and f"{name}_grad" not in found


def test_the_sum_stays_where_others_need_it(given):
    assert fused(lambda x, r, s, o: (layer(x + r, s, o), x + r), *given).count("add") == 1

    def twice(x, r, scale, offset):
        total = x + r
        return layer(total, scale, offset), layer(total, offset, scale), total

    assert fused(twice, *given) == ["residual_layer_norm", "layer_norm"]


def test_other_sums_stay(given):
    x, _, scale, offset = given
    assert fused(lambda x, s, o: layer(x + o, s, o), x, scale, offset) == ["add", "layer_norm"]
    assert fused(lambda x, s, o: layer(x, s, o), x, scale, offset) == ["layer_norm"]
    half = [a.astype("float16") for a in given]
    assert fused(lambda x, r, s, o: layer(x + r, s, o), *half) == ["add", "layer_norm"]


def test_a_scale_that_is_made_of_the_sum(given):
    def f(x, r, scale, offset):
        total = x + r
        return layer(total, total.mean(axis=(0, 1)), offset)

    assert fused(f, *given) == ["add", "layer_norm"]


def test_a_gradient_that_is_added_to_what_it_makes(given):
    def f(x, scale, offset):
        with gpunet.GradientTape() as tape:
            tape.watch([x, scale])
            y = ops.sum(ops.sin(layer(x, scale, offset)))
        dx, dscale = tape.gradient(y, [x, scale])
        return dx + ops.broadcast_to(dscale, dx.shape)

    x, _, scale, offset = given
    assert fused(f, x, scale, offset) == ["layer_norm", "layer_norm_grad", "add"]


def test_a_block_of_a_transformer(rng):
    norms = [layers.LayerNormalization(), layers.LayerNormalization()]
    dense = [layers.Dense(8), layers.Dense(8)]

    def step(x):
        for norm, f in zip(norms, dense, strict=True):
            x = x + f(norm(x))
        return ops.sum(x * x)

    x = gpunet.tensor(rng.standard_normal((5, 8)).astype("float32"))
    step(x)
    weights = [w for each in (*norms, *dense) for w in each.trainable_variables]

    def gradients(x):
        with gpunet.GradientTape() as tape:
            tape.watch(x)
            y = step(x)
        return tape.gradient(y, [x, *weights])

    graph = trace(gradients, x)
    after = optimize(graph)
    assert names(after).count("residual_layer_norm") == 1
    assert names(after).count("residual_layer_norm_grad") == 2
    for run in (Executable, Program):
        for y, reference in zip(run(after)(x), Executable(graph)(x), strict=True):
            np.testing.assert_allclose(y, reference, rtol=1e-4, atol=1e-5)
