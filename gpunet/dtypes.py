"""Dtype names and promotion: JAX's lattice with weak Python scalars, as in Keras 3.

Reference: "Type promotion semantics", JAX documentation (JEP 9407, 2021).
"""

import functools

import ml_dtypes
import numpy as np

from gpunet.config import floatx
from gpunet.errors import DTypeError, received

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
COMPLEX = ("complex64", "complex128")
NAMES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)

_NUMPY = {name: BFLOAT16 if name == "bfloat16" else np.dtype(name) for name in NAMES}
_NAME_OF = {dtype: name for name, dtype in _NUMPY.items()}  # `dtype.name` takes 2 µs
# Each dtype and the dtypes just above it; "int" and "float" are the weak Python scalars.
_ABOVE = {
    "bool": ("int",),
    "int": ("uint8", "int8"),
    "uint8": ("int16", "uint16"),
    "uint16": ("int32", "uint32"),
    "uint32": ("int64", "uint64"),
    "uint64": ("float",),
    "int8": ("int16",),
    "int16": ("int32",),
    "int32": ("int64",),
    "int64": ("float",),
    "float": ("bfloat16", "float16", "complex64"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": ("float64", "complex64"),
    "float64": ("complex128",),
    "complex64": ("complex128",),
    "complex128": (),
}


@functools.cache
def _ancestors(name: str) -> frozenset[str]:
    return frozenset({name}.union(*(_ancestors(above) for above in _ABOVE[name])))


@functools.cache
def _join(names: frozenset[str]) -> str:
    common = frozenset.intersection(*map(_ancestors, names))
    return next(name for name in common if common <= _ancestors(name))


def standardize_dtype(dtype: object) -> str:
    """Returns the name of a dtype given as a name, NumPy dtype, Python type or `None`.

    Args:
        dtype: For example `"float32"`, `np.float32`, `np.dtype("int8")`, `float`, `torch.float32`;
            `None` stands for `floatx()`.

    Returns:
        One of gpunet's dtype names, such as `"float32"` or `"bfloat16"`.

    Raises:
        DTypeError: If gpunet has no such dtype.

    Example:
        >>> standardize_dtype(np.float16), standardize_dtype(int), standardize_dtype(None)
        ('float16', 'int32', 'float32')
    """
    if type(dtype) is str and dtype in _NUMPY:
        return dtype
    if isinstance(dtype, np.dtype) and dtype in _NAME_OF:
        return _NAME_OF[dtype]
    if dtype is None:
        return floatx()
    if dtype is float or (type(dtype) is str and dtype == "float"):
        return floatx()
    if dtype is int or (type(dtype) is str and dtype == "int"):
        return "int32"
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    name = name.removeprefix("torch.").removeprefix("<dtype: '").removesuffix("'>")
    if name not in _NUMPY:
        raise DTypeError(f"`dtype` must be one of {NAMES}. {received(dtype=dtype)}")
    return name


def numpy_dtype(dtype: object) -> np.dtype:
    """Returns the NumPy dtype of any accepted dtype; bfloat16 is `ml_dtypes.bfloat16`.

    Raises:
        DTypeError: If gpunet has no such dtype.
    """
    if isinstance(dtype, np.dtype) and dtype in _NAME_OF:
        return dtype
    return _NUMPY[standardize_dtype(dtype)]


def result_type(*dtypes: object) -> str:
    """Returns the dtype that an operation on these dtypes computes in.

    Python types (`int`, `float`, `bool`) are weak: they take the dtype of what they meet.

    Args:
        *dtypes: Dtypes or Python scalar types; none at all stands for `floatx()`.

    Raises:
        DTypeError: If one is unknown.

    Example:
        >>> result_type("int32", "float16"), result_type("float16", float), result_type(int)
        ('float16', 'float16', 'int32')
    """
    return _result_type(tuple(map(_weak_name, dtypes)), floatx()) if dtypes else floatx()


def _weak_name(dtype):
    if dtype is int:
        return "int"
    return "float" if dtype is float else standardize_dtype(dtype)


@functools.cache
def _result_type(names, default):
    name = _join(frozenset(names))
    return {"int": "int32", "float": default}.get(name, name)


def is_float(dtype: object) -> bool:
    """Tells whether a dtype is a (real) floating-point one.

    Example:
        >>> is_float("bfloat16"), is_float("int32")
        (True, False)
    """
    return standardize_dtype(dtype) in FLOATS


def is_int(dtype: object) -> bool:
    """Tells whether a dtype is a signed or unsigned integer one (bool is not)."""
    return standardize_dtype(dtype) in INTEGERS
