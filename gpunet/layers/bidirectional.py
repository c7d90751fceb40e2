"""Wrappers of layers for sequences: Bidirectional and TimeDistributed."""

from typing import Any, Self

from gpunet import ops
from gpunet.errors import ArgumentError, ShapeError, StateError, received
from gpunet.layers.base import Layer
from gpunet.layers.basic import Wrapper
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object

_MERGES = ("sum", "mul", "ave", "concat", None)


@serializable("keras.layers")
class Bidirectional(Layer):
    """A recurrent layer that reads sequences forwards, and one that reads them backwards.

    Args:
        layer: The recurrent layer; a copy of it is used.
        merge_mode: How the two outputs are merged: `"concat"`, `"sum"`, `"ave"`, `"mul"`, or `None`
            for a pair.
        weights: Initial weights, of the forward layer and then of the backward one.
        backward_layer: The layer that reads backwards; default a copy of `layer`.
        **kwargs: Arguments of `Layer`.

    Call arguments: as those of the layer; `initial_state` holds the states of both.

    Raises:
        ArgumentError: If the two layers do not go together.

    Reference: Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.Bidirectional(gpunet.layers.LSTM(4))
        >>> layer(gpunet.ops.ones((2, 5, 3))).shape
        (2, 8)
    """

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ):
        for given in (layer, backward_layer or layer):
            if not isinstance(given, Layer):
                raise ArgumentError(f"Bidirectional wraps a layer. {received(layer=given)}")
        if merge_mode not in _MERGES:
            raise ArgumentError(
                f"Invalid merge mode: it should be one of {_MERGES}. "
                + received(merge_mode=merge_mode)
            )
        super().__init__(**kwargs)
        self.forward_layer: Any = _renamed(layer, "forward_")
        self.backward_layer: Any = backward_layer or _renamed(layer, "backward_", go_backwards=True)
        self._check_pair()
        for inner in (self.forward_layer, self.backward_layer):
            if hasattr(inner, "zero_output_for_mask"):
                inner.zero_output_for_mask = inner.return_sequences
            if hasattr(layer, "use_cudnn") and hasattr(inner, "use_cudnn"):
                inner.use_cudnn = layer.use_cudnn
        self.merge_mode = merge_mode
        self._initial_weights = weights
        self.stateful = self.forward_layer.stateful
        self.return_sequences = self.forward_layer.return_sequences
        self.return_state = self.forward_layer.return_state
        self.supports_masking = True
        self.input_spec = layer.input_spec

    def _check_pair(self):
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ArgumentError(
                "Forward layer and backward layer should have different `go_backwards` value. "
                + received(go_backwards=(forward.go_backwards, backward.go_backwards))
            )
        for name in ("stateful", "return_sequences", "return_state"):
            values = getattr(forward, name), getattr(backward, name)
            if values[0] != values[1]:
                raise ArgumentError(
                    "Forward layer and backward layer are expected to have the same value for "
                    f'attribute "{name}". {received(**{name: values})}'
                )

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds both layers."""
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._initial_weights:
            self.set_weights(self._initial_weights)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
    ) -> Any:
        """Returns the outputs of both layers, merged."""
        forward_state = backward_state = None
        if initial_state is not None:
            half = len(initial_state) // 2
            forward_state, backward_state = initial_state[:half], initial_state[half:]
        options = {"mask": mask, "training": training}
        y = self.forward_layer(sequences, initial_state=forward_state, **options)
        z = self.backward_layer(sequences, initial_state=backward_state, **options)
        states: tuple = ()
        if self.return_state:
            states, y, z = (*y[1:], *z[1:]), y[0], z[0]
        y, z = ops.cast(y, self.compute_dtype), ops.cast(z, self.compute_dtype)
        if self.return_sequences:
            z = ops.flip(z, axis=1)
        merged = self._merge(y, z)
        if not self.return_state:
            return merged
        return (*merged, *states) if self.merge_mode is None else (merged, *states)

    def _merge(self, y, z):
        if self.merge_mode == "concat":
            return ops.concatenate([y, z], axis=-1)
        if self.merge_mode == "sum":
            return y + z
        if self.merge_mode == "ave":
            return (y + z) / 2
        return (y, z) if self.merge_mode is None else y * z

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Returns the shape of the output, and those of the states if they are returned."""
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        states: tuple = ()
        if self.return_state:
            shape, states = shape[0], tuple(shape[1:])
        if self.merge_mode == "concat":
            shape = (*shape[:-1], 2 * shape[-1])
        if self.merge_mode is None:
            return (shape, shape, *states, *states)
        return (shape, *states, *states) if self.return_state else tuple(shape)

    def compute_mask(self, _: Any, mask: Any) -> Any:
        """Returns the mask of the input if all outputs are returned."""
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        output = mask if self.return_sequences else None
        outputs = (output, output) if self.merge_mode is None else (output,)
        if self.return_state:
            return [*outputs, *[None] * (2 * len(self.forward_layer.state_size))]
        return outputs if self.merge_mode is None else output

    @property
    def states(self) -> tuple | None:
        """The states of both layers, if they are stateful and built."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return None if forward is None or backward is None else (*forward, *backward)

    def reset_state(self) -> None:
        """Sets the states of stateful layers to 0.

        Raises:
            StateError: If the layers are not stateful.
        """
        if not self.stateful:
            raise StateError(f"Layer '{self.name}' must be stateful to have states to reset.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {
            "merge_mode": self.merge_mode,
            "layer": serialize_keras_object(self.forward_layer),
            "backward_layer": serialize_keras_object(self.backward_layer),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Returns the layer of a config."""
        config = dict(config)
        for name in ("layer", "backward_layer"):
            if config.get(name) is not None:
                config[name] = deserialize_keras_object(config[name], custom_objects)
        return super().from_config(config)


