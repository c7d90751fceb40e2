"""Layers that prepare data: Rescaling and Normalization."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from gpunet import ops
from gpunet.config import epsilon, image_data_format
from gpunet.core.tensor import Tensor
from gpunet.errors import ArgumentError, DTypeError, ShapeError, StateError, received
from gpunet.layers.base import Layer
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object


@serializable("keras.layers")
class Rescaling(Layer):
    """`inputs * scale + offset`; integers become floats.

    Args:
        scale: Number, or one for each channel.
        offset: Number, or one for each channel.
        **kwargs: Arguments of `Layer`.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Rescaling(1 / 255)(gpunet.tensor([0, 255])).tolist()
        [0.0, 1.0]
    """

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.supports_masking = True
        self._allow_non_tensor_positional_args = True

    def call(self, inputs: Any) -> Any:
        """Returns the inputs rescaled."""
        dtype = self.compute_dtype
        scale, offset = self.scale, self.offset
        if not isinstance(scale, (int, float)):
            scale = ops.cast(scale, dtype)
            if scale.ndim and image_data_format() == "channels_first":
                scale = ops.reshape(scale, (*scale.shape, *(1,) * (3 - scale.ndim)))
        if not isinstance(offset, (int, float)):
            offset = ops.cast(offset, dtype)
        return ops.cast(inputs, dtype) * scale + offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {
            "scale": serialize_keras_object(self.scale),
            "offset": serialize_keras_object(self.offset),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Returns the layer of a config."""
        values = {
            name: deserialize_keras_object(config[name], custom_objects)
            for name in ("scale", "offset")
        }
        return super().from_config({**config, **values})


