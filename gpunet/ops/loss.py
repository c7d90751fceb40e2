"""Loss functions of targets and predictions, one value for each sample, and how they are reduced.

`gpunet.losses` and `gpunet.metrics` wrap them. They are not in `gpunet.ops`, where Keras has ops of
the same names but another order of arguments.

Targets and predictions must have the same shape, but for a last axis of length 1 that one of them
lacks. Keras broadcasts any other pair silently, which trains on wrong numbers.
"""

import math
from typing import Any

from gpunet import ops
from gpunet.config import epsilon
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.elementwise import cast_to, floating

__all__: list[str] = []

REDUCTIONS = ("sum_over_batch_size", "sum", "none", "mean", "mean_with_sample_weight", None)


def squeeze_or_expand_to_same_rank(x1: Any, x2: Any, expand_rank_1: bool = True) -> tuple:
    """Returns two tensors of the same rank, if a last axis of length 1 makes the difference.

    Args:
        x1: Tensor.
        x2: Tensor.
        expand_rank_1: Whether a tensor of rank 1 gets the axis, rather than the other losing it.
    """
    rank1, rank2 = len(x1.shape), len(x2.shape)
    if rank1 == rank2 + 1 and x1.shape[-1] == 1:
        if rank2 == 1 and expand_rank_1:
            return x1, ops.expand_dims(x2, axis=-1)
        return ops.squeeze(x1, axis=-1), x2
    if rank2 == rank1 + 1 and x2.shape[-1] == 1:
        if rank1 == 1 and expand_rank_1:
            return ops.expand_dims(x1, axis=-1), x2
        return x1, ops.squeeze(x2, axis=-1)
    return x1, x2


