"""Passes: each makes a Graph simpler and changes no bit of what it computes.

A pass is a function from a Graph to a new one; the old one stays as it is. `PASSES` lists them in
the order in which `optimize` runs them.
"""

from collections.abc import Callable, Iterable

import numpy as np

from gpunet import config
from gpunet.backend import native
from gpunet.compile.fuse_norm import fuse_batch_norm_relu
from gpunet.compile.fuse_residual import fuse_residual_norm
from gpunet.compile.fusion import fuse_elementwise
from gpunet.compile.rewrite import results as results
from gpunet.compile.rewrite import with_equations
from gpunet.core.primitive import REGISTRY
from gpunet.core.state import mode
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Equation, Graph, Symbol
from gpunet.errors import ArgumentError, received

_FOLDED = 1 << 16  # elements of a folded constant at most: larger ones cost memory for little time


def dead_code(graph: Graph) -> Graph:
    """Drops equations that no result depends on."""
    needed, kept = results(graph), []
    for eq in reversed(graph.equations):
        if not needed.isdisjoint(eq.outputs):
            needed.update(eq.inputs)
            kept.append(eq)
    new = with_equations(graph, kept[::-1])
    new.constants = {s: data for s, data in graph.constants.items() if s in needed}
    return new


def common_subexpressions(graph: Graph) -> Graph:
    """Computes once what several equations compute from the same inputs.

    Primitives are functions in the mathematical sense - also random draws, which take their seed
    as an input - so that equal equations have equal results. Equal constants are one, too. Only a
    `barrier` is not: what follows it shall be computed again.
    """
    renamed: dict[Symbol, Symbol] = _equal_constants(graph)
    known: dict[tuple, Equation] = {}
    kept = []
    for eq in graph.equations:
        eq = _renamed(eq, renamed)
        key = eq.op, tuple(eq.inputs), repr(sorted(eq.attributes.items()))
        same = eq if eq.op.name == "barrier" else known.setdefault(key, eq)
        if same is eq:
            kept.append(eq)
        else:
            renamed.update(zip(eq.outputs, same.outputs, strict=True))
    return with_equations(graph, kept, renamed)


def _equal_constants(graph):
    renamed, known = {}, {}
    for symbol, data in graph.constants.items():
        if isinstance(data, (np.ndarray, np.generic)) and data.size <= _FOLDED:
            key = symbol.shape, symbol.dtype, np.asarray(data).tobytes()
            renamed[symbol] = known.setdefault(key, symbol)
    return {symbol: same for symbol, same in renamed.items() if symbol is not same}


def _renamed(eq, renamed):
    inputs = [renamed.get(s, s) for s in eq.inputs]
    if inputs == eq.inputs:
        return eq
    return Equation(eq.op, inputs, eq.attributes, eq.outputs, eq.origin)


def fold_constants(graph: Graph) -> Graph:
    """Computes now what depends on constants only, unless the result is large."""
    constants, kept = dict(graph.constants), []
    for eq in graph.equations:
        small = all(s.size <= _FOLDED for s in eq.outputs)
        if not small or not all(s in constants for s in eq.inputs):
            kept.append(eq)
            continue
        with mode(graph=None, tape=None, scope=None):
            out = eq.op(*[Tensor(constants[s], graph.device) for s in eq.inputs], **eq.attributes)
        outs = out if isinstance(out, tuple) else (out,)
        constants.update((s, y.data) for s, y in zip(eq.outputs, outs, strict=True))
    new = with_equations(graph, kept)
    new.constants = constants
    new._constant_symbols = {id(data): symbol for symbol, data in constants.items()}
    return new


def neutral_operations(graph: Graph) -> Graph:
    """Drops equations that give back their input, bit for bit.

    Among them is `x * 1`, but not `x + 0`, which turns -0 into 0.
    """
    renamed: dict[Symbol, Symbol] = {}
    kept = []
    for eq in graph.equations:
        eq = _renamed(eq, renamed)
        source = _given_back(eq, graph.constants)
        if source is None:
            kept.append(eq)
        else:
            renamed[eq.outputs[0]] = source
    return with_equations(graph, kept, renamed)


def _given_back(eq, constants):
    """Returns the input that is the result of an equation, or None."""
    out, name = eq.outputs[0], eq.op.name
    first = eq.inputs[0] if eq.inputs else None
    if first is None or len(eq.outputs) > 1:
        return None
    same = first.shape == out.shape and first.dtype == out.dtype
    if name in ("identity", "cast", "reshape", "broadcast_to", "sum_to"):
        return first if same else None
    if name == "transpose":
        return first if same and tuple(eq.attributes["axes"]) == tuple(range(out.ndim)) else None
    if name == "multiply":
        for x, factor in (eq.inputs, eq.inputs[::-1]):
            same = x.shape == out.shape and x.dtype == out.dtype
            if same and factor in constants and _is_one(constants[factor]):
                return x
    return None


