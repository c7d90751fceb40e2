"""The tape and reverse-mode differentiation.

Every recorded op is a `Node`. Nodes are numbered as they are made, so a parent's number is always
smaller than its child's, and the backward pass is a walk down the numbers. A node keeps array data,
never Tensors: there are no reference cycles, and memory is freed as soon as results are dropped.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from gpunet.backend.device import Device
from gpunet.backend.faults import HOLDERS, KEPT
from gpunet.core.primitive import REGISTRY
from gpunet.core.state import mode, state
from gpunet.core.tensor import Tensor
from gpunet.errors import DTypeError, GradientError


class Node:
    """One op on the tape, or a leaf (a watched tensor) where `op` is `None`."""

    __slots__ = ("attributes", "device", "index", "kept", "op", "origin", "outs", "parents", "tape")

    def __init__(self, tape, device, outs, op=None, attributes=None, parents=(), kept=None):
        self.tape, self.device, self.op, self.attributes = tape, device, op, attributes
        self.outs = outs  # (shape, dtype) of each result
        self.parents = parents  # (node or None, slot, shape) of each input
        self.kept = kept  # what the vjp needs; the op's `keeps` says what each is
        before = state.graph.equations if op is not None and state.graph is not None else ()
        self.origin = before[-1].origin.gradient() if before else None
        tape.count = self.index = tape.count + 1


HOLDERS[Node] = lambda node: (KEPT, node.kept or ())
_index = attrgetter("index")


class Tape:
    """A recording session: from the outermost tape's start to its end."""

    __slots__ = ("count",)

    def __init__(self):
        self.count = 0

    def leaf(self, x: Tensor) -> Node:
        """Returns a new leaf node for a tensor."""
        data = x.data
        if data.dtype.kind in "iub":
            raise DTypeError(f"Only float tensors have gradients. Received: dtype={x.dtype}")
        return Node(self, x.device, [(data.shape, data.dtype)])

    def watch(self, x: Tensor) -> Tensor:
        """Makes a tensor a leaf, unless it is on this tape already; returns it."""
        if x.node is None or x.node.tape is not self:
            x.node, x.slot = self.leaf(x), 0
        return x

    def record(self, op: Any, attributes: dict, inputs: Sequence[Tensor], outs: Any) -> None:
        """Makes a node with what the vjp of `op` needs, and points the results at it."""
        if not op.differentiable:
            return
        outs = outs if type(outs) is tuple else (outs,)
        parents = []
        for x in inputs:
            parent = x.node
            if parent is not None and parent.tape is not self:
                parent = None
            parents.append((parent, x.slot, x.data.shape))
        kept = [_keep(kind, i, inputs, outs) for kind, i in op.keeps]
        shapes = [(y.data.shape, y.data.dtype) for y in outs]
        node = Node(self, outs[0].device, shapes, op, attributes, parents, kept)
        for slot, y in enumerate(outs):
            if y.data.dtype.kind not in "biu":
                y.node, y.slot = node, slot


def _keep(kind, index, inputs, outs):
    """What a node stores; shapes and places on the tape are in its parents already."""
    if kind == "value":
        return inputs[index].data
    if kind == "output":
        return outs[index].data
    if kind == "values":
        return [x.data for x in inputs[index:]]
    if kind == "dtype":
        return inputs[index].data.dtype
    return [x.data.dtype for x in inputs[index:]] if kind == "dtypes" else None


def _restore(kind, index, data, node):
    """What a vjp gets for something kept: the inverse of `_keep`."""
    if kind == "value":
        parent, slot, _ = node.parents[index]
        return Tensor(data, node.device, parent, slot)
    if kind == "output":
        return Tensor(data, node.device, node, index)
    if kind == "shape":
        return node.parents[index][2]
    if kind == "needs":
        return tuple([parent[0] is not None for parent in node.parents])
    if kind == "values":
        return [_restore("value", i, x, node) for i, x in enumerate(data, index)]
    return [parent[2] for parent in node.parents[index:]] if kind == "shapes" else data


