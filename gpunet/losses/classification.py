"""Losses of classifiers."""

from typing import Any

from gpunet.errors import ArgumentError, received
from gpunet.losses.loss import BuiltinLoss
from gpunet.ops import classification_loss as functions
from gpunet.saving import serializable

_MEAN = "sum_over_batch_size"


@serializable("keras.losses")
class BinaryCrossentropy(BuiltinLoss):
    """Cross-entropy of targets 0 and 1.

    Args:
        from_logits: Whether predictions are logits rather than probabilities; more exact.
        label_smoothing: How far targets are moved towards 1/2, 0 to 1.
        axis: Axis of the mean.
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.

    Example:
        >>> round(BinaryCrossentropy(from_logits=True)([[1.0]], [[0.0]]).item(), 4)
        0.6931
    """

    _options = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            functions.binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


@serializable("keras.losses")
class BinaryFocalCrossentropy(BuiltinLoss):
    """Binary cross-entropy in which easy samples weigh `(1 - p)**gamma`.

    Lin et al., "Focal loss for dense object detection", 2018.

    Args:
        apply_class_balancing: Whether class 1 weighs `alpha` and class 0 `1 - alpha`.
        alpha: Weight of class 1.
        gamma: How much easy samples are weighed down.
        from_logits: Whether predictions are logits.
        label_smoothing: How far targets are moved towards 1/2.
        axis: Axis of the mean.
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.
    """

    _options = (
        "from_logits",
        "label_smoothing",
        "axis",
        "apply_class_balancing",
        "alpha",
        "gamma",
    )

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            functions.binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.apply_class_balancing, self.alpha, self.gamma = apply_class_balancing, alpha, gamma
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


@serializable("keras.losses")
class CategoricalCrossentropy(BuiltinLoss):
    """Cross-entropy of one-hot targets.

    Args:
        from_logits: Whether predictions are logits rather than probabilities; more exact.
        label_smoothing: How far targets are moved towards `1 / classes`, 0 to 1.
        axis: Axis of the classes.
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.
    """

    _options = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            functions.categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


@serializable("keras.losses")
class CategoricalFocalCrossentropy(BuiltinLoss):
    """Cross-entropy of one-hot targets in which easy samples weigh `(1 - p)**gamma`.

    Lin et al., "Focal loss for dense object detection", 2018.

    Args:
        alpha: Weight of all classes.
        gamma: How much easy samples are weighed down.
        from_logits: Whether predictions are logits.
        label_smoothing: How far targets are moved towards `1 / classes`.
        axis: Axis of the classes.
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.
    """

    _options = ("from_logits", "label_smoothing", "axis", "alpha", "gamma")

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            functions.categorical_focal_crossentropy,
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.alpha, self.gamma = alpha, gamma
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


@serializable("keras.losses")
class SparseCategoricalCrossentropy(BuiltinLoss):
    """Cross-entropy of integer labels.

    Args:
        from_logits: Whether predictions are logits rather than probabilities; more exact.
        ignore_class: A label whose samples do not count.
        reduction: See `Loss`.
        axis: Axis of the classes.
        name: Name.
        dtype: See `Loss`.

    Example:
        >>> loss = SparseCategoricalCrossentropy(from_logits=True)
        >>> round(loss([1, 0], [[0.0, 0.0], [0.0, 0.0]]).item(), 4)
        0.6931
    """

    _options = ("from_logits", "ignore_class")
    _keeps_integer_targets = True

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = _MEAN,
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            functions.sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )
        self.from_logits, self.ignore_class = from_logits, ignore_class

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of the samples."""
        return self.fn(y_true, y_pred, **self._fn_kwargs)


@serializable("keras.losses")
class CategoricalGeneralizedCrossEntropy(BuiltinLoss):
    """Loss `(1 - p**q) / q` of integer labels: robust against wrong ones.

    Zhang, Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy
    labels", 2018.

    Args:
        q: Between cross-entropy (0) and mean absolute error (1).
        reduction: See `Loss`.
        name: Name.
        dtype: See `Loss`.

    Raises:
        ArgumentError: If `q` is not between 0 and 1.
    """

    _options = ("q",)
    _keeps_integer_targets = True

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = _MEAN,
        name: str | None = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        if not 0 < q < 1:
            raise ArgumentError(f"q must be in the interval (0, 1). {received(q=q)}")
        super().__init__(
            functions.categorical_generalized_cross_entropy, reduction, name, dtype, q=q
        )
        self.q = q

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of the samples."""
        return self.fn(y_true, y_pred, **self._fn_kwargs)
