"""Model: a layer that can be trained, summarised and saved."""

import inspect
import json
import warnings
from typing import Any

from gpunet import saving
from gpunet.core.state import state
from gpunet.core.symbolic import KerasTensor, compute_output_spec
from gpunet.errors import ArgumentError, StateError, received
from gpunet.layers import Layer
from gpunet.layers.signature import map_shapes
from gpunet.models.state_tree import get_state_tree, set_state_tree, variable_map
from gpunet.models.summary import print_summary
from gpunet.models.trainer import Trainer
from gpunet.saving import serializable


@serializable("keras")
class Model(Trainer, Layer):
    """A network with training loops; there are three ways to make one.

    1. Functional: `Model(inputs, outputs)` from KerasTensors; this returns a `Functional`.
    2. Subclass: layers in `__init__`, the computation in `call(self, x, training=None)`.
    3. `Sequential`: a list of layers.

    Args:
        inputs: KerasTensor made by `Input`, or nest of them.
        outputs: KerasTensor computed from the inputs, or nest of them.
        name: Name; default an automatic one.

    Example:
        >>> import gpunet
        >>> x = gpunet.layers.Input((8,))
        >>> y = gpunet.layers.Dense(4)(gpunet.layers.Dense(16, "relu")(x))
        >>> gpunet.models.Model(x, y).count_params()
        212
    """

    _functional_class: type  # Functional, set in its module
    _recomputed_as_a_whole = False

    def __new__(cls, *args: Any, **kwargs: Any) -> "Model":  # noqa: D102
        if cls is Model and functional_arguments(args, kwargs):
            return Model._functional_class.__new__(Model._functional_class, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)  # type: ignore[return-value]

    def __init__(self, *args: Any, **kwargs: Any):
        Trainer.__init__(self)
        if functional_arguments(args, kwargs):
            _make_functional(type(self))
            Model._functional_class.__init__(self, *args, **kwargs)
        else:
            Layer.__init__(self, *args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs; subclasses define it."""
        raise NotImplementedError(
            f"Model {type(self).__name__} does not have a `call()` method implemented."
        )

    # -- layers ---------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, without those inside of them."""
        return self._flatten_layers(include_self=False, recursive=False)

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Returns the layer of a name, or at a place in `layers`.

        Raises:
            ArgumentError: If there is none, or not exactly one argument is given.
        """
        layers = self.layers
        if (index is None) == (name is None):
            raise ArgumentError(
                "Provide either a layer name or a layer index. " + received(name=name, index=index)
            )
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ArgumentError(
                    f"Was asked to retrieve layer at index {index} but model only has "
                    f"{len(layers)} layers."
                )
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise ArgumentError(
            f"No such layer: {name}. Existing layers are: {[layer.name for layer in layers]}."
        )

    def summary(
        self,
        line_length: int | None = None,
        positions: list[float] | None = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Prints the layers with the shapes of their outputs and the numbers of their weights.

        Args:
            line_length: Width; default that of the terminal.
            positions: Where the columns end, as parts of the width.
            print_fn: Called with the whole text instead of printing it.
            expand_nested: Whether to show the layers of inner models.
            show_trainable: Whether to show which layers are trainable.
            layer_range: Names (or patterns) of the first and the last layer to show.
        """
        print_summary(
            self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range
        )

    # -- building -------------------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights by running `call` for its shapes, on nothing.

        Args:
            input_shape: Shape of the input, batch included, or nest of shapes.
        """
        if input_shape is not None and not state.calling:
            compute_output_spec(self.call, map_shapes(KerasTensor, _tuples(input_shape)))

    build._is_default = True  # type: ignore[attr-defined] # layers look for a `build` of one's own

    def build_from_config(self, config: dict | None) -> None:
        """Builds the model for the shapes that `get_build_config` returned."""
        if not config:
            return
        shapes = config.get("shapes_dict", {"input_shape": config.get("input_shape")})
        shapes = {
            name: map_shapes(lambda s: s, _tuples(shape))
            for name, shape in shapes.items()
            if shape is not None
        }
        if not shapes or self.built:
            return
        self._build_for_shapes(shapes)
        self._build_shapes_dict = shapes
        if not self.built:
            warnings.warn(
                f"Model '{self.name}' had a build config, but cannot be built automatically from "
                "it. Implement `get_build_config(self)` and `build_from_config(self, config)`, "
                "which creates the state of the model.",
                stacklevel=2,
            )

    def _build_for_shapes(self, shapes):
        """Builds by `build` where there is one, else by running `call` for its shapes."""
        if not getattr(type(self).build, "_is_default", False):
            self.build(**shapes) if len(shapes) > 1 else self.build(next(iter(shapes.values())))
            return
        names = list(inspect.signature(self.call).parameters)
        tensors = {
            name.removesuffix("_shape"): map_shapes(KerasTensor, shape)
            for name, shape in shapes.items()
        }
        if len(tensors) == 1:
            compute_output_spec(self.__call__, next(iter(tensors.values())))
        elif set(tensors) <= set(names):
            compute_output_spec(self.__call__, **tensors)

    # -- saving ---------------------------------------------------------------------------------

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the model with weights and optimizer state in a `.keras` file.

        Args:
            filepath: Path that ends in `.keras`.
            overwrite: Whether a file that exists is replaced.
            **kwargs: Options of `saving.save_model`.
        """
        saving.save_model(self, filepath, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the weights in a `.weights.h5` or `.safetensors` file.

        Args:
            filepath: Path.
            overwrite: Whether a file that exists is replaced.
            **kwargs: Options of `saving.save_weights`.
        """
        saving.save_weights(self, filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads weights from a file that `save_weights` or `save` wrote.

        Args:
            filepath: Path.
            skip_mismatch: Whether layers whose shapes differ keep their weights.
            **kwargs: Options of `saving.load_weights`.
        """
        saving.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, Any]:
        """Returns the values of all variables as nested dicts, by the parts of their paths.

        Args:
            value_format: `"backend_tensor"` or `"numpy_array"`.

        Returns:
            Dict with `trainable_variables`, `non_trainable_variables`, `optimizer_variables` and
            `metrics_variables`.

        Raises:
            ArgumentError: If two variables have the same path.
        """
        return get_state_tree(self, value_format)

    def set_state_tree(self, state_tree: dict[str, Any]) -> None:
        """Sets the variables that nested dicts like those of `get_state_tree` name.

        Args:
            state_tree: The nested dicts.

        Raises:
            ArgumentError: If it names a variable that there is not; nothing has changed then.
        """
        set_state_tree(self, state_tree)

    def _get_variable_map(self) -> dict[str, Any]:
        return variable_map(self)

    def to_json(self, **kwargs: Any) -> str:
        """Returns the config of the model as JSON; `models.model_from_json` reads it.

        Args:
            **kwargs: Options of `json.dumps`.
        """
        return json.dumps(saving.serialize_keras_object(self), **kwargs)

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Model":
        """Returns a model made from what `get_config` returned.

        Args:
            config: The config.
            custom_objects: The user's classes by name.
        """
        with saving.CustomObjectScope(custom_objects or {}):
            keys = ("name", "layers", "input_layers", "output_layers")
            if all(key in config for key in keys) and has_functional_constructor(cls):
                return Model._functional_class.from_graph_config(cls, config)
            try:
                return cls(**config)
            except TypeError as error:
                raise TypeError(
                    f"Unable to revive model from config: `get_config()` of {cls.__name__} must "
                    "return exactly the arguments of its constructor, or the class must define "
                    f"`from_config(cls, config)`. {received(config=config)} {error}"
                ) from error


def _tuples(shape):
    """JSON's lists of numbers as shape tuples."""
    if isinstance(shape, dict):
        return {key: _tuples(value) for key, value in shape.items()}
    if isinstance(shape, (list, tuple)):
        if all(d is None or isinstance(d, int) for d in shape):
            return tuple(shape)
        return [_tuples(value) for value in shape]
    return shape


def functional_arguments(args: tuple, kwargs: dict) -> bool:
    """Tells whether constructor arguments are `(inputs, outputs, ...)`."""
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or {"inputs", "outputs"} <= set(kwargs)
    )


