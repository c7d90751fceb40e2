"""Convolution in 1, 2 and 3 dimensions, with strides, dilation, groups and padding.

The primitives have the layout `(batch, *spatial, channels)`. There are three, and the gradients of
each are the other two, so that gradients of any order exist.
"""

import math

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError, received
from gpunet.ops import convolution_launch, convolution_native, depthwise, im2col
from gpunet.ops.elementwise import floating, operands
from gpunet.ops.precision import widened
from gpunet.ops.spatial import (
    channels_back,
    channels_last,
    checked_padding,
    pads,
    per_axis,
    places,
    spatial_rank,
)

__all__ = ["conv", "depthwise_conv", "separable_conv"]

conv_primitive = Primitive("conv(x, kernel, *, strides, padding, dilation, groups) -> y")
conv_input_grad = Primitive(
    "conv_input_grad(g, kernel, *, sizes, strides, padding, dilation, groups) -> gx"
)
conv_kernel_grad = Primitive(
    "conv_kernel_grad(x, g, *, window, strides, padding, dilation, groups) -> gk"
)


# -- the convolution ----------------------------------------------------------------------------


@conv_primitive.array
@widened
def _(xp, x, kernel, strides, padding, dilation, groups):
    settings = strides, padding, dilation
    if groups == 1:
        return im2col.forward(xp, x, kernel, *settings)
    if kernel.shape[-2] == 1:
        return depthwise.forward(xp, x, kernel, *settings)
    parts = [
        im2col.forward(xp, x[..., a], kernel[..., b], *settings)
        for a, b in _groups(groups, x.shape[-1], kernel.shape[-1])
    ]
    return xp.concatenate(parts, -1)


