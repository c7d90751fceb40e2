"""A kernel compiled by CuPy's `RawModule`, for the GPU that its arrays are on.

What would go wrong on the GPU is refused before the launch: there, a wrong type reads garbage, and
one bad address takes the whole process's CUDA context with it.
"""

from collections.abc import Sequence

import numpy as np

from gpunet.backend import faults
from gpunet.backend.nvrtc import include_dirs
from gpunet.backend.signature import DTYPES
from gpunet.errors import KernelError, received

_FREE_SHARED = 48 * 1024  # bytes of dynamic shared memory that need not be asked for
_PYTHON = {"long long": int, "float": float, "bool": bool}


class CudaFunction:
    """One instantiation of a kernel on one device.

    Args:
        text: CUDA source, as `assemble` returns it.
        expression: The kernel, with its template arguments: `"scale<float, 256>"`.
        device: The number of the CUDA device.
        parameters: The types of its parameters, as `Signature.types` returns them; `None`: not
            known, so that arguments are not compared with them.

    Raises:
        KernelError: If the source does not compile.
    """

    def __init__(
        self,
        text: str,
        expression: str,
        device: int,
        parameters: tuple[str | None, ...] | None = None,
    ) -> None:
        import cupy

        self.name = expression
        self._array = cupy.ndarray
        self._device = cupy.cuda.Device(device)
        self._current = cupy.cuda.runtime.getDevice
        self._errors = faults.cuda_errors()
        options = ("-std=c++17", *(f"-I{folder}" for folder in include_dirs()))
        module = cupy.RawModule(code=text, options=options, name_expressions=(expression,))
        try:
            with self._device:
                self._kernel = module.get_function(expression)
                # `.kernel` is the loaded function itself: calling it skips looking it up again.
                self._function = self._kernel.kernel
                self._threads = self._kernel.max_threads_per_block
                self._static = self._kernel.shared_size_bytes
        except cupy.cuda.compiler.CompileException as error:
            raise KernelError(f"`{expression}` does not compile:\n{error}") from error
        self._shared = max(0, _FREE_SHARED - self._static)
        self._parameters = parameters
        self._wanted = None if parameters is None else [_wanted(p) for p in parameters]

    def __call__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[object],
        shared: int = 0,
    ) -> None:
        """Puts the kernel on the current stream of its device.

        Raises:
            KernelError: If an argument does not fit its parameter, the block or the shared memory
                is more than the device has for this kernel, or CUDA reports an error.
        """
        wanted = self._wanted
        if wanted is None:
            values = tuple([self._value(index, value) for index, value in enumerate(args)])
        elif len(wanted) == len(args):
            pairs = enumerate(zip(args, wanted, strict=True))
            values = tuple([self._value(index, x, *want) for index, (x, want) in pairs])
        else:
            raise KernelError(
                f"`{self.name}` takes {len(wanted)} arguments "
                f"({', '.join(map(str, self._parameters or ()))}). Received: {len(args)} arguments"
            )
        if block[0] * block[1] * block[2] > self._threads:
            raise KernelError(
                f"`{self.name}`: a block of this kernel has at most {self._threads} threads on "
                f"{self._device}: its registers are used up. {received(block=block)}"
            )
        if shared > self._shared:
            self._ask_for(shared)
        faults.note(self.name, grid, block, shared, values)
        try:
            if self._current() == self._device.id:
                self._function(grid, block, values, shared)
            else:
                with self._device:
                    self._function(grid, block, values, shared)
        except self._errors as error:
            raise faults.failed(f"`{self.name}`", error, values) from error

    def _ask_for(self, shared):
        """Gets more than 48 KiB of dynamic shared memory for the kernel."""
        limit = self._device.attributes["MaxSharedMemoryPerBlockOptin"]
        if self._static + shared > limit:
            raise KernelError(
                f"`{self.name}`: a block has at most {limit} bytes of shared memory on "
                f"{self._device}. {received(static=self._static, shared=shared)}"
            )
        with self._device:
            self._kernel.max_dynamic_shared_size_bytes = self._shared = shared

    def _value(self, index, value, dtype=None, types=None):
        """Returns an argument as CuPy takes it: it would pass a Python float as double."""
        kind = type(value)
        if isinstance(value, self._array):
            if value.flags.c_contiguous and (types is None or value.dtype == dtype):
                return value
        elif types is not None and kind not in types:
            pass
        elif kind is float:
            return np.float32(value)
        elif kind is int or kind is bool or value is None:
            return value
        elif isinstance(value, np.generic):
            return np.asarray(value)  # CuPy passes arrays of one element by value, of any dtype
        raise KernelError(self._refusal(index, value, types is not None))

    def _refusal(self, index, value, known):
        wanted = "kernels take C-contiguous arrays, numbers and None"
        parameter = self._parameters[index] if known and self._parameters else None
        if parameter is not None:
            hint = _PYTHON.get(parameter)
            wanted = f"expected a NumPy scalar for `{parameter}`"
            wanted += f" ({hint.__name__})" if hint else ""
            if parameter.endswith("*"):
                wanted = f"expected a C-contiguous CuPy array or None for `{parameter}`"
        what = f"{type(value).__name__} {value!r}"
        if isinstance(value, self._array):
            layout = "" if value.flags.c_contiguous else "non-contiguous "
            what = f"{layout}array of {value.dtype}, shape {value.shape}"
        return f"`{self.name}`, argument {index}: {wanted}. Received: {what}"


def _wanted(parameter):
    """Returns what fits a parameter: the dtype of an array, and the types of other arguments."""
    if parameter is None:
        return None, None
    if parameter.endswith("*"):
        return DTYPES[parameter.removesuffix("*").removeprefix("const ")], (type(None),)
    scalar = DTYPES[parameter].type
    return None, (scalar, _PYTHON.get(parameter, scalar))
