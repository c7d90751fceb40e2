"""Models and weights to files and back: the functions that users call."""

import contextlib
import datetime
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from gpunet.core.state import mode
from gpunet.errors import ArgumentError, SavingError, StateError, received
from gpunet.saving import hdf5, tensors
from gpunet.saving.archive import (
    CONFIG,
    METADATA,
    WEIGHTS,
    Directory,
    ZipArchive,
    scratch,
    write_archive,
)
from gpunet.saving.assets import collected_assets, load_assets
from gpunet.saving.atomic import atomic_file, sync_directory
from gpunet.saving.serialization import (
    deserialize_keras_object,
    serialize_keras_object,
    sharing_while_loading,
    sharing_while_saving,
    without_single_ids,
)
from gpunet.saving.state import collect, load
from gpunet.version import __version__

_LAYOUT = "3.15.1"  # the version of Keras whose layout the files have
_SPARE = 1 << 26  # bytes that a model may take besides what is in its file: 64 MiB
_PER_BYTE = 8  # a model with a fresh optimizer takes more than its saved weights, but not more


def save_model(
    model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None
) -> None:
    """Saves a model with its weights, its compilation, and the state of its optimizer.

    The file has the layout of Keras 3, which can load it: a zip archive of `config.json`,
    `metadata.json` and `model.weights.h5`. It is written beside the old file and then takes its
    place, so an error or a kill while saving loses nothing.

    Args:
        model: Sequential, functional or subclassed model.
        filepath: Path that ends in `.keras`, or a file opened for writing bytes. With
            `zipped=False` the path of a directory.
        overwrite: Whether a file that is there may be replaced.
        zipped: Whether to write a zip archive (default) or a directory.

    Raises:
        ArgumentError: If the path has another ending, or the file exists and `overwrite` is false.
        SavingError: If something in the model cannot be saved, such as a lambda.

    Example:
        >>> import gpunet, tempfile, os
        >>> model = gpunet.Sequential([gpunet.Input((3,)), gpunet.layers.Dense(2)])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
        >>> save_model(model, path)
        >>> load_model(path).count_params()
        8
    """
    if not getattr(model, "built", True):
        warnings.warn(
            f"Model '{model.name}' is saved before it is built: the file may not hold all of its "
            "weights. Call it on data first, or call `build()`.",
            stacklevel=2,
        )
    if hasattr(filepath, "write"):
        _write_model(model, filepath)
        return
    path = _path(filepath)
    keras = str(path).endswith(".keras")
    if zipped is None:
        zipped = True
    if keras is not zipped:
        raise ArgumentError(
            "A model is saved to a path that ends in `.keras`, or with `zipped=False` to a "
            "directory whose name does not. For weights alone call `save_weights` with "
            f"`.weights.h5` or `.safetensors`. {received(filepath=str(path), zipped=zipped)}"
        )
    _check_overwrite(path, overwrite)
    if zipped:
        with atomic_file(path) as file:
            _write_model(model, file)
    else:
        _write_directory(model, path)


def _texts(model):
    with sharing_while_saving():
        config = without_single_ids(serialize_keras_object(model))
    try:
        text = json.dumps(config)
    except (TypeError, ValueError) as error:
        raise SavingError(
            f"The config of model '{model.name}' cannot be written as JSON: {error}. `get_config` "
            "of every layer must return plain values, or objects with `get_config`."
        ) from error
    date = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    metadata = {"keras_version": _LAYOUT, "gpunet_version": __version__, "date_saved": date}
    return {METADATA: json.dumps(metadata), CONFIG: text}


def _write_model(model, file):
    texts = _texts(model)
    nbytes = sum(v.size * 8 for v in getattr(model, "variables", ()))
    with collected_assets(model) as assets, scratch(nbytes) as weights:
        hdf5.write(weights, collect(model))
        write_archive(file, texts, weights, assets)


