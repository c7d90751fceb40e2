"""Layers that regularize: dropout in its forms, noise, and ActivityRegularization."""

import math
from typing import Any

from gpunet import ops, random, regularizers
from gpunet.config import standardize_data_format
from gpunet.errors import ArgumentError, received
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.saving import serializable


class _Noisy(Layer):
    """A layer that does nothing outside of training; with a rate of 0 it draws no numbers."""

    def __init__(self, rate: float, seed: Any, name_of_rate: str = "rate", **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ArgumentError(
                f"Invalid value received for argument `{name_of_rate}`. Expected a float value "
                f"between 0 and 1. {received(**{name_of_rate: rate})}"
            )
        setattr(self, name_of_rate, rate)
        self.seed = seed
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape


@serializable("keras.layers")
class Dropout(_Noisy):
    """In training sets a share `rate` of the inputs to 0 and divides the others by `1 - rate`.

    Args:
        rate: Share of the inputs dropped, from 0 to 1.
        noise_shape: Shape of the mask, which is broadcast; `None` entries are those of the input.
        seed: Seed of the random numbers; default a random one.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs` of any shape; `training`.

    Raises:
        ArgumentError: If an argument is out of range.

    Reference: Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Dropout(0.5)(gpunet.ops.ones(3), training=False).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: Any = None, **kwargs: Any):
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = _checked_noise_shape(noise_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the inputs, in training with some of them dropped."""
        if not training or self.rate == 0:
            return inputs
        shape = self._noise_shape(inputs.shape)
        return random.dropout(inputs, self.rate, noise_shape=shape, seed=self.seed_generator)

    def _noise_shape(self, input_shape):
        return self.noise_shape

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}
        return {**super().get_config(), **config}


def _checked_noise_shape(shape):
    if shape is None:
        return None
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        raise ArgumentError(
            "Invalid value received for argument `noise_shape`. Expected a tuple or list of "
            f"integers. {received(noise_shape=shape)}"
        )
    shape = tuple(shape)
    for length in shape:
        if length is not None and (not isinstance(length, int) or length <= 0):
            raise ArgumentError(
                "Invalid value received for argument `noise_shape`. Expected all dimensions to be "
                f"positive integers or None. {received(noise_shape=shape)}"
            )
    return shape


class _SpatialDropout(Dropout):
    """Dropout of whole channels."""

    def __init__(
        self,
        rank: int,
        rate: float,
        data_format: str | None,
        seed: Any,
        name: str | None,
        dtype: Any,
    ):
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=rank + 2)

    def _noise_shape(self, input_shape):
        ones = (1,) * (len(input_shape) - 2)
        if self.data_format == "channels_first":
            return (*input_shape[:2], *ones)
        return (input_shape[0], *ones, input_shape[-1])

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        names = ("rate", "seed", "name", "dtype", "data_format")
        return {name: getattr(self, name) for name in names}


@serializable("keras.layers")
class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole channels of `(batch, steps, channels)`.

    Args:
        rate: Share of the channels dropped, from 0 to 1.
        seed: Seed of the random numbers; default a random one.
        name: Name.
        dtype: Dtype or policy.

    Reference: Tompson et al., "Efficient Object Localization Using Convolutional Networks", 2014.
    """

    def __init__(self, rate: float, seed: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(1, rate, "channels_last", seed, name, dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["data_format"]
        return config


@serializable("keras.layers")
class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole channels of images.

    Args:
        rate: Share of the channels dropped, from 0 to 1.
        data_format: Where the channels are; default `image_data_format()`.
        seed: Seed of the random numbers; default a random one.
        name: Name.
        dtype: Dtype or policy.
    """

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, rate, data_format, seed, name, dtype)


@serializable("keras.layers")
class SpatialDropout3D(_SpatialDropout):
    """Dropout of whole channels of volumes.

    Args:
        rate: Share of the channels dropped, from 0 to 1.
        data_format: Where the channels are; default `image_data_format()`.
        seed: Seed of the random numbers; default a random one.
        name: Name.
        dtype: Dtype or policy.
    """

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(3, rate, data_format, seed, name, dtype)


@serializable("keras.layers")
class GaussianNoise(_Noisy):
    """In training adds normal noise of mean 0.

    Args:
        stddev: Standard deviation of the noise, from 0 to 1.
        seed: Seed of the random numbers; default a random one.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `stddev` is out of range.
    """

    def __init__(self, stddev: float, seed: Any = None, **kwargs: Any):
        super().__init__(stddev, seed, "stddev", **kwargs)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the inputs, in training with noise."""
        if not training or self.stddev == 0:
            return inputs
        noise = random.normal(
            inputs.shape, 0.0, self.stddev, dtype=self.compute_dtype, seed=self.seed_generator
        )
        return inputs + noise

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


@serializable("keras.layers")
class GaussianDropout(_Noisy):
    """In training multiplies by normal noise of mean 1 and variance `rate / (1 - rate)`.

    Args:
        rate: From 0 to 1, with the meaning of a dropout rate.
        seed: Seed of the random numbers; default a random one.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `rate` is out of range.
    """

    def __init__(self, rate: float, seed: Any = None, **kwargs: Any):
        super().__init__(rate, seed, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the inputs, in training with noise."""
        if not training or self.rate == 0:
            return inputs
        stddev = math.sqrt(self.rate / (1 - self.rate))
        noise = random.normal(
            inputs.shape, 1.0, stddev, dtype=self.compute_dtype, seed=self.seed_generator
        )
        return inputs * noise

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@serializable("keras.layers")
class AlphaDropout(_Noisy):
    """Dropout for SELU networks: keeps mean and variance of the inputs.

    Args:
        rate: Share of the inputs dropped, from 0 to 1.
        noise_shape: Shape of the mask, which is broadcast; `None` entries are those of the input.
        seed: Seed of the random numbers; default a random one.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is out of range.

    Reference: Klambauer et al., "Self-Normalizing Neural Networks", 2017.
    """

    _LOWEST = -1.7580993408473766  # what SELU goes to for small inputs

    def __init__(self, rate: float, noise_shape: Any = None, seed: Any = None, **kwargs: Any):
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = _checked_noise_shape(noise_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the inputs, in training with some of them dropped."""
        if not training or self.rate == 0:
            return inputs
        shape = [
            mine if given is None else given
            for mine, given in zip(
                inputs.shape, self.noise_shape or (None,) * inputs.ndim, strict=True
            )
        ]
        kept = ops.cast(random.uniform(shape, seed=self.seed_generator) >= self.rate, inputs.dtype)
        low = self._LOWEST
        scale = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        return scale * (inputs * kept + low * (1 - kept)) - scale * low * self.rate

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}
        return {**super().get_config(), **config}


@serializable("keras.layers")
class ActivityRegularization(Layer):
    """Passes the inputs on and adds a penalty on them to the losses.

    Args:
        l1: Factor of the sum of absolute values.
        l2: Factor of the sum of squares.
        **kwargs: Arguments of `Layer`.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.supports_masking = True
        self.l1, self.l2 = l1, l2
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return {**config, "l1": self.l1, "l2": self.l2}
