"""Activation functions, and the names that layers know them by."""

import inspect
import types
from typing import Any

from gpunet import ops
from gpunet.saving import get_registered_name, serializable, serialize_keras_object
from gpunet.saving.lookup import Names

_HOME = "keras.activations"


@serializable(_HOME)
def relu(x: Any, negative_slope: float = 0.0, max_value: Any = None, threshold: float = 0.0) -> Any:
    """Returns `max(x, 0)`, or a variant of it.

    `max_value` where that is less than `x`; else `x` where it is above `threshold`; else
    `negative_slope * (x - threshold)`.

    Args:
        x: Tensor.
        negative_slope: Slope below the threshold.
        max_value: Largest result; `None` for no limit.
        threshold: Where the result begins to be `x`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:
        >>> import gpunet
        >>> relu(gpunet.tensor([-2.0, 0.5, 8.0]), max_value=6.0).tolist()
        [0.0, 0.5, 6.0]
    """
    if negative_slope == 0.0 and threshold == 0:
        if max_value is None:
            return ops.relu(x)
        return ops.relu6(x) if max_value == 6 else ops.clip(x, 0.0, max_value)
    if threshold == 0 and max_value is None:
        return ops.leaky_relu(x, negative_slope=negative_slope)
    above = ops.where(ops.greater(x, threshold), x, 0)
    if max_value is not None:
        above = ops.clip(above, 0.0, max_value)
    if negative_slope == 0.0:
        return above
    return above - ops.relu(threshold - x) * negative_slope


@serializable(_HOME)
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """Returns `x` where it is positive, else `negative_slope * x`."""
    return ops.leaky_relu(x, negative_slope=negative_slope)


@serializable(_HOME)
def relu6(x: Any) -> Any:
    """Returns `min(max(x, 0), 6)`."""
    return ops.relu6(x)


@serializable(_HOME)
def softmax(x: Any, axis: Any = -1) -> Any:
    """Returns `exp(x) / sum(exp(x))` along an axis: positive numbers whose sum is 1."""
    return ops.softmax(x, axis=axis)


@serializable(_HOME)
def log_softmax(x: Any, axis: Any = -1) -> Any:
    """Returns the logarithm of the softmax, computed without loss."""
    return ops.log_softmax(x, axis=axis)


@serializable(_HOME)
def elu(x: Any, alpha: float = 1.0) -> Any:
    """Returns `x` where it is positive, else `alpha * (exp(x) - 1)` (Clevert et al., 2016)."""
    return ops.elu(x, alpha=alpha)


@serializable(_HOME)
def selu(x: Any) -> Any:
    """Returns a scaled ELU that keeps mean 0 and variance 1 (Klambauer et al., 2017)."""
    return ops.selu(x)


@serializable(_HOME)
def celu(x: Any, alpha: float = 1.0) -> Any:
    """Returns `max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)` (Barron, 2017)."""
    return ops.celu(x, alpha=alpha)


@serializable(_HOME)
def softplus(x: Any) -> Any:
    """Returns `log(exp(x) + 1)`, a smooth ReLU."""
    return ops.softplus(x)


@serializable(_HOME)
def softsign(x: Any) -> Any:
    """Returns `x / (|x| + 1)`."""
    return ops.softsign(x)


@serializable(_HOME)
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """Returns `x` moved towards 0 by the threshold, and 0 within it."""
    return ops.soft_shrink(x, threshold=threshold)


@serializable(_HOME)
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """Returns `x` where `|x|` is above the threshold, else 0."""
    return ops.hard_shrink(x, threshold=threshold)


@serializable(_HOME)
def sparse_plus(x: Any) -> Any:
    """Returns 0 for `x <= -1`, `(x + 1)**2 / 4` up to 1, then `x`."""
    return ops.sparse_plus(x)


@serializable(_HOME)
def squareplus(x: Any, b: float = 4) -> Any:
    """Returns `(x + sqrt(x**2 + b)) / 2` (Barron, 2021)."""
    return ops.squareplus(x, b=b)