def matched(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Returns targets and predictions as tensors of one shape and of the predictions' dtype.

    Raises:
        ShapeError: If the shapes differ by more than a last axis of length 1.
    """
    y_pred = floating(y_pred)
    y_true = as_tensor(y_true, device=y_pred.device)
    y_true = cast_to(y_true, y_pred.dtype)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise ShapeError(
                "Targets and predictions must have the same shape; they are never broadcast. "
                + received(y_true=y_true.shape, y_pred=y_pred.shape)
            )
    return y_true, y_pred


# -- reduction and weights ------------------------------------------------------------------------


def standardize_reduction(reduction: str | None) -> str | None:
    """Returns a checked `reduction` argument.

    Raises:
        ArgumentError: If it is not in `REDUCTIONS`.
    """
    if reduction not in REDUCTIONS:
        raise ArgumentError(
            f"Invalid value for argument `reduction`. Expected one of {REDUCTIONS}. "
            + received(reduction=reduction)
        )
    return reduction


def reduce_weighted_values(
    values: Any, sample_weight: Any = None, mask: Any = None, reduction: Any = "sum_over_batch_size"
) -> Tensor:
    """Returns the loss of a batch from the losses of its samples.

    `"sum_over_batch_size"` and `"mean"` divide the weighted sum by the number of values,
    `"mean_with_sample_weight"` by the sum of the weights; masked values do not count.

    Args:
        values: Losses of the samples.
        sample_weight: Weights of the samples, or `None`.
        mask: Which values count, or `None` for all.
        reduction: One of `REDUCTIONS`.

    Raises:
        ShapeError: If the weights do not go with the values.
    """
    values = floating(values)
    sample_weight = apply_mask(sample_weight, mask, values.dtype, reduction)
    if sample_weight is not None:
        values, sample_weight = weighable(values, sample_weight)
        values = values * sample_weight
    if reduction in (None, "none") or values.shape in ((), (0,)):
        return values
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        return ops.divide_no_nan(ops.sum(values), ops.sum(sample_weight))
    return ops.mean(values) if values.size else ops.sum(values)


def weighable(values: Any, sample_weight: Any) -> tuple[Tensor, Tensor]:
    """Returns values and their weights with ranks that fit, and the weights in the values' dtype.

    Raises:
        ShapeError: If an axis of the weights is neither that of the values nor of length 1.
    """
    weight = cast_to(as_tensor(sample_weight, device=values.device), values.dtype)
    values, weight = squeeze_or_expand_to_same_rank(values, weight)
    shape, given = values.shape, weight.shape
    fits = len(given) == len(shape) and all(w in (1, n) for w, n in zip(given, shape, strict=True))
    if given != () and not fits:
        raise ShapeError(
            "`sample_weight` must have the shape of the samples' losses, or length 1 in some axes. "
            + received(sample_weight=given, losses=shape)
        )
    return values, weight


def apply_mask(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Any:
    """Returns the weights with the mask in them, `None` where there is neither.

    For means the weights grow by `count / valid`, so that masked values do not count at all.
    """
    if mask is None:
        return sample_weight
    mask = cast_to(as_tensor(mask), numpy_dtype(dtype))
    if reduction in ("mean", "sum_over_batch_size"):
        mask = mask * ops.divide_no_nan(float(mask.size), ops.sum(mask))
    if sample_weight is None:
        return mask
    sample_weight = cast_to(as_tensor(sample_weight, device=mask.device), mask.dtype)
    mask, sample_weight = squeeze_or_expand_to_same_rank(mask, sample_weight)
    return sample_weight * mask


# -- regression -----------------------------------------------------------------------------------


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean((y_true - y_pred)**2)` over the last axis.

    Args:
        y_true: Targets, shape `(batch, ..., n)`.
        y_pred: Predictions, of the same shape.

    Returns:
        Tensor of shape `(batch, ...)`.

    Raises:
        ShapeError: If the shapes differ.

    Example:
        >>> mean_squared_error([[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 3.0]]).tolist()
        [0.5, 5.0]
    """
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(|y_true - y_pred|)` over the last axis; see `mean_squared_error`."""
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.absolute(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `100 * mean(|(y_true - y_pred) / y_true|)`, where `|y_true|` is at least epsilon."""
    y_true, y_pred = matched(y_true, y_pred)
    relative = (y_true - y_pred) / ops.maximum(ops.absolute(y_true), epsilon())
    return ops.mean(ops.absolute(relative), axis=-1) * 100.0


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean((log(y_true + 1) - log(y_pred + 1))**2)`, both taken as at least epsilon."""
    y_true, y_pred = matched(y_true, y_pred)
    log_pred, log_true = (ops.log(ops.maximum(y, epsilon()) + 1.0) for y in (y_pred, y_true))
    return ops.mean(ops.square(log_pred - log_true), axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Returns the mean of `e**2 / 2` for errors up to `delta`, and of `delta * (|e| - delta / 2)`.

    Huber, "Robust estimation of a location parameter", 1964.

    Args:
        y_true: Targets.
        y_pred: Predictions, of the same shape.
        delta: Where the square goes over into a line.

    Returns:
        Tensor without the last axis.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = matched(y_true, y_pred)
    error = y_pred - y_true
    size = ops.absolute(error)
    inside = ops.square(error) * 0.5
    outside = size * delta - 0.5 * delta * delta
    return ops.mean(ops.where(size <= delta, inside, outside), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(log(cosh(y_pred - y_true)))`, computed without overflow."""
    y_true, y_pred = matched(y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(error * -2.0) - math.log(2.0), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(y_pred - y_true * log(y_pred + epsilon))`."""
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + epsilon()), axis=-1)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `sum(y_true * log(y_true / y_pred))`, both limited to [epsilon, 1]."""
    y_true, y_pred = matched(y_true, y_pred)
    y_true, y_pred = (ops.clip(y, epsilon(), 1.0) for y in (y_true, y_pred))
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


def _cosine(y_true, y_pred, axis):
    y_true, y_pred = matched(y_true, y_pred)
    return ops.sum(ops.normalize(y_true, axis=axis) * ops.normalize(y_pred, axis=axis), axis=axis)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Returns minus the cosine of the angle between targets and predictions: -1 is best.

    Args:
        y_true: Targets.
        y_pred: Predictions, of the same shape.
        axis: Axis of the vectors.

    Returns:
        Tensor without that axis.

    Raises:
        ShapeError: If the shapes differ.
    """
    return -_cosine(y_true, y_pred, axis)


def cosine_proximity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Returns the cosine of the angle between targets and predictions: 1 is best."""
    return _cosine(y_true, y_pred, axis)


# -- margins --------------------------------------------------------------------------------------


def _signs(y_true):
    """Labels 0 and 1 as -1 and 1; other labels as they are."""
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(binary, y_true * 2.0 - 1.0, y_true)


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(max(1 - y_true * y_pred, 0))` for labels -1 and 1 (or 0 and 1)."""
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(max(1 - y_true * y_pred, 0)**2)` for labels -1 and 1 (or 0 and 1)."""
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Returns the margin loss `max(1 + max((1 - y_true) * y_pred) - sum(y_true * y_pred), 0)`."""
    y_true, y_pred = matched(y_true, y_pred)
    right = ops.sum(y_true * y_pred, axis=-1)
    wrong = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


# -- overlaps -------------------------------------------------------------------------------------


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Tensor:
    """Returns `1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))`.

    Args:
        y_true: Targets.
        y_pred: Predictions, of the same shape.
        axis: Axes summed over; `None` for all.

    Returns:
        Tensor without these axes.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = matched(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    total = ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis)
    return 1.0 - both * 2.0 / (total + epsilon())


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Tensor:
    """Returns 1 minus an overlap in which the two kinds of errors weigh `alpha` and `beta`.

    Salehi et al., "Tversky loss function for image segmentation", 2017.

    Args:
        y_true: Targets.
        y_pred: Predictions, of the same shape.
        alpha: Weight of what the targets have and the predictions lack.
        beta: Weight of what the predictions have and the targets lack.
        axis: Axes summed over; `None` for all.

    Returns:
        Tensor without these axes.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = matched(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum((1.0 - y_pred) * y_true, axis=axis)
    extra = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - both / (both + missed * alpha + extra * beta + epsilon())
