"""Functional: a Model that is a graph of layers."""

import warnings
from typing import Any

from gpunet import tree
from gpunet.core.state import state
from gpunet.core.symbolic import KerasTensor
from gpunet.core.tensor import FUNCTIONS, Tensor, as_tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, ShapeError, StateError, received
from gpunet.layers import InputLayer, InputSpec, Layer
from gpunet.models.function import Function
from gpunet.models.graph_clone import clone_between
from gpunet.models.graph_config import graph_config, model_from_graph_config
from gpunet.models.model import Model, has_functional_constructor
from gpunet.saving import serializable


@serializable("keras.src.models.functional")
class Functional(Function, Model):
    """A model made of the calls that lead from inputs to outputs: `Model(inputs, outputs)`.

    Inputs and outputs may be nests, layers may be shared, and the inputs may be results of other
    layers, which cuts a part out of a larger model.

    Args:
        inputs: KerasTensor, or nest of them.
        outputs: KerasTensor computed from the inputs, or nest of them.
        name: Name; default an automatic one.
        **kwargs: `trainable`.

    Raises:
        ArgumentError: If inputs and outputs are not connected, or names are not unique.

    Example:
        >>> import gpunet
        >>> inputs = gpunet.layers.Input((3,))
        >>> hidden = gpunet.layers.Dense(5, "relu")(inputs)
        >>> model = gpunet.models.Model(inputs, [hidden, gpunet.layers.Dense(1)(hidden)])
        >>> model.output_shape
        [(None, 5), (None, 1)]
    """

    from_graph_config = staticmethod(model_from_graph_config)

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        trainable = kwargs.pop("trainable", None)
        _check_tensors("inputs", inputs)
        _check_tensors("outputs", outputs)
        if isinstance(inputs, dict):
            _check_keys(inputs)
        if not all(_from_input_layer(x) for x in tree.flatten(inputs)):
            inputs, outputs = clone_between(inputs, outputs)
        Function.__init__(self, inputs, outputs, name=name, **kwargs)
        if trainable is not None:
            self.trainable = trainable
        for layer in self.layers:
            self._tracker.track(layer)
        self.build(None)
        self.supports_masking = True
        first = self._inputs_struct
        # The one input, if there is one and tensors can be taken as they are.
        single = first[0] if isinstance(first, (list, tuple)) and len(first) == 1 else first
        self.__dict__.update(
            _convert_input_args=False,
            _allow_non_tensor_positional_args=True,
            _single_input=single if isinstance(single, KerasTensor) else None,
            output_names=[_maker(y).name for y in self._outputs],
        )
        if self._single_input is not None:
            self.__dict__["_single_dtype"] = numpy_dtype(self._single_input.dtype)

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: the layers were built when they were called."""
        self.built = True

    def _lock_state(self) -> None:
        """Layers may be attached to the model later."""

    @property
    def layers(self) -> list[Layer]:
        """The layers of the graph, from inputs to outputs."""
        return [op for op in self._operations if isinstance(op, Layer)]

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    @property
    def input(self) -> Any:
        """The inputs as they were given."""
        return self._inputs_struct

    @property
    def output(self) -> Any:
        """The outputs as they were given."""
        return self._outputs_struct

    @property
    def input_shape(self) -> Any:
        """The shape of the input, or a nest of shapes."""
        return _shapes(self._inputs_struct)

    @property
    def output_shape(self) -> Any:
        """The shape of the output, or a nest of shapes."""
        return _shapes(self._outputs_struct)

    @property
    def input_spec(self) -> Any:
        """What is asked of the inputs: their shapes, for any batch size."""
        given = self.__dict__.get("_manual_input_spec")
        if given is not None:
            return given
        struct = self._inputs_struct
        if isinstance(struct, dict):
            if any(tree.is_nested(x) for x in struct.values()):
                return None
            return [_input_spec(struct[name], name) for name in sorted(struct)]
        return [_input_spec(x) for x in self._inputs]

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        self.__dict__["_manual_input_spec"] = value

    @property
    def _input_spec(self) -> Any:
        return self.input_spec

    @_input_spec.setter
    def _input_spec(self, value: Any) -> None:
        """Layers set it in their constructor; here it follows from the inputs."""

    def add_loss(self, loss: Any) -> None:
        """Refused: add losses in the `call` of a layer of the model."""
        raise StateError(
            "add_loss() does not work on a functional model: call it in the `call()` of a layer, "
            "or override `compute_loss`."
        )

    # -- calling --------------------------------------------------------------------------------

    def call(
        self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any
    ) -> Any:
        """Computes the outputs.

        Args:
            inputs: Tensors in the structure of the model's inputs.
            training: Passed on to the layers.
            mask: Masks of the inputs.
            **kwargs: Other arguments for layers that ask for them.
        """
        single = self._single_input
        if (
            single is not None
            and type(inputs) is Tensor
            and inputs.data.dtype == self._single_dtype
            and inputs.data.shape[1:] == single.shape[1:]
        ):
            flat: list[Any] = [inputs]
        else:
            flat = self._standardize_inputs(inputs)
        if mask is not None:
            for x, m in zip(flat, self._flat_masks(mask), strict=True):
                if m is not None:
                    x._keras_mask = m
        if not kwargs and (training is None or training is state.training):
            values = self._execution.run(flat)
        else:
            values = self._run_in_context(flat, training, kwargs)
        if self._one_output:
            return values[0]
        outputs = tree.pack_sequence_as(self._outputs_struct, values)
        return outputs[0] if type(outputs) in (list, tuple) and len(outputs) == 1 else outputs

    def _flat_masks(self, mask):
        """One mask for each input, in their order."""
        if isinstance(mask, dict):
            keys = self._inputs_struct
            keys = sorted(keys) if isinstance(keys, dict) else [x.name for x in self._inputs]
            if set(keys) <= set(mask):
                mask = [mask[key] for key in keys]
        return tree.flatten(mask)

    def _set_masks(self, inputs: Any, outputs: Any, previous: Any) -> None:
        """The layers inside have set the masks of their outputs."""

    def _run_in_context(self, flat, training, context):
        """Runs the layers as if this model had been called with these arguments."""
        before = state.training, state.context
        given = {k: v for k, v in context.items() if v is not None}
        state.training = before[0] if training is None else training
        state.context = {**(before[1] or {}), **given} or None
        try:
            return self._execution.run(flat)
        finally:
            state.training, state.context = before

    def compute_output_spec(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Returns the outputs as KerasTensors."""
        flat = self._standardize_inputs(inputs, warn=False)
        result = Function.compute_output_spec(
            self, tree.pack_sequence_as(self._inputs_struct, flat)
        )
        return result[0] if type(result) in (list, tuple) and len(result) == 1 else result

    def _assert_input_compatibility(self, inputs: Any) -> None:
        self._check_inputs(inputs)

    def _check_inputs(self, first: Any) -> None:
        given = tree.flatten(first)
        if any(x is None for x in given) and len(given) == len(self._inputs):
            for x, wanted in zip(given, self._inputs, strict=True):
                _check_given(x, wanted)
        super()._check_inputs(first)

    def _standardize_inputs(self, inputs, warn=True):
        """The inputs as a flat list, in the order, dtypes and ranks of the model's inputs."""
        struct = self._inputs_struct
        if isinstance(struct, (list, tuple)) and len(struct) == 1 and not tree.is_nested(inputs):
            inputs = [inputs]
        elif isinstance(inputs, dict) and not isinstance(struct, dict):
            names = [x.name for x in self._inputs]
            if not set(names) <= set(inputs):
                raise self._other_structure(inputs)
            inputs = [inputs[name] for name in names]
        elif (
            isinstance(struct, dict)
            and not isinstance(inputs, dict)
            and list(struct) != sorted(struct)
        ):
            raise self._other_structure(inputs)
        if warn:
            self._warn_if_other_structure(inputs)
        if isinstance(struct, dict) and isinstance(inputs, dict) and set(struct) < set(inputs):
            inputs = {key: inputs[key] for key in struct}
        flat = tree.flatten(inputs)
        if len(flat) != len(self._inputs):
            raise self._other_structure(inputs)
        return [self._standardize(i, x) for i, x in enumerate(flat)]

    def _standardize(self, i, x):
        wanted = self._inputs[i]
        _check_given(x, wanted)
        if x is None:
            return None
        symbolic = isinstance(x, KerasTensor)
        mask = getattr(x, "_keras_mask", None)
        y: Any = x if symbolic else as_tensor(x)
        if not symbolic and y.dtype != numpy_dtype(wanted.dtype):
            y = FUNCTIONS["cast"](y, wanted.dtype)
        rank, shape = len(wanted.shape), tuple(y.shape)
        if len(shape) == rank + 1 and shape[-1] == 1:
            y = FUNCTIONS["squeeze"](y, axis=-1)
        elif len(shape) == rank - 1 and wanted.shape[-1] == 1:
            y = FUNCTIONS["expand_dims"](y, axis=-1)
        elif len(shape) != rank or any(
            None not in pair and pair[0] != pair[1]
            for pair in zip(shape[1:], wanted.shape[1:], strict=True)
        ):
            path = ".".join(map(str, tree.flatten_with_path(self._inputs_struct)[i][0]))
            raise ShapeError(
                f"Invalid input shape for input with name '{wanted.name}' and path '{path}' of "
                f"model '{self.name}'. Expected shape {wanted.shape}. {received(shape=shape)}"
            )
        if mask is not None and y is not x:
            y._keras_mask = mask
        return y

    def _other_structure(self, inputs):
        expected = tree.map_structure(lambda x: x.name, self._inputs_struct)
        given = tree.map_structure(lambda x: f"shape {getattr(x, 'shape', None)}", inputs)
        return ArgumentError(
            "The structure of `inputs` doesn't match the expected structure.\n"
            f"Expected: {expected}\nReceived: inputs={given}"
        )

    def _warn_if_other_structure(self, inputs):
        try:
            tree.assert_same_structure(
                tree.lists_to_tuples(inputs), tree.lists_to_tuples(self._inputs_struct)
            )
        except ValueError:
            warnings.warn(str(self._other_structure(inputs)), stacklevel=5)

    # -- configuration --------------------------------------------------------------------------

    def get_config(self) -> dict:
        """Returns the layers, the calls that connect them, inputs and outputs."""
        if not has_functional_constructor(type(self)):
            return Model.get_config(self)
        return graph_config(self)


