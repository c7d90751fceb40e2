"""A kernel compiled by CuPy's `RawModule`, for the GPU that its arrays are on."""

from collections.abc import Sequence

import numpy as np

from gpunet.backend.nvrtc import include_dirs
from gpunet.errors import KernelError

_FREE_SHARED = 48 * 1024  # bytes of dynamic shared memory that need not be asked for


class CudaFunction:
    """One instantiation of a kernel on one device.

    Args:
        text: CUDA source, as `assemble` returns it.
        expression: The kernel, with its template arguments: `"scale<float, 256>"`.
        device: The number of the CUDA device.

    Raises:
        KernelError: If the source does not compile.
    """

    def __init__(self, text: str, expression: str, device: int) -> None:
        import cupy

        self.name = expression
        self._array = cupy.ndarray
        self._device = cupy.cuda.Device(device)
        self._current = cupy.cuda.runtime.getDevice
        self._shared = _FREE_SHARED
        options = ("-std=c++17", *(f"-I{folder}" for folder in include_dirs()))
        module = cupy.RawModule(code=text, options=options, name_expressions=(expression,))
        try:
            with self._device:
                # `.kernel` is the loaded function itself: calling it skips looking it up again.
                self._function = module.get_function(expression).kernel
        except cupy.cuda.compiler.CompileException as error:
            raise KernelError(f"`{expression}` does not compile:\n{error}") from error

    def __call__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[object],
        shared: int = 0,
    ) -> None:
        """Puts the kernel on the current stream of its device.

        Raises:
            KernelError: If an argument is not something that kernels take.
        """
        values = tuple([self._value(index, value) for index, value in enumerate(args)])
        if shared > self._shared:
            self._function.max_dynamic_shared_size_bytes = self._shared = shared
        if self._current() == self._device.id:
            self._function(grid, block, values, shared)
        else:
            with self._device:
                self._function(grid, block, values, shared)

    def _value(self, index, value):
        """Returns an argument as CuPy takes it: it would pass a Python float as double."""
        kind = type(value)
        if isinstance(value, self._array):
            if value.flags.c_contiguous:
                return value
        elif kind is float:
            return np.float32(value)
        elif kind is int or kind is bool or value is None:
            return value
        elif isinstance(value, np.generic):
            return np.asarray(value)  # CuPy passes arrays of one element by value, of any dtype
        raise KernelError(
            f"`{self.name}`, argument {index}: kernels take C-contiguous arrays, numbers and None. "
            f"Received: {kind.__name__} {value!r}"
        )
