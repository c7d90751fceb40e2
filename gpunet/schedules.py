"""Learning rates that change with the step; `gpunet.optimizers.schedules`.

A schedule is called with the number of the step (a tensor or number) and returns a float tensor. It
computes with ops only, so inside of a traced step it is part of the graph.
"""

import math
from collections.abc import Sequence
from typing import Any

from gpunet import ops
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, received
from gpunet.saving import serializable, serialize_keras_object
from gpunet.saving.lookup import Names

_HOME = "keras.optimizers.schedules"


@serializable(_HOME)
class LearningRateSchedule:
    """Base class: subclasses define `__call__(step)` and `get_config()`.

    Example:
        >>> import gpunet
        >>> class Half(LearningRateSchedule):
        ...     def __call__(self, step):
        ...         return 0.5 ** gpunet.ops.cast(step, "float32")
        >>> Half()(2).item()
        0.25
    """

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `__call__(self, step)`."
        )

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `get_config()` in order "
            "to be serializable."
        )

    @classmethod
    def from_config(cls, config: dict) -> "LearningRateSchedule":
        """Makes a schedule from what `get_config` returned."""
        return cls(**config)


def _positive(**steps):
    for name, value in steps.items():
        if value <= 0:
            raise ArgumentError(f"Argument `{name}` must be > 0. {received(**{name: value})}")


def _start(learning_rate, step):
    """Returns the initial rate as a tensor and the step in its dtype."""
    rate = as_tensor(learning_rate)
    return rate, ops.cast(step, rate.dtype)


@serializable(_HOME)
class ExponentialDecay(LearningRateSchedule):
    """Rate `initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
        initial_learning_rate: Rate at step 0.
        decay_steps: Steps in which the rate changes by the factor `decay_rate`; above 0.
        decay_rate: The factor.
        staircase: Whether the exponent is rounded down, so that the rate falls in stairs.
        name: Accepted for Keras.

    Raises:
        ArgumentError: If `decay_steps` is not above 0.

    Example:
        >>> ExponentialDecay(1.0, decay_steps=10, decay_rate=0.25)(5).item()
        0.5
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate of a step."""
        rate, step = _start(self.initial_learning_rate, step)
        exponent = step / float(self.decay_steps)
        if self.staircase:
            exponent = ops.floor(exponent)
        return rate * ops.power(float(self.decay_rate), exponent)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


