"""Residual connections fused with the normalisation that follows them, and with its gradient."""

from gpunet.compile.fuse_norm import Equations
from gpunet.compile.rewrite import with_equations
from gpunet.core.primitive import REGISTRY
from gpunet.core.trace import Equation, Graph

_NORMS = ("layer_norm", "rms_norm")
_EXACT = ("float32", "float64")  # halves would be rounded once less


def fuse_residual_norm(graph: Graph) -> Graph:
    """Fuses `add` with the layer or RMS norm of its result, and gradients that are added to theirs.

    They become `residual_layer_norm`, `residual_layer_norm_grad`, ...: what a block of a
    transformer adds up is normalised while it is at hand.
    """
    table, changed = Equations(graph), False
    for eq in graph.equations:
        if eq.inputs and eq.inputs[0].dtype.name in _EXACT:
            if eq.op.name in _NORMS:
                changed |= _fuse_forward(table, eq)
            elif eq.op.name in [f"{name}_grad" for name in _NORMS]:
                changed |= _fuse_backward(table, eq)
    return with_equations(graph, table.ordered()) if changed else graph


def _fuse_forward(table, norm):
    total, *vectors = norm.inputs
    add = table.made.get(total)
    if not _is_plain_add(add) or table.depends(vectors, add):
        return False
    op, outputs = REGISTRY[f"residual_{norm.op.name}"], [norm.outputs[0], total, *norm.outputs[1:]]
    new = Equation(op, [*add.inputs, *vectors], norm.attributes, outputs, norm.origin)
    table.replace([add, norm], new)
    return True


def _fuse_backward(table, gradient):
    g, *rest = gradient.inputs
    dx, *vectors = gradient.outputs
    readers = table.readers.get(dx, [])
    if len(readers) != 1 or table.uses[dx] != 1 or not _is_plain_add(readers[0]):
        return False
    (add,) = readers
    other = add.inputs[add.inputs[0] is dx]
    if other is dx or table.depends([other], gradient):
        return False
    op = REGISTRY[f"residual_{gradient.op.name}"]
    outputs = [add.outputs[0], *vectors]
    new = Equation(op, [g, other, *rest], gradient.attributes, outputs, gradient.origin)
    table.replace([gradient, add], new)
    return True


def _is_plain_add(eq):
    """Tells whether an equation adds two arrays of one shape and dtype."""
    if eq is None or eq.op.name != "add":
        return False
    a, b = eq.inputs
    return a.shape == b.shape and a.dtype == b.dtype
