"""How the selection of the largest elements is launched."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import cuda_type, empty, launch
from gpunet.ops.copy_launch import BLOCK, contiguous

_MOST = 64  # how many of a row the kernel keeps in shared memory
_MAX_ROWS_AT_ONCE = 65535


def top_k_rule(array: Callable) -> Callable:
    """Returns the `cuda` rule of `top_k`; more than 64 of a row are left to the array rule."""

    def rule(x: Any, *, k: int) -> tuple[Any, Any]:
        if k > _MOST:
            return array(np if isinstance(x, np.ndarray) else Device("cuda").xp, x, k=k)
        x = contiguous(x)
        shape = (*x.shape[:-1], k)
        values, indices = empty(shape, x.dtype, like=x), empty(shape, np.int32, like=x)
        rows = math.prod(x.shape[:-1]) if k else 0
        args = (x, values, indices, rows, x.shape[-1], np.int32(k))
        types, grid = (cuda_type(x.dtype), BLOCK, _MOST), min(rows, _MAX_ROWS_AT_ONCE)
        launch("top_k.cu", "top_k", types, grid=grid, block=BLOCK, args=args)
        return values, indices

    return rule
