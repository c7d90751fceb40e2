"""How optimizer kernels are launched: the `cuda` rules of `gpunet/ops/update.py`.

The learning rate, the step count and the scale of the gradients stay on the device: the kernels
read them there, so nothing waits for them, and a captured graph stays valid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.kernels import ceil_div, cuda_type, empty, empty_like, launch
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for, vector_width
from gpunet.ops.reduce_launch import accumulate_dtype

_ALIGNMENT = 128  # bytes: parts of an arena may begin at multiples of it
_MOST_CHUNKS = 512


def _scalar(x: Any, dtype: np.dtype) -> Any:
    """Returns a scalar tensor's data as an array of one element, on its device."""
    return contiguous(x.astype(dtype, copy=False))


def update_rule(rule: str, slots: int, counts_steps: bool, settings: Callable) -> Callable:
    """Returns the `cuda` rule of an update.

    Args:
        rule: The functor in `update.cu`; with the attribute `nesterov` it is `Nesterov`.
        slots: How many slots a weight has.
        counts_steps: Whether the step count follows the learning rate.
        settings: The numbers `(a, b, epsilon)` of the rule, from the attributes.
    """

    def run(w, g, *rest, **attributes):
        arrays = [contiguous(x) for x in (w, g, *rest[:slots])]
        wide = accumulate_dtype(w.dtype)
        rate, *others = [_scalar(x, wide) for x in rest[slots:]]
        t = others.pop(0) if counts_steps else None
        scale = others.pop(0) if others else None
        a, b, epsilon = settings(**attributes)
        name = "Nesterov" if attributes.get("nesterov") else rule
        outs = [empty_like(arrays[0]) for _ in range(1 + slots)]
        missing = [None] * (2 - slots)
        decay = np.float64(attributes["weight_decay"] or 0)
        numbers = (np.float64(a), np.float64(b), np.float64(epsilon), decay)
        args = (*arrays, *missing, rate, t, scale, *outs, *missing, outs[0].size, *numbers)
        _launch(name, arrays, outs, args)
        return tuple(outs) if slots else outs[0]

    return run


def _launch(rule, arrays, outs, args):
    vector = vector_width(*arrays, *outs)
    types = (cuda_type(outs[0].dtype), rule, BLOCK, vector)
    grid = grid_for(outs[0].size, vector)
    launch("update.cu", "update", types, grid=grid, block=BLOCK, args=args)


sgd_rule = update_rule("Sgd", 0, False, lambda weight_decay: (0, 0, 0))
momentum_rule = update_rule(
    "Momentum", 1, False, lambda momentum, nesterov, weight_decay: (momentum, 0, 0)
)
rmsprop_rule = update_rule(
    "Rmsprop", 1, False, lambda rho, epsilon, weight_decay: (rho, 0, epsilon)
)
adam_rule = update_rule(
    "Adam", 2, True, lambda beta_1, beta_2, epsilon, weight_decay: (beta_1, beta_2, epsilon)
)
lion_rule = update_rule("Lion", 1, False, lambda beta_1, beta_2, weight_decay: (beta_1, beta_2, 0))


def average_rule(average: Any, w: Any, *, momentum: float) -> Any:
    """The `cuda` rule of `average_update`."""
    arrays = [contiguous(average), contiguous(w)]
    y = empty_like(arrays[0])
    numbers = (np.float64(momentum), *[np.float64(0)] * 3)
    _launch("Average", arrays, [y], (*arrays, *[None] * 5, y, None, None, y.size, *numbers))
    return y


# -- many tensors ---------------------------------------------------------------------------------


def joined(arrays: Sequence[Any], alignment: int) -> tuple[Any, list[int]] | None:
    """Returns the part of an arena that arrays fill one after the other, and where each begins.

    Args:
        arrays: Arrays of one dtype.
        alignment: The next array begins where the last one ends, or at the next multiple of so
            many bytes.

    Returns:
        A flat array and an offset for each array, or `None` if they are no parts of one array.
    """
    base, dtype = arrays[0].base, arrays[0].dtype
    if base is None or base.dtype != dtype or not base.flags.c_contiguous:
        return None
    offsets, end, itemsize = [], None, dtype.itemsize
    for x in arrays:
        if x.base is not base or not x.flags.c_contiguous:
            return None
        start = _address(x) - _address(base)
        if end is not None and start not in (end, ceil_div(end, alignment) * alignment):
            return None
        offsets.append(start // itemsize)
        end = start + x.nbytes
    flat = base.reshape(-1)[offsets[0] : (end or 0) // itemsize]
    return flat, [offset - offsets[0] for offset in offsets]


def _address(x):
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def group_rule(single: Callable, count: int, scalars: int) -> Callable:
    """Returns the `cuda` rule of the update of several weights: one launch if they are an arena.

    Args:
        single: The rule of one weight.
        count: Number of kinds of arrays: weights, gradients, slots.
        scalars: Number of scalars, which come first.
    """

    def rule(*inputs, **attributes):
        first, xs = inputs[:scalars], inputs[scalars:]
        size = len(xs) // count
        kinds = [xs[i : i + size] for i in range(0, len(xs), size)]
        arenas = [joined(kind, _ALIGNMENT) for kind in kinds]
        whole = [a for a in arenas if a is not None and a[1] == (arenas[0] or a)[1]]
        if len(whole) < count:
            results = [single(*arrays, *first, **attributes) for arrays in zip(*kinds, strict=True)]
            results = [y if isinstance(y, tuple) else (y,) for y in results]
            return tuple([y for kind in zip(*results, strict=True) for y in kind])
        results = single(*[flat for flat, _ in whole], *first, **attributes)
        places = list(zip(whole[0][1], kinds[0], strict=True))
        flats = results if isinstance(results, tuple) else (results,)
        return tuple([y[i : i + x.size].reshape(x.shape) for y in flats for i, x in places])

    return rule


def measure(xs: Sequence[Any], functor: str, result: Any) -> Any:
    """Returns a scalar measured over all elements of all arrays, in an array without axes.

    Args:
        xs: Arrays, accumulated in the dtype for that of the first.
        functor: `"Squares"` or `"Finite"`, as in `update.cu`.
        result: Dtype of the result.
    """
    wide = accumulate_dtype(xs[0].dtype)
    xs = [x if accumulate_dtype(x.dtype) == wide else x.astype(wide) for x in xs]
    arena = joined(xs, 1) if len(xs) > 1 and len({x.dtype for x in xs}) == 1 else None
    parts = [contiguous(x) for x in ([arena[0]] if arena else xs)]
    vectors = [vector_width(x) for x in parts]
    chunks = [
        min(ceil_div(x.size, 4 * BLOCK * vector), _MOST_CHUNKS)
        for x, vector in zip(parts, vectors, strict=True)
    ]
    partial, first = empty((sum(chunks),), wide, like=parts[0]), 0
    for x, vector, n in zip(parts, vectors, chunks, strict=True):
        args = (x, partial[first : first + n], x.size)
        types = (cuda_type(x.dtype), functor, BLOCK, vector)
        launch("update.cu", "measure_chunks", types, grid=n, block=BLOCK, args=args)
        first += n
    y = empty((), result, like=parts[0])
    types = (cuda_type(wide), cuda_type(result), functor, BLOCK)
    launch("update.cu", "measure_all", types, grid=1, block=BLOCK, args=(partial, y, first))
    return y


def sum_squares_rule(*xs: Any) -> Any:
    """The `cuda` rule of `sum_squares`."""
    return measure(xs, "Squares", accumulate_dtype(xs[0].dtype))


def all_finite_rule(*xs: Any) -> Any:
    """The `cuda` rule of `all_finite`."""
    return measure(xs, "Finite", np.dtype(bool))
