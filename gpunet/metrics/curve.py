"""Metrics of a whole curve of thresholds: the area under it, or its best point."""

from collections.abc import Callable
from typing import Any

from gpunet import config, ops
from gpunet.core.tensor import as_tensor, tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.metrics.confusion import evenly_distributed, update_confusion
from gpunet.metrics.metric import Metric
from gpunet.saving import serializable

_COUNTS = {
    "tp": "true_positives",
    "fp": "false_positives",
    "tn": "true_negatives",
    "fn": "false_negatives",
}


def _spread_thresholds(count):
    """Thresholds in equal steps between 0 and 1, both left out."""
    return [(i + 1) * 1.0 / (count - 1) for i in range(count - 2)]


def _one_of(name, value, allowed):
    found = {a.lower(): a for a in allowed}.get(str(getattr(value, "value", value)).lower())
    if found is None:
        raise ArgumentError(
            f'Invalid AUC {name} value: "{value}". Expected values are {list(allowed)}. '
            + received(**{name.replace(" ", "_"): value})
        )
    return found


class _Counted(Metric):
    """Keeps the four counts for each threshold."""

    _direction = "up"
    true_positives: Any
    false_positives: Any
    true_negatives: Any
    false_negatives: Any

    def _add_counts(self, shape):
        for name in _COUNTS.values():
            setattr(self, name, self.add_variable(shape, "zeros", name=name))

    def _variables_by_kind(self):
        return {kind: getattr(self, name) for kind, name in _COUNTS.items()}

    def _values(self):
        return [getattr(self, name).value for name in _COUNTS.values()]


@serializable("keras.metrics")
class AUC(_Counted):
    """Area under the ROC or precision-recall curve, from counts at fixed thresholds.

    Args:
        num_thresholds: How many thresholds, at least 2; more are more exact.
        curve: `"ROC"`, `"PR"` or `"PRGAIN"`.
        summation_method: `"interpolation"` (trapezoids; for PR the interpolation of Davis and
            Goadrich, 2006), `"minoring"` (from below) or `"majoring"` (from above).
        name: Name.
        dtype: Dtype of the result.
        thresholds: Own thresholds in [0, 1]; 0 and 1 are added.
        multi_label: Whether each label has a curve of its own, of whose areas the mean is taken.
        num_labels: How many labels; only with `multi_label`.
        label_weights: Weights of the labels.
        from_logits: Whether predictions are logits.

    Raises:
        ArgumentError: If an argument is out of range.

    Example:
        >>> AUC()([0, 0, 1, 1], [0.0, 0.5, 0.3, 0.9]).item()
        0.75
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ):
        super().__init__(name=name, dtype=dtype)
        self.curve = _one_of("curve", curve, ("PR", "ROC", "PRGAIN"))
        self.summation_method = _one_of(
            "summation method", summation_method, ("interpolation", "majoring", "minoring")
        )
        self._init_from_thresholds = thresholds is not None
        if thresholds is not None:
            inner = sorted(thresholds)
        elif num_thresholds > 1:
            inner = _spread_thresholds(num_thresholds)
        else:
            raise ArgumentError(
                "Argument `num_thresholds` must be an integer > 1. "
                + received(num_thresholds=num_thresholds)
            )
        self.num_thresholds = len(inner) + 2
        self._limited = evenly_distributed([0.0, *inner, 1.0])
        self._thresholds = (-config.epsilon(), *map(float, inner), 1.0 + config.epsilon())
        self.multi_label, self.num_labels = multi_label, num_labels
        self.label_weights = None if label_weights is None else tensor(label_weights, self.dtype)
        self._from_logits = from_logits
        self._built = False
        if num_labels and not multi_label:
            raise ArgumentError(
                "`num_labels` is needed only when `multi_label` is True. "
                + received(num_labels=num_labels)
            )
        if not multi_label:
            self._build(None)
        elif num_labels:
            self._build((None, num_labels))

    @property
    def thresholds(self) -> list[float]:
        """All thresholds, from just below 0 to just above 1."""
        return list(self._thresholds)

    def _build(self, shape):
        if not self.multi_label:
            self._add_counts((self.num_thresholds,))
        elif len(shape) != 2:
            raise ShapeError(
                "`y_pred` must have rank 2 when `multi_label=True`. " + received(y_pred=shape)
            )
        else:
            self._add_counts((self.num_thresholds, shape[1]))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one more batch into account."""
        y_pred = as_tensor(y_pred)
        if not self._built:
            self._build(y_pred.shape)
        update_confusion(
            self._variables_by_kind(),
            y_true,
            ops.sigmoid(y_pred) if self._from_logits else y_pred,
            self._thresholds,
            sample_weight=sample_weight,
            limited=self._limited,
            multi_label=self.multi_label,
            label_weights=None if self.multi_label else self.label_weights,
        )

    def result(self) -> Any:
        """Returns the area."""
        tp, fp, tn, fn = self._values()
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._over_labels(_pr_increments(tp, fp, fn))
        recall = ops.divide_no_nan(tp, tp + fn)
        if self.curve == "ROC":
            x, y = ops.divide_no_nan(fp, fp + tn), recall
        elif self.curve == "PR":
            x, y = recall, ops.divide_no_nan(tp, tp + fp)
        else:  # gains over always answering "positive"; Flach, Kull, 2015
            odds = ops.divide_no_nan(tp + fn, tn + fp)
            none = ops.equal(tp, 0.0)
            x = ops.where(none, 0.0, 1.0 - odds * ops.divide_no_nan(fn, tp))
            y = ops.where(none, 1.0, 1.0 - odds * ops.divide_no_nan(fp, tp))
            x = ops.maximum(x, 0.0)
        if self.summation_method == "interpolation":
            heights = (y[:-1] + y[1:]) / 2.0
        elif self.summation_method == "minoring":
            heights = ops.minimum(y[:-1], y[1:])
        else:
            heights = ops.maximum(y[:-1], y[1:])
        return self._over_labels((x[:-1] - x[1:]) * heights)

    def _over_labels(self, increments):
        if not self.multi_label:
            return ops.sum(increments)
        areas = ops.sum(increments, axis=0)
        if self.label_weights is None:
            return ops.mean(areas)
        return ops.divide_no_nan(ops.sum(areas * self.label_weights), ops.sum(self.label_weights))

    def reset_state(self) -> None:
        """Starts again from nothing."""
        if self._built:
            super().reset_state()

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        weights = self.label_weights
        config = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if weights is None else weights.tolist(),
            "from_logits": self._from_logits,
        }
        if self._init_from_thresholds:
            config["thresholds"] = list(self._thresholds[1:-1])
        return config


