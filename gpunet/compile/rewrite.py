"""What passes share: graphs with other equations."""

from gpunet.core.tensor import Tensor
from gpunet.core.trace import Equation, Graph, Symbol


def with_equations(
    graph: Graph, equations: list[Equation], renamed: dict[Symbol, Symbol] | None = None
) -> Graph:
    """Returns a graph with other equations, in which some symbols go by other names."""
    renamed, new = renamed or {}, type(graph)(graph.device)
    new.inputs, new.structure = graph.inputs, graph.structure
    new.equations, new.constants = equations, dict(graph.constants)
    new._constant_symbols = dict(graph._constant_symbols)
    new.outputs = [renamed.get(s, s) for s in graph.outputs]
    for key, (variable, symbol, value) in graph.cells.items():
        last = renamed.get(value.data, value.data)
        new.cells[key] = variable, symbol, Tensor(last, value.device)
    return new


def results(graph: Graph) -> set[Symbol]:
    """Returns the symbols that must be computed: what is returned or written to a Variable."""
    return {*graph.outputs, *[value.data for _, _, value in graph.cells.values()]}
