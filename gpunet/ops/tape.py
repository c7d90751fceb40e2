"""Pieces of a program as one node on the tape: what they depend on, and a gradient of their own."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gpunet.core.autograd import Node, Tape
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol


class Place(NamedTuple):
    """A result of a node on the tape: what a gradient belongs to.

    Attributes:
        node: The node.
        slot: Which of its results it is.
        shape: The shape of that.
    """

    node: Node
    slot: int
    shape: tuple[int, ...]

    @property
    def dtype(self):
        """The dtype of the result."""
        return self.node.outs[self.slot][1]


class _Piece:
    """Stands for a primitive on the tape."""

    keeps: tuple = ()
    differentiable = True

    def __init__(self, name, pull):
        self.name, self.rules = name, {"vjp": pull}


def dependencies(
    results: Iterable[Tensor], tape: Tape, inside: Callable[[Node], bool]
) -> list[Place]:
    """Returns the places outside of a piece of the tape that some results depend on.

    Args:
        results: What was computed inside.
        tape: The tape.
        inside: Tells whether a node belongs to the piece.
    """
    found: dict[tuple[Node, int], Place] = {}
    stack = [Place(y.node, y.slot, y.shape) for y in results if y.node and y.node.tape is tape]
    stack.reverse()
    seen = set()
    while stack:
        place = stack.pop()
        if not inside(place.node):
            found.setdefault(place[:2], place)
        elif place.node not in seen:
            seen.add(place.node)
            stack += [Place(*parent) for parent in place.node.parents if parent[0] is not None]
    return list(found.values())


def attach(name: str, outs: list[Tensor], tape: Tape, places: list[Place], pull: Callable) -> None:
    """Makes tensors the results of one node.

    Args:
        name: Name of the node, for messages.
        outs: Tensors; their places on the tape change.
        tape: The tape.
        places: What they depend on.
        pull: Returns a cotangent, or `None`, for each place from the list of those of the outs.
    """

    def vjp(g):
        return pull(list(g) if isinstance(g, tuple) else [g])

    inputs = [Tensor(Symbol(p.shape, p.dtype), p.node.device, p.node, p.slot) for p in places]
    tape.record(_Piece(name, vjp), {}, inputs, tuple(outs))
