"""Layers that pad, crop and enlarge along the spatial axes."""

from typing import Any

from gpunet import ops
from gpunet.config import standardize_data_format
from gpunet.errors import ArgumentError, DTypeError, ShapeError, received
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import documented, positive_int, tuple_of
from gpunet.layers.windows import channel_axis, spatial_shape, whole_shape
from gpunet.saving import serializable

_PAD_ARGS = """

    Args:
        padding: How many zeros: an integer for all sides, one for each axis, or
            `((before, after), ...)`.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `padding` has another form.
    """
_CROP_ARGS = """

    Args:
        cropping: How many elements are cut off: an integer for all sides, one for each axis, or
            `((before, after), ...)`.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `cropping` has another form.
        ShapeError: If nothing would be left.
    """


def _sides(value: Any, rank: int, name: str) -> tuple[tuple[int, ...], ...]:
    """Returns `((before, after), ...)`."""
    if isinstance(value, int):
        return (tuple_of(value, 2, name, allow_zero=True),) * rank
    if not hasattr(value, "__len__") or len(value) != rank:
        raise ArgumentError(
            f"`{name}` should be an int, or {rank} ints, or {rank} tuples of 2 ints. "
            + received(**{name: value})
        )
    return tuple(tuple_of(side, 2, f"entry of {name}", allow_zero=True) for side in value)


class _Spatial(Layer):
    """A layer that changes the lengths of spatial axes, and nothing else."""

    rank: int

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _new_length(self, length: int, axis: int) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define `_new_length`.")

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        lengths = spatial_shape(input_shape, self.data_format)
        new = tuple(None if n is None else self._new_length(n, i) for i, n in enumerate(lengths))
        channels = input_shape[channel_axis(self.data_format)]
        return whole_shape(input_shape[0], new, channels, self.data_format)


class _ZeroPadding(_Spatial):
    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.padding = _sides(padding, self.rank, "padding")

    def _sides(self):
        return self.padding

    def _new_length(self, length, axis):
        return length + sum(self._sides()[axis])

    def call(self, inputs: Any) -> Any:
        """Returns the inputs with zeros around them."""
        return ops.pad(inputs, whole_shape((0, 0), self._sides(), (0, 0), self.data_format))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"padding": self.padding, "data_format": self.data_format}
        return {**super().get_config(), **config}


@serializable("keras.layers")
class ZeroPadding1D(_ZeroPadding):
    """Puts zeros before and after a sequence.

    Args:
        padding: How many: an integer, or `(before, after)`.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `padding` has another form.
    """

    rank = 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(0, data_format, **kwargs)
        self.padding = tuple_of(padding, 2, "padding", allow_zero=True)

    def _sides(self):
        return (self.padding,)


@serializable("keras.layers")
@documented(_PAD_ARGS)
class ZeroPadding2D(_ZeroPadding):
    """Puts zeros around images.

    <arguments>
    """

    rank = 2


@serializable("keras.layers")
@documented(_PAD_ARGS)
class ZeroPadding3D(_ZeroPadding):
    """Puts zeros around volumes.

    <arguments>
    """

    rank = 3


class _Cropping(_Spatial):
    def __init__(self, cropping: Any = 0, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.cropping = _sides(cropping, self.rank, "cropping")

    def _sides(self):
        return self.cropping

    def _new_length(self, length, axis):
        left = length - sum(self._sides()[axis])
        if left <= 0:
            raise ShapeError(
                f"Values in `cropping` argument of layer '{self.name}' should be smaller than the "
                f"length of the input. {received(length=length, cropping=self.cropping)}"
            )
        return left

    def call(self, inputs: Any) -> Any:
        """Returns the inputs without their edges."""
        lengths = spatial_shape(inputs.shape, self.data_format)
        cuts = []
        for i, (n, (before, _)) in enumerate(zip(lengths, self._sides(), strict=True)):
            cuts.append(slice(before, before + self._new_length(n, i)))
        every = slice(None)
        return inputs[whole_shape(every, tuple(cuts), every, self.data_format)]

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"cropping": self.cropping, "data_format": self.data_format}
        return {**super().get_config(), **config}


