"""Normalisation as Keras names it: layer, RMS, group, batch, moments and unit length."""

import math

from gpunet import config
from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.batch_norm import batch_norm_inference, batch_norm_train
from gpunet.ops.elementwise import (
    absolute,
    cast_to,
    clip,
    floating,
    maximum,
    power,
    rsqrt,
    square,
)
from gpunet.ops.group_norm import constant_vector, group_norm
from gpunet.ops.norm import layer_norm, rms_norm, wide_tensor
from gpunet.ops.precision import is_half
from gpunet.ops.reduce import axis_tuple, sum
from gpunet.ops.shape import many_axes, moveaxis, one_axis, reshape

__all__ = [
    "batch_normalization",
    "batch_normalization_training",
    "group_normalization",
    "layer_normalization",
    "moments",
    "normalize",
    "rms_normalization",
]


def _vector(v, value, shape, x):
    """A scale or offset as a flat vector in the dtype of `x`; `value` where there is none."""
    length = math.prod(shape)
    if v is None:
        return constant_vector(value, length, x)
    v = cast_to(as_tensor(v, device=x.device), x.dtype)
    if math.prod(v.shape) != length:
        if v.shape != ():
            raise ShapeError(
                "scale and offset have the lengths of the normalised axes. "
                + received(shape=v.shape, expected=tuple(shape))
            )
        return v * constant_vector(1.0, length, x)
    return reshape(v, (length,))


def _rows_last(x, axis):
    """Moves the normalised axes to the end and joins them; returns also the way back."""
    axes = many_axes(axis, x.ndim) if not isinstance(axis, int) else (one_axis(axis, x.ndim),)
    axes = tuple(sorted(axes))
    if not axes:
        raise ArgumentError(f"`axis` names at least one axis. {received(axis=axis)}")
    last = tuple(range(x.ndim - len(axes), x.ndim))
    shape = tuple(x.shape[i] for i in axes)
    if axes == (x.ndim - 1,):
        return x, shape, lambda y: y
    moved = x if axes == last else moveaxis(x, axes, last)
    rows = reshape(moved, (*moved.shape[: last[0]], math.prod(shape)))

    def back(y):
        y = reshape(y, moved.shape)
        return y if axes == last else moveaxis(y, last, axes)

    return rows, shape, back


@public
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None, **kwargs):
    """Returns `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, the statistics over `axis`.

    Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.

    Args:
        x: Tensor; halves are computed in float32.
        gamma: Scale, of the lengths of the normalised axes; default 1.
        beta: Offset, likewise; default 0.
        axis: Integer or tuple of integers.
        epsilon: Positive number; default `gpunet.config.epsilon()`.
        **kwargs: Keras's older `rms_scaling`: divides without centering, and adds no `beta`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ShapeError: If `gamma` or `beta` do not fit.

    Example:
        >>> import gpunet
        >>> gpunet.ops.layer_normalization([[1.0, 3.0]], epsilon=0.0).tolist()
        [[-1.0, 1.0]]
    """
    rms_scaling = kwargs.pop("rms_scaling", False)
    if kwargs:
        raise ArgumentError(f"layer_normalization() has no such argument. {received(**kwargs)}")
    x = floating(x)
    epsilon = config.epsilon() if epsilon is None else float(epsilon)
    rows, shape, back = _rows_last(x, axis)
    scale = _vector(gamma, 1.0, shape, x)
    if rms_scaling:
        values = wide_tensor(rows)
        variance = _variance(values, (rows.ndim - 1,))[1]
        return back(cast_to(values * rsqrt(variance + epsilon) * wide_tensor(scale), x.dtype))
    return back(layer_norm(rows, scale, _vector(beta, 0.0, shape, x), epsilon=epsilon)[0])


