"""Random primitives: a draw is a function of a seed tensor `[seed, draw]` of uint32.

All are made from one stream of uniform numbers (see `gpunet.backend.rng`), so the same seed gives
the same numbers everywhere: uniform ones bit for bit, others up to rounding.

References: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Box, Muller, "A
note on the generation of random normal deviates", 1958; Srivastava et al., "Dropout", 2014.
"""

import math
from typing import Any

import numpy as np

from gpunet.backend import rng
from gpunet.core.primitive import Primitive
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16, numpy_dtype
from gpunet.errors import ShapeError, received
from gpunet.ops.elementwise import cast_to, clip, cos, floor, log1p, sin, sqrt
from gpunet.ops.index import get_item
from gpunet.ops.precision import is_half, statistics_dtype
from gpunet.ops.random_launch import (
    dropout_rule,
    integers_rule,
    normal_rule,
    permutation_rule,
    truncated_normal_rule,
    uniform_rule,
)
from gpunet.ops.random_native import dropout_plan, integers_plan, uniform_plan
from gpunet.ops.shape import concatenate, reshape
from gpunet.ops.sort import argsort
from gpunet.ops.special import erfinv

__all__: list[str] = []

_DIGITS = {np.dtype(np.float16): 11, BFLOAT16: 8}
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def _check_seed(seed):
    if seed.shape != (2,):
        raise ShapeError(
            f"A seed is a tensor of shape (2,): [seed, draw]. {received(shape=seed.shape)}"
        )


def _host(seed):
    return int(seed[0]), int(seed[1])


# -- uniform --------------------------------------------------------------------------------------

random_uniform = Primitive("random_uniform(seed, *, shape, dtype) -> y")


@random_uniform.infer
def _(seed, shape, dtype):
    _check_seed(seed)
    return Symbol(shape, dtype)


@random_uniform.cpu
def _(seed, shape, dtype):
    _check_seed(seed)
    dtype = numpy_dtype(dtype)
    y = rng.uniform(*_host(seed), shape, np.float32 if is_half(dtype) else dtype)
    return _truncated(np, y, dtype)


@random_uniform.cuda
def _(seed, shape, dtype):
    _check_seed(seed)
    return uniform_rule(seed, shape, dtype)


random_uniform.native(uniform_plan)