def _renamed(layer, prefix, **changes):
    """A copy of a layer, not built, with a prefix before its name."""
    config = serialize_keras_object(layer)
    config.pop("build_config", None)
    name = prefix + layer.name.removeprefix(prefix)
    config["config"] = {**config["config"], "name": name, **changes}
    return type(layer).from_config(config["config"])


@serializable("keras.layers")
class TimeDistributed(Wrapper):
    """Applies a layer to every step of sequences, with the same weights.

    Args:
        layer: The layer.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs` of shape `(batch, steps, ...)`; `mask` of shape `(batch, steps)`, which
    is passed to the layer if it takes a mask; `training`.

    Raises:
        ArgumentError: If `layer` is no layer.
        ShapeError: If the inputs have less than three axes, or the mask does not fit.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.TimeDistributed(gpunet.layers.Dense(4))
        >>> layer(gpunet.ops.ones((2, 5, 3))).shape
        (2, 5, 4)
    """

    def __init__(self, layer: Layer, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def _step_shape(self, input_shape):
        if not isinstance(input_shape, (tuple, list)) or len(input_shape) < 3:
            raise ShapeError(
                "A `TimeDistributed` layer needs inputs with at least 3 dimensions: batch, steps "
                f"and features. {received(input_shape=input_shape)}"
            )
        return (input_shape[0], *input_shape[2:])

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside."""
        super().build(self._step_shape(input_shape))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the layer's output, with the steps."""
        shape = self.layer.compute_output_shape(self._step_shape(input_shape))
        return (shape[0], input_shape[1], *shape[1:])

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Returns the outputs of all steps."""
        shape = inputs.shape
        if mask is not None and tuple(mask.shape[:2]) != tuple(shape[:2]):
            raise ShapeError(
                "The `mask` of a `TimeDistributed` layer must have the first two lengths of the "
                f"inputs. {received(mask=mask.shape, inputs=shape)}"
            )
        if self.layer.treats_examples_alone:
            flat = ops.reshape(inputs, (shape[0] * shape[1], *shape[2:]))
            y = self.layer(flat, training=training)
            y = ops.reshape(y, (shape[0], shape[1], *y.shape[1:]))
        else:
            steps = [self._step(inputs, mask, t, training) for t in range(shape[1])]
            y = ops.stack(steps, axis=1)
        return y if y.dtype == self.compute_dtype else ops.cast(y, self.compute_dtype)

    def _step(self, inputs, mask, t, training):
        if mask is not None and "mask" in self.layer._call_facts.names:
            return self.layer(inputs[:, t], mask=mask[:, t], training=training)
        return self.layer(inputs[:, t], training=training)
