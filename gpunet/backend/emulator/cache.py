"""Compiled kernels on disk: found again by what they were made from, safe to share and to lose."""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from gpunet.errors import DeviceError, received


def cache_dir() -> Path:
    """Returns the folder of compiled kernels, made if need be, private to the current user.

    `GPUNET_CACHE_DIR` names it; else it lies in the user's cache folder (`XDG_CACHE_HOME`,
    `~/.cache`, or `LOCALAPPDATA` on Windows).

    Raises:
        DeviceError: If it cannot be made, or if another user could put files into it: what lies
            there is loaded into this process.
    """
    folder = _root() / "emulator"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise DeviceError(
            f"Compiled kernels cannot be kept: {error}. Set GPUNET_CACHE_DIR to a folder that can "
            f"be written. {received(folder=str(folder))}"
        ) from error
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise DeviceError(
            "The folder of compiled kernels must belong to the current user and be writable by "
            f"nobody else; run `chmod 700` on it or set GPUNET_CACHE_DIR. "
            f"{received(folder=str(folder), owner=status.st_uid, mode=oct(status.st_mode & 0o777))}"
        )
    return folder


def _root() -> Path:
    if os.environ.get("GPUNET_CACHE_DIR"):
        return Path(os.environ["GPUNET_CACHE_DIR"])
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache") / "gpunet"


def cached(key: str, make: Callable[[Path], None], kind: str = ".so") -> Path:
    """Returns the file kept under `key`, made by `make(path)` if there is no sound one.

    A file carries the hash of its content in its name: one that was cut short or altered is
    recognised, dropped and made again. New files appear under their name all at once, and where
    several processes ask at the same time, one makes the file and the others wait for it.

    Args:
        key: Hash of everything the file is made from, in hexadecimal digits.
        make: Writes the file to the path it is given.
        kind: How the file's name ends.
    """
    folder = cache_dir() / key[:2]
    folder.mkdir(mode=0o700, exist_ok=True)
    found = _sound(folder, key, kind)
    if found is not None:
        return found
    with _locked(folder / f"new-{key}.lock"):
        return _sound(folder, key, kind) or _made(folder, key, kind, make)


def _sound(folder, key, kind):
    for path in folder.glob(f"{key}-*{kind}"):
        if path.name == f"{key}-{_hash(path)}{kind}":
            return path
        path.unlink(missing_ok=True)
    return None


def _made(folder, key, kind, make):
    handle, name = tempfile.mkstemp(prefix="new-", suffix=kind, dir=folder)
    os.close(handle)
    new = Path(name)
    try:
        make(new)
        return new.replace(folder / f"{key}-{_hash(new)}{kind}")
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path):
    """Lets in one at a time; the operating system takes the lock from a process that ends.

    The last act is to remove the file. Who comes right then may work twice, which does no harm.
    """
    import fcntl  # here: Windows has none, and no kernels are compiled there

    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
