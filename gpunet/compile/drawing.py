"""Drawings of a graph as text: Mermaid, which GitHub and Jupyter show, Graphviz's DOT, and SVG."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from gpunet.core.trace import Graph, Symbol
from gpunet.errors import ArgumentError, received

# Names of layers and files may hold anything. Mermaid's labels are HTML with entities of its own.
_IN_MERMAID = str.maketrans({c: f"#{ord(c)};" for c in '"#<>&`\\\n'})
_IN_DOT = str.maketrans({'"': r"\"", "\\": r"\\", "\n": " "})


class _Node(NamedTuple):
    name: str
    label: str
    is_equation: bool


def draw(graph: Graph, suffix: str, origins: bool) -> str:
    """Returns the drawing of the kind that file names with this suffix have."""
    if suffix in (".mmd", ".md"):
        text = "\n".join(_mermaid(*_parts(graph, origins)))
        return f"```mermaid\n{text}\n```\n" if suffix == ".md" else text
    if suffix == ".dot":
        return "\n".join(_dot(*_parts(graph, origins)))
    if suffix == ".svg":
        return _svg("\n".join(_dot(*_parts(graph, origins))))
    raise ArgumentError(f"A drawing is .mmd, .md, .dot or .svg. {received(suffix=suffix)}")


def _parts(graph, origins) -> tuple[list[_Node], list[tuple[str, str]]]:
    """The nodes, and the edges between their names; constants of one element are not shown."""
    nodes, edges, source = [], [], {}

    def add(symbol: Symbol, name: str, label: str):
        source[symbol] = name
        nodes.append(_Node(name, label, False))

    for i, symbol in enumerate(graph.inputs):
        add(symbol, f"s{i}", f"argument {symbol!r}")
    for i, (variable, symbol, _) in enumerate(graph.cells.values()):
        add(symbol, f"v{i}", f"{variable.path} {symbol!r}")
    for i, symbol in enumerate(graph.constants):
        if symbol.size > 1:
            add(symbol, f"c{i}", f"constant {symbol!r}")
    for i, eq in enumerate(graph.equations):
        label = f"{eq.op.name} {', '.join(map(repr, eq.outputs))}"
        if origins and str(eq.origin):
            label += f", {eq.origin}"
        nodes.append(_Node(f"e{i}", label, True))
        edges += [(source[s], f"e{i}") for s in dict.fromkeys(eq.inputs) if s in source]
        source.update((s, f"e{i}") for s in eq.outputs)
    results = [(f"result{i}", f"result {i}", s) for i, s in enumerate(graph.outputs)]
    for i, (variable, symbol, value) in enumerate(graph.cells.values()):
        if value.data is not symbol:
            results.append((f"w{i}", f"new {variable.path}", graph.symbol(value.data)))
    for name, label, symbol in results:
        nodes.append(_Node(name, label, False))
        edges += [(source[symbol], name)] if symbol in source else []
    return nodes, edges


def _mermaid(nodes, edges) -> Iterator[str]:
    yield "flowchart TD"

    def shape(node):
        text = node.label.translate(_IN_MERMAID)
        return f'["{text}"]' if node.is_equation else f'(["{text}"])'

    starts: dict[str, list[str]] = {node.name: [] for node in nodes}
    for start, end in edges:
        starts[end].append(start)
    for node in nodes:
        is_result = node.name.startswith(("result", "w"))
        if not is_result:
            yield f"  {node.name}{shape(node)}"
        for start in starts[node.name]:
            yield f"  {start} --> {node.name}{shape(node) if is_result else ''}"


def _dot(nodes, edges) -> Iterator[str]:
    yield "digraph {"
    for node in nodes:
        shape = "box" if node.is_equation else "ellipse"
        yield f'  {node.name} [shape={shape}, label="{node.label.translate(_IN_DOT)}"];'
    for start, end in edges:
        yield f"  {start} -> {end};"
    yield "}"


def _svg(dot):
    try:
        import pydot
    except ImportError as error:
        raise ImportError(
            'An SVG is drawn by pydot and Graphviz: `pip install "gpunet[viz]"`, and install '
            "Graphviz; or draw `.mmd` or `.dot`."
        ) from error
    drawings: Any = pydot.graph_from_dot_data(dot)
    (drawing,) = drawings
    try:
        return drawing.create_svg().decode()
    except FileNotFoundError as error:
        raise ImportError(
            "An SVG is drawn by Graphviz, which was not found: install it (`apt install graphviz`, "
            "`brew install graphviz`), or draw `.mmd` or `.dot`."
        ) from error