@random_uniform.array
def _(xp, seed, shape, dtype):
    _check_seed(seed)
    dtype = numpy_dtype(dtype)
    size, wide = math.prod(shape), dtype == np.float64
    words = philox(xp, seed, -(-size // (4 if wide else 8)))
    if wide:
        y = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    else:
        y = (words.view(np.uint32) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return _truncated(xp, y[:size].reshape(shape), dtype)


def _truncated(xp, y, dtype):
    """Halves are cut off, not rounded: 1 stays out."""
    if dtype not in _DIGITS:
        return y
    scale = np.float32(2.0 ** _DIGITS[dtype])
    return (xp.floor(y * scale) / scale).astype(dtype)


def philox(xp: Any, seed: Any, blocks: int) -> Any:
    """Returns the first `4 * blocks` words of NumPy's Philox with the key `seed`, in array code."""
    keys = [seed[i : i + 1].astype(np.uint64) for i in (0, 1)]
    zero = xp.zeros(blocks, np.uint64)
    counter = [xp.arange(1, blocks + 1, dtype=np.uint64), zero, zero, zero]
    for _ in range(10):
        high0, low0 = _multiplied(_MULTIPLIERS[0], counter[0])
        high1, low1 = _multiplied(_MULTIPLIERS[1], counter[2])
        counter = [high1 ^ counter[1] ^ keys[0], low1, high0 ^ counter[3] ^ keys[1], low0]
        keys = [key + np.uint64(step) for key, step in zip(keys, _STEPS, strict=True)]
    return xp.stack(counter, -1).reshape(-1)


def _multiplied(constant, x):
    """The high and the low word of a product of 64-bit integers, by halves."""
    a1, a0 = np.uint64(constant >> 32), np.uint64(constant & 0xFFFFFFFF)
    x1, x0 = x >> _HALF, x & _LOW
    middle = a1 * x0 + (a0 * x0 >> _HALF)
    other = a0 * x1 + (middle & _LOW)
    return a1 * x1 + (middle >> _HALF) + (other >> _HALF), x * np.uint64(constant)


# -- normal ---------------------------------------------------------------------------------------

random_normal = Primitive("random_normal(seed, *, shape, dtype) -> y")


@random_normal.infer
def _(seed, shape, dtype):
    _check_seed(seed)
    return Symbol(shape, dtype)


@random_normal.composite
def _(seed, shape, dtype):
    size = math.prod(shape)
    half = -(-size // 2)
    wide = statistics_dtype(numpy_dtype(dtype))
    u = random_uniform(seed, shape=(2, half), dtype=wide.name)
    radius = sqrt(log1p(-get_item(u, 0)) * -2.0)
    angle = get_item(u, 1) * (2 * math.pi)
    y = concatenate([radius * cos(angle), radius * sin(angle)], 0)
    return cast_to(reshape(get_item(y, slice(0, size)), shape), numpy_dtype(dtype))


@random_normal.cpu
def _(seed, shape, dtype):
    _check_seed(seed)
    dtype, size = numpy_dtype(dtype), math.prod(shape)
    half = -(-size // 2)
    u = rng.uniform(*_host(seed), (2, half), statistics_dtype(dtype))
    radius, angle = u
    np.negative(radius, out=radius)
    np.log1p(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2 * math.pi
    y = np.empty_like(u)
    np.cos(angle, out=y[0])
    np.sin(angle, out=y[1])
    y *= radius
    return y.reshape(-1)[:size].reshape(shape).astype(dtype, copy=False)


@random_normal.cuda
def _(seed, shape, dtype):
    _check_seed(seed)
    return normal_rule(seed, shape, dtype)


# -- truncated normal, integers -------------------------------------------------------------------

_SQRT_2 = math.sqrt(2.0)
_WITHIN_TWO = math.erf(_SQRT_2)  # the probability of less than two standard deviations

random_truncated_normal = Primitive("random_truncated_normal(seed, *, shape, dtype) -> y")


@random_truncated_normal.infer
def _(seed, shape, dtype):
    _check_seed(seed)
    return Symbol(shape, dtype)


@random_truncated_normal.composite
def _(seed, shape, dtype):
    """The inverse of the cumulative distribution at uniform numbers: nothing is drawn twice."""
    dtype = numpy_dtype(dtype)
    u = random_uniform(seed, shape=shape, dtype=statistics_dtype(dtype).name)
    z = erfinv(u * (2 * _WITHIN_TWO) - _WITHIN_TWO) * _SQRT_2
    return cast_to(clip(z, -2.0, 2.0), dtype)


@random_truncated_normal.cuda
def _(seed, shape, dtype):
    _check_seed(seed)
    return truncated_normal_rule(seed, shape, dtype)


random_integers = Primitive("random_integers(seed, *, shape, dtype, low, high) -> y")


@random_integers.infer
def _(seed, shape, dtype, low, high):
    _check_seed(seed)
    return Symbol(shape, dtype)


@random_integers.composite
def _(seed, shape, dtype, low, high):
    u = random_uniform(seed, shape=shape, dtype="float64")
    span = float(high) - float(low)
    return cast_to(floor(u * span) + float(low), numpy_dtype(dtype))


@random_integers.cuda
def _(seed, shape, dtype, low, high):
    _check_seed(seed)
    return integers_rule(seed, shape, dtype, low, high)


random_integers.native(integers_plan)


# -- permutations ---------------------------------------------------------------------------------

random_permutation = Primitive("random_permutation(seed, *, length) -> y")


@random_permutation.infer
def _(seed, length):
    _check_seed(seed)
    return Symbol((length,), np.dtype(np.int32))


@random_permutation.composite
def _(seed, length):
    return argsort(random_uniform(seed, shape=(length,), dtype="float64"))


@random_permutation.cuda
def _(seed, length):
    _check_seed(seed)
    return permutation_rule(seed, length)


# -- dropout --------------------------------------------------------------------------------------

dropout = Primitive("dropout(x, seed, *, rate, shape) -> y")


@dropout.infer
def _(x, seed, rate, shape):
    _check_seed(seed)
    return Symbol(x.shape, x.dtype)


@dropout.vjp
def _(g, seed, rate, shape):
    return dropout(g, seed, rate=rate, shape=shape), None  # the mask is drawn again, not stored


@dropout.cpu
def _(x, seed, rate, shape):
    _check_seed(seed)
    keep = rng.uniform(*_host(seed), shape, np.float32)
    keep = np.asarray(keep)
    np.greater_equal(keep, np.float32(rate), out=keep)
    if shape == x.shape and x.dtype == np.float32:
        keep *= x
        keep *= 1 / (1 - rate)
        return keep
    y = x * keep
    y *= 1 / (1 - rate)
    return y.astype(x.dtype)


@dropout.cuda
def _(x, seed, rate, shape):
    _check_seed(seed)
    return dropout_rule(x, seed, rate, shape)


dropout.native(dropout_plan)


@dropout.array
def _(xp, x, seed, rate, shape):
    keep = random_uniform.rules["array"](xp, seed, shape, "float32") >= np.float32(rate)
    y = (x.astype(np.float32) if is_half(x.dtype) else x) * keep
    return (y * (1 / (1 - rate))).astype(x.dtype)


# -- distributions without a closed form ----------------------------------------------------------

random_variate = Primitive("random_variate(seed, *parameters, name, shape, dtype) -> y")


@random_variate.infer
def _(seed, *parameters, name, shape, dtype):
    _check_seed(seed)
    return Symbol(shape, dtype)


@random_variate.array
def _(xp, seed, *parameters, name, shape, dtype):
    """Gamma, beta and binomial numbers: drawn on the host, by NumPy."""
    _check_seed(seed)
    on_host = [x.get() if hasattr(x, "get") else np.asarray(x) for x in (seed, *parameters)]
    draw = getattr(rng.generator(*_host(on_host[0])), name)
    y = draw(*[x.astype(np.float64) if x.dtype.kind != "i" else x for x in on_host[1:]], size=shape)
    return xp.asarray(np.asarray(y).astype(numpy_dtype(dtype)))
