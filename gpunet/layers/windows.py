"""Shapes of the results of layers that slide a window: convolution and pooling."""

from typing import Any

from gpunet.errors import ArgumentError, ShapeError, received


def checked_padding(padding: Any, causal: bool = False) -> str:
    """Returns the name of a padding in small letters.

    Raises:
        ArgumentError: If it is not `"valid"`, `"same"` (or `"causal"`, where that is allowed).
    """
    choices = {"valid", "same", "causal"} if causal else {"valid", "same"}
    name = padding.lower() if isinstance(padding, str) else padding
    if name not in choices:
        raise ArgumentError(
            f"The `padding` argument must be one of {sorted(choices)}. {received(padding=padding)}"
        )
    return name


def channel_axis(data_format: str) -> int:
    """Returns the axis of the channels."""
    return -1 if data_format == "channels_last" else 1


def spatial_shape(input_shape: Any, data_format: str) -> tuple:
    """Returns the lengths of the spatial axes."""
    return tuple(input_shape[1:-1] if data_format == "channels_last" else input_shape[2:])


def whole_shape(batch: Any, spatial: tuple, channels: Any, data_format: str) -> tuple:
    """Returns a shape from its parts."""
    if data_format == "channels_last":
        return (batch, *spatial, channels)
    return (batch, channels, *spatial)


def window_places(
    input_shape: Any,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    data_format: str,
    dilation: tuple[int, ...] | None = None,
) -> tuple:
    """Returns how many places a window has along each spatial axis, `None` where unknown.

    Raises:
        ShapeError: If the window does not fit into the input.
    """
    lengths = spatial_shape(input_shape, data_format)
    dilation = dilation or (1,) * len(window)
    places = []
    for n, k, s, d in zip(lengths, window, strides, dilation, strict=True):
        if n is None:
            places.append(None)
        elif padding == "valid":
            places.append((n - (k - 1) * d - 1) // s + 1)
        else:
            places.append(-(-n // s))
    if any(p is not None and p <= 0 for p in places):
        raise ShapeError(
            "Computed output size would be zero or negative: the window does not fit into the "
            "input. " + received(input_shape=tuple(input_shape), window=window, dilation=dilation)
        )
    return tuple(places)


def transposed_places(
    input_shape: Any,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    output_padding: tuple[int, ...] | None,
    data_format: str,
    dilation: tuple[int, ...],
) -> tuple:
    """Returns the spatial lengths of the result of a transposed convolution."""
    lengths = spatial_shape(input_shape, data_format)
    extra = output_padding or (None,) * len(window)
    places = []
    for n, k, s, d, p in zip(lengths, window, strides, dilation, extra, strict=True):
        span = (k - 1) * d + 1
        if n is None:
            places.append(None)
        elif p is None:
            places.append(n * s + max(span - s, 0) if padding == "valid" else n * s)
        else:
            crop = 0 if padding == "valid" else 2 * (span // 2)
            places.append((n - 1) * s + span - crop + p)
    return tuple(places)
