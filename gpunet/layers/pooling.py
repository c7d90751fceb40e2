"""Pooling over windows, and over all of the input."""

from typing import Any

from gpunet import ops
from gpunet.config import standardize_data_format
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import documented, tuple_of
from gpunet.layers.windows import channel_axis, checked_padding, whole_shape, window_places
from gpunet.saving import serializable

_POOL_ARGS = """

    Args:
        pool_size: Length of the window along each spatial axis, an integer or a tuple.
        strides: Distance between two places of the window; default `pool_size`.
        padding: `"valid"` or `"same"`; padding takes no part in the result.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        name: Name.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.
        ShapeError: If the window does not fit into the input.
    """
_GLOBAL_ARGS = """

    Args:
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        keepdims: Whether the spatial axes stay, with length 1.
        **kwargs: Arguments of `Layer`.
    """


class _Pooling(Layer):
    treats_examples_alone = True
    rank: int
    pool_mode: str

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.pool_size = tuple_of(pool_size, self.rank, "pool_size")
        self.strides = tuple_of(pool_size if strides is None else strides, self.rank, "strides")
        self.padding = checked_padding(padding)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the pooled inputs."""
        pool = ops.max_pool if self.pool_mode == "max" else ops.average_pool
        return pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        places = window_places(
            input_shape, self.pool_size, self.strides, self.padding, self.data_format
        )
        channels = input_shape[channel_axis(self.data_format)]
        return whole_shape(input_shape[0], places, channels, self.data_format)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        names = ("pool_size", "padding", "strides", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@serializable("keras.layers")
@documented(_POOL_ARGS)
class MaxPooling1D(_Pooling):
    """The largest element of each window of a sequence.

    <arguments>
    """

    rank, pool_mode = 1, "max"


@serializable("keras.layers")
@documented(_POOL_ARGS)
class MaxPooling2D(_Pooling):
    """The largest element of each window of an image.

    <arguments>
    """

    rank, pool_mode = 2, "max"


@serializable("keras.layers")
@documented(_POOL_ARGS)
class MaxPooling3D(_Pooling):
    """The largest element of each window of a volume.

    <arguments>
    """

    rank, pool_mode = 3, "max"


class _AveragePooling(_Pooling):
    pool_mode = "average"

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


@serializable("keras.layers")
@documented(_POOL_ARGS)
class AveragePooling1D(_AveragePooling):
    """The mean of each window of a sequence.

    <arguments>
    """

    rank = 1


@serializable("keras.layers")
@documented(_POOL_ARGS)
class AveragePooling2D(_AveragePooling):
    """The mean of each window of an image.

    <arguments>
    """

    rank = 2


@serializable("keras.layers")
@documented(_POOL_ARGS)
class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume.

    <arguments>
    """

    rank = 3


class _GlobalPooling(Layer):
    treats_examples_alone = True
    rank: int

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)
        first = 1 if self.data_format == "channels_last" else 2
        self._axes = tuple(range(first, first + self.rank))
        self._build_at_init()

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        channels = input_shape[channel_axis(self.data_format)]
        if self.keepdims:
            ones = (1,) * self.rank
            return whole_shape(input_shape[0], ones, channels, self.data_format)
        return (input_shape[0], channels)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"data_format": self.data_format, "keepdims": self.keepdims}
        return {**super().get_config(), **config}


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs: Any) -> Any:
        """Returns the maximum over the spatial axes."""
        return ops.max(inputs, axis=self._axes, keepdims=self.keepdims)


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs: Any) -> Any:
        """Returns the mean over the spatial axes."""
        return ops.mean(inputs, axis=self._axes, keepdims=self.keepdims)


@serializable("keras.layers")
@documented(_GLOBAL_ARGS)
class GlobalMaxPooling1D(_GlobalMaxPooling):
    """The largest element of each channel of a sequence.

    <arguments>
    """

    rank = 1


@serializable("keras.layers")
@documented(_GLOBAL_ARGS)
class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The largest element of each channel of an image.

    <arguments>
    """

    rank = 2


@serializable("keras.layers")
@documented(_GLOBAL_ARGS)
class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The largest element of each channel of a volume.

    <arguments>
    """

    rank = 3


@serializable("keras.layers")
@documented(_GLOBAL_ARGS)
class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of each channel of a sequence; masked steps do not count.

    <arguments>
    """

    rank = 1

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(data_format, keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mean over the steps that are not masked."""
        if mask is None:
            return ops.mean(inputs, axis=self._axes, keepdims=self.keepdims)
        kept = ops.expand_dims(mask, 2 if self.data_format == "channels_last" else 1)
        kept = ops.cast(ops.cast(kept, "bool"), inputs.dtype)
        total = ops.sum(inputs * kept, axis=self._axes, keepdims=self.keepdims)
        return total / ops.sum(kept, axis=self._axes, keepdims=self.keepdims)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Returns `None`: there are no steps any more."""
        return None


@serializable("keras.layers")
@documented(_GLOBAL_ARGS)
class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean of each channel of an image.

    <arguments>
    """

    rank = 2


@serializable("keras.layers")
@documented(_GLOBAL_ARGS)
class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean of each channel of a volume.

    <arguments>
    """

    rank = 3


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
GlobalMaxPool3D, GlobalAvgPool1D = GlobalMaxPooling3D, GlobalAveragePooling1D
GlobalAvgPool2D, GlobalAvgPool3D = GlobalAveragePooling2D, GlobalAveragePooling3D