@serializable("keras.layers")
class Cropping1D(_Cropping):
    """Cuts steps off both ends of a sequence.

    Args:
        cropping: How many: an integer, or `(before, after)`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `cropping` has another form.
        ShapeError: If nothing would be left.
    """

    rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any):
        super().__init__(0, "channels_last", **kwargs)
        self.cropping = tuple_of(cropping, 2, "cropping", allow_zero=True)

    def _sides(self):
        return (self.cropping,)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["data_format"]
        return config


@serializable("keras.layers")
@documented(_CROP_ARGS)
class Cropping2D(_Cropping):
    """Cuts edges off images.

    <arguments>
    """

    rank = 2


@serializable("keras.layers")
@documented(_CROP_ARGS)
class Cropping3D(_Cropping):
    """Cuts edges off volumes.

    <arguments>
    """

    rank = 3

    def __init__(self, cropping: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


class _UpSampling(_Spatial):
    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.size: Any = tuple_of(size, self.rank, "size")

    def _new_length(self, length, axis):
        return length * self.size[axis]

    def call(self, inputs: Any) -> Any:
        """Returns the inputs with every element repeated."""
        first = 1 if self.data_format == "channels_last" else 2
        for axis, times in enumerate(self.size, first):
            inputs = ops.repeat(inputs, times, axis=axis)
        return inputs

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "size": self.size, "data_format": self.data_format}


@serializable("keras.layers")
class UpSampling1D(_UpSampling):
    """Repeats each step of a sequence.

    Args:
        size: How often.
        **kwargs: Arguments of `Layer`.

    Raises:
        DTypeError: If `size` is no integer.
        ArgumentError: If it is not positive.
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(1, "channels_last", **kwargs)
        if not isinstance(size, int) or isinstance(size, bool):
            raise DTypeError(f"Expected an integer value for `size`. {received(size=size)}")
        self.size = positive_int("size", size)

    def _new_length(self, length, axis):
        return length * self.size

    def call(self, inputs: Any) -> Any:
        """Returns the inputs with every step repeated."""
        return ops.repeat(inputs, self.size, axis=1)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["data_format"]
        return config


@serializable("keras.layers")
class UpSampling2D(_UpSampling):
    """Enlarges images by whole factors.

    Args:
        size: Factor of each axis, an integer or two.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        interpolation: `"nearest"` (repeats pixels) or `"bilinear"`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.
    """

    rank = 2

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = interpolation.lower()
        if self.interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(
                '`interpolation` must be "nearest" or "bilinear". '
                + received(interpolation=interpolation)
            )

    def call(self, inputs: Any) -> Any:
        """Returns the images enlarged."""
        if self.interpolation == "nearest":
            return super().call(inputs)
        first = 1 if self.data_format == "channels_last" else 2
        for axis, times in enumerate(self.size, first):
            inputs = _stretch(inputs, times, axis)
        return inputs

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "interpolation": self.interpolation}


def _stretch(x, times, axis):
    """Linear interpolation at the centres of `times` new pixels for each old one."""
    n = x.shape[axis]
    places = (ops.arange(n * times, dtype="float32") + 0.5) / times - 0.5
    places = ops.clip(places, 0, n - 1)
    low = ops.cast(ops.floor(places), "int32")
    high = ops.minimum(low + 1, n - 1)
    shape = [1] * x.ndim
    shape[axis] = n * times
    part = ops.cast(ops.reshape(places - ops.cast(low, "float32"), shape), x.dtype)
    return ops.take(x, low, axis=axis) * (1 - part) + ops.take(x, high, axis=axis) * part


@serializable("keras.layers")
class UpSampling3D(_UpSampling):
    """Enlarges volumes by repeating their elements.

    Args:
        size: Factor of each axis, an integer or three.
        data_format: `"channels_last"` or `"channels_first"`; default `image_data_format()`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.
    """

    rank = 3
