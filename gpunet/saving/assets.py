"""Files that parts of a model keep beside their variables, such as vocabularies.

A part writes and reads them in a directory of its own. In a `.keras` file they are the entries
`assets/<path of the part>/<name>`.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpunet.errors import SavingError
from gpunet.saving.archive import ASSETS
from gpunet.saving.walk import walk


@contextlib.contextmanager
def collected_assets(root: Any) -> Iterator[dict[str, Path]]:
    """Lets all parts write their files; yields them by entry name, until the block ends."""
    parts = [(path, part) for path, part, _ in walk(root) if hasattr(part, "save_assets")]
    if not parts:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        for path, part in parts:
            own = Path(folder, *path.split("/"))
            own.mkdir(parents=True, exist_ok=True)
            part.save_assets(str(own))
        files = [file for file in sorted(Path(folder).rglob("*")) if file.is_file()]
        yield {f"{ASSETS}/{file.relative_to(folder).as_posix()}": file for file in files}


def load_assets(root: Any, archive: Any) -> None:
    """Lets all parts read their files.

    Args:
        root: The model.
        archive: `ZipArchive` or `Directory`.

    Raises:
        SavingError: If a name would lead out of the directory of assets.
    """
    parts = [(path, part) for path, part, _ in walk(root) if hasattr(part, "load_assets")]
    names = [n for n in archive.names() if n.startswith(f"{ASSETS}/") and not n.endswith("/")]
    if not parts or not names:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            steps = name.split("/")[1:]
            if any(step in ("", ".", "..") or set(step) & set("\\:\0") for step in steps):
                raise SavingError(f"Not allowed: an asset named {name!r}.")
            target = Path(folder, *steps)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                archive.copy(name, file)
        for path, part in parts:
            own = Path(folder, *path.split("/"))
            if own.is_dir():
                part.load_assets(str(own))
