"""Means of the losses of classifiers and distributions."""

from typing import Any

from gpunet.metrics.reduction import BuiltinMean
from gpunet.ops import classification_loss, loss
from gpunet.saving import serializable


@serializable("keras.metrics")
class KLDivergence(BuiltinMean):
    """Mean of `sum(y_true * log(y_true / y_pred))`.

    Args:
        name: Name.
        dtype: Dtype of the result.
    """

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None):
        super().__init__(loss.kl_divergence, name, dtype)


@serializable("keras.metrics")
class Poisson(BuiltinMean):
    """Mean of `y_pred - y_true * log(y_pred)`; arguments as of `KLDivergence`."""

    def __init__(self, name: str | None = "poisson", dtype: Any = None):
        super().__init__(loss.poisson, name, dtype)


@serializable("keras.metrics")
class BinaryCrossentropy(BuiltinMean):
    """Mean cross-entropy of targets 0 and 1.

    Args:
        name: Name.
        dtype: Dtype of the result.
        from_logits: Whether predictions are logits.
        label_smoothing: How far targets are moved towards 1/2.
    """

    _direction, _options = "down", ("from_logits", "label_smoothing")

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ):
        super().__init__(
            classification_loss.binary_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )
        self.from_logits, self.label_smoothing = from_logits, label_smoothing


@serializable("keras.metrics")
class CategoricalCrossentropy(BuiltinMean):
    """Mean cross-entropy of one-hot targets.

    Args:
        name: Name.
        dtype: Dtype of the result.
        from_logits: Whether predictions are logits.
        label_smoothing: How far targets are moved towards `1 / classes`.
        axis: Axis of the classes.
    """

    _direction, _options = "down", ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ):
        super().__init__(
            classification_loss.categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


@serializable("keras.metrics")
class SparseCategoricalCrossentropy(BuiltinMean):
    """Mean cross-entropy of integer labels.

    Args:
        name: Name.
        dtype: Dtype of the result.
        from_logits: Whether predictions are logits.
        ignore_class: A label whose samples do not count.
        axis: Axis of the classes.
    """

    _direction, _options = "down", ("from_logits", "ignore_class", "axis")

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        super().__init__(
            classification_loss.sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis


@serializable("keras.metrics")
class Hinge(BuiltinMean):
    """Mean of `max(1 - y_true * y_pred, 0)`; arguments as of `KLDivergence`."""

    _direction = "down"

    def __init__(self, name: str | None = "hinge", dtype: Any = None):
        super().__init__(loss.hinge, name, dtype)


@serializable("keras.metrics")
class SquaredHinge(BuiltinMean):
    """Mean of `max(1 - y_true * y_pred, 0)**2`; arguments as of `KLDivergence`."""

    _direction = "down"

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None):
        super().__init__(loss.squared_hinge, name, dtype)


@serializable("keras.metrics")
class CategoricalHinge(BuiltinMean):
    """Mean margin of the right class; arguments as of `KLDivergence`."""

    _direction = "down"

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None):
        super().__init__(loss.categorical_hinge, name, dtype)
