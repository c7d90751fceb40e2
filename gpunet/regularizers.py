"""Penalties on weights and outputs that are added to the loss."""

import math
from typing import Any

from gpunet import ops
from gpunet.core.tensor import as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.saving import serializable, serialize_keras_object
from gpunet.saving.lookup import Names


@serializable("keras.regularizers")
class Regularizer:
    """Base class: an object that is called with a weight and returns a scalar penalty."""

    def __call__(self, x: Any) -> Any:
        """Returns the penalty of a tensor; 0 here."""
        return 0.0

    @classmethod
    def from_config(cls, config: dict) -> "Regularizer":
        """Makes a regularizer from what `get_config` returned."""
        return cls(**config)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement get_config()")


@serializable("keras.regularizers")
class L1L2(Regularizer):
    """Penalty `l1 * sum(|x|) + l2 * sum(x**2)`.

    Args:
        l1: Weight of the absolute values, at least 0.
        l2: Weight of the squares, at least 0.

    Raises:
        ArgumentError: If a weight is negative or not finite.

    Example:
        >>> import gpunet
        >>> L1L2(l1=1.0, l2=0.5)(gpunet.tensor([1.0, -2.0])).item()
        5.5
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = validate_float_arg(0.0 if l1 is None else l1, name="l1")
        self.l2 = validate_float_arg(0.0 if l2 is None else l2, name="l2")

    def __call__(self, x: Any) -> Any:
        """Returns the penalty."""
        x = as_tensor(x)
        penalty = None
        if self.l1 != 0.0:
            penalty = ops.sum(ops.absolute(x)) * self.l1
        if self.l2 != 0.0:
            squares = ops.sum(ops.square(x)) * self.l2
            penalty = squares if penalty is None else penalty + squares
        return ops.zeros((), dtype=x.dtype) if penalty is None else penalty

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"l1": self.l1, "l2": self.l2}


@serializable("keras.regularizers")
class L1(Regularizer):
    """Penalty `l1 * sum(|x|)`, also known as lasso.

    Args:
        l1: Weight, at least 0.

    Raises:
        ArgumentError: If the weight is negative or not finite.
    """

    def __init__(self, l1: float = 0.01):
        self.l1 = validate_float_arg(0.01 if l1 is None else l1, name="l1")

    def __call__(self, x: Any) -> Any:
        """Returns the penalty."""
        return ops.sum(ops.absolute(x)) * self.l1

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"l1": self.l1}


@serializable("keras.regularizers")
class L2(Regularizer):
    """Penalty `l2 * sum(x**2)`, also known as ridge.

    Args:
        l2: Weight, at least 0.

    Raises:
        ArgumentError: If the weight is negative or not finite.
    """

    def __init__(self, l2: float = 0.01):
        self.l2 = validate_float_arg(0.01 if l2 is None else l2, name="l2")

    def __call__(self, x: Any) -> Any:
        """Returns the penalty."""
        return ops.sum(ops.square(x)) * self.l2

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"l2": self.l2}


@serializable("keras.regularizers")
class OrthogonalRegularizer(Regularizer):
    """Penalty on the angles between the rows (or columns) of a matrix that are not right angles.

    `factor` times the mean of `|cos(angle)|` over all pairs.

    Args:
        factor: Weight, at least 0.
        mode: `"rows"` or `"columns"`.

    Raises:
        ArgumentError: If the factor is negative or not finite, or the mode unknown.
        ShapeError: When called with anything but a matrix.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor = validate_float_arg(factor, name="factor")
        if mode not in ("rows", "columns"):
            raise ArgumentError(
                'Invalid value for argument `mode`. Expected one of "rows", "columns". '
                + received(mode=mode)
            )
        self.mode = mode

    def __call__(self, inputs: Any) -> Any:
        """Returns the penalty."""
        x = as_tensor(inputs)
        if x.ndim != 2:
            raise ShapeError(
                f"Inputs to OrthogonalRegularizer must have rank 2. {received(shape=x.shape)}"
            )
        if self.mode == "columns":
            x = ops.transpose(x)
        size = x.shape[0]
        x = ops.normalize(x, axis=1)
        cosines = ops.matmul(x, ops.transpose(x)) * (1.0 - ops.eye(size, dtype=x.dtype))
        pairs = size * (size - 1.0) / 2.0
        return ops.sum(ops.absolute(cosines)) * (self.factor * 0.5) / pairs

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"factor": self.factor, "mode": self.mode}


def validate_float_arg(value: Any, name: str) -> float:
    """Returns a checked weight of a penalty.

    Raises:
        ArgumentError: If it is negative, not finite, or not a number.
    """
    if not isinstance(value, (float, int)) or not math.isfinite(value) or value < 0:
        raise ArgumentError(
            f"Invalid value for argument {name}: expected a non-negative float. "
            + received(**{name: value})
        )
    return float(value)


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer
_NAMES = Names(
    "regularizer", "keras.regularizers", [Regularizer, L1, L2, L1L2, OrthogonalRegularizer]
)
_NAMES.objects.update(l1_l2=L1L2)


def serialize(regularizer: Any) -> Any:
    """Returns the config of a regularizer."""
    return serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the regularizer of a config.

    Raises:
        ArgumentError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the regularizer that a name, config, class, callable or `None` stands for.

    Raises:
        ArgumentError: If the identifier means no regularizer.

    Example:
        >>> get("l2").get_config()
        {'l2': 0.01}
    """
    return None if identifier is None else _NAMES.get(identifier)
