"""How often predictions are right."""

from typing import Any

from gpunet import ops
from gpunet.config import floatx
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ShapeError, received
from gpunet.metrics.reduction import BuiltinMean
from gpunet.ops.elementwise import cast_to
from gpunet.ops.loss import matched, squeeze_or_expand_to_same_rank
from gpunet.saving import serializable


def _as_float(matches):
    return cast_to(matches, numpy_dtype(floatx()))


def _same_shape(y_true, y_pred):
    if y_true.shape != y_pred.shape:
        raise ShapeError(
            "Targets and predictions do not go together. "
            + received(y_true=y_true.shape, y_pred=y_pred.shape)
        )


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Returns 1 where prediction and target are equal, else 0.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = as_tensor(y_true), as_tensor(y_pred)
    y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
    _same_shape(y_true, y_pred)
    return _as_float(ops.equal(y_true, y_pred))


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """Returns 1 where the prediction is on the target's side of a threshold, else 0.

    Args:
        y_true: Targets, 0 or 1.
        y_pred: Probabilities, of the same shape.
        threshold: Above it a prediction counts as 1.

    Raises:
        ShapeError: If the shapes differ.

    Example:
        >>> binary_accuracy([[1], [0]], [[0.7], [0.6]]).tolist()
        [[1.0], [0.0]]
    """
    y_true, y_pred = matched(y_true, y_pred)
    return _as_float(ops.equal(y_true, cast_to(ops.greater(y_pred, threshold), y_true.dtype)))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Returns 1 where the most probable class is that of the one-hot target, else 0.

    Args:
        y_true: One-hot targets.
        y_pred: Probabilities or logits, of the same shape.

    Returns:
        Tensor without the last axis.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = as_tensor(y_true), as_tensor(y_pred)
    _same_shape(y_true, y_pred)
    return _as_float(ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1)))


def _labels(y_true, y_pred):
    """Integer labels without a last axis of length 1, checked against the predictions."""
    y_true, y_pred = as_tensor(y_true), as_tensor(y_pred)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1:] == (1,):
        y_true = ops.squeeze(y_true, axis=-1)
    if y_true.shape != y_pred.shape[:-1]:
        raise ShapeError(
            "Labels must have the shape of the predictions without the last axis. "
            + received(y_true=y_true.shape, y_pred=y_pred.shape)
        )
    return y_true, y_pred


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Returns 1 where the most probable class is the label, else 0.

    Args:
        y_true: Integer labels.
        y_pred: Probabilities or logits, with one axis more (or 1 class in the last of `y_true`).

    Returns:
        Tensor without the axis of the classes.

    Raises:
        ShapeError: If the shapes do not go together.

    Example:
        >>> sparse_categorical_accuracy([1, 0], [[0.1, 0.9], [0.1, 0.9]]).tolist()
        [1.0, 0.0]
    """
    y_true, y_pred = _labels(y_true, y_pred)
    return _as_float(ops.equal(y_true, ops.argmax(y_pred, axis=-1)))


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """Returns 1 where the class of the one-hot target is among the `k` most probable, else 0.

    Raises:
        ShapeError: If the shapes differ.
    """
    y_true, y_pred = as_tensor(y_true), as_tensor(y_pred)
    _same_shape(y_true, y_pred)
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Tensor:
    """Returns 1 where the label is among the `k` most probable classes, else 0.

    Args:
        y_true: Integer labels.
        y_pred: Probabilities or logits, with one axis more.
        k: How many classes count.
        from_sorted_ids: Whether `y_pred` holds classes, most probable first.

    Raises:
        ShapeError: If the shapes do not go together.
    """
    y_true, y_pred = _labels(y_true, y_pred)
    if from_sorted_ids:
        best = y_pred[..., :k]
        return _as_float(ops.any(ops.equal(ops.expand_dims(y_true, -1), best), axis=-1))
    # As many classes are better as have a higher score; ties count for the label.
    of_label = ops.take_along_axis(y_pred, ops.cast(ops.expand_dims(y_true, -1), "int32"), axis=-1)
    better = ops.sum(ops.cast(ops.greater(y_pred, of_label), "int32"), axis=-1)
    return _as_float(ops.logical_and(ops.less(better, k), ops.isfinite(of_label[..., 0])))


@serializable("keras.metrics")
class Accuracy(BuiltinMean):
    """How often predictions equal targets.

    Args:
        name: Name.
        dtype: Dtype of the result.

    Example:
        >>> Accuracy()([1, 2, 3, 4], [0, 2, 3, 4]).item()
        0.75
    """

    _direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None):
        super().__init__(accuracy, name, dtype)


@serializable("keras.metrics")
class BinaryAccuracy(BuiltinMean):
    """How often predictions are on their target's side of a threshold.

    Args:
        name: Name.
        dtype: Dtype of the result.
        threshold: Above it a prediction counts as 1.
    """

    _direction, _options = "up", ("threshold",)

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = threshold


@serializable("keras.metrics")
class CategoricalAccuracy(BuiltinMean):
    """How often the most probable class is that of the one-hot target; see `Accuracy`."""

    _direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None):
        super().__init__(categorical_accuracy, name, dtype)


@serializable("keras.metrics")
class SparseCategoricalAccuracy(BuiltinMean):
    """How often the most probable class is the label; see `Accuracy`."""

    _direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


@serializable("keras.metrics")
class TopKCategoricalAccuracy(BuiltinMean):
    """How often the class of the one-hot target is among the most probable.

    Args:
        k: How many classes count.
        name: Name.
        dtype: Dtype of the result.
    """

    _direction, _options = "up", ("k",)

    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


@serializable("keras.metrics")
class SparseTopKCategoricalAccuracy(BuiltinMean):
    """How often the label is among the most probable classes.

    Args:
        k: How many classes count.
        name: Name.
        dtype: Dtype of the result.
        from_sorted_ids: Whether predictions are classes, most probable first.
    """

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        super().__init__(
            sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids
        )
        self.k, self.from_sorted_ids = k, from_sorted_ids

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {**super().get_config(), "k": self.k}
        return {**config, "from_sorted_ids": True} if self.from_sorted_ids else config