def _groups(groups, *channels):
    """For each group, its slice of the channels of each array."""
    widths = [c // groups for c in channels]
    return [tuple([slice(i * w, (i + 1) * w) for w in widths]) for i in range(groups)]


conv_primitive.cuda(convolution_launch.forward_rule(conv_primitive.rules["array"]))
conv_primitive.native(convolution_native.forward)


@conv_primitive.infer
def _(x, kernel, strides, padding, dilation, groups):
    counts = places(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    return Symbol((x.shape[0], *counts, kernel.shape[-1]), x.dtype)


def _cost(x, kernel, y):
    """Bytes and flops of a convolution, from the symbols of its images, kernel and results."""
    flops = 2 * y.size * math.prod(kernel.shape[:-1])
    return x.nbytes + kernel.nbytes + y.nbytes, flops


@conv_primitive.cost
def _(x, kernel, **attributes):
    return _cost(x, kernel, conv_primitive.rules["infer"](x, kernel, **attributes))


@conv_primitive.vjp
def _(g, x, kernel, needs, **attributes):
    gx = gk = None
    if needs[0]:
        gx = conv_input_grad(g, kernel, sizes=tuple(x.shape[1:-1]), **attributes)
    if needs[1]:
        gk = conv_kernel_grad(x, g, window=tuple(kernel.shape[:-2]), **attributes)
    return gx, gk


# -- its gradient by the inputs: also the transposed convolution --------------------------------


@conv_input_grad.array
@widened
def _(xp, g, kernel, sizes, strides, padding, dilation, groups):
    settings = sizes, strides, padding, dilation
    if groups == 1:
        return im2col.input_grad(xp, g, kernel, *settings)
    if kernel.shape[-2] == 1:
        return depthwise.input_grad(xp, g, kernel, *settings, channels=groups)
    parts = [
        im2col.input_grad(xp, g[..., a], kernel[..., a], *settings)
        for (a,) in _groups(groups, g.shape[-1])
    ]
    return xp.concatenate(parts, -1)


conv_input_grad.cuda(convolution_launch.input_grad_rule(conv_input_grad.rules["array"]))
conv_input_grad.native(convolution_native.input_grad)


@conv_input_grad.infer
def _(g, kernel, sizes, strides, padding, dilation, groups):
    return Symbol((g.shape[0], *sizes, kernel.shape[-2] * groups), g.dtype)


@conv_input_grad.cost
def _(g, kernel, **attributes):
    return _cost(conv_input_grad.rules["infer"](g, kernel, **attributes), kernel, g)


@conv_input_grad.vjp
def _(h, g, kernel, needs, sizes, **attributes):
    gg = gk = None
    if needs[0]:
        gg = conv_primitive(h, kernel, **attributes)
    if needs[1]:
        gk = conv_kernel_grad(h, g, window=tuple(kernel.shape[:-2]), **attributes)
    return gg, gk


# -- its gradient by the kernel -----------------------------------------------------------------


@conv_kernel_grad.array
@widened
def _(xp, x, g, window, strides, padding, dilation, groups):
    settings = window, strides, padding, dilation
    if groups == 1:
        return im2col.kernel_grad(xp, x, g, *settings)
    if x.shape[-1] == groups:
        return depthwise.kernel_grad(xp, x, g, *settings)
    parts = [
        im2col.kernel_grad(xp, x[..., a], g[..., b], *settings)
        for a, b in _groups(groups, x.shape[-1], g.shape[-1])
    ]
    return xp.concatenate(parts, -1)


conv_kernel_grad.cuda(convolution_launch.kernel_grad_rule(conv_kernel_grad.rules["array"]))
conv_kernel_grad.native(convolution_native.kernel_grad)


@conv_kernel_grad.infer
def _(x, g, window, strides, padding, dilation, groups):
    return Symbol((*window, x.shape[-1] // groups, g.shape[-1]), x.dtype)


@conv_kernel_grad.cost
def _(x, g, **attributes):
    return _cost(x, conv_kernel_grad.rules["infer"](x, g, **attributes), g)


@conv_kernel_grad.vjp
def _(h, x, g, needs, window, **attributes):
    gx = gg = None
    if needs[0]:
        gx = conv_input_grad(g, h, sizes=tuple(x.shape[1:-1]), **attributes)
    if needs[1]:
        gg = conv_primitive(x, h, **attributes)
    return gx, gg


# -- the public ops -----------------------------------------------------------------------------


def conv_operands(name: str, inputs: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, int]:
    """Returns both as floats of one dtype, and the number of spatial axes.

    Raises:
        ShapeError: If their numbers of axes do not go together.
    """
    x, kernel = operands(inputs, kernel)
    rank = spatial_rank(name, x)
    if len(kernel.shape) != rank + 2:
        raise ShapeError(
            f"`{name}` needs a kernel with as many axes as its inputs. "
            + received(inputs=x.shape, kernel=kernel.shape)
        )
    return floating(x), floating(kernel), rank


@public
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolves inputs with a kernel (as in every framework, a cross-correlation).

    `y[n, p, o] = sum over t, c of x[n, p * strides + t * dilation_rate - before, c] *
    kernel[t, c, o]`, where `p` and `t` run over the spatial axes. A kernel with fewer input
    channels than the inputs makes a grouped convolution, with `channels / kernel channels` groups.

    Args:
        inputs: Tensor of shape `(batch, *spatial, channels)` with 1 to 3 spatial axes;
            `(batch, channels, *spatial)` with `data_format="channels_first"`.
        kernel: Tensor of shape `(*window, channels / groups, filters)`.
        strides: Step between places; an integer, or one for each spatial axis.
        padding: `"valid"` (none), `"same"` (`ceil(size / stride)` places) or `"causal"` (zeros
            before the inputs only, so that no place reads what comes after it).
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        dilation_rate: Step between the taps of the window; as `strides`.

    Returns:
        Tensor of shape `(batch, *places, filters)`, or with its channels first.

    Raises:
        ShapeError: If ranks or channels do not go together, or the window does not fit.
        ArgumentError: If another argument is out of range.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.ones((1, 5, 5, 3))
        >>> gpunet.ops.conv(x, gpunet.ops.ones((3, 3, 3, 8)), strides=2).shape
        (1, 2, 2, 8)
    """
    x, kernel, rank = conv_operands("conv", inputs, kernel)
    x, moved = channels_last(data_format, x)
    channels, (width, filters) = x.shape[-1], kernel.shape[-2:]
    groups = channels // width if width else 0
    if groups == 0 or channels % width or filters % groups:
        raise ShapeError(
            "The channels of the inputs must be a multiple of those of the kernel, and the filters "
            "a multiple of the number of groups this makes. "
            + received(inputs=inputs.shape, kernel=kernel.shape, data_format=data_format)
        )
    y = _convolve("conv", x, kernel, rank, strides, padding, dilation_rate, groups)
    return channels_back(y, moved)


def _convolve(name, x, kernel, rank, strides, padding, dilation, groups):
    strides = per_axis(strides, rank, "strides")
    dilation = per_axis(dilation, rank, "dilation_rate")
    kind = checked_padding(padding, ("valid", "same", "causal"))
    sizes, window = tuple(x.shape[1:-1]), tuple(kernel.shape[:-2])
    around = pads(kind, sizes, window, strides, dilation)
    if 0 in places(sizes, window, strides, around, dilation) and 0 not in x.shape:
        raise ShapeError(
            f"The window of `{name}` does not fit into the inputs: the result would be empty. "
            + received(inputs=x.shape, kernel=kernel.shape, padding=padding, dilation_rate=dilation)
        )
    return conv_primitive(
        x, kernel, strides=strides, padding=around, dilation=dilation, groups=groups
    )


@public
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolves each channel with its own kernels.

    Args:
        inputs: Tensor of shape `(batch, *spatial, channels)`, or with its channels first.
        kernel: Tensor of shape `(*window, channels, multiplier)`.
        strides: As in `conv`.
        padding: As in `conv`.
        data_format: As in `conv`.
        dilation_rate: As in `conv`.

    Returns:
        Tensor of shape `(batch, *places, channels * multiplier)`: the results of one channel are
        side by side.

    Raises:
        ShapeError: If the kernel has not the channels of the inputs, or the window does not fit.
        ArgumentError: If another argument is out of range.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.ones((1, 5, 5, 3))
        >>> gpunet.ops.depthwise_conv(x, gpunet.ops.ones((3, 3, 3, 2))).shape
        (1, 3, 3, 6)
    """
    x, kernel, rank = conv_operands("depthwise_conv", inputs, kernel)
    x, moved = channels_last(data_format, x)
    kernel = _depthwise_kernel("depthwise_conv", x, kernel)
    y = _convolve("depthwise_conv", x, kernel, rank, strides, padding, dilation_rate, x.shape[-1])
    return channels_back(y, moved)


def _depthwise_kernel(name, x, kernel):
    *window, channels, multiplier = kernel.shape
    if x.shape[-1] != channels or not channels:
        raise ShapeError(
            f"The kernel of `{name}` must have a row for each channel of the inputs. "
            + received(channels=x.shape[-1], kernel=kernel.shape)
        )
    return kernel.reshape((*window, 1, channels * multiplier))


@public
def separable_conv(
    inputs,
    depthwise_kernel,
    pointwise_kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    """Convolves each channel by itself, then mixes the channels at each place.

    Args:
        inputs: Tensor of shape `(batch, *spatial, channels)`, or with its channels first.
        depthwise_kernel: Tensor of shape `(*window, channels, multiplier)`.
        pointwise_kernel: Tensor of shape `(1, ..., 1, channels * multiplier, filters)`.
        strides: Of the depthwise part; as in `conv`.
        padding: As in `conv`.
        data_format: As in `conv`.
        dilation_rate: As in `conv`.

    Returns:
        Tensor of shape `(batch, *places, filters)`, or with its channels first.

    Raises:
        ShapeError: If ranks or channels do not go together.
        ArgumentError: If another argument is out of range.
    """
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(y, pointwise_kernel, 1, "valid", data_format)
