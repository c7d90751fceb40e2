"""Gradient descent, with momentum if asked for."""

from collections.abc import Sequence
from typing import Any

from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, received
from gpunet.optimizers.fused import Fused, FusedOptimizer
from gpunet.saving import serializable


@serializable("keras.optimizers")
class SGD(FusedOptimizer):
    """Gradient descent: `w -= learning_rate * g`.

    With momentum `m = momentum * m - learning_rate * g`, and `w += m`, or, in Nesterov's form,
    `w += momentum * m - learning_rate * g`. Sutskever et al., 2013.

    Args:
        learning_rate: Float, schedule, or callable.
        momentum: How much of the last step is taken again, 0 to 1.
        nesterov: Whether to look ahead, as Nesterov does.
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
        ArgumentError: If the momentum is out of range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
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
        if not isinstance(momentum, (float, int)) or not 0 <= momentum <= 1:
            raise ArgumentError(
                f"`momentum` must be a float between [0, 1]. {received(momentum=momentum)}"
            )
        self.momentum = momentum
        self.nesterov = nesterov

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots for a list of trainable variables."""
        if self.built:
            return
        super().build(variables)
        self.momentums = []
        if self.momentum != 0:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def _fused(self):
        if not self.momentum:
            return Fused("sgd", (), {})
        settings = {"momentum": float(self.momentum), "nesterov": bool(self.nesterov)}
        return Fused("momentum", (self.momentums,), settings)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
        }
