"""Functional models as configs in Keras's format, and back."""

import copy
from typing import Any

from gpunet import saving, tree
from gpunet.core.symbolic import KerasTensor, Operation
from gpunet.errors import SavingError, received
from gpunet.models.function import Function


def graph_config(model: Any) -> dict[str, Any]:
    """Returns the config of a functional model.

    Args:
        model: The model.

    Returns:
        Dict with `name`, `trainable`, `layers` (each with its `inbound_nodes`), `input_layers` and
        `output_layers`; tensors are named `[layer, call, output]`.
    """
    numbers = _call_numbers(model)
    layers = []
    for operation in model.operations:
        config = saving.serialize_keras_object(operation)
        config["name"] = operation.name
        config["inbound_nodes"] = [
            _node_config(node, numbers)
            for node in operation._inbound_nodes
            if id(node) in model._nodes and not node.is_input
        ]
        layers.append(config)

    def place(x):
        operation, index, output = x._keras_history
        number = numbers[id(operation._inbound_nodes[index])]
        # Keras counts the calls of inner functional models from 1 here.
        return [operation.name, number + isinstance(operation, Function), output]

    return copy.deepcopy(
        {
            "name": model.name,
            "trainable": model.trainable,
            "layers": layers,
            "input_layers": tree.map_structure(place, model._inputs_struct),
            "output_layers": tree.map_structure(place, model._outputs_struct),
        }
    )


def _call_numbers(model):
    """The number of each call among those of its operation that are in the model."""
    numbers = {}
    for operation in model.operations:
        mine = [node for node in operation._inbound_nodes if id(node) in model._nodes]
        numbers.update({id(node): i for i, node in enumerate(mine)})
    return numbers


def _node_config(node, numbers):
    def serialize(x: Any):
        if not isinstance(x, KerasTensor):
            return saving.serialize_keras_object(x)
        history: Any = x._keras_history
        operation, index, output = history
        number = numbers[id(operation._inbound_nodes[index])]
        history = [operation.name, number, output]
        config = {"shape": x.shape, "dtype": x.dtype, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}

    call = saving.call_arguments(node.operation, node.args, node.kwargs)
    args, kwargs = tree.map_structure(serialize, call)
    return {"args": args, "kwargs": kwargs}


class _Later(Exception):
    """A call whose inputs do not exist yet."""


def model_from_graph_config(cls: type, config: dict[str, Any]) -> Any:
    """Returns a model of class `cls` from what `graph_config` returned.

    Layers are called as soon as their inputs exist, so a config may list them in any order.

    Raises:
        SavingError: If calls refer to layers or results that the config does not make.
    """
    config = dict(config)
    entries = config.pop("layers")
    places = [config.pop(key) for key in ("input_layers", "output_layers")]
    made = {entry["name"]: _operation(entry) for entry in entries}
    waiting = {entry["name"]: list(entry["inbound_nodes"]) for entry in entries}
    while any(waiting.values()):
        before = sum(map(len, waiting.values()))
        for name, nodes in waiting.items():
            while nodes and _call(made[name], nodes[0], made):
                nodes.pop(0)
        if sum(map(len, waiting.values())) == before:
            raise SavingError(
                "Invalid Functional model configuration: the graph has loops or disconnected "
                f"nodes. {received(unresolved=[name for name, nodes in waiting.items() if nodes])}"
            )
    inputs, outputs = (_find(place, made) for place in places)
    return cls(inputs=inputs, outputs=outputs, **config)


def _operation(entry):
    entry = {key: value for key, value in entry.items() if key != "inbound_nodes"}
    operation = saving.deserialize_keras_object(entry)
    if not isinstance(operation, Operation):
        raise SavingError(
            "Unexpected object from deserialization, expected a layer or operation. "
            + received(type=type(operation).__name__)
        )
    return operation


def _call(operation, node, made):
    """Repeats one call; tells whether its inputs existed."""
    try:
        if isinstance(node, list):  # as files of Keras 2 have it: [layer, call, output, kwargs]
            tensors = [_tensor(place[:3], made) for place in node]
            kwargs = node[0][3] if len(node[0]) > 3 else {}
            args = [tensors[0] if len(tensors) == 1 else tensors]
        else:
            args, kwargs = _revive(node["args"], made), _revive(node["kwargs"], made)
    except _Later:
        return False
    operation(*args, **kwargs)
    return True


def _revive(value, made):
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return _tensor(value["config"]["keras_history"], made)
    if isinstance(value, dict) and "class_name" in value:
        return saving.deserialize_keras_object(value)
    if isinstance(value, dict):
        return {key: _revive(v, made) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_revive(v, made) for v in value])
    return value


def _tensor(place, made):
    name, call, output = place
    if name not in made:
        raise SavingError(f"Invalid Functional model configuration. Missing node: {name}")
    nodes = made[name]._inbound_nodes
    if call >= len(nodes):
        raise _Later
    return nodes[call].output_tensors[output]


def _find(places, made):
    """The tensors of `input_layers` or `output_layers`."""
    if isinstance(places, dict):
        return {key: _find(value, made) for key, value in places.items()}
    if len(places) == 3 and isinstance(places[0], str):
        name, call, output = places
        call -= isinstance(made.get(name), Function)
        try:
            return _tensor([name, call, output], made)
        except _Later as error:
            raise SavingError(
                f"The config has no such call of a layer. {received(place=places)}"
            ) from error
    return type(places)([_find(value, made) for value in places])
