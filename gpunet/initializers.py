"""Where weights start from.

An initializer is called with a shape and a dtype. With the same seed it gives the same weights on
every device, and at every call: give a `SeedGenerator` as the seed for new ones at each call.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet import ops, random
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.variable import standardize_shape
from gpunet.dtypes import standardize_dtype
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.random.seed_generator import make_default_seed
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object
from gpunet.saving.lookup import Names

_HOME = "keras.initializers"
serializable("keras.random")(random.SeedGenerator)  # which stands below `saving`


@serializable(_HOME)
class Initializer:
    """Base class: subclasses define `__call__(shape, dtype=None)`.

    Example:
        >>> import gpunet
        >>> class Tens(Initializer):
        ...     def __call__(self, shape, dtype=None):
        ...         return gpunet.ops.full(shape, 10.0, dtype=dtype)
        >>> Tens()((2,)).tolist()
        [10.0, 10.0]
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Returns the initial value of a weight."""
        raise NotImplementedError(
            "Initializer subclasses must implement the `__call__()` method. "
            + received(type=type(self).__name__)
        )

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Initializer":
        """Makes an initializer from what `get_config` returned."""
        return cls(**config)

    def clone(self) -> "Initializer":
        """Returns a new initializer with the same arguments."""
        return type(self).from_config(self.get_config())


@serializable(_HOME)
class Zeros(Initializer):
    """All elements 0."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        return ops.zeros(shape, dtype=standardize_dtype(dtype))


@serializable(_HOME)
class Ones(Initializer):
    """All elements 1."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        return ops.ones(shape, dtype=standardize_dtype(dtype))


@serializable(_HOME)
class Constant(Initializer):
    """All elements one value, or the elements of an array.

    Args:
        value: Number, or array that broadcasts to the shape.

    Example:
        >>> Constant(3.0)((2,)).tolist()
        [3.0, 3.0]
    """

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        value = ops.cast(self.value, standardize_dtype(dtype))
        return ops.broadcast_to(value, standardize_shape(shape))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"value": serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config: dict) -> "Constant":
        """Makes an initializer from what `get_config` returned."""
        return cls(deserialize_keras_object(config["value"]))


@serializable(_HOME)
class Identity(Initializer):
    """The identity matrix, times a factor.

    Args:
        gain: The factor.

    Raises:
        ShapeError: When called with anything but the shape of a matrix.
    """

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        if len(shape) != 2:
            raise ShapeError(
                "Identity matrix initializer can only be used for 2D matrices. "
                + received(shape=shape)
            )
        return ops.eye(*shape, dtype=standardize_dtype(dtype)) * self.gain

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base class of initializers that draw random numbers.

    Args:
        seed: Integer (the same weights at every call), `SeedGenerator` (new ones at each call), or
            `None` for a seed chosen now.

    Raises:
        ArgumentError: If the seed is none of these.
    """

    def __init__(self, seed: Any = None):
        self._init_seed = seed
        if seed is None:
            seed = make_default_seed()
        elif isinstance(seed, dict):
            seed = deserialize_keras_object(seed)
        elif not isinstance(seed, (int, np.integer, random.SeedGenerator)):
            raise ArgumentError(
                "`seed` argument should be an instance of `keras.random.SeedGenerator()` or an "
                f"integer. {received(seed=seed)}"
            )
        self.seed = seed

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"seed": serialize_keras_object(self._init_seed)}


@serializable(_HOME)
class RandomNormal(RandomInitializer):
    """Draws from a normal distribution.

    Args:
        mean: Mean.
        stddev: Standard deviation.
        seed: Integer, `SeedGenerator` or `None`.

    Raises:
        ArgumentError: If the seed is none of these.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        self.mean, self.stddev = mean, stddev
        super().__init__(seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        return random.normal(shape, self.mean, self.stddev, dtype, self.seed)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


@serializable(_HOME)
class TruncatedNormal(RandomNormal):
    """Draws from a normal distribution, less than two standard deviations from the mean.

    Args:
        mean: Mean.
        stddev: Standard deviation, before it is cut.
        seed: Integer, `SeedGenerator` or `None`.

    Raises:
        ArgumentError: If the seed is none of these.
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


@serializable(_HOME)
class RandomUniform(RandomInitializer):
    """Draws evenly from a range.

    Args:
        minval: Lower end, inclusive.
        maxval: Upper end, exclusive.
        seed: Integer, `SeedGenerator` or `None`.

    Raises:
        ArgumentError: If the seed is none of these.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        self.minval, self.maxval = minval, maxval
        super().__init__(seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        return random.uniform(shape, self.minval, self.maxval, dtype, self.seed)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")
_CUT = 0.8796256610342398  # standard deviation of a normal distribution cut at 2


@serializable(_HOME)
class VarianceScaling(RandomInitializer):
    """Draws whose variance is `scale / n`, `n` the inputs or outputs of a unit.

    Args:
        scale: Above 0.
        mode: What `n` is: `"fan_in"` (inputs), `"fan_out"` (outputs) or `"fan_avg"` (their mean).
        distribution: `"truncated_normal"` (or `"normal"`), `"untruncated_normal"` or `"uniform"`.
        seed: Integer, `SeedGenerator` or `None`.
        input_axes: Which axes count as inputs; by default all but the last.
        output_axes: Which axes count as outputs; by default the last (and those of a window).

    Raises:
        ArgumentError: If an argument is out of range.

    Example:
        >>> VarianceScaling(scale=2.0, seed=1)((784, 256)).shape
        (784, 256)
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        if not scale > 0.0:
            raise ArgumentError(f"Argument `scale` must be positive float. {received(scale=scale)}")
        if mode not in _MODES:
            raise ArgumentError(
                f"Invalid `mode` argument: {mode}. Please use one of {_MODES}. "
                + received(mode=mode)
            )
        chosen = str(distribution).lower()
        chosen = "truncated_normal" if chosen == "normal" else chosen
        if chosen not in _DISTRIBUTIONS:
            raise ArgumentError(
                f"Invalid `distribution` argument: {distribution}. Please use one of "
                f"{_DISTRIBUTIONS}. {received(distribution=distribution)}"
            )
        self.scale, self.mode, self.distribution = scale, mode, chosen
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[self.mode]
        variance = self.scale / max(1.0, n)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(shape, -limit, limit, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)
        return random.truncated_normal(shape, 0.0, math.sqrt(variance) / _CUT, dtype, self.seed)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


