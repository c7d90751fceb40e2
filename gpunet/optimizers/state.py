"""The state of an optimizer: its variables, learning rate, and how they are saved."""

import warnings
from collections.abc import Sequence
from typing import Any

from gpunet import initializers, ops, schedules
from gpunet.config import floatx
from gpunet.core.naming import name_scope
from gpunet.core.state import mode, state
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, ShapeError, StateError, TraceError, received
from gpunet.saving import deserialize_keras_object, serialize_keras_object


class OptimizerState:
    """What an optimizer keeps from step to step; the first half of `Optimizer`."""

    name: str
    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    _following: Tensor | None = None  # the count of steps after the one being made

    def _make_state(self, learning_rate):
        self.built = False
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._trainable_variables_indices: dict[int, int] = {}
        with name_scope(self.name):
            self._iterations = Variable(
                0,
                dtype="int32",
                trainable=False,
                aggregation="only_first_replica",
                name="iteration",
            )
        with mode(graph=None):
            self._one = as_tensor(1, "int32", self._iterations.device)
        self._learning_rate: Any = self._checked_rate(learning_rate)

    def _checked_rate(self, rate):
        if isinstance(rate, (schedules.LearningRateSchedule, Variable)):
            return rate
        if callable(rate) and not isinstance(rate, Operators):
            return rate
        if isinstance(rate, bool) or not isinstance(rate, (float, int)):
            raise ArgumentError(
                "Argument `learning_rate` should be float, or an instance of LearningRateSchedule, "
                "or a callable without arguments that returns the learning rate. "
                + received(learning_rate=rate)
            )
        with name_scope(self.name):
            return Variable(
                float(rate),
                dtype=floatx(),
                trainable=False,
                aggregation="only_first_replica",
                name="learning_rate",
            )

    @property
    def variables(self) -> list[Variable]:
        """All variables: iteration, learning rate, averages and accumulators, then the slots."""
        return self._variables[:]

    @property
    def iterations(self) -> Any:
        """How many updates were made (with accumulation: of the weights)."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations, self.gradient_accumulation_steps)
        return self._iterations

    def _step_number(self) -> Tensor:
        """The number of this update, from 1."""
        if self._following is not None and not self.gradient_accumulation_steps:
            return self._following
        return ops.add(as_tensor(self.iterations), self._one)

    @property
    def learning_rate(self) -> Any:
        """The current learning rate; settable where it was given as a float."""
        rate = self._learning_rate
        if isinstance(rate, Variable):
            return rate
        if isinstance(rate, schedules.LearningRateSchedule):
            return rate(self._iterations)
        value = rate()
        if state.graph is not None and not isinstance(value, Operators):
            raise TraceError(
                "A graph would keep the learning rate that a Python function returns now for all "
                "steps. Use a `LearningRateSchedule`, or a Variable and assign to it. "
                + received(learning_rate=value)
            )
        return value

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        before = self._learning_rate
        function = callable(learning_rate) and not isinstance(learning_rate, Operators)
        if not function:
            if isinstance(before, schedules.LearningRateSchedule):
                raise TypeError(
                    "This optimizer was created with a `LearningRateSchedule` object as its "
                    "`learning_rate` constructor argument, hence its learning rate is not "
                    "settable. Make the optimizer with a float `learning_rate` instead."
                )
            if isinstance(before, Variable):
                before.assign(learning_rate)
                return
        self._learning_rate = learning_rate if function else self._checked_rate(learning_rate)
        if isinstance(before, Variable):
            self._variables = [v for v in self._variables if v is not before]

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables; done by the first `apply`."""
        variables = list(variables)
        if self.use_ema:
            self._model_variables_moving_average = self.add_optimizer_variables(
                variables, "average"
            )
        if self.gradient_accumulation_steps:
            self._accumulated_gradients = [
                self.add_variable_from_reference(v, name="gradient_accumulator") for v in variables
            ]
        self._trainable_variables = variables
        self._trainable_variables_indices = {id(v): i for i, v in enumerate(variables)}
        self._overwrites = any(map(self._overwrite_variable_with_gradient, variables))
        self.built = True

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable of the optimizer's state, which is saved with it.

        Args:
            shape: Shape.
            initializer: Initializer or its name.
            dtype: Default `floatx()`.
            aggregation: Accepted for Keras.
            layout: Accepted for Keras.
            name: Name.
        """
        with name_scope(self.name):
            variable = Variable(
                initializers.get(initializer),
                shape=shape,
                dtype=dtype,
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Makes a variable with the shape, dtype and name of a weight, such as a momentum.

        Args:
            reference_variable: The weight.
            name: Put behind the weight's name.
            initializer: Initializer or its name.
        """
        of = getattr(reference_variable, "path", None) or str(reference_variable.name)
        of = of.replace("/", "_").replace(":", "_")
        return self.add_variable(
            reference_variable.shape,
            initializer,
            dtype=reference_variable.dtype,
            name=f"{of}_{name or 'var'}",
        )

    def add_optimizer_variables(
        self, trainable_variables: Sequence[Variable], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """Makes slots for every weight: one list for one name, a tuple of lists for several.

        Args:
            trainable_variables: The weights.
            name: Name, or list of names.
            initializer: Initializer, or list with one for each name.

        Raises:
            ArgumentError: If there are not as many initializers as names.
        """
        names = [name] if isinstance(name, str) else list(name)
        one = not isinstance(initializer, (list, tuple))
        starts = [initializer] * len(names) if one else list(initializer)
        if len(names) != len(starts):
            raise ArgumentError(
                "The number of provided names must match the number of provided initializers. "
                + received(name=name, initializer=initializer)
            )
        slots: tuple[list, ...] = tuple([] for _ in names)
        for variable in trainable_variables:
            skip = self._overwrite_variable_with_gradient(variable)
            for of_name, slot_name, start in zip(slots, names, starts, strict=True):
                new = None if skip else self.add_variable_from_reference(variable, slot_name, start)
                of_name.append(new)
        return slots[0] if isinstance(name, str) else slots

    def _overwrite_variable_with_gradient(self, variable):
        return getattr(variable, "overwrite_with_gradient", False)

    def _var_key(self, variable):
        return id(variable)

    def _get_variable_index(self, variable):
        return self._trainable_variables_indices[id(variable)]

    # -- saving ---------------------------------------------------------------------------------

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets `variables` to values in their order.

        Raises:
            StateError: If the optimizer is not built.
            ShapeError: If a value has not the shape of its variable; nothing is set then.
        """
        if not self.built:
            raise StateError(
                "You are calling `set_weights()` on an optimizer that has not yet been built. "
                "Call `optimizer.build(trainable_variables)` first."
            )
        pairs = list(zip(self._variables, weights, strict=False))
        for variable, weight in pairs:
            if tuple(weight.shape) != variable.shape:
                raise ShapeError(
                    f"Optimizer variable {variable.path} has shape {variable.shape} not compatible "
                    f"with provided weight shape {tuple(weight.shape)}. "
                    + received(shape=tuple(weight.shape))
                )
        for variable, weight in pairs:
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        """Puts the values of `variables` into a mapping, under `"0"`, `"1"`, ..."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Sets `variables` from a mapping; warns, and sets none, if their number differs."""
        if len(store.keys()) != len(self.variables):
            hint = "" if self.variables else " The optimizer has not been built yet."
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}', because it has "
                f"{len(self.variables)} variables whereas the saved optimizer has "
                f"{len(store.keys())} variables.{hint}",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(self.variables):
            variable.assign(store[str(i)])

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        rate = self._learning_rate
        return {
            "name": self.name,
            "learning_rate": (
                float(rate.numpy()) if isinstance(rate, Variable) else serialize_keras_object(rate)
            ),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "OptimizerState":
        """Makes an optimizer from what `get_config` returned."""
        rate = config.get("learning_rate")
        if isinstance(rate, dict):
            config = {**config, "learning_rate": deserialize_keras_object(rate, custom_objects)}
        return cls(**config)

    def __setattr__(self, name: str, value: Any) -> None:
        """Variables that a subclass keeps as attributes belong to the state."""
        if isinstance(value, Variable) and not any(value is v for v in self._variables):
            self._variables.append(value)
        object.__setattr__(self, name, value)
