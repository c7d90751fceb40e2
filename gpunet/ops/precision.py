"""Half-precision inputs: compute in float32, round once at the end."""

import functools
from collections.abc import Callable

import numpy as np

from gpunet.dtypes import BFLOAT16
from gpunet.ops.elementwise import cast_to

_FLOAT32 = np.dtype(np.float32)
_FLOAT16 = np.dtype(np.float16)


def is_half(dtype: np.dtype) -> bool:
    """Tells whether a dtype is float16 or bfloat16."""
    return dtype in (_FLOAT16, BFLOAT16)


def statistics_dtype(dtype: np.dtype) -> np.dtype:
    """Returns the dtype that sums over a dtype are kept in: float32 for halves, else itself."""
    return _FLOAT32 if is_half(dtype) else dtype


def widened(rule: Callable) -> Callable:
    """Makes an array rule `f(xp, *arrays)` compute halves in float32 and round its results once."""

    @functools.wraps(rule)
    def wide(xp, *arrays, **attributes):
        dtype = arrays[0].dtype
        if dtype.itemsize != 2 or not is_half(dtype):
            return rule(xp, *arrays, **attributes)
        arrays = [x.astype(_FLOAT32) if is_half(x.dtype) else x for x in arrays]
        with np.errstate(over="ignore"):  # loss scaling finds its scale by what overflows
            y = rule(xp, *arrays, **attributes)
            if type(y) is tuple:
                return tuple([part.astype(dtype) for part in y])
            return y.astype(dtype)

    return wide


def widened_composite(composite: Callable) -> Callable:
    """The same for a composite rule, on tensors."""

    @functools.wraps(composite)
    def wide(*tensors, **attributes):
        dtype = tensors[0].dtype
        if dtype.itemsize != 2 or not is_half(dtype):
            return composite(*tensors, **attributes)
        tensors = [cast_to(x, _FLOAT32) if is_half(x.dtype) else x for x in tensors]
        y = composite(*tensors, **attributes)
        if isinstance(y, tuple):
            return tuple(cast_to(part, dtype) for part in y)
        return cast_to(y, dtype)

    return wide
