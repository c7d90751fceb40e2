"""What every optimizer shares: the step, with clipping, decay, averages and accumulation."""

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from gpunet import ops
from gpunet.core.state import mode, state
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.variable import StatelessScope, Variable
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, StateError, received
from gpunet.naming import auto_name
from gpunet.ops.elementwise import cast_to
from gpunet.ops.update import average_update, clip_by_norm, global_norm
from gpunet.optimizers.conditional import update_if
from gpunet.optimizers.slots import set_all
from gpunet.optimizers.state import OptimizerState
from gpunet.saving import serializable


@serializable("keras.optimizers")
class Optimizer(OptimizerState):
    """Base class of optimizers: subclasses define `build` and `update_step`.

    Args:
        learning_rate: Float, `LearningRateSchedule`, or a callable without arguments.
        weight_decay: How much of each weight is taken away in a step, times the learning rate.
        clipnorm: Largest norm of each gradient.
        clipvalue: Largest absolute value in the gradients.
        global_clipnorm: Largest norm of all gradients together.
        use_ema: Whether to keep moving averages of the weights.
        ema_momentum: How slowly they move, 0 to 1.
        ema_overwrite_frequency: After how many steps the weights become their averages; `None` for
            only when `finalize_variable_values` is called, which `fit` does at its end.
        loss_scale_factor: Factor on the loss before, and its inverse on the gradients after.
        gradient_accumulation_steps: How many gradients are averaged for one update, at least 2.
        name: Name; default one made from the class.
        **kwargs: None but `decay`, which is ignored as in Keras.

    Raises:
        ArgumentError: If an argument is out of range, or there is more than one kind of clipping.

    Example:
        >>> import gpunet
        >>> w = gpunet.Variable([1.0, 2.0])
        >>> optimizer = gpunet.optimizers.SGD(learning_rate=0.5)
        >>> optimizer.apply([gpunet.tensor([1.0, 1.0])], [w])
        >>> w.numpy().tolist()
        [0.5, 1.5]
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        if kwargs.pop("decay", None) is not None:
            warnings.warn(
                "Argument `decay` is no longer supported and will be ignored.", stacklevel=3
            )
        if kwargs:
            raise ArgumentError(f"Argument(s) not recognized: {kwargs}. {received(**kwargs)}")
        self.name = name or auto_name(type(self).__name__)
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue = clipnorm, clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._check_arguments()
        self._excluded: tuple[frozenset, re.Pattern | None] = (frozenset(), None)
        self._decays: dict[int, bool] = {}
        self._decay_in_step = False
        self._make_state(learning_rate)

    def _check_arguments(self):
        steps = self.gradient_accumulation_steps
        if steps and (not isinstance(steps, int) or steps < 2):
            raise ArgumentError(
                "`gradient_accumulation_steps` must be an integer >= 2. "
                + received(gradient_accumulation_steps=steps)
            )
        if self.use_ema:
            every = self.ema_overwrite_frequency
            if not 0 <= self.ema_momentum <= 1:
                raise ArgumentError(
                    "`ema_momentum` must be in the range [0, 1]. "
                    + received(ema_momentum=self.ema_momentum)
                )
            if every and (not isinstance(every, int) or every < 1):
                raise ArgumentError(
                    "`ema_overwrite_frequency` must be an integer >= 1 or None. "
                    + received(ema_overwrite_frequency=every)
                )
        clips = {
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
        }
        if sum(value is not None for value in clips.values()) > 1:
            raise ArgumentError(
                "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. "
                + received(**clips)
            )

    # -- one step -------------------------------------------------------------------------------

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """Makes one step with pairs of gradients and variables; returns the number of steps."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self._iterations

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Makes one step: changes the variables by their gradients.

        Args:
            grads: Gradients in the shapes of the variables; `None` leaves a variable out.
            trainable_variables: The variables; default those that the optimizer was built for.

        Raises:
            ArgumentError: If a variable is unknown, or there is no gradient at all.
            ShapeError: If a gradient has not the shape of its variable.
            StateError: If the variables are left out before the optimizer is built.
        """
        grads = list(grads)
        if not grads:
            return
        if state.tape is None and state.autocast is None:
            self._apply(grads, trainable_variables)
        else:
            with mode(tape=None, autocast=None):
                self._apply(grads, trainable_variables)

    def _apply(self, grads, variables):
        grads, variables = self._checked(grads, variables)
        if self._overwrites:
            grads, variables = self._overwrite_directly(grads, variables)
        self._following = following = ops.add(self._iterations.value, self._one)
        try:
            if grads:
                if self.loss_scale_factor is not None:
                    grads = _scaled(grads, 1.0 / self.loss_scale_factor)
                self._backend_apply_gradients(grads, variables)
        finally:
            self._following = None
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
        set_all((self._iterations,), (following,))

    def _checked(self, grads, variables):
        """Returns the gradients that there are, as tensors, and their variables."""
        if variables is None:
            if not self.built:
                raise StateError(
                    "When passing `grads` without `variables`, the optimizer must already be built "
                    "on a list of variables. Call `optimizer.build(trainable_variables)` first. "
                )
            variables = self._trainable_variables
        variables = list(variables)
        if len(grads) != len(variables):
            raise ArgumentError(
                "There must be one gradient (or None) for each variable. "
                + received(gradients=len(grads), variables=len(variables))
            )
        known, missing = self._trainable_variables_indices, False
        for i, variable in enumerate(variables):
            if self.built and id(variable) not in known:
                raise ArgumentError(
                    f"Unknown variable: {variable}. This optimizer can only be called for the "
                    "variables it was originally built with. Make a new optimizer for new ones. "
                    + received(variable=variable)
                )
            if grads[i] is None:
                missing = True
                continue
            grads[i] = g = as_tensor(grads[i], device=variable.device)
            if g.data.shape != variable.shape:
                raise ShapeError(
                    f"The gradient of {variable.path} has not the variable's shape. "
                    + received(gradient=g.shape, variable=variable.shape)
                )
        if not self.built:
            self.build(variables)
            self.built = True
        if missing:
            return self._without_missing(grads, variables)
        return grads, variables

    def _without_missing(self, grads, variables):
        left = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        if not left:
            raise ArgumentError(
                "No gradients provided for any variable. "
                + received(variables=[v.path for v in variables])
            )
        missing = [v.path for g, v in zip(grads, variables, strict=True) if g is None]
        warnings.warn(
            f"Gradients do not exist for variables {missing} when minimizing the loss. If using"
            " `model.compile()`, did you forget to provide a `loss` argument?",
            stacklevel=5,
        )
        return [g for g, _ in left], [v for _, v in left]

    def _overwrite_directly(self, grads, variables):
        """Variables that ask for it (scales of quantization) become their gradients."""
        left = []
        for g, variable in zip(grads, variables, strict=True):
            if self._overwrite_variable_with_gradient(variable):
                variable.assign(g)
            else:
                left.append((g, variable))
        return [g for g, _ in left], [v for _, v in left]

    def _backend_apply_gradients(self, grads, variables):
        steps = self.gradient_accumulation_steps
        if steps:
            sums = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]
            totals = [g + total for g, total in zip(grads, sums, strict=True)]

            def update():
                self._update(_scaled(totals, 1.0 / steps), variables)
                for total in sums:
                    total.assign(ops.zeros(total.shape, dtype=total.dtype))

            def wait():
                for variable, total in zip(sums, totals, strict=True):
                    variable.assign(total)

            update_if(ops.equal((self._iterations + 1) % steps, 0), update, wait)
        else:
            self._update(grads, variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
            if self.ema_overwrite_frequency:
                last = (self.iterations + 1) % self.ema_overwrite_frequency
                update_if(
                    ops.equal(last, 0),
                    lambda: self._overwrite_model_variables_with_average_value(
                        self._trainable_variables
                    ),
                )

    def _update(self, grads, variables):
        grads = self._clip_gradients(grads)
        self._decay_in_step = bool(self.weight_decay) and self._fuses_weight_decay()
        if not self._decay_in_step:
            self._apply_weight_decay(variables)
        try:
            self._backend_update_step(grads, variables, self.learning_rate)
        finally:
            self._decay_in_step = False

    def _fuses_weight_decay(self) -> bool:
        """Whether `update_step` takes the weight decay along."""
        return False

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        learning_rate = as_tensor(learning_rate)  # once, not once for each variable
        for g, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(g, variable, learning_rate)

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots; subclasses define it.

        Args:
            gradient: Tensor of the variable's shape.
            variable: The variable.
            learning_rate: Scalar tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `update_step`.")

    def _decay_of(self, variable):
        """The weight decay that a fused step applies to a variable."""
        return (
            self.weight_decay if self._decay_in_step and self._use_weight_decay(variable) else 0.0
        )

    def assign(self, variable: Variable, value: Any) -> None:
        """Sets a variable."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Adds to a variable."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtracts from a variable."""
        variable.assign_sub(value)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Any
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns what `apply` would make of values, and changes nothing.

        Args:
            optimizer_variables: Values of `variables`.
            grads: Gradients.
            trainable_variables: Values of the trainable variables.

        Returns:
            New values of the trainable variables, and of `variables`.

        Raises:
            StateError: If the optimizer is not built.
            ArgumentError: If there are not as many values as variables.
        """
        if not self.built:
            raise StateError(
                f"To call `stateless_apply`, {type(self).__name__} must be built (i.e. its "
                "variables must have been created): call `optimizer.build(trainable_variables)`."
            )
        mine, theirs = self.variables, self._trainable_variables
        if (len(optimizer_variables), len(trainable_variables)) != (len(mine), len(theirs)):
            raise ArgumentError(
                f"Argument `optimizer_variables` must hold {len(mine)} tensors, and "
                f"`trainable_variables` {len(theirs)}. "
                + received(
                    optimizer_variables=len(optimizer_variables),
                    trainable_variables=len(trainable_variables),
                )
            )
        values = [*zip(theirs, trainable_variables, strict=True)]
        values += zip(mine, optimizer_variables, strict=True)
        with StatelessScope(state_mapping=values) as scope:
            self.apply(grads)
        current = scope.get_current_value
        return [current(v) for v in theirs], [current(v) for v in mine]  # type: ignore[misc]

    # -- clipping, decay, averages --------------------------------------------------------------

    def scale_loss(self, loss: Any) -> Any:
        """Returns the loss times `loss_scale_factor`, which `apply` divides the gradients by."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def _clip_gradients(self, grads):
        if self.clipnorm:
            return [None if g is None else self._clip_by_norm(g) for g in grads]
        if self.global_clipnorm:
            return clip_by_global_norm(grads, self.global_clipnorm)
        if self.clipvalue:
            limit = self.clipvalue
            return [None if g is None else ops.clip(g, -limit, limit) for g in grads]
        return grads

    def _clip_by_norm(self, gradient):
        g, limit = as_tensor(gradient), self.clipnorm
        return g if limit is None else clip_by_norm(g, global_norm([g]), limit)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Takes variables out of the weight decay; to be called before the optimizer is built.

        Args:
            var_list: Variables.
            var_names: Regular expressions searched for in the names of variables: `["bias"]`.

        Raises:
            StateError: If the optimizer is built.
        """
        if self.built:
            raise StateError(
                "`exclude_from_weight_decay()` can only be configured before the optimizer is "
                "built."
            )
        patterns = [*dict.fromkeys(var_names or ())]
        self._excluded = (
            frozenset(id(v) for v in var_list or ()),
            re.compile("|".join(patterns)) if patterns else None,
        )
        self._decays = {}

    def _use_weight_decay(self, variable):
        decays = self._decays.get(id(variable))
        if decays is None:
            listed, pattern = self._excluded
            named = pattern is not None and pattern.search(variable.name) is not None
            decays = self._decays[id(variable)] = id(variable) not in listed and not named
        return decays

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        rate = as_tensor(self.learning_rate)
        for variable in variables:
            if self._use_weight_decay(variable):
                scale = cast_to(rate, numpy_dtype(variable.dtype)) * self.weight_decay
                variable.assign(variable - variable * scale)

    def _update_model_variables_moving_average(self, trainable_variables):
        if not self.use_ema:
            return
        averages = [
            (average, variable)
            for average, variable in zip(
                self._model_variables_moving_average, trainable_variables, strict=True
            )
            if average is not None
        ]

        def move():
            for average, v in averages:
                average.assign(average_update(average.value, v.value, momentum=self.ema_momentum))

        def start():
            for average, variable in averages:
                average.assign(variable.value)

        update_if(ops.not_equal(self.iterations, 0), move, start)

    def _overwrite_model_variables_with_average_value(self, trainable_variables):
        if len(trainable_variables) != len(self._model_variables_moving_average):
            raise ArgumentError(
                "The optimizer keeps averages of other variables than these. "
                + received(
                    variables=len(trainable_variables),
                    averages=len(self._model_variables_moving_average),
                )
            )
        averages = self._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            if average is not None:
                variable.assign(average.value)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Sets the weights to their moving averages at the end of a training, if these are kept."""
        if self.use_ema:
            self._overwrite_model_variables_with_average_value(var_list)


def _scaled(tensors, factor):
    return [t * factor for t in tensors]


def clip_factor(value_list: Sequence[Any], clip_norm: float) -> Tensor:
    """Returns what tensors are multiplied by so that their norm, taken together, is in bounds.

    Args:
        value_list: Tensors; `None` is left out.
        clip_norm: Largest norm.
    """
    norm = global_norm([as_tensor(x) for x in value_list if x is not None])
    return clip_norm / ops.maximum(norm, clip_norm) + (norm - norm)  # an infinite norm gives NaN


def clip_by_global_norm(value_list: Sequence[Any], clip_norm: float) -> list:
    """Returns tensors scaled so that their norm, taken together, is at most `clip_norm`.

    Args:
        value_list: Tensors; `None` is left as it is.
        clip_norm: Largest norm.
    """
    scale = clip_factor(value_list, clip_norm)
    return [
        None if x is None else ops.multiply(x, cast_to(scale, as_tensor(x).dtype))
        for x in value_list
    ]
