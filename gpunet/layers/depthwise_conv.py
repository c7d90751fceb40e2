"""Convolutions that treat each channel by itself: depthwise and separable ones."""

from typing import Any

from gpunet import ops
from gpunet.layers.conv import _Windowed
from gpunet.layers.options import documented, options_config, positive_int, set_options
from gpunet.layers.windows import channel_axis, whole_shape
from gpunet.saving import serializable

_DEPTHWISE_OPTIONS = (
    "activation",
    "depthwise_initializer",
    "bias_initializer",
    "depthwise_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "depthwise_constraint",
    "bias_constraint",
)
_SEPARABLE_OPTIONS = (
    *_DEPTHWISE_OPTIONS,
    "pointwise_initializer",
    "pointwise_regularizer",
    "pointwise_constraint",
)
_DEPTHWISE_ARGS = """
    Each channel is convolved with its own `depth_multiplier` filters.

    Args:
        kernel_size: Length of the window along each spatial axis, an integer or a tuple.
        strides: Distance between two places of the window.
        padding: `"valid"` or `"same"`.
        depth_multiplier: How many output channels there are for each input channel.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        dilation_rate: Distance between two elements of the window.
        activation: Activation or its name; default none.
        use_bias: Whether there is a bias.
        depthwise_initializer: Initializer of the kernel, of shape
            `(*kernel_size, channels, depth_multiplier)`.
        bias_initializer: Initializer of the bias.
        depthwise_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        depthwise_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.
    """
_SEPARABLE_ARGS = """
    A depthwise convolution, then one of window 1 that mixes the channels.

    Args:
        filters: How many channels the output has.
        kernel_size: Length of the window along each spatial axis, an integer or a tuple.
        strides: Distance between two places of the window.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        dilation_rate: Distance between two elements of the window.
        depth_multiplier: How many channels the first convolution makes of each.
        activation: Activation or its name; default none.
        use_bias: Whether there is a bias.
        depthwise_initializer: Initializer of the first kernel, of shape
            `(*kernel_size, channels, depth_multiplier)`.
        pointwise_initializer: Initializer of the second one, of shape
            `(1, ..., channels * depth_multiplier, filters)`.
        bias_initializer: Initializer of the bias.
        depthwise_regularizer: Regularizer of the first kernel.
        pointwise_regularizer: Regularizer of the second kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        depthwise_constraint: Constraint of the first kernel.
        pointwise_constraint: Constraint of the second kernel.
        bias_constraint: Constraint of the bias.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.

    Reference: Chollet, "Xception", 2016.
    """


class _DepthwiseConv(_Windowed):
    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.depth_multiplier = positive_int("depth_multiplier", depth_multiplier)
        self.use_bias = use_bias
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        set_options(
            self,
            activation=activation,
            depthwise_initializer=depthwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            bias_regularizer=bias_regularizer,
            depthwise_constraint=depthwise_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the kernel and the bias."""
        channels = self._channels(input_shape)
        self._places(input_shape)
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.kernel = self._add("kernel", shape, "depthwise")
        self.bias = None
        if self.use_bias:
            self.bias = self._add("bias", (channels * self.depth_multiplier,), "bias")

    def call(self, inputs: Any) -> Any:
        """Returns the depthwise convolution of the inputs."""
        outputs = ops.depthwise_conv(
            inputs, self.kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        channels = input_shape[channel_axis(self.data_format)] * self.depth_multiplier
        return whole_shape(input_shape[0], self._places(input_shape), channels, self.data_format)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"depth_multiplier": self.depth_multiplier, **self._window_config()}
        return {**super().get_config(), **config, **options_config(self, *_DEPTHWISE_OPTIONS)}


@serializable("keras.layers")
@documented(_DEPTHWISE_ARGS)
class DepthwiseConv1D(_DepthwiseConv):
    """Depthwise convolution along time.

    <arguments>
    """

    rank = 1


@serializable("keras.layers")
@documented(_DEPTHWISE_ARGS)
class DepthwiseConv2D(_DepthwiseConv):
    """Depthwise convolution of images.

    <arguments>
    """

    rank = 2


class _SeparableConv(_Windowed):
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.depth_multiplier = positive_int("depth_multiplier", depth_multiplier)
        self.filters, self.use_bias = positive_int("filters", filters), use_bias
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        set_options(
            self,
            activation=activation,
            depthwise_initializer=depthwise_initializer,
            pointwise_initializer=pointwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            pointwise_regularizer=pointwise_regularizer,
            bias_regularizer=bias_regularizer,
            depthwise_constraint=depthwise_constraint,
            pointwise_constraint=pointwise_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the two kernels and the bias."""
        channels = self._channels(input_shape)
        self._places(input_shape)
        depthwise = (*self.kernel_size, channels, self.depth_multiplier)
        pointwise = (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)
        self.depthwise_kernel = self._add("depthwise_kernel", depthwise, "depthwise")
        self.pointwise_kernel = self._add("pointwise_kernel", pointwise, "pointwise")
        self.bias = self._add("bias", (self.filters,), "bias") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Returns the separable convolution of the inputs."""
        outputs = ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        places = self._places(input_shape)
        return whole_shape(input_shape[0], places, self.filters, self.data_format)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"filters": self.filters, "depth_multiplier": self.depth_multiplier}
        config |= self._window_config()
        return {**super().get_config(), **config, **options_config(self, *_SEPARABLE_OPTIONS)}


@serializable("keras.layers")
@documented(_SEPARABLE_ARGS)
class SeparableConv1D(_SeparableConv):
    """Separable convolution along time.

    <arguments>
    """

    rank = 1


@serializable("keras.layers")
@documented(_SEPARABLE_ARGS)
class SeparableConv2D(_SeparableConv):
    """Separable convolution of images.

    <arguments>
    """

    rank = 2


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
