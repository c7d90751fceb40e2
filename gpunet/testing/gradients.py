"""Gradient checks by random projections: two evaluations of the function, whatever its size."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.core.autograd import full
from gpunet.core.gradients import value_and_grad
from gpunet.core.tensor import tensor

_STEP = 1e-5


def check_gradients(
    f: Callable, inputs: Sequence[Any], order: int = 2, tol: float = 1e-6, seed: int = 0
) -> None:
    """Asserts that the gradients of a function agree with central differences, in float64.

    For random directions `u` and weights `v` the derivative of `<v, f(x)>` along `u` is compared
    with `<gradient, u>`; for the second order the gradient itself is checked in the same way.

    Args:
        f: Function of tensors with a tensor or tuple of tensors as its result.
        inputs: Arrays; the float ones are differentiated by.
        order: How many derivatives are checked.
        tol: Relative tolerance.
        seed: Seed of the random directions.

    Raises:
        AssertionError: If they differ.

    Example:
        >>> import gpunet
        >>> check_gradients(lambda x: x * gpunet.ops.sin(x), [np.linspace(0.0, 1.0, 5)])
    """
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(x) for x in inputs]
    where = tuple(i for i, x in enumerate(arrays) if x.dtype.kind not in "biu")
    arrays = [x.astype(np.float64) if i in where else x for i, x in enumerate(arrays)]
    if where:
        _check(f, arrays, where, order, tol, rng)


def _check(f, arrays, where, order, tol, rng):
    weights: list[Any] = []

    def projected(*xs):
        outs = f(*xs)
        outs = outs if isinstance(outs, (tuple, list)) else (outs,)
        total = full((), np.float64, 0.0, Device("cpu"))
        for i, y in enumerate(outs):
            if y is None or y.dtype.kind in "biu":
                continue
            if i >= len(weights):
                weights.extend([None] * (i + 1 - len(weights)))
            if weights[i] is None:
                weights[i] = tensor(rng.standard_normal(y.shape), device="cpu")
            total = total + (y * weights[i]).sum()
        return total

    def value(moved):
        return projected(*[tensor(x, device="cpu") for x in moved]).item()

    value(arrays)  # draws the weights
    gradient = value_and_grad(projected, argnums=where)
    _, found = gradient(*[tensor(x, device="cpu") for x in arrays])
    for i, g in zip(where, found, strict=True):
        assert g.shape == arrays[i].shape, f"input {i}: gradient of shape {g.shape}"
    directions = [rng.standard_normal(arrays[i].shape) for i in where]
    up, down = list(arrays), list(arrays)
    for i, u in zip(where, directions, strict=True):
        up[i], down[i] = arrays[i] + _STEP * u, arrays[i] - _STEP * u
    numeric = (value(up) - value(down)) / (2 * _STEP)
    analytic = sum(float((g.numpy() * u).sum()) for g, u in zip(found, directions, strict=True))
    # Rounding of the values limits what differences can see.
    noise = 1e-15 * abs(value(arrays)) / _STEP
    scale = max(1.0, abs(numeric), max(float(np.abs(g.numpy()).max(initial=0)) for g in found))
    assert abs(numeric - analytic) <= tol * scale + 10 * noise, (
        f"derivative {analytic}, by differences {numeric}"
    )
    if order > 1:
        _check(lambda *xs: gradient(*xs)[1], arrays, where, order - 1, tol, rng)
