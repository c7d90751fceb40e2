"""Loss functions of classifiers. See `loss.py` for what they share with the others.

Targets are labels or probabilities; predictions are probabilities or logits.
"""

import warnings
from typing import Any

from gpunet import ops
from gpunet.config import epsilon
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.cross_entropy import dense_loss, sparse_loss
from gpunet.ops.elementwise import floating
from gpunet.ops.loss import matched

__all__: list[str] = []


def _check_axis(axis):
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ArgumentError(f"`axis` must be of type `int`. {received(axis=axis, type=type(axis))}")


def _smooth(y_true, amount, classes):
    return y_true * (1.0 - amount) + amount / classes if amount else y_true


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Returns the mean of `-y_true * log(y_pred) - (1 - y_true) * log(1 - y_pred)`.

    Args:
        y_true: Targets, 0 to 1.
        y_pred: Probabilities, or logits; of the same shape.
        from_logits: Whether `y_pred` holds logits.
        label_smoothing: How far targets are moved from 0 and 1 towards 1/2, 0 to 1.
        axis: Axis of the mean.

    Returns:
        Tensor without that axis.

    Raises:
        ShapeError: If the shapes differ.

    Example:
        >>> binary_crossentropy([[1.0]], [[0.5]]).numpy().round(4).tolist()
        [0.6930999755859375]
    """
    y_true, y_pred = matched(y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Returns binary cross-entropies times `(1 - p)**gamma`, `p` the probability of the truth.

    Lin et al., "Focal loss for dense object detection", 2018.

    Args:
        y_true: Targets, 0 or 1.
        y_pred: Probabilities, or logits; of the same shape.
        apply_class_balancing: Whether class 1 weighs `alpha` and class 0 `1 - alpha`.
        alpha: Weight of class 1.
        gamma: How much easy samples are weighed down.
        from_logits: Whether `y_pred` holds logits.
        label_smoothing: How far targets are moved towards 1/2.
        axis: Axis of the mean.

    Returns:
        Tensor without that axis.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = matched(y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    entropy = ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits)
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    of_truth = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    focal = ops.power(1.0 - of_truth, gamma) * entropy
    if apply_class_balancing:
        focal = focal * (y_true * alpha + (1.0 - y_true) * (1.0 - alpha))
    return ops.mean(focal, axis=axis)


def _one_hot_targets(y_true, y_pred, axis, name):
    _check_axis(axis)
    y_true, y_pred = matched(y_true, y_pred)
    classes = y_pred.shape[axis]
    if classes == 1:
        warnings.warn(
            f"In loss {name}, expected y_pred.shape to be (batch_size, num_classes) with "
            f"num_classes > 1. Received: y_pred.shape={y_pred.shape}. Consider using "
            "'binary_crossentropy' if you only have 2 classes.",
            SyntaxWarning,
            stacklevel=3,
        )
    return y_true, y_pred


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Returns `-sum(y_true * log(y_pred))` for one-hot targets.

    Args:
        y_true: Targets, one-hot or probabilities.
        y_pred: Probabilities (their sum is brought to 1), or logits; of the same shape.
        from_logits: Whether `y_pred` holds logits.
        label_smoothing: How far targets are moved towards `1 / classes`, 0 to 1.
        axis: Axis of the classes.

    Returns:
        Tensor without that axis.

    Raises:
        ShapeError: If the shapes differ.
        ArgumentError: If the axis is no integer.

    Example:
        >>> categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(4).tolist()
        [0.6930999755859375]
    """
    y_true, y_pred = _one_hot_targets(y_true, y_pred, axis, "categorical_crossentropy")
    if from_logits:  # targets are smoothed as they are read
        return dense_loss(y_true, y_pred, axis, label_smoothing)
    y_true = _smooth(y_true, label_smoothing, y_pred.shape[axis])
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Returns `-sum(alpha * (1 - y_pred)**gamma * y_true * log(y_pred))` for one-hot targets.

    Lin et al., "Focal loss for dense object detection", 2018.

    Args:
        y_true: Targets, one-hot.
        y_pred: Probabilities (their sum is brought to 1), or logits; of the same shape.
        alpha: Weight of all classes.
        gamma: How much easy samples are weighed down.
        from_logits: Whether `y_pred` holds logits.
        label_smoothing: How far targets are moved towards `1 / classes`.
        axis: Axis of the classes.

    Returns:
        Tensor without that axis.

    Raises:
        ShapeError: If the shapes differ.
        ArgumentError: If the axis is no integer.
    """
    y_true, y_pred = _one_hot_targets(y_true, y_pred, axis, "categorical_focal_crossentropy")
    y_true = _smooth(y_true, label_smoothing, y_pred.shape[axis])
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    y_pred = y_pred / ops.sum(y_pred, axis=axis, keepdims=True)
    y_pred = ops.clip(y_pred, epsilon(), 1.0 - epsilon())
    weight = ops.power(1.0 - y_pred, gamma) * alpha
    return -ops.sum(weight * y_true * ops.log(y_pred), axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """Returns `-log(y_pred[y_true])` for integer labels.

    Args:
        y_true: Labels, 0 to classes - 1: the shape of `y_pred` without the axis of the classes, or
            with length 1 there.
        y_pred: Probabilities (their sum is brought to 1), or logits.
        from_logits: Whether `y_pred` holds logits.
        ignore_class: A label whose samples have loss 0 and do not count in means.
        axis: Axis of the classes.

    Returns:
        Tensor of the shape of `y_pred` without the axis of the classes.

    Raises:
        ShapeError: If the shapes do not go together.

    Example:
        >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).numpy().round(4).tolist()
        [0.6930999755859375]
    """
    y_pred = floating(y_pred)
    y_true = as_tensor(y_true, device=y_pred.device)
    shape = list(y_pred.shape)
    if not shape:
        raise ShapeError(f"Predictions need an axis of classes. {received(y_pred=y_pred.shape)}")
    del shape[axis]
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis=axis)
    if y_true.shape != tuple(shape):
        raise ShapeError(
            "Labels must have the shape of the predictions without the axis of the classes. "
            + received(y_true=y_true.shape, y_pred=y_pred.shape, axis=axis)
        )
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits, axis=axis
        )
    valid = ops.not_equal(y_true, ignore_class)
    if from_logits:
        losses = sparse_loss(y_true, y_pred, from_logits, axis, ignore_class)
    else:
        labels = ops.where(valid, y_true, 0)
        losses = ops.sparse_categorical_crossentropy(labels, y_pred, axis=axis)
        losses = ops.where(valid, losses, 0.0)
    losses._keras_mask = valid
    return losses


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Tensor:
    """Returns `(1 - p**q) / q`, `p` the probability of the label: robust against wrong labels.

    Zhang, Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy
    labels", 2018.

    Args:
        y_true: Integer labels.
        y_pred: Probabilities, with one axis more.
        q: Between cross-entropy (0) and mean absolute error (1).

    Returns:
        Tensor of the shape of `y_true`.
    """
    y_pred = floating(y_pred)
    labels = ops.cast(as_tensor(y_true), "int32")
    if labels.shape == (*y_pred.shape[:-1], 1):
        labels = ops.squeeze(labels, axis=-1)
    if labels.shape != y_pred.shape[:-1]:
        raise ShapeError(
            "Labels must have the shape of the predictions without the last axis. "
            + received(y_true=labels.shape, y_pred=y_pred.shape)
        )
    one_hot = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype.name)
    return (1.0 - ops.power(ops.sum(y_pred * one_hot, axis=-1), q)) / q
