"""Transposed convolutions: the gradient of a convolution, used to enlarge."""

from typing import Any

from gpunet import ops
from gpunet.errors import ArgumentError, received
from gpunet.layers.conv import _OPTIONS, _Windowed
from gpunet.layers.options import documented, options_config, positive_int, set_options, tuple_of
from gpunet.layers.windows import transposed_places, whole_shape
from gpunet.saving import serializable

TRANSPOSE_ARGS = """

    Args:
        filters: How many channels the output has.
        kernel_size: Length of the window along each spatial axis, an integer or a tuple.
        strides: By how much the lengths grow.
        padding: `"valid"` or `"same"`.
        output_padding: What is added to the lengths of the output, less than `strides`; default:
            found from the padding.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        dilation_rate: Distance between two elements of the window.
        activation: Activation or its name; default none.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of the kernel, of shape
            `(*kernel_size, filters, channels)`.
        bias_initializer: Initializer of the bias, of shape `(filters,)`.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.
    """


class _ConvTranspose(_Windowed):
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
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
        self.filters, self.use_bias = positive_int("filters", filters), use_bias
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        if output_padding is not None:
            output_padding = tuple_of(output_padding, self.rank, "output_padding", allow_zero=True)
            if any(p >= s for p, s in zip(output_padding, self.strides, strict=True)):
                raise ArgumentError(
                    "`output_padding` must be strictly less than `strides` for all dimensions. "
                    + received(output_padding=output_padding, strides=self.strides)
                )
        self.output_padding = output_padding
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
        shape = (*self.kernel_size, self.filters, self._channels(input_shape))
        self.kernel = self._add("kernel", shape, "kernel")
        self.bias = self._add("bias", (self.filters,), "bias") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Returns the transposed convolution of the inputs."""
        outputs = ops.conv_transpose(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        spatial = transposed_places(
            input_shape,
            self.kernel_size,
            self.strides,
            self.padding,
            self.output_padding,
            self.data_format,
            self.dilation_rate,
        )
        return whole_shape(input_shape[0], spatial, self.filters, self.data_format)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"filters": self.filters, "output_padding": self.output_padding}
        config |= self._window_config()
        return {**super().get_config(), **config, **options_config(self, *_OPTIONS)}


@serializable("keras.layers")
@documented(TRANSPOSE_ARGS)
class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution along time.

    <arguments>
    """

    rank = 1


@serializable("keras.layers")
@documented(TRANSPOSE_ARGS)
class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution of images.

    <arguments>
    """

    rank = 2


@serializable("keras.layers")
@documented(TRANSPOSE_ARGS)
class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution of volumes.

    <arguments>
    """

    rank = 3
