"""Optimizer steps as fused ops: one primitive moves one weight and its slots by one step.

16-bit weights are computed in float32 and rounded once. `learning_rate` and `step` are scalar
tensors, because they change from step to step; what does not change is an attribute. A last scalar
`scale`, which may be left out, multiplies the gradient: it clips it, or takes the scale of the loss
away, without a pass over the gradients of its own.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16
from gpunet.ops.elementwise import cast_to, maximum, multiply, power, sign, sqrt, square
from gpunet.ops.reduce import sum as sum_op
from gpunet.ops.update_launch import (
    adam_rule,
    all_finite_rule,
    average_rule,
    group_rule,
    lion_rule,
    momentum_rule,
    rmsprop_rule,
    sgd_rule,
    sum_squares_rule,
)
from gpunet.ops.update_native import (
    all_finite_plan,
    average_plan,
    group_plan,
    sum_squares_plan,
    update_plan,
)

__all__: list[str] = []  # primitives for `gpunet.optimizers`; `keras.ops` has no such names

TILE = 16384  # elements: six float32 arrays of this length stay in a 512 KiB cache
_FLOAT32 = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), BFLOAT16)


def _wide(dtype):
    return _FLOAT32 if dtype in _HALVES else dtype


def _same_as(*names_of_outputs):
    """Shapes of the results: those of the weight and the slots, which are the inputs but `g`."""

    def infer(w: Symbol, g: Symbol, *rest: Symbol, **attributes: Any) -> Any:
        slots = rest[: len(names_of_outputs) - 1]
        outs = [Symbol(x.shape, x.dtype) for x in (w, *slots)]
        return tuple(outs) if slots else outs[0]

    return infer


def _in_float32(composite):
    """Runs a composite on casts of its inputs, and rounds its results to the weight's dtype."""

    @functools.wraps(composite)
    def run(w, *rest, **attributes):
        dtype = w.dtype
        wide = _wide(dtype)
        outs = composite(*[cast_to(x, wide) for x in (w, *rest)], **attributes)
        if isinstance(outs, tuple):
            return tuple(cast_to(y, dtype) for y in outs)
        return cast_to(outs, dtype)

    return run


def _tiled(update: Callable) -> Callable:
    """Makes a CPU rule of `update(outs, arrays, scratch, scalars, **attributes)`.

    It is given float arrays that fit the cache, piece by piece for large weights, and writes the
    results into `outs`; so a step allocates its results and nothing else.
    """

    # Gradients of a scaled loss may overflow; the optimizer then leaves the step out.
    @np.errstate(over="ignore", invalid="ignore")
    def rule(*inputs, count, slots, numbers=1, **attributes):
        arrays, scalars = inputs[:count], [float(x) for x in inputs[count:]]
        w = arrays[0]
        if len(scalars) > numbers:
            arrays = w, np.multiply(arrays[1], scalars.pop(), dtype=_wide(w.dtype)), *arrays[2:]
        if w.dtype in _HALVES:
            wide = [np.asarray(x, np.float32) for x in arrays]
            outs = rule(*wide, *scalars, count=count, slots=slots, numbers=numbers, **attributes)
            rounded = [y.astype(w.dtype) for y in (outs if slots else (outs,))]
            return tuple(rounded) if slots else rounded[0]
        shape, size = w.shape, w.size
        outs = [np.empty(shape, w.dtype) for _ in range(1 + slots)]
        if size <= TILE and w.ndim:
            update(outs, arrays, np.empty(shape, w.dtype), scalars, **attributes)
        else:
            flat = [x.reshape(-1) for x in map(np.asarray, arrays)]
            flat_outs = [y.reshape(-1) for y in outs]
            scratch = np.empty(min(size, TILE), w.dtype)
            for i in range(0, size, TILE):
                part = slice(i, i + TILE)
                pieces = [x[part] for x in flat]
                update(
                    [y[part] for y in flat_outs],
                    pieces,
                    scratch[: pieces[0].size],
                    scalars,
                    **attributes,
                )
        return tuple(outs) if slots else outs[0]

    return rule


