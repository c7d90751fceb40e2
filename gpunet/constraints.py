"""Limits that weights are brought back into after every optimizer step."""

from typing import Any

from gpunet import config as settings
from gpunet import ops
from gpunet.core.tensor import as_tensor
from gpunet.saving import serializable, serialize_keras_object
from gpunet.saving.lookup import Names


@serializable("keras.constraints")
class Constraint:
    """Base class: an object that is called with a weight and returns the weight to use."""

    def __call__(self, w: Any) -> Any:
        """Returns the constrained weight; `w` itself here."""
        return w

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Constraint":
        """Makes a constraint from what `get_config` returned."""
        return cls(**config)


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


@serializable("keras.constraints")
class MaxNorm(Constraint):
    """Scales weights down so that their norms along an axis are at most `max_value`.

    Args:
        max_value: Largest norm.
        axis: Axis or axes of the norm: 0 for Dense kernels, `[0, 1, 2]` for Conv2D kernels.

    Example:
        >>> import gpunet
        >>> MaxNorm(1.0)(gpunet.tensor([[3.0], [4.0]])).numpy().round(4).tolist()
        [[0.6000000238418579], [0.800000011920929]]
    """

    def __init__(self, max_value: float = 2, axis: Any = 0):
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """Returns the constrained weight."""
        w = as_tensor(w)
        norms = _norms(w, self.axis)
        return w * (ops.clip(norms, 0, self.max_value) / (norms + settings.epsilon()))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"max_value": self.max_value, "axis": self.axis}


@serializable("keras.constraints")
class NonNeg(Constraint):
    """Sets negative weights to 0."""

    def __call__(self, w: Any) -> Any:
        """Returns the constrained weight."""
        return ops.maximum(w, 0)


@serializable("keras.constraints")
class UnitNorm(Constraint):
    """Scales weights so that their norms along an axis are 1.

    Args:
        axis: Axis or axes of the norm.
    """

    def __init__(self, axis: Any = 0):
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """Returns the constrained weight."""
        w = as_tensor(w)
        return w / (_norms(w, self.axis) + settings.epsilon())

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"axis": self.axis}


@serializable("keras.constraints")
class MinMaxNorm(Constraint):
    """Brings the norms of weights along an axis towards a range.

    The norm becomes `rate * clip(norm, min_value, max_value) + (1 - rate) * norm`.

    Args:
        min_value: Smallest norm.
        max_value: Largest norm.
        rate: How much of the way is gone in one step, 0 to 1.
        axis: Axis or axes of the norm.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ):
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """Returns the constrained weight."""
        w = as_tensor(w)
        norms = _norms(w, self.axis)
        wanted = ops.clip(norms, self.min_value, self.max_value) * self.rate
        wanted = wanted + norms * (1 - self.rate)
        return w * (wanted / (norms + settings.epsilon()))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm
_NAMES = Names(
    "constraint", "keras.constraints", [Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm]
)


def serialize(constraint: Any) -> Any:
    """Returns the config of a constraint."""
    return serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the constraint of a config.

    Raises:
        ArgumentError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the constraint that a name, config, class, callable or `None` stands for.

    Raises:
        ArgumentError: If the identifier means no constraint.

    Example:
        >>> type(get("non_neg")).__name__
        'NonNeg'
    """
    return None if identifier is None else _NAMES.get(identifier)