@public
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """Returns `x / sqrt(mean(x**2) + epsilon) * scale`, the mean over `axis`.

    Source: Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019.

    Args:
        x: Tensor; halves are computed in float32.
        scale: Number, or tensor of the lengths of the normalised axes; default 1.
        axis: Integer or tuple of integers.
        epsilon: Positive number; default `gpunet.config.epsilon()`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ShapeError: If `scale` does not fit.

    Example:
        >>> import gpunet
        >>> gpunet.ops.rms_normalization([[2.0, -2.0]], epsilon=0.0).tolist()
        [[1.0, -1.0]]
    """
    x = floating(x)
    if not x.ndim:
        x = reshape(x, (1,))
    epsilon = config.epsilon() if epsilon is None else float(epsilon)
    rows, shape, back = _rows_last(x, axis)
    return back(rms_norm(rows, _vector(scale, 1.0, shape, x), epsilon=epsilon)[0])


@public
def group_normalization(
    x, groups=32, gamma=None, beta=None, epsilon=1e-3, data_format=None, axis=None
):
    """Returns `x` normalised over each group of channels and all positions of an example.

    Source: Wu, He, "Group Normalization", 2018.

    Args:
        x: Tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        groups: Number of groups; divides the number of channels; -1 for one a channel.
        gamma: Scale of shape `(channels,)`; default 1.
        beta: Offset of shape `(channels,)`; default 0.
        epsilon: Positive number.
        data_format: `"channels_last"` or `"channels_first"`; default the global setting.
        axis: The axis of the channels, instead of `data_format`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ArgumentError: If `groups` does not divide the channels.

    Example:
        >>> import gpunet
        >>> gpunet.ops.group_normalization([[1.0, 3.0, 5.0, 9.0]], groups=2, epsilon=0.0).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]
    """
    x = floating(x)
    if axis is None:
        axis = 1 if config.standardize_data_format(data_format) == "channels_first" else -1
    axis = one_axis(axis, x.ndim)
    channels = x.shape[axis]
    groups = channels if groups == -1 else int(groups)
    if groups < 1 or channels % groups:
        raise ArgumentError(
            "`groups` must divide the channels. " + received(groups=groups, channels=channels)
        )
    last = axis == x.ndim - 1
    scale, offset = _vector(gamma, 1.0, (channels,), x), _vector(beta, 0.0, (channels,), x)
    moved = x if last else moveaxis(x, axis, -1)
    y = group_norm(moved, scale, offset, groups=groups, epsilon=float(epsilon))[0]
    return y if last else moveaxis(y, -1, axis)


@public
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """Returns `(x - mean) / sqrt(variance + epsilon) * scale + offset`, with given statistics.

    Source: Ioffe, Szegedy, "Batch Normalization", 2015.

    Args:
        x: Tensor; halves are computed in float32.
        mean: Vector: the mean of each channel.
        variance: Vector: the variance of each channel.
        axis: Axis of the channels.
        offset: Vector added at the end; default 0.
        scale: Vector multiplied with; default 1.
        epsilon: Positive number.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ShapeError: If a vector has not the length of the axis.

    Example:
        >>> import gpunet
        >>> gpunet.ops.batch_normalization([[1.0], [3.0]], [2.0], [1.0], -1, epsilon=0.0).tolist()
        [[-1.0], [1.0]]
    """
    x = floating(x)
    axis = one_axis(axis, x.ndim)
    like = wide_tensor(x) if is_half(x.dtype) else x
    vectors = [
        _channels(v, value, x.shape[axis], like)
        for v, value in ((mean, 0.0), (variance, 1.0), (scale, 1.0), (offset, 0.0))
    ]
    last = axis == x.ndim - 1
    y = batch_norm_inference(x if last else moveaxis(x, axis, -1), *vectors, epsilon=float(epsilon))
    return y if last else moveaxis(y, -1, axis)


