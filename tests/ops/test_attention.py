"""Attention against Keras on JAX, with every kind of mask and with grouped heads."""

import keras
import numpy as np
import pytest

import gpunet
from gpunet.errors import ArgumentError, ShapeError
from gpunet.testing import check_gradients

attend = gpunet.ops.dot_product_attention


@pytest.fixture
def make(rng):
    return lambda *shape: rng.standard_normal(shape)


def tensors(make, heads, key_heads):
    return make(2, 3, heads, 5), make(2, 6, key_heads, 5), make(2, 6, key_heads, 5)


KINDS = {
    "plain": lambda m, b: {},
    "scale": lambda m, b: {"scale": 0.3},
    "causal": lambda m, b: {"is_causal": True},
    "mask": lambda m, b: {"mask": m},
    "mask of one head": lambda m, b: {"mask": m[:, :1]},
    "mask of three axes": lambda m, b: {"mask": m[:, 0]},
    "bias": lambda m, b: {"bias": b},
    "bias of one query": lambda m, b: {"bias": b[:, :1, :1]},
    "all": lambda m, b: {"mask": m, "bias": b, "is_causal": True, "scale": 0.7},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_equals_keras(kind, key_heads, make):
    query, key, value = tensors(make, 4, key_heads)
    mask = make(2, 4, 3, 6) > -0.5
    mask[0, :, 1] = False  # nothing allowed: all alike
    options = KINDS[kind](mask, make(2, 4, 3, 6))
    halved = [x.astype("float32") for x in (query, key, value)]
    narrow = {k: x.astype("float32") if k == "bias" else x for k, x in options.items()}
    expected = keras.ops.dot_product_attention(*halved, **narrow)
    np.testing.assert_allclose(attend(*halved, **narrow).numpy(), np.asarray(expected), 1e-5, 1e-6)
    check_gradients(lambda *x: attend(*x, **options), [query, key, value])


def test_the_bias_has_a_gradient(make):
    query, key, value = tensors(make, 4, 2)
    check_gradients(lambda b: attend(query, key, value, bias=b), [make(1, 4, 3, 6)])
    check_gradients(lambda b: attend(query, key, value, bias=b), [make(1, 1, 1, 6)])


def test_soft_cap(make):
    query, key, value = (x * 3 for x in tensors(make, 4, 4))
    scores = np.einsum("btnh,bsnh->bnts", query, key) / np.sqrt(5)
    scores = scores / (1 + np.abs(scores) / 2.0)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnh->btnh", weights, value)
    y = attend(query, key, value, attn_logits_soft_cap=2.0)
    np.testing.assert_allclose(y.numpy(), expected, 1e-10, 1e-12)


def test_numbers_as_a_mask_and_other_widths(make):
    query, key, _ = tensors(make, 2, 2)
    value, mask = make(2, 6, 2, 9), np.array([1, 1, 0, 1, 0, 0])
    y = attend(query, key, value, mask=mask)
    assert y.shape == (2, 3, 2, 9)
    short = np.flatnonzero(mask)
    np.testing.assert_allclose(
        y.numpy(), attend(query, key[:, short], value[:, short]).numpy(), 1e-12, 1e-13
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype, make):
    halves = [gpunet.tensor(x, dtype=dtype) for x in tensors(make, 4, 4)]
    wide = [x.numpy().astype("float64") for x in halves]
    y = attend(*halves, is_causal=True)
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y.numpy().astype("float64"), attend(*wide, is_causal=True).numpy(), 0.01, 0.01
    )


def test_batches_larger_than_the_cache(make):
    query, key, value = (make(5, 40, 8, 16).astype("float32") for _ in range(3))
    y = attend(query, key, value, is_causal=True).numpy()
    parts = [
        attend(query[i : i + 1], key[i : i + 1], value[i : i + 1], is_causal=True).numpy()
        for i in range(5)
    ]
    np.testing.assert_allclose(y, np.concatenate(parts), 1e-5, 1e-6)


def test_errors(make):
    query, key, value = tensors(make, 4, 4)
    with pytest.raises(ShapeError, match="only supports 4D inputs"):
        attend(query[0], key[0], value[0])
    with pytest.raises(ShapeError, match="width of query"):
        attend(query[..., :3], key, value)
    with pytest.raises(ShapeError, match="multiple of the heads"):
        attend(query[:, :, :3], key[:, :, :2], value[:, :, :2])
    with pytest.raises(ShapeError, match="mask must broadcast"):
        attend(query, key, value, mask=np.ones((2, 1, 3, 5), bool))
    with pytest.raises(ArgumentError, match="flash_attention=True"):
        attend(query, key, value, bias=make(1, 1, 3, 6), flash_attention=True)


def test_functional_models_see_shapes():
    x = gpunet.KerasTensor((None, None, 4, 8))
    assert attend(x, x, x, is_causal=True).shape == (None, None, 4, 8)