def backpropagate(
    targets: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    sources: Sequence[tuple[Node | None, int]],
    release: bool = False,
    inside: Callable[[Node], bool] | None = None,
) -> list[Tensor | None]:
    """Returns the cotangents of the sources, `None` where a source has no part in the targets.

    Args:
        targets: Tensors to differentiate; those not on a tape count as constants.
        cotangents: One for each target; `None` stands for ones.
        sources: Places on the tape, `(node, slot)`.
        release: Frees what each node keeps as soon as it was used.
        inside: Tells which nodes to differentiate through, by default all; a source that is another
            node gets what these alone add to its gradient.

    Raises:
        GradientError: If the nodes were released before.
    """
    found: dict[Node, list[Tensor | None]] = {}  # the cotangents of each node's results so far
    for y, g in zip(targets, cotangents, strict=True):
        if y.node is not None:
            g = full(y.shape, y.dtype, 1, y.device) if g is None else g
            _accumulate(found, y.node, y.slot, g)
    ends, before = {node for node, _ in sources if node is not None}, state.origin
    for node in _between([y.node for y in targets if y.node is not None], ends, inside):
        gs = found.get(node)
        if gs is None or node.op is None:
            continue
        if node not in ends:
            del found[node]
        state.origin = node.origin or before
        for (parent, slot, shape), g in zip(node.parents, _pull(node, gs), strict=True):
            if parent is not None and g is not None:
                if g.data.shape != shape:
                    g = REGISTRY["sum_to"](g, shape=shape)
                _accumulate(found, parent, slot, g)
        if release:
            node.kept = None
    state.origin = before
    return [found[node][slot] if node in found else None for node, slot in sources]


def full(shape: tuple[int, ...], dtype: Any, value: float, device: Device) -> Tensor:
    """Returns a constant tensor, outside of any tape."""
    with device.activate():
        xp = device.xp  # zeros cost nothing until they are read
        return Tensor(xp.full(shape, value, dtype) if value else xp.zeros(shape, dtype), device)


def _accumulate(found, node, slot, g):
    slots = found.get(node)
    if slots is None:
        slots = found[node] = [None] * len(node.outs)
    before = slots[slot]
    slots[slot] = g if before is None else REGISTRY["add"](before, g)


def _between(starts, ends, inside):
    """Nodes on a path from the targets down to a source, newest first."""
    oldest = min((node.index for node in ends), default=0)
    seen, stack, all_lead_there = set(), list(starts), True
    while stack:
        node = stack.pop()
        left_out = node.index < oldest or (inside is not None and not inside(node))
        if node not in seen and not left_out:
            seen.add(node)
            stack.extend([parent for parent, _, _ in node.parents if parent is not None])
        if node not in ends and (node.op is None or left_out):
            all_lead_there = False
    order = sorted(seen, key=_index, reverse=True)
    if all_lead_there:
        return order
    useful = set(ends)
    for node in reversed(order):
        if any(parent in useful for parent, _, _ in node.parents):
            useful.add(node)
    return [node for node in order if node in useful]


def _pull(node, gs):
    """Runs the vjp of one node; always returns one cotangent (or `None`) for each input."""
    if node.kept is None:
        raise GradientError(
            "This tape was used already and its memory is free again. "
            "Use GradientTape(persistent=True) to ask for gradients more than once."
        )
    if len(gs) > 1:
        pairs = zip(gs, node.outs, strict=True)
        gs = [full(s, t, 0, node.device) if g is None else g for g, (s, t) in pairs]
    keeps = zip(node.op.keeps, node.kept, strict=True)
    kept = [_restore(kind, i, data, node) for (kind, i), data in keeps]
    rule = node.op.rules.get("vjp")
    if rule is None:
        inputs = [*kept[:-1], *kept[-1]] if node.op.variadic else kept
        return _pull_composite(node.op.rules["composite"], inputs, gs, node.attributes)
    result = rule(gs[0] if len(gs) == 1 else tuple(gs), *kept, **node.attributes)
    return result if type(result) in (tuple, list) else (result,)


def _pull_composite(composite, inputs, gs, attributes):
    """Differentiates the op through its smaller ops."""
    with mode(tape=state.tape or Tape()):
        leaves = [fresh_leaf(x) for x in inputs]
        ys = composite(*leaves, **attributes)
        ys = ys if isinstance(ys, tuple) else (ys,)
    return backpropagate(ys, gs, [(x.node, x.slot) for x in leaves])


def fresh_leaf(x: Tensor) -> Tensor:
    """Returns `x` at a place of its own on the current tape, so that it is a source by itself.

    If `x` is on the tape already the place is connected to it, for gradients of gradients.
    """
    if x.dtype.kind in "biu":
        return x
    if x.node is not None and x.node.tape is state.tape:
        return REGISTRY["identity"](x)
    return state.tape.watch(Tensor(x.data, x.device))
