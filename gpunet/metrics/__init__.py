"""Metrics, as classes that gather over batches and as functions of one batch."""

from typing import Any

from gpunet.metrics.accuracy import Accuracy as Accuracy
from gpunet.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from gpunet.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from gpunet.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from gpunet.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from gpunet.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from gpunet.metrics.accuracy import binary_accuracy as binary_accuracy
from gpunet.metrics.accuracy import categorical_accuracy as categorical_accuracy
from gpunet.metrics.accuracy import sparse_categorical_accuracy as sparse_categorical_accuracy
from gpunet.metrics.accuracy import (
    sparse_top_k_categorical_accuracy as sparse_top_k_categorical_accuracy,
)
from gpunet.metrics.accuracy import top_k_categorical_accuracy as top_k_categorical_accuracy
from gpunet.metrics.confusion import FalseNegatives as FalseNegatives
from gpunet.metrics.confusion import FalsePositives as FalsePositives
from gpunet.metrics.confusion import Precision as Precision
from gpunet.metrics.confusion import Recall as Recall
from gpunet.metrics.confusion import TrueNegatives as TrueNegatives
from gpunet.metrics.confusion import TruePositives as TruePositives
from gpunet.metrics.curve import AUC as AUC
from gpunet.metrics.curve import PrecisionAtRecall as PrecisionAtRecall
from gpunet.metrics.curve import RecallAtPrecision as RecallAtPrecision
from gpunet.metrics.curve import SensitivityAtSpecificity as SensitivityAtSpecificity
from gpunet.metrics.curve import SpecificityAtSensitivity as SpecificityAtSensitivity
from gpunet.metrics.f_score import F1Score as F1Score
from gpunet.metrics.f_score import FBetaScore as FBetaScore
from gpunet.metrics.metric import Metric as Metric
from gpunet.metrics.probabilistic import BinaryCrossentropy as BinaryCrossentropy
from gpunet.metrics.probabilistic import CategoricalCrossentropy as CategoricalCrossentropy
from gpunet.metrics.probabilistic import CategoricalHinge as CategoricalHinge
from gpunet.metrics.probabilistic import Hinge as Hinge
from gpunet.metrics.probabilistic import KLDivergence as KLDivergence
from gpunet.metrics.probabilistic import Poisson as Poisson
from gpunet.metrics.probabilistic import (
    SparseCategoricalCrossentropy as SparseCategoricalCrossentropy,
)
from gpunet.metrics.probabilistic import SquaredHinge as SquaredHinge
from gpunet.metrics.reduction import Mean as Mean
from gpunet.metrics.reduction import MeanMetricWrapper as MeanMetricWrapper
from gpunet.metrics.reduction import Sum as Sum
from gpunet.metrics.regression import CosineSimilarity as CosineSimilarity
from gpunet.metrics.regression import LogCoshError as LogCoshError
from gpunet.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
from gpunet.metrics.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from gpunet.metrics.regression import MeanSquaredError as MeanSquaredError
from gpunet.metrics.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from gpunet.metrics.regression import R2Score as R2Score
from gpunet.metrics.regression import RootMeanSquaredError as RootMeanSquaredError
from gpunet.ops.classification_loss import binary_crossentropy as binary_crossentropy
from gpunet.ops.classification_loss import binary_focal_crossentropy as binary_focal_crossentropy
from gpunet.ops.classification_loss import categorical_crossentropy as categorical_crossentropy
from gpunet.ops.classification_loss import (
    categorical_focal_crossentropy as categorical_focal_crossentropy,
)
from gpunet.ops.classification_loss import (
    sparse_categorical_crossentropy as sparse_categorical_crossentropy,
)
from gpunet.ops.loss import categorical_hinge as categorical_hinge
from gpunet.ops.loss import hinge as hinge
from gpunet.ops.loss import huber as huber
from gpunet.ops.loss import kl_divergence as kl_divergence
from gpunet.ops.loss import log_cosh as log_cosh
from gpunet.ops.loss import mean_absolute_error as mean_absolute_error
from gpunet.ops.loss import mean_absolute_percentage_error as mean_absolute_percentage_error
from gpunet.ops.loss import mean_squared_error as mean_squared_error
from gpunet.ops.loss import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from gpunet.ops.loss import poisson as poisson
from gpunet.ops.loss import squared_hinge as squared_hinge
from gpunet.saving import serializable, serialize_keras_object
from gpunet.saving.lookup import Names

_CLASSES = [
    AUC,
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    F1Score,
    FBetaScore,
    FalseNegatives,
    FalsePositives,
    Hinge,
    KLDivergence,
    LogCoshError,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanMetricWrapper,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Metric,
    Poisson,
    Precision,
    PrecisionAtRecall,
    R2Score,
    Recall,
    RecallAtPrecision,
    RootMeanSquaredError,
    SensitivityAtSpecificity,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    SpecificityAtSensitivity,
    SquaredHinge,
    Sum,
    TopKCategoricalAccuracy,
    TrueNegatives,
    TruePositives,
]
_FUNCTIONS = [
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
]
for _function in _FUNCTIONS:
    serializable("keras.metrics")(_function)
_SHORT = {
    "bce": BinaryCrossentropy,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "mse": MeanSquaredError,
    "msle": MeanSquaredLogarithmicError,
}
_NAMES = Names(
    "metric",
    "keras.metrics",
    _CLASSES,
    {**_SHORT, **{name.upper(): cls for name, cls in _SHORT.items()}},
)


def serialize(metric: Any) -> Any:
    """Returns the config of a metric."""
    return serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the metric of a config or name.

    Raises:
        ArgumentError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the metric that a name, config, class, callable or `None` stands for.

    Args:
        identifier: For example `"mae"`, `"AUC"`, `"sparse_categorical_accuracy"`, a config, a
            `Metric`, or a function of `y_true` and `y_pred`.

    Raises:
        ArgumentError: If the identifier means no metric.

    Example:
        >>> get("mae")
        <MeanAbsoluteError name=mean_absolute_error>
    """
    return None if identifier is None else _NAMES.get(identifier)
