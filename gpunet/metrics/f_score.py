"""F-scores: means of precision and recall."""

from typing import Any

from gpunet import config, ops
from gpunet.core.tensor import as_tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.metrics.metric import Metric
from gpunet.ops.elementwise import cast_to
from gpunet.ops.loss import matched
from gpunet.saving import serializable

_AVERAGES = (None, "micro", "macro", "weighted")


@serializable("keras.metrics")
class FBetaScore(Metric):
    """Weighted harmonic mean of precision and recall.

    `(1 + beta**2) * precision * recall / (beta**2 * precision + recall)`.

    Args:
        average: `None` for one score a class, `"micro"` for one of all samples, `"macro"` for the
            mean over classes, `"weighted"` for that mean weighted by how often a class occurs.
        beta: How much more recall counts than precision; above 0.
        threshold: Above it a score counts as positive; `None` for the highest score only.
        name: Name.
        dtype: Dtype of the result.

    Raises:
        ArgumentError: If an argument is out of range.
    """

    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if average not in _AVERAGES:
            raise ArgumentError(
                f"Invalid `average` argument value. Expected one of: {_AVERAGES}. "
                + received(average=average)
            )
        if not isinstance(beta, float) or beta <= 0.0:
            raise ArgumentError(
                "Invalid `beta` argument value. It should be a Python float, and be > 0. "
                + received(beta=beta, type=type(beta))
            )
        if threshold is not None and not (isinstance(threshold, float) and 0 < threshold <= 1):
            raise ArgumentError(
                "Invalid `threshold` argument value. It should be a Python float, and verify "
                f"0 < threshold <= 1. {received(threshold=threshold, type=type(threshold))}"
            )
        self.average, self.beta, self.threshold = average, beta, threshold
        self.axis = None if average == "micro" else 0
        self._built = False

    def _build(self, shape):
        if len(shape) != 2:
            raise ShapeError(
                f"{type(self).__name__} expects 2D inputs with shape (batch_size, output_dim). "
                + received(shape=shape)
            )
        size = () if self.average == "micro" else shape[-1:]
        self.true_positives = self._zeros(size, "true_positives")
        self.false_positives = self._zeros(size, "false_positives")
        self.false_negatives = self._zeros(size, "false_negatives")
        self.intermediate_weights = self._zeros(size, "intermediate_weights")
        self._built = True

    def _zeros(self, shape, name):
        return self.add_variable(shape, "zeros", dtype=self.dtype, name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one more batch into account.

        Args:
            y_true: Targets 0 and 1, shape `(batch, classes)`.
            y_pred: Scores, of the same shape.
            sample_weight: Weights of the samples, shape `(batch,)`.
        """
        y_true, y_pred = matched(y_true, ops.cast(y_pred, self.dtype))
        if not self._built:
            self._build(y_pred.shape)
        if self.threshold is None:
            highest = ops.equal(y_pred, ops.max(y_pred, axis=-1, keepdims=True))
            chosen = ops.logical_and(highest, ops.absolute(y_pred) > 1e-9)
        else:
            chosen = y_pred > self.threshold
        y_pred = cast_to(chosen, y_true.dtype)
        weight: Any = None
        if sample_weight is not None:
            weight = cast_to(as_tensor(sample_weight), numpy_dtype(self.dtype))
            weight = ops.expand_dims(weight, 1)
        for variable, counted in (
            (self.true_positives, y_pred * y_true),
            (self.false_positives, y_pred * (1.0 - y_true)),
            (self.false_negatives, (1.0 - y_pred) * y_true),
            (self.intermediate_weights, y_true),
        ):
            counted = counted if weight is None else counted * weight
            variable.assign(variable.value + ops.sum(counted, axis=self.axis))

    def result(self) -> Any:
        """Returns the score."""
        tp, small = self.true_positives.value, config.epsilon()
        precision = tp / (tp + self.false_positives.value + small)
        recall = tp / (tp + self.false_negatives.value + small)
        more = self.beta**2
        scores = precision * recall / (precision * more + recall + small) * (1 + more)
        if self.average == "weighted":
            weights = self.intermediate_weights.value
            return ops.sum(scores * (weights / (ops.sum(weights) + small)))
        return scores if self.average is None else ops.mean(scores)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


@serializable("keras.metrics")
class F1Score(FBetaScore):
    """Harmonic mean of precision and recall.

    Args:
        average: See `FBetaScore`.
        threshold: See `FBetaScore`.
        name: Name.
        dtype: Dtype of the result.

    Raises:
        ArgumentError: If an argument is out of range.

    Example:
        >>> score = F1Score(average="macro", threshold=0.5)
        >>> round(score([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]).item(), 4)
        1.0
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average=average, beta=1.0, threshold=threshold, name=name, dtype=dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["beta"]
        return config
