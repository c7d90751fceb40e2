"""Views: where the elements of a symbol lie in the memory of another, found without computing."""

from typing import NamedTuple

import numpy as np

from gpunet.backend.native import Operand, contiguous
from gpunet.core.trace import Equation, Symbol

# Primitives whose NumPy rule returns views of its input.
_VIEWS = ("barrier", "broadcast_to", "get_item", "identity", "split", "transpose", "unstack")


class View(NamedTuple):
    """Elements in the memory of a symbol that has memory of its own.

    Attributes:
        base: The symbol that owns the memory.
        offset: Bytes before the first element.
        operand: Shape, dtype and strides.
    """

    base: Symbol
    offset: int
    operand: Operand

    @property
    def whole(self) -> bool:
        """Whether it is all of the memory, in order."""
        return self.offset == 0 and self.operand.contiguous and self.operand.size == self.base.size


def whole(symbol: Symbol) -> View:
    """Returns the view that a symbol with memory of its own is."""
    return View(symbol, 0, contiguous(symbol.shape, symbol.dtype))


def views(eq: Equation, source: View) -> list[View] | None:
    """Returns the results of an equation as views of its input's memory, or `None`.

    The rule runs on an array of that shape and those strides behind which there is no memory: it is
    not read.
    """
    operand = source.operand
    if eq.op.name == "reshape":
        if not operand.contiguous:
            return None
        shape = contiguous(eq.outputs[0].shape, operand.dtype)
        return [View(source.base, source.offset, shape)]
    if eq.op.name not in _VIEWS or any(s.shape == () for s in eq.outputs):  # NumPy reads scalars
        return None
    size = operand.dtype.itemsize
    strides = [s * size for s in operand.strides]
    array = np.lib.stride_tricks.as_strided(np.empty(1, operand.dtype), operand.shape, strides)
    results = eq.op.rules["array"](np, array, **eq.attributes)
    start = array.__array_interface__["data"][0]
    return [
        View(
            source.base,
            source.offset + y.__array_interface__["data"][0] - start,
            Operand(y.shape, y.dtype, tuple(s // size for s in y.strides)),
        )
        for y in (results if isinstance(results, (tuple, list)) else (results,))
    ]
