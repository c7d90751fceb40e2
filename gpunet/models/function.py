"""Function: a graph of symbolic calls between input and output KerasTensors, run from a plan."""

from collections.abc import Callable, Sequence
from typing import Any

from gpunet import tree
from gpunet.core.symbolic import CallNode, KerasTensor, Operation
from gpunet.errors import ArgumentError, ShapeError, received


class Function(Operation):
    """Computes output tensors from input tensors, by the calls that connect them.

    Args:
        inputs: KerasTensor, or nest of them.
        outputs: KerasTensor, or nest of them, computed from the inputs.
        name: Name; default an automatic one.

    Raises:
        ArgumentError: If inputs or outputs are missing, the outputs need other inputs too, or two
            operations have the same name.

    Example:
        >>> import gpunet
        >>> x = gpunet.KerasTensor((None, 3))
        >>> double = Function(x, x * 2)
        >>> double(gpunet.ops.ones((1, 3))).tolist()
        [[2.0, 2.0, 2.0]]
    """

    _inputs_struct: Any
    _outputs_struct: Any
    _inputs: list[KerasTensor]
    _outputs: list[KerasTensor]
    _nodes: set[int]
    _nodes_by_depth: dict[int, list[CallNode]]
    _operations: list[Operation]
    _execution: "_Execution"
    _one_output: bool

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        super().__init__(name=name)
        inputs, outputs = tree.map_structure(_same, inputs), tree.map_structure(_same, outputs)
        flat_inputs, flat_outputs = tree.flatten(inputs), tree.flatten(outputs)
        for what, found in (("inputs", flat_inputs), ("outputs", flat_outputs)):
            if not found:
                raise ArgumentError(f"`{what}` argument cannot be empty.")
        _check_reachable(inputs, outputs)
        nodes, by_depth, operations = map_graph(flat_inputs, flat_outputs)
        self.__dict__.update(
            _inputs_struct=inputs,
            _outputs_struct=outputs,
            _inputs=flat_inputs,
            _outputs=flat_outputs,
            _nodes={id(node) for node in nodes},
            _nodes_by_depth=by_depth,
            _operations=operations,
            _execution=_Execution(flat_inputs, by_depth, flat_outputs),
            _one_output=isinstance(outputs, KerasTensor),
        )

    @property
    def operations(self) -> list[Operation]:
        """The operations, from inputs to outputs."""
        return self._operations[:]

    @property
    def inputs(self) -> list[KerasTensor]:
        """The inputs, as a flat list."""
        return self._inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The outputs, as a flat list."""
        return self._outputs

    def call(self, inputs: Any) -> Any:
        """Computes the outputs for new inputs."""
        self._assert_input_compatibility(inputs)
        return self._run_through_graph(inputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Returns the outputs as KerasTensors; inputs may have other shapes than at first."""
        self._assert_input_compatibility(inputs)
        given = tree.flatten(inputs)
        if all(tuple(x.shape) == y.shape for x, y in zip(given, self._inputs, strict=True)):
            return tree.map_structure(lambda y: KerasTensor(y.shape, y.dtype), self._outputs_struct)
        return self._run_through_graph(inputs, lambda op: op.compute_output_spec)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shapes of the outputs for shapes of the inputs."""
        shapes = tree.map_shape_structure(lambda s: KerasTensor(s), input_shape)
        flat = [
            KerasTensor(s.shape, x.dtype)
            for s, x in zip(tree.flatten(shapes), self._inputs, strict=True)
        ]
        spec = self.compute_output_spec(tree.pack_sequence_as(shapes, flat))
        return tree.map_structure(lambda y: y.shape, spec)

    def _run_through_graph(
        self, inputs: Any, operation_fn: Callable | None = None, call_fn: Callable | None = None
    ) -> Any:
        """Runs the graph; `operation_fn(operation)` is what is called in its place."""
        values = self._execution.run(tree.flatten(inputs), operation_fn, call_fn)
        return (
            values[0] if self._one_output else tree.pack_sequence_as(self._outputs_struct, values)
        )

    def _assert_input_compatibility(self, inputs: Any) -> None:
        try:
            tree.assert_same_structure(inputs, self._inputs_struct)
        except ValueError as error:
            raise ArgumentError(
                "Function was called with an invalid input structure. Expected input structure: "
                f"{self._inputs_struct}. {received(inputs=inputs)}"
            ) from error
        for x, wanted in zip(tree.flatten(inputs), self._inputs, strict=True):
            pairs = zip(x.shape, wanted.shape, strict=False)
            if len(x.shape) != len(wanted.shape) or any(
                None not in pair and pair[0] != pair[1] for pair in pairs
            ):
                raise ShapeError(
                    f"{type(self).__name__} was passed incompatible inputs. For input "
                    f"'{wanted.name}', expected shape {wanted.shape}. "
                    + received(shape=tuple(x.shape))
                )


def _check_reachable(inputs, outputs):
    given = {id(x) for x in tree.flatten(inputs)}
    for path, output in tree.flatten_with_path(outputs):
        nodes, _ = _walk(tree.flatten(inputs), [output])
        for node in nodes:
            missing = [y.name for y in node.output_tensors if node.is_input and id(y) not in given]
            if missing:
                raise ArgumentError(
                    f"Output with path `{'.'.join(map(str, path))}` is not connected to `inputs`: "
                    f"it needs {node.operation.name!r} too. "
                    + received(inputs=[x.name for x in tree.flatten(inputs)])
                )


def _same(x):
    if not isinstance(x, KerasTensor):
        raise ArgumentError(
            "All `inputs` and `outputs` values must be KerasTensors: results of `Input` and of "
            f"layers called on them. {received(value=x, type=type(x).__name__)}"
        )
    return x


class _Step:
    """One call of an operation: where its arguments are, and where its results go."""

    __slots__ = ("args", "done", "kwargs", "operation", "run", "source", "target", "targets")

    def __init__(self, node: CallNode, slots: dict[int, int]):
        self.operation = node.operation
        # Plain operations are called without the search for symbolic arguments.
        plain = type(node.operation).__call__ is Operation.__call__
        self.run = node.operation.call if plain else node.operation
        self.targets = [slots.setdefault(id(y), len(slots)) for y in node.output_tensors]
        self.target = self.targets[0] if len(self.targets) == 1 else None
        self.source = None
        args, kwargs = node.args, node.kwargs
        if len(args) == 1 and not kwargs and isinstance(args[0], KerasTensor):
            self.source = slots[id(args[0])]
        self.args, self.kwargs = tree.map_structure(
            lambda x: _Slot(slots[id(x)]) if isinstance(x, KerasTensor) else x, (args, kwargs)
        )
        self.done: list[int] = []  # what no later step needs

    def arguments(self, values):
        def fill(x):
            return values[x.index] if type(x) is _Slot else x

        return tree.map_structure(fill, (self.args, self.kwargs))


class _Slot:
    """Stands for a tensor in the arguments of a step."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


