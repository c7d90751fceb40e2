"""Global settings, with Keras's names: `floatx`, `epsilon`, `image_data_format`, limits."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from gpunet.errors import ArgumentError, received

_settings: dict[str, Any] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "float32_matmul_precision": "highest",
    "cpu_kernels": True,
    "debug": False,
    "passes": None,
    "interactive_logging": True,
    "max_epochs": None,
    "max_steps_per_epoch": None,
}
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_PRECISIONS = ("highest", "high")
_FORMATS = ("channels_last", "channels_first")


def floatx() -> str:
    """Returns the default float dtype, `"float32"` unless `set_floatx` changed it."""
    return _settings["floatx"]


def set_floatx(value: str) -> None:
    """Sets the default float dtype.

    Args:
        value: One of `"float16"`, `"bfloat16"`, `"float32"`, `"float64"`.

    Raises:
        ArgumentError: If `value` is none of these.
    """
    _settings["floatx"] = _one_of("value", value, _FLOATS)


def epsilon() -> float:
    """Returns the small constant that keeps divisions and logarithms finite (default `1e-7`)."""
    return _settings["epsilon"]


def set_epsilon(value: float) -> None:
    """Sets the constant returned by `epsilon()`.

    Args:
        value: A positive float.

    Raises:
        ArgumentError: If `value` is not a positive number.
    """
    if not isinstance(value, (int, float)) or not value > 0:
        raise ArgumentError(f"`value` must be a positive number. {received(value=value)}")
    _settings["epsilon"] = float(value)


def image_data_format() -> str:
    """Returns where channels stand: `"channels_last"` (default) or `"channels_first"`."""
    return _settings["image_data_format"]


def set_image_data_format(data_format: str) -> None:
    """Sets the default of every `data_format` argument.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.

    Raises:
        ArgumentError: If `data_format` is neither.
    """
    _settings["image_data_format"] = _one_of("data_format", str(data_format).lower(), _FORMATS)


def standardize_data_format(data_format: str | None) -> str:
    """Returns a checked `data_format`; `None` stands for `image_data_format()`."""
    if data_format is None:
        return image_data_format()
    return _one_of("data_format", str(data_format).lower(), _FORMATS)


def float32_matmul_precision() -> str:
    """Returns how GPUs multiply float32 matrices; see `set_float32_matmul_precision`."""
    return _settings["float32_matmul_precision"]


def set_float32_matmul_precision(precision: str) -> None:
    """Sets how GPUs multiply float32 matrices and convolve float32 images, as in PyTorch.

    Args:
        precision: `"highest"` (default): products of full float32. `"high"`: TF32, which rounds
            the factors to 10 bits of mantissa and is several times faster; sums stay float32.

    Raises:
        ArgumentError: If `precision` is neither.

    Example:
        >>> set_float32_matmul_precision("high")
        >>> float32_matmul_precision()
        'high'
        >>> set_float32_matmul_precision("highest")
    """
    _settings["float32_matmul_precision"] = _one_of("precision", precision, _PRECISIONS)


def cpu_kernels() -> bool:
    """Returns whether graphs on the CPU run C++ kernels; see `set_cpu_kernels`."""
    return _settings["cpu_kernels"]


def set_cpu_kernels(value: bool) -> None:
    """Sets whether graphs on the CPU run C++ kernels, where a C++ compiler is found.

    The kernels are compiled once for a machine, and are several times faster than NumPy. Their
    results differ from NumPy's in the last bits. They are the same in every run with the same
    processor, compiler, BLAS and number of threads.

    Args:
        value: `True` (default), or `False`: NumPy only, and the bits of eager ops.

    Raises:
        ArgumentError: If `value` is no bool.

    Example:
        >>> set_cpu_kernels(False)
        >>> cpu_kernels()
        False
        >>> set_cpu_kernels(True)
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"`value` must be True or False. {received(value=value)}")
    _settings["cpu_kernels"] = value


def passes() -> tuple[str, ...] | None:
    """Returns the names of the passes that graphs go through, or `None` for all; see `compile`."""
    return _settings["passes"]


@contextlib.contextmanager
def compile(passes: Iterable[str] | None = None) -> Iterator[None]:
    """Chooses, for a block, the passes that make graphs simpler and faster.

    A function that is called in the block gets a graph of its own for it. What each pass does to a
    graph is shown by `gpunet.function(f).effects(*args)`.

    Args:
        passes: Names from `gpunet.compile.PASSES`, which run in the order given; `()` leaves
            graphs as they were traced. `None` stands for all, as by default.

    Raises:
        ArgumentError: When a graph is made, if there is no pass of a name.

    Example:
        >>> import gpunet
        >>> double = gpunet.function(lambda x: x * 1 + x * 1)
        >>> len(double.graph(gpunet.tensor(1.0)).equations)
        1
        >>> with compile(passes=["common_subexpressions"]):
        ...     len(double.graph(gpunet.tensor(1.0)).equations)
        2
    """
    before = _settings["passes"]
    _settings["passes"] = None if passes is None else tuple(passes)
    try:
        yield
    finally:
        _settings["passes"] = before


def set_debug(value: bool) -> None:
    """Sets whether graphs run op by op, waiting for each; see `debug`."""
    _settings["debug"] = bool(value)


def is_debug_enabled() -> bool:
    """Tells whether graphs run op by op, waiting for each; see `debug`."""
    return _settings["debug"]


@contextlib.contextmanager
def debug() -> Iterator[None]:
    """Runs graphs op by op for a block, waiting for the device after each op.

    A GPU works behind the back of Python: an error comes up in some later call, and a captured
    graph fails as a whole. In this block nothing is captured, an error comes up in the equation at
    fault, and a note on it names that. It is slow.

    Example:
        >>> with debug():
        ...     is_debug_enabled()
        True
        >>> is_debug_enabled()
        False
    """
    before = is_debug_enabled()
    set_debug(True)
    try:
        yield
    finally:
        set_debug(before)


def enable_interactive_logging() -> None:
    """Shows progress bars (`verbose="auto"` means 1); this is the default."""
    _settings["interactive_logging"] = True


def disable_interactive_logging() -> None:
    """Prints one line an epoch instead of progress bars (`verbose="auto"` means 2)."""
    _settings["interactive_logging"] = False


def is_interactive_logging_enabled() -> bool:
    """Tells whether progress bars are shown."""
    return _settings["interactive_logging"]


def max_epochs() -> int | None:
    """Returns the cap on epochs of any `fit`, from `set_max_epochs` or `KERAS_MAX_EPOCHS`."""
    return _limit("max_epochs", "KERAS_MAX_EPOCHS")


def set_max_epochs(value: int | None) -> None:
    """Caps the epochs of any `fit`; `None` lifts the cap."""
    _settings["max_epochs"] = value


def max_steps_per_epoch() -> int | None:
    """Returns the cap on steps an epoch, from its setter or `KERAS_MAX_STEPS_PER_EPOCH`."""
    return _limit("max_steps_per_epoch", "KERAS_MAX_STEPS_PER_EPOCH")


def set_max_steps_per_epoch(value: int | None) -> None:
    """Caps the steps of any epoch in `fit`, `evaluate` and `predict`; `None` lifts the cap."""
    _settings["max_steps_per_epoch"] = value


def backend() -> str:
    """Returns `"gpunet"`, the name that Keras code sees as its backend."""
    return "gpunet"


def _limit(setting, variable):
    value = _settings[setting]
    return int(os.environ[variable]) if value is None and os.environ.get(variable) else value


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ArgumentError(f"`{name}` must be one of {allowed}. {received(**{name: value})}")
    return value
