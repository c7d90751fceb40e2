"""Plans of the C++ kernels that work element by element: any layout, broadcast, in place."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.native import Launch, Operand

SUFFIXES = {
    np.dtype(t): name
    for t, name in (
        *((np.float32, "f32"), (np.float64, "f64"), (np.int32, "i32"), (np.int64, "i64")),
        *((np.uint8, "u8"), (np.bool_, "b8")),
    )
}
_FLOATS = ("f32", "f64")
_NUMBERS = ("f32", "f64", "i32", "i64")
_ANY = (*_NUMBERS, "b8")
_BOOLS = ("b8",)
_MAX_AXES = 8  # MAX_AXES of `elementwise.h`
_SMALL = 2048  # elements from which NumPy's vectorised functions win over the standard library's


def _in_file(file, suffixes, names):
    return {name: (file, suffixes) for name in names.split()}


# File and dtypes of the kernel of each op.
_KERNELS = {
    **_in_file("elementwise", _NUMBERS, "add subtract multiply maximum minimum clip negative"),
    **_in_file("elementwise", _NUMBERS, "absolute sign square relu relu6 relu_grad"),
    **_in_file("elementwise", _FLOATS, "true_divide reciprocal sqrt rsqrt floor ceil trunc round"),
    **_in_file("elementwise", _FLOATS, "fmax fmin leaky_relu"),
    **_in_file("compare", _NUMBERS, "less less_equal greater greater_equal"),
    **_in_file("compare", _ANY, "equal not_equal"),
    **_in_file("compare", _BOOLS, "logical_and logical_or logical_not"),
    **_in_file("compare", _FLOATS, "isnan isinf isfinite"),
    **_in_file("activation", _FLOATS, "exp expm1 log log1p tanh erf sigmoid sigmoid_grad silu"),
    **_in_file("activation", _FLOATS, "silu_grad softplus log_sigmoid softsign hard_sigmoid"),
    **_in_file("activation", _FLOATS, "hard_silu mish gelu_tanh gelu_erf gelu_tanh_grad"),
    **_in_file("activation", _FLOATS, "gelu_erf_grad elu power sin cos"),
}
_UNVECTORISED = ("power", "sin", "cos")


def has_kernel(name: str) -> bool:
    """Tells whether there is a kernel of this name."""
    return name in _KERNELS


def native_rule(name: str) -> Callable:
    """Returns the `native` rule of an op without attributes."""
    largest = _SMALL if name in _UNVECTORISED else None

    def rule(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
        if largest is not None and outputs[0].size > largest:
            return None
        return elementwise(name, inputs, outputs[0])

    return rule


def elementwise(
    name: str, inputs: Sequence[Operand], output: Operand, numbers: tuple[float, ...] = ()
) -> Launch | None:
    """Plans the kernel of an op for operands of one dtype; `None` if it has none for them."""
    file, suffixes = _KERNELS[name]
    suffix = SUFFIXES.get(inputs[0].dtype)
    if suffix not in suffixes or any(x.dtype != inputs[0].dtype for x in inputs):
        return None
    return mapped(f"{file}.{name}_{suffix}", inputs, output, numbers)


def mapped(
    kernel: str, inputs: Sequence[Operand], output: Operand, numbers: tuple[float, ...] = ()
) -> Launch | None:
    """Plans a kernel that is one `map` of `elementwise.h`; `None` if it has too many axes."""
    shape, strides = collapsed(output.shape, [broadcast_strides(x, output.shape) for x in inputs])
    if len(shape) > _MAX_AXES:
        return None
    sizes = (output.size, len(shape), *shape, *(step for steps in strides for step in steps))
    in_place = tuple(
        (0, i)
        for i, x in enumerate(inputs)
        if x.shape == output.shape and x.dtype.itemsize == output.dtype.itemsize and x.contiguous
    )
    return Launch(kernel, sizes, numbers, in_place=in_place, strided=True)


def broadcast_strides(x: Operand, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the strides of an operand that is broadcast to a shape."""
    steps = [0 if n == 1 else step for n, step in zip(x.shape, x.strides, strict=True)]
    return (0,) * (len(shape) - x.ndim) + tuple(steps)


def collapsed(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Returns as few axes as can be: without those of length 1, neighbours joined where they can.

    Args:
        shape: The lengths that all operands share.
        strides: The strides of each operand.

    Example:
        >>> collapsed((2, 1, 3), [(3, 3, 1), (0, 0, 1)])
        ((2, 3), [(3, 1), (0, 1)])
        >>> collapsed((2, 3), [(3, 1), (0, 0)])
        ((6,), [(1,), (0,)])
    """
    axes: list[tuple[int, tuple[int, ...]]] = []
    for n, steps in zip(shape, zip(*strides, strict=True), strict=True):
        if n == 1:
            continue
        if axes:
            outer, outer_steps = axes[-1]
            if all(a == b * n for a, b in zip(outer_steps, steps, strict=True)):
                axes[-1] = (outer * n, steps)
                continue
        axes.append((n, steps))
    lengths = tuple([n for n, _ in axes])
    return lengths, [tuple([steps[k] for _, steps in axes]) for k in range(len(strides))]


# -- rules of ops with attributes or several dtypes -----------------------------------------------


def cast_native(inputs: list[Operand], outputs: list[Operand], dtype: Any) -> Launch | None:
    """The `native` rule of `cast`."""
    source, target = (SUFFIXES.get(x.dtype) for x in (inputs[0], outputs[0]))
    if source is None or target is None:
        return None
    return mapped(f"cast.{source}_{target}", inputs, outputs[0])


def where_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `where`."""
    _, x1, x2 = inputs
    if inputs[0].dtype != bool or x1.dtype != x2.dtype or x1.dtype.itemsize > 8:
        return None
    return mapped(f"elementwise.where_{8 * x1.dtype.itemsize}", inputs, outputs[0])


def round_native(inputs: list[Operand], outputs: list[Operand], decimals: int) -> Launch | None:
    """The `native` rule of `round`: to whole numbers."""
    return elementwise("round", inputs, outputs[0]) if decimals == 0 else None


def leaky_relu_native(inputs: list[Operand], outputs: list[Operand], slope: float) -> Launch | None:
    """The `native` rule of `leaky_relu`."""
    return elementwise("leaky_relu", inputs, outputs[0], (slope,))


def elu_native(
    inputs: list[Operand], outputs: list[Operand], alpha: float, scale: float, rate: float
) -> Launch | None:
    """The `native` rule of `elu`."""
    return elementwise("elu", inputs, outputs[0], (alpha, scale, rate))


def gelu_native(inputs: list[Operand], outputs: list[Operand], approximate: bool) -> Launch | None:
    """The `native` rule of `gelu` (one input) and of its gradient (two)."""
    name = ("gelu_tanh" if approximate else "gelu_erf") + ("_grad" if len(inputs) == 2 else "")
    return elementwise(name, inputs, outputs[0])
