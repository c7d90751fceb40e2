"""How elementwise kernels are launched: contiguous, with a scalar, or broadcast.

These are the `cuda` rules of the ops that `unary` and `binary` declare. They get CuPy arrays on a
GPU, NumPy arrays on the emulator, and NumPy scalars for Python numbers in either case.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.dtypes import numpy_dtype

BLOCK = 256
_MAX_BLOCKS = 4096  # enough to fill any GPU; the grid-stride loops do the rest
_AXES = 4  # how many axes `binary_broadcast` takes


def contiguous(x: Any) -> Any:
    """Returns an array (never a scalar) in C order, copied only if it must be."""
    if isinstance(x, np.generic):
        return np.asarray(x)
    return x if x.flags.c_contiguous else x.copy(order="C")


def grid_for(n: int, each: int = 1) -> int:
    """Returns how many blocks cover `n` elements when a thread does `each` at a time."""
    return min(ceil_div(n, BLOCK * each), _MAX_BLOCKS)


def vector_width(*arrays: Any) -> int:
    """Returns how many elements a thread may access at once: 16 bytes' worth if all are aligned."""
    width = min(16 // x.dtype.itemsize for x in arrays)
    for x in arrays:
        address = x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr
        if address % (width * x.dtype.itemsize):
            return 1
    return width


def functor_name(name: str) -> str:
    """Returns the name of an op's functor in `scalar.cuh`.

    Example:
        >>> functor_name("logical_and")
        'LogicalAnd'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def unary_rule(name: str, host: Callable, result: Any = None) -> Callable:
    """Returns the `cuda` rule of an op of one operand; `host` computes NumPy scalars."""
    functor = functor_name(name)

    def rule(x):
        if isinstance(x, np.generic):
            return host(x)
        x = contiguous(x)
        f = "LogicalNot" if functor == "BitwiseNot" and x.dtype == bool else functor
        y = empty(x.shape, numpy_dtype(result) if result else x.dtype, like=x)
        width = vector_width(x, y)
        types = (cuda_type(x.dtype), cuda_type(y.dtype), f, BLOCK, width)
        grid = grid_for(x.size, width)
        launch("elementwise.cu", "unary", types, grid=grid, block=BLOCK, args=(x, y, x.size))
        return y

    return rule


def binary_rule(name: str, host: Callable, result: Any = None) -> Callable:
    """Returns the `cuda` rule of an op of two operands that broadcast; `host` as above."""
    functor = functor_name(name)

    def rule(x1, x2):
        dtype = numpy_dtype(result) if result else x1.dtype
        if isinstance(x1, np.generic) and isinstance(x2, np.generic):
            return host(x1, x2)
        if isinstance(x2, np.generic):
            return _scalar(functor, x1, x2, dtype, first=False)
        if isinstance(x1, np.generic):
            return _scalar(functor, x2, x1, dtype, first=True)
        if x1.shape == x2.shape:
            return _same_shape(functor, contiguous(x1), contiguous(x2), dtype)
        return _broadcast(functor, x1, x2, dtype)

    return rule


def _same_shape(functor, x1, x2, dtype):
    y = empty(x1.shape, dtype, like=x1)
    width = vector_width(x1, x2, y)
    types = (cuda_type(x1.dtype), cuda_type(dtype), functor, BLOCK, width)
    args, grid = (x1, x2, y, y.size), grid_for(y.size, width)
    launch("elementwise.cu", "binary", types, grid=grid, block=BLOCK, args=args)
    return y


def _scalar(functor, x, value, dtype, first):
    x = contiguous(x)
    y = empty(x.shape, dtype, like=x)
    width = vector_width(x, y)
    types = (cuda_type(x.dtype), cuda_type(dtype), functor, first, BLOCK, width)
    args, grid = (x, accumulate_scalar(value), y, y.size), grid_for(y.size, width)
    launch("elementwise.cu", "binary_scalar", types, grid=grid, block=BLOCK, args=args)
    return y


def accumulate_scalar(value: np.generic) -> np.generic:
    """Returns a scalar in the accumulation type of its dtype (`Acc<T>` in `common.cuh`)."""
    kind = value.dtype.kind
    if kind in "bi":
        return np.int64(value)
    if kind == "u":
        return np.uint64(value)
    return value if value.dtype == np.float64 else np.float32(value)


def _broadcast(functor, x1, x2, dtype):
    x1, x2 = contiguous(x1), contiguous(x2)
    shape = np.broadcast_shapes(x1.shape, x2.shape)
    lengths, strides = merge_axes(shape, x1.shape, x2.shape)
    if len(lengths) > _AXES:  # rare: more than two changes between shared and broadcast axes
        xp = np if isinstance(x1, np.ndarray) else Device("cuda").xp
        x1, x2 = (contiguous(xp.broadcast_to(x, shape)) for x in (x1, x2))
        return _same_shape(functor, x1, x2, dtype)
    y = empty(shape, dtype, like=x1)
    missing = _AXES - len(lengths)
    lengths = [1] * missing + lengths
    first, second = ([0] * missing + steps for steps in strides)
    types = (cuda_type(x1.dtype), cuda_type(dtype), functor, BLOCK)
    args = (x1, x2, y, y.size, *lengths[1:], *first, *second)
    grid = grid_for(y.size)
    launch("elementwise.cu", "binary_broadcast", types, grid=grid, block=BLOCK, args=args)
    return y


def merge_axes(shape: tuple, *operands: tuple) -> tuple[list[int], list[list[int]]]:
    """Merges neighbouring axes that are shared, or broadcast, by the same operands.

    Args:
        shape: Shape of the result.
        *operands: Shapes that broadcast to it, of contiguous arrays.

    Returns:
        Lengths of the merged axes, and for each operand its strides in elements (0: broadcast).

    Example:
        >>> merge_axes((2, 3, 4, 5), (2, 3, 4, 5), (4, 5))
        ([6, 20], [[20, 1], [0, 1]])
    """
    padded = [(1,) * (len(shape) - len(o)) + tuple(o) for o in operands]
    lengths: list[int] = []
    shared: list[tuple[bool, ...]] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        present = tuple(o[axis] != 1 for o in padded)
        if shared and shared[-1] == present:
            lengths[-1] *= n
        else:
            lengths.append(n)
            shared.append(present)
    strides = []
    for k in range(len(operands)):
        steps, step = [], 1
        for n, present in zip(reversed(lengths), reversed(shared), strict=True):
            steps.append(step if present[k] else 0)
            step *= n if present[k] else 1
        strides.append(steps[::-1])
    return lengths or [1], strides if lengths else [[0] for _ in operands]


def where_rule(condition: Any, x1: Any, x2: Any) -> Any:
    """The `cuda` rule of `where`: operands are brought to one shape, then one kernel."""
    shape = np.broadcast_shapes(condition.shape, x1.shape, x2.shape)
    like = next((x for x in (condition, x1, x2) if not isinstance(x, np.generic)), condition)
    xp = np if isinstance(like, (np.ndarray, np.generic)) else Device("cuda").xp
    condition, x1, x2 = (
        contiguous(xp.broadcast_to(xp.asarray(x), shape)) for x in (condition, x1, x2)
    )
    y = empty(shape, x1.dtype, like=x1)
    args = (condition, x1, x2, y, y.size)
    types = (cuda_type(x1.dtype), BLOCK)
    launch("elementwise.cu", "where_same", types, grid=grid_for(y.size), block=BLOCK, args=args)
    return y


def cast_rule(x: Any, dtype: np.dtype) -> Any:
    """The `cuda` rule of `cast`."""
    x = contiguous(x)
    y = empty(x.shape, dtype, like=x)
    width = vector_width(x, y)
    types = (cuda_type(x.dtype), cuda_type(dtype), BLOCK, width)
    args, grid = (x, y, x.size), grid_for(x.size, width)
    kernel = "unary" if numpy_dtype(dtype).kind == "b" else "cast"
    if kernel == "unary":  # C++ would cut 0.5 to 0 before it becomes a bool
        types = (cuda_type(x.dtype), "bool", "Nonzero", BLOCK, width)
    launch("elementwise.cu", kernel, types, grid=grid, block=BLOCK, args=args)
    return y