@serializable(_HOME)
def silu(x: Any) -> Any:
    """Returns `x * sigmoid(x)`, also known as swish (Ramachandran et al., 2017)."""
    return ops.silu(x)


@serializable(_HOME)
def gelu(x: Any, approximate: bool = False) -> Any:
    """Returns `x` times the normal distribution's probability of less (Hendrycks, Gimpel, 2016).

    Args:
        x: Tensor.
        approximate: Whether to use the formula with `tanh`.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    return ops.gelu(x, approximate=approximate)


@serializable(_HOME)
def glu(x: Any, axis: int = -1) -> Any:
    """Returns the first half times the sigmoid of the second (Dauphin et al., 2017)."""
    return ops.glu(x, axis=axis)


@serializable(_HOME)
def tanh(x: Any) -> Any:
    """Returns the hyperbolic tangent."""
    return ops.tanh(x)


@serializable(_HOME)
def tanh_shrink(x: Any) -> Any:
    """Returns `x - tanh(x)`."""
    return ops.tanh_shrink(x)


@serializable(_HOME)
def hard_tanh(x: Any) -> Any:
    """Returns `x` limited to [-1, 1]."""
    return ops.hard_tanh(x)


@serializable(_HOME)
def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """Returns `x` where it is above the threshold, else a default value."""
    return ops.threshold(x, threshold, default_value)


@serializable(_HOME)
def sigmoid(x: Any) -> Any:
    """Returns `1 / (1 + exp(-x))`."""
    return ops.sigmoid(x)


@serializable(_HOME)
def log_sigmoid(x: Any) -> Any:
    """Returns `log(1 / (1 + exp(-x)))`, computed without loss."""
    return ops.log_sigmoid(x)


@serializable(_HOME)
def hard_sigmoid(x: Any) -> Any:
    """Returns `x / 6 + 1/2` limited to [0, 1]."""
    return ops.hard_sigmoid(x)


@serializable(_HOME)
def sparse_sigmoid(x: Any) -> Any:
    """Returns `(x + 1) / 2` limited to [0, 1]."""
    return ops.sparse_sigmoid(x)


@serializable(_HOME)
def hard_silu(x: Any) -> Any:
    """Returns `x * hard_sigmoid(x)` (Howard et al., 2019)."""
    return ops.hard_silu(x)


@serializable(_HOME)
def exponential(x: Any) -> Any:
    """Returns e to the power of each element."""
    return ops.exp(x)


@serializable(_HOME)
def mish(x: Any) -> Any:
    """Returns `x * tanh(softplus(x))` (Misra, 2019)."""
    return x * ops.tanh(ops.softplus(x))


@serializable(_HOME)
def sparsemax(x: Any, axis: int = -1) -> Any:
    """Returns the nearest point of the probability simplex (Martins, Astudillo, 2016)."""
    return ops.sparsemax(x, axis=axis)


@serializable(_HOME)
def linear(x: Any) -> Any:
    """Returns `x` as it is."""
    return x


swish, hard_swish = silu, hard_silu
_ALL = [f for f in list(globals().values()) if inspect.isfunction(f) and f.__module__ == __name__]
_NAMES = Names("activation function", _HOME, _ALL, {"swish": silu, "hard_swish": hard_silu})


def serialize(activation: Any) -> Any:
    """Returns the name of a built-in activation, or the config of any other.

    Raises:
        SavingError: If it is neither registered nor has a config.

    Example:
        >>> serialize(relu)
        'relu'
    """
    if activation in _ALL:
        return activation.__name__
    config = serialize_keras_object(activation)
    if isinstance(activation, types.FunctionType):
        return {**config, "config": get_registered_name(activation)}
    return config


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the activation of a name or config.

    Raises:
        ArgumentError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the activation that a name, config, callable or `None` (`linear`) stands for.

    Raises:
        ArgumentError: If the identifier means no activation.

    Example:
        >>> get("relu").__name__, get(None).__name__
        ('relu', 'linear')
    """
    return linear if identifier is None else _NAMES.get(identifier)
