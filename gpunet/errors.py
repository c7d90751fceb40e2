"""The errors gpunet raises: each says what was expected, `Received: name=value`, and what to do.

Every class also derives from the built-in error a NumPy or Keras user would catch, so
`except ValueError` keeps working.
"""


class GpunetError(Exception):
    """Base of all errors that gpunet raises on purpose."""


class ArgumentError(GpunetError, ValueError):
    """An argument is out of range, unknown, or does not go with another one."""


class ShapeError(ArgumentError):
    """An array has the wrong rank or shape, or two shapes do not match."""


class DTypeError(GpunetError, TypeError):
    """An array or argument has the wrong data type."""


class DeviceError(GpunetError, RuntimeError):
    """A device does not exist or does not work here, or two devices were mixed."""


class KernelError(GpunetError, RuntimeError):
    """A CUDA kernel does not compile, was launched wrongly, or failed while it ran."""


class DeviceMemoryError(GpunetError, MemoryError):
    """A device has not enough memory; the message tells what holds it."""


class TraceError(GpunetError, TypeError):
    """Python asked for the value of a tensor that is only being traced."""


class GradientError(GpunetError, RuntimeError):
    """A gradient was asked for where none was recorded."""


class StateError(GpunetError, ValueError):
    """An object is used before it is ready: a model not compiled, a layer not built."""


class SavingError(GpunetError, ValueError):
    """A file is damaged, does not match the model, or asks for something not allowed."""


def received(**values: object) -> str:
    """Formats `Received: name=value, ...`, the second half of every error message.

    Example:
        >>> received(units=-1)
        'Received: units=-1'
    """
    return "Received: " + ", ".join(f"{name}={value!r}" for name, value in values.items())
