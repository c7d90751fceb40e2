"""Weights in HDF5 as Keras 3 lays them out: a group `<path>/vars` a part, a dataset a variable.

The reader trusts nothing: it follows no link, reads no dataset whose bytes are not in this file,
and knows shape and dtype of everything before it allocates anything.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from gpunet.dtypes import BFLOAT16, NAMES
from gpunet.errors import SavingError, received

_MAX_DEPTH = 100
_MAX_EXPANSION = 1000  # how much larger than its bytes in the file a (compressed) dataset may be
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # others load plug-ins


def write(file: BinaryIO, parts: Iterator[tuple[str, str | None, dict[str, np.ndarray]]]) -> None:
    """Writes the state of a model.

    Args:
        file: Where to; must be seekable.
        parts: `(path, name, variables)` of each part, as `saving.state.collect` yields them.

    Raises:
        SavingError: If HDF5 cannot hold a value.
    """
    import h5py

    with h5py.File(file, "w") as root:
        for path, name, variables in parts:
            if name is None and not variables:
                continue
            group = root.require_group(f"{path}/vars" if path else "vars")
            if name is not None:
                group.attrs["name"] = name
            for key, value in variables.items():
                if value.dtype.name not in NAMES:
                    raise SavingError(
                        f"Variable {key!r} of {path or 'the model'} has no dtype that can be "
                        f"saved. {received(dtype=value.dtype)}"
                    )
                dataset = group.create_dataset(key, data=value)
                if value.dtype == BFLOAT16:  # HDF5 knows it as 2 opaque bytes
                    dataset.attrs["dtype"] = "bfloat16"


class H5Reader:
    """Reads what `write`, or Keras 3, wrote.

    Args:
        file: Path, or file opened for reading bytes.

    Raises:
        SavingError: If it is no HDF5 file, is damaged, or holds something that is not allowed.
    """

    kind = "HDF5 file"

    def __init__(self, file: Any):
        import h5py

        try:
            self._file = h5py.File(file, "r")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise SavingError(
                "Not an HDF5 file, or a damaged or truncated one. "
                + received(file=getattr(file, "name", file), error=str(error))
            ) from error
        self._datasets: dict[str, dict[str, Any]] = {}  # path -> key -> dataset
        self._specs: dict[str, dict[str, tuple[tuple[int, ...], np.dtype]]] = {}
        try:
            self._scan(self._file, (), set())
        except SavingError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise SavingError(
                f"The HDF5 file is damaged. {received(error=f'{type(error).__name__}: {error}')}"
            ) from error

    def _scan(self, group, parts, seen):
        """Notes shape and dtype of every dataset, and refuses what is not plain data."""
        import h5py

        where = "/".join(parts)
        identity = h5py.h5o.get_info(group.id).addr  # pyright: ignore[reportAttributeAccessIssue]
        if identity in seen or len(parts) > _MAX_DEPTH:
            raise SavingError(f"Not allowed: the HDF5 file has groups within themselves: {where}")
        seen.add(identity)
        for name in group:
            path = f"{where}/{name}" if where else name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise SavingError(f"Not allowed: HDF5 {type(link).__name__} at {path}")
            item = group[name]
            if isinstance(item, h5py.Group):
                self._scan(item, (*parts, name), seen)
            elif isinstance(item, h5py.Dataset):
                owner = tuple(parts)
                if "vars" not in owner:
                    raise SavingError(
                        f"Not weights in the layout of Keras 3: dataset {path} is in no group "
                        "`vars`. Files of older versions must be saved again with Keras 3."
                    )
                at = len(owner) - 1 - owner[::-1].index("vars")
                key = "/".join((*owner[at + 1 :], name))
                home = "/".join(owner[:at])
                self._specs.setdefault(home, {})[key] = item.shape, _checked_dtype(item, path)
                self._datasets.setdefault(home, {})[key] = item
            else:
                raise SavingError(f"Not allowed: HDF5 {type(item).__name__} at {path}")

    @property
    def nbytes(self) -> int:
        """How many bytes all variables take in memory."""
        return sum(_size(*spec) for specs in self._specs.values() for spec in specs.values())

    def paths(self) -> list[str]:
        """Returns the paths of all parts with variables."""
        return list(self._specs)

    def specs(self, path: str) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Returns shape and dtype of the variables at a path, by key."""
        return self._specs.get(path, {})

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Returns the variables at a path, by key.

        Raises:
            SavingError: If the bytes are damaged.
        """
        values = {}
        for key, dataset in self._datasets.get(path, {}).items():
            dtype = self._specs[path][key][1]
            try:
                value = np.asarray(dataset[()])
            except Exception as error:
                raise SavingError(
                    f"The HDF5 file is damaged: {path}/vars/{key} cannot be read. "
                    + received(error=str(error))
                ) from error
            values[key] = (
                value.view(dtype) if dtype == BFLOAT16 else value.astype(dtype, copy=False)
            )
        return values

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> "H5Reader":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _size(shape, dtype):
    count = 1
    for length in shape:
        count *= int(length)
    return count * dtype.itemsize


def _checked_dtype(dataset, path):
    """Returns the dtype of a dataset; refuses what is not plain numbers in this file."""
    if dataset.is_virtual:
        raise SavingError(f"Not allowed: HDF5 virtual dataset at {path}")
    if dataset.external:
        raise SavingError(f"Not allowed: HDF5 dataset with its data in another file at {path}")
    if dataset.shape is None:
        raise SavingError(f"Not allowed: HDF5 dataset without a shape at {path}")
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if any(number not in _FILTERS for number in filters):
        raise SavingError(
            f"Not allowed: HDF5 filter at {path} that is not built in. {received(filters=filters)}"
        )
    dtype = _plain_dtype(dataset, path)
    declared, stored = _size(dataset.shape, dtype), dataset.id.get_storage_size()
    if declared > _MAX_EXPANSION * stored:
        raise SavingError(
            f"Not allowed: HDF5 dataset {path} declares far more bytes than the file holds of it. "
            + received(shape=dataset.shape, declared=declared, stored=stored)
        )
    return dtype


def _plain_dtype(dataset, path):
    dtype = dataset.dtype
    if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None and dtype.itemsize == 2:
        if dataset.attrs.get("dtype") == "bfloat16":
            return BFLOAT16
    elif dtype.kind in "biufc" and dtype.name in NAMES:
        return dtype.newbyteorder("=")
    raise SavingError(f"Not allowed: HDF5 dataset of dtype {dtype} at {path}; only plain numbers.")
