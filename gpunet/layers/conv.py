"""Convolutions in one, two and three dimensions."""

from typing import Any

from gpunet import ops
from gpunet.config import standardize_data_format
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers.affine import finish
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import documented, options_config, positive_int, set_options, tuple_of
from gpunet.layers.windows import channel_axis, checked_padding, whole_shape, window_places
from gpunet.saving import serializable

_OPTIONS = (
    "activation",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
)
CONV_ARGS = """
    Args:
        filters: How many channels the output has.
        kernel_size: Length of the window along each spatial axis, an integer or a tuple.
        strides: Distance between two places of the window.
        padding: `"valid"` (none) or `"same"` (zeros, so that stride 1 keeps the lengths){causal}.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        dilation_rate: Distance between two elements of the window.
        groups: Into how many groups the channels fall, each with its own filters.
        activation: Activation or its name; default none.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of the kernel, of shape
            `(*kernel_size, channels // groups, filters)`.
        bias_initializer: Initializer of the bias, of shape `(filters,)`.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.
        ShapeError: If the window does not fit into the input.
"""


class _Windowed(Layer):
    """What all convolutions share: window, strides, padding, bias and activation."""

    treats_examples_alone = True

    rank: int
    use_bias: bool
    bias: Any
    activation: Any

    def _set_window(self, kernel_size, strides, padding, data_format, dilation_rate):
        rank = self.rank
        self.kernel_size = tuple_of(kernel_size, rank, "kernel_size")
        self.strides = tuple_of(strides, rank, "strides")
        self.dilation_rate = tuple_of(dilation_rate, rank, "dilation_rate")
        self.padding = checked_padding(padding, causal=rank == 1 and self._may_be_causal)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=rank + 2)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                "`strides > 1` not supported in conjunction with `dilation_rate > 1`. "
                + received(strides=self.strides, dilation_rate=self.dilation_rate)
            )

    _may_be_causal = False

    def _channels(self, input_shape):
        """Returns the number of channels, and asks for it from now on."""
        axis = channel_axis(self.data_format)
        channels = input_shape[axis]
        if channels is None:
            raise ShapeError(
                f"Layer '{self.name}': the number of channels of the input must be known. "
                + received(input_shape=input_shape)
            )
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={axis: channels})
        return channels

    def _add(self, name: str, shape: tuple, kind: str) -> Any:
        """Makes a weight with the options of its kind, such as `depthwise`."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
        )

    def _finish(self, outputs):
        """Adds the bias and applies the activation."""
        if self.use_bias and self.data_format == "channels_first":
            bias = ops.reshape(self.bias.value, (-1, *(1,) * self.rank))
            return finish(ops.add(outputs, bias), None, self.activation)
        return finish(outputs, self.bias, self.activation)

    def _places(self, input_shape):
        return window_places(
            input_shape,
            self.kernel_size,
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )

    def _window_config(self) -> dict:
        names = (
            "kernel_size", "strides", "padding", "data_format", "dilation_rate", "use_bias",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


class _Conv(_Windowed):
    _may_be_causal = True

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_int("filters", filters)
        self.groups = positive_int("groups", groups)
        self.use_bias = use_bias
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        if filters % groups:
            raise ArgumentError(
                "The number of filters must be evenly divisible by the number of groups. "
                + received(groups=groups, filters=filters)
            )
        set_options(
            self,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the kernel and the bias."""
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ShapeError(
                f"Layer '{self.name}': the number of input channels must be evenly divisible by "
                f"the number of groups. {received(groups=self.groups, input_shape=input_shape)}"
            )
        self._places(input_shape)
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self._add("kernel", shape, "kernel")
        self.bias = self._add("bias", (self.filters,), "bias") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Returns the convolution of the inputs."""
        padding = self.padding
        if padding == "causal":
            inputs = self._pad_before(inputs)
            padding = "valid"
        outputs = ops.conv(
            inputs, self.kernel, self.strides, padding, self.data_format, self.dilation_rate
        )
        return self._finish(outputs)

    def _pad_before(self, inputs):
        before = (self.dilation_rate[0] * (self.kernel_size[0] - 1), 0)
        last = self.data_format == "channels_last"
        return ops.pad(inputs, ((0, 0), before, (0, 0)) if last else ((0, 0), (0, 0), before))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        places = self._places(input_shape)
        return whole_shape(input_shape[0], places, self.filters, self.data_format)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"filters": self.filters, "groups": self.groups, **self._window_config()}
        return {**super().get_config(), **config, **options_config(self, *_OPTIONS)}


_CAUSAL = ', or\n            `"causal"` (zeros before, so that no place sees later steps)'


@serializable("keras.layers")
@documented(CONV_ARGS.format(causal=_CAUSAL))
class Conv1D(_Conv):
    """Convolution along time: `(batch, steps, channels)` to `(batch, places, filters)`.

    <arguments>

    Example:
        >>> import gpunet
        >>> gpunet.layers.Conv1D(4, 3, padding="causal")(gpunet.ops.ones((2, 10, 3))).shape
        (2, 10, 4)
    """

    rank = 1


@serializable("keras.layers")
@documented(CONV_ARGS.format(causal=""))
class Conv2D(_Conv):
    """Convolution of images: `(batch, height, width, channels)` to `(batch, ..., filters)`.

    <arguments>

    Example:
        >>> import gpunet
        >>> gpunet.layers.Conv2D(4, 3, padding="same")(gpunet.ops.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 4)
    """

    rank = 2


@serializable("keras.layers")
@documented(CONV_ARGS.format(causal=""))
class Conv3D(_Conv):
    """Convolution of volumes: `(batch, x, y, z, channels)` to `(batch, ..., filters)`.

    <arguments>

    Example:
        >>> import gpunet
        >>> gpunet.layers.Conv3D(4, 3)(gpunet.ops.ones((2, 5, 5, 5, 3))).shape
        (2, 3, 3, 3, 4)
    """

    rank = 3


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
