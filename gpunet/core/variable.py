"""Variable: the one thing that changes.

A trace turns what it reads and writes into graph inputs and outputs; a `StatelessScope` keeps what
is written apart.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from gpunet.backend import faults, memory
from gpunet.backend.device import Device, check_available, current_device
from gpunet.core.naming import current_path
from gpunet.core.state import mode, state
from gpunet.core.tensor import FUNCTIONS, Operators, Tensor, as_tensor
from gpunet.dtypes import is_float, numpy_dtype, standardize_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.naming import auto_name


def standardize_shape(shape: Any, allow_none: bool = False) -> tuple:
    """Returns a shape as a tuple of non-negative Python ints (or `None` where that is allowed).

    Raises:
        ShapeError: If it is none.
    """
    try:
        index: Any = operator.index
        checked = [d if d is None and allow_none else index(d) for d in shape]
    except TypeError as error:
        raise ShapeError(f"A shape is a tuple of integers. {received(shape=shape)}") from error
    if any(d is not None and d < 0 for d in checked):
        raise ShapeError(f"A shape has no negative numbers. {received(shape=shape)}")
    return tuple(checked)


class Variable(Operators):
    """A value that changes between steps: a weight, a counter, a learning rate.

    Args:
        initializer: Initial value, or a callable `(shape, dtype=...) -> tensor`.
        shape: Shape, needed with a callable.
        dtype: Default: that of the value; `floatx()` for callables.
        trainable: Whether reading it while a tape records makes it a source of gradients.
        autocast: Whether layers may read it in their compute dtype.
        aggregation: Accepted for Keras: `"none"`, `"mean"`, `"sum"` or `"only_first_replica"`.
        synchronization: Accepted for Keras.
        name: Name; `path` puts the name scopes before it.

    Raises:
        ArgumentError: If a callable has no shape, or the name holds a slash.
        ShapeError: If the value has not the given shape.

    Example:
        >>> import gpunet
        >>> step = gpunet.Variable(0, dtype="int32", trainable=False)
        >>> step.assign_add(1)
        >>> step.numpy().item()
        1
    """

    def __init__(
        self,
        initializer: Any,
        shape: Iterable[int] | None = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str | None = "none",
        synchronization: str = "auto",
        name: str | None = None,
    ):
        self.name = name or auto_name(type(self).__name__)
        if "/" in self.name:
            raise ArgumentError(f"A variable's name may not hold a slash. {received(name=name)}")
        path = current_path()
        self.path = f"{path}/{self.name}" if path else self.name
        self.aggregation, self.synchronization = aggregation or "none", synchronization
        self.autocast, self._trainable = autocast, bool(trainable)
        self.regularizer: Any = None
        self.constraint: Any = None
        self.overwrite_with_gradient = False
        self._leaf: Any = None
        self._home: Any = None  # where graphs of a GPU keep the value, if one uses it
        value = self._initial_value(initializer, shape, dtype)
        self.device: Device = value.device
        self._data = value.data
        self.shape: tuple[int, ...] = tuple(value.data.shape)
        self._dtype = numpy_dtype(value.data.dtype)
        self._dtype_name = self._dtype.name
        self._is_float = is_float(self._dtype_name)

    def _initial_value(self, initializer, shape, dtype):
        with mode(tape=None, graph=None, scope=None, autocast=None):
            if callable(initializer) and not isinstance(initializer, Operators):
                if shape is None:
                    raise ArgumentError("A Variable with a callable initializer needs `shape`.")
                shape, dtype = standardize_shape(shape), standardize_dtype(dtype)
                if state.budget is not None:  # a file is being loaded that asks for this size
                    state.budget.take(self.path, math.prod(shape) * numpy_dtype(dtype).itemsize)
                value = as_tensor(initializer(shape, dtype=dtype), dtype)
            else:
                value = as_tensor(initializer, dtype)
            if dtype is not None and value.dtype != numpy_dtype(dtype):
                value = FUNCTIONS["cast"](value, dtype)
            target = check_available(current_device())
            if value.device is not target:
                value = value.to(target)
        if shape is not None and value.shape != standardize_shape(shape):
            raise ShapeError(
                f"Variable {self.path}: the initial value has not the given shape. "
                + received(shape=tuple(shape), value_shape=value.shape)
            )
        return value

    # -- reading --------------------------------------------------------------------------------

    @property
    def value(self) -> Tensor:
        """The current value as a Tensor (in the compute dtype inside of a layer's call)."""
        scope = state.scope
        x = scope.read(self) if scope is not None else None
        tape = state.tape
        if tape is None or (x is not None and x.node is not None and x.node.tape is tape):
            x = Tensor(self._data, self.device) if x is None else x
        else:
            leaf = self._leaf
            if leaf is None or leaf.tape is not tape:
                leaf = self.watch(tape) if self._trainable and state.watching else None
            x = Tensor(self._data if x is None else x.data, self.device, leaf)
        autocast = state.autocast
        if autocast is not None and self.autocast and self._is_float and x.dtype != autocast:
            return FUNCTIONS["cast"](x, autocast)
        return x

    def __gpunet_tensor__(self) -> Tensor:
        return self.value

    def watch(self, tape: Any) -> Any:
        """Makes this variable a leaf of a tape; returns the node (`None` for integers)."""
        if not self._is_float:
            return None
        if self._leaf is None or self._leaf.tape is not tape:
            self._leaf = tape.leaf(Tensor(self._data, self.device))
        return self._leaf

    def place(self, tape: Any) -> tuple[Any, int]:
        """Returns where this variable stands on a tape: a node (or `None`) and slot 0."""
        on_tape = self._leaf is not None and self._leaf.tape is tape
        return (self._leaf if on_tape else None), 0

    @property
    def dtype(self) -> str:
        """Name of the dtype; inside of a layer's call, the compute dtype."""
        autocast = state.autocast
        if autocast is not None and self.autocast and self._is_float:
            return autocast
        return self._dtype_name

    @property
    def trainable(self) -> bool:
        """Whether tapes watch it and optimizers change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable, self._leaf = bool(value), None

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return int(np.prod(self.shape, dtype=np.int64))

    def numpy(self) -> np.ndarray:
        """Returns the current value as a read-only NumPy array."""
        return self.value.numpy()

    # -- writing --------------------------------------------------------------------------------

    def assign(self, value: Any) -> None:
        """Sets the value.

        Args:
            value: Tensor, array or number of the variable's shape; cast to its dtype.

        Raises:
            ShapeError: If the shape differs; the variable keeps its value.
        """
        x = value if type(value) is Tensor else as_tensor(value, self._dtype, self.device)
        if x.shape != self.shape:
            raise ShapeError(
                f"Variable {self.path}: a new value must have the same shape. "
                + received(shape=self.shape, value_shape=x.shape)
            )
        if x.dtype != self._dtype:
            x = FUNCTIONS["cast"](x, self._dtype_name)
        if x.device is not self.device:
            x = x.to(self.device)
        if state.scope is not None:
            state.scope.write(self, x)
        else:
            self._data = x.data

    def assign_add(self, value: Any) -> None:
        """Adds to the value; `value` may broadcast to the variable's shape."""
        self.assign(FUNCTIONS["add"](self._uncast(), as_tensor(value, self._dtype_name)))

    def assign_sub(self, value: Any) -> None:
        """Subtracts from the value; `value` may broadcast to the variable's shape."""
        self.assign(FUNCTIONS["subtract"](self._uncast(), as_tensor(value, self._dtype_name)))

    def _uncast(self):
        with mode(autocast=None):
            return self.value

    # -- being used as an array -----------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.value.__array__(dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.value.__dlpack_device__()

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return self.value.__index__()

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self._dtype_name}>"

    def __getattr__(self, name: str) -> Any:
        """The array, where a graph keeps it: a copy, made when somebody asks for it."""
        if name != "_data" or self.__dict__.get("_home") is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._home.show(self)

    def __deepcopy__(self, memo: dict) -> "Variable":
        copy = object.__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(self.__dict__, _data=self._data, _leaf=None, _home=None)
        return copy

    def __getstate__(self) -> dict:
        data = memory.to_numpy(self._data)
        return dict(self.__dict__, _leaf=None, _home=None, _data=data, device=self.device.name)

    def __setstate__(self, saved: dict) -> None:
        device = Device(saved["device"])
        data = memory.as_array(saved["_data"], None, device, copy=False)
        self.__dict__.update(saved, device=device, _data=data)


