"""New tensors, and conversions from and to other things."""

import math
from typing import Any

import numpy as np

from gpunet.backend.device import current_device
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.dtypes import numpy_dtype, result_type, standardize_dtype
from gpunet.errors import ArgumentError, received
from gpunet.ops.elementwise import cast_to
from gpunet.ops.shape import as_shape, broadcast_to

__all__ = [
    "arange",
    "array",
    "convert_to_numpy",
    "convert_to_tensor",
    "copy",
    "dtype",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "identity",
    "is_tensor",
    "ndim",
    "ones",
    "ones_like",
    "shape",
    "size",
    "tri",
    "zeros",
    "zeros_like",
]


def _filled(shape, value, dtype, device=None):
    device = device or current_device()
    with device.activate():
        return Tensor(device.xp.full(as_shape(shape), value, numpy_dtype(dtype)), device)


@public
def zeros(shape, dtype=None):
    """Returns a tensor of zeros.

    Args:
        shape: Integer or tuple of integers.
        dtype: Default `floatx()`.

    Returns:
        Tensor on the current device.

    Example:
        >>> import gpunet
        >>> gpunet.ops.zeros((2, 2)).tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """
    device = current_device()
    with device.activate():
        return Tensor(device.xp.zeros(as_shape(shape), numpy_dtype(dtype)), device)


@public
def ones(shape, dtype=None):
    """Returns a tensor of ones; see `zeros`."""
    return _filled(shape, 1, dtype)


@public
def empty(shape, dtype=None):
    """Returns a tensor whose values are not to be relied on (gpunet gives zeros); see `zeros`."""
    return zeros(shape, dtype)


@public
def full(shape, fill_value, dtype=None):
    """Returns a tensor with one value everywhere.

    Args:
        shape: Integer or tuple of integers.
        fill_value: Number, or tensor that broadcasts to the shape.
        dtype: Default `floatx()`.

    Returns:
        Tensor on the current device.

    Example:
        >>> import gpunet
        >>> gpunet.ops.full((2,), 7, "int32").tolist()
        [7, 7]
    """
    if isinstance(fill_value, (int, float)):
        return _filled(shape, fill_value, dtype)
    return broadcast_to(cast_to(as_tensor(fill_value), numpy_dtype(dtype)), shape)


@public
def zeros_like(x, dtype=None):
    """Returns zeros of the shape (and dtype, unless given) of `x`.

    Args:
        x: Tensor.
        dtype: Default that of `x`.

    Returns:
        Tensor on the device of `x`.
    """
    x = as_tensor(x)
    return _filled(x.shape, 0, dtype or x.dtype, x.device)


@public
def ones_like(x, dtype=None):
    """Returns ones of the shape (and dtype, unless given) of `x`; see `zeros_like`."""
    x = as_tensor(x)
    return _filled(x.shape, 1, dtype or x.dtype, x.device)


@public
def empty_like(x, dtype=None):
    """Returns a tensor like `x` whose values are not to be relied on (gpunet gives zeros)."""
    return zeros_like(x, dtype)


@public
def full_like(x, fill_value, dtype=None):
    """Returns one value in the shape (and dtype, unless given) of `x`; see `full`."""
    x = as_tensor(x)
    dtype = numpy_dtype(dtype or x.dtype)
    if isinstance(fill_value, (int, float)):
        return _filled(x.shape, fill_value, dtype, x.device)
    return broadcast_to(cast_to(as_tensor(fill_value, device=x.device), dtype), x.shape)


@public
def arange(start, stop=None, step=None, dtype=None):
    """Returns evenly spaced numbers of a half-open interval.

    Args:
        start: First number, or the end of the interval from 0 if `stop` is not given.
        stop: End of the interval, not part of it.
        step: Difference of neighbours, default 1.
        dtype: Default: int32 for integers, `floatx()` for floats.

    Returns:
        Tensor of one axis.

    Raises:
        ArgumentError: If `step` is 0.

    Example:
        >>> import gpunet
        >>> gpunet.ops.arange(1, 7, 2).tolist()
        [1, 3, 5]
    """
    ends = [as_tensor(v).item() for v in (start, stop, step) if v is not None]
    if dtype is None:
        kinds = [getattr(v, "dtype", type(v)) for v in (start, stop, step) if v is not None]
        dtype = result_type(*kinds)
    if stop is None and step is not None:
        ends = [0, *ends]
    if step is not None and ends[-1] == 0:
        raise ArgumentError(f"`step` must not be 0. {received(step=step)}")
    device = current_device()
    with device.activate():
        return Tensor(device.xp.arange(*ends).astype(numpy_dtype(dtype)), device)