def has_functional_constructor(cls: type) -> bool:
    """Tells whether a class is constructed with `(inputs, outputs, name)` or passes all on."""
    if cls in (Model, Model._functional_class):
        return True
    spec = inspect.getfullargspec(cls.__init__)
    wanted = inspect.getfullargspec(Model._functional_class.__init__).args
    return spec.args == wanted or (spec.varargs is not None and spec.varkw is not None)


def _make_functional(cls: type) -> type:
    """Puts Functional in the place of Model among the bases of a subclass of Model."""
    functional = Model._functional_class
    if cls is Model:
        return functional
    if cls is object or issubclass(cls, functional):
        return cls
    if not issubclass(cls, Model):
        return cls
    bases = tuple(_make_functional(base) for base in cls.__bases__)
    if bases != cls.__bases__:
        cls.__bases__ = bases
    return cls


def model_from_json(json_string: str, custom_objects: dict | None = None) -> Model:
    """Returns the model of a JSON config that `Model.to_json` wrote, its weights new.

    Args:
        json_string: The JSON.
        custom_objects: The user's classes by name.

    Raises:
        SavingError: If the config names unknown classes.
        StateError: If the config is not one of a model.
    """
    model = saving.deserialize_keras_object(json.loads(json_string), custom_objects)
    if not isinstance(model, Model):
        raise StateError(f"The JSON is no config of a model. {received(type=type(model).__name__)}")
    return model
