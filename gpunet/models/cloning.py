"""clone_model: the same architecture with new weights."""

import copy
from collections.abc import Callable
from typing import Any

from gpunet import saving, tree
from gpunet.core.symbolic import KerasTensor
from gpunet.errors import ArgumentError, received
from gpunet.layers import Input, InputLayer, Layer
from gpunet.models.functional import Functional
from gpunet.models.model import Model, has_functional_constructor
from gpunet.models.sequential import Sequential


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Model:
    """Returns a model of the same architecture with new weights.

    Args:
        model: Sequential or functional model, or one whose class defines `get_config`.
        input_tensors: KerasTensors to build the new model on, instead of new `Input`s.
        clone_function: `f(layer)`, returns the layer of the new model; default a new one made from
            the config. Inputs are always new.
        call_function: `f(layer, *args, **kwargs)`, calls the new layer; functional models only.
        recursive: Whether inner models are cloned layer by layer too.
        **kwargs: None.

    Raises:
        ArgumentError: If an argument does not go with the kind of model.

    Example:
        >>> import gpunet
        >>> model = gpunet.models.Sequential([gpunet.layers.Input((3,)), gpunet.layers.Dense(2)])
        >>> gpunet.models.clone_model(model).count_params()
        8
    """
    cache = kwargs.pop("cache", None)
    if kwargs:
        raise ArgumentError(f"Unexpected keyword argument(s): {tuple(kwargs)}")
    clone = _Cloner(clone_function, call_function, recursive, {} if cache is None else cache)
    if isinstance(model, Sequential):
        if call_function is not None:
            raise ArgumentError(
                "`call_function` argument is not supported with Sequential models, whose layers "
                f"are listed, not called. Received model of type '{type(model).__name__}'"
            )
        return _compiled_like(model, _clone_sequential(model, clone, input_tensors))
    if isinstance(model, Functional):
        default = type(model).get_config is Functional.get_config
        if default or clone_function or input_tensors is not None:
            return _compiled_like(model, _clone_functional(model, clone, input_tensors))
    for name, value in (
        ("clone_function", clone_function),
        ("input_tensors", input_tensors),
        ("call_function", call_function),
    ):
        if value is not None:
            raise ArgumentError(
                f"Argument `{name}` is only supported for Sequential models or Functional models. "
                f"Received model of type '{type(model).__name__}', with {name}={value}"
            )
    config = saving.serialize_keras_object(model)
    return saving.deserialize_keras_object(config, {type(model).__name__: type(model)})


class _Cloner:
    """Clones layers, each only once."""

    def __init__(self, clone, call, recursive, cache):
        self.clone, self.call, self.recursive, self.cache = clone, call, recursive, cache

    def __call__(self, layer):
        if id(layer) not in self.cache:
            self.cache[id(layer)] = self._new(layer)
        return self.cache[id(layer)]

    def _new(self, layer):
        if self.recursive and isinstance(layer, (Sequential, Functional)):
            call = None if isinstance(layer, Sequential) else self.call
            return clone_model(layer, None, self.clone, call, recursive=True, cache=self.cache)
        if self.clone is not None and isinstance(layer, Layer):
            return self.clone(layer)
        if not isinstance(layer, Layer):  # an op: the same one, but called nowhere yet
            new = copy.copy(layer)
            new._inbound_nodes, new._outbound_nodes = [], []
            return new
        return type(layer).from_config(layer.get_config())


def _compiled_like(model, new):
    if model.compiled:
        new.compile_from_config(model.get_compile_config())
    return new


def _clone_sequential(model, clone, input_tensors):
    layers = [clone(layer) for layer in model.layers]
    first = model._layers[0] if model._layers else None
    known = first if isinstance(first, InputLayer) else None
    if input_tensors is not None:
        flat = tree.flatten(input_tensors)
        if len(flat) != 1 or not isinstance(flat[0], KerasTensor):
            raise ArgumentError(
                "Argument `input_tensors` must be a KerasTensor or contain a single one. "
                + received(input_tensors=input_tensors)
            )
        layers.insert(0, Input(tensor=flat[0], name=known.name if known else None))
    elif known is not None:
        layers.insert(
            0,
            Input(
                batch_shape=known.batch_shape,
                dtype=known.dtype,
                name=known.name,
                optional=known.optional,
            ),
        )
    return Sequential(layers, name=model.name, trainable=model.trainable)


def _clone_functional(model, clone, input_tensors):
    if input_tensors is None:
        input_tensors = tree.map_structure(
            lambda x: Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
    else:
        _check_input_tensors(model, input_tensors)
    outputs = model._run_through_graph(input_tensors, clone, clone.call)
    cls = type(model) if has_functional_constructor(type(model)) else Functional
    return cls(input_tensors, outputs, name=model.name)


def _check_input_tensors(model, input_tensors):
    for x in tree.flatten(input_tensors):
        if not isinstance(x, KerasTensor):
            raise ArgumentError(
                "All entries in `input_tensors` must be KerasTensors. "
                + received(input_tensors=input_tensors)
            )
    try:
        tree.assert_same_structure(input_tensors, model.input)
    except ValueError as error:
        raise ArgumentError(
            "`input_tensors` must have the same structure as model.input\n"
            f"Reference structure: {model.input}\nReceived structure: {input_tensors}"
        ) from error
