"""What `Model.summary()` prints: a table of layers, and the numbers of parameters."""

import math
import re
import shutil
from typing import Any

import numpy as np

from gpunet import tree
from gpunet.config import is_interactive_logging_enabled
from gpunet.core.symbolic import KerasTensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, GpunetError, received
from gpunet.layers.signature import map_shapes


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: list[float] | None = None,
    print_fn: Any = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Any = None,
) -> None:
    """Prints the summary of a model; see `Model.summary`.

    Raises:
        ArgumentError: If the width is too small for the columns, or `layer_range` matches nothing.
    """
    from rich.console import Console  # imported late: half of the time of `import gpunet`

    if print_fn is None and not is_interactive_logging_enabled():
        print_fn = print
    layers = getattr(model, "_operations", None) or model.layers
    linear = _is_linear(model)
    columns = [("Layer (type)", "left"), ("Output Shape", "left"), ("Param #", "right")]
    positions = list(positions or ([0.45, 0.80, 1.0] if linear else [0.3, 0.56, 0.74, 1.0]))
    width = 88 if linear else 108
    if not linear:
        columns.append(("Connected to", "left"))
    if show_trainable:
        width += 12
        positions = [0.9 * p for p in positions] + [1.0]
        columns.append(("Trainable", "center"))
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    table = _table(columns, _widths(positions, width), width)
    first, last = _range_of(layers, layer_range)
    for layer in layers[first:last]:
        for row in _rows(layer, model, linear, expand_nested, show_trainable):
            table.add_row(*row)
    plain = {"force_terminal": False, "color_system": None} if print_fn else {}
    console = Console(highlight=False, width=max(width, 80), **plain)
    if print_fn:
        console.begin_capture()
    console.print(f'[bold]Model: "{_escape(model.name)}"[/]')
    console.print(table)
    for line in _totals(model):
        console.print(line)
    if print_fn:
        print_fn(console.end_capture())


def _escape(text):
    from rich.markup import escape

    return escape(str(text))


def _table(columns, widths, width):
    from rich.table import Column, Table

    return Table(
        *[
            Column(name, justify=align, width=w)
            for (name, align), w in zip(columns, widths, strict=True)
        ],
        width=width,
        show_lines=True,
    )


def _widths(positions, width):
    ends = [int(p * width) for p in positions]
    widths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    if any(w < 4 for w in widths):
        raise ArgumentError(
            f"Insufficient console width to print summary. {received(line_length=width)}"
        )
    return widths


def _is_linear(model):
    """Whether the calls of a model form one chain, so that connections need no column."""
    by_depth = getattr(model, "_nodes_by_depth", None)
    if by_depth is None:
        return True
    nodes = [node for level in by_depth.values() for node in level]
    if any(len(level) > 1 for level in by_depth.values()):
        return False
    operations = [id(node.operation) for node in nodes]
    return all(len(n.input_tensors) <= 1 for n in nodes) and len(set(operations)) == len(operations)


def _range_of(layers, layer_range):
    if layer_range is None:
        return 0, len(layers)
    texts = isinstance(layer_range, (list, tuple)) and all(isinstance(x, str) for x in layer_range)
    if not texts or len(layer_range) != 2:
        raise ArgumentError(
            "layer_range must be a list or tuple of length 2 that holds names or patterns. "
            + received(layer_range=layer_range)
        )
    first, last = (
        [i for i, layer in enumerate(layers) if re.match(pattern, layer.name)]
        for pattern in layer_range
    )
    if not first or not last:
        raise ArgumentError(
            "Passed layer_names do not match the layer names in the model. "
            + received(layer_range=layer_range)
        )
    if first[0] > last[-1]:
        first, last = last, first
    return first[0], last[-1] + 1


def _rows(layer, model, linear, expand_nested, show_trainable, level=0):
    prefix = "   " * level + "└ " if level else ""
    name = f"{_escape(prefix + layer.name)} ([color(33)]{_escape(type(layer).__name__)}[/])"
    row = [name, _shape_text(layer), _params_text(layer)]
    if not linear:
        row.append(_connections(layer, model) if level == 0 else "-")
    if show_trainable:
        trainable = "[color(34)]Y[/]" if getattr(layer, "trainable", False) else "[color(9)]N[/]"
        row.append(f"[bold]{trainable if getattr(layer, 'weights', None) else '-'}[/]")
    yield row
    if expand_nested:
        for inner in getattr(layer, "layers", ()):
            yield from _rows(inner, model, linear, True, show_trainable, level + 1)


def _shape_text(layer):
    try:
        shapes = _output_shapes(layer)
    except (GpunetError, NotImplementedError, AttributeError):
        shapes = None  # it cannot be told without data
    if not shapes:
        return "?"
    texts = [
        "(" + ", ".join(f"[color({45 if d is None else 34})]{d}[/]" for d in s) + ")"
        for s in shapes
    ]
    return texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"


def _output_shapes(layer):
    if layer._inbound_nodes:
        return [y.shape for y in layer._inbound_nodes[-1].output_tensors]
    if hasattr(layer, "output_shape"):
        return [layer.output_shape]
    shapes = getattr(layer, "_build_shapes_dict", None)
    if not shapes:
        return None
    tensors = map_shapes(KerasTensor, next(iter(shapes.values())))
    return [y.shape for y in tree.flatten(layer.compute_output_spec(tensors))]


def _params_text(layer):
    if not hasattr(layer, "built"):
        return "[color(34)]0[/]"
    if not layer.built:
        return "[color(34)]0[/] (unbuilt)"
    return f"[color(34)]{layer.count_params():,}[/]"


def _connections(layer, model):
    places = [
        x._keras_history
        for node in layer._inbound_nodes
        if id(node) in model._nodes
        for x in node.input_tensors
    ]
    texts = [
        f"{_escape(op.name)}[color(34)]\\[{call}][/][color(34)]\\[{out}][/]"
        for op, call, out in places
    ]
    return ", ".join(texts) or "-"


def _totals(model):
    trainable = _count(model.trainable_weights)
    frozen = _count(model.non_trainable_weights)
    optimizer: Any = getattr(model, "optimizer", None)
    built = optimizer is not None and optimizer.built
    state = _count(optimizer.variables) if optimizer is not None and built else (0, 0)
    total = tuple(sum(pair) for pair in zip(trainable, frozen, state, strict=True))
    yield _total("Total", *total)
    yield _total("Trainable", *trainable)
    yield _total("Non-trainable", *frozen)
    if built:
        yield _total("Optimizer", *state)


def _count(variables):
    """How many numbers, and how many bytes."""
    unique = {id(v): v for v in variables}.values()
    sizes = [(math.prod(v.shape), numpy_dtype(v.dtype).itemsize) for v in unique]
    return sum(n for n, _ in sizes), sum(n * size for n, size in sizes)


def _total(name, count, size):
    return f"[bold] {name} params: [/][color(34)]{count:,}[/] ({readable_size(size)})"


def readable_size(size: float) -> str:
    """Returns a number of bytes in words.

    Example:
        >>> readable_size(1536)
        '1.50 KB'
    """
    units = ["B", "KB", "MB", "GB", "TB", "PB"]
    power = min(int(np.log2(max(size, 1)) // 10), len(units) - 1)
    return f"{size / 1024**power:.2f} {units[power]}"
