"""Sums and means over everything that was seen, and metrics made from functions of one batch."""

from collections.abc import Callable
from typing import Any

from gpunet import ops
from gpunet.core.tensor import as_tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ShapeError, received
from gpunet.metrics.metric import Metric
from gpunet.ops.elementwise import cast_to
from gpunet.ops.loss import apply_mask, squeeze_or_expand_to_same_rank
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object


def reduce_to_samplewise_values(
    values: Any, sample_weight: Any, reduce_fn: Callable, dtype: Any
) -> tuple:
    """Returns one weighted value for each sample, and the samples' weights (or `None`).

    Args:
        values: Tensor whose first axis is the samples.
        sample_weight: Weights of samples, or of parts of them; or `None`.
        reduce_fn: `ops.sum` or `ops.mean`: what makes one value of the parts of a sample.
        dtype: Dtype of the result.

    Raises:
        ShapeError: If the weights do not go with the values.
    """
    mask = getattr(values, "_keras_mask", None)
    values = cast_to(as_tensor(values), numpy_dtype(dtype))
    if sample_weight is not None:
        weight = cast_to(as_tensor(sample_weight, device=values.device), values.dtype)
        weight = apply_mask(weight, mask, dtype, "sum")
        values, weight = squeeze_or_expand_to_same_rank(values, weight)
        rank = weight.ndim
        fits = zip(weight.shape, values.shape, strict=False)
        if rank > values.ndim or any(w not in (1, n) for w, n in fits):
            raise ShapeError(
                "`sample_weight` must have the first axes of the values, or length 1 in them. "
                + received(sample_weight=weight.shape, values=values.shape)
            )
        if values.ndim > rank:
            values = reduce_fn(values, axis=tuple(range(rank, values.ndim)))
        if weight.shape != values.shape:
            weight = ops.broadcast_to(weight, values.shape)
        values = values * weight
        if rank > 1:
            weight = reduce_fn(weight, axis=tuple(range(1, rank)))
        sample_weight = weight
    if values.ndim > 1:
        values = reduce_fn(values, axis=tuple(range(1, values.ndim)))
    return values, sample_weight


@serializable("keras.metrics")
class Sum(Metric):
    """The (weighted) sum of all values.

    Args:
        name: Name.
        dtype: Dtype of the result.

    Example:
        >>> total = Sum()
        >>> total.update_state([1, 2]), total.update_state([3])
        (None, None)
        >>> total.result().item()
        6.0
    """

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values, each times its weight."""
        values, _ = reduce_to_samplewise_values(values, sample_weight, ops.sum, self.dtype)
        self.total.assign(self.total.value + ops.sum(values))

    def reset_state(self) -> None:
        """Starts again from 0."""
        self.total.assign(0)

    def result(self) -> Any:
        """Returns the sum."""
        return ops.cast(self.total, self.dtype)


@serializable("keras.metrics")
class Mean(Metric):
    """The (weighted) mean of all values.

    Args:
        name: Name.
        dtype: Dtype of the result.

    Example:
        >>> mean = Mean()
        >>> mean.update_state([1.0, 3.0], sample_weight=[3.0, 1.0])
        >>> mean.result().item()
        1.5
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes values into the mean, each with its weight."""
        if type(sample_weight) in (int, float):  # such as the batch size, in every step of `fit`
            self._add(values, None, sample_weight)
        else:
            self._add(values, sample_weight, 1)

    def _add(self, values, sample_weight, factor):
        values, weight = reduce_to_samplewise_values(values, sample_weight, ops.mean, self.dtype)
        if weight is not None:
            count: Any = ops.sum(weight)
        else:
            count = float(values.shape[0]) if values.shape else 1.0
        total = ops.sum(values) if values.shape else values
        if factor != 1:
            total, count = total * factor, count * factor
        self.total.assign(self.total.value + total)
        self.count.assign(self.count.value + count)

    def reset_state(self) -> None:
        """Starts again from nothing."""
        self.total.assign(0)
        self.count.assign(0)

    def result(self) -> Any:
        """Returns the mean; 0 of nothing."""
        return ops.divide_no_nan(self.total.value, self.count.value)


@serializable("keras.metrics")
class MeanMetricWrapper(Mean):
    """The mean of a function `fn(y_true, y_pred, **kwargs)` that gives one value for each sample.

    Args:
        fn: The function.
        name: Name.
        dtype: Dtype of the result.
        **kwargs: Passed on to the function.
    """

    _direction: str | None = None

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name=name, dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes one more batch into account.

        Args:
            y_true: Targets.
            y_pred: Predictions; a mask on them (`_keras_mask`) says which count.
            sample_weight: Weights of the samples.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        sample_weight = apply_mask(sample_weight, mask, self.dtype, "sum")
        super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "fn": serialize_keras_object(self._fn),
            **serialize_keras_object(self._fn_kwargs),
        }

    @classmethod
    def from_config(cls, config: dict) -> "MeanMetricWrapper":
        """Makes a metric from what `get_config` returned."""
        return cls(**(deserialize_keras_object(config) if "fn" in config else config))


class BuiltinMean(MeanMetricWrapper):
    """A mean of gpunet: its function is known by its class, so the config holds options only."""

    _options: tuple[str, ...] = ()

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        options = {name: getattr(self, name) for name in self._options}
        return {"name": self.name, "dtype": self.dtype, **options}
