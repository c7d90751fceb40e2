"""Fusion: chains of elementwise equations become one equation each, computed in one loop.

Between two equations their intermediate result goes to memory and back; for arrays that are larger
than a cache that takes longer than computing it. In a fused loop it stays in a register. No bit of
any result changes on a CUDA device and with NumPy; the C++ loops use other elementary functions
than NumPy, within the tolerance of a dtype.
"""

from collections.abc import Callable

from gpunet.backend import native
from gpunet.compile import emit_cpp, tiles
from gpunet.compile.chain import Chain, Step, is_elementwise
from gpunet.compile.fused import Fused, fused
from gpunet.compile.rewrite import results, with_equations
from gpunet.core.primitive import REGISTRY
from gpunet.core.trace import Equation, Graph, Symbol

# Of one chain: beyond these a kernel runs out of registers, or of bytes for its arguments.
_MOST_STEPS = 48
_MOST_ARRAYS = emit_cpp.MOST_ARRAYS
_MOST_INPUTS = 64  # arrays and numbers
# Elements from which a loop of its own pays off on the CPU. An array of fewer is in the second
# level cache when the next equation reads it: there a fused loop saves a few microseconds a step,
# and compiling it costs half a second once.
_CPU_SIZE = 1 << 16

Worth = Callable[[list[Equation]], bool]


def fuse_elementwise(graph: Graph, worth: Worth | None = None) -> Graph:
    """Makes one equation of each connected group of elementwise equations of one shape.

    Operands of other shapes that are broadcast, such as a bias, are read where they are. A group
    never holds two equations between which another one stands that is not in it.

    Args:
        graph: The graph; it stays as it is.
        worth: Tells whether to fuse a group; by default all groups on a CUDA device, and on the CPU
            those of large arrays.

    Example:
        >>> import gpunet
        >>> from gpunet.core.trace import trace
        >>> graph = trace(lambda x: gpunet.ops.exp(x) * 2 + x, gpunet.tensor([1.0]))
        >>> print(fuse_elementwise(graph, worth=lambda equations: True))
        { graph a:float32[1]
          b:float32[] = constant 2.0
          c:float32[1] = fused_exp_multiply_add a b shape=(1,)
          return c:float32[1] }
    """
    fits, worth_it = _policy(graph) if worth is None else (is_elementwise, worth)
    groups = _Groups(graph.equations, fits)
    sources = _sources(graph)
    units: list[list[int]] = []
    for members in groups.lists():
        equations = [graph.equations[i] for i in members]
        if len(members) > 1 and worth_it(equations):
            units.append(members)
        else:
            units += [[i] for i in members]
    if all(len(members) == 1 for members in units):
        return graph
    kept = results(graph)
    users, new = _users(graph, units), []
    for members in _in_order(graph, units):
        equations = [graph.equations[i] for i in members]
        if len(members) == 1:
            new += equations
        else:
            needed = [
                eq.outputs[0] in kept or bool(users.get(eq.outputs[0], set()) - {members[0]})
                for eq in equations
            ]
            new.append(_fuse(equations, sources, needed))
    return with_equations(graph, _without_unused(new, kept))


def unfused(graph: Graph) -> Graph:
    """Returns the graph with the steps of fused equations as equations of registered primitives.

    For what knows those only: files, and other formats.
    """
    equations: list[Equation] = []
    for eq in graph.equations:
        equations += _steps_of(eq) if isinstance(eq.op, Fused) else [eq]
    return with_equations(graph, equations)


def _steps_of(eq):
    chain, values, equations = eq.op.chain, list(eq.inputs), []
    results = dict(zip(chain.results, eq.outputs, strict=True))
    for at, step in enumerate(chain.steps, chain.arity):
        operands, attributes = [values[i] for i in step.operands], dict(step.attributes)
        out = step.op.rules["infer"](*operands, **attributes)
        result = results.get(at, out)
        made = result if result.shape == out.shape else out
        equations.append(Equation(step.op, operands, attributes, [made], eq.origin))
        if made is not result:
            whole = {"shape": result.shape}
            equations.append(Equation(REGISTRY["broadcast_to"], [made], whole, [result], eq.origin))
        values.append(made)
    return equations


def _policy(graph) -> tuple[Callable[[Equation], bool], Worth]:
    """Which equations to fuse on the device of a graph, and which groups of them."""
    if graph.device.kind != "cpu":
        return is_elementwise, lambda equations: True
    emitted = native.wanted()
    least = _CPU_SIZE if emitted else tiles.LEAST

    def fits(eq):
        return is_elementwise(eq) and (emit_cpp.knows(eq) or not emitted)

    return fits, lambda equations: equations[0].outputs[0].size >= least


# -- groups ---------------------------------------------------------------------------------------


