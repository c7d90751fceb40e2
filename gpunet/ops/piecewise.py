"""Activations made of smaller ops: shrinking, gating and piecewise ones."""

from gpunet.core.symbolic import public
from gpunet.errors import ShapeError, received
from gpunet.ops.activation import checked_number, sigmoid
from gpunet.ops.creation import ones_like
from gpunet.ops.cumulative import cumsum
from gpunet.ops.elementwise import (
    absolute,
    cast_to,
    clip,
    floating,
    greater,
    maximum,
    sqrt,
    square,
    tanh,
    where,
)
from gpunet.ops.index import get_item
from gpunet.ops.reduce import sum
from gpunet.ops.shape import one_axis, reshape
from gpunet.ops.sort import sort

__all__ = [
    "glu",
    "hard_shrink",
    "hard_tanh",
    "soft_shrink",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "tanh_shrink",
    "threshold",
]


@public
def glu(x, axis=-1):
    """Returns the first half of `x` times the sigmoid of the second (Dauphin et al., 2016).

    Args:
        x: Tensor; its length along `axis` is even.
        axis: Axis to halve.

    Returns:
        Tensor of half the length along `axis`.

    Raises:
        ShapeError: If the length is odd.

    Example:
        >>> import gpunet
        >>> gpunet.ops.glu([2.0, 0.0]).tolist()
        [1.0]
    """
    x = floating(x)
    axis = one_axis(axis, x.ndim)
    half, odd = divmod(x.shape[axis], 2)
    if odd:
        raise ShapeError(f"glu() halves an axis of even length. {received(shape=x.shape)}")
    lead = (slice(None),) * axis
    return get_item(x, (*lead, slice(0, half))) * sigmoid(get_item(x, (*lead, slice(half, None))))


@public
def hard_tanh(x):
    """Returns `x` limited to the range from -1 to 1.

    Args:
        x: Tensor of any shape.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.hard_tanh([-2.0, 0.5]).tolist()
        [-1.0, 0.5]
    """
    return clip(floating(x), -1, 1)


@public
def tanh_shrink(x):
    """Returns `x - tanh(x)`.

    Args:
        x: Tensor of any shape; integers are computed as floats.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.tanh_shrink(0.0).item()
        0.0
    """
    x = floating(x)
    return x - tanh(x)


@public
def soft_shrink(x, threshold=0.5):
    """Returns `x` moved towards 0 by `threshold`, and 0 where it is nearer than that.

    Args:
        x: Tensor of any shape; integers are computed as floats.
        threshold: Number, not negative.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ArgumentError: If `threshold` is negative.

    Example:
        >>> import gpunet
        >>> gpunet.ops.soft_shrink([-1.0, 0.25, 2.0]).tolist()
        [-0.5, 0.0, 1.5]
    """
    x, threshold = floating(x), checked_number("threshold", threshold)
    return where(x > threshold, x - threshold, where(x < -threshold, x + threshold, 0.0 * x))


@public
def hard_shrink(x, threshold=0.5):
    """Returns `x`, and 0 where its absolute value is at most `threshold`.

    Args:
        x: Tensor of any shape; integers are computed as floats.
        threshold: Number, not negative.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ArgumentError: If `threshold` is negative.

    Example:
        >>> import gpunet
        >>> gpunet.ops.hard_shrink([-1.0, 0.25]).tolist()
        [-1.0, 0.0]
    """
    x = floating(x)
    return where(absolute(x) > checked_number("threshold", threshold), x, 0)


@public
def threshold(x, threshold, default_value):
    """Returns `x` where it is larger than `threshold`, and `default_value` elsewhere.

    Args:
        x: Tensor of any shape; integers are computed as floats.
        threshold: Number.
        default_value: Number.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.threshold([-1.0, 2.0], 0, 10).tolist()
        [10.0, 2.0]
    """
    x = floating(x)
    return where(greater(x, threshold), x, default_value)


@public
def squareplus(x, b=4):
    """Returns `(x + sqrt(x**2 + b)) / 2`, a softplus without exponentials (Barron, 2021).

    Args:
        x: Tensor of any shape; integers are computed as floats.
        b: How smooth the bend at 0 is; 0 gives `relu`.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.squareplus(0.0).item()
        1.0
    """
    x = floating(x)
    return (x + sqrt(square(x) + b)) * 0.5


@public
def sparse_plus(x):
    """Returns 0 below -1, `(x + 1)**2 / 4` up to 1 and `x` beyond.

    Args:
        x: Tensor of any shape; integers are computed as floats.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.sparse_plus([-2.0, 0.0, 2.0]).tolist()
        [0.0, 0.25, 2.0]
    """
    x = floating(x)
    bend = square(clip(x, -1, 1) + 1) * 0.25
    return bend + maximum(x - 1, 0)


@public
def sparse_sigmoid(x):
    """Returns `(x + 1) / 2` limited to the range from 0 to 1.

    Args:
        x: Tensor of any shape; integers are computed as floats.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.sparse_sigmoid([-2.0, 0.0, 2.0]).tolist()
        [0.0, 0.5, 1.0]
    """
    return (clip(floating(x), -1, 1) + 1) * 0.5


@public
def sparsemax(x, axis=-1):
    """Returns the probabilities nearest to `x`: like `softmax`, with exact zeros.

    `max(x - t, 0)`, with the threshold `t` that makes the sum 1. (Keras 3.15 takes another `t`
    where more than one element is positive, and its result does not sum to 1.)

    Source: Martins, Astudillo, "From Softmax to Sparsemax", 2016.

    Args:
        x: Tensor; integers are computed as floats.
        axis: Axis that sums to 1.

    Returns:
        Tensor of the shape of `x`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.sparsemax([0.0, 1.5, 2.0]).tolist()
        [0.0, 0.25, 0.75]
    """
    x = floating(x)
    axis = one_axis(axis, x.ndim)
    ordered = -sort(-x, axis=axis)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    rank = reshape(cumsum(ones_like(get_item(ordered, _first(axis, x.ndim)))), shape)
    within = cast_to(1 + rank * ordered > cumsum(ordered, axis=axis), x.dtype)
    total = sum(within * ordered, axis=axis, keepdims=True)
    threshold = (total - 1) / sum(within, axis=axis, keepdims=True)
    return maximum(x - threshold, 0)


def _first(axis, ndim):
    return tuple(slice(None) if i == axis else 0 for i in range(ndim))
