"""How elementwise kernels are launched: operands brought to rows of columns, or kept as numbers.

These are the `cuda` rules of the ops that `unary` and `binary` declare. They get CuPy arrays on a
GPU, NumPy arrays on the emulator, and NumPy scalars for Python numbers in either case. Views whose
last axis is contiguous or repeated go into the kernel as they are; others are copied first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.dtypes import BFLOAT16, numpy_dtype
from gpunet.ops.copy_launch import BLOCK as BLOCK
from gpunet.ops.copy_launch import (
    MAX_BLOCKS,
    Rows,
    address,
    as_rows,
    element_strides,
    grid_of_rows,
    pointer,
)
from gpunet.ops.copy_launch import contiguous as contiguous


def grid_for(n: int, each: int = 1) -> int:
    """Returns how many blocks cover `n` elements when a thread does `each` at a time."""
    return min(ceil_div(n, BLOCK * each), MAX_BLOCKS)


def vector_width(*arrays: Any) -> int:
    """Returns how many elements a thread may access at once: 16 bytes' worth if all are aligned."""
    width = min(16 // x.dtype.itemsize for x in arrays)
    aligned = all(address(x) % (width * x.dtype.itemsize) == 0 for x in arrays)
    return width if aligned else 1


def functor_name(name: str) -> str:
    """Returns the name of an op's functor in `scalar.cuh`.

    Example:
        >>> functor_name("logical_and")
        'LogicalAnd'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def accumulate_scalar(value: np.generic) -> np.generic:
    """Returns a scalar in the accumulation type of its dtype (`Acc<T>` in `common.cuh`)."""
    kind = value.dtype.kind
    if kind in "bi":
        return np.int64(value)
    if kind == "u":
        return np.uint64(value)
    return value if value.dtype == np.float64 else np.float32(value)


# -- the launch ---------------------------------------------------------------------------------


def arrange(shape: tuple[int, ...], *xs: Any) -> tuple[Rows, list[Any]]:
    """Returns rows of columns, and the operands as their kernel takes them."""
    for attempt in range(3):
        rows = as_rows(shape, *[element_strides(x, shape) for x in xs])
        if rows is not None and all(s[3] in (0, 1) for s in rows.strides):
            return rows, list(xs)
        if attempt == 0:
            xs = tuple([x if isinstance(x, np.generic) else contiguous(x) for x in xs])
        else:  # too many changes between shared and broadcast axes
            xs = tuple([_spread(x, shape) for x in xs])
    raise AssertionError(f"contiguous operands of shape {shape} are one row")


def _spread(x, shape):
    if isinstance(x, np.generic):
        return x
    xp = np if isinstance(x, np.ndarray) else Device("cuda").xp
    return contiguous(xp.broadcast_to(x, shape))


def vectors_in(rows: Rows, xs: Sequence[Any], *ys: Any) -> tuple[bool, int]:
    """Whether groups of 16 bytes are aligned in all operands that move along; groups in a row."""
    arrays = [x for x in (*xs, *ys) if not isinstance(x, np.generic)]
    width = 16 // max(x.dtype.itemsize for x in arrays)
    moving = [(x, s) for x, s in zip(xs, rows.strides, strict=True) if s[3]]
    steps = [step for _, s in moving for step in s[:3]]
    if rows.rows > 1:
        steps.append(rows.columns)
    aligned = all(address(x) % (width * x.dtype.itemsize) == 0 for x, _ in moving)
    return aligned and not any(step % width for step in steps), ceil_div(rows.columns, width)


def number(x: Any, dtype: np.dtype) -> tuple[Any, np.generic]:
    """The argument that stands for an operand: its array, or null and a number."""
    if isinstance(x, np.generic):
        return None, accumulate_scalar(x)
    return pointer(x), accumulate_scalar(dtype.type(0))


def _run(kernel, template, arguments, shape, xs, y):
    """Launches with operands `xs`; `arguments` makes the kernel's first ones from them."""
    rows, xs = arrange(shape, *xs)
    vectors, groups = vectors_in(rows, xs, y)
    strides = [v for s in rows.strides for v in (*s[:3], s[3] == 1)]
    grid, block = grid_of_rows(rows.rows, groups)
    launch(
        "elementwise.cu",
        kernel,
        (*template, BLOCK),
        grid=grid,
        block=block,
        args=(*arguments(xs), *rows[:4], *strides, vectors),
    )
    return y


def _apply_unary(functor, x, dtype):
    x = contiguous(x)
    y = empty(x.shape, dtype, like=x)
    width = 16 // max(x.dtype.itemsize, y.dtype.itemsize)
    vectors = address(x) % (width * x.dtype.itemsize) == 0
    types = (cuda_type(x.dtype), cuda_type(dtype), functor, BLOCK)
    args, grid = (x, y, x.size, vectors), grid_for(x.size, width)
    launch("elementwise.cu", "unary", types, grid=grid, block=BLOCK, args=args)
    return y


def _apply_binary(functor, x1, x2, dtype):
    like = x2 if isinstance(x1, np.generic) else x1
    shape = x1.shape if x1.shape == x2.shape else np.broadcast_shapes(x1.shape, x2.shape)
    y = empty(shape, dtype, like=like)

    def arguments(xs):
        (first, number1), (second, number2) = (number(x, like.dtype) for x in xs)
        return first, second, number1 if first is None else number2, y

    types = (cuda_type(like.dtype), cuda_type(dtype), functor)
    return _run("binary", types, arguments, shape, (x1, x2), y)


def _apply_ternary(functor, x1, x2, x3, dtype):
    like = next(x for x in (x1, x2, x3) if not isinstance(x, np.generic))
    if isinstance(x1, np.generic):
        x1 = np.asarray(x1) if isinstance(like, np.ndarray) else Device("cuda").xp.asarray(x1)
    shape = np.broadcast_shapes(x1.shape, x2.shape, x3.shape)
    y = empty(shape, dtype, like=like)

    def arguments(xs):
        (second, number2), (third, number3) = (number(x, dtype) for x in xs[1:])
        return pointer(xs[0]), second, third, number2, number3, y

    types = (cuda_type(x1.dtype), cuda_type(dtype), functor)
    return _run("ternary", types, arguments, shape, (x1, x2, x3), y)


# -- the rules ----------------------------------------------------------------------------------


def unary_rule(name: str, host: Callable, result: Any = None) -> Callable:
    """Returns the `cuda` rule of an op of one operand; `host` computes NumPy scalars."""
    functor = functor_name(name)

    def rule(x):
        if isinstance(x, np.generic):
            return host(x)
        f = "LogicalNot" if functor == "BitwiseNot" and x.dtype == bool else functor
        return _apply_unary(f, x, numpy_dtype(result) if result else x.dtype)

    return rule


def binary_rule(name: str, host: Callable, result: Any = None) -> Callable:
    """Returns the `cuda` rule of an op of two operands that broadcast; `host` as above."""
    functor = functor_name(name)

    def rule(x1, x2):
        if isinstance(x1, np.generic) and isinstance(x2, np.generic):
            return host(x1, x2)
        return _apply_binary(functor, x1, x2, numpy_dtype(result) if result else x1.dtype)

    return rule


def ternary_rule(name: str, host: Callable) -> Callable:
    """Returns the `cuda` rule of an op of three operands, the result of the last one's dtype."""
    functor = functor_name(name)

    def rule(x1, x2, x3):
        if all(isinstance(x, np.generic) for x in (x1, x2, x3)):
            return host(x1, x2, x3)
        return _apply_ternary(functor, x1, x2, x3, x3.dtype)

    return rule


def cast_rule(x: Any, dtype: np.dtype) -> Any:
    """The `cuda` rule of `cast`: C++ would cut 0.5 to 0 before it becomes a bool."""
    if isinstance(x, np.generic):
        return x.astype(dtype)
    return _apply_unary("Nonzero" if numpy_dtype(dtype).kind == "b" else "Identity", x, dtype)


# -- ops with attributes: these become numbers, or choose the functor ---------------------------


def number_like(value: float, x: Any) -> np.generic:
    """Returns a number in the dtype that elements of a float array are computed in."""
    return np.float64(value) if x.dtype == np.float64 else np.float32(value)


def round_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `round`.

    Integers, and more places than a float32 can count, are left to the array rule `array`.
    """

    def rule(x, *, decimals):
        xp = np if isinstance(x, (np.ndarray, np.generic)) else Device("cuda").xp
        floats = x.dtype.kind == "f" or x.dtype == BFLOAT16
        if isinstance(x, np.generic) or not floats or abs(decimals) > 30:
            return array(xp, x, decimals=decimals)
        name = "Round" if decimals >= 0 else "RoundTens"
        return _apply_binary(name, x, number_like(10.0 ** abs(decimals), x), x.dtype)

    return rule


def leaky_relu_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `leaky_relu`; `array` computes NumPy scalars."""

    def rule(x, *, slope):
        if isinstance(x, np.generic):
            return array(np, x, slope=slope)
        return _apply_binary("LeakyRelu", x, number_like(slope, x), x.dtype)

    return rule


def elu_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `elu`; `array` computes NumPy scalars.

    The public ops scale either the result (`elu`, `selu`) or the exponent (`celu`); both at once,
    which only a direct use of the primitive can ask for, is left to the array rule.
    """

    def rule(x, *, alpha, scale, rate):
        xp = np if isinstance(x, (np.ndarray, np.generic)) else Device("cuda").xp
        if isinstance(x, np.generic) or (rate != 1 and scale != 1):
            return array(xp, x, alpha=alpha, scale=scale, rate=rate)
        name, second = ("Elu", scale) if rate == 1 else ("Celu", rate)
        return _apply_ternary(name, x, number_like(alpha, x), number_like(second, x), x.dtype)

    return rule


def gelu_rule(array: Callable, gradient: bool) -> Callable:
    """Returns the `cuda` rule of `gelu` or, with `gradient`, of `gelu_grad(g, x)`."""

    def rule(*xs, approximate):
        name = ("gelu_tanh" if approximate else "gelu") + ("_grad" if gradient else "")
        host = lambda *numbers: array(np, *numbers, approximate=approximate)  # noqa: E731
        return (binary_rule if gradient else unary_rule)(name, host)(*xs)

    return rule


def nextafter_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `nextafter`; neighbours of 16-bit floats by the array rule."""
    kernel = binary_rule("nextafter", lambda x1, x2: array(np, x1, x2))

    def rule(x1, x2):
        if x1.dtype.itemsize >= 4:
            return kernel(x1, x2)
        like = x2 if isinstance(x1, np.generic) else x1
        xp = np if isinstance(like, (np.ndarray, np.generic)) else Device("cuda").xp
        return array(xp, x1, x2)

    return rule
