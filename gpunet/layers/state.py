"""The state of a layer: tracked weights, sublayers, metrics and losses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from gpunet import constraints, initializers, regularizers
from gpunet.core.state import State, state
from gpunet.core.symbolic import Operation, flatten
from gpunet.core.tensor import Tensor
from gpunet.core.variable import StatelessScope, Variable
from gpunet.dtypes import is_float, standardize_dtype
from gpunet.errors import ArgumentError, DTypeError, ShapeError, StateError, received
from gpunet.layers.tracker import Tracker, Version


class Calls(Protocol):
    """What layers are doing in this thread; `calls` is the core's `state`, seen from here.

    Attributes:
        calling: Whether a layer is being called.
        training: The `training` argument of the layer being called.
        context: The other arguments that reach sublayers, by name, or `None`.
        named: The layer that opened the innermost name scope.
    """

    calling: bool
    training: bool | None
    context: dict | None
    named: Any


for _name, _default in {"calling": False, "training": None, "context": None, "named": None}.items():
    setattr(State, _name, _default)
calls = cast(Calls, state)


class _Losses:
    """Whether any layer ever called `add_loss`; until then there is nothing to clear."""

    added = False


class StatefulOperation(Operation):
    """An operation that owns variables and other such operations; the storage side of `Layer`."""

    _is_layer = True
    _tracker: Tracker
    _trainable: bool
    _trainable_variables: list
    _non_trainable_variables: list
    _layers: list
    _metrics: list
    _seed_generators: list
    _losses: list
    _loss_ids: set
    _losses_override: list
    _kept: dict
    built: bool

    if TYPE_CHECKING:  # layers set many of their attributes by name

        def __getattr__(self, name: str) -> Any: ...

    def _start_tracking(self) -> None:
        """Gives a new object its empty lists, before `__init__` runs."""
        tracker = Tracker()
        self.__dict__.update(
            _tracker=tracker,
            _trainable_variables=tracker.trainable,
            _non_trainable_variables=tracker.non_trainable,
            _layers=tracker.layers,
            _metrics=tracker.metrics,
            _seed_generators=tracker.seed_generators,
            _losses=[],
            _loss_ids=set(),
            _losses_override=[],
            _kept={},
        )

    @contextmanager
    def _name_scope(self) -> Iterator[None]:
        """Puts the name before the paths of variables made in a block, once."""
        if calls.named is self:
            yield
            return
        names, named = state.names, calls.named
        path = self.__dict__.get("_path")
        inside = tuple(path.split("/")) if path and not names else (*names, self.name)
        state.names, calls.named = inside, self
        try:
            yield
        finally:
            state.names, calls.named = names, named

    # -- making weights -------------------------------------------------------------------------

    def add_weight(
        self,
        *args: Any,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str | None = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable that belongs to the layer.

        Args:
            *args: `shape`, `initializer` and `dtype` may also be given by position.
            shape: Shape without unknown lengths; default `()`.
            initializer: Initializer or name of one; default `"glorot_uniform"` for floats, else
                `"zeros"`.
            dtype: Default `self.variable_dtype`.
            trainable: Whether optimizers change it.
            autocast: Whether it is read in the compute dtype inside of `call`.
            regularizer: Its penalty is added to `losses`.
            constraint: Applied after each optimizer step.
            aggregation: Accepted for Keras.
            overwrite_with_gradient: Whether optimizers set it to its gradient.
            name: Name; `path` puts the layer's name before it.

        Raises:
            ArgumentError: If the name is given by position, or the initializer is unknown.
            StateError: If the layer is built already, or `super().__init__()` was not called.
        """
        self._check_super_called()
        shape, initializer, dtype = _by_position(args, shape, initializer, dtype)
        dtype = self.variable_dtype if dtype is None else standardize_dtype(dtype)
        if initializer is None:
            initializer = "glorot_uniform" if is_float(dtype) else "zeros"
        if self._tracker.locked:
            raise StateError(f"Layer '{self.name}': {self._tracker.message}")
        self._check_known_shape(shape, name)
        with self._name_scope():
            variable = Variable(
                initializers.get(initializer),
                shape=() if shape is None else shape,
                dtype=dtype,
                trainable=trainable,
                autocast=autocast,
                aggregation=aggregation,
                name=name,
            )
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        self._track_variable(variable)
        return variable

    add_variable = add_weight

    def _check_known_shape(self, shape, name):
        lengths = shape if isinstance(shape, (list, tuple)) else ()
        if any(d is None for d in lengths):
            raise ShapeError(
                f"Layer '{self.name}': the shape of weight '{name}' depends on an axis of the "
                "input whose length is unknown (None). Give it in `Input(shape=...)`. "
                + received(shape=tuple(lengths))
            )

    def _track_variable(self, variable: Variable) -> None:
        self._tracker.add(variable)
        if not self.trainable:
            variable.trainable = False

    def _untrack_variable(self, variable: Variable) -> None:
        self._tracker.untrack(variable)

    def _lock_state(self) -> None:
        """Refuses new state; called when the layer was built."""
        if not self._tracker.locked:
            self._tracker.lock()

    # -- lists of state -------------------------------------------------------------------------

    def _collect(self, key: str, compute: Callable[[], list]) -> list:
        """Returns a list computed once for each structure of the layers."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != Version.number:
            kept = self._kept[key] = Version.number, compute()
        return kept[1]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list:
        """Returns the sublayers, each before its own."""
        if not recursive:
            below = _unique(self._layers)
        else:
            below = self._collect("layers", self._all_layers)
        return [self, *below] if include_self else list(below)

    def _all_layers(self):
        found: dict[int, Any] = {}
        waiting = list(reversed(self._layers))
        while waiting:
            layer = waiting.pop()
            if id(layer) not in found:
                found[id(layer)] = layer
                waiting.extend(reversed(layer._layers))
        return list(found.values())

    def _all_weights(self):
        own = [*self._trainable_variables, *self._non_trainable_variables]
        return _unique([*own, *(v for layer in self._layers for v in layer.weights)])

    def _all_variables(self):
        own = [*self._trainable_variables, *self._non_trainable_variables]
        seeds = [generator.state for generator in self._seed_generators]
        return _unique([*own, *seeds, *(v for layer in self._layers for v in layer.variables)])

    @property
    def variables(self) -> list[Variable]:
        """All state, also that of seed generators; not that of metrics."""
        return list(self._collect("variables", self._all_variables))

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that optimizers change."""
        if not self.trainable:
            return []
        return [v for v in self._collect("variables", self._all_variables) if v.trainable]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that optimizers leave alone, also those of seed generators."""
        variables = self._collect("variables", self._all_variables)
        return [v for v in variables if not (self.trainable and v.trainable)]

    @property
    def weights(self) -> list[Variable]:
        """The variables of the layer and its sublayers, without seed generators and metrics."""
        return list(self._collect("weights", self._all_weights))

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that optimizers change."""
        if not self.trainable:
            return []
        return [v for v in self._collect("weights", self._all_weights) if v.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that optimizers leave alone."""
        weights = self._collect("weights", self._all_weights)
        return [v for v in weights if not (self.trainable and v.trainable)]

    @property
    def metrics(self) -> list:
        """The metrics of the layer and its sublayers."""
        return [*self._metrics, *(m for layer in self._layers for m in layer.metrics)]

    @property
    def metrics_variables(self) -> list[Variable]:
        """The state of the metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    @property
    def trainable(self) -> bool:
        """Whether optimizers change the layer's weights; setting it also sets it for sublayers."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in self._trainable_variables:
            variable.trainable = self._trainable
        for layer in self._layers:
            layer.trainable = self._trainable

    def get_weights(self) -> list[np.ndarray]:
        """Returns the values of `weights` as NumPy arrays."""
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: list) -> None:
        """Sets the values of `weights`; sets none of them if one does not fit.

        Args:
            weights: Arrays of the weights' shapes, in their order.

        Raises:
            ShapeError: If there are too many or too few, or a shape differs.
        """
        mine, weights = self.weights, list(weights)
        if len(mine) != len(weights):
            raise ShapeError(
                f"set_weights() on layer '{self.name}' needs {len(mine)} arrays. "
                + received(length=len(weights))
            )
        for variable, value in zip(mine, weights, strict=True):
            if variable.shape != tuple(np.shape(value)):
                raise ShapeError(
                    f"Layer '{self.name}': weight {variable.path} has shape {variable.shape}. "
                    + received(shape=tuple(np.shape(value)))
                )
        for variable, value in zip(mine, weights, strict=True):
            variable.assign(value)

    def count_params(self) -> int:
        """Returns how many numbers the weights hold.

        Raises:
            StateError: If the layer is not built.
        """
        if not self.built:
            raise StateError(
                f"Layer '{self.name}' is not built, so it has no weights to count. Call it on "
                "data, or call `layer.build(input_shape)`."
            )
        return sum(variable.size for variable in self.weights)

    # -- losses ---------------------------------------------------------------------------------

    def add_loss(self, loss: Any) -> None:
        """Adds a loss (or nest of losses) during `call`; it is dropped at the next call.

        Raises:
            DTypeError: If it is no tensor.
        """
        found = flatten(loss)
        for x in found:
            if not isinstance(x, (Tensor, Variable)):
                raise DTypeError(
                    f"add_loss() on layer '{self.name}' needs a tensor computed in `call()` or "
                    f"`build()`. {received(loss=x)}"
                )
        scope = state.scope
        if isinstance(scope, StatelessScope):
            if scope.collect_losses:
                for x in found:
                    scope.add_loss(x)
                    self._loss_ids.add(id(x))
            return
        _Losses.added = True
        self._losses.extend(found)

    def _own_losses(self):
        scope = state.scope
        if isinstance(scope, StatelessScope):
            return [x for x in scope.losses if id(x) in self._loss_ids]
        return list(self._losses)

    def _clear_losses(self) -> None:
        """Drops what `add_loss` added, also in sublayers."""
        if not _Losses.added and not isinstance(state.scope, StatelessScope):
            return
        for layer in self._flatten_layers():
            if isinstance(state.scope, StatelessScope):
                layer._loss_ids.clear()
            else:
                layer._losses.clear()

    @property
    def losses(self) -> list:
        """Scalar tensors: from `add_loss` in the last call, and the penalties of regularizers."""
        if self._losses_override:
            return self._losses_override
        penalties = [
            v.regularizer(v.value) for v in self.trainable_weights if v.regularizer is not None
        ]
        if not _Losses.added and not isinstance(state.scope, StatelessScope):
            return penalties
        added = [x for layer in self._flatten_layers() for x in layer._own_losses()]
        return added + penalties

    # -- saving ---------------------------------------------------------------------------------

    def save_own_variables(self, store: Any) -> None:
        """Writes the layer's own variables into a mapping, under `"0"`, `"1"`, ..."""
        own = [*self._trainable_variables, *self._non_trainable_variables]
        for i, variable in enumerate(own):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Sets the layer's own variables from a mapping written by `save_own_variables`.

        Raises:
            StateError: If there are more or fewer than the layer has.
            ShapeError: If a shape differs.
        """
        own = [*self._trainable_variables, *self._non_trainable_variables]
        if len(store.keys()) != len(own):
            hint = ""
            if not own and not self.built:
                hint = (
                    " The layer was never built: its `build` (or that of the layer that owns it) "
                    "must create all of its state, or `build_from_config` must."
                )
            raise StateError(
                f"Layer '{self.name}' expected {len(own)} variables "
                f"({[v.name for v in own]}).{hint} {received(variables=len(store.keys()))}"
            )
        for i, variable in enumerate(own):
            variable.assign(np.asarray(store[str(i)]))


def _unique(items):
    return list({id(item): item for item in items}.values())


def _by_position(args, *keywords):
    """Returns shape, initializer and dtype, each given by position or by keyword."""
    if args and isinstance(args[0], str):
        raise ArgumentError(f"`name` must be passed as a keyword argument. {received(args=args)}")
    twice = any(value is not None for value in keywords[: len(args)])
    if len(args) > len(keywords) or twice:
        raise ArgumentError(
            "Only `shape`, `initializer` and `dtype` may be given by position, and once. "
            + received(args=args)
        )
    return (*args, *keywords[len(args) :])
