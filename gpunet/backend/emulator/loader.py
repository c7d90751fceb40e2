"""A compiled kernel as a Python function: checks its arguments, packs them, runs it."""

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunet.backend.emulator.schedules import current
from gpunet.backend.emulator.toolchain import build_kernel, build_runtime
from gpunet.dtypes import BFLOAT16
from gpunet.errors import KernelError

# A parameter's C++ type, as the kernel's library spells it: its dtype, and its form in `struct`,
# each padded to 8 bytes. "?" is a type that this table does not know, behind a pointer.
_TYPES = {
    "bool": (np.dtype(np.bool_), "?7x"),
    "signed char": (np.dtype(np.int8), "b7x"),
    "unsigned char": (np.dtype(np.uint8), "B7x"),
    "short": (np.dtype(np.int16), "h6x"),
    "unsigned short": (np.dtype(np.uint16), "H6x"),
    "int": (np.dtype(np.int32), "i4x"),
    "unsigned int": (np.dtype(np.uint32), "I4x"),
    "long long": (np.dtype(np.int64), "q"),
    "unsigned long long": (np.dtype(np.uint64), "Q"),
    "float": (np.dtype(np.float32), "f4x"),
    "double": (np.dtype(np.float64), "d"),
    "__half": (np.dtype(np.float16), "e6x"),
    "__nv_bfloat16": (BFLOAT16, "H6x"),
}
_PYTHON = {"long long": int, "float": float, "bool": bool}
LAUNCH = "=8I2Q"  # struct Launch in cpp/interface.h


class Function:
    """One kernel that the emulator compiled.

    Args:
        text: CUDA source, as `assemble` returns it.
        expression: The kernel, with its template arguments: `"scale<float, 256>"`.

    Raises:
        KernelError: If the source does not compile.
        DeviceError: If there is no C++ compiler.
    """

    def __init__(self, text: str, expression: str) -> None:
        self.name = expression
        library = ctypes.CDLL(str(build_kernel(text, expression)))
        library.gpunet_module.restype = ctypes.POINTER(ctypes.c_char_p)
        module = library.gpunet_module()
        signature = module[0].decode()  # the first member of struct Module
        self.parameters: tuple[str, ...] = tuple(signature.split(",")) if signature else ()
        self._checks = [_check(parameter) for parameter in self.parameters]
        self._pack = struct.Struct(LAUNCH + "".join(map(_form, self.parameters))).pack
        self._runtime = _runtime()
        self._handle = self._runtime.gpunet_attach(module)

    def __call__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[object],
        shared: int = 0,
    ) -> None:
        """Runs every thread of the grid, then returns.

        Raises:
            KernelError: If an argument does not fit its parameter, or a thread failed or hung.
        """
        if self._runtime.gpunet_launch(self._handle, self.pack(grid, block, args, shared)):
            raise KernelError(f"`{self.name}`, {self._runtime.gpunet_error().decode()}")

    def pack(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[object],
        shared: int = 0,
    ) -> bytes:
        """Returns a launch as the runtime takes it: the fields of LAUNCH, 8 bytes an argument.

        Raises:
            KernelError: If an argument does not fit its parameter.
        """
        checks = self._checks
        if len(args) != len(checks):
            raise KernelError(
                f"`{self.name}` takes {len(checks)} arguments ({', '.join(self.parameters)}). "
                f"Received: {len(args)} arguments"
            )
        values = [check(value) for check, value in zip(checks, args, strict=True)]
        if None in values:
            self._refuse(values.index(None), args)
        schedule, seed = current()
        try:
            return self._pack(*grid, *block, schedule, 0, seed, shared, *values)
        except struct.error as error:
            raise KernelError(f"`{self.name}`: an argument is out of range: {error}") from error

    def _refuse(self, index, args):
        value, parameter = args[index], self.parameters[index]
        what = f"{type(value).__name__} {value!r}"
        if isinstance(value, np.ndarray):
            layout = "" if value.flags.c_contiguous else "non-contiguous "
            layout += "" if value.flags.writeable else "read-only "
            what = f"{layout}array of {value.dtype}, shape {value.shape}"
        hint = _PYTHON.get(parameter)
        wanted = f"a C-contiguous NumPy array or None for `{parameter}`"
        if not parameter.endswith("*"):
            wanted = f"a NumPy scalar for `{parameter}`" + (f" ({hint.__name__})" if hint else "")
        raise KernelError(f"`{self.name}`, argument {index}: expected {wanted}. Received: {what}")


@functools.cache
def _runtime() -> ctypes.CDLL:
    runtime = ctypes.CDLL(str(build_runtime()))
    runtime.gpunet_attach.argtypes = [ctypes.c_void_p]
    runtime.gpunet_attach.restype = ctypes.c_void_p
    runtime.gpunet_launch.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    runtime.gpunet_error.restype = ctypes.c_char_p
    return runtime


def _form(parameter: str) -> str:
    return "Q" if parameter.endswith("*") else _TYPES[parameter][1]


def _check(parameter: str) -> Callable[[Any], Any]:
    """Returns what turns an argument into a number, or into None if it does not fit."""
    if parameter.endswith("*"):
        name = parameter.removesuffix("*").removeprefix("const ")
        dtype = _TYPES[name][0] if name in _TYPES else None
        return _pointer(dtype, parameter.startswith("const "))
    dtype = _TYPES[parameter][0]
    if dtype == BFLOAT16:
        return lambda value: int(value.view(np.uint16)) if type(value) is BFLOAT16.type else None
    accepted = (dtype.type, _PYTHON.get(parameter, dtype.type))
    return lambda value: value if type(value) in accepted else None


def _pointer(dtype: np.dtype | None, const: bool) -> Callable[[object], int | None]:
    def check(value):
        if value is None:
            return 0
        if not isinstance(value, np.ndarray) or (value.dtype != dtype and dtype is not None):
            return None
        flags = value.flags
        if not flags.c_contiguous or not (const or flags.writeable):
            return None
        return value.ctypes.data

    return check
