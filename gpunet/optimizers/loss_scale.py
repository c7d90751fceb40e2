"""LossScaleOptimizer: keeps the gradients of float16 from vanishing."""

from collections.abc import Sequence
from typing import Any

from gpunet import initializers, ops
from gpunet.core.state import mode
from gpunet.core.tensor import as_tensor
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, received
from gpunet.ops.update import all_finite
from gpunet.optimizers.conditional import update_if
from gpunet.optimizers.optimizer import Optimizer
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object

_INNER = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


@serializable("keras.optimizers")
class LossScaleOptimizer(Optimizer):
    """Scales the loss as far up as its gradients stay finite, and the gradients down again.

    A step with gradients that are not finite is left out, and halves the scale; it doubles after
    `dynamic_growth_steps` steps that were good. Micikevicius et al., "Mixed precision training",
    2017.

    Args:
        inner_optimizer: The optimizer that makes the steps.
        initial_scale: Scale at the beginning.
        dynamic_growth_steps: Good steps after which the scale doubles.
        name: Name; default one made from the class.
        **kwargs: Arguments of `Optimizer`, with their defaults only: they belong to the inner one.

    Raises:
        ArgumentError: If an argument belongs to the inner optimizer.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ):
        if not kwargs.pop("dynamic", True):
            raise ArgumentError(
                "LossScaleOptimizer no longer supports `dynamic=False`. Instead, set "
                f"`loss_scale_factor` on the `inner_optimizer`. {received(dynamic=False)}"
            )
        for argument, default in _INNER.items():
            value = kwargs.pop(argument, default)
            if value != default:
                raise ArgumentError(
                    f"LossScaleOptimizer does not support `{argument}`. Instead, set `{argument}` "
                    f"on the `inner_optimizer`. {received(**{argument: value})}"
                )
        if kwargs:
            names = "`, `".join(kwargs)
            raise ArgumentError(
                f"LossScaleOptimizer does not support arguments: `{names}`. {received(**kwargs)}"
            )
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps
        self.inner_optimizer.loss_scale_factor = None

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the scale, and the slots of the inner optimizer."""
        if self.built:
            return
        self.step_counter = self.add_variable((), dtype="int32", name="step_counter")
        self.dynamic_scale = self.add_variable(
            (), initializers.Constant(self.initial_scale), dtype="float32", name="dynamic_scale"
        )
        self.inner_optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self) -> list[Variable]:
        """Its own variables, then those of the inner optimizer."""
        return self._variables + self.inner_optimizer.variables

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Makes one step if all gradients are finite, and adjusts the scale.

        Args:
            grads: Gradients of the scaled loss; `None` leaves a variable out.
            trainable_variables: The variables; default those that the optimizer was built for.

        Raises:
            ArgumentError: If a variable is unknown, or there is no gradient at all.
            ShapeError: If a gradient has not the shape of its variable.
            StateError: If the variables are left out before the optimizer is built.
        """
        grads = list(grads)
        if not grads:
            return
        with mode(tape=None, autocast=None):
            self._checked(list(grads), trainable_variables)
            update_if(
                self.check_finite(grads),
                lambda: self._good_step(grads, trainable_variables),
                self._bad_step,
            )

    def _good_step(self, grads, variables):
        scale = self.dynamic_scale.value
        targets = self._trainable_variables if variables is None else variables
        unscaled = [
            g if g is None or self._overwrite_variable_with_gradient(v) else g / scale
            for g, v in zip(grads, targets, strict=True)
        ]
        self.inner_optimizer.apply(unscaled, variables)

        def grow():
            self.step_counter.assign(0)
            self.dynamic_scale.assign(scale * 2.0)

        update_if(
            ops.equal(self.step_counter, self.dynamic_growth_steps - 1),
            grow,
            lambda: self.step_counter.assign_add(1),
        )

    def _bad_step(self):
        self.step_counter.assign(0)
        self.dynamic_scale.assign(self.dynamic_scale.value * 0.5)

    def check_finite(self, grads: Sequence[Any]) -> Any:
        """Returns whether all gradients are finite, as a boolean scalar tensor."""
        return all_finite(*[as_tensor(g) for g in grads if g is not None])

    @property
    def learning_rate(self) -> Any:
        """That of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """That of the inner optimizer: steps left out do not count."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        """Returns the loss times the current scale."""
        return loss * (self.dynamic_scale if self.built else self.initial_scale)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Lets the inner optimizer set the weights to their averages, if it keeps these."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "name": self.name,
            "inner_optimizer": serialize_keras_object(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "LossScaleOptimizer":
        """Makes an optimizer from what `get_config` returned."""
        inner = deserialize_keras_object(config["inner_optimizer"], custom_objects)
        return cls(**{**config, "inner_optimizer": inner})
