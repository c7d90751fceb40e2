"""The random functions, with Keras's names and arguments.

`seed` is an integer (the same numbers at every call), a `SeedGenerator` (new ones at each call), a
tensor of shape `(2,)`, or `None` for the global generator. The same seed gives the same numbers on
every device.
"""

from typing import Any

import numpy as np

from gpunet.config import floatx
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.variable import standardize_shape
from gpunet.dtypes import is_float, is_int, numpy_dtype, standardize_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.elementwise import cast_to, floating, floor, log, maximum
from gpunet.ops.extrema import argmax
from gpunet.ops.index import take
from gpunet.ops.random import dropout as dropout_primitive
from gpunet.ops.random import (
    random_integers,
    random_normal,
    random_permutation,
    random_truncated_normal,
    random_uniform,
    random_variate,
)
from gpunet.ops.shape import expand_dims, one_axis
from gpunet.random.seed_generator import draw_seed


def _float_dtype(dtype, name):
    dtype = floatx() if dtype is None else standardize_dtype(dtype)
    if not is_float(dtype):
        raise ArgumentError(
            f"`random.{name}` requires a floating point `dtype`. {received(dtype=dtype)}"
        )
    return dtype


def _scaled(x: Tensor, scale: Any, shift: Any) -> Tensor:
    """`x * scale + shift` in the dtype of `x`, without work for 1 and 0."""
    dtype = x.dtype
    if not (isinstance(scale, (int, float)) and scale == 1):
        x = x * scale
    if not (isinstance(shift, (int, float)) and shift == 0):
        x = x + shift
    return cast_to(x, dtype)