def _write_directory(model, path):
    """Writes a new directory, then gives it the name; the old one goes last."""
    path = Path(os.path.realpath(path))
    texts, key = _texts(model), os.urandom(6).hex()
    fresh = path.with_name(f".{path.name}.{key}.tmp")
    old = path.with_name(f".{path.name}.{key}.old")
    try:
        fresh.mkdir()
        for name, text in texts.items():
            with atomic_file(fresh / name) as file:
                file.write(text.encode())
        with atomic_file(fresh / WEIGHTS) as file:
            hdf5.write(file, collect(model))
        with collected_assets(model) as assets:
            for name, source in assets.items():
                target = fresh.joinpath(*name.split("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(fresh, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def load_model(
    filepath: Any,
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Loads a model that gpunet or Keras 3 saved.

    A file can name gpunet's own classes and functions, those registered with
    `register_keras_serializable`, and `custom_objects`: nothing else. It cannot make gpunet import
    or run anything, and no argument changes that. Every name, shape, dtype and size is checked.

    Args:
        filepath: Path that ends in `.keras`, a directory saved with `zipped=False`, or a file
            opened for reading bytes.
        custom_objects: The user's classes and functions by name.
        compile: Whether the model is compiled as it was when it was saved.
        safe_mode: Accepted for Keras; lambdas are refused also when it is false.

    Returns:
        The model.

    Raises:
        ArgumentError: If the path has another ending.
        FileNotFoundError: If there is no such file.
        SavingError: If the file is damaged, names something unknown, or does not fit together.
    """
    with _open_archive(filepath) as archive:
        try:
            config = json.loads(archive.text(CONFIG))
        except (ValueError, RecursionError) as error:
            raise SavingError(
                f"The .keras file is damaged: {CONFIG} is no JSON: {error}"
            ) from error
        if not isinstance(config, dict):
            raise SavingError(f"The .keras file is damaged: {CONFIG} holds no model.")
        if not compile:
            config["compile_config"] = None
        with archive.weights() as file, hdf5.H5Reader(file) as reader:
            budget = _Budget(reader.nbytes * _PER_BYTE + _SPARE)
            with mode(budget=budget), sharing_while_loading():
                model = deserialize_keras_object(config, custom_objects)
            if not hasattr(model, "load_own_variables"):
                raise SavingError(f"The file holds no model. {received(kind=type(model).__name__)}")
            load_assets(model, archive)
            load(model, reader)
    return model


class _Budget:
    """Refuses variables of a model that are out of proportion to the file it comes from."""

    def __init__(self, nbytes):
        self.left = nbytes

    def take(self, path, nbytes):
        """Called by Variables before they allocate."""
        if nbytes > self.left:
            raise SavingError(
                f"The config asks for far more memory than the file has weights: variable {path}. "
                + received(bytes=nbytes)
            )
        self.left -= nbytes


def _open_archive(filepath):
    if hasattr(filepath, "read"):
        return ZipArchive(filepath)
    path = _path(filepath)
    if path.is_dir():
        return Directory(path)
    if not str(path).endswith(".keras"):
        raise ArgumentError(
            "A model is loaded from a path that ends in `.keras`. Weights alone (`.weights.h5`, "
            "`.safetensors`) are loaded into a model with `model.load_weights`. "
            + received(filepath=str(path))
        )
    if not path.exists():
        raise FileNotFoundError(f"No such file: {path}")
    return ZipArchive(path)


def save_weights(
    model: Any, filepath: Any, overwrite: bool = True, objects_to_skip: Any = ()
) -> None:
    """Saves the weights of a model.

    Args:
        model: A model that is built.
        filepath: Path that ends in `.weights.h5` (the layout of Keras 3, with the state of the
            optimizer) or in `.safetensors` (the weights alone).
        overwrite: Whether a file that is there may be replaced.
        objects_to_skip: Layers to leave out.

    Raises:
        ArgumentError: If the path has another ending, or the file exists and `overwrite` is false.
        StateError: If the model is not built.

    Example:
        >>> import gpunet, tempfile, os
        >>> model = gpunet.Sequential([gpunet.Input((3,)), gpunet.layers.Dense(2)])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> save_weights(model, path)
        >>> load_weights(model, path)
    """
    path = _path(filepath)
    skip = tuple(objects_to_skip or ())
    if not str(path).endswith((".weights.h5", ".safetensors")):
        raise ArgumentError(
            "The filename must end in `.weights.h5` or `.safetensors`; whole models are saved with "
            f"`save_model` to `.keras`. {received(filepath=str(path))}"
        )
    _check_built(model)
    _check_overwrite(path, overwrite)
    with atomic_file(path) as file:
        if path.suffix == ".h5":
            hdf5.write(file, collect(model, skip))
        else:
            file.write(tensors.to_bytes(model, (*skip, *_optimizers(model))))


def load_weights(
    model: Any, filepath: Any, skip_mismatch: bool = False, objects_to_skip: Any = ()
) -> None:
    """Loads weights into a model: all of them, or none if anything does not fit.

    An optimizer gets its state back if the file has it; otherwise a warning says that it keeps its
    own.

    Args:
        model: A model that is built.
        filepath: Path that ends in `.weights.h5`, `.safetensors` or `.keras`.
        skip_mismatch: Whether to load what fits and warn about every layer that does not.
        objects_to_skip: Layers to leave as they are.

    Raises:
        ArgumentError: If the path has another ending.
        FileNotFoundError: If there is no such file.
        StateError: If the model is not built.
        SavingError: If the file is damaged, something is missing or left over, or a shape or dtype
            differs; the model is as it was before.
    """
    path = _path(filepath)
    skip = tuple(objects_to_skip or ())
    if not str(path).endswith((".weights.h5", ".safetensors", ".keras")):
        raise ArgumentError(
            "Weights are loaded from `.weights.h5`, `.safetensors` or `.keras` files. "
            + received(filepath=str(path))
        )
    _check_built(model)
    if not path.exists():
        raise FileNotFoundError(f"No such file: {path}")
    if path.suffix == ".safetensors":
        skip = (*skip, *_optimizers(model))
        with tensors.SafetensorsReader(path, model, skip) as reader:
            load(model, reader, skip_mismatch, skip)
        return
    with contextlib.ExitStack() as stack:
        file: Any = path
        if path.suffix == ".keras":
            file = stack.enter_context(stack.enter_context(_open_archive(path)).weights())
        load(model, stack.enter_context(hdf5.H5Reader(file)), skip_mismatch, skip)


def _optimizers(model):
    optimizer = getattr(model, "optimizer", None)
    return () if optimizer is None else (optimizer,)


def _path(filepath):
    try:
        return Path(os.fsdecode(os.fspath(filepath)))
    except TypeError as error:
        raise ArgumentError(f"`filepath` must be a path. {received(filepath=filepath)}") from error


def _check_built(model):
    if not getattr(model, "built", True):
        raise StateError(
            f"Model '{getattr(model, 'name', model)}' is not built, so it has no weights yet. Call "
            "it on data first, or call `build()`."
        )


def _check_overwrite(path, overwrite):
    if not overwrite and path.exists():
        raise ArgumentError(
            f"The file exists; pass `overwrite=True` to replace it. {received(filepath=str(path))}"
        )
