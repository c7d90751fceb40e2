"""Comparing a public op with the function of the same name in Keras (on JAX)."""

import warnings
from typing import Any

import keras
import numpy as np

import gpunet
from gpunet import ops
from gpunet.core.symbolic import flatten
from gpunet.testing import assert_close


def assert_same_as_keras(name: str, *args: Any, factor: float = 1.0, **kwargs: Any) -> None:
    """Asserts that values, shapes and dtypes of all results are those of `keras.ops`."""
    theirs = _call(getattr(keras.ops, name), keras.ops.convert_to_tensor, args, kwargs)
    ours = _call(getattr(ops, name), gpunet.tensor, args, kwargs)
    theirs, ours = _leaves(theirs), flatten(ours)
    assert len(ours) == len(theirs), f"{len(ours)} results, expected {len(theirs)}"
    for y, expected in zip(ours, theirs, strict=True):
        assert np.asarray(y).dtype.name == str(expected.dtype), f"{name}: dtype of {args}"
        assert_close(y, np.asarray(expected), np.asarray(y).dtype.name, factor)


def _call(f, convert, args, kwargs):
    def argument(x):
        if isinstance(x, np.ndarray):
            return convert(x)
        return [argument(v) for v in x] if isinstance(x, list) else x

    with warnings.catch_warnings():  # both use NumPy, or warn, in their own places
        warnings.simplefilter("ignore")
        return f(*[argument(x) for x in args], **{k: argument(v) for k, v in kwargs.items()})


def _leaves(nest):
    if isinstance(nest, (list, tuple)):
        return [leaf for x in nest for leaf in _leaves(x)]
    return [nest]
