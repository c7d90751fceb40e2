"""Counts of right and wrong positives and negatives, and what is made of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet import config, ops
from gpunet.core.tensor import as_tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.metrics.metric import Metric
from gpunet.ops.confusion import threshold_counts
from gpunet.ops.elementwise import cast_to
from gpunet.ops.loss import squeeze_or_expand_to_same_rank
from gpunet.saving import serializable

_LOWEST = -1e10  # below every score: what is not among the `top_k`, and their threshold


def checked_thresholds(thresholds: Any, default: float) -> list[float]:
    """Returns thresholds as a list.

    Raises:
        ArgumentError: If one is not in [0, 1].
    """
    if thresholds is None:
        return [default]
    found = list(thresholds) if isinstance(thresholds, (list, tuple, np.ndarray)) else [thresholds]
    wrong = [t for t in found if t is None or not 0 <= t <= 1]
    if wrong:
        raise ArgumentError(
            f"Threshold values must be in [0, 1]. Received: {wrong}. "
            + received(thresholds=thresholds)
        )
    return found


def evenly_distributed(thresholds: Sequence[float]) -> bool:
    """Tells whether there are at least three thresholds, in equal steps from 0 to 1."""
    count = len(thresholds)
    even = np.arange(count) / max(count - 1, 1)
    return count >= 3 and bool(np.allclose(thresholds, even, atol=config.epsilon()))


def update_confusion(
    variables: dict[str, Variable],
    y_true: Any,
    y_pred: Any,
    thresholds: tuple[float, ...],
    top_k: int | None = None,
    class_id: int | None = None,
    sample_weight: Any = None,
    multi_label: bool = False,
    label_weights: Any = None,
    limited: bool = False,
) -> None:
    """Adds a batch to counts, which have one element for each threshold.

    Args:
        variables: Any of the counts, by `"tp"`, `"fp"`, `"tn"`, `"fn"`.
        y_true: Targets; not 0 counts as positive.
        y_pred: Scores, of the same shape; above a threshold counts as positive.
        thresholds: The thresholds.
        top_k: Only the highest scores of each sample may count as positive.
        class_id: Only this class counts.
        sample_weight: Weights of the samples.
        multi_label: Whether each label has counts of its own.
        label_weights: Weights of the labels.
        limited: Whether scores are limited to [0, 1] first.

    Raises:
        ShapeError: If targets, scores and weights do not go together.
    """
    dtype = numpy_dtype(next(iter(variables.values()))._dtype)
    y_pred = as_tensor(y_pred)
    y_true = as_tensor(y_true, device=y_pred.device)
    y_pred, y_true = squeeze_or_expand_to_same_rank(cast_to(y_pred, dtype), cast_to(y_true, dtype))
    if y_pred.shape != y_true.shape:
        raise ShapeError(
            "Targets and predictions must have the same shape. "
            + received(y_true=y_true.shape, y_pred=y_pred.shape)
        )
    weights = _weights(sample_weight, label_weights, y_pred)
    if top_k is not None:
        y_pred = _only_top_k(y_pred, top_k)
    if class_id is not None:
        if y_pred.ndim == 1:
            raise ShapeError(
                "When class_id is provided, y_pred must have an axis of classes. "
                + received(y_pred=y_pred.shape)
            )
        y_true, y_pred = y_true[..., class_id, None], y_pred[..., class_id, None]
        if weights is not None:
            weights = weights[..., class_id, None]
    if limited:
        y_pred = ops.clip(y_pred, 0.0, 1.0)
    _add_counts(variables, y_true, y_pred, weights, thresholds, multi_label)


def _weights(sample_weight, label_weights, y_pred):
    """The weights of all predictions, in their shape; `None` where there are none."""
    weights = None
    if sample_weight is not None:
        given = as_tensor(sample_weight, device=y_pred.device)
        weights = cast_to(given, y_pred.dtype)
        if weights.ndim == y_pred.ndim + 1 and weights.shape[-1] == 1:
            weights = ops.squeeze(weights, axis=-1)
        while 0 < weights.ndim < y_pred.ndim:
            weights = ops.expand_dims(weights, axis=-1)
        if any(w not in (1, n) for w, n in zip(weights.shape, y_pred.shape, strict=False)):
            raise ShapeError(
                "`sample_weight` must have one weight for each sample or prediction. "
                + received(sample_weight=given.shape, y_pred=y_pred.shape)
            )
        weights = ops.broadcast_to(weights, y_pred.shape)
    if label_weights is not None:
        by_label = cast_to(as_tensor(label_weights, device=y_pred.device), y_pred.dtype)
        by_label = ops.broadcast_to(by_label, y_pred.shape)
        weights = by_label if weights is None else weights * by_label
    return weights


def _only_top_k(y_pred, k):
    lowest = ops.top_k(y_pred, k)[0][..., -1:]
    return ops.where(y_pred >= lowest, y_pred, _LOWEST)


def _add_counts(variables, y_true, y_pred, weights, thresholds, multi_label):
    positives = cast_to(ops.not_equal(y_true, 0), y_pred.dtype)
    negatives = 1.0 - positives
    if weights is not None:
        positives, negatives = positives * weights, negatives * weights
    if not multi_label and y_pred.ndim != 1:
        y_pred, positives, negatives = (
            ops.reshape(x, (-1,)) for x in (y_pred, positives, negatives)
        )
    true, false = threshold_counts(y_pred, positives, negatives, thresholds=thresholds)
    for key, variable in variables.items():
        batch = {
            "tp": lambda: true,
            "fp": lambda: false,
            "fn": lambda: ops.sum(positives, axis=0) - true,
            "tn": lambda: ops.sum(negatives, axis=0) - false,
        }[key]()
        variable.assign(variable.value + batch)


class _Count(Metric):
    """One of the four counts."""

    _counts = ""

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = checked_thresholds(thresholds, 0.5)
        self._limited = evenly_distributed(self.thresholds)
        self.accumulator = self.add_variable((len(self.thresholds),), "zeros", name="accumulator")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one more batch into account."""
        update_confusion(
            {self._counts: self.accumulator},
            y_true,
            y_pred,
            tuple(self.thresholds),
            sample_weight=sample_weight,
            limited=self._limited,
        )

    def result(self) -> Any:
        """Returns the (weighted) count for each threshold; a scalar for one threshold."""
        counts = self.accumulator.value
        return counts[0] if len(self.thresholds) == 1 else counts

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "thresholds": self.init_thresholds}