Model._functional_class = Functional


def _check_tensors(name, nest):
    for x in tree.flatten(nest):
        if not isinstance(x, KerasTensor):
            raise ArgumentError(
                f"All `{name}` values must be KerasTensors: results of `Input` and of layers "
                f"called on them. {received(value=x, type=type(x).__name__)}"
            )


def _check_keys(inputs):
    for key, x in inputs.items():
        if isinstance(x, KerasTensor) and key != x.name:
            warnings.warn(
                "When providing `inputs` as a dict, all keys in the dict must match the names of "
                f"the corresponding tensors. Received key '{key}' mapping to value {x} which has "
                f"name '{x.name}'. Change the tensor name to '{key}' (via `Input(..., "
                f"name='{key}')`)",
                stacklevel=4,
            )


def _from_input_layer(x):
    operation, index, _ = x._keras_history
    return operation._inbound_nodes[index].is_input


def _check_given(x, wanted):
    layer = wanted._keras_history.operation
    if x is None and isinstance(layer, InputLayer) and not layer.optional:
        raise ArgumentError(
            f"The input '{wanted.name}' is not optional, but None was passed. Please provide a "
            "valid tensor."
        )


def _maker(x: Any) -> Any:
    """The operation that made a KerasTensor."""
    return x._keras_history.operation


def _shapes(struct):
    shapes = tree.map_structure(lambda x: x.shape, struct)
    return shapes[0] if isinstance(struct, list) and len(struct) == 1 else shapes


def _input_spec(x, name=None):
    operation = x._keras_history.operation
    return InputSpec(
        shape=(None, *x.shape[1:]) if x.shape else (),
        allow_last_axis_squeeze=True,
        name=operation.name if name is None else name,
        optional=getattr(operation, "optional", False),
    )