@public
def eye(N, M=None, k=0, dtype=None):
    """Returns ones on a diagonal, zeros elsewhere.

    Args:
        N: Number of rows.
        M: Number of columns, default `N`.
        k: Which diagonal: 0 the main one, positive ones above it.
        dtype: Default `floatx()`.

    Returns:
        Tensor of shape `(N, M)`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.eye(2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    device = current_device()
    with device.activate():
        rows, columns = int(N), int(N if M is None else M)
        return Tensor(device.xp.eye(rows, columns, int(k), dtype=numpy_dtype(dtype)), device)


@public
def identity(n, dtype=None):
    """Returns the identity matrix of shape `(n, n)`; see `eye`."""
    return eye(n, dtype=dtype)


@public
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """Returns any tensor-like value as a Tensor, in another dtype if one is given.

    Args:
        x: Tensor, Variable, number, nested list, or array of any library.
        dtype: Default: that of arrays; `floatx()` for Python floats, int32 for Python integers.
        sparse: Accepted for Keras; gpunet has dense tensors only.
        ragged: Accepted for Keras.

    Returns:
        Tensor.

    Raises:
        ArgumentError: If a sparse or ragged tensor is asked for.

    Example:
        >>> import gpunet
        >>> gpunet.ops.convert_to_tensor([1, 2], "float16")
        Tensor([1., 2.], dtype=float16, device=cpu)
    """
    if sparse or ragged:
        raise ArgumentError(
            f"gpunet has dense tensors only. {received(sparse=sparse, ragged=ragged)}"
        )
    x = as_tensor(x, dtype)
    return x if dtype is None else cast_to(x, numpy_dtype(dtype))


@public
def array(x, dtype=None):
    """Same as `convert_to_tensor`."""
    return convert_to_tensor(x, dtype)


def convert_to_numpy(x: Any) -> np.ndarray:
    """Returns a tensor-like value as a NumPy array that may be changed.

    Raises:
        TraceError: If the tensor has no value yet because it is only being traced.
    """
    return as_tensor(x).numpy().copy()


def is_tensor(x: Any) -> bool:
    """Tells whether `x` is a gpunet Tensor (Variables, KerasTensors and arrays are not)."""
    return isinstance(x, Tensor)


def shape(x: Any) -> tuple[int | None, ...]:
    """Returns the shape as a tuple; lengths a KerasTensor does not know are `None`."""
    lengths = getattr(x, "shape", None)
    return tuple(as_tensor(x).shape if lengths is None else lengths)


def ndim(x: Any) -> int:
    """Returns how many axes there are."""
    return len(shape(x))


def size(x: Any) -> int | None:
    """Returns how many elements there are; `None` if a KerasTensor does not know."""
    lengths = [n for n in shape(x) if n is not None]
    return None if len(lengths) < ndim(x) else math.prod(lengths)


def dtype(x: Any) -> str:
    """Returns the name of the dtype."""
    return standardize_dtype(getattr(x, "dtype", None) or as_tensor(x).dtype)


@public
def tri(N, M=None, k=0, dtype=None):
    """Returns a matrix with ones on and below a diagonal, zeros above it.

    Args:
        N: Number of rows.
        M: Number of columns, default `N`.
        k: Which diagonal: 0 the main one, positive ones above it.
        dtype: Default `floatx()`.

    Returns:
        Tensor of shape `(N, M)`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.tri(2).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    columns = int(N if M is None else M)
    return as_tensor(np.tri(int(N), columns, int(k), dtype=numpy_dtype(dtype)))


@public
def copy(x):
    """Returns the tensor; it cannot change, so a copy would be the same."""
    return as_tensor(x)
