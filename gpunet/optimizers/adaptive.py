"""RMSprop, Adagrad and Adadelta: step sizes from the squares of past gradients."""

from collections.abc import Sequence
from typing import Any

from gpunet import initializers, ops
from gpunet.core.variable import Variable
from gpunet.optimizers.fused import Fused, FusedOptimizer
from gpunet.optimizers.optimizer import Optimizer
from gpunet.optimizers.slots import set_all, step_inputs
from gpunet.saving import serializable


@serializable("keras.optimizers")
class RMSprop(FusedOptimizer):
    """Gradients divided by the root of a running mean of their squares.

    `v = rho * v + (1 - rho) * g**2`, and `w -= learning_rate * g / sqrt(v + epsilon)`. Tieleman,
    Hinton, 2012.

    Args:
        learning_rate: Float, schedule, or callable.
        rho: How slowly the mean moves, 0 to 1.
        momentum: How much of the last step is taken again.
        epsilon: Keeps divisions finite.
        centered: Whether to divide by the variance rather than the mean square.
        weight_decay: This and the others are those of `Optimizer`.
        clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        use_ema: See `Optimizer`.
        ema_momentum: See `Optimizer`.
        ema_overwrite_frequency: See `Optimizer`.
        loss_scale_factor: See `Optimizer`.
        gradient_accumulation_steps: See `Optimizer`.
        name: See `Optimizer`.
        **kwargs: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
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
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        self._momentums = []
        if self.momentum > 0:
            self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._average_gradients = []
        if self.centered:
            self._average_gradients = self.add_optimizer_variables(variables, "average_gradient")

    def _fused(self):
        if self.momentum > 0 or self.centered:
            return None
        settings = {"rho": self.rho, "epsilon": self.epsilon}
        return Fused("rmsprop", (self._velocities,), settings)

    def _general_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        v = self._velocities[index]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        changed, values = [v], [v.value * self.rho + ops.square(g) * (1 - self.rho)]
        spread = values[0]
        if self.centered:
            mean = self._average_gradients[index]
            new_mean = mean.value * self.rho + g * (1 - self.rho)
            spread = spread - ops.square(new_mean)
            changed, values = [*changed, mean], [*values, new_mean]
        step = g * rate / ops.sqrt(spread + self.epsilon)
        if self.momentum > 0:
            m = self._momentums[index]
            step = m.value * self.momentum + step
            changed, values = [*changed, m], [*values, step]
        set_all((variable, *changed), (w - step, *values))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }


@serializable("keras.optimizers")
class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far.

    Duchi, Hazan, Singer, "Adaptive subgradient methods", 2011.

    Args:
        learning_rate: Float, schedule, or callable.
        initial_accumulator_value: Where the sums begin, at least 0.
        epsilon: Keeps divisions finite.
        weight_decay: This and the others are those of `Optimizer`.
        clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        use_ema: See `Optimizer`.
        ema_momentum: See `Optimizer`.
        ema_overwrite_frequency: See `Optimizer`.
        loss_scale_factor: See `Optimizer`.
        gradient_accumulation_steps: See `Optimizer`.
        name: See `Optimizer`.
        **kwargs: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
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
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        start = initializers.Constant(self.initial_accumulator_value)
        self._accumulators = self.add_optimizer_variables(variables, "accumulator", start)

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots."""
        total = self._accumulators[self._get_variable_index(variable)]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        new = total.value + ops.square(g)
        set_all((variable, total), (w - g * rate / ops.sqrt(new + self.epsilon), new))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


@serializable("keras.optimizers")
class Adadelta(Optimizer):
    """Steps whose size follows the size of the steps before.

    `step = sqrt(mean step**2) / sqrt(mean g**2) * g`. Zeiler, "ADADELTA: an adaptive learning rate
    method", 2012.

    Args:
        learning_rate: Float, schedule, or callable.
        rho: How slowly the means move, 0 to 1.
        epsilon: Keeps divisions finite.
        weight_decay: This and the others are those of `Optimizer`.
        clipnorm: See `Optimizer`.
        clipvalue: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        use_ema: See `Optimizer`.
        ema_momentum: See `Optimizer`.
        ema_overwrite_frequency: See `Optimizer`.
        loss_scale_factor: See `Optimizer`.
        gradient_accumulation_steps: See `Optimizer`.
        name: See `Optimizer`.
        **kwargs: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
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
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.rho = rho
        self.epsilon = epsilon

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._accumulated_grads, self._accumulated_delta_vars = self.add_optimizer_variables(
            variables, ["accumulated_grad", "accumulated_delta_var"]
        )

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots."""
        index = self._get_variable_index(variable)
        squares, steps = self._accumulated_grads[index], self._accumulated_delta_vars[index]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        new_squares = squares.value * self.rho + ops.square(g) * (1 - self.rho)
        step = g * ops.sqrt(steps.value + self.epsilon) / ops.sqrt(new_squares + self.epsilon)
        new_steps = steps.value * self.rho + ops.square(step) * (1 - self.rho)
        set_all((variable, squares, steps), (w - step * rate, new_squares, new_steps))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "epsilon": self.epsilon,
        }
