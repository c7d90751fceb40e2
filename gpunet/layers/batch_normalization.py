"""BatchNormalization: each channel normalized over the batch."""

from typing import Any

from gpunet import ops
from gpunet.config import epsilon as small
from gpunet.dtypes import result_type
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.normalization import AFFINE_OPTIONS, AxisNormalization
from gpunet.layers.options import options_config, set_options
from gpunet.saving import serializable


@serializable("keras.layers")
class BatchNormalization(AxisNormalization):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, for each channel.

    In training the statistics are those of the batch, and the moving ones go towards them:
    `moving = moving * momentum + batch * (1 - momentum)`. Otherwise, and if `trainable` is false,
    the moving ones are used.

    Args:
        axis: Axis of the channels.
        momentum: How slowly the moving statistics change.
        epsilon: Added to the variance.
        center: Whether there is a `beta`.
        scale: Whether there is a `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        moving_mean_initializer: Initializer of the moving mean.
        moving_variance_initializer: Initializer of the moving variance.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        renorm: Not supported; must be false.
        renorm_clipping: Not supported; must be `None`.
        renorm_momentum: Without `renorm` it means nothing.
        synchronized: Not supported; must be false.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs`; `training`; `mask` of the inputs' shape without the channels: where it
    is false, elements do not count.

    Raises:
        ArgumentError: If `renorm` or `synchronized` is asked for.

    Reference: Ioffe and Szegedy, "Batch Normalization", 2015.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.BatchNormalization()
        >>> layer(gpunet.tensor([[1.0], [3.0]]), training=True).numpy().round(2).tolist()
        [[-1.0], [1.0]]
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if renorm or renorm_clipping or synchronized:
            raise ArgumentError(
                "gpunet has neither batch renormalization nor synchronized statistics. "
                + received(renorm=renorm, synchronized=synchronized)
            )
        self.axis = int(axis)
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale = center, scale
        set_options(
            self,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )
        self.supports_masking = True
        self.gamma = self.beta = None
        self.moving_mean: Any = None
        self.moving_variance: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes `gamma`, `beta` and the moving statistics."""
        (channels,) = self._known_lengths(input_shape, [self.axis])
        self._add_affine((channels,))
        for name in ("moving_mean", "moving_variance"):
            weight = self.add_weight(
                name=name,
                shape=(channels,),
                initializer=getattr(self, f"{name}_initializer"),
                trainable=False,
                autocast=False,
            )
            setattr(self, name, weight)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Returns the inputs normalized; in training, updates the moving statistics."""
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ShapeError(
                "The mask provided should be one dimension less than the inputs. "
                + received(mask=mask.shape, inputs=inputs.shape)
            )
        if not (training and self.trainable):
            y = self._normalize(inputs, self.moving_mean, self.moving_variance)
        elif mask is None:
            y, mean, variance = ops.batch_normalization_training(
                inputs, self.axis, self.beta, self.gamma, self.epsilon
            )
            self._move(mean, variance)
        else:
            mean, variance = self._masked_moments(inputs, mask)
            y = self._normalize(inputs, mean, variance)
            self._move(mean, variance)
        return y if y.dtype == self.compute_dtype else ops.cast(y, self.compute_dtype)

    def _normalize(self, inputs, mean, variance):
        return ops.batch_normalization(
            inputs, mean, variance, self.axis, self.beta, self.gamma, self.epsilon
        )

    def _move(self, mean, variance):
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            value = ops.stop_gradient(value)
            moving.assign(moving.value * self.momentum + value * (1.0 - self.momentum))

    def _masked_moments(self, inputs, mask):
        x = ops.cast(inputs, result_type(inputs.dtype, "float32"))
        axes = [i for i in range(x.ndim) if i != self.axis % x.ndim]
        kept = ops.cast(ops.cast(ops.expand_dims(mask, -1), "bool"), x.dtype)
        kept = ops.broadcast_to(kept, x.shape)
        count = ops.sum(kept, axes, keepdims=True) + small()
        mean = ops.sum(ops.where(kept > 0, x, ops.zeros_like(x)), axes, keepdims=True) / count
        apart = ops.where(kept > 0, x - mean, ops.zeros_like(x))
        variance = ops.sum(ops.square(apart), axes, keepdims=True) / count
        return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        names = ("axis", "momentum", "epsilon", "center", "scale")
        config: dict = {name: getattr(self, name) for name in names}
        config["synchronized"] = False
        options = (*AFFINE_OPTIONS, "moving_mean_initializer", "moving_variance_initializer")
        return {**super().get_config(), **config, **options_config(self, *options)}
