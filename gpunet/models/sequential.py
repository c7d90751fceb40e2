"""Sequential: a stack of layers."""

import copy
import inspect
from typing import Any

from gpunet import saving, tree
from gpunet.core.variable import standardize_shape
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers import InputLayer, Layer
from gpunet.layers.tracker import Version
from gpunet.models.functional import Functional
from gpunet.models.model import Model
from gpunet.saving import serializable


@serializable("keras")
class Sequential(Model):
    """A model in which each layer gets the output of the one before it.

    With an `Input` first the weights are made at once, else when the shape of the data is known.

    Args:
        layers: List of layers.
        trainable: Whether the weights are trained.
        name: Name; default an automatic one.

    Raises:
        ArgumentError: If an item is no layer, or two have the same name.

    Example:
        >>> import gpunet
        >>> model = gpunet.models.Sequential(
        ...     [gpunet.layers.Input((4,)), gpunet.layers.Dense(8, "relu"), gpunet.layers.Dense(1)]
        ... )
        >>> model.output_shape, model.count_params()
        ((None, 1), 49)
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "Sequential":  # noqa: D102
        return Layer.__new__(cls, *args, **kwargs)  # type: ignore[return-value]

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name)
        self.supports_masking = True
        self.__dict__["_functional"] = None
        for layer in layers or ():
            self.add(layer, rebuild=False)
        if self._layers:
            self._maybe_rebuild()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Puts a layer on top.

        Args:
            layer: Layer, or KerasTensor made by `Input` (only at the bottom).
            rebuild: Whether to build the model now, where its input is known.

        Raises:
            ArgumentError: If it is no layer, its name is taken, or a second input.
        """
        if not self._layers and getattr(layer, "_input_shape_arg", None) is not None:
            self.add(InputLayer(shape=layer._input_shape_arg))
        history = getattr(layer, "_keras_history", None)
        if history is not None and isinstance(history[0], InputLayer):
            layer = history[0]
        self._check_layer(layer)
        self._layers.append(layer)
        self._changed()
        if rebuild:
            self._maybe_rebuild()

    def _check_layer(self, layer):
        if not isinstance(layer, Layer):
            hint = " Pass an instance: Dense(...)." if isinstance(layer, type) else ""
            raise ArgumentError(
                f"Only instances of `keras.Layer` can be added to a Sequential model.{hint} "
                f"Received: {layer} (of type {type(layer)})"
            )
        if any(other.name == layer.name and other is not layer for other in self._layers):
            raise ArgumentError(
                "All layers added to a Sequential model should have unique names. Name "
                f"'{layer.name}' is already the name of a layer in this model. Update the `name` "
                "argument to pass a unique name."
            )
        if isinstance(layer, InputLayer) and self._layers:
            if isinstance(self._layers[0], InputLayer):
                raise ArgumentError(
                    f"Sequential model '{self.name}' has already been configured to use input "
                    f"shape {self._layers[0].batch_shape}. You cannot add a different Input layer "
                    "to it."
                )
            raise ArgumentError("An `Input` must be the first layer of a Sequential model.")

    def pop(self, rebuild: bool = True) -> Layer:
        """Removes the layer on top and returns it.

        Raises:
            ArgumentError: If there is none.
        """
        if not self.layers:
            raise ArgumentError(f"Sequential model '{self.name}' has no layers to remove.")
        layer = self._layers.pop()
        self._changed()
        if rebuild and self._layers:
            self._maybe_rebuild()
        return layer

    def _changed(self):
        """Forgets what was built of the old layers."""
        Version.number += 1
        self.built = False
        self.__dict__.update(
            _functional=None, train_function=None, test_function=None, predict_function=None
        )

    def _maybe_rebuild(self):
        first = self._layers[0]
        if len(self._layers) < 2:
            return
        if isinstance(first, InputLayer):
            self.build(first.batch_shape)
        elif isinstance(first, (Functional, Sequential)) and first.built:
            shape = first.input_shape
            if isinstance(shape, tuple):
                self.build(shape)

    def _lock_state(self) -> None:
        """Layers may be added at any time."""

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights for a shape of the input, batch included.

        Raises:
            ArgumentError: If there are no layers.
            ShapeError: If the shape is not that of the `Input`.
        """
        try:
            input_shape = standardize_shape(input_shape, allow_none=True)
        except ShapeError:  # a nest of inputs: the layers are simply called in turn
            return
        if not self._layers:
            raise ArgumentError(
                f"Sequential model {self.name} cannot be built because it has no layers. Call "
                "`model.add(layer)`."
            )
        layers = list(self._layers)
        if not isinstance(layers[0], InputLayer):
            layers.insert(0, InputLayer(batch_shape=input_shape, dtype=layers[0].compute_dtype))
        elif layers[0].batch_shape != input_shape:
            raise ShapeError(
                f"Sequential model '{self.name}' has already been configured to use input shape "
                f"{layers[0].batch_shape}. You cannot build it with input_shape {input_shape}"
            )
        x = layers[0]._inbound_nodes[0].output_tensors[0]
        inputs = x
        for layer in layers[1:]:
            try:
                x = layer(x)
            except NotImplementedError:  # a layer whose shapes only data can tell
                return
            except TypeError as error:
                _explain_call(layer, error)
                raise
        functional = Functional(inputs=inputs, outputs=x, name=self.name)
        self._layers[:] = layers
        self._changed()
        self.__dict__["_functional"] = functional
        self.__dict__["output_names"] = functional.output_names
        self.built = True

    def _set_masks(self, inputs: Any, outputs: Any, previous: Any) -> None:
        """The layers inside have set the masks of their outputs."""

    def _build_for(self, x: Any) -> None:
        """Builds for batches like `x`, of any size."""
        begun = not self._layers or isinstance(self._layers[0], InputLayer)
        if self._functional is None and not begun and hasattr(x, "shape"):
            self.build((None, *x.shape[1:]))

    def call(self, inputs: Any, training: Any = None, mask: Any = None, **kwargs: Any) -> Any:
        """Computes the outputs.

        Args:
            inputs: A tensor, or a nest of tensors if the first layer takes one.
            training: Passed on to the layers.
            mask: Mask of the input.
            **kwargs: Other arguments for layers that ask for them.
        """
        if self._functional is not None:
            return self._functional.call(inputs, training=training, mask=mask, **kwargs)
        for layer in self.layers:
            facts = layer._call_facts
            options: dict[str, Any] = {}
            if "mask" in facts.names:
                options["mask"] = mask
            if facts.training and training is not None:
                options["training"] = training
            inputs = layer(inputs, **options)
            mask = tree.map_structure(lambda y: getattr(y, "_keras_mask", None), inputs)
        return inputs

    @property
    def layers(self) -> list[Layer]:
        """The layers that were added; the automatic InputLayer is not among them."""
        layers = self._layers
        return list(layers[1:] if layers and isinstance(layers[0], InputLayer) else layers)

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Sequential.layers` attribute is reserved and should not be used. Use `add()` and "
            "`pop()` to change the layers in this model."
        )

    def compute_output_spec(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Returns the outputs as KerasTensors."""
        if self._functional is not None:
            return self._functional.compute_output_spec(inputs, training=training, mask=mask)
        for layer in self.layers:
            inputs = layer.compute_output_spec(inputs)
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the output for a shape of the input."""
        if self._functional is not None:
            return self._functional.compute_output_shape(input_shape)
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def _known(self, what):
        if self._functional is None:
            raise AttributeError(f"Sequential model '{self.name}' has no defined {what} yet.")
        return self._functional

    @property
    def input_shape(self) -> Any:
        """Shape of the input."""
        return self._known("input shape").input_shape

    @property
    def output_shape(self) -> Any:
        """Shape of the output."""
        return self._known("output shape").output_shape

    @property
    def inputs(self) -> list[Any]:
        """The input, as a list of KerasTensors."""
        return self._known("inputs").inputs

    @property
    def outputs(self) -> list[Any]:
        """The output, as a list of KerasTensors."""
        return self._known("outputs").outputs

    @property
    def input_dtype(self) -> str:
        """Dtype that inputs are cast to."""
        first = self._layers[0] if self._layers else None
        return first.dtype if isinstance(first, InputLayer) else super().input_dtype

    def get_config(self) -> dict:
        """Returns the configs of the layers, and the input shape where it is known."""
        config = {
            **Model.get_config(self),
            "name": self.name,
            "layers": [saving.serialize_keras_object(layer) for layer in self._layers],
        }
        if self._functional is not None:
            config["build_input_shape"] = self._layers[0].batch_shape
        return copy.deepcopy(config)

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Sequential":
        """Returns a model made from what `get_config` returned.

        Raises:
            ArgumentError: If the config has no name or layers.
        """
        if not {"name", "layers"} <= set(config):
            raise ArgumentError(
                "A Sequential model configuration must be a dictionary containing the 'name' and "
                f"'layers' keys. {received(config=config)}"
            )
        model = cls(name=config["name"])
        for layer in config["layers"]:
            model.add(saving.deserialize_keras_object(layer, custom_objects), rebuild=False)
        if model._layers:
            model._maybe_rebuild()
        shape = config.get("build_input_shape")
        if model._functional is None and isinstance(shape, (list, tuple)) and model._layers:
            model.build(tuple(shape))
        return model


def _explain_call(layer, error):
    """Says in the error that a layer of a Sequential takes exactly one argument."""
    parameters = [
        p
        for p in inspect.signature(layer.call).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    required = [p.name for p in parameters if p.default is p.empty]
    kind = type(layer).__name__
    if not parameters:
        raise ArgumentError(
            "Layers added to a Sequential model should have a single positional argument, the "
            f"input tensor. Layer {kind} has no positional arguments."
        ) from error
    if len(required) > 1:
        raise ArgumentError(
            "Layers added to a Sequential model can only have a single required positional "
            f"argument, the input tensor. Layer {kind} has multiple required positional "
            f"arguments: {required}"
        ) from error
