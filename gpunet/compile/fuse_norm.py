"""Batch norm with the ReLU that follows, and with the residual connection between them: one pass.

What a ReLU cuts off needs no array of its own, and neither does its gradient: a step of a residual
network reads and writes a third less.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from gpunet.compile.rewrite import results, with_equations
from gpunet.core.primitive import REGISTRY
from gpunet.core.trace import Equation, Graph, Symbol


class _Norm(NamedTuple):
    """A `batch_norm_train` that was fused."""

    x: Symbol
    scale: Symbol
    offset: Symbol
    mean: Symbol
    variance: Symbol
    epsilon: float
    residual: bool


def fuse_batch_norm_relu(graph: Graph) -> Graph:
    """Fuses `batch_norm_train` and `relu`, and `add` where one stands between them.

    They become `batch_norm_relu` and `batch_norm_add_relu` where nothing else needs what is between
    them; `relu_grad` and `batch_norm_grad` become the gradients of these. Run it after
    `common_subexpressions`, so that equal symbols are one.
    """
    if not any(eq.op.name == "batch_norm_train" for eq in graph.equations):
        return graph
    table = Equations(graph)
    norms = {}
    for relu in [eq for eq in graph.equations if eq.op.name == "relu"]:
        norm = _fused_forward(table, relu)
        if norm is not None:
            norms[relu.outputs[0]] = norm
    for slope in [eq for eq in graph.equations if eq.op.name == "relu_grad"]:
        norm = norms.get(slope.inputs[1])
        if norm is not None:
            _fuse_backward(table, slope, norm)
    return with_equations(graph, table.ordered()) if norms else graph


class Equations:
    """The equations of a graph while some are replaced.

    Attributes:
        made: The equation that makes a symbol.
        uses: How often a symbol is read, or is a result.
        readers: The equations of the graph as it was that read a symbol.
    """

    def __init__(self, graph: Graph):
        self._list: list[Equation | None] = list(graph.equations)
        self._places = {eq: i for i, eq in enumerate(graph.equations)}
        self.made = {symbol: eq for eq in graph.equations for symbol in eq.outputs}
        self.uses = Counter(symbol for eq in graph.equations for symbol in eq.inputs)
        self.uses.update(results(graph))
        self.readers: dict[Symbol, list[Equation]] = {}
        for eq in graph.equations:
            for symbol in eq.inputs:
                self.readers.setdefault(symbol, []).append(eq)

    def single(self, symbol: Symbol, name: str) -> Equation | None:
        """Returns the equation of an op that makes a symbol first, if that is read only once."""
        eq = self.made.get(symbol)
        alike = eq is not None and eq.op.name == name and eq.outputs[0] is symbol
        return eq if alike and self.uses[symbol] == 1 else None

    def depends(self, symbols: Iterable[Symbol], on: Equation) -> bool:
        """Tells whether one of some symbols is computed from the results of an equation."""
        found, waiting = set(), [self.made[s] for s in symbols if s in self.made]
        while waiting:
            eq = waiting.pop()
            if eq is on:
                return True
            if eq not in found:
                found.add(eq)
                waiting += [self.made[s] for s in eq.inputs if s in self.made]
        return False

    def replace(self, old: list[Equation], new: Equation) -> None:
        """Puts an equation where the first of some others was; the others go."""
        for eq in old:
            self._list[self._places[eq]] = None
        place = self._places[old[0]]
        self._list[place], self._places[new] = new, place
        self.made.update((symbol, new) for symbol in new.outputs)

    def ordered(self) -> list[Equation]:
        """Returns all equations, each after those that it needs, else in the order they have."""
        order: dict[Equation, None] = {}
        for root in self._list:
            waiting = [] if root is None else [root]
            while waiting:
                eq = waiting[-1]
                before = [self.made[s] for s in eq.inputs if s in self.made]
                before = [other for other in before if other not in order]
                if before:
                    waiting += before[::-1]
                else:
                    order[waiting.pop()] = None
        return list(order)


def _fused_forward(table, relu):
    """Fuses a ReLU with the batch norm before it; returns that, or None if there is none."""
    norm = table.single(relu.inputs[0], "batch_norm_train")
    add, residual = None, []
    if norm is None:
        add = table.single(relu.inputs[0], "add")
        norm, residual = (None, []) if add is None else _residual(table, add)
    if norm is None:
        return None
    x, scale, offset = norm.inputs
    outputs = [relu.outputs[0], *norm.outputs[1:]]
    op = REGISTRY["batch_norm_add_relu" if residual else "batch_norm_relu"]
    new = Equation(op, [x, *residual, scale, offset], norm.attributes, outputs, norm.origin)
    table.replace([norm, relu] if add is None else [norm, add, relu], new)
    mean, variance = norm.outputs[1:]
    epsilon = norm.attributes["epsilon"]
    return _Norm(x, scale, offset, mean, variance, epsilon, bool(residual))


def _residual(table, add):
    """Returns the batch norm that an addition is the residual connection of, and the residual."""
    for symbol, other in (add.inputs, add.inputs[::-1]):
        norm = table.single(symbol, "batch_norm_train")
        alike = other.shape == symbol.shape and other.dtype == symbol.dtype
        if norm is not None and alike and not table.depends([other], norm):
            return norm, [other]
    return None, []


def _fuse_backward(table, slope, norm):
    """Fuses the gradient of a fused ReLU with that of its batch norm, if that is there."""
    given, masked = slope.inputs[0], slope.outputs[0]
    for gradient in table.readers.get(masked, ()):
        if table.made[gradient.outputs[0]] is not gradient or not _is_gradient(gradient, norm):
            continue
        _, *cotangents, x, scale, mean, variance = gradient.inputs
        if gradient.inputs[0] is not masked or masked in cotangents:
            continue
        if norm.residual and table.depends(cotangents, slope):
            continue
        dx, *vectors = gradient.outputs
        if norm.residual:
            op, outputs = REGISTRY["batch_norm_add_relu_grad"], [dx, masked, *vectors]
            inputs = [given, *cotangents, x, slope.inputs[1], scale, mean, variance]
        elif table.uses[masked] == 1:
            op, outputs = REGISTRY["batch_norm_relu_grad"], gradient.outputs
            inputs = [given, *cotangents, x, scale, norm.offset, mean, variance]
        else:
            continue
        new = Equation(op, inputs, gradient.attributes, outputs, gradient.origin)
        table.replace([slope, gradient], new)
        return


def _is_gradient(eq, norm):
    """Tells whether an equation is the gradient of a batch norm."""
    if eq.op.name != "batch_norm_grad" or eq.attributes["epsilon"] != norm.epsilon:
        return False
    return eq.inputs[3:] == [norm.x, norm.scale, norm.mean, norm.variance]