def _scaled(g, scale):
    return multiply(g, scale[0]) if scale else g


def _decayed(w, learning_rate, weight_decay):
    return w * (1.0 - learning_rate * weight_decay) if weight_decay else w


# -- SGD ----------------------------------------------------------------------------------------

sgd_update = Primitive("sgd_update(w, g, learning_rate, *scale, weight_decay) -> new_w")
sgd_update.infer(_same_as("w"))


@sgd_update.composite
@_in_float32
def _(w, g, learning_rate, *scale, weight_decay):
    return _decayed(w, learning_rate, weight_decay) - _scaled(g, scale) * learning_rate


@_tiled
def _sgd(outs, arrays, scratch, scalars, weight_decay):
    (out,), (w, g), (rate,) = outs, arrays, scalars
    np.multiply(g, rate, scratch)
    if weight_decay:
        np.multiply(w, 1.0 - rate * weight_decay, out)
        out -= scratch
    else:
        np.subtract(w, scratch, out)


sgd_update.cpu(functools.partial(_sgd, count=2, slots=0))
sgd_update.cuda(sgd_rule)
sgd_update.native(update_plan("sgd", count=2))

momentum_update = Primitive(
    "momentum_update(w, g, m, learning_rate, *scale, momentum, nesterov, weight_decay)"
    " -> new_w, new_m"
)
momentum_update.infer(_same_as("w", "m"))


@momentum_update.composite
@_in_float32
def _(w, g, m, learning_rate, *scale, momentum, nesterov, weight_decay):
    step = _scaled(g, scale) * learning_rate
    m = m * momentum - step
    return _decayed(w, learning_rate, weight_decay) + (m * momentum - step if nesterov else m), m


@_tiled
def _momentum(outs, arrays, scratch, scalars, momentum, nesterov, weight_decay):
    (new_w, new_m), (w, g, m), (rate,) = outs, arrays, scalars
    np.multiply(g, rate, scratch)
    np.multiply(m, momentum, new_m)
    new_m -= scratch
    if nesterov:
        np.multiply(new_m, momentum, new_w)
        new_w -= scratch
        move = new_w
    else:
        move = new_m
    if weight_decay:
        np.multiply(w, 1.0 - rate * weight_decay, scratch)
        w = scratch
    np.add(w, move, new_w)


momentum_update.cpu(functools.partial(_momentum, count=3, slots=1))
momentum_update.cuda(momentum_rule)
momentum_update.native(update_plan("momentum", count=3))

# -- RMSprop ------------------------------------------------------------------------------------

rmsprop_update = Primitive(
    "rmsprop_update(w, g, v, learning_rate, *scale, rho, epsilon, weight_decay) -> new_w, new_v"
)
rmsprop_update.infer(_same_as("w", "v"))


@rmsprop_update.composite
@_in_float32
def _(w, g, v, learning_rate, *scale, rho, epsilon, weight_decay):
    g = _scaled(g, scale)
    v = v * rho + square(g) * (1.0 - rho)
    return _decayed(w, learning_rate, weight_decay) - g * learning_rate / sqrt(v + epsilon), v


@_tiled
def _rmsprop(outs, arrays, scratch, scalars, rho, epsilon, weight_decay):
    (new_w, new_v), (w, g, v), (rate,) = outs, arrays, scalars
    np.multiply(g, g, scratch)
    scratch *= 1.0 - rho
    np.multiply(v, rho, new_v)
    new_v += scratch
    np.add(new_v, epsilon, scratch)
    np.sqrt(scratch, scratch)
    np.divide(g, scratch, scratch)
    scratch *= rate
    if weight_decay:
        np.multiply(w, 1.0 - rate * weight_decay, new_w)
        w = new_w
    np.subtract(w, scratch, new_w)


rmsprop_update.cpu(functools.partial(_rmsprop, count=3, slots=1))
rmsprop_update.cuda(rmsprop_rule)
rmsprop_update.native(update_plan("rmsprop", count=3))

# -- Adam ---------------------------------------------------------------------------------------

