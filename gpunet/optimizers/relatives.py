"""Adamax, Nadam, Lion and Lamb: relatives of Adam."""

from collections.abc import Sequence
from typing import Any

from gpunet import ops
from gpunet.config import floatx
from gpunet.core.naming import name_scope
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, received
from gpunet.ops.elementwise import cast_to
from gpunet.optimizers.fused import Fused, FusedOptimizer
from gpunet.optimizers.optimizer import Optimizer
from gpunet.optimizers.slots import set_all, step_inputs
from gpunet.saving import serializable


@serializable("keras.optimizers")
class Adamax(Optimizer):
    """Adam with the largest instead of the mean square gradient.

    `w -= learning_rate / (1 - beta_1**t) * m / (u + epsilon)` with `u = max(beta_2 * u, |g|)`.
    Kingma, Ba, 2014, section 7.

    Args:
        learning_rate: Float, schedule, or callable.
        beta_1: How slowly the mean of the gradients moves, 0 to 1.
        beta_2: How slowly the largest gradient is forgotten, 0 to 1.
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
        beta_1: float = 0.9,
        beta_2: float = 0.999,
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
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._m, self._u = self.add_optimizer_variables(variables, ["momentum", "norm"])

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots."""
        index = self._get_variable_index(variable)
        m, u = self._m[index], self._u[index]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        power = ops.power(self.beta_1, cast_to(self._step_number(), w.dtype))
        new_m = m.value + (g - m.value) * (1 - self.beta_1)
        new_u = ops.maximum(u.value * self.beta_2, ops.absolute(g))
        new_w = w - new_m * rate / ((new_u + self.epsilon) * (1 - power))
        set_all((variable, m, u), (new_w, new_m, new_u))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@serializable("keras.optimizers")
class Nadam(Optimizer):
    """Adam with Nesterov momentum.

    Dozat, "Incorporating Nesterov momentum into Adam", 2015.

    Args:
        learning_rate: Float, schedule, or callable.
        beta_1: How slowly the mean of the gradients moves, 0 to 1.
        beta_2: How slowly the mean of their squares moves, 0 to 1.
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
        beta_1: float = 0.9,
        beta_2: float = 0.999,
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
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        dtype = self._trainable_variables[0].dtype if self._trainable_variables else floatx()
        with name_scope(self.name):
            self._u_product = Variable(1.0, dtype=dtype, trainable=False)

    def _momentum_at(self, number):
        """The schedule of the momentum: from `beta_1 / 2` towards `beta_1`."""
        return (1.0 - ops.power(0.96, number) * 0.5) * self.beta_1

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        product = self._u_product.value
        number = cast_to(self._step_number(), product.dtype)
        self._u_product.assign(product * self._momentum_at(number))
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots."""
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        number = cast_to(self._step_number(), w.dtype)
        now, following = self._momentum_at(number), self._momentum_at(number + 1.0)
        product = cast_to(self._u_product.value, w.dtype)
        new_m = m.value + (g - m.value) * (1 - self.beta_1)
        new_v = v.value + (ops.square(g) - v.value) * (1 - self.beta_2)
        ahead = new_m * following / (1.0 - product * following) + g * (1.0 - now) / (1.0 - product)
        size = ops.sqrt(new_v / (1.0 - ops.power(self.beta_2, number))) + self.epsilon
        set_all((variable, m, v), (w - ahead * rate / size, new_m, new_v))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@serializable("keras.optimizers")
class Lion(FusedOptimizer):
    """Steps of one size in the direction of the sign of a mean of the gradients.

    Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Args:
        learning_rate: Float, schedule, or callable.
        beta_1: Share of the momentum in the direction of the step, above 0 to 1.
        beta_2: How slowly the momentum moves, 0 to 1.
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

    Raises:
        ArgumentError: If `beta_1` is out of range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
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
        if beta_1 <= 0 or beta_1 > 1:
            raise ArgumentError(
                "Argument `beta_1` must be in the [0, 1] range. Otherwise, the optimizer "
                f"degenerates to SignSGD. {received(beta_1=beta_1)}"
            )
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def _fused(self):
        settings = {"beta_1": float(self.beta_1), "beta_2": float(self.beta_2)}
        return Fused("lion", (self._momentums,), settings)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
        }


@serializable("keras.optimizers")
class Lamb(Optimizer):
    """Adam whose steps are in proportion to the norms of the weights, for large batches.

    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2019.

    Args:
        learning_rate: Float, schedule, or callable.
        beta_1: How slowly the mean of the gradients moves, 0 to 1.
        beta_2: How slowly the mean of their squares moves, 0 to 1.
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
        beta_1: float = 0.9,
        beta_2: float = 0.999,
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
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots."""
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        w, g, rate = step_inputs(variable, gradient, learning_rate)
        number = cast_to(self._step_number(), w.dtype)
        new_m = m.value + (g - m.value) * (1 - self.beta_1)
        new_v = v.value + (ops.square(g) - v.value) * (1 - self.beta_2)
        size = ops.sqrt(new_v / (1.0 - ops.power(self.beta_2, number))) + self.epsilon
        step = new_m / (1.0 - ops.power(self.beta_1, number)) / size
        of_w, of_step = (ops.sqrt(ops.sum(ops.square(x))) for x in (w, step))
        usable = ops.logical_and(of_w > 0, of_step > 0)
        ratio = ops.where(usable, of_w / ops.where(usable, of_step, 1.0), 1.0)
        set_all((variable, m, v), (w - step * (ratio * rate), new_m, new_v))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
