"""Arrays in and out: copies between devices, and exchange with other libraries."""

from typing import Any

import numpy as np

from gpunet.backend import faults
from gpunet.backend.device import Device, check_available
from gpunet.dtypes import numpy_dtype
from gpunet.errors import DTypeError, received


def as_array(value: Any, dtype: Any, device: Device, copy: bool = True) -> Any:
    """Returns `value` as an array on `device`.

    Args:
        value: A number, a nested list, a NumPy or CuPy array, or any object that speaks DLPack,
            the CUDA array interface or `__array__`.
        dtype: The dtype of the result; `None` keeps the dtype of arrays, and gives Python floats
            `floatx()` and Python integers int32 (int64 where they do not fit).
        device: Where the result lives.
        copy: Whether memory may not be shared with `value`.

    Raises:
        DTypeError: If `value` holds strings, objects or ragged lists.
        DeviceError: If the device does not work here.
    """
    check_available(device)
    if device.kind == "cuda":
        return _as_cuda(value, dtype, device, copy)
    array = to_numpy(value)
    target = numpy_dtype(dtype) if dtype is not None else _natural_dtype(value, array)
    return np.array(array, dtype=target, copy=copy or None, order="C" if copy else "K")


def _as_cuda(value, dtype, device, copy):
    return faults.on_device(_to_cuda, device, "tensor")(value, dtype=dtype, xp=device.xp, copy=copy)


def _to_cuda(value, dtype, xp, copy):
    if hasattr(value, "__cuda_array_interface__"):
        array = xp.asarray(value)
    elif _on_gpu(value):
        array = xp.from_dlpack(value)
    else:
        array = to_numpy(value)
        array = array.astype(_natural_dtype(value, array), copy=False)
    target = numpy_dtype(dtype) if dtype is not None else array.dtype
    return xp.array(array, dtype=target, copy=copy or None, order="C")


def _on_gpu(value):
    return hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] == 2


def to_numpy(value: Any) -> np.ndarray:
    """Returns any array or number as a NumPy array, copied only if it is on a GPU.

    Raises:
        DTypeError: If it holds strings, objects or ragged lists.
    """
    if isinstance(value, np.ndarray):
        array = value
    elif hasattr(value, "__cuda_array_interface__") or _on_gpu(value):
        array = _from_gpu(value)
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DTypeError(f"Expected a number or a regular array: {error}") from error
    if array.dtype.kind in "OUSMm":
        raise DTypeError(
            "Expected numbers; gpunet tensors hold no strings or objects. "
            f"{received(dtype=str(array.dtype), type=type(value).__name__)}"
        )
    return array


def _from_gpu(value):
    """Copies to the host: the first place where an error of a kernel launched before comes up."""
    try:
        return value.get() if hasattr(value, "get") else Device("cuda").xp.from_dlpack(value).get()
    except faults.cuda_errors() as error:
        raise faults.failed("copy to the host", error, (value,)) from error


def _natural_dtype(value, array):
    if hasattr(value, "dtype"):
        return numpy_dtype(array.dtype)
    kinds = {np.dtype(np.float64): "float", np.dtype(np.int64): "int", np.dtype(bool): "bool"}
    kind = kinds.get(array.dtype)
    if kind is None or _holds_arrays(value):
        return numpy_dtype(array.dtype)
    if kind == "int" and array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
        return np.dtype(np.int64)
    return numpy_dtype(kind)


def _holds_arrays(value):
    """Tells lists of NumPy numbers, whose dtype was chosen, from lists of Python numbers."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return hasattr(value, "dtype")


def move(array: Any, source: Device, target: Device) -> Any:
    """Copies an array from one device to another; `cpu` and `emulator` share memory.

    Raises:
        DeviceError: If the target does not work here.
    """
    check_available(target)
    if target.kind == "cuda":
        return faults.on_device(target.xp.asarray, target, "to_device")(array)
    return _from_gpu(array) if source.kind == "cuda" else array
