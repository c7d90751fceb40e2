"""Where the equations of a graph come from: a layer, and a line of the user's code."""

import sys
from pathlib import Path
from typing import NamedTuple

_PACKAGE = str(Path(__file__).resolve().parent)


class Origin(NamedTuple):
    """Where an equation comes from.

    Attributes:
        layer: Path of the layer that was being called, or `None`.
        line: The user's line that led to it, as `file:number`, or `None`.
        of_gradient: Whether it belongs to the gradient of what stands there.
    """

    layer: str | None = None
    line: str | None = None
    of_gradient: bool = False

    def gradient(self) -> "Origin":
        """Returns where the equations of the gradient come from."""
        return self._replace(of_gradient=True)

    def __str__(self) -> str:
        parts = [f"layer {self.layer}" * bool(self.layer), self.line or ""]
        return "gradient of " * self.of_gradient + ", ".join(filter(None, parts))


def users_line() -> str | None:
    """Returns the line outside of gpunet that is being executed, as `file:number`."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_PACKAGE, "<frozen")) and "optree" not in file:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return None
