"""Adam and its relatives: step sizes from running means of gradients and of their squares."""

from collections.abc import Sequence
from typing import Any

from gpunet import ops
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, received
from gpunet.ops.elementwise import cast_to
from gpunet.optimizers.fused import Fused, FusedOptimizer
from gpunet.optimizers.slots import set_all, step_inputs
from gpunet.saving import serializable


@serializable("keras.optimizers")
class Adam(FusedOptimizer):
    """Step sizes from running means of the gradients and of their squares.

    `m` and `v` are these means, brought to size by `1 - beta**t`; the step is
    `learning_rate * m / (sqrt(v) + epsilon)`. Kingma, Ba, "Adam: a method for stochastic
    optimization", 2014.

    Args:
        learning_rate: Float, schedule, or callable.
        beta_1: How slowly the mean of the gradients moves, 0 to 1.
        beta_2: How slowly the mean of their squares moves, 0 to 1.
        epsilon: Keeps divisions finite.
        amsgrad: Whether to use the largest `v` so far (Reddi et al., 2018).
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

    Example:
        >>> import gpunet
        >>> w = gpunet.Variable([1.0])
        >>> Adam(learning_rate=0.25).apply([gpunet.tensor([8.0])], [w])
        >>> round(w.numpy().item(), 4)
        0.75
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        if self.amsgrad:
            self._velocity_hats = self.add_optimizer_variables(variables, "velocity_hat")

    def _fused(self):
        if self.amsgrad:
            return None
        settings = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return Fused("adam", (self._momentums, self._velocities), settings, counts_steps=True)

    def _general_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        largest = self._velocity_hats[index]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        number = cast_to(self._step_number(), w.dtype)
        size = ops.sqrt(1.0 - ops.power(self.beta_2, number)) / (1.0 - self.beta_1**number)
        new_m = m.value + (g - m.value) * (1 - self.beta_1)
        new_v = v.value + (ops.square(g) - v.value) * (1 - self.beta_2)
        new_largest = ops.maximum(largest.value, new_v)
        new_w = w - new_m * (size * rate) / (ops.sqrt(new_largest) + self.epsilon)
        set_all((variable, m, v, largest), (new_w, new_m, new_v, new_largest))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }


@serializable("keras.optimizers")
class AdamW(Adam):
    """Adam whose weight decay acts on the weights alone: `w -= learning_rate * weight_decay * w`.

    Loshchilov, Hutter, "Decoupled weight decay regularization", 2017.

    Args:
        learning_rate: Float, schedule, or callable.
        weight_decay: How much of each weight is taken away in a step, times the learning rate.
        beta_1: How slowly the mean of the gradients moves, 0 to 1.
        beta_2: How slowly the mean of their squares moves, 0 to 1.
        epsilon: Keeps divisions finite.
        amsgrad: Whether to use the largest mean of squares so far (Reddi et al., 2018).
        clipnorm: This and the others are those of `Optimizer`.
        clipvalue: See `Optimizer`.
        global_clipnorm: See `Optimizer`.
        use_ema: See `Optimizer`.
        ema_momentum: See `Optimizer`.
        ema_overwrite_frequency: See `Optimizer`.
        loss_scale_factor: See `Optimizer`.
        gradient_accumulation_steps: See `Optimizer`.
        name: See `Optimizer`.
        **kwargs: See `Optimizer`.

    Raises:
        ArgumentError: If the weight decay is `None`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
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
        if self.weight_decay is None:
            raise ArgumentError(
                f"Argument `weight_decay` must be a float. {received(weight_decay=weight_decay)}"
            )
