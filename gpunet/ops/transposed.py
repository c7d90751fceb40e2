"""Transposed convolution: the gradient of a convolution by its inputs, used forwards."""

from gpunet.core.symbolic import public
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.convolution import conv_input_grad, conv_operands
from gpunet.ops.spatial import channels_back, channels_last, checked_padding, per_axis

__all__ = ["conv_transpose"]


@public
def conv_transpose(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    output_padding=None,
    data_format=None,
    dilation_rate=1,
):
    """Spreads each input over a window of the result, scaled by the kernel.

    With `span = (window - 1) * dilation_rate + 1` the result has, along each spatial axis,
    `(size - 1) * strides + span + output_padding` places with `"valid"` padding (by default at
    least `size * strides`), and `(size - 1) * strides + span % 2 + output_padding` with `"same"`
    (by default `size * strides`).

    Args:
        inputs: Tensor of shape `(batch, *spatial, channels)`, or with its channels first.
        kernel: Tensor of shape `(*window, filters, channels)`.
        strides: Step between the windows; an integer, or one for each spatial axis.
        padding: `"valid"` or `"same"`.
        output_padding: Places added at the end, less than the stride; `None` for the defaults
            above.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        dilation_rate: Step between the taps of the window; as `strides`.

    Returns:
        Tensor of shape `(batch, *places, filters)`, or with its channels first.

    Raises:
        ShapeError: If ranks or channels do not go together.
        ArgumentError: If another argument is out of range.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.ones((1, 4, 4, 8))
        >>> gpunet.ops.conv_transpose(x, gpunet.ops.ones((3, 3, 2, 8)), 2, "same").shape
        (1, 8, 8, 2)
    """
    x, kernel, rank = conv_operands("conv_transpose", inputs, kernel)
    x, moved = channels_last(data_format, x)
    if x.shape[-1] != kernel.shape[-1]:
        raise ShapeError(
            "The last axis of the kernel must have the channels of the inputs. "
            + received(channels=x.shape[-1], kernel=kernel.shape)
        )
    strides = per_axis(strides, rank, "strides")
    dilation = per_axis(dilation_rate, rank, "dilation_rate")
    extra = (None,) * rank
    if output_padding is not None:
        extra = per_axis(output_padding, rank, "output_padding", least=0)
    kind = checked_padding(padding)
    sizes, before_after = [], []
    for n, k, s, d, e in zip(
        x.shape[1:-1], kernel.shape[:-2], strides, dilation, extra, strict=True
    ):
        size, around = _result(n, (k - 1) * d + 1, s, kind, e)
        sizes.append(size)
        before_after.append(around)
    if min(sizes) < 1:
        raise ArgumentError(
            "The result of `conv_transpose` would be empty. "
            + received(inputs=inputs.shape, kernel=kernel.shape, output_padding=output_padding)
        )
    y = conv_input_grad(
        x,
        kernel,
        sizes=tuple(sizes),
        strides=strides,
        padding=tuple(before_after),
        dilation=dilation,
        groups=1,
    )
    return channels_back(y, moved)


def _result(n, span, stride, padding, extra):
    """Length of the result, and the padding of the convolution that this is the transpose of."""
    if padding == "valid":
        size = (n - 1) * stride + (max(span, stride) if extra is None else span + extra)
        before = 0
    else:
        size = n * stride if extra is None else (n - 1) * stride + span % 2 + extra
        # What is left of the dilated inputs is divided as in TensorFlow: the odd one before.
        total = size - (n - 1) * stride + span - 2
        before = span - 1 - min(total // 2 + total % 2, span - 1)
    return size, (before, (n - 1) * stride + span - size - before)