class _Named(VarianceScaling):
    """A variance scaling with a name: only the seed and the axes are left to choose."""

    _settings: tuple[float, str, str]

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        super().__init__(*self._settings, seed, input_axes, output_axes)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            **RandomInitializer.get_config(self),
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


@serializable(_HOME)
class GlorotUniform(_Named):
    """Evenly from `±sqrt(6 / (fan_in + fan_out))`. Glorot, Bengio, 2010.

    Args:
        seed: Integer, `SeedGenerator` or `None`.
        input_axes: See `VarianceScaling`.
        output_axes: See `VarianceScaling`.
    """

    _settings = (1.0, "fan_avg", "uniform")


@serializable(_HOME)
class GlorotNormal(_Named):
    """Variance `2 / (fan_in + fan_out)`, normal. Glorot, Bengio, 2010; see `GlorotUniform`."""

    _settings = (1.0, "fan_avg", "truncated_normal")


@serializable(_HOME)
class LecunNormal(_Named):
    """Variance `1 / fan_in`, normal. LeCun et al., 1998; arguments as of `GlorotUniform`."""

    _settings = (1.0, "fan_in", "truncated_normal")


@serializable(_HOME)
class LecunUniform(_Named):
    """Evenly from `±sqrt(3 / fan_in)`. LeCun et al., 1998; arguments as of `GlorotUniform`."""

    _settings = (1.0, "fan_in", "uniform")


@serializable(_HOME)
class HeNormal(_Named):
    """Variance `2 / fan_in`, normal. He et al., 2015; arguments as of `GlorotUniform`."""

    _settings = (2.0, "fan_in", "truncated_normal")


@serializable(_HOME)
class HeUniform(_Named):
    """Evenly from `±sqrt(6 / fan_in)`. He et al., 2015; arguments as of `GlorotUniform`."""

    _settings = (2.0, "fan_in", "uniform")


def compute_fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Returns how many inputs and outputs a unit with this weight has.

    Args:
        shape: Shape of the weight: `(inputs, outputs)`, or `(*window, inputs, outputs)`.
        input_axes: Axes whose product is the inputs, if both are given.
        output_axes: Axes whose product is the outputs.

    Example:
        >>> compute_fans((3, 3, 16, 32))
        (144, 288)
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return (
            math.prod(shape[axis] for axis in input_axes),
            math.prod(shape[axis] for axis in output_axes),
        )
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@serializable(_HOME)
class Orthogonal(RandomInitializer):
    """A random matrix whose rows (or columns, where there are more rows) are orthonormal.

    All axes but the last count as one. Saxe, McClelland, Ganguli, 2013.

    Args:
        gain: Factor on the matrix.
        seed: Integer, `SeedGenerator` or `None`.

    Raises:
        ShapeError: When called with fewer than two axes.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None):
        self.gain = gain
        super().__init__(seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        """Returns the initial value of a weight."""
        if len(shape) < 2:
            raise ShapeError(
                "The tensor to initialize must be at least two-dimensional. "
                + received(shape=shape)
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        wide = rows < columns
        draws = random.normal((max(rows, columns), min(rows, columns)), seed=self.seed)
        # Decomposed by NumPy on every device: the same seed gives the same matrix.
        q, r = np.linalg.qr(draws.numpy().astype(np.float64))
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        q = self.gain * (q.T if wide else q).reshape(shape)
        return as_tensor(q, standardize_dtype(dtype), draws.device)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "gain": self.gain}


zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
lecun_uniform, lecun_normal, he_uniform, he_normal = LecunUniform, LecunNormal, HeUniform, HeNormal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal
_NAMES = Names(
    "initializer",
    _HOME,
    [
        Initializer,
        Constant,
        Identity,
        Ones,
        Zeros,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        LecunNormal,
        LecunUniform,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
    ],
    {
        "IdentityInitializer": Identity,
        "OrthogonalInitializer": Orthogonal,
        "normal": RandomNormal,
        "one": Ones,
        "uniform": RandomUniform,
        "zero": Zeros,
    },
)


def serialize(initializer: Any) -> Any:
    """Returns the config of an initializer."""
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the initializer of a config or name.

    Raises:
        ArgumentError: If nothing has that name.
    """
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the initializer that a name, config, array, class, callable or `None` stands for.

    Args:
        identifier: For example `"glorot_uniform"`, `"Zeros"`, a config, an `Initializer`, a
            function of a shape and a dtype, or the array to start from.

    Raises:
        ArgumentError: If the identifier means no initializer.

    Example:
        >>> type(get("he_normal")).__name__
        'HeNormal'
    """
    if identifier is None:
        return None
    if isinstance(identifier, (Operators, np.ndarray, np.generic)):
        return _from_array(identifier)
    return _NAMES.get(identifier)


def _from_array(values):
    def initialize(shape, dtype=None):
        if standardize_shape(shape) != tuple(values.shape):
            raise ShapeError(
                f"Expected `shape` to be {tuple(values.shape)} for direct tensor as initializer. "
                + received(shape=shape)
            )
        return ops.cast(values, standardize_dtype(dtype))

    return initialize