def uniform(
    shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Draws numbers from `minval` (inclusive) to `maxval` (exclusive), all equally likely.

    Args:
        shape: Shape of the result.
        minval: Lower end.
        maxval: Upper end.
        dtype: Float dtype; default `floatx()`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor.

    Raises:
        ArgumentError: If `dtype` is no float dtype or `seed` no seed.

    Example:
        >>> import gpunet
        >>> gpunet.random.uniform((2, 3), seed=1).shape
        (2, 3)
    """
    dtype = _float_dtype(dtype, "uniform")
    draws = random_uniform(draw_seed(seed), shape=standardize_shape(shape), dtype=dtype)
    return _scaled(draws, maxval - minval, minval)


def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Draws numbers from the normal distribution (Box, Muller, 1958).

    Args:
        shape: Shape of the result.
        mean: Mean.
        stddev: Standard deviation.
        dtype: Float dtype; default `floatx()`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor.

    Raises:
        ArgumentError: If `dtype` is no float dtype or `seed` no seed.

    Example:
        >>> import gpunet
        >>> gpunet.random.normal((2, 3), seed=1).shape
        (2, 3)
    """
    dtype = _float_dtype(dtype, "normal")
    draws = random_normal(draw_seed(seed), shape=standardize_shape(shape), dtype=dtype)
    return _scaled(draws, stddev, mean)


def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Draws normal numbers that are less than two standard deviations from the mean.

    The inverse of the cumulative distribution is applied to uniform numbers: nothing is drawn
    twice. `stddev` is that of the normal distribution before it is cut (0.88 of it remain).

    Args:
        shape: Shape of the result.
        mean: Mean.
        stddev: Standard deviation before truncation.
        dtype: Float dtype; default `floatx()`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor.

    Raises:
        ArgumentError: If `dtype` is no float dtype or `seed` no seed.

    Example:
        >>> import gpunet
        >>> bool((gpunet.ops.abs(gpunet.random.truncated_normal((99,), seed=1)) <= 2).all())
        True
    """
    dtype = _float_dtype(dtype, "truncated_normal")
    draws = random_truncated_normal(draw_seed(seed), shape=standardize_shape(shape), dtype=dtype)
    return _scaled(draws, stddev, mean)


def randint(shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Draws integers from `minval` (inclusive) to `maxval` (exclusive), all equally likely.

    Args:
        shape: Shape of the result.
        minval: Smallest integer.
        maxval: One more than the largest.
        dtype: Integer dtype.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor.

    Raises:
        ArgumentError: If `dtype` is no integer dtype, the range is empty, or `seed` is no seed.

    Example:
        >>> import gpunet
        >>> sorted(set(gpunet.random.randint((99,), 0, 3, seed=1).tolist()))
        [0, 1, 2]
    """
    dtype = standardize_dtype(dtype)
    if not is_int(dtype):
        raise ArgumentError(
            f"`random.randint` requires an integer `dtype`. {received(dtype=dtype)}"
        )
    known = isinstance(minval, int) and isinstance(maxval, int)
    if known and minval >= maxval:
        raise ArgumentError(
            "`minval` must be smaller than `maxval`. " + received(minval=minval, maxval=maxval)
        )
    shape = standardize_shape(shape)
    if known:
        bounds = {"low": int(minval), "high": int(maxval)}
        return random_integers(draw_seed(seed), shape=shape, dtype=dtype, **bounds)
    u = random_uniform(draw_seed(seed), shape=shape, dtype="float64")
    low, high = (as_tensor(v, device=u.device) for v in (minval, maxval))
    low, high = cast_to(low, u.dtype), cast_to(high, u.dtype)
    return cast_to(floor(u * (high - low)) + low, numpy_dtype(dtype))


@public
def categorical(logits, num_samples, dtype="int32", seed=None):
    """Draws classes with the probabilities `softmax(logits)` (Gumbel, 1954).

    Args:
        logits: Tensor of shape `(batch, classes)`.
        num_samples: How many to draw for each row.
        dtype: Integer dtype of the result.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor of shape `(batch, num_samples)`.

    Raises:
        ShapeError: If `logits` has not two axes.

    Example:
        >>> import gpunet
        >>> gpunet.random.categorical([[0.0, 100.0]], 3, seed=1).tolist()
        [[1, 1, 1]]
    """
    logits = floating(logits)
    if logits.ndim != 2:
        raise ShapeError(
            "`logits` should be a 2-D tensor with shape [batch_size, num_classes]. "
            + received(shape=logits.shape)
        )
    rows, classes = logits.shape
    shape = (rows, int(num_samples), classes)
    u = random_uniform(draw_seed(seed, logits.device), shape=shape, dtype="float64")
    noise = -log(-log(maximum(u, 2.0**-54)))
    chosen = argmax(expand_dims(cast_to(logits, u.dtype), 1) + noise, axis=-1)
    return cast_to(chosen, numpy_dtype(dtype))


@public
def dropout(inputs, rate, noise_shape=None, seed=None):
    """Returns `inputs` with a share of its elements set to 0, the rest scaled by `1 / (1 - rate)`.

    The backward pass draws the mask again from the seed; nothing is stored. Source: Srivastava et
    al., "Dropout", 2014.

    Args:
        inputs: Tensor of any shape.
        rate: Probability of each element to become 0, from 0 to 1.
        noise_shape: Shape of the mask, which is broadcast; `None` in it takes the length of
            `inputs`. Default the shape of `inputs`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor of the shape and dtype of `inputs`.

    Raises:
        ArgumentError: If `rate` is out of range.
        ShapeError: If `noise_shape` does not broadcast to the shape of `inputs`.

    Example:
        >>> import gpunet
        >>> gpunet.random.dropout(gpunet.ops.ones((2, 3)), 0.5, seed=1).shape
        (2, 3)
    """
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise ArgumentError(f"`rate` must be a number from 0 to 1. {received(rate=rate)}")
    x = floating(inputs)
    if rate == 0:
        return x
    if rate == 1:
        return x * 0
    shape = x.shape if noise_shape is None else _noise_shape(noise_shape, x.shape)
    return dropout_primitive(x, draw_seed(seed, x.device), rate=float(rate), shape=shape)


def _noise_shape(noise_shape, shape):
    fits = len(noise_shape) == len(shape)
    if fits:
        full = tuple(n if d is None else int(d) for d, n in zip(noise_shape, shape, strict=True))
        if all(d in (1, n) for d, n in zip(full, shape, strict=True)):
            return full
    raise ShapeError(
        "`noise_shape` has 1, None or the length of the inputs on each axis. "
        + received(noise_shape=tuple(noise_shape), shape=shape)
    )


@public
def shuffle(x, axis=0, seed=None):
    """Returns `x` with its elements along an axis in random order.

    Args:
        x: Tensor with at least one axis.
        axis: Axis to shuffle along; what is at one index of it stays together.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:
        >>> import gpunet
        >>> sorted(gpunet.random.shuffle([1, 2, 3], seed=1).tolist())
        [1, 2, 3]
    """
    x = as_tensor(x)
    axis = one_axis(axis, x.ndim)
    order = random_permutation(draw_seed(seed, x.device), length=x.shape[axis])
    return take(x, order, axis=axis)


def _variate(name, shape, parameters, dtype, seed):
    key = draw_seed(seed)
    tensors = [as_tensor(p, device=key.device) for p in parameters]
    shape = standardize_shape(shape)
    return random_variate(key, *tensors, name=name, shape=shape, dtype=dtype)


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Draws numbers from the gamma distribution with scale 1; drawn on the host.

    Args:
        shape: Shape of the result.
        alpha: Positive number or tensor that broadcasts to `shape`: the shape parameter.
        dtype: Float dtype; default `floatx()`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor; no gradient flows to `alpha`.

    Example:
        >>> import gpunet
        >>> bool((gpunet.random.gamma((9,), 2.0, seed=1) > 0).all())
        True
    """
    return _variate("standard_gamma", shape, [alpha], _float_dtype(dtype, "gamma"), seed)


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Draws numbers between 0 and 1 from the beta distribution; drawn on the host.

    Args:
        shape: Shape of the result.
        alpha: Positive number or tensor that broadcasts to `shape`.
        beta: Positive number or tensor that broadcasts to `shape`.
        dtype: Float dtype; default `floatx()`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor; no gradient flows to the parameters.

    Example:
        >>> import gpunet
        >>> gpunet.random.beta((9,), 2.0, 3.0, seed=1).shape
        (9,)
    """
    return _variate("beta", shape, [alpha, beta], _float_dtype(dtype, "beta"), seed)


def binomial(
    shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Draws how many of `counts` trials succeed; drawn on the host.

    Args:
        shape: Shape of the result.
        counts: Number of trials; integer or tensor that broadcasts to `shape`.
        probabilities: Probability of success; number or tensor that broadcasts to `shape`.
        dtype: Float dtype of the result; default `floatx()`.
        seed: Integer, `SeedGenerator`, seed tensor, or `None` for the global generator.

    Returns:
        Tensor.

    Example:
        >>> import gpunet
        >>> gpunet.random.binomial((3,), 5, 1.0, seed=1).tolist()
        [5.0, 5.0, 5.0]
    """
    counts = cast_to(as_tensor(counts), np.dtype(np.int64))
    dtype = _float_dtype(dtype, "binomial")
    return _variate("binomial", shape, [counts, probabilities], dtype, seed)