adam_update = Primitive(
    "adam_update(w, g, m, v, learning_rate, step, *scale, beta_1, beta_2, epsilon, weight_decay)"
    " -> new_w, new_m, new_v"
)
adam_update.infer(_same_as("w", "m", "v"))


@adam_update.composite
@_in_float32
def _(w, g, m, v, learning_rate, step, *scale, beta_1, beta_2, epsilon, weight_decay):
    """Kingma, Ba, 2014; the weight decay is that of Loshchilov, Hutter, 2017; `step` is from 1."""
    g = _scaled(g, scale)
    corrected = sqrt(1.0 - power(beta_2, step)) / (1.0 - power(beta_1, step)) * learning_rate
    m = m + (g - m) * (1.0 - beta_1)
    v = v + (square(g) - v) * (1.0 - beta_2)
    return _decayed(w, learning_rate, weight_decay) - m * corrected / (sqrt(v) + epsilon), m, v


@_tiled
def _adam(outs, arrays, scratch, scalars, beta_1, beta_2, epsilon, weight_decay):
    (new_w, new_m, new_v), (w, g, m, v), (rate, step) = outs, arrays, scalars
    corrected = rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    np.multiply(g, 1.0 - beta_1, scratch)
    np.multiply(m, beta_1, new_m)
    new_m += scratch
    np.multiply(g, g, scratch)
    scratch *= 1.0 - beta_2
    np.multiply(v, beta_2, new_v)
    new_v += scratch
    np.sqrt(new_v, scratch)
    scratch += epsilon
    np.divide(new_m, scratch, scratch)
    scratch *= corrected
    if weight_decay:
        np.multiply(w, 1.0 - rate * weight_decay, new_w)
        w = new_w
    np.subtract(w, scratch, new_w)


adam_update.cpu(functools.partial(_adam, count=4, slots=2, numbers=2))
adam_update.cuda(adam_rule)
adam_update.native(update_plan("adam", count=4, counts_steps=True))

# -- Lion ---------------------------------------------------------------------------------------

lion_update = Primitive(
    "lion_update(w, g, m, learning_rate, *scale, beta_1, beta_2, weight_decay) -> new_w, new_m"
)
lion_update.infer(_same_as("w", "m"))


@lion_update.composite
@_in_float32
def _(w, g, m, learning_rate, *scale, beta_1, beta_2, weight_decay):
    """Chen et al., "Symbolic discovery of optimization algorithms", 2023."""
    g = _scaled(g, scale)
    direction = sign(m * beta_1 + g * (1.0 - beta_1))
    new_m = m * beta_2 + g * (1.0 - beta_2)
    return _decayed(w, learning_rate, weight_decay) - direction * learning_rate, new_m


@_tiled
def _lion(outs, arrays, scratch, scalars, beta_1, beta_2, weight_decay):
    (new_w, new_m), (w, g, m), (rate,) = outs, arrays, scalars
    np.multiply(m, beta_1, new_w)
    np.multiply(g, 1.0 - beta_1, scratch)
    new_w += scratch
    np.sign(new_w, new_w)
    new_w *= rate
    np.multiply(m, beta_2, new_m)
    np.multiply(g, 1.0 - beta_2, scratch)
    new_m += scratch
    if weight_decay:
        np.multiply(w, 1.0 - rate * weight_decay, scratch)
        w = scratch
    np.subtract(w, new_w, new_w)


lion_update.cpu(functools.partial(_lion, count=3, slots=1))
lion_update.cuda(lion_rule)
lion_update.native(update_plan("lion", count=3))

# -- many small weights at once -------------------------------------------------------------------


