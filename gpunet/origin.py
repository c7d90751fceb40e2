"""Where the equations of a graph come from: a layer, and a line of the user's code."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import optree

# Where frames are not the user's: this package, what calls it back, and Python's import system.
_OTHERS = (
    *(str(Path(str(file)).resolve().parent) + os.sep for file in (__file__, optree.__file__)),
    "<frozen",
)


def is_users(file: str) -> bool:
    """Tells whether code of this file is the user's."""
    return not file.startswith(_OTHERS)


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
        if is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None
