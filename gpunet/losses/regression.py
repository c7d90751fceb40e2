"""Losses of numbers, margins and overlaps."""

from typing import Any

from gpunet.losses.loss import BuiltinLoss
from gpunet.ops import loss as functions
from gpunet.saving import serializable

_MEAN = "sum_over_batch_size"


@serializable("keras.losses")
class MeanSquaredError(BuiltinLoss):
    """Mean of `(y_true - y_pred)**2`.

    Args:
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.

    Example:
        >>> MeanSquaredError()([[0.0, 1.0]], [[1.0, 1.0]]).item()
        0.5
    """

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str | None = "mean_squared_error",
        dtype: Any = None,
    ):
        super().__init__(functions.mean_squared_error, reduction, name, dtype)


@serializable("keras.losses")
class MeanAbsoluteError(BuiltinLoss):
    """Mean of `|y_true - y_pred|`; arguments as of `MeanSquaredError`."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str | None = "mean_absolute_error",
        dtype: Any = None,
    ):
        super().__init__(functions.mean_absolute_error, reduction, name, dtype)


@serializable("keras.losses")
class MeanAbsolutePercentageError(BuiltinLoss):
    """Mean of `100 * |(y_true - y_pred) / y_true|`; arguments as of `MeanSquaredError`."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str | None = "mean_absolute_percentage_error",
        dtype: Any = None,
    ):
        super().__init__(functions.mean_absolute_percentage_error, reduction, name, dtype)


@serializable("keras.losses")
class MeanSquaredLogarithmicError(BuiltinLoss):
    """Mean of `(log(y_true + 1) - log(y_pred + 1))**2`; arguments as of `MeanSquaredError`."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str | None = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ):
        super().__init__(functions.mean_squared_logarithmic_error, reduction, name, dtype)


@serializable("keras.losses")
class CosineSimilarity(BuiltinLoss):
    """Minus the cosine of the angle between targets and predictions: -1 is best.

    Args:
        axis: Axis of the vectors.
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str | None = "cosine_similarity",
        dtype: Any = None,
    ):
        super().__init__(functions.cosine_similarity, reduction, name, dtype, axis=axis)


@serializable("keras.losses")
class Huber(BuiltinLoss):
    """Mean of `e**2 / 2` for errors up to `delta`, and of `delta * (|e| - delta / 2)` beyond.

    Huber, "Robust estimation of a location parameter", 1964.

    Args:
        delta: Where the square goes over into a line.
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = _MEAN,
        name: str | None = "huber_loss",
        dtype: Any = None,
    ):
        super().__init__(functions.huber, reduction, name, dtype, delta=delta)


@serializable("keras.losses")
class LogCosh(BuiltinLoss):
    """Mean of `log(cosh(y_pred - y_true))`; arguments as of `MeanSquaredError`."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str | None = "log_cosh", dtype: Any = None
    ):
        super().__init__(functions.log_cosh, reduction, name, dtype)


@serializable("keras.losses")
class Hinge(BuiltinLoss):
    """Mean of `max(1 - y_true * y_pred, 0)`; arguments as of `MeanSquaredError`."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str | None = "hinge", dtype: Any = None
    ):
        super().__init__(functions.hinge, reduction, name, dtype)


@serializable("keras.losses")
class SquaredHinge(BuiltinLoss):
    """Mean of `max(1 - y_true * y_pred, 0)**2`; arguments as of `MeanSquaredError`."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str | None = "squared_hinge", dtype: Any = None
    ):
        super().__init__(functions.squared_hinge, reduction, name, dtype)


@serializable("keras.losses")
class CategoricalHinge(BuiltinLoss):
    """Margin between the right class and the best wrong one; arguments as of `MeanSquaredError`."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str | None = "categorical_hinge",
        dtype: Any = None,
    ):
        super().__init__(functions.categorical_hinge, reduction, name, dtype)


@serializable("keras.losses")
class KLDivergence(BuiltinLoss):
    """Sum of `y_true * log(y_true / y_pred)`; arguments as of `MeanSquaredError`."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str | None = "kl_divergence", dtype: Any = None
    ):
        super().__init__(functions.kl_divergence, reduction, name, dtype)


@serializable("keras.losses")
class Poisson(BuiltinLoss):
    """Mean of `y_pred - y_true * log(y_pred)`; arguments as of `MeanSquaredError`."""

    def __init__(
        self, reduction: str | None = _MEAN, name: str | None = "poisson", dtype: Any = None
    ):
        super().__init__(functions.poisson, reduction, name, dtype)


@serializable("keras.losses")
class Dice(BuiltinLoss):
    """One minus twice the overlap over the sum of the areas.

    Args:
        reduction: See `Loss`.
        name: Name.
        axis: Axes summed over; `None` for all.
        dtype: See `Loss`.
    """

    _options = ("axis",)

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str | None = "dice",
        axis: Any = None,
        dtype: Any = None,
    ):
        super().__init__(functions.dice, reduction, name, dtype, axis=axis)
        self.axis = axis


@serializable("keras.losses")
class Tversky(BuiltinLoss):
    """One minus an overlap in which the two kinds of errors weigh `alpha` and `beta`.

    Salehi et al., "Tversky loss function for image segmentation", 2017.

    Args:
        alpha: Weight of what the targets have and the predictions lack.
        beta: Weight of what the predictions have and the targets lack.
        reduction: See `Loss`.
        name: Name.
        axis: Axes summed over; `None` for all.
        dtype: See `Loss`.
    """

    _options = ("alpha", "beta", "axis")

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = _MEAN,
        name: str | None = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            functions.tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis
        )
        self.alpha, self.beta, self.axis = alpha, beta, axis
