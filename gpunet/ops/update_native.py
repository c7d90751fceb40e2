"""How optimizer kernels are planned: the `native` rules of `gpunet/ops/update.py`."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.native import Launch, Operand, runtime

_SUFFIXES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
_SCALARS = {np.dtype(t): i for i, t in enumerate(["f4", "f8", "i4", "i8", "u4"])}
_CHUNK = 16384  # elements that are summed on their own: CHUNK of `optimizer.cpp`

# Attributes as the kernels take them: weight decay, then these.
_NUMBERS = ("momentum", "rho", "beta_1", "beta_2", "epsilon")


def update_plan(kernel: str, count: int, counts_steps: bool = False) -> Callable:
    """Returns the `native` rule of an update of one weight.

    Args:
        kernel: The part of its name before the dtype.
        count: How many arrays a weight has: itself, its gradient, its slots.
        counts_steps: Whether the step count follows the learning rate.
    """

    def plan(inputs: list[Operand], outputs: list[Operand], **attributes: Any) -> Launch | None:
        scalars = list(enumerate(inputs))[count:]
        return _update(kernel, counts_steps, inputs, outputs, scalars, 0, 1, attributes)

    return plan


def group_plan(kernel: str, count: int, counts_steps: bool = False) -> Callable:
    """Returns the `native` rule of the update of several weights: scalars come first."""
    first = 1 + counts_steps

    def plan(inputs: list[Operand], outputs: list[Operand], **attributes: Any) -> Launch | None:
        weights, scalars = (len(inputs) - first) // count, list(enumerate(inputs))[:first]
        return _update(kernel, counts_steps, inputs, outputs, scalars, first, weights, attributes)

    return plan


def _update(kernel, counts_steps, inputs, outputs, scalars, first, weights, attributes):
    dtype = outputs[0].dtype if outputs else None
    places = [i for i, _ in scalars]
    arrays = [x for i, x in enumerate(inputs) if i not in places]
    if dtype not in _SUFFIXES or any(x.dtype != dtype for x in (*arrays, *outputs)):
        return None
    if any(x.size != 1 or x.dtype not in _SCALARS for _, x in scalars):
        return None
    found = [(i, _SCALARS[x.dtype]) for i, x in scalars]
    if not counts_steps:
        found.insert(1, (-1, 0))
    found += [(-1, 0)] * (3 - len(found))
    lengths = [y.size for y in outputs[:weights]]
    nesterov = int(bool(attributes.get("nesterov")))
    slots = len(outputs) // weights - 1
    kinds = [0, *range(2, 2 + slots)]  # of inputs: results are the weights and the slots
    in_place = [
        (k * weights + i, first + kind * weights + i)
        for k, kind in enumerate(kinds)
        for i in range(weights)
    ]
    return Launch(
        f"optimizer.{kernel}_{_SUFFIXES[dtype]}",
        (weights, len(inputs), first, *itertools.chain(*found), nesterov, *lengths),
        (
            attributes["weight_decay"],
            *[attributes[name] for name in _NUMBERS if name in attributes],
        ),
        in_place=tuple(in_place),
    )


def sum_squares_plan(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `sum_squares`."""
    suffix = _one_dtype(inputs)
    if suffix is None:
        return None
    lengths = [x.size for x in inputs]
    chunks = [0, *itertools.accumulate(-(-n // _CHUNK) for n in lengths)]
    sizes = (len(inputs), *lengths, *chunks)
    return Launch(f"optimizer.sum_squares_{suffix}", sizes, scratch=8 * chunks[-1])


def all_finite_plan(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `all_finite`."""
    suffix = _one_dtype(inputs)
    if suffix is None:
        return None
    sizes = (len(inputs), *[x.size for x in inputs])
    return Launch(f"optimizer.all_finite_{suffix}", sizes, scratch=8 * runtime().threads)


def average_plan(inputs: list[Operand], outputs: list[Operand], momentum: float) -> Launch | None:
    """The `native` rule of `average_update`."""
    suffix = _one_dtype(inputs)
    if suffix is None or inputs[0].shape != inputs[1].shape:
        return None
    numbers = (momentum,)
    return Launch(
        f"optimizer.average_{suffix}", (outputs[0].size,), numbers, in_place=((0, 0), (0, 1))
    )


def _one_dtype(operands: Sequence[Operand]) -> str | None:
    """The dtype as kernels are named by it, if all operands have one and there are kernels."""
    dtypes = {x.dtype for x in operands}
    return _SUFFIXES.get(dtypes.pop()) if len(dtypes) == 1 else None
