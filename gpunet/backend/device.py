"""Devices: `cpu` (NumPy), `cuda:N` (CuPy), `emulator` (NumPy arrays, CUDA kernels on the CPU)."""

import contextlib
import functools
import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import ClassVar

import numpy as np

from gpunet.errors import DeviceError, received

_INSTALL_CUDA = 'pip install "gpunet[cuda13]" (CUDA 13 drivers) or "gpunet[cuda12]"'


class Device:
    """A place where arrays live and ops run; there is one object for each name.

    Args:
        name: `"cpu"`, `"emulator"`, `"cuda"`, `"cuda:N"`; Keras's `"gpu:N"` and `"cpu:0"` are
            accepted.

    Attributes:
        name: Canonical name, such as `"cuda:0"`.
        kind: `"cpu"`, `"cuda"` or `"emulator"`: which rule of a primitive runs here.
        index: Number among the CUDA devices, else 0.

    Raises:
        DeviceError: If the name is none of these.

    Example:
        >>> Device("gpu:1").name, Device("cpu") is Device("cpu:0")
        ('cuda:1', True)
    """

    _known: ClassVar[dict[str, "Device"]] = {}
    name: str
    kind: str
    index: int

    def __new__(cls, name: "str | Device") -> "Device":
        """Returns the one device of this name."""
        if isinstance(name, Device):
            return name
        match = re.fullmatch(r"(cpu|gpu|cuda|emulator)(?::(\d+))?", str(name).lower())
        if not match or (match[1] in ("cpu", "emulator") and int(match[2] or 0)):
            raise DeviceError(f'A device is "cpu", "cuda:N" or "emulator". {received(device=name)}')
        kind, index = match[1].replace("gpu", "cuda"), int(match[2] or 0)
        canonical = f"cuda:{index}" if kind == "cuda" else kind
        if canonical not in cls._known:
            device = super().__new__(cls)
            device.name, device.kind, device.index = canonical, kind, index
            cls._known[canonical] = device
        return cls._known[canonical]

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        return Device, (self.name,)

    @functools.cached_property
    def xp(self) -> ModuleType:
        """The array module of this device: `numpy` or `cupy`."""
        return cupy() if self.kind == "cuda" else np

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Makes this CUDA device the current one of CuPy for a block; nothing elsewhere."""
        if self.kind == "cuda":
            with self.xp.cuda.Device(self.index):
                yield
        else:
            yield


@functools.cache
def cupy() -> ModuleType:
    """Imports CuPy at the first use of a CUDA device.

    Raises:
        DeviceError: If CuPy is not installed or cannot be imported.
    """
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(f"CUDA devices need CuPy: {_INSTALL_CUDA}. {error}") from error


@functools.cache
def cuda_status() -> tuple[int, str]:
    """Returns how many CUDA devices work here, and the reason where there is none."""
    if importlib.util.find_spec("cupy") is None:
        return 0, f"CuPy is not installed: {_INSTALL_CUDA}"
    try:
        count = cupy().cuda.runtime.getDeviceCount()
        cupy().zeros(1)
    except Exception as error:  # any failure of the driver or the libraries means: no GPU here
        return 0, f"{type(error).__name__}: {error}"
    return count, "" if count else "the driver reports no device"


def check_available(device: Device) -> Device:
    """Returns the device if it works here.

    Raises:
        DeviceError: If it does not, with the reason and what to install.
    """
    if device.kind == "cuda" and device.index >= cuda_status()[0]:
        reason = cuda_status()[1] or f"there are {cuda_status()[0]} CUDA devices"
        raise DeviceError(f"Device {device} does not work here: {reason}.")
    return device


class _Current(threading.local):
    device: Device | None = None


_current = _Current()
_default: Device | None = None


def current_device() -> Device:
    """Returns the device on which new tensors are made.

    That is the innermost `gpunet.device(...)` block, else `set_default_device`, else the
    environment variable `GPUNET_DEVICE`, else the first CUDA device that works, else `cpu`.
    """
    if _current.device is not None:
        return _current.device
    return _default or _first_device()


@functools.cache
def _first_device():
    name = os.environ.get("GPUNET_DEVICE")
    if name:
        return check_available(Device(name))
    return Device("cuda:0") if cuda_status()[0] else Device("cpu")


def set_default_device(device: str | Device | None) -> None:
    """Sets the device of all new tensors outside `gpunet.device(...)` blocks; `None` resets it.

    Raises:
        DeviceError: If the device does not work here.
    """
    global _default
    _default = None if device is None else check_available(Device(device))


@contextlib.contextmanager
def device(name: str | Device) -> Iterator[Device]:
    """Makes new tensors on the named device for a block.

    Args:
        name: `"cpu"`, `"cuda:N"` (or `"gpu:N"`) or `"emulator"`.

    Raises:
        DeviceError: If the device does not exist or does not work here.

    Example:
        >>> with device("cpu"):
        ...     print(current_device())
        cpu
    """
    chosen, before = check_available(Device(name)), _current.device
    _current.device = chosen
    try:
        with chosen.activate():
            yield chosen
    finally:
        _current.device = before


def list_devices(kind: str | None = None) -> list[str]:
    """Returns the names of the devices that work here, fastest first.

    Args:
        kind: Only this kind: `"cpu"`, `"cuda"` (or `"gpu"`) or `"emulator"`; `None` for all.
    """
    from gpunet.backend import emulator

    names = [f"cuda:{i}" for i in range(cuda_status()[0])] + ["cpu"]
    names += ["emulator"] if emulator.available()[0] else []
    return [name for name in names if kind is None or Device(name).kind == Device(kind).kind]
