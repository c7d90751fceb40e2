"""Losses, as classes and as functions of one loss for each sample."""

from typing import Any

from gpunet.losses.classification import BinaryCrossentropy as BinaryCrossentropy
from gpunet.losses.classification import BinaryFocalCrossentropy as BinaryFocalCrossentropy
from gpunet.losses.classification import CategoricalCrossentropy as CategoricalCrossentropy
from gpunet.losses.classification import (
    CategoricalFocalCrossentropy as CategoricalFocalCrossentropy,
)
from gpunet.losses.classification import (
    CategoricalGeneralizedCrossEntropy as CategoricalGeneralizedCrossEntropy,
)
from gpunet.losses.classification import (
    SparseCategoricalCrossentropy as SparseCategoricalCrossentropy,
)
from gpunet.losses.loss import Loss as Loss
from gpunet.losses.loss import LossFunctionWrapper as LossFunctionWrapper
from gpunet.losses.regression import CategoricalHinge as CategoricalHinge
from gpunet.losses.regression import CosineSimilarity as CosineSimilarity
from gpunet.losses.regression import Dice as Dice
from gpunet.losses.regression import Hinge as Hinge
from gpunet.losses.regression import Huber as Huber
from gpunet.losses.regression import KLDivergence as KLDivergence
from gpunet.losses.regression import LogCosh as LogCosh
from gpunet.losses.regression import MeanAbsoluteError as MeanAbsoluteError
from gpunet.losses.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from gpunet.losses.regression import MeanSquaredError as MeanSquaredError
from gpunet.losses.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from gpunet.losses.regression import Poisson as Poisson
from gpunet.losses.regression import SquaredHinge as SquaredHinge
from gpunet.losses.regression import Tversky as Tversky
from gpunet.ops.classification_loss import binary_crossentropy as binary_crossentropy
from gpunet.ops.classification_loss import binary_focal_crossentropy as binary_focal_crossentropy
from gpunet.ops.classification_loss import categorical_crossentropy as categorical_crossentropy
from gpunet.ops.classification_loss import (
    categorical_focal_crossentropy as categorical_focal_crossentropy,
)
from gpunet.ops.classification_loss import (
    categorical_generalized_cross_entropy as categorical_generalized_cross_entropy,
)
from gpunet.ops.classification_loss import (
    sparse_categorical_crossentropy as sparse_categorical_crossentropy,
)
from gpunet.ops.loss import categorical_hinge as categorical_hinge
from gpunet.ops.loss import cosine_similarity as cosine_similarity
from gpunet.ops.loss import dice as dice
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
from gpunet.ops.loss import tversky as tversky
from gpunet.saving import serializable, serialize_keras_object
from gpunet.saving.lookup import Names

_CLASSES = [
    Loss,
    LossFunctionWrapper,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Tversky,
]
_FUNCTIONS = [
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    cosine_similarity,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
]
for _function in _FUNCTIONS:
    serializable("keras.losses")(_function)
_SHORT = {
    "bce": binary_crossentropy,
    "kld": kl_divergence,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "mse": mean_squared_error,
    "msle": mean_squared_logarithmic_error,
}
_NAMES = Names(
    "loss",
    "keras.losses",
    [*_CLASSES, *_FUNCTIONS],
    {**_SHORT, **{name.upper(): f for name, f in _SHORT.items()}},
)


def serialize(loss: Any) -> Any:
    """Returns the config of a loss."""
    return serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: dict | None = None) -> Any:
    """Returns the loss of a config or name.

    Raises:
        ArgumentError: If nothing has that name.
    """
    return _NAMES.deserialize(name, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the loss that a name, config, class, callable or `None` stands for.

    Args:
        identifier: For example `"mse"`, `"sparse_categorical_crossentropy"` (functions),
            `"MeanSquaredError"` (an instance), a config, a `Loss`, or a function of `y_true` and
            `y_pred`.

    Raises:
        ArgumentError: If the identifier means no loss.

    Example:
        >>> get("mse").__name__
        'mean_squared_error'
    """
    return None if identifier is None else _NAMES.get(identifier)
