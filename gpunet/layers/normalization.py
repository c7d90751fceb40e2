"""Normalization of each example: layer, group, RMS and unit normalization."""

from typing import Any

from gpunet import ops
from gpunet.errors import ArgumentError, DTypeError, ShapeError, received
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import options_config, set_options
from gpunet.saving import serializable

AFFINE_OPTIONS = (
    "beta_initializer",
    "gamma_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
)


class AxisNormalization(Layer):
    """What the normalizing layers share: they keep the shape, along axes that must exist."""

    axis: Any

    def _known_lengths(self, input_shape, axes):
        """Returns the lengths of axes, which weights are made for."""
        self.compute_output_shape(input_shape)
        lengths = tuple(input_shape[axis] for axis in axes)
        if None in lengths:
            raise ShapeError(
                f"Layer '{self.name}': axis {self.axis} of the input should have a defined "
                f"dimension. {received(input_shape=input_shape)}"
            )
        return lengths

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        axes = [self.axis] if isinstance(self.axis, int) else self.axis
        for axis in axes:
            if not -len(input_shape) <= axis < len(input_shape):
                raise ShapeError(
                    f"Axis {axis} is out of bounds for input shape {tuple(input_shape)}. "
                    + received(axis=self.axis)
                )
        return input_shape

    def _add_affine(self, shape: tuple) -> None:
        """Makes `gamma` and `beta`, where they are wanted."""
        self.gamma = self._add("gamma", shape) if self._has_gamma() else None
        self.beta = self._add("beta", shape) if self._has_beta() else None

    def _has_gamma(self):
        return self.scale

    def _has_beta(self):
        return self.center

    def _add(self, name, shape):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            autocast=False,
        )


def checked_axes(axis: Any) -> Any:
    """Returns an axis, or a list of axes.

    Raises:
        DTypeError: If it is neither an integer nor a sequence.
    """
    if isinstance(axis, (list, tuple)):
        return list(axis)
    if isinstance(axis, int):
        return axis
    raise DTypeError(f"`axis` must be an int or a list/tuple of ints. {received(axis=axis)}")


@serializable("keras.layers")
class LayerNormalization(AxisNormalization):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, over axes of each example.

    Args:
        axis: Axis or axes that are normalized together.
        epsilon: Added to the variance.
        center: Whether there is a `beta`.
        scale: Whether there is a `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        **kwargs: Arguments of `Layer`.

    Raises:
        DTypeError: If `axis` is no integer, nor a sequence of them.

    Reference: Ba et al., "Layer Normalization", 2016.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.LayerNormalization(epsilon=0.0)
        >>> layer(gpunet.tensor([[1.0, 3.0]])).tolist()
        [[-1.0, 1.0]]
    """

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        if kwargs.pop("rms_scaling", False):
            raise ArgumentError(
                "`rms_scaling=True` is wrong in Keras (it divides by the standard deviation): use "
                "`RMSNormalization`. " + received(rms_scaling=True)
            )
        super().__init__(**kwargs)
        self.axis = checked_axes(axis)
        self.epsilon, self.center, self.scale = epsilon, center, scale
        set_options(
            self,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        """Makes `gamma` and `beta`."""
        axes = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]
        shape = self._known_lengths(input_shape, axes)
        self.axis = list(axes)
        self._add_affine(shape)

    def call(self, inputs: Any) -> Any:
        """Returns the inputs normalized."""
        y = ops.layer_normalization(inputs, self.gamma, self.beta, list(self.axis), self.epsilon)
        return y if y.dtype == self.compute_dtype else ops.cast(y, self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        axis = self.axis if isinstance(self.axis, int) else list(self.axis)
        config = {"axis": axis, "epsilon": self.epsilon, "center": self.center}
        config |= {"scale": self.scale, "rms_scaling": False}
        return {**super().get_config(), **config, **options_config(self, *AFFINE_OPTIONS)}


@serializable("keras.layers")
class RMSNormalization(AxisNormalization):
    """`x / sqrt(mean(x**2) + epsilon) * scale`, over axes of each example.

    Args:
        axis: Axis or axes that are normalized together.
        epsilon: Added to the mean of the squares.
        **kwargs: Arguments of `Layer`.

    Reference: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = checked_axes(axis)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """Makes `scale`."""
        axes = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]
        shape = self._known_lengths(input_shape, axes)
        self.axis = list(axes)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")

    def call(self, x: Any) -> Any:
        """Returns the inputs normalized."""
        return ops.rms_normalization(x, self.scale, list(self.axis), self.epsilon)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        axis = self.axis if isinstance(self.axis, int) else list(self.axis)
        return {**super().get_config(), "axis": axis, "epsilon": self.epsilon}


@serializable("keras.layers")
class GroupNormalization(AxisNormalization):
    """Normalizes each example over groups of channels and all places.

    Args:
        groups: How many groups; the number of channels is a multiple. -1: each channel is one.
        axis: Axis of the channels.
        epsilon: Added to the variance.
        center: Whether there is a `beta`.
        scale: Whether there is a `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `groups` is neither positive nor -1.
        ShapeError: If the number of channels is not a multiple.

    Reference: Wu and He, "Group Normalization", 2018.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        if not isinstance(groups, int) or (groups <= 0 and groups != -1):
            raise ArgumentError(
                "Invalid value for `groups`: expected a positive integer, or -1 for instance "
                f"normalization. {received(groups=groups)}"
            )
        super().__init__(**kwargs)
        self.supports_masking = True
        self.autocast = False
        self.groups, self.axis, self.epsilon = groups, axis, epsilon
        self.center, self.scale = center, scale
        set_options(
            self,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )

    def build(self, input_shape: Any) -> None:
        """Makes `gamma` and `beta`."""
        (channels,) = self._known_lengths(input_shape, [self.axis])
        groups = channels if self.groups == -1 else self.groups
        if channels % groups:
            raise ShapeError(
                f"Layer '{self.name}': the number of channels ({channels}) must be a multiple of "
                f"the number of groups. {received(groups=groups)}"
            )
        self.groups = groups
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})
        self._add_affine((channels,))

    def call(self, inputs: Any) -> Any:
        """Returns the inputs normalized."""
        y = ops.group_normalization(
            inputs, self.groups, self.gamma, self.beta, self.epsilon, axis=self.axis
        )
        return y if y.dtype == self.compute_dtype else ops.cast(y, self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        names = ("groups", "axis", "epsilon", "center", "scale")
        config = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **config, **options_config(self, *AFFINE_OPTIONS)}


@serializable("keras.layers")
class UnitNormalization(AxisNormalization):
    """Divides by the L2 norm along axes.

    Args:
        axis: Axis or axes.
        **kwargs: Arguments of `Layer`.

    Raises:
        DTypeError: If `axis` is no integer, nor a sequence of them.
    """

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = checked_axes(axis)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the inputs normalized."""
        axis = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        return ops.normalize(inputs, axis=axis, order=2, epsilon=1e-12)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        axis = self.axis if isinstance(self.axis, int) else list(self.axis)
        return {**super().get_config(), "axis": axis}