def _grouped(single: Primitive, count: int, scalars: int) -> Primitive:
    """Declares the update of several weights of one dtype: `single` for each of them.

    The inputs are the scalars, then all weights, all gradients, and all slots of each kind; the
    results are all weights, then the slots. On the CPU they are packed into one array, because for
    small weights the calls cost more than the numbers.
    """
    signature = ", ".join(single.inputs[count : count + scalars])
    attributes = ", ".join(single.attributes)
    group = Primitive(f"{single.name}s({signature}, *xs, {attributes}) -> ys")

    def split(inputs):
        xs = inputs[scalars:]
        size = len(xs) // count
        return inputs[:scalars], [xs[i : i + size] for i in range(0, len(xs), size)]

    @group.infer
    def _(*inputs, **attributes):
        _, kinds = split(inputs)
        return tuple(Symbol(x.shape, x.dtype) for kind in (kinds[0], *kinds[2:]) for x in kind)

    @group.composite
    def _(*inputs, **attributes):
        first, kinds = split(inputs)
        results = [single(*arrays, *first, **attributes) for arrays in zip(*kinds, strict=True)]
        if count == 2:
            return tuple(results)
        return tuple(y for kind in zip(*results, strict=True) for y in kind)

    @group.cpu
    def _(*inputs, **attributes):
        first, kinds = split(inputs)
        flat = [np.concatenate(kind, axis=None) for kind in kinds]
        results = single.rules["cpu"](*flat, *first, **attributes)
        ends = list(itertools.accumulate([x.size for x in kinds[0]]))
        places = list(zip([0, *ends], ends, [x.shape for x in kinds[0]], strict=False))
        results = results if count > 2 else (results,)
        return tuple([y[a:b].reshape(shape) for y in results for a, b, shape in places])

    group.cuda(group_rule(single.rules["cuda"], count, scalars))
    group.native(group_plan(single.name.removesuffix("_update"), count, counts_steps=scalars == 2))
    return group


sgd_updates = _grouped(sgd_update, count=2, scalars=1)
momentum_updates = _grouped(momentum_update, count=3, scalars=1)
rmsprop_updates = _grouped(rmsprop_update, count=3, scalars=1)
adam_updates = _grouped(adam_update, count=4, scalars=2)
lion_updates = _grouped(lion_update, count=3, scalars=1)

# -- clipping and averaging -----------------------------------------------------------------------

sum_squares = Primitive("sum_squares(*xs) -> y")


@sum_squares.composite
def _(*xs):
    total = None
    for x in xs:
        x = cast_to(x, _wide(x.dtype))
        squares = sum_op(multiply(x, x))
        total = squares if total is None else total + squares
    return total


@sum_squares.cpu
def _(*xs):
    total = 0.0
    for x in xs:
        flat = np.asarray(x).reshape(-1)
        if flat.dtype in _HALVES:
            flat = flat.astype(np.float32)
        total += float(np.dot(flat, flat))
    return np.asarray(total, _wide(xs[0].dtype))


sum_squares.infer(lambda *xs: Symbol((), _wide(xs[0].dtype)))
sum_squares.cuda(sum_squares_rule)
sum_squares.native(sum_squares_plan)

# Whether no element of any tensor is infinite or NaN: a boolean scalar, read by whoever scales the
# loss. Nothing waits for it.
all_finite = Primitive("all_finite(*xs) -> y")
all_finite.infer(lambda *xs: Symbol((), np.dtype(bool)))
all_finite.cuda(all_finite_rule)
all_finite.native(all_finite_plan)


@all_finite.array
def _(xp, *xs):
    finite = [xp.isfinite(x).all() for x in xs]
    return functools.reduce(xp.logical_and, finite[1:], xp.asarray(finite[0]))


def clip_by_norm(x: Tensor, norm: Tensor, limit: float) -> Tensor:
    """Returns `x * limit / max(norm, limit)` in the dtype of `x`."""
    scale = limit / maximum(norm, limit)
    return multiply(x, cast_to(scale, x.dtype))


def global_norm(xs: list[Tensor]) -> Tensor:
    """Returns the square root of the sum of the squares of all elements of all tensors."""
    return sqrt(sum_squares(*xs))


average_update = Primitive("average_update(average, w, *, momentum) -> new_average")
average_update.infer(lambda average, w, momentum: Symbol(average.shape, average.dtype))
average_update.cuda(average_rule)
average_update.native(average_plan)


@average_update.composite
@_in_float32
def _(average, w, momentum):
    return average * momentum + w * (1.0 - momentum)
