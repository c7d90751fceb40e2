"""Weights in `.safetensors`: a table of names, dtypes and shapes, then the bytes.

Each part of the model has a path as in `.weights.h5`, and below it each of its variables its own
name: `layers/dense/kernel`. These do not depend on how often a session made a layer `dense_7`.
Files that name variables by `variable.path` instead are read too.
"""

import os
import re
from collections import Counter
from typing import Any

import numpy as np

from gpunet.dtypes import numpy_dtype
from gpunet.errors import SavingError, received
from gpunet.saving.state import collect, own_variables
from gpunet.saving.walk import walk
from gpunet.version import __version__

_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip


def variable_names(root: Any, skip: Any = ()) -> dict[str, tuple[str, str]]:
    """Returns what the file calls each variable of a model: name to (path of the part, key).

    Raises:
        SavingError: If two variables would have one name.
    """
    names: dict[str, tuple[str, str]] = {}
    for path, part, keys in _keys(root, skip):
        for key, own in keys.items():
            name = f"{path}/{own}" if path else own
            if name in names:
                raise SavingError(
                    f"Two variables of {type(part).__name__} would have the name {name!r} in a "
                    ".safetensors file. Give them different names, or save as .weights.h5."
                )
            names[name] = path, key
    return names


def _keys(root, skip):
    """Yields (path, part, key in the part -> name in the file)."""
    for path, part, _ in walk(root, skip=skip):
        if not hasattr(part, "load_own_variables"):
            continue
        variables = own_variables(part)
        if variables is None:
            store: dict[str, Any] = {}
            part.save_own_variables(store)
            yield path, part, {key: key for key in store}
            continue
        names = [_own_name(variable, i) for i, variable in enumerate(variables)]
        counts = Counter(names)
        yield (
            path,
            part,
            {str(i): name if counts[name] == 1 else f"{name}_{i}" for i, name in enumerate(names)},
        )


def _own_name(variable, index):
    """A variable made without a name has one that depends on the session: its place is used."""
    automatic = re.fullmatch(r"variable(_\d+)?", variable.name)
    return f"variable_{index}" if automatic else variable.name


def _names_by_path(root, skip):
    """The same for files that name variables by `variable.path`."""
    names = {}
    for path, part, _ in walk(root, skip=skip):
        for i, variable in enumerate(own_variables(part) or ()):
            names[variable.path] = path, str(i)
    return names


def to_bytes(root: Any, skip: Any = ()) -> bytes:
    """Returns the weights of a model as the content of a `.safetensors` file.

    Args:
        root: Model or layer.
        skip: Parts to leave out, such as the optimizer.

    Raises:
        SavingError: If the format has no such dtype, or two variables would have one name.
    """
    import safetensors.numpy

    names = {place: name for name, place in variable_names(root, skip).items()}
    arrays = {}
    for path, _, variables in collect(root, skip):
        for key, value in variables.items():
            if value.dtype.name not in _DTYPES.values():
                raise SavingError(
                    f"A .safetensors file cannot hold {path}/{key}. {received(dtype=value.dtype)}"
                )
            arrays[names[path, key]] = value if value.ndim == 0 else np.ascontiguousarray(value)
    metadata = {"format": "gpunet", "gpunet_version": __version__}
    return safetensors.numpy.save(arrays, metadata)


class SafetensorsReader:
    """Reads a `.safetensors` file for a model.

    Args:
        path: The file.
        root: The model that it is for.
        skip: Parts of the model that it is not for.

    Raises:
        SavingError: If it is no such file or is damaged.
        FileNotFoundError: If there is none.
    """

    kind = ".safetensors file"

    def __init__(self, path: str | os.PathLike, root: Any, skip: Any = ()):
        import safetensors

        if not os.path.isfile(path):
            raise FileNotFoundError(f"No such file: {path}")
        try:
            self._file = safetensors.safe_open(os.fspath(path), framework="numpy")
            slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
            found = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
        except Exception as error:
            raise SavingError(
                "Not a .safetensors file, or a damaged or truncated one. "
                + received(file=os.fspath(path), error=str(error))
            ) from error
        self._table: dict[str, dict[str, tuple[str, tuple[int, ...], np.dtype]]] = {}
        places = variable_names(root, skip)
        if not found.keys() & places.keys():
            places = _names_by_path(root, skip)
        for name, (shape, dtype) in found.items():
            home, key = places.get(name) or name.rpartition("/")[::2]
            self._table.setdefault(home, {})[key] = name, shape, _numpy_dtype(name, dtype)

    def paths(self) -> list[str]:
        """Returns the paths of all parts with variables; of names that mean nothing, these."""
        return list(self._table)

    def specs(self, path: str) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Returns shape and dtype of the variables at a path, by key."""
        return {key: spec[1:] for key, spec in self._table.get(path, {}).items()}

    def close(self) -> None:
        """Closes the file."""
        self._file.__exit__(None, None, None)

    def __enter__(self) -> "SafetensorsReader":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Returns the variables at a path, by key."""
        table = self._table.get(path, {})
        return {key: np.asarray(self._file.get_tensor(spec[0])) for key, spec in table.items()}


def _numpy_dtype(name, dtype):
    if dtype not in _DTYPES:
        raise SavingError(f"gpunet has no dtype for tensor {name!r}. {received(dtype=dtype)}")
    return numpy_dtype(_DTYPES[dtype])
