"""What the equations of a graph cost: bytes read and written, and floating-point operations."""

from typing import NamedTuple

from gpunet.core.trace import Equation, Graph

# What only says where elements lie.
_FREE = (
    "barrier",
    "broadcast_to",
    "get_item",
    "identity",
    "reshape",
    "split",
    "transpose",
    "unstack",
)


class Row(NamedTuple):
    """The cost of all equations of one primitive."""

    op: str
    equations: int
    flops: int
    bytes: int


class Cost(NamedTuple):
    """The cost of a graph; it prints as a table.

    Attributes:
        rows: A `Row` for each primitive, those with the most flops first.
        flops: Floating-point operations of all equations; a multiply-add counts as two.
        bytes: Bytes that all equations read and write, each as if it ran alone.
    """

    rows: list[Row]
    flops: int
    bytes: int

    def __str__(self) -> str:
        total = Row("total", sum(row.equations for row in self.rows), self.flops, self.bytes)
        width = max(9, *[len(row.op) + 2 for row in self.rows]) if self.rows else 9
        lines = [f"{'op':<{width}}{'equations':>9} {'flops':>12} {'bytes':>12}"]
        for op, equations, flops, nbytes in [*self.rows, total]:
            lines.append(f"{op:<{width}}{equations:>9} {flops:>12,} {nbytes:>12,}")
        return "\n".join(lines)


def equation_cost(eq: Equation) -> tuple[int, int]:
    """Returns bytes and flops: by the `cost` rule, or one operation for each element of a result.

    Example:
        >>> import gpunet
        >>> from gpunet.core.trace import trace
        >>> equation_cost(trace(lambda x: x + x, gpunet.tensor([1.0, 2.0])).equations[0])
        (24, 2)
    """
    if eq.op.name in _FREE:
        return 0, 0
    rule = eq.op.rules.get("cost")
    if rule is not None:
        return rule(*eq.inputs, **eq.attributes)
    return sum(s.nbytes for s in (*eq.inputs, *eq.outputs)), sum(s.size for s in eq.outputs)


def cost(graph: Graph) -> Cost:
    """Returns the cost of all equations of a graph."""
    found: dict[str, list[tuple[int, int]]] = {}
    for eq in graph.equations:
        found.setdefault(eq.op.name, []).append(equation_cost(eq))
    rows = [
        Row(op, len(costs), sum(f for _, f in costs), sum(b for b, _ in costs))
        for op, costs in found.items()
    ]
    rows.sort(key=lambda row: (-row.flops, row.op))
    return Cost(rows, sum(row.flops for row in rows), sum(row.bytes for row in rows))
