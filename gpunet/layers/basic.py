"""Layers that compute little: Identity, Lambda, Masking, and Wrapper, the base of wrappers."""

import inspect
import types
from collections.abc import Callable
from typing import Any, Self

from gpunet import ops
from gpunet.core.symbolic import KerasTensor, compute_output_spec, flatten, map_structure
from gpunet.errors import ArgumentError, SavingError, received
from gpunet.layers.base import Layer
from gpunet.layers.signature import is_shape, map_shapes
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object


@serializable("keras.layers")
class Identity(Layer):
    """Passes its inputs on.

    Args:
        **kwargs: Arguments of `Layer`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def compute_output_spec(self, inputs: Any) -> Any:
        """Returns tensors of the inputs' shapes and dtypes."""
        return map_structure(lambda x: KerasTensor(x.shape, x.dtype), inputs)


@serializable("keras.layers")
class Lambda(Layer):
    """Applies a function.

    Saving works for functions registered with `saving.register_keras_serializable`. Code is never
    saved, nor loaded: for a Python lambda write a `Layer` subclass instead.

    Args:
        function: Function of a tensor (or nest); may also take `mask` and `training`.
        output_shape: Shape of the output without the batch, or a function of the input's shape;
            default: found by tracing.
        mask: Mask of the output, or a function `(inputs, mask)`.
        arguments: Further keyword arguments of the function.
        **kwargs: Arguments of `Layer`.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Lambda(lambda x: x**2)(gpunet.tensor([3.0])).tolist()
        [9.0]
    """

    def __init__(
        self,
        function: Callable,
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not callable(function):
            raise ArgumentError(f"`function` must be callable. {received(function=function)}")
        self.function, self.arguments = function, arguments or {}
        self.mask, self._output_shape = mask, output_shape
        self.supports_masking = mask is not None
        names = inspect.signature(function).parameters
        self._passed = [name for name in ("mask", "training") if name in names]

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Returns `function(inputs)`."""
        available = {"mask": mask, "training": training}
        passed = {name: available[name] for name in self._passed}
        return self.function(inputs, **self.arguments, **passed)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns `output_shape` with the batch, or finds it by tracing."""
        given = self._output_shape
        if callable(given):
            return given(input_shape)
        if given is None:
            inputs = map_shapes(lambda s: KerasTensor(s, self.compute_dtype), input_shape)
            spec = compute_output_spec(self.call, inputs)
            return map_structure(lambda x: x.shape, spec)
        batch = input_shape[0] if is_shape(input_shape) else flatten(input_shape)[0]
        return map_shapes(lambda shape: (batch, *shape), given)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the result as KerasTensors."""
        if self._output_shape is None:
            return compute_output_spec(self.call, *args, **kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask given to the constructor."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict:
        """Returns the arguments of the constructor.

        Raises:
            SavingError: If there is a Python lambda among them.
        """
        config = {"function": _saved(self.function, self.name)}
        if self._output_shape is not None:
            config["output_shape"] = _saved(self._output_shape, self.name)
        if self.mask is not None:
            config["mask"] = _saved(self.mask, self.name)
        config["arguments"] = serialize_keras_object(dict(self.arguments))
        return {**super().get_config(), **config}

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None, safe_mode: bool | None = None
    ) -> Self:
        """Returns the layer of a config.

        Raises:
            SavingError: If the config holds code; `safe_mode` does not change that.
        """
        config = dict(config)
        for name in ("function", "output_shape", "mask", "arguments"):
            if name in config:
                config[name] = deserialize_keras_object(config[name], custom_objects)
        shape = config.get("output_shape")
        if isinstance(shape, list) and is_shape(shape):
            config["output_shape"] = tuple(shape)
        return super().from_config(config)


def _saved(value, name):
    if isinstance(value, types.LambdaType) and value.__name__ == "<lambda>":
        raise SavingError(
            f"Layer '{name}' holds a Python lambda, and gpunet saves no code: use a function "
            "registered with `saving.register_keras_serializable`, or a `Layer` subclass. "
            + received(function=value)
        )
    return serialize_keras_object(value)


@serializable("keras.layers")
class Masking(Layer):
    """Masks the time steps in which all features equal a value, and sets them to 0.

    Args:
        mask_value: The value.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs` of shape `(batch, steps, ...)`.
    """

    def __init__(self, mask_value: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(mask_value, dict):
            mask_value = deserialize_keras_object(mask_value)
        self.mask_value = mask_value
        self.supports_masking = True
        self._build_at_init()

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns which steps hold another value."""
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs: Any) -> Any:
        """Returns the inputs with masked steps set to 0, and a mask attached."""
        kept = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        outputs = ops.where(kept, inputs, ops.zeros_like(inputs))
        outputs._keras_mask = ops.squeeze(kept, axis=-1)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "mask_value": self.mask_value}


@serializable("keras.layers")
class Wrapper(Layer):
    """Base of layers that hold another layer, as `layer`.

    Args:
        layer: The layer.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `layer` is no layer.
    """

    def __init__(self, layer: Layer, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ArgumentError(
                f"A {type(self).__name__} wraps a layer. {received(layer=layer, type=type(layer))}"
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "layer": serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Returns the layer of a config."""
        config = dict(config)
        config["layer"] = deserialize_keras_object(config["layer"], custom_objects)
        return super().from_config(config)
