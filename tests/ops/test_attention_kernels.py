"""The attention kernels on the emulator: strides, dropout, the atomic backward pass, and layers."""

import numpy as np
import pytest

import gpunet
from gpunet.backend import emulator
from gpunet.core.primitive import REGISTRY
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, KernelError, ShapeError
from gpunet.ops import attention_launch
from gpunet.ops.attention_launch import attention_grad_rule, attention_rule
from gpunet.testing.numbers import assert_close
from tests.ops.cases import CASES

attend = gpunet.ops.dot_product_attention
FLOATS = ["float32", "float16", "bfloat16"]
SEED = np.array([5, 9], "uint32")
PLAIN = {"scale": 0.3, "causal": False}


@pytest.fixture
def make(rng):
    return lambda *shape: rng.standard_normal(shape)


def same_bits(results, reference):
    for y, expected in zip(results, reference, strict=True):
        np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))


# -- operands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_packed_operands_are_read_where_they_are(dtype, make):
    packed = make(2, 33, 3, 2, 16).astype(numpy_dtype(dtype))
    q, k, v = (packed[:, :, i] for i in range(3))
    apart = (x.copy(order="C") for x in (q, k, v))
    expected = attention_rule(next(apart), next(apart), next(apart), (), None, **PLAIN)
    assert all(attention_launch._readable(x) is x for x in (q, k, v))
    same_bits(attention_rule(q, k, v, (), None, **PLAIN), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_operands_that_vectors_cannot_read_are_copied(dtype, make):
    dtype = numpy_dtype(dtype)
    flat = np.zeros(1 + 2 * 9 * 8, dtype)
    flat[1:] = make(flat.size - 1)
    odd = flat[1:].reshape(1, 9, 2, 8)  # aligned to one element
    spread = make(1, 9, 2, 12).astype(dtype)[..., :8]  # rows of 12 elements
    for x in (odd, spread, odd[..., ::-1], odd[:, ::-1]):
        y = np.array(x, order="C")
        same_bits(
            attention_rule(x, x, x, (), None, **PLAIN), attention_rule(y, y, y, (), None, **PLAIN)
        )


@pytest.mark.parametrize("shape", [(2, 2, 9, 7), (1, 2, 9, 7), (2, 1, 1, 7), (1, 1, 9, 1)])
def test_masks_are_read_through_their_strides(shape, make, rng):
    q, k, v = (make(2, n, 2, 8).astype("float32") for n in (9, 7, 7))
    mask = rng.random(shape) < 0.6
    wide = np.zeros([n if n == 1 else 2 * n for n in shape], bool)
    views = [
        np.broadcast_to(mask, (2, 2, 9, 7)),
        np.asfortranarray(mask),
        wide[tuple(slice(None) if n == 1 else slice(n) for n in shape)],
        wide[tuple(slice(None) if n == 1 else slice(0, 2 * n, 2) for n in shape)],
    ]
    expected = attention_rule(q, k, v, (np.ascontiguousarray(views[0]),), None, **PLAIN)
    for view in views:
        if view.flags.writeable:
            view[...] = mask
        same_bits(attention_rule(q, k, v, (view,), None, **PLAIN), expected)
    same_bits(attention_rule(q, k, v, (mask, views[0]), None, **PLAIN), expected)


@pytest.mark.parametrize(
    ("dtype", "width", "value_width"),
    [("float64", 8, 8), ("float32", 5, 5), ("float16", 136, 136), ("float32", 8, 16)],
)
def test_what_no_kernel_is_made_for_is_array_code(dtype, width, value_width, make, monkeypatch):
    def refuse(*args, **kwargs):
        raise KernelError("launched")

    monkeypatch.setattr(attention_launch, "launch", refuse)
    arrays = [make(1, 3, 2, n).astype(dtype) for n in (width, width, value_width)]
    here, there = (
        gpunet.grad(lambda *x: (attend(*x) ** 2).sum(), argnums=(0, 1, 2))(
            *[gpunet.tensor(x, device=device) for x in arrays]
        )
        for device in ("cpu", "emulator")
    )
    for x, y in zip(here, there, strict=True):
        assert_close(y.to("cpu"), x.numpy(), dtype, 4)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("lengths", [(20, 150), (150, 70)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_tiles_beyond_the_diagonal(dtype, lengths, lost, make, rng):
    """They are left out, unless a query has found no key that is allowed: it attends to all."""
    queries, keys = lengths
    shapes = [(1, queries, 2, 8), (1, keys, 1, 8), (1, keys, 1, 8), (1, queries, 2, 8)]
    q, k, v, g = (make(*shape).astype(numpy_dtype(dtype)) for shape in shapes)
    masks = ()
    if lost:
        mask = rng.random((1, 1, queries, keys)) < 0.5
        mask[:, :, [3, queries - 2]] = False
        masks = (mask,)
    settings = {"scale": 0.3, "causal": True}
    wide = [x.astype("float64") for x in (q, k, v)]
    expected, expected_lse = REGISTRY["attention"].rules["array"](np, *wide, *masks, **settings)
    y, lse = attention_rule(q, k, v, masks, None, **settings)
    assert_close(y, expected, dtype)
    assert_close(np.maximum(lse, -1e3), np.maximum(expected_lse, -1e3), "float32")
    g_lse = make(*lse.shape)
    expected = REGISTRY["attention_grad"].rules["array"](
        np, g.astype("float64"), g_lse, *wide, y.astype("float64"), expected_lse, *masks, **settings
    )
    g_lse = g_lse.astype("float32")
    found = attention_grad_rule(g, g_lse, q, k, v, y, lse, masks, None, **settings)
    for x, reference in zip(found, expected, strict=True):
        assert_close(x, reference, dtype, 2)


# -- determinism ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention", "attention_grad"])
def test_halves_do_not_depend_on_the_order_of_threads(name):
    for row in CASES[name]:
        if "float16" not in row.dtypes:
            continue
        rule, inputs = REGISTRY[name].rules["cuda"], row.inputs("float16")
        forward = rule(*inputs, **row.attributes)
        for order in ("reverse", "random"):
            with emulator.schedule(order, seed=1):
                same_bits(rule(*inputs, **row.attributes), forward)


@pytest.mark.parametrize("order", ["reverse", "random"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dropout_does_not_depend_on_the_order_of_threads(dtype, order, make):
    q, k, v, g = (make(1, n, 2, 8).astype(dtype) for n in (34, 66, 66, 34))
    settings = {"scale": 0.3, "causal": False, "dropout": 0.4}

    def both():
        y, lse = attention_rule(q, k, v, (), SEED, **settings)
        zeros = np.zeros_like(lse)
        return y, lse, *attention_grad_rule(g, zeros, q, k, v, y, lse, (), SEED, **settings)

    expected = both()
    with emulator.schedule(order, seed=2):
        same_bits(both(), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["plain", "causal", "dropout", "mask"])
def test_the_atomic_backward_pass_has_the_same_values(kind, dtype, make, rng):
    shapes = [(2, 33, 4, 8), (2, 66, 2, 8), (2, 66, 2, 8)]
    q, k, v = (make(*shape).astype(numpy_dtype(dtype)) for shape in shapes)
    settings = {"scale": 0.3, "causal": kind != "plain"}
    masks, seed = (), None
    if kind == "dropout":
        settings["dropout"], seed = 0.3, SEED
    if kind == "mask":
        mask = rng.random((2, 1, 33, 66)) < 0.5
        mask[:, :, 7] = False
        masks = (mask,)
    y, lse = attention_rule(q, k, v, masks, seed, **settings)
    g, g_lse = make(*q.shape).astype(q.dtype), make(*lse.shape).astype("float32")
    inputs = (g, g_lse, q, k, v, y, lse, masks, seed)
    expected = attention_grad_rule(*inputs, **settings)
    found = attention_grad_rule(*inputs, **settings, atomic=True)
    same_bits(found[1:], expected[1:])
    assert_close(found[0], expected[0], dtype, 2)


@pytest.mark.parametrize(("dtype", "width"), [("float32", 128), ("float16", 64), ("bfloat16", 128)])
def test_the_atomic_backward_pass_of_wide_heads(dtype, width, make):
    q, k, v, g = (make(1, n, 1, width).astype(numpy_dtype(dtype)) for n in (35, 66, 66, 35))
    y, lse = attention_rule(q, k, v, (), None, scale=0.1, causal=True)
    inputs = (g, np.zeros_like(lse), q, k, v, y, lse, (), None)
    expected = attention_grad_rule(*inputs, scale=0.1, causal=True)
    found = attention_grad_rule(*inputs, scale=0.1, causal=True, atomic=True)
    for x, reference in zip(found, expected, strict=True):
        assert_close(x, reference, dtype, 2)


# -- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_dropout_draws_the_numbers_of_random_dropout(device, make):
    q, k = (make(2, n, 3, 32).astype("float32") for n in (9, 32))
    v = np.tile(
        np.eye(32, dtype="float32")[None, :, None], (2, 1, 3, 1)
    )  # the result is the weights
    tensors = [gpunet.tensor(x, device=device) for x in (q, k, v)]
    seed = gpunet.tensor(SEED, device=device)
    kept = attend(*tensors).numpy().transpose(0, 2, 1, 3)
    expected = gpunet.random.dropout(kept, 0.3, seed=gpunet.tensor(SEED)).numpy()
    found = attend(*tensors, dropout=0.3, seed=seed).numpy().transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert_close(found, expected, "float32")
    assert 0.2 < np.mean(found == 0) < 0.4


def test_dropout_with_a_bias_is_the_same(make):
    q, k, v = make(2, 5, 4, 8), make(2, 6, 2, 8), make(2, 6, 2, 8)
    plain = attend(q, k, v, is_causal=True, dropout=0.4, seed=SEED)
    biased = attend(q, k, v, is_causal=True, dropout=0.4, seed=SEED, bias=np.zeros((1, 1, 5, 6)))
    assert_close(plain, biased.numpy(), "float64")


def test_cpu_batches_draw_on(make):
    """The CPU rule goes through the batch in slices; the array rule draws everything at once."""
    q = make(9, 40, 12, 8).astype("float32")
    for x, reference in zip(
        *(
            REGISTRY["attention"].rules[kind](*first, q, q, q, SEED, **PLAIN, dropout=0.3)
            for kind, first in (("cpu", ()), ("array", (np,)))
        ),
        strict=True,
    ):
        assert_close(x, reference, "float32", 2)


def test_what_dropout_needs(make):
    x = make(1, 3, 2, 8)
    with pytest.raises(ArgumentError, match="from 0 to below 1"):
        attend(x, x, x, dropout=1.0, seed=SEED)
    with pytest.raises(ArgumentError, match="needs a `seed`"):
        attend(x, x, x, dropout=0.5)
    with pytest.raises(ShapeError, match=r"shape \(2,\)"):
        attend(x, x, x, dropout=0.5, seed=np.zeros(3, "uint32"))


@pytest.mark.parametrize("causal", [False, True])
def test_a_layer_drops_the_same_weights_with_and_without_scores(causal, make):
    x = make(3, 6, 16).astype("float32")
    layers = [gpunet.layers.MultiHeadAttention(2, 8, dropout=0.4, seed=3) for _ in range(2)]
    for layer in layers:
        layer.build(x.shape, x.shape)
    layers[1].set_weights(layers[0].get_weights())
    fused = layers[0](x, x, training=True, use_causal_mask=causal)
    slow, _ = layers[1](x, x, training=True, use_causal_mask=causal, return_attention_scores=True)
    assert_close(fused, slow.numpy(), "float32", 2)
    assert np.abs(fused.numpy() - layers[0](x, x, use_causal_mask=causal).numpy()).max() > 0.1


def test_a_layer_that_drops_everything_gives_its_bias(make):
    x = make(2, 3, 16).astype("float32")
    y = gpunet.layers.MultiHeadAttention(2, 8, dropout=1.0)(x, x, training=True)
    np.testing.assert_array_equal(y.numpy(), 0)
