"""`gpunet.utils`: one-hot classes, unit vectors and padded sequences, against Keras."""

import keras
import numpy as np
import pytest

import gpunet
from gpunet import utils
from gpunet.errors import ArgumentError, DTypeError


@pytest.mark.parametrize("x", [[0, 2, 1], [[0], [2]], [[0, 1], [2, 0]], 1])
@pytest.mark.parametrize("count", [None, 5])
def test_to_categorical(x, count):
    np.testing.assert_array_equal(
        utils.to_categorical(x, count), keras.utils.to_categorical(np.array(x), count)
    )


def test_to_categorical_of_a_tensor_is_a_tensor():
    assert isinstance(utils.to_categorical(gpunet.tensor([[1], [0]]), 2), gpunet.Tensor)


@pytest.mark.parametrize("x", [[3], [-1]])
def test_classes_out_of_range_are_refused(x):
    with pytest.raises(ArgumentError, match="Received: smallest="):
        utils.to_categorical(x, 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_normalize(axis, rng):
    x = rng.standard_normal((3, 4))
    x[:, 0] = 0
    norms = np.linalg.norm(x, axis=axis, keepdims=True)  # Keras 3.15 fails for axis 0
    np.testing.assert_allclose(utils.normalize(x, axis), x / np.where(norms, norms, 1))


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 2, 6])
def test_pad_sequences(padding, truncating, maxlen):
    sequences = [[1], [], [2, 3, 4], [5, 6, 7, 8, 9]]
    options = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "value": -1}
    np.testing.assert_array_equal(
        utils.pad_sequences(sequences, **options), keras.utils.pad_sequences(sequences, **options)
    )


def test_pad_sequences_refuses_what_it_cannot_pad():
    with pytest.raises(ArgumentError, match="padding"):
        utils.pad_sequences([[1]], padding="left")
    with pytest.raises(DTypeError, match="element=3"):
        utils.pad_sequences([[1], 3])
