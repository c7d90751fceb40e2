"""What every loss shares: dtype, masks, sample weights and the reduction."""

from collections.abc import Callable
from typing import Any

from gpunet import dtype_policies, tree
from gpunet.config import floatx
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.dtypes import is_float, numpy_dtype
from gpunet.naming import auto_name
from gpunet.ops.elementwise import cast_to
from gpunet.ops.loss import (
    reduce_weighted_values,
    squeeze_or_expand_to_same_rank,
    standardize_reduction,
)
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object


@serializable("keras.losses")
class Loss:
    """Base class of losses: subclasses define `call(y_true, y_pred)`.

    Args:
        name: Name; default one made from the class.
        reduction: How the losses of the samples become one number: `"sum_over_batch_size"` and
            `"mean"` divide their weighted sum by their number, `"mean_with_sample_weight"` by the
            sum of the weights, `"sum"` does not divide, `"none"` or `None` keeps them apart.
        dtype: Dtype of the computation, or a dtype policy; default `floatx()`.

    Raises:
        ArgumentError: If the reduction is unknown.

    Example:
        >>> import gpunet
        >>> class Worst(Loss):
        ...     def call(self, y_true, y_pred):
        ...         return gpunet.ops.max(gpunet.ops.abs(y_true - y_pred), axis=-1)
        >>> Worst()([[0.0, 0.0]], [[1.0, 3.0]]).item()
        3.0
    """

    _keeps_integer_targets = False  # labels stay integers where `call` looks classes up

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.name = name or auto_name(type(self).__name__)
        self.reduction = standardize_reduction(reduction)
        self._dtype_policy = dtype_policies.get(dtype or floatx())
        self._dtype = self._dtype_policy.compute_dtype

    @property
    def dtype(self) -> str:
        """The dtype in which the loss is computed."""
        return self._dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Returns the loss of a batch.

        Args:
            y_true: Targets.
            y_pred: Predictions; a mask on them (`_keras_mask`) says which count.
            sample_weight: Weights of the samples: the shape of the samples' losses, or length 1 in
                some axes.

        Returns:
            A scalar; the losses of the samples where the reduction is `"none"`.

        Raises:
            ShapeError: If targets, predictions and weights do not go together.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        y_pred = self._converted(y_pred)
        y_true = self._converted(y_true, self._keeps_integer_targets)
        values = self.call(y_true, y_pred)
        valid = getattr(values, "_keras_mask", None)
        if valid is not None:
            mask = valid if mask is None else mask & valid
        values = cast_to(as_tensor(values), numpy_dtype(self._dtype))
        return reduce_weighted_values(values, sample_weight, mask, self.reduction)

    def _converted(self, x, keep_integers=False):
        if isinstance(x, (dict, list, tuple)) and _holds_arrays(x):
            return tree.map_structure(lambda leaf: self._converted(leaf, keep_integers), x)
        x = as_tensor(x)
        if keep_integers and not is_float(x.dtype):
            return x
        return cast_to(x, numpy_dtype(self._dtype))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of the samples; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define `call`.")

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict) -> "Loss":
        """Makes a loss from what `get_config` returned."""
        return cls(**config)


def _holds_arrays(nest):
    """Tells nests of several targets from lists of numbers that stand for one."""
    return isinstance(nest, dict) or any(
        hasattr(leaf, "shape") and leaf.shape != () for leaf in tree.flatten(nest)
    )


@serializable("keras.losses")
class LossFunctionWrapper(Loss):
    """A loss from a function `fn(y_true, y_pred, **kwargs)` of the samples' losses.

    Args:
        fn: The function.
        reduction: See `Loss`.
        name: Name; default one made from the class.
        dtype: See `Loss`.
        **kwargs: Passed on to the function.
    """

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of the samples."""
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        else:
            pairs = tree.map_structure_up_to(y_true, squeeze_or_expand_to_same_rank, y_true, y_pred)
            y_pred = tree.map_structure_up_to(y_true, lambda pair: pair[1], pairs)
            y_true = tree.map_structure_up_to(y_true, lambda pair: pair[0], pairs)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "fn": serialize_keras_object(self.fn),
            **serialize_keras_object(self._fn_kwargs),
        }

    @classmethod
    def from_config(cls, config: dict) -> "LossFunctionWrapper":
        """Makes a loss from what `get_config` returned."""
        return cls(**(deserialize_keras_object(config) if "fn" in config else config))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.fn}, kwargs={self._fn_kwargs})>"


class BuiltinLoss(LossFunctionWrapper):
    """A loss of gpunet: its function is known by its class, so the config holds options only."""

    _options: tuple[str, ...] = ()

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        options = {name: getattr(self, name) for name in self._options}
        return {**Loss.get_config(self), **options}
