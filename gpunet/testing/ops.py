"""Everything that must hold for a primitive, derived from one row of inputs and attributes."""

from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.core.primitive import REGISTRY, Primitive
from gpunet.core.symbolic import flatten
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol, trace
from gpunet.testing.gradients import check_gradients
from gpunet.testing.numbers import assert_close


def run(
    op: Primitive, inputs: list[np.ndarray], attributes: dict, device: str = "cpu"
) -> list[Tensor]:
    """Applies a primitive to arrays on a device; returns a list of results."""
    place = Device(device)
    with place.activate():
        tensors = [Tensor(place.xp.asarray(x), place) for x in inputs]
    out = op(*tensors, **attributes)
    return list(out) if isinstance(out, tuple) else [out]


def check_op(name: str, inputs: list[np.ndarray], attributes: dict[str, Any] | None = None) -> None:
    """Runs the checks that need no other device for a primitive, in float64.

    Args:
        name: Name in the registry.
        inputs: Arrays; floats in float64.
        attributes: Keyword attributes.

    Raises:
        AssertionError: If one of the rules disagrees with another.

    Example:
        >>> check_op("tanh", [np.linspace(-2.0, 2.0, 5)])
    """
    op, attributes = REGISTRY[name], attributes or {}
    check_inference(op, inputs, attributes)
    check_composite(op, inputs, attributes)
    check_trace(op, inputs, attributes)
    check_unchanged(op, inputs, attributes)
    if "vjp" in op.rules or "composite" in op.rules:
        check_gradients(lambda *xs: op(*xs, **attributes), inputs)


def check_inference(op: Primitive, inputs: list[np.ndarray], attributes: dict) -> None:
    """The shapes and dtypes inferred are the real ones."""
    graph = trace(lambda *xs: op(*xs, **attributes), *[Symbol(x.shape, x.dtype) for x in inputs])
    real = run(op, inputs, attributes)
    inferred = [(s.shape, s.dtype) for s in graph.outputs]
    assert inferred == [(y.shape, y.dtype) for y in real], f"{op.name}: inferred {inferred}"


def check_composite(op: Primitive, inputs: list[np.ndarray], attributes: dict) -> None:
    """The CPU rule computes what the composite means, in float64."""
    if "composite" not in op.rules:
        return
    place = Device("cpu")
    meant = flatten(op.rules["composite"](*[Tensor(x, place) for x in inputs], **attributes))
    for y, reference in zip(run(op, inputs, attributes), meant, strict=True):
        assert_close(y, reference, "float64")


def check_trace(op: Primitive, inputs: list[np.ndarray], attributes: dict) -> None:
    """A traced and replayed graph computes the same bits."""
    graph = trace(lambda *xs: op(*xs, **attributes), *[Symbol(x.shape, x.dtype) for x in inputs])
    replayed = graph(*[Tensor(x, Device("cpu")) for x in inputs])
    for y, reference in zip(replayed, run(op, inputs, attributes), strict=True):
        np.testing.assert_array_equal(y.numpy(), reference.numpy())


def check_unchanged(op: Primitive, inputs: list[np.ndarray], attributes: dict) -> None:
    """The inputs keep their values, and strided inputs give the same results."""
    before = [x.copy() for x in inputs]
    results = run(op, inputs, attributes)
    for x, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, copy)
    for y, reference in zip(run(op, strided(inputs), attributes), results, strict=True):
        assert_close(y, reference, y.dtype.name if y.dtype.kind in "fV" else "bool")


def strided(inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the same arrays as non-contiguous views."""
    views = []
    for x in inputs:
        wide = np.empty((*x.shape, 2), x.dtype)
        wide[..., 0] = x
        wide[..., 1] = 1
        views.append(wide[..., 0])
    return views


def check_precision(
    op: Primitive,
    inputs: list[np.ndarray],
    attributes: dict,
    device: str = "cpu",
    factor: float = 1.0,
) -> None:
    """The result on a device, in the dtype of the inputs, is that of float64 on the CPU."""
    wide = [x.astype(np.float64) if x.dtype.kind in "fV" else x for x in inputs]
    dtypes = [x.dtype.name for x in inputs if x.dtype.kind in "fV"]
    for y, reference in zip(
        run(op, inputs, attributes, device), run(op, wide, attributes), strict=True
    ):
        precision = y.dtype.name if y.dtype.kind in "fV" else "bool"
        if dtypes and precision == "float64":
            precision = dtypes[0]
        assert_close(y.to("cpu"), reference.numpy(), precision, factor)
