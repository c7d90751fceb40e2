"""Functional models: KerasTensor (a shape with unknown lengths), Operation, and graphs of calls."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optree

from gpunet.backend.device import current_device
from gpunet.core.state import mode, state
from gpunet.core.tensor import FUNCTIONS, Operators, SymbolicArgument, Tensor
from gpunet.core.trace import Graph, Symbol
from gpunet.core.variable import StatelessScope, Variable, standardize_shape
from gpunet.dtypes import standardize_dtype
from gpunet.errors import ArgumentError, StateError, TraceError, received
from gpunet.naming import auto_name

# An unknown length is tried with each of these; where a result's length differs it is unknown.
_PROBES = (24, 36)


class KerasTensor(Operators):
    """A tensor of a functional model that is being built: shape and dtype, no values.

    Args:
        shape: Tuple of ints, `None` for lengths that are not known yet.
        dtype: Default `floatx()`.
        name: Name; default an automatic one.

    Example:
        >>> import gpunet
        >>> (gpunet.KerasTensor((None, 3)) * 2).shape
        (None, 3)
    """

    def __init__(
        self,
        shape: Sequence[int | None],
        dtype: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
    ):
        if sparse or ragged:
            raise ArgumentError(
                f"gpunet has dense tensors only. {received(sparse=sparse, ragged=ragged)}"
            )
        self.shape = standardize_shape(shape, allow_none=True)
        self.dtype = standardize_dtype(dtype)
        self.sparse, self.ragged = False, False
        self.name = name or auto_name(type(self).__name__)
        self.record_history = record_history
        self._keras_history: KerasHistory | None = None

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    def __gpunet_tensor__(self) -> Tensor:
        raise SymbolicArgument(
            "A KerasTensor has no values: it stands for the input of a functional model. Use it "
            "with layers and `gpunet.ops`."
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TraceError("A KerasTensor has no values; NumPy cannot use it. Use `gpunet.ops`.")

    def __bool__(self) -> bool:
        raise TraceError("A KerasTensor has no values: Python cannot test it. Use `ops.where`.")

    def __iter__(self) -> Any:
        raise TraceError("A KerasTensor cannot be iterated over; use `ops.unstack`.")

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


class KerasHistory(NamedTuple):
    """Where a KerasTensor comes from: which result of which call of which operation."""

    operation: "Operation"
    node_index: int
    tensor_index: int


class CallNode:
    """One symbolic call of an operation: an edge bundle in the graph of a functional model."""

    def __init__(self, operation: "Operation", args: tuple, kwargs: dict, outputs: Any):
        self.operation, self.args, self.kwargs = operation, args, kwargs
        self.input_tensors = [x for x in flatten((args, kwargs)) if isinstance(x, KerasTensor)]
        self.output_tensors = flatten(outputs)
        operation._inbound_nodes.append(self)
        for x in self.input_tensors:
            if x._keras_history is not None:
                x._keras_history.operation._outbound_nodes.append(self)
        for i, y in enumerate(self.output_tensors):
            y._keras_history = KerasHistory(operation, len(operation._inbound_nodes) - 1, i)

    @property
    def parent_nodes(self) -> list["CallNode"]:
        """The calls that made the inputs of this one."""
        parents = []
        for x in self.input_tensors:
            if x._keras_history is None:
                continue
            operation, index, _ = x._keras_history
            node = operation._inbound_nodes[index]
            if node not in parents:
                parents.append(node)
        return parents

    @property
    def is_input(self) -> bool:
        """Whether this is where a model begins."""
        return not self.input_tensors


class Operation:
    """Something that is called on tensors and can be a node of a functional model."""

    def __init__(self, name: str | None = None):
        self.name = name or auto_name(type(self).__name__)
        self._inbound_nodes: list[CallNode] = []
        self._outbound_nodes: list[CallNode] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes on tensors, or records a call on KerasTensors."""
        if any_symbolic_tensors(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Records a call; returns KerasTensors."""
        outputs = self.compute_output_spec(*args, **kwargs)
        CallNode(self, args, kwargs, outputs)
        return outputs

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes on tensors; subclasses define it."""
        raise StateError(f"{type(self).__name__} does not define `call`.")

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the results as KerasTensors; the default traces `call` for its shapes."""
        return compute_output_spec(self.call, *args, **kwargs)

    @property
    def input(self) -> Any:
        """The symbolic input of the first call."""
        return _one([n.input_tensors for n in self._inbound_nodes], self.name)

    @property
    def output(self) -> Any:
        """The symbolic output of the first call."""
        return _one([n.output_tensors for n in self._inbound_nodes], self.name)


def _one(calls, name):
    if not calls:
        raise AttributeError(f"{name} was never called on KerasTensors, so it has no such tensor.")
    return calls[0][0] if len(calls[0]) == 1 else calls[0]


class FunctionOperation(Operation):
    """A public op, such as `ops.add`, as a node of a functional model."""

    def __init__(self, function: str, name: str | None = None):
        super().__init__(name or auto_name(function))
        self.function = function

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the op."""
        return FUNCTIONS[self.function](*args, **kwargs)

    def get_config(self) -> dict:
        """Returns what `from_config` needs."""
        return {"name": self.name, "function": self.function}


def public(f: Callable) -> Callable:
    """Makes a function a public op: found by its name, and recorded when it meets KerasTensors."""

    @functools.wraps(f)
    def op(*args, **kwargs):
        try:
            return f(*args, **kwargs)
        except SymbolicArgument:
            if not any_symbolic_tensors(args, kwargs):
                raise
        return FunctionOperation(f.__name__).symbolic_call(*args, **kwargs)

    FUNCTIONS[f.__name__] = op
    return op


def flatten(nest: Any) -> list:
    """Returns the leaves of a nest of lists, tuples and dicts; `None` is none."""
    return optree.tree_leaves(nest, is_leaf=lambda x: isinstance(x, Operators))


def map_structure(f: Callable, nest: Any, *rest: Any) -> Any:
    """Applies `f` to the leaves of nests of the same structure; tensors are leaves."""
    return optree.tree_map(f, nest, *rest, is_leaf=lambda x: isinstance(x, Operators))


def any_symbolic_tensors(args: Any = None, kwargs: Any = None) -> bool:
    """Tells whether there is a KerasTensor anywhere in the arguments."""
    return any(isinstance(x, KerasTensor) for x in flatten((args or (), kwargs or {})))


def is_keras_tensor(x: Any) -> bool:
    """Tells whether `x` is a KerasTensor."""
    return isinstance(x, KerasTensor)


def compute_output_spec(f: Callable, *args: Any, **kwargs: Any) -> Any:
    """Returns the results of `f` as KerasTensors without computing anything.

    `f` is traced; an unknown length is tried with two sizes, and is unknown in the results
    where these differ. Variables keep their values.

    Raises:
        ShapeError: If the shapes of the inputs do not go together.
    """
    sizes = _PROBES if None in _all_lengths(args, kwargs) else _PROBES[:1]
    specs = [_trace_shapes(f, args, kwargs, size) for size in sizes]

    def merge(first, *others):
        if not isinstance(first, Symbol):
            return first
        shape = [
            a if all(a == other.shape[i] for other in others) else None
            for i, a in enumerate(first.shape)
        ]
        return KerasTensor(shape, first.dtype)

    return optree.tree_map(merge, *specs, is_leaf=lambda x: isinstance(x, Symbol))


def _all_lengths(args, kwargs):
    return [d for x in flatten((args, kwargs)) if isinstance(x, KerasTensor) for d in x.shape]


def _trace_shapes(f, args, kwargs, size):
    device = current_device()

    def stand_in(x):
        if not isinstance(x, KerasTensor):
            return x
        shape = tuple(size if d is None else d for d in x.shape)
        y = Tensor(Symbol(shape, x.dtype), device)
        mask = getattr(x, "_keras_mask", None)
        if mask is not None:
            y._keras_mask = stand_in(mask)
        return y

    args, kwargs = map_structure(stand_in, (args, kwargs))
    scope = None if isinstance(state.scope, StatelessScope) else StatelessScope()
    with mode(graph=Graph(device), tape=None, symbolic=True, scope=scope or state.scope):
        out = f(*args, **kwargs)
    return map_structure(
        lambda y: Symbol(y.shape, y.dtype) if isinstance(y, (Tensor, Variable)) else y, out
    )


def in_symbolic_scope() -> bool:
    """Tells whether only shapes are being inferred in this thread."""
    return state.symbolic


class SymbolicScope:
    """A block in which layers are called for their shapes only."""

    def __enter__(self) -> "SymbolicScope":
        self._mode = mode(symbolic=True)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
