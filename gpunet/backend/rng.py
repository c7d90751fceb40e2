"""One random stream for all devices: NumPy's Philox4x64-10.

A draw is named by two words, `(seed, draw)`: the key of the generator, whose counter starts at
zero. The CPU runs NumPy's own C code; the CUDA kernel `random.cu` computes the same blocks, so the
same seed gives the same bits everywhere.

Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from typing import Any

import numpy as np

_MASK = (1 << 64) - 1


def generator(seed: int, draw: int = 0) -> np.random.Generator:
    """Returns NumPy's generator for one draw of one seed.

    Args:
        seed: First word of the key, 0 to 2**64 - 1.
        draw: Second word of the key: which draw of this seed.

    Example:
        >>> float(generator(7).random(dtype=np.float32)) == float(
        ...     generator(7).random(dtype=np.float32)
        ... )
        True
    """
    key = (int(seed) & _MASK) | (int(draw) & _MASK) << 64
    return np.random.Generator(np.random.Philox(key=key))


def uniform(seed: int, draw: int, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Returns float32 or float64 draws from [0, 1), of the given shape."""
    return generator(seed, draw).random(shape, dtype=dtype)
