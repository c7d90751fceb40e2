"""`.keras` files: a zip archive (or a directory) of config, metadata and weights.

Entries are read by fixed names, never unpacked; sizes are checked before anything is read.
"""

import contextlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gpunet.errors import SavingError, received

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"
_MAX_TEXT = 1 << 28  # 256 MiB of config
_IN_MEMORY = 1 << 28  # larger weights go through a temporary file
_MAX_EXPANSION = 100  # how much larger than its bytes in the archive an entry may be
_MAX_ENTRIES = 100_000


@contextlib.contextmanager
def scratch(nbytes: int) -> Iterator[BinaryIO]:
    """Opens a place for that many bytes: in memory, or on the disk if there are many."""
    with io.BytesIO() if nbytes <= _IN_MEMORY else tempfile.TemporaryFile() as file:
        yield file


def write_archive(
    file: BinaryIO, texts: dict[str, str], weights: BinaryIO, assets: dict[str, Path]
) -> None:
    """Writes a `.keras` archive.

    Args:
        file: Where to.
        texts: Config and metadata by entry name.
        weights: The HDF5 file; read from its beginning.
        assets: Other files by entry name.
    """
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        weights.seek(0)
        with archive.open(WEIGHTS, "w", force_zip64=True) as entry:
            shutil.copyfileobj(weights, entry, 1 << 20)
        for name, path in assets.items():
            archive.write(path, name)


class ZipArchive:
    """Reads a `.keras` archive.

    Args:
        file: Path, or file opened for reading bytes.

    Raises:
        SavingError: If it is no zip archive, is damaged, or holds something that is not allowed.
        FileNotFoundError: If there is none.
    """

    def __init__(self, file: Any):
        import zipfile

        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise SavingError(
                "Not a .keras file, or a damaged or truncated one. "
                + received(file=getattr(file, "name", str(file)), error=str(error))
            ) from error
        try:
            self._entries = self._checked()
        except SavingError:
            self.close()
            raise

    def _checked(self):
        infos = self._zip.infolist()
        if len(infos) > _MAX_ENTRIES:
            raise SavingError(f"Not allowed: {len(infos)} entries in one archive.")
        entries = {}
        for info in infos:
            if info.filename in entries:
                raise SavingError(f"Not allowed: two entries named {info.filename!r}.")
            if info.flag_bits & 1:
                raise SavingError(f"Not allowed: {info.filename} is encrypted.")
            if info.file_size > max(info.compress_size * _MAX_EXPANSION, 1 << 16):
                raise SavingError(
                    f"Not allowed: {info.filename} unpacks to far more bytes than the file holds "
                    f"of it. {received(unpacked=info.file_size, stored=info.compress_size)}"
                )
            entries[info.filename] = info
        return entries

    def names(self) -> list[str]:
        """Returns the names of the entries."""
        return list(self._entries)

    def text(self, name: str) -> str:
        """Returns an entry as text.

        Raises:
            SavingError: If there is none, or it is too long, or damaged.
        """
        info = self._entry(name)
        if info.file_size > _MAX_TEXT:
            raise SavingError(f"Not allowed: {name} is too long. {received(bytes=info.file_size)}")
        with io.BytesIO() as file:
            self.copy(name, file)
            return _decode(name, file.getvalue())

    @contextlib.contextmanager
    def weights(self) -> Iterator[BinaryIO]:
        """Opens the weights as a file."""
        with scratch(self._entry(WEIGHTS).file_size) as file:
            self.copy(WEIGHTS, file)
            file.seek(0)
            yield file

    def copy(self, name: str, file: BinaryIO) -> None:
        """Copies the bytes of an entry into a file, checking its checksum."""
        import zipfile

        info = self._entry(name)
        try:
            with self._zip.open(info) as entry:
                shutil.copyfileobj(entry, file, 1 << 20)
            if file.tell() != info.file_size:
                raise EOFError(f"{file.tell()} bytes instead of {info.file_size}")
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise SavingError(
                f"The .keras file is damaged: {name} cannot be read. {received(error=str(error))}"
            ) from error

    def _entry(self, name):
        if name not in self._entries:
            raise SavingError(
                f"A .keras file holds {CONFIG}, {METADATA} and {WEIGHTS}; {name} is missing. "
                + received(entries=self.names()[:20])
            )
        return self._entries[name]

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def __enter__(self) -> "ZipArchive":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class Directory:
    """Reads a model saved with `zipped=False`; the same methods as `ZipArchive`.

    Args:
        path: The directory.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)

    def names(self) -> list[str]:
        """Returns the paths of the files, with `/` between their parts; links are left out."""
        found = []
        for folder, _, files in os.walk(self._path):
            paths = [Path(folder, name) for name in files]
            found += [p.relative_to(self._path).as_posix() for p in paths if not p.is_symlink()]
        return found

    def text(self, name: str) -> str:
        """Returns a file as text."""
        path = self._file(name)
        if path.stat().st_size > _MAX_TEXT:
            raise SavingError(f"Not allowed: {name} is too long.")
        return _decode(name, path.read_bytes())

    @contextlib.contextmanager
    def weights(self) -> Iterator[BinaryIO]:
        """Opens the weights."""
        with open(self._file(WEIGHTS), "rb") as file:
            yield file

    def copy(self, name: str, file: BinaryIO) -> None:
        """Copies the bytes of a file."""
        with open(self._file(name), "rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)

    def _file(self, name):
        path = self._path.joinpath(*name.split("/"))
        if not path.is_file():
            raise SavingError(f"The directory of a saved model must hold {name}.")
        return path

    def __enter__(self) -> "Directory":
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing is kept open."""


def _decode(name, data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SavingError(f"The .keras file is damaged: {name} is no UTF-8 text.") from error
