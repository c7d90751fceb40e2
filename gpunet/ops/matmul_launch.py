"""How matrix products are launched: cuBLASLt on a GPU, NumPy on the emulator."""

from types import ModuleType
from typing import Any

import numpy as np

from gpunet import config
from gpunet.backend import blas
from gpunet.backend.device import Device


def xp_of(x: Any) -> ModuleType:
    """Returns the array module of an array: NumPy or CuPy."""
    return np if isinstance(x, np.ndarray) else Device("cuda").xp


def on_cublaslt(x: Any) -> bool:
    """Tells whether products of an array run on cuBLASLt: float32 or halves, on a GPU."""
    return not isinstance(x, np.ndarray) and blas.supports(x.dtype)


def gpu_matmul(x1: Any, x2: Any, transpose1: bool = False, transpose2: bool = False) -> Any:
    """Returns a product on a GPU: one large one instead of many small ones where it is the same."""
    tf32 = x1.dtype == np.float32 and config.float32_matmul_precision() == "high"
    options = {"transpose_a": transpose1, "transpose_b": transpose2, "tf32": tf32}
    if x1.ndim > 2 and x2.ndim == 2 and not transpose1 and x1.flags.c_contiguous and x1.size:
        flat = blas.matmul(x1.reshape(-1, x1.shape[-1]), x2, **options)
        return flat.reshape(*x1.shape[:-1], flat.shape[-1])
    return blas.matmul(x1, x2, **options)
