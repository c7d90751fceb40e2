"""Tensor: an immutable array on a device, with its place on the tape."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend import faults, memory
from gpunet.backend.device import Device, current_device
from gpunet.core.state import state
from gpunet.dtypes import numpy_dtype
from gpunet.errors import DTypeError, ShapeError, TraceError

FUNCTIONS: dict[str, Callable] = {}  # public op name -> function; filled by `gpunet.ops`


def _method(name: str, doc: str = "") -> Any:
    """A method that calls the public op of this name, found when it is called."""

    def method(self, *args, **kwargs):
        return FUNCTIONS[name](self, *args, **kwargs)

    method.__name__, method.__doc__ = name, doc or f"Same as `gpunet.ops.{name}`."
    return method


def _reflected(name: str) -> Any:
    def method(self, other):
        return FUNCTIONS[name](other, self)

    return method


class Operators:
    """Python's operators and the common methods, shared by Tensor, Variable and KerasTensor."""

    __slots__ = ()
    __array_priority__ = 1000  # NumPy arrays on the left leave the operator to us

    __add__, __radd__ = _method("add"), _reflected("add")
    __sub__, __rsub__ = _method("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _method("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _method("true_divide"), _reflected("true_divide")
    __floordiv__, __rfloordiv__ = _method("floor_divide"), _reflected("floor_divide")
    __mod__, __rmod__ = _method("mod"), _reflected("mod")
    __pow__, __rpow__ = _method("power"), _reflected("power")
    __matmul__, __rmatmul__ = _method("matmul"), _reflected("matmul")
    __and__, __rand__ = _method("bitwise_and"), _reflected("bitwise_and")
    __or__, __ror__ = _method("bitwise_or"), _reflected("bitwise_or")
    __xor__, __rxor__ = _method("bitwise_xor"), _reflected("bitwise_xor")
    __lshift__, __rshift__ = _method("bitwise_left_shift"), _method("bitwise_right_shift")
    __neg__, __abs__, __invert__ = _method("negative"), _method("absolute"), _method("bitwise_not")
    __lt__, __le__ = _method("less"), _method("less_equal")
    __gt__, __ge__ = _method("greater"), _method("greater_equal")
    __eq__, __ne__ = _method("equal"), _method("not_equal")
    __hash__ = object.__hash__
    __getitem__ = _method("get_item")

    abs, astype = _method("absolute"), _method("cast")
    exp, log, sqrt, tanh = _method("exp"), _method("log"), _method("sqrt"), _method("tanh")
    square, clip, round = _method("square"), _method("clip"), _method("round")
    sum, mean, prod = _method("sum"), _method("mean"), _method("prod")
    max, min, var, std = _method("max"), _method("min"), _method("var"), _method("std")
    argmax, argmin, argsort = _method("argmax"), _method("argmin"), _method("argsort")
    any, all, cumsum = _method("any"), _method("all"), _method("cumsum")
    squeeze, repeat, take = _method("squeeze"), _method("repeat"), _method("take")
    swapaxes, flatten = _method("swapaxes"), _method("ravel")

    def reshape(self, *shape: Any) -> Any:
        """Same as `gpunet.ops.reshape`; the shape may be given as separate integers."""
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """Same as `gpunet.ops.transpose`; the axes may be given as separate integers."""
        return FUNCTIONS["transpose"](self, (axes[0] if len(axes) == 1 else axes) or None)

    @property
    def T(self) -> Any:
        """The tensor with its axes reversed."""
        return FUNCTIONS["transpose"](self)


class Tensor(Operators):
    """An immutable array on a device. Make one with `gpunet.tensor(value)` or any op.

    Attributes:
        data: NumPy array (`cpu`, `emulator`), CuPy array (`cuda`), or a Symbol while tracing.
        device: The `Device` it is on.
        shape: Tuple of ints.
        dtype: NumPy dtype; bfloat16 is `ml_dtypes.bfloat16`.

    Example:
        >>> import gpunet
        >>> x = gpunet.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> (x @ x + 1).sum(axis=0)
        Tensor([24., 34.], dtype=float32, device=cpu)
    """

    __slots__ = ("__weakref__", "_keras_mask", "data", "device", "node", "slot")

    def __init__(self, data: Any, device: Device, node: Any = None, slot: int = 0):
        self.data = data
        self.device = device
        self.node = node
        self.slot = slot

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.data.shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.data.size

    @property
    def nbytes(self) -> int:
        """How many bytes the elements take."""
        return self.data.size * self.data.dtype.itemsize

    def numpy(self) -> np.ndarray:
        """Returns the values as a read-only NumPy array; copy it (`.copy()`) to change them."""
        array = np.asarray(memory.to_numpy(self._value("numpy()"))).view()
        array.flags.writeable = False
        return array

    def item(self) -> Any:
        """Returns the one element as a Python number.

        Raises:
            ShapeError: If there is not exactly one element.
        """
        if self.size != 1:
            raise ShapeError(f"item() needs exactly one element. Received: shape={self.shape}")
        return self._value("item()").item()

    def tolist(self) -> Any:
        """Returns the values as nested Python lists."""
        return self.numpy().tolist()

    def to(self, device: str | Device) -> "Tensor":
        """Returns the tensor on another device; gradients flow back through the copy.

        Raises:
            DeviceError: If the device does not exist or does not work here.
        """
        target = Device(device)
        return self if target is self.device else FUNCTIONS["to_device"](self, target)

    def _value(self, what):
        if state.graph is not None and not hasattr(self.data, "__array__"):
            raise TraceError(
                f"{what} needs the value of a tensor that is only being traced. Use `ops.where` "
                "or `ops.cond` for choices, and a Variable for what changes between steps. "
                f"Received: shape={self.shape}, dtype={self.dtype}"
            )
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array.astype(dtype) if dtype not in (None, array.dtype) or copy else array

    def __dlpack__(self, **options: Any) -> Any:
        return _exportable(self._value("__dlpack__()")).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _exportable(self._value("__dlpack_device__()")).__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict:
        if self.device.kind != "cuda":
            raise AttributeError("only tensors on a CUDA device have __cuda_array_interface__")
        return self._value("__cuda_array_interface__").__cuda_array_interface__

    def __bool__(self) -> bool:
        return bool(self._value("bool()"))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"An index must be an integer. Received: dtype={self.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len() of a tensor with no axes")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 else self, spec) if spec else str(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise DTypeError(
            "Tensors do not change; use `ops.slice_update` or `ops.scatter_update`, which return "
            "a new one, or keep the values in a Variable."
        )

    def __repr__(self) -> str:
        if not hasattr(self.data, "__array__") and not hasattr(self.data, "get"):
            return f"Tensor(shape={self.shape}, dtype={self.dtype}, traced)"
        text = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        return f"Tensor({text}, dtype={self.dtype}, device={self.device})"

    def __deepcopy__(self, memo: dict) -> "Tensor":
        return Tensor(self.data, self.device)

    def __reduce__(self) -> Any:
        return tensor, (self.numpy().copy(), None, self.device.name)


faults.HOLDERS[Tensor] = lambda x: (faults.TENSORS, (x.data,))


def _exportable(data: Any) -> Any:
    """NumPy exports neither read-only views of scalars nor scalars: make them arrays."""
    return np.asarray(data) if isinstance(data, np.generic) else data


class SymbolicArgument(TypeError):
    """A KerasTensor met an op: the op is recorded in a functional model instead of computed."""


def as_tensor(value: Any, dtype: Any = None, device: Device | None = None) -> Tensor:
    """Returns any tensor-like value as a Tensor; Variables give their current value.

    Args:
        value: Tensor, Variable, number, nested list, or array of any library.
        dtype: Converts numbers and arrays (not tensors) to this dtype; `None` keeps theirs.
        device: Where numbers and arrays go; default the current device.

    Raises:
        DTypeError: If `value` holds no numbers.
    """
    if type(value) is Tensor:
        return value
    convert = getattr(value, "__gpunet_tensor__", None)
    if convert is not None:
        return convert()
    device = device or current_device()
    if isinstance(value, (list, tuple)) and _contains_tensors(value):
        return FUNCTIONS["stack"](value)
    return Tensor(memory.as_array(value, dtype, device), device)


def _contains_tensors(values):
    for value in values:
        if isinstance(value, Operators):
            return True
        if isinstance(value, (list, tuple)):
            return _contains_tensors(value)
    return False


def tensor(value: Any, dtype: Any = None, device: str | Device | None = None) -> Tensor:
    """Makes a Tensor from a number, nested list, or array of any library; memory is copied.

    Args:
        value: Numbers, nested lists, NumPy or CuPy arrays, tensors of other libraries (DLPack).
        dtype: Dtype of the result. Default: that of an array; `floatx()` for Python floats, int32
            for Python integers that fit, else int64.
        device: Where it lives; default the current device.

    Raises:
        DTypeError: If `value` holds no numbers.
        DeviceError: If the device does not work here.

    Example:
        >>> import gpunet
        >>> gpunet.tensor([1, 2, 3], dtype="float16")
        Tensor([1., 2., 3.], dtype=float16, device=cpu)
    """
    target = Device(device) if device is not None else None
    result = as_tensor(value, dtype, target)
    if target is not None:
        result = result.to(target)
    if dtype is not None and result.dtype != numpy_dtype(dtype):
        result = FUNCTIONS["cast"](result, dtype)
    return result
