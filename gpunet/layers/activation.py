"""Activations as layers."""

import warnings
from typing import Any

from gpunet import activations, ops
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import options_config, set_options
from gpunet.saving import serializable


class _Elementwise(Layer):
    """A layer without weights whose output has the shape of its input."""

    treats_examples_alone = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape


@serializable("keras.layers")
class Activation(_Elementwise):
    """Applies an activation function.

    Args:
        activation: Activation, or its name, such as `"relu"`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If there is no activation of that name.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Activation("relu")(gpunet.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        set_options(self, activation=activation)
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns `activation(inputs)`."""
        return self.activation(inputs)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **options_config(self, "activation")}


@serializable("keras.layers")
class ReLU(_Elementwise):
    """`max(x, 0)`, with a slope below the threshold and a largest value.

    Args:
        max_value: Largest value of the output, at least 0; default none.
        negative_slope: Slope below the threshold, at least 0.
        threshold: Where the output begins, at least 0.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an argument is negative.
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if max_value is not None and max_value < 0:
            raise ArgumentError(
                "max_value of a ReLU layer cannot be a negative value. "
                + received(max_value=max_value)
            )
        for name, value in (("negative_slope", negative_slope), ("threshold", threshold)):
            if value is None or value < 0:
                raise ArgumentError(
                    f"{name} of a ReLU layer cannot be None or a negative value. "
                    + received(**{name: value})
                )
        self.max_value, self.negative_slope = max_value, negative_slope
        self.threshold = threshold
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the activation of the inputs."""
        return activations.relu(
            inputs,
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }
        return {**super().get_config(), **config}


@serializable("keras.layers")
class LeakyReLU(_Elementwise):
    """`x` where positive, else `negative_slope * x`.

    Args:
        negative_slope: Slope below 0, at least 0.
        **kwargs: Arguments of `Layer`; `alpha` is an old name of `negative_slope`.

    Raises:
        ArgumentError: If the slope is negative.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
            warnings.warn("`alpha` is an old name of `negative_slope`.", stacklevel=2)
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ArgumentError(
                "The negative_slope value of a Leaky ReLU layer cannot be None or negative value. "
                + received(negative_slope=negative_slope)
            )
        self.negative_slope = negative_slope
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the activation of the inputs."""
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "negative_slope": self.negative_slope}


@serializable("keras.layers")
class ELU(_Elementwise):
    """`x` where positive, else `alpha * (exp(x) - 1)`.

    Args:
        alpha: Value that the output goes to, with the sign changed, for small inputs.
        **kwargs: Arguments of `Layer`.

    Reference: Clevert et al., "Fast and Accurate Deep Network Learning by ELUs", 2015.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = alpha
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the activation of the inputs."""
        return activations.elu(inputs, alpha=self.alpha)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "alpha": self.alpha}


@serializable("gpunet.layers")
class GELU(_Elementwise):
    """`x * P(X <= x)` for a standard normal X. gpunet's own: Keras has no layer of this name.

    Args:
        approximate: Whether to use the approximation by a hyperbolic tangent.
        **kwargs: Arguments of `Layer`.

    Reference: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    """

    def __init__(self, approximate: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.approximate = approximate
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the activation of the inputs."""
        return activations.gelu(inputs, approximate=self.approximate)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "approximate": self.approximate}


@serializable("keras.layers")
class PReLU(Layer):
    """`x` where positive, else `alpha * x` with a learned `alpha`.

    Args:
        alpha_initializer: Initializer of `alpha`.
        alpha_regularizer: Regularizer of `alpha`.
        alpha_constraint: Constraint of `alpha`.
        shared_axes: Axes of the input (from 1) along which `alpha` is the same.
        **kwargs: Arguments of `Layer`.

    Reference: He et al., "Delving Deep into Rectifiers", 2015.
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        set_options(
            self,
            alpha_initializer=alpha_initializer,
            alpha_regularizer=alpha_regularizer,
            alpha_constraint=alpha_constraint,
        )
        if shared_axes is not None and not isinstance(shared_axes, (list, tuple)):
            shared_axes = [shared_axes]
        self.shared_axes = None if shared_axes is None else list(shared_axes)

    def build(self, input_shape: Any) -> None:
        """Makes `alpha`."""
        shared = self.shared_axes or []
        shape = [1 if i in shared else d for i, d in enumerate(input_shape)][1:]
        self.alpha = self.add_weight(
            name="alpha",
            shape=shape,
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        axes = {i: d for i, d in enumerate(input_shape) if i and i not in shared and shared}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs: Any) -> Any:
        """Returns the activation of the inputs."""
        return activations.relu(inputs) - self.alpha * activations.relu(-inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        options = options_config(self, "alpha_initializer", "alpha_regularizer", "alpha_constraint")
        return {**super().get_config(), **options, "shared_axes": self.shared_axes}


@serializable("keras.layers")
class Softmax(_Elementwise):
    """`exp(x) / sum(exp(x))` along an axis, or several.

    Args:
        axis: Axis or axes that are normalized together.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs`; `mask`, which broadcasts to it: where it is false the output is 0.

    Raises:
        ShapeError: If the mask does not broadcast to the inputs.
    """

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis
        self._build_at_init()

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the softmax of the inputs."""
        if mask is not None:
            _check_broadcast(mask.shape, inputs.shape)
            mask = mask if mask.dtype == "bool" else ops.greater(mask, 0.5)
            low = -3e4 if inputs.dtype == "float16" else -1e9
            inputs = ops.where(mask, inputs, ops.cast(low, inputs.dtype))
        axes: tuple = tuple(self.axis) if isinstance(self.axis, (list, tuple)) else (self.axis,)
        if len(axes) == 1:
            outputs = activations.softmax(inputs, axis=axes[0])
        else:
            outputs = ops.exp(inputs - ops.logsumexp(inputs, axis=axes, keepdims=True))
        return outputs if mask is None else ops.where(mask, outputs, ops.cast(0, outputs.dtype))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "axis": self.axis}


def _check_broadcast(mask, inputs):
    pairs = zip(reversed(mask), reversed(inputs), strict=False)
    if len(mask) > len(inputs) or any(m not in (1, d) for m, d in pairs):
        raise ShapeError(
            f"The `mask` must be broadcastable to `inputs`. {received(mask=mask, inputs=inputs)}"
        )