@serializable("keras.metrics")
class TruePositives(_Count):
    """How many positives are predicted to be positive.

    Args:
        thresholds: A number or list of numbers in [0, 1]: above it a score counts as positive.
            Default 0.5.
        name: Name.
        dtype: Dtype of the result.

    Raises:
        ArgumentError: If a threshold is out of range.

    Example:
        >>> TruePositives()([0, 1, 1, 1], [1.0, 0.0, 1.0, 1.0]).item()
        2.0
    """

    _counts = "tp"


@serializable("keras.metrics")
class FalsePositives(_Count):
    """How many negatives are predicted to be positive; arguments as of `TruePositives`."""

    _counts = "fp"


@serializable("keras.metrics")
class TrueNegatives(_Count):
    """How many negatives are predicted to be negative; arguments as of `TruePositives`."""

    _counts = "tn"


@serializable("keras.metrics")
class FalseNegatives(_Count):
    """How many positives are predicted to be negative; arguments as of `TruePositives`."""

    _counts = "fn"


class _Ratio(Metric):
    """True positives over true positives and one kind of errors."""

    _direction = "up"
    _errors, _errors_name = "", ""

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.top_k, self.class_id = top_k, class_id
        self.thresholds = checked_thresholds(thresholds, 0.5 if top_k is None else _LOWEST)
        self._limited = evenly_distributed(self.thresholds)
        shape = (len(self.thresholds),)
        self.true_positives = self.add_variable(shape, "zeros", name="true_positives")
        setattr(self, self._errors_name, self.add_variable(shape, "zeros", name=self._errors_name))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one more batch into account."""
        update_confusion(
            {"tp": self.true_positives, self._errors: getattr(self, self._errors_name)},
            y_true,
            y_pred,
            tuple(self.thresholds),
            self.top_k,
            self.class_id,
            sample_weight,
            limited=self._limited,
        )

    def result(self) -> Any:
        """Returns the ratio for each threshold; a scalar for one threshold, and 0 of nothing."""
        right = self.true_positives.value
        ratios = ops.divide_no_nan(right, right + getattr(self, self._errors_name).value)
        return ratios[0] if len(self.thresholds) == 1 else ratios

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


@serializable("keras.metrics")
class Precision(_Ratio):
    """How many of the predicted positives are positive.

    Args:
        thresholds: A number or list of numbers in [0, 1]: above it a score counts as positive.
            Default 0.5; with `top_k` none.
        top_k: Only the highest scores of each sample may count as positive.
        class_id: Only this class counts.
        name: Name.
        dtype: Dtype of the result.

    Raises:
        ArgumentError: If a threshold is out of range.

    Example:
        >>> round(Precision()([0, 1, 1, 1], [1.0, 0.0, 1.0, 1.0]).item(), 4)
        0.6667
    """

    _errors, _errors_name = "fp", "false_positives"


@serializable("keras.metrics")
class Recall(_Ratio):
    """How many of the positives are predicted to be positive; arguments as of `Precision`."""

    _errors, _errors_name = "fn", "false_negatives"