@serializable("keras.layers")
class Normalization(Layer):
    """`(x - mean) / sqrt(variance)`, with statistics given or found by `adapt`.

    Args:
        axis: Axis or axes that have statistics of their own; `None`: all elements share them.
        mean: Mean of each place along `axis`; default: found by `adapt`.
        variance: Variance of each place along `axis`; given with `mean` or not at all.
        invert: Whether to compute `x * sqrt(variance) + mean` instead.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If only one of `mean` and `variance` is given, or their shapes differ.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.Normalization(axis=None)
        >>> layer.adapt(gpunet.tensor([1.0, 3.0]))
        >>> layer(gpunet.tensor([3.0])).tolist()
        [1.0]
    """

    def __init__(
        self,
        axis: Any = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None):
            raise ArgumentError(
                "When setting values directly, both `mean` and `variance` must be set. "
                + received(mean=mean, variance=variance)
            )
        if mean is not None and np.shape(mean) != np.shape(variance):
            raise ArgumentError(
                "When setting values directly, `mean` and `variance` must have the same shape. "
                + received(mean=np.shape(mean), variance=np.shape(variance))
            )
        if mean is not None and np.ndim(mean) > len(self.axis):
            raise ArgumentError(
                f"The rank of `mean` must be at most the number of axes, {len(self.axis)}. "
                + received(mean=np.shape(mean), axis=self.axis)
            )
        self.input_mean, self.input_variance, self.invert = mean, variance, invert
        self.supports_masking = True
        self._allow_non_tensor_positional_args = True
        self._build_input_shape: Any = None
        self.adapt_mean: Any = None
        self.adapt_variance: Any = None
        self.count: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes the statistics."""
        if input_shape is None:
            return
        ndim = len(input_shape)
        if any(not -ndim <= axis < ndim for axis in self.axis):
            raise ArgumentError(
                "All `axis` values must be in the range [-ndim, ndim). "
                + received(ndim=ndim, axis=self.axis)
            )
        kept = sorted(axis % ndim for axis in self.axis)
        if any(input_shape[axis] is None for axis in kept):
            raise ShapeError(
                "All `axis` values to be kept must have a known shape. "
                + received(axis=self.axis, input_shape=input_shape)
            )
        self._build_input_shape = tuple(input_shape)
        self._keep_axis = tuple(kept)
        self._reduce_axis = tuple(i for i in range(ndim) if i not in kept)
        self._broadcast_shape = tuple(d if i in kept else 1 for i, d in enumerate(input_shape))
        if self.input_mean is not None:
            return
        shape = tuple(input_shape[axis] for axis in kept)
        self.adapt_mean = self._statistic("mean", shape, "zeros")
        self.adapt_variance = self._statistic("variance", shape, "ones")
        self.count = self.add_weight((), "zeros", "int32", name="count", trainable=False)

    def _statistic(self, name, shape, initializer):
        return self.add_weight(shape=shape, initializer=initializer, name=name, trainable=False)

    @property
    def mean(self) -> Any:
        """The mean, in a shape that broadcasts; `None` before the layer is built."""
        return self._arranged(self.input_mean, self.adapt_mean)

    @property
    def variance(self) -> Any:
        """The variance, in a shape that broadcasts; `None` before the layer is built."""
        return self._arranged(self.input_variance, self.adapt_variance)

    def _arranged(self, given, adapted):
        if self._build_input_shape is None:
            return None
        x = ops.cast(adapted if given is None else given, self.compute_dtype)
        if given is not None and x.ndim:
            shape = [1] * len(self._broadcast_shape)
            for i, length in enumerate(reversed(x.shape), 1):
                shape[self._keep_axis[-i]] = length
            return ops.broadcast_to(ops.reshape(x, shape), self._broadcast_shape)
        if x.ndim or not self._keep_axis:
            return ops.reshape(x, self._broadcast_shape)
        return ops.broadcast_to(x, self._broadcast_shape)

    def adapt(self, data: Any) -> None:
        """Finds mean and variance of data.

        Args:
            data: Array or tensor, or an iterable of batches (of the inputs, or of tuples that
                begin with them).

        Raises:
            ShapeError: If its shape is not that the layer was built with.
            ArgumentError: If there are no batches.
            DTypeError: If it is neither array nor iterable.
        """
        whole = isinstance(data, (np.ndarray, Tensor))
        batches = [data] if whole else _batches(data)
        if self.input_mean is not None:
            raise StateError(
                f"Layer '{self.name}' was given its `mean` and `variance`: there is nothing to "
                "adapt."
            )
        count, mean, variance = 0, 0.0, 0.0
        for batch in batches:
            x = np.asarray(batch, dtype=np.float64)
            self._check_batch(x.shape)
            n = int(np.prod([x.shape[i] for i in self._reduce_axis], dtype=np.int64))
            new_mean, new_variance = x.mean(self._reduce_axis), x.var(self._reduce_axis)
            part = n / (count + n)
            shift = new_mean - mean  # Chan's update of a mean and a variance
            variance = variance * (1 - part) + new_variance * part + part * (1 - part) * shift**2
            mean, count = mean + part * shift, count + n
        if not count:
            raise ArgumentError(
                "adapt() received an empty iterable (no batches). " + received(data=type(data))
            )
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(variance)

    def _check_batch(self, shape):
        if not self.built:
            self.build(shape)
        built = self._build_input_shape
        if len(shape) != len(built) or any(shape[i] != built[i] for i in self._keep_axis):
            raise ShapeError(
                f"Layer '{self.name}' was built with input_shape={built}, which does not fit the "
                f"data for adapt(). {received(shape=shape)}"
            )

    def finalize_state(self) -> None:
        """Does nothing: the statistics are read at every call."""

    def call(self, inputs: Any) -> Any:
        """Returns the inputs normalized."""
        mean, variance = self.mean, self.variance
        if mean is None:
            raise StateError(
                f"Layer '{self.name}': call `adapt(data)` or `build(input_shape)` before using it."
            )
        x = ops.cast(inputs, self.compute_dtype)
        deviation = ops.maximum(ops.sqrt(variance), epsilon())
        return x * deviation + mean if self.invert else (x - mean) / deviation

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {
            "axis": self.axis,
            "invert": self.invert,
            "mean": np.array(self.input_mean).tolist(),
            "variance": np.array(self.input_variance).tolist(),
        }
        return {**super().get_config(), **config}

    def get_build_config(self) -> dict | None:
        """Returns the shape the layer was built with."""
        return {"input_shape": self._build_input_shape} if self._build_input_shape else None


def _batches(data):
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise DTypeError(
            f"`adapt` takes an array, a tensor or an iterable of batches. {received(data=data)}"
        )
    for batch in data:
        batch = batch[0] if isinstance(batch, tuple) else batch
        if not hasattr(batch, "shape"):
            raise DTypeError(
                "`adapt` takes an iterable of arrays or tensors, which have a `.shape`. "
                + received(batch=type(batch).__name__)
            )
        yield batch
