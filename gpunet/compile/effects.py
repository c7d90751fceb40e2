"""What each pass does to a graph, as a table."""

from typing import NamedTuple

from gpunet import config
from gpunet.compile.arena import peak
from gpunet.compile.cost import cost
from gpunet.compile.passes import PASSES, optimize, results
from gpunet.core.trace import Graph


class Effect(NamedTuple):
    """A graph after one more pass.

    Attributes:
        name: The pass; `"traced"` stands for none.
        equations: How many there are.
        bytes: What they read and write.
        peak: The most bytes of intermediate results that are needed at one time.
    """

    name: str
    equations: int
    bytes: int
    peak: int


class Effects(list[Effect]):
    """An `Effect` for each pass, in order; it prints as a table."""

    def __str__(self) -> str:
        lines = [f"{'pass':<24}{'equations':>10} {'bytes':>14} {'peak':>14}"]
        lines += [f"{name:<24}{n:>10} {nbytes:>14,} {most:>14,}" for name, n, nbytes, most in self]
        return "\n".join(lines)


def effects(graph: Graph) -> Effects:
    """Returns what each pass, after those before it, does to a traced graph."""
    chosen, found = config.passes(), Effects([_effect("traced", graph)])
    for name in PASSES if chosen is None else chosen:
        graph = optimize(graph, [name])
        found.append(_effect(name, graph))
    return found


def _effect(name, graph):
    return Effect(name, len(graph.equations), cost(graph).bytes, peak(lifetimes(graph), 1))


def lifetimes(graph: Graph) -> list[tuple[int, int, int]]:
    """Returns `(first, last, bytes)` of what each equation computes: when it must be there."""
    last = {s: at for at, eq in enumerate(graph.equations) for s in eq.inputs}
    last |= dict.fromkeys(results(graph), len(graph.equations))
    return [
        (at, last.get(s, at), s.nbytes) for at, eq in enumerate(graph.equations) for s in eq.outputs
    ]