class _Execution:
    """The calls of a graph in order, with a numbered place for every tensor."""

    def __init__(self, inputs, nodes_by_depth, outputs):
        slots: dict[int, int] = {}
        self.inputs = [slots.setdefault(id(x), len(slots)) for x in inputs]
        self.steps: list[_Step] = []
        for depth in sorted(nodes_by_depth, reverse=True):
            for node in nodes_by_depth[depth]:
                made = {id(y) for y in node.output_tensors}
                if not node.is_input and not made <= slots.keys():
                    self.steps.append(_Step(node, slots))
        self.outputs = [slots[id(y)] for y in outputs]
        self.count = len(slots)
        self._find_last_uses(slots)

    def _find_last_uses(self, slots):
        kept, last = {*self.outputs, *self.inputs}, {}
        for step in self.steps:
            used = [x.index for x in tree.flatten((step.args, step.kwargs)) if type(x) is _Slot]
            for slot in (*step.targets, *used):
                last[slot] = step
        for slot, step in last.items():
            if slot not in kept:
                step.done.append(slot)

    def run(self, inputs, operation_fn=None, call_fn=None):
        values: list[Any] = [None] * self.count
        for slot, x in zip(self.inputs, inputs, strict=True):
            values[slot] = x
        for step in self.steps:
            run = step.run if operation_fn is None else operation_fn(step.operation)
            if step.source is not None and call_fn is None:
                result = run(values[step.source])
            else:
                args, kwargs = step.arguments(values)
                result = run(*args, **kwargs) if call_fn is None else call_fn(run, *args, **kwargs)
            if step.target is not None and type(result) not in (list, tuple, dict):
                values[step.target] = result
            else:
                for slot, y in zip(step.targets, tree.flatten(result), strict=True):
                    values[slot] = y
            for slot in step.done:
                values[slot] = None
        return [values[slot] for slot in self.outputs]