class _Groups:
    """Equations merged into groups, so that the graph of groups has no cycle.

    Sets of equations are bits of a Python int: unions and intersections cost next to nothing.

    Attributes:
        of: For each equation, its group: the number of one of its equations.
    """

    def __init__(self, equations: list[Equation], fits: Callable[[Equation], bool]):
        self.of: list[int] = []
        self._members: dict[int, int] = {}
        self._above: dict[int, int] = {}  # all that it depends on, and itself
        self._before: dict[int, int] = {}  # what makes its operands
        self._inputs: dict[int, set[Symbol]] = {}
        self._made: dict[int, set[Symbol]] = {}
        made: dict[Symbol, int] = {}
        shapes: list[tuple[int, ...] | None] = []
        for i, eq in enumerate(equations):
            producers = dict.fromkeys([made[s] for s in eq.inputs if s in made])
            self._add(i, producers, eq)
            shapes.append(eq.outputs[0].shape if eq.outputs[0].size and fits(eq) else None)
            if shapes[i] is not None:
                for p in producers:
                    if shapes[p] == shapes[i]:
                        self._merge(self.of[p], self.of[i])
            made.update((s, i) for s in eq.outputs)

    def lists(self) -> list[list[int]]:
        """The equations of each group, in order."""
        found: dict[int, list[int]] = {}
        for i, group in enumerate(self.of):
            found.setdefault(group, []).append(i)
        return list(found.values())

    def _add(self, i, producers, eq):
        self.of.append(i)
        self._members[i] = above = 1 << i
        self._before[i] = 0
        for p in producers:
            above |= self._above[self.of[p]]
            self._before[i] |= 1 << p
        self._above[i] = above
        self._inputs[i], self._made[i] = set(eq.inputs), set(eq.outputs)

    def _merge(self, a, b):
        """Makes one group of that of an operand and that of the last equation, where it may.

        What lies between them can only lead to the last equation, by its other operands.
        """
        if a == b or self._too_large(a, b) or self._between(a, b):
            return
        for i in _bits(self._members.pop(b)):
            self.of[i] = a
            self._members[a] |= 1 << i
        above = self._above[a] | self._above.pop(b)
        self._before[a] |= self._before.pop(b)
        self._made[a] |= self._made.pop(b)
        self._inputs[a] = (self._inputs[a] | self._inputs.pop(b)) - self._made[a]
        for group, known in self._above.items():
            if known & self._members[a]:
                self._above[group] = known | above

    def _too_large(self, a, b):
        steps = (self._members[a] | self._members[b]).bit_count()
        inputs = (self._inputs[a] | self._inputs[b]) - (self._made[a] | self._made[b])
        if steps > _MOST_STEPS or len(inputs) > _MOST_INPUTS:
            return True
        return len(inputs) > _MOST_ARRAYS and sum(s.size != 1 for s in inputs) > _MOST_ARRAYS

    def _between(self, a, b):
        """Whether `b` needs something outside of both that needs `a`: merged, they would wait."""
        outside = self._before[b] & ~(self._members[a] | self._members[b])
        return any(self._above[self.of[p]] & self._members[a] for p in _bits(outside))


def _bits(mask):
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _in_order(graph, units):
    """The units such that each comes after those it needs; otherwise as late as they were."""
    unit_of = {i: members for members in units for i in members}
    made = {s: i for i, eq in enumerate(graph.equations) for s in eq.outputs}
    ordered: list[list[int]] = []
    state: dict[int, bool] = {}  # by the first equation of a unit: whether it is done
    for i in range(len(graph.equations)):
        waiting = [unit_of[i]] if unit_of[i][-1] == i else []
        while waiting:
            members = waiting[-1]
            if state.get(members[0]):
                waiting.pop()
                continue
            inputs = [s for m in members for s in graph.equations[m].inputs]
            needed = [unit_of[made[s]] for s in inputs if s in made]
            missing = [u for u in needed if u is not members and not state.get(u[0])]
            if not missing:
                state[members[0]] = True
                ordered.append(waiting.pop())
            elif members[0] in state:
                raise AssertionError(f"equations {members} wait for themselves")
            else:
                state[members[0]] = False
                waiting += missing
    return ordered


# -- the fused equation ---------------------------------------------------------------------------


def _sources(graph):
    """For each result of a `broadcast_to`, what is broadcast."""
    found: dict[Symbol, Symbol] = {}
    for eq in graph.equations:
        if eq.op.name == "broadcast_to":
            source: Symbol = eq.inputs[0]
            found[eq.outputs[0]] = found.get(source, source)
    return found


def _users(graph, units):
    """For each symbol, the units that read it, by their first equation."""
    found: dict[Symbol, set[int]] = {}
    for members in units:
        for i in members:
            for s in graph.equations[i].inputs:
                found.setdefault(s, set()).add(members[0])
    return found


def _fuse(equations, sources, needed):
    """One equation for several; its results are those that anything else needs."""
    made = {eq.outputs[0] for eq in equations}
    inputs = dict.fromkeys(
        sources.get(s, s) for eq in equations for s in eq.inputs if s not in made
    )
    number = {symbol: i for i, symbol in enumerate(inputs)}
    inner, steps = {eq.outputs[0]: len(inputs) + i for i, eq in enumerate(equations)}, []
    for eq in equations:
        operands = [inner[s] if s in inner else number[sources.get(s, s)] for s in eq.inputs]
        steps.append(Step(eq.op, tuple(operands), tuple(sorted(eq.attributes.items()))))
    outputs = [s for s, read in zip(inner, needed, strict=True) if read] or list(inner)[-1:]
    chain = Chain(len(inputs), tuple(steps), tuple([inner[s] for s in outputs]))
    attributes, origin = {"shape": outputs[0].shape}, equations[-1].origin
    return Equation(fused(chain), list(inputs), attributes, outputs, origin)


def _without_unused(equations, kept):
    """Drops broadcasts that fused equations no longer read."""
    needed, left = set(kept), []
    for eq in reversed(equations):
        if eq.op.name != "broadcast_to" or eq.outputs[0] in needed:
            needed.update(eq.inputs)
            left.append(eq)
    return left[::-1]
