"""Gradient checkpointing: forget what a function computed on the way, and compute it again.

For gradients a tape keeps the intermediate results of all that runs forward: memory that grows with
the depth of a network. A checkpointed function leaves only its arguments there. When the gradient
reaches it, it runs once more, and what that computes is needed for a moment only. One more forward
pass buys the memory of all but the largest part.

Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optree

from gpunet.core.autograd import backpropagate
from gpunet.core.primitive import Primitive
from gpunet.core.state import State, mode, state
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.core.variable import StatelessScope, Variable
from gpunet.errors import ArgumentError, GradientError, received
from gpunet.ops.control_graph import flatten
from gpunet.ops.tape import attach, dependencies

__all__: list[str] = []

# The identity, of which no two are one: what is computed from its result is computed again, though
# the same has been computed before.
barrier = Primitive("barrier(x) -> y")
barrier.array(lambda xp, x: x)
barrier.infer(lambda x: Symbol(x.shape, x.dtype))
barrier.vjp(lambda g: g)

_Values = dict[int, tuple[Variable, Tensor]]

# Whether a function runs that will be run again, and what layers made now shall do.
for _name, _default in {"recomputed": False, "remat": None}.items():
    setattr(State, _name, _default)
_OWN = {"tape", "graph", "scope", "origin", "budget"}  # of the state: not restored


class _Noted:
    """Lets Variables be read and written as outside, and notes what they were before.

    Attributes:
        values: The first value of each Variable read before it was written.
    """

    def __init__(self, outer: Any):
        self.outer, self._written = outer, set()
        self.values: _Values = {}

    def read(self, variable: Variable) -> Tensor | None:
        key = id(variable)
        if key in self.values or key in self._written:
            return None if self.outer is None else self.outer.read(variable)
        with mode(scope=self.outer, autocast=None):
            x = variable.value
        self.values[key] = variable, x
        return x

    def write(self, variable: Variable, value: Tensor) -> None:
        self._written.add(id(variable))
        with mode(scope=self.outer):
            variable.assign(value)


class _NotedStateless(_Noted, StatelessScope):
    """The same inside of a `StatelessScope`, which also collects losses."""

    def __init__(self, outer: StatelessScope):
        StatelessScope.__init__(self, None, outer.collect_losses, outer.initialize_variables)
        _Noted.__init__(self, outer)
        self.losses = outer.losses


class _Replayed(StatelessScope):
    """Gives Variables the values that they had; what is written is written a second time.

    Attributes:
        differentiable: Whether gradients flow through what was written, as in the first run.
    """

    def __init__(self, values: _Values, outer: Any, differentiable: bool):
        super().__init__(collect_losses=True)
        self._first, self._outer, self.differentiable = values, outer, differentiable

    def read(self, variable: Variable) -> Tensor | None:
        if id(variable) not in self._values and id(variable) in self._first:
            self._values[id(variable)] = variable, _again(self._first[id(variable)][1])
        found = self.get_current_value(variable)
        return self._outer.read(variable) if found is None and self._outer is not None else found

    def write(self, variable: Variable, value: Tensor) -> None:
        super().write(variable, value if self.differentiable else Tensor(value.data, value.device))


def _differentiable(scope):
    """Whether gradients flow through what is written to a Variable in a scope, and then read."""
    if isinstance(scope, _Noted):
        return _differentiable(scope.outer)
    return getattr(scope, "differentiable", isinstance(scope, StatelessScope))


def _again(x: Tensor) -> Tensor:
    """A tensor for the second run: in a graph, one from which nothing was computed before."""
    if state.graph is None:
        return x
    y = barrier(x)
    if getattr(x, "_keras_mask", None) is not None:
        y._keras_mask = x._keras_mask
    return y


def checkpoint(f: Callable) -> Callable:
    """Returns a function that computes what `f` does, and for gradients computes it again.

    While a tape records, nothing is kept of what `f` computes on the way: the backward pass calls
    `f` a second time. Results and gradients are the same. Variables that `f` reads - weights, seeds
    of dropout - have their old values then, and those it writes - seeds, statistics - are written
    once. Everything else that it looks at must not have changed in between; so pass tensors that
    it needs as arguments rather than in Python variables that get other values.

    In a graph the second run is part of the graph, and memory is planned accordingly.

    Args:
        f: Function of nests of tensors that returns such a nest; also a layer.

    Returns:
        A function with the arguments of `f`.

    Example:
        >>> import gpunet
        >>> def deep(x):
        ...     for _ in range(100):
        ...         x = gpunet.ops.sin(x)
        ...     return x
        >>> gradient = gpunet.grad(deep)(1.0)
        >>> gpunet.grad(gpunet.checkpoint(deep))(1.0).item() == gradient.item()
        True
    """

    @functools.wraps(f, updated=())
    def checkpointed(*args, **kwargs):
        return _run(f, args, kwargs, 0)

    return checkpointed


def remat(f: Callable) -> Callable:
    """Returns a function that is computed again for gradients; Keras's name of `checkpoint`.

    Args:
        f: Function of nests of tensors that returns such a nest; also a layer.

    Returns:
        A function with the arguments of `f`.
    """
    return checkpoint(f)


def checkpoint_larger(f: Callable, threshold: int) -> Callable:
    """Returns `f` as a checkpoint where its results have more elements than `threshold`."""

    @functools.wraps(f, updated=())
    def checkpointed(*args, **kwargs):
        return _run(f, args, kwargs, threshold + 1)

    return checkpointed


def _run(f, args, kwargs, least):
    tape = state.tape
    if tape is None or state.symbolic:
        return f(*args, **kwargs)
    scope, first, differentiable = state.scope, tape.count, _differentiable(state.scope)
    settings = {k: getattr(state, k) for k in vars(State) if k[0] != "_" and k not in _OWN}
    settings["recomputed"] = True
    noted = (_NotedStateless if isinstance(scope, StatelessScope) else _Noted)(scope)
    with mode(scope=noted, recomputed=True):
        out = f(*args, **kwargs)
    leaves = {x.node for _, x in noted.values.values()}

    def inside(node):
        return node.tape is tape and node.index > first and node not in leaves

    found, structure = flatten(out)
    tensors = [y for y in found if type(y) is Tensor]
    if sum(y.size for y in tensors) < least:
        return out
    outs = list({id(y): y for y in tensors if y.node is not None and inside(y.node)}.values())
    places = dependencies(outs, tape, inside)
    if not places:
        return out
    numbers = [next(i for i, y in enumerate(found) if y is x) for x in outs]

    def pull(gs):
        start = tape.count
        replayed = _Replayed(noted.values, state.scope, differentiable)
        with mode(tape=tape, scope=replayed, **settings):
            again = f(*_second(args), **_second(kwargs))
        ys = _same(again, structure, numbers, gs)
        release = state.tape is None and state.graph is None
        made = lambda node: node.tape is tape and node.index > start  # noqa: E731
        return backpropagate(ys, gs, [place[:2] for place in places], release, made)

    attach("checkpoint", outs, tape, places, pull)
    return out


def _second(nest):
    again = lambda x: _again(x) if type(x) is Tensor else x  # noqa: E731
    leaves, structure = flatten(nest)
    return optree.tree_unflatten(structure, [again(x) for x in leaves])


def _same(out, structure, numbers, gs):
    """The results that gradients belong to, after the second run."""
    leaves, found = flatten(out)
    if found != structure:
        raise GradientError(
            "A function under `checkpoint` must return the same each time: it is called again for "
            f"gradients. {received(first=structure, second=found)}"
        )
    ys = [leaves[i] for i in numbers]
    if any(y.shape != g.shape for y, g in zip(ys, gs, strict=True)):
        raise GradientError(
            "A function under `checkpoint` must return the same shapes each time: it is called "
            f"again for gradients. {received(first=[g.shape for g in gs])}"
        )
    return ys


# -- scopes ---------------------------------------------------------------------------------------

_MODES = ("full", "activations", "larger_than", "list_of_layers", None)


class RematMode(NamedTuple):
    """What layers made in a `RematScope` do; see there."""

    mode: str | None
    output_size_threshold: int
    layer_names: tuple[str, ...]


class RematScope:
    """A block in which layers are made that are computed again for gradients; see `checkpoint`.

    What counts is the innermost scope around the making of a layer, not around its call. A layer
    inside of one that is computed again belongs to that. Models are made of their layers and are
    not computed again as a whole, unless `layer_names` has their name.

    Args:
        mode: `"full"` for all layers, `"larger_than"` for those with more elements in their outputs
            than `output_size_threshold`, `"list_of_layers"` for those named in `layer_names`,
            `"activations"` for only the activation functions of layers that have one, `None` for
            none.
        output_size_threshold: Number of elements.
        layer_names: Names of layers.

    Raises:
        ArgumentError: If there is no such mode.

    Example:
        >>> import gpunet
        >>> with gpunet.RematScope(mode="full"):
        ...     hidden = [gpunet.layers.Dense(8, activation="gelu") for _ in range(10)]
        >>> model = gpunet.Sequential([gpunet.Input((8,)), *hidden, gpunet.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(gpunet.ops.ones((4, 8)), gpunet.ops.ones((4, 1)), verbose=0)
    """

    def __init__(
        self,
        mode: str | None = "full",
        output_size_threshold: int = 1024,
        layer_names: list[str] | None = None,
    ):
        if mode not in _MODES:
            raise ArgumentError(f"`mode` must be one of {_MODES}. {received(mode=mode)}")
        self.mode, self.output_size_threshold = mode, output_size_threshold
        self.layer_names = layer_names or []
        self._before: list[Any] = []

    def __enter__(self) -> "RematScope":
        chosen = RematMode(self.mode, self.output_size_threshold, tuple(self.layer_names))
        self._before.append(mode(remat=chosen))
        self._before[-1].__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._before.pop().__exit__(*error)


def current_remat_mode() -> RematMode | None:
    """Returns what layers made now shall do, or `None`."""
    found = getattr(state, "remat", None)
    return None if found is None or found.mode is None else found


def is_recomputed() -> bool:
    """Tells whether a function runs that will be run again for gradients."""
    return getattr(state, "recomputed", False)