def _is_one(data):
    return isinstance(data, (np.ndarray, np.generic)) and data.size == 1 and data.item() == 1


def fuse_loss_gradient(graph: Graph) -> Graph:
    """Computes the losses of labels and the gradient of their sum at once: logits are read once.

    Where all losses of a `softmax_cross_entropy` count alike, as in a mean, it and its one
    `softmax_cross_entropy_grad` become `softmax_cross_entropy_with_grad`. The kernels give the same
    bits; NumPy's rules do not, so graphs that run on NumPy stay as they are. It runs before other
    passes, which may turn the broadcast of a number into a constant.
    """
    if graph.device.kind == "cpu" and not native.wanted():
        return graph
    made = {symbol: eq for eq in graph.equations for symbol in eq.outputs}
    kept = list(graph.equations)
    for loss in [eq for eq in graph.equations if eq.op.name == "softmax_cross_entropy"]:
        gradient = _only_gradient(graph, loss)
        scale = None if gradient is None else _one_number(gradient.inputs[0], made)
        if gradient is None or scale is None:
            continue
        needed = _ancestors(scale[0], made)
        if loss in needed or not needed.issubset(kept):  # a scale that is there too late
            continue
        casts, number = _casts(*scale, loss.outputs[1].dtype)
        inputs, outputs = [*loss.inputs, number], [*loss.outputs, *gradient.outputs]
        op, at = REGISTRY["softmax_cross_entropy_with_grad"], kept.index(loss)
        before = [*kept[:at], *[eq for eq in kept[at:] if eq in needed]]
        after = [eq for eq in kept[at + 1 :] if eq not in needed and eq is not gradient]
        kept = [
            *before,
            *casts,
            Equation(op, inputs, loss.attributes, outputs, loss.origin),
            *after,
        ]
    return with_equations(graph, kept)


def _only_gradient(graph, loss):
    """The equation of the gradient of losses, if nothing but it needs the loss's `lse`."""
    users = [eq for eq in graph.equations if loss.outputs[1] in eq.inputs]
    if len(users) != 1 or users[0].op.name != "softmax_cross_entropy_grad":
        return None
    (eq,), (_, g_lse, *rest) = users, users[0].inputs
    plain = {"ignore_index": None, "label_smoothing": 0.0}
    alike = rest == [*loss.inputs, loss.outputs[1]]
    alike = alike and plain | eq.attributes == plain | loss.attributes
    zero = g_lse in graph.constants and not graph.constants[g_lse].any()
    return eq if alike and zero else None


def _one_number(symbol, made):
    """The number that all elements are, with the dtypes it is cast to on the way; or None."""
    dtypes = []
    while symbol.shape != ():
        eq = made.get(symbol)
        if eq is None or eq.op.name not in ("broadcast_to", "reshape", "cast"):
            return None
        if eq.op.name == "cast":
            dtypes.insert(0, symbol.dtype)
        symbol = eq.inputs[0]
    return symbol, dtypes


def _casts(symbol, dtypes, last):
    """Equations that cast a number to each of the dtypes in turn, and their result."""
    equations = []
    for dtype in [*dtypes, last]:
        if dtype != symbol.dtype:
            out = Symbol((), dtype)
            equations.append(Equation(REGISTRY["cast"], [symbol], {"dtype": dtype}, [out]))
            symbol = out
    return equations, symbol


def _ancestors(symbol, made):
    """All equations that a symbol depends on."""
    found, waiting = set(), [symbol]
    while waiting:
        eq = made.get(waiting.pop())
        if eq is not None and eq not in found:
            found.add(eq)
            waiting += eq.inputs
    return found


PASSES: dict[str, Callable[[Graph], Graph]] = {
    "fuse_loss_gradient": fuse_loss_gradient,
    "fold_constants": fold_constants,
    "neutral_operations": neutral_operations,
    "common_subexpressions": common_subexpressions,
    "fuse_batch_norm_relu": fuse_batch_norm_relu,
    "fuse_residual_norm": fuse_residual_norm,
    "dead_code": dead_code,
    "fuse_elementwise": fuse_elementwise,
}


def optimize(graph: Graph, passes: Iterable[str] | None = None) -> Graph:
    """Returns the graph after passes, in the order given.

    Args:
        graph: What `trace` returned; it stays as it is.
        passes: Names in `PASSES`; by default those of `gpunet.config.compile`, which are all.

    Raises:
        ArgumentError: If there is no pass of a name.

    Example:
        >>> import gpunet
        >>> from gpunet.core.trace import trace
        >>> print(optimize(trace(lambda x: (x * 1 + x * 1, x * 3)[0], gpunet.tensor([1.0]))))
        { graph a:float32[1]
          b:float32[1] = add a a
          return b:float32[1] }
    """
    chosen = config.passes() if passes is None else passes
    for name in PASSES if chosen is None else chosen:
        if name not in PASSES:
            raise ArgumentError(f"Passes are {list(PASSES)}. {received(name=name)}")
        graph = PASSES[name](graph)
    return graph