def _held(v):
    state_of = f"{faults.STATE} of {v.path.split('/')[0]}"
    home = getattr(v._home, "array", None)
    return faults.PARAMETERS if v._trainable else state_of, [home, v.__dict__.get("_data")]


faults.HOLDERS[Variable] = _held


class StatelessScope:
    """A block in which Variables are read from a mapping and writes go to it, not to them.

    Args:
        state_mapping: Pairs `(variable, value)` to start from.
        collect_losses: Accepted for Keras.
        initialize_variables: Accepted for Keras.

    Example:
        >>> import gpunet
        >>> v = gpunet.Variable(1.0)
        >>> with gpunet.StatelessScope() as scope:
        ...     v.assign(5.0)
        >>> scope.get_current_value(v).item(), v.numpy().item()
        (5.0, 1.0)
    """

    def __init__(
        self,
        state_mapping: Iterable[tuple[Variable, Any]] | None = None,
        collect_losses: bool = False,
        initialize_variables: bool = True,
    ):
        self.collect_losses, self.initialize_variables = collect_losses, initialize_variables
        self.losses: list[Any] = []
        self._values: dict[int, tuple[Variable, Tensor]] = {}
        for variable, value in state_mapping or ():
            self.add_update((variable, value))

    def add_update(self, update: tuple[Variable, Any]) -> None:
        """Records a new value of a variable; checked like `assign`."""
        variable, value = update
        with mode(scope=self):
            variable.assign(value)

    def add_loss(self, loss: Any) -> None:
        """Records a loss."""
        self.losses.append(loss)

    def get_current_value(self, variable: Variable) -> Tensor | None:
        """Returns what was last written, or `None`."""
        return self._values.get(id(variable), (None, None))[1]

    def read(self, variable: Variable) -> Tensor | None:
        """Called by Variables; `None` stands for their own value."""
        return self.get_current_value(variable)

    def write(self, variable: Variable, value: Tensor) -> None:
        """Called by Variables."""
        self._values[id(variable)] = (variable, value)

    def __enter__(self) -> "StatelessScope":
        self._mode = mode(scope=self)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)


def in_stateless_scope() -> bool:
    """Tells whether a `StatelessScope` is active in this thread."""
    return isinstance(state.scope, StatelessScope)