def map_graph(
    inputs: Sequence[KerasTensor], outputs: Sequence[KerasTensor]
) -> tuple[list[CallNode], dict[int, list[CallNode]], list[Operation]]:
    """Finds the calls between inputs and outputs.

    A call's depth is the length of the longest way from it to an output; an operation's is that of
    its deepest call. Operations are listed from the deepest on, those of one depth in the order in
    which a walk from the outputs meets them.

    Args:
        inputs: Where to stop.
        outputs: Where to start.

    Returns:
        The calls, the calls by depth, and the operations.

    Raises:
        ArgumentError: If outputs need other inputs, or two operations have the same name.
    """
    order, met = _walk(inputs, outputs)
    known = {id(node) for node in order}
    depths: dict[int, int] = {}
    operation_depths: dict[int, int] = {}
    for node in reversed(order):
        operation = id(node.operation)
        depth = max(depths.get(id(node), 0), operation_depths.get(operation, 0))
        depths[id(node)] = operation_depths[operation] = depth
        for parent in node.parent_nodes:
            if id(parent) in known:
                depths[id(parent)] = max(depths.get(id(parent), 0), depth + 1)
    nodes = {id(node): node for node in reversed(order)}
    operations = {id(node.operation): node.operation for node in order}
    for x in inputs:  # inputs that no output needs belong to the model all the same
        node = _node(x)
        if node is not None and node.is_input and id(node.operation) not in operations:
            nodes[id(node)], operations[id(node.operation)] = node, node.operation
            depths[id(node)] = operation_depths[id(node.operation)] = 0
            met[id(node.operation)] = -1
    by_depth: dict[int, list[CallNode]] = {}
    for key, node in nodes.items():
        by_depth.setdefault(depths[key], []).append(node)
    _check_connected(inputs, by_depth)
    ordered = sorted(operations.values(), key=lambda o: (-operation_depths[id(o)], met[id(o)]))
    _check_names(ordered)
    return list(nodes.values()), by_depth, ordered


def _node(x):
    if x._keras_history is None:
        return None
    operation, index, _ = x._keras_history
    return operation._inbound_nodes[index]


def _walk(inputs, outputs):
    """Returns the calls, parents first, and the place at which each operation was met."""
    ends = {id(x) for x in inputs}
    order: list[CallNode] = []
    finished, met = set(), {}
    for output in outputs:
        stack = [(output, False)]
        while stack:
            x, leaving = stack.pop()
            node = _node(x)
            if node is None:
                continue
            if leaving:
                if id(node) not in finished:
                    finished.add(id(node))
                    order.append(node)
                continue
            if id(node) in finished:
                continue
            if not node.is_input and id(x) in ends:
                finished.add(id(node))
                continue
            met.setdefault(id(node.operation), len(met))
            stack.append((x, True))
            stack += [(parent, False) for parent in reversed(node.input_tensors)]
    return order, met


def _check_connected(inputs, by_depth):
    computed, seen = {id(x) for x in inputs}, []
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            for x in node.input_tensors:
                if id(x) not in computed:
                    raise ArgumentError(
                        f"Graph disconnected: cannot find parent for tensor {x} at operation "
                        f"'{node.operation.name}'; is an input missing? These operations were "
                        f"reached: {seen}. {received(inputs=[i.name for i in inputs])}"
                    )
            if node.is_input and not all(id(y) in computed for y in node.output_tensors):
                raise ArgumentError(
                    f"Graph disconnected: the outputs need '{node.operation.name}', which is not "
                    f"among the inputs. {received(inputs=[i.name for i in inputs])}"
                )
            seen.append(node.operation.name)
            computed.update(id(y) for y in node.output_tensors)


def _check_names(operations):
    names = [operation.name for operation in operations]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(
                f'The name "{name}" is used {names.count(name)} times in the model. All operation '
                "names should be unique; pass `name=` to the layers."
            )


def get_source_inputs(tensor: KerasTensor) -> list[KerasTensor]:
    """Returns the model inputs that a KerasTensor is computed from."""
    if tensor._keras_history is None:
        raise ShapeError(f"This KerasTensor belongs to no model. {received(tensor=tensor)}")
    operation, index, _ = tensor._keras_history
    node = operation._inbound_nodes[index]
    if node.is_input:
        return list(node.output_tensors)
    found: list[KerasTensor] = []
    for x in node.input_tensors:
        found += [s for s in get_source_inputs(x) if not any(s is known for known in found)]
    return found