@serializable(_HOME)
class PiecewiseConstantDecay(LearningRateSchedule):
    """Rate `values[0]` up to and with step `boundaries[0]`, then `values[1]`, and so on.

    Args:
        boundaries: Increasing steps after which the rate changes.
        values: Rates, one more than boundaries.
        name: Accepted for Keras.

    Raises:
        ArgumentError: If the lengths do not go together.

    Example:
        >>> schedule = PiecewiseConstantDecay([100, 200], [1.0, 0.5, 0.125])
        >>> [schedule(step).item() for step in (100, 101, 201)]
        [1.0, 0.5, 0.125]
    """

    def __init__(
        self, boundaries: Sequence[int], values: Sequence[float], name: str = "PiecewiseConstant"
    ):
        if len(boundaries) != len(values) - 1:
            raise ArgumentError(
                "The length of boundaries should be 1 less than the length of values. "
                + received(boundaries=boundaries, values=values)
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate of a step."""
        step = as_tensor(step)
        rate = as_tensor(self.values[0])
        for boundary, value in zip(self.boundaries, self.values[1:], strict=True):
            if step.dtype.kind in "iu":
                boundary = math.floor(boundary)
            rate = ops.where(step > boundary, value, rate)
        return rate

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


@serializable(_HOME)
class PolynomialDecay(LearningRateSchedule):
    """Rate from initial to end: `(initial - end) * (1 - step / decay_steps) ** power + end`.

    Args:
        initial_learning_rate: Rate at step 0.
        decay_steps: Steps until the end; above 0.
        end_learning_rate: Rate at the end and after it.
        power: Exponent; 1 falls linearly.
        cycle: Whether the decay starts again with a longer period when it has ended.
        name: Accepted for Keras.

    Raises:
        ArgumentError: If `decay_steps` is not above 0.

    Example:
        >>> PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.5)(2).item()
        0.75
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate of a step."""
        rate, step = _start(self.initial_learning_rate, step)
        period = as_tensor(float(self.decay_steps), rate.dtype)
        if self.cycle:
            rounds = ops.ceil(step / period)
            period = period * ops.where(step > 0, rounds, ops.ones_like(rounds))
        else:
            step = ops.minimum(step, period)
        left = ops.power(1.0 - step / period, float(self.power))
        return (rate - self.end_learning_rate) * left + self.end_learning_rate

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


@serializable(_HOME)
class InverseTimeDecay(LearningRateSchedule):
    """Rate `initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
        initial_learning_rate: Rate at step 0.
        decay_steps: How often the decay is applied; above 0.
        decay_rate: How strong it is.
        staircase: Whether `step / decay_steps` is rounded down.
        name: Accepted for Keras.

    Raises:
        ArgumentError: If `decay_steps` is not above 0.

    Example:
        >>> InverseTimeDecay(1.0, decay_steps=1, decay_rate=0.5)(2).item()
        0.5
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate of a step."""
        rate, step = _start(self.initial_learning_rate, step)
        times = step / float(self.decay_steps)
        if self.staircase:
            times = ops.floor(times)
        return rate / (times * float(self.decay_rate) + 1.0)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


def _half_wave(fraction):
    """From 1 at 0 to 0 at 1, along a cosine."""
    return (ops.cos(fraction * math.pi) + 1.0) * 0.5


@serializable(_HOME)
class CosineDecay(LearningRateSchedule):
    """Rate along half a cosine, after a linear warmup if one is asked for.

    Without warmup `initial * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)`. With
    one, the rate first goes from `initial_learning_rate` to `warmup_target`, and decays from there.
    Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2016.

    Args:
        initial_learning_rate: Rate at step 0.
        decay_steps: Steps of the decay, without the warmup; above 0.
        alpha: Rate at the end, as a fraction of the rate the decay starts from.
        name: Accepted for Keras.
        warmup_target: Rate at the end of the warmup; `None` for no warmup.
        warmup_steps: Steps of the warmup.

    Raises:
        ArgumentError: If `decay_steps` is not above 0.

    Example:
        >>> CosineDecay(1.0, decay_steps=10, alpha=0.25)(10).item()
        0.25
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_steps = warmup_steps
        self.warmup_target = warmup_target

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate of a step."""
        rate, step = _start(self.initial_learning_rate, step)
        if self.warmup_target is None:
            return rate * self._decay(ops.minimum(step, float(self.decay_steps)))
        target, warmup = float(self.warmup_target), float(self.warmup_steps)
        step = ops.minimum(step, warmup + self.decay_steps)
        decayed = self._decay(ops.maximum(step - warmup, 0.0)) * target
        if not warmup:
            return decayed
        rising = (target - rate) * (step / warmup) + rate
        return ops.where(step < warmup, rising, decayed)

    def _decay(self, step):
        return _half_wave(step / float(self.decay_steps)) * (1 - self.alpha) + self.alpha

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


@serializable(_HOME)
class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay that starts again, each time `t_mul` longer and `m_mul` times as high.

    Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2016.

    Args:
        initial_learning_rate: Rate at step 0.
        first_decay_steps: Steps of the first period; above 0.
        t_mul: How much longer each period is than the one before; at least 1.
        m_mul: How much higher each period starts.
        alpha: Lowest rate, as a fraction of the initial one.
        name: Accepted for Keras.

    Raises:
        ArgumentError: If `first_decay_steps` is not above 0.

    Example:
        >>> CosineDecayRestarts(1.0, first_decay_steps=10)(10).item()
        1.0
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        _positive(first_decay_steps=first_decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self._t_mul = t_mul
        self._m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate of a step."""
        rate, step = _start(self.initial_learning_rate, step)
        fraction = step / float(self.first_decay_steps)
        if self._t_mul == 1.0:
            period = ops.floor(fraction)
            fraction = fraction - period
        else:  # the lengths are a geometric series: 1, t, t**2, ...
            longer = as_tensor(float(self._t_mul), numpy_dtype(rate.dtype))
            period = ops.floor(ops.log(fraction * (longer - 1.0) + 1.0) / ops.log(longer))
            length = ops.power(longer, period)
            fraction = (fraction - (length - 1.0) / (longer - 1.0)) / length
        height = ops.power(float(self._m_mul), period)
        return rate * (_half_wave(fraction) * height * (1.0 - self.alpha) + self.alpha)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


_NAMES = Names(
    "learning rate schedule",
    _HOME,
    [
        LearningRateSchedule,
        ExponentialDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        InverseTimeDecay,
        CosineDecay,
        CosineDecayRestarts,
    ],
)


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    """Returns the config of a schedule."""
    return serialize_keras_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the schedule of a config.

    Raises:
        SavingError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)