def _pr_increments(tp, fp, fn):
    """Areas between thresholds, with precision interpolated along the counts, not the curve."""
    found = tp + fp
    more_tp, more = tp[:-1] - tp[1:], found[:-1] - found[1:]
    slope = ops.divide_no_nan(more_tp, ops.maximum(more, 0.0))
    intercept = tp[1:] - slope * found[1:]
    usable = ops.logical_and(found[:-1] > 0, found[1:] > 0)
    ratio = ops.where(usable, ops.divide_no_nan(found[:-1], ops.maximum(found[1:], 0.0)), 1.0)
    area = slope * (more_tp + intercept * ops.log(ratio))
    return ops.divide_no_nan(area, ops.maximum(tp[1:] + fn[1:], 0.0))


class _BestPoint(_Counted):
    """The best value of one ratio where another is at least a given value."""

    _argument = ""

    def __init__(
        self,
        value: float,
        num_thresholds: int,
        class_id: int | None,
        name: str | None,
        dtype: Any,
    ):
        if not 0 <= value <= 1:
            raise ArgumentError(
                f"Argument `{self._argument}` must be in the range [0, 1]. "
                + received(**{self._argument: value})
            )
        if num_thresholds <= 0:
            raise ArgumentError(
                "Argument `num_thresholds` must be an integer > 0. "
                + received(num_thresholds=num_thresholds)
            )
        super().__init__(name=name, dtype=dtype)
        setattr(self, self._argument, value)
        self.value, self.class_id, self.num_thresholds = value, class_id, num_thresholds
        inner = _spread_thresholds(num_thresholds)
        self.thresholds = [0.5] if num_thresholds == 1 else [0.0, *inner, 1.0]
        self._limited = num_thresholds > 1
        self._add_counts((len(self.thresholds),))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one more batch into account."""
        update_confusion(
            self._variables_by_kind(),
            y_true,
            y_pred,
            tuple(self.thresholds),
            class_id=self.class_id,
            sample_weight=sample_weight,
            limited=self._limited,
        )

    _constrained: Callable
    _wanted: Callable

    def result(self) -> Any:
        """Returns the best value; 0 where the other ratio is always too small."""
        counts = self._values()
        enough = type(self)._constrained(*counts) >= self.value
        return ops.max(ops.where(enough, type(self)._wanted(*counts), 0.0), initial=0.0)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "class_id": self.class_id,
            "num_thresholds": self.num_thresholds,
            self._argument: self.value,
        }


def _recall(tp, fp, tn, fn):
    return ops.divide_no_nan(tp, tp + fn)


def _specificity(tp, fp, tn, fn):
    return ops.divide_no_nan(tn, tn + fp)


def _precision(tp, fp, tn, fn):
    return ops.divide_no_nan(tp, tp + fp)


@serializable("keras.metrics")
class SensitivityAtSpecificity(_BestPoint):
    """The best recall of positives where the recall of negatives is at least `specificity`.

    Args:
        specificity: In [0, 1].
        num_thresholds: How many thresholds are tried.
        class_id: Only this class counts.
        name: Name.
        dtype: Dtype of the result.

    Raises:
        ArgumentError: If an argument is out of range.
    """

    _argument, _constrained, _wanted = "specificity", _specificity, _recall

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(specificity, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics")
class SpecificityAtSensitivity(_BestPoint):
    """The best recall of negatives where that of positives is at least `sensitivity`.

    Arguments as of `SensitivityAtSpecificity`.
    """

    _argument, _constrained, _wanted = "sensitivity", _recall, _specificity

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics")
class PrecisionAtRecall(_BestPoint):
    """The best precision where the recall is at least `recall`.

    Arguments as of `SensitivityAtSpecificity`.
    """

    _argument, _constrained, _wanted = "recall", _recall, _precision

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(recall, num_thresholds, class_id, name, dtype)


@serializable("keras.metrics")
class RecallAtPrecision(_BestPoint):
    """The best recall where the precision is at least `precision`.

    Arguments as of `SensitivityAtSpecificity`.
    """

    _argument, _constrained, _wanted = "precision", _precision, _recall

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(precision, num_thresholds, class_id, name, dtype)