@public
def batch_normalization_training(x, axis=-1, offset=None, scale=None, epsilon=1e-3):
    """Returns `x` normalised by the mean and variance of each channel, and these two.

    Source: Ioffe, Szegedy, "Batch Normalization", 2015.

    Args:
        x: Tensor; halves are computed in float32.
        axis: Axis of the channels; the statistics are over all others.
        offset: Vector added at the end; default 0.
        scale: Vector multiplied with; default 1.
        epsilon: Positive number.

    Returns:
        Tensor of the shape and dtype of `x`, and the mean and the (biased) variance of each
        channel; these are float32 where `x` is half.

    Raises:
        ShapeError: If a vector has not the length of the axis.

    Example:
        >>> import gpunet
        >>> y, mean, variance = gpunet.ops.batch_normalization_training([[1.0], [3.0]], epsilon=0.0)
        >>> y.tolist(), mean.tolist(), variance.tolist()
        ([[-1.0], [1.0]], [2.0], [1.0])
    """
    x = floating(x)
    axis = one_axis(axis, x.ndim)
    like = wide_tensor(x) if is_half(x.dtype) else x
    scale = _channels(scale, 1.0, x.shape[axis], like)
    offset = _channels(offset, 0.0, x.shape[axis], like)
    last = axis == x.ndim - 1
    x = x if last else moveaxis(x, axis, -1)
    y, mean, variance = batch_norm_train(x, scale, offset, epsilon=float(epsilon))
    return (y if last else moveaxis(y, -1, axis)), mean, variance


def _channels(v, value, length, like):
    if v is None:
        return constant_vector(value, length, like)
    v = cast_to(as_tensor(v, device=like.device), like.dtype)
    if v.shape != (length,):
        raise ShapeError(
            f"Batch statistics, scale and offset are vectors with one number for each of the "
            f"{length} channels. {received(shape=v.shape)}"
        )
    return v


def _variance(x, axes):
    """Mean and variance with the axes kept, in two passes."""
    count = max(math.prod(x.shape if axes is None else [x.shape[i] for i in axes]), 1)
    mean = sum(x, axes, keepdims=True) / count
    return mean, sum(square(x - mean), axes, keepdims=True) / count


@public
def moments(x, axes, keepdims=False, synchronized=False):
    """Returns the mean and the variance along axes.

    Args:
        x: Tensor; halves are summed in float32 and the results kept in range.
        axes: Integer or tuple of integers.
        keepdims: Whether the axes stay, with length 1.
        synchronized: Accepted for Keras; only `False`.

    Returns:
        Two tensors.

    Raises:
        ArgumentError: With `synchronized=True`.

    Example:
        >>> import gpunet
        >>> mean, variance = gpunet.ops.moments([1.0, 3.0], axes=0)
        >>> mean.item(), variance.item()
        (2.0, 1.0)
    """
    if synchronized:
        raise ArgumentError(
            f"moments() does not synchronise devices. {received(synchronized=synchronized)}"
        )
    x = floating(x)
    mean, variance = _variance(wide_tensor(x), axis_tuple(axes, x.ndim))
    if not keepdims:
        chosen = axis_tuple(axes, x.ndim)
        shape = [d for i, d in enumerate(x.shape) if chosen is not None and i not in chosen]
        mean, variance = reshape(mean, shape), reshape(variance, shape)
    if not is_half(x.dtype):
        return mean, variance
    limit = 65504.0  # what float16 holds
    mean, variance = clip(mean, -limit, limit), clip(variance, -limit, limit)
    return cast_to(mean, x.dtype), cast_to(variance, x.dtype)


@public
def normalize(x, axis=-1, order=2, epsilon=None):
    """Returns `x` divided by its norm along an axis, where that is above `epsilon`.

    Args:
        x: Tensor; integers are computed as floats.
        axis: Integer or tuple of integers.
        order: Positive integer: which norm.
        epsilon: Smallest divisor; default `gpunet.config.epsilon()`.

    Returns:
        Tensor of the shape of `x` (of shape `(1,)` where that is `()`).

    Raises:
        ArgumentError: If `order` is not a positive integer.

    Example:
        >>> import gpunet
        >>> gpunet.ops.normalize([3.0, 4.0]).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ArgumentError(f"Argument `order` must be an int >= 1. {received(order=order)}")
    x = floating(x)
    if not x.ndim:
        x = reshape(x, (1,))
    epsilon = config.epsilon() if epsilon is None else float(epsilon)
    if order == 2:
        total = sum(square(wide_tensor(x)), axis, keepdims=True)
        return cast_to(wide_tensor(x) * rsqrt(maximum(total, epsilon * epsilon)), x.dtype)
    size = absolute(x)
    total = sum(size if order == 1 else power(size, order), axis, keepdims=True)
    if order > 1:
        total = power(maximum(total, epsilon**order), 1.0 / order)
    return x / maximum(total, epsilon)
