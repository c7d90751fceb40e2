"""The CUDA emulator: compiles kernels with the host's C++ compiler and runs them on the CPU.

What it is for: executing and checking every kernel where there is no GPU. One fiber stands for
one CUDA thread; barriers, warp functions with masks, atomics, shared memory, half and bfloat16
behave as on a device; threads that wait for each other forever are reported at once; memory that
was never written holds NaN. The C++ side is in `cpp/`: start with `interface.h`.
"""

import numpy as np

from gpunet.backend.emulator.loader import Function as Function
from gpunet.backend.emulator.schedules import schedule as schedule
from gpunet.backend.emulator.toolchain import compiler
from gpunet.errors import DeviceError


def available() -> tuple[bool, str]:
    """Tells whether kernels can be emulated here, and by what or why not.

    Example:
        >>> works, why = available()
        >>> type(works), type(why)
        (<class 'bool'>, <class 'str'>)
    """
    try:
        return True, " ".join(compiler())
    except DeviceError as error:
        return False, str(error)


def poison(array: np.ndarray) -> np.ndarray:
    """Fills an array with 0xFF bytes - NaN, or -1 - and returns it.

    A kernel that does not write all of its output then shows it.

    Args:
        array: A writable array of any dtype and layout.

    Example:
        >>> poison(np.empty(2, "float32"))
        array([nan, nan], dtype=float32)
    """
    array[...] = np.frombuffer(b"\xff" * array.itemsize, array.dtype)
    return array
