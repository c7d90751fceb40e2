"""Name scopes, which make the paths of variables."""

from collections.abc import Iterator
from contextlib import contextmanager

from gpunet.core.state import state


@contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Puts `name/` before the paths of variables made in a block."""
    before = state.names
    state.names = (*before, name.replace("/", "_"))
    try:
        yield
    finally:
        state.names = before


def current_path() -> str:
    """Returns the names of the scopes we are in, joined by `/`."""
    return "/".join(state.names)
