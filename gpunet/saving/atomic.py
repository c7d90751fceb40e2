"""Writing files so that a crash, a full disk or a kill never damages what was there before."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a new file for writing that takes the place of `path` when the block ends well.

    The bytes go to a temporary file in the same directory, which is flushed to the disk and then
    renamed. If the block raises, the temporary file is removed and `path` is as it was; if the
    process is killed, a file named `.<name>.<random>.tmp` may stay behind.

    Args:
        path: Where the file shall be. A symbolic link is followed, not replaced.

    Raises:
        OSError: If the directory does not exist or is not writable, or the disk is full.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "numbers")
        >>> with atomic_file(path) as f:
        ...     _ = f.write(b"1 2 3")
        >>> path.read_bytes()
        b'1 2 3'
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"Cannot write a file where there is a directory: {target}")
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            with contextlib.suppress(OSError):  # keeps the rights that the old file had
                os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Flushes the names in a directory to the disk, where the system has a way to do it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows writes names through by itself
        return
    with contextlib.suppress(OSError):  # some network file systems refuse it
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
