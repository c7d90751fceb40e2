"""Errors of numbers, and how much of their variance is explained."""

from typing import Any

from gpunet import ops
from gpunet.core.tensor import as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.metrics.metric import Metric
from gpunet.metrics.reduction import BuiltinMean, Mean
from gpunet.ops import loss as functions
from gpunet.ops.elementwise import cast_to
from gpunet.saving import serializable


@serializable("keras.metrics")
class MeanSquaredError(BuiltinMean):
    """Mean of `(y_true - y_pred)**2`.

    Args:
        name: Name.
        dtype: Dtype of the result.

    Example:
        >>> MeanSquaredError()([[0.0], [0.0]], [[1.0], [3.0]]).item()
        5.0
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None):
        super().__init__(functions.mean_squared_error, name, dtype)


@serializable("keras.metrics")
class MeanAbsoluteError(BuiltinMean):
    """Mean of `|y_true - y_pred|`; arguments as of `MeanSquaredError`."""

    _direction = "down"

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None):
        super().__init__(functions.mean_absolute_error, name, dtype)


@serializable("keras.metrics")
class MeanAbsolutePercentageError(BuiltinMean):
    """Mean of `100 * |(y_true - y_pred) / y_true|`; arguments as of `MeanSquaredError`."""

    _direction = "down"

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(functions.mean_absolute_percentage_error, name, dtype)


@serializable("keras.metrics")
class MeanSquaredLogarithmicError(BuiltinMean):
    """Mean of `(log(y_true + 1) - log(y_pred + 1))**2`; arguments as of `MeanSquaredError`."""

    _direction = "down"

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(functions.mean_squared_logarithmic_error, name, dtype)


@serializable("keras.metrics")
class RootMeanSquaredError(Mean):
    """Root of the mean of `(y_true - y_pred)**2`; arguments as of `MeanSquaredError`."""

    _direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype=dtype)

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes one more batch into account."""
        y_true, y_pred = functions.matched(y_true, ops.cast(y_pred, self.dtype))
        super().update_state(ops.square(y_pred - y_true), sample_weight=sample_weight)

    def result(self) -> Any:
        """Returns the root of the mean."""
        return ops.sqrt(super().result())


@serializable("keras.metrics")
class CosineSimilarity(BuiltinMean):
    """Mean cosine of the angle between targets and predictions: 1 is best.

    Args:
        name: Name.
        dtype: Dtype of the result.
        axis: Axis of the vectors.
    """

    _direction = "up"

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1):
        super().__init__(functions.cosine_proximity, name, dtype, axis=axis)


@serializable("keras.metrics")
class LogCoshError(BuiltinMean):
    """Mean of `log(cosh(y_pred - y_true))`; arguments as of `MeanSquaredError`."""

    _direction = "down"

    def __init__(self, name: str | None = "logcosh", dtype: Any = None):
        super().__init__(functions.log_cosh, name, dtype)


_AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")


@serializable("keras.metrics")
class R2Score(Metric):
    """Coefficient of determination: 1 minus the squared error over the variance of the targets.

    Args:
        class_aggregation: How the outputs become one number: `"uniform_average"`,
            `"variance_weighted_average"`, or `None` for one number each.
        num_regressors: For the adjusted score, how many inputs the model has; 0 for the plain one.
        name: Name.
        dtype: Dtype of the result.

    Raises:
        ArgumentError: If an argument is out of range.

    Example:
        >>> score = R2Score()([[1.0], [4.0], [3.0]], [[2.0], [4.0], [4.0]])
        >>> round(score.item(), 4)
        0.5714
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in _AGGREGATIONS:
            raise ArgumentError(
                f"Invalid value for argument `class_aggregation`. Expected one of {_AGGREGATIONS}. "
                + received(class_aggregation=class_aggregation)
            )
        if num_regressors < 0:
            raise ArgumentError(
                "Invalid value for argument `num_regressors`. Expected a value >= 0. "
                + received(num_regressors=num_regressors)
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), "zeros", name="num_samples")
        self._built = False

    def _build(self, y_true_shape, y_pred_shape):
        if len(y_pred_shape) != 2 or len(y_true_shape) != 2:
            raise ShapeError(
                "R2Score expects 2D inputs with shape (batch_size, output_dim). "
                + received(y_pred=y_pred_shape, y_true=y_true_shape)
            )
        shape = (y_pred_shape[-1],)
        self.squared_sum = self.add_variable(shape, "zeros", name="squared_sum")
        self.sum = self.add_variable(shape, "zeros", name="sum")
        self.total_mse = self.add_variable(shape, "zeros", name="residual")
        self.count = self.add_variable(shape, "zeros", name="count")
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one more batch into account."""
        y_true, y_pred = functions.matched(y_true, ops.cast(y_pred, self.dtype))
        if not self._built:
            self._build(y_true.shape, y_pred.shape)
        weight = as_tensor(1.0 if sample_weight is None else sample_weight)
        weight = cast_to(weight, y_true.dtype)
        if weight.ndim == 1:
            weight = ops.expand_dims(weight, axis=1)
        weight = ops.broadcast_to(weight, y_true.shape)
        weighted = y_true * weight
        error = ops.square(y_true - y_pred) * weight
        for variable, batch in (
            (self.sum, weighted),
            (self.squared_sum, y_true * weighted),
            (self.total_mse, error),
            (self.count, weight),
        ):
            variable.assign(variable.value + ops.sum(batch, axis=0))
        self.num_samples.assign(self.num_samples.value + float(y_true.size))

    def result(self) -> Any:
        """Returns the score."""
        total = self.squared_sum.value - ops.square(self.sum.value) / self.count.value
        scores = 1.0 - self.total_mse.value / total
        scores = ops.where(ops.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ops.sum(total * scores) / ops.sum(total)
        if self.num_regressors == 0:
            return scores
        # With too few samples for an adjusted score, the plain one.
        left = self.num_samples.value - (self.num_regressors + 1.0)
        adjusted = 1.0 - (1.0 - scores) * (self.num_samples.value - 1.0) / ops.maximum(left, 1.0)
        return ops.where(left > 0, adjusted, scores)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }
