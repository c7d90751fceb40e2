"""Cutting a model out of a larger one: its inputs are results of other layers."""

from typing import Any

from gpunet import tree
from gpunet.core.symbolic import CallNode, KerasTensor
from gpunet.layers import Input, InputLayer
from gpunet.models.function import map_graph


def clone_between(inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """Repeats the calls between inputs and outputs, starting from new `Input`s.

    The layers are the same; only the record of their calls is new.

    Args:
        inputs: Nest of KerasTensors.
        outputs: Nest of KerasTensors.

    Returns:
        Nests of new KerasTensors.
    """
    flat_inputs, flat_outputs = tree.flatten(inputs), tree.flatten(outputs)
    copies: dict[int, KerasTensor] = {}
    for x in flat_inputs:
        copies[id(x)] = x if isinstance(x._keras_history.operation, InputLayer) else _input_like(x)
    _, by_depth, _ = map_graph(flat_inputs, flat_outputs)
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if not node.is_input and any(id(y) not in copies for y in node.output_tensors):
                _repeat(node, copies)
    return (
        tree.pack_sequence_as(inputs, [copies[id(x)] for x in flat_inputs]),
        tree.pack_sequence_as(outputs, [copies[id(y)] for y in flat_outputs]),
    )


def _input_like(x):
    y: Any = Input(batch_shape=x.shape, dtype=x.dtype, name=f"{x.name}CLONE")
    mask = getattr(x, "_keras_mask", None)
    if mask is not None:
        y._keras_mask = mask
    return y


def _repeat(node, copies):
    args, kwargs = tree.map_structure(
        lambda x: copies.get(id(x), x) if isinstance(x, KerasTensor) else x,
        (node.args, node.kwargs),
    )
    outputs = []
    for y in node.output_tensors:
        copy = KerasTensor(y.shape, y.dtype, name=f"{y.name}_clone")
        copies.setdefault(id(y), copy)
        outputs.append(copy)
    CallNode(node.operation, args, kwargs, outputs)
