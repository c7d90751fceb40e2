"""Objects to JSON-able configs and back, in the format of Keras 3."""

import inspect
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpunet.core.symbolic import FunctionOperation, KerasTensor
from gpunet.core.tensor import Tensor, tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import numpy_dtype
from gpunet.errors import SavingError, received
from gpunet.saving.operations import deserialize_operation, is_operation, serialize_operation
from gpunet.saving.registry import (
    CustomObjectScope,
    builtin_home,
    find_class,
    find_function,
    get_registered_name,
    get_registered_object,
)

_UNFIT = (TypeError, LookupError, AttributeError, RecursionError, MemoryError, OverflowError)
_PLAIN = (str, int, float, bool, types.NoneType)


class _Sharing(threading.local):
    ids: dict[int, tuple[Any, int]] | None = None  # id(object) -> object, its number
    objects: dict[Any, Any] | None = None  # shared_object_id -> object made from a config


_sharing = _Sharing()


@contextmanager
def sharing_while_saving() -> Iterator[None]:
    """A block in which configs of one and the same object get one `shared_object_id`."""
    _sharing.ids = {}
    try:
        yield
    finally:
        _sharing.ids = None


@contextmanager
def sharing_while_loading() -> Iterator[None]:
    """A block in which configs with one `shared_object_id` become one object."""
    _sharing.objects = {}
    try:
        yield
    finally:
        _sharing.objects = None


def serialize_keras_object(obj: Any) -> Any:
    """Returns a config of plain Python values from which `obj` can be made again.

    Args:
        obj: Number, string, list, dict, array, tensor, dtype, registered function, or an object
            with `get_config`.

    Returns:
        For objects a dict with `module`, `class_name`, `config` and `registered_name`.

    Raises:
        SavingError: For lambdas and objects without `get_config`: gpunet saves no code.

    Example:
        >>> import gpunet
        >>> config = serialize_keras_object(gpunet.regularizers.L2(0.5))
        >>> config["module"], config["class_name"], config["config"]
        ('keras.regularizers', 'L2', {'l2': 0.5})
    """
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, _PLAIN):
        return obj
    if isinstance(obj, list):
        return [serialize_keras_object(x) for x in obj]
    if isinstance(obj, tuple):
        return tuple(serialize_keras_object(x) for x in obj)
    if isinstance(obj, dict):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    special = _serialize_value(obj)
    if special is not None:
        return special
    if isinstance(obj, types.FunctionType):
        return _serialize_function(obj)
    if inspect.isclass(obj):
        return _entry(obj, get_registered_name(obj))
    return _serialize_instance(obj)


def _serialize_instance(obj):
    if isinstance(obj, FunctionOperation):
        return serialize_keras_object(serialize_operation(obj))
    if not hasattr(obj, "get_config"):
        raise SavingError(
            f"An object needs `get_config` to be saved. {received(type=type(obj).__name__)}"
        )
    inner = obj.get_config()
    if not isinstance(inner, dict):
        raise SavingError(
            f"`get_config` of {type(obj).__name__} must return a dict. {received(config=inner)}"
        )
    config = _entry(type(obj), serialize_keras_object(inner))
    for name in ("build", "compile"):
        getter = getattr(obj, f"get_{name}_config", None)
        extra = getter() if getter else None
        if extra is not None:
            config[f"{name}_config"] = serialize_keras_object(extra)
    if _sharing.ids is not None:  # the object is kept, so that its id stays its own
        config["shared_object_id"] = _sharing.ids.setdefault(id(obj), (obj, len(_sharing.ids)))[1]
    return config


def without_single_ids(config: Any) -> Any:
    """Returns a config in which only what occurs more than once has a `shared_object_id`."""
    counts: dict[int, int] = {}

    def count(node):
        if isinstance(node, dict):
            if "shared_object_id" in node:
                counts[node["shared_object_id"]] = counts.get(node["shared_object_id"], 0) + 1
            node = node.values()
        if not isinstance(node, _PLAIN):
            for item in node:
                count(item)

    def copy(node):
        if isinstance(node, dict):
            key = node.get("shared_object_id")
            skip = "shared_object_id" if key is not None and counts[key] == 1 else None
            return {key: copy(value) for key, value in node.items() if key != skip}
        return node if isinstance(node, _PLAIN) else [copy(item) for item in node]

    count(config)
    return copy(config)


def _entry(cls, config):
    home = builtin_home(cls)
    module = home or cls.__module__
    return {
        "module": None if module == "__main__" else module,
        "class_name": cls.__name__,
        "config": config,
        "registered_name": None if home else get_registered_name(cls),
    }


def _serialize_function(f):
    if f.__name__ == "<lambda>":
        raise SavingError(
            "A lambda cannot be saved: gpunet stores no code. Use a named function registered with "
            "`saving.register_keras_serializable`."
        )
    return {
        "module": "builtins",
        "class_name": "function",
        "config": get_registered_name(f),
        "registered_name": "function",
    }


def _serialize_value(obj):
    if isinstance(obj, np.dtype):
        return obj.name
    if isinstance(obj, KerasTensor):
        return _special("__keras_tensor__", shape=obj.shape, dtype=obj.dtype, **_history(obj))
    if isinstance(obj, (Tensor, Variable)):
        return _special("__tensor__", value=obj.numpy().tolist(), dtype=str(obj.dtype))
    if isinstance(obj, np.ndarray):
        if obj.ndim == 0:
            return obj.item()
        return _special("__numpy__", value=obj.tolist(), dtype=obj.dtype.name)
    if isinstance(obj, bytes):
        return _special("__bytes__", value=obj.decode("utf-8"))
    if isinstance(obj, slice):
        parts = {
            key: serialize_keras_object(getattr(obj, key)) for key in ("start", "stop", "step")
        }
        return _special("__slice__", **parts)
    return _special("__ellipsis__") if obj is Ellipsis else None


def _special(class_name, **config):
    return {"class_name": class_name, "config": config}


def _history(x):
    if x._keras_history is None:
        return {"keras_history": None}
    operation, node, index = x._keras_history
    return {"keras_history": [operation.name, node, index]}


def deserialize_keras_object(
    config: Any, custom_objects: dict[str, Any] | None = None, safe_mode: bool = True
) -> Any:
    """Returns the object that a config of `serialize_keras_object` describes.

    Args:
        config: Config, or nest of configs; not changed.
        custom_objects: The user's classes and functions by name.
        safe_mode: Accepted for Keras. gpunet never runs code from a config, whatever this says.

    Raises:
        SavingError: If the config names something unknown, holds code, or does not fit its class.

    Example:
        >>> import gpunet
        >>> config = {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": 0.5}}
        >>> deserialize_keras_object(config).l2
        0.5
    """
    if isinstance(config, list):
        return [deserialize_keras_object(x, custom_objects) for x in config]
    if isinstance(config, tuple):
        return tuple(deserialize_keras_object(x, custom_objects) for x in config)
    if isinstance(config, str):  # old files name a user's function by a string
        own = get_registered_object(config, custom_objects)
        return config if own is None else own
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {k: deserialize_keras_object(v, custom_objects) for k, v in config.items()}
    name, inner = config["class_name"], config["config"]
    module, registered = config.get("module"), config.get("registered_name")
    _check_strings(config, name, module, registered)
    if name.startswith("__") and name.endswith("__"):
        return _deserialize_value(name, inner)
    if name == "function":
        if not isinstance(inner, str):
            raise SavingError(f"The config of a function is its name. {received(config=inner)}")
        return find_function(inner, module, custom_objects)
    if isinstance(inner, str):  # a class itself, not an object of it
        return find_class(name, module, registered, custom_objects)
    return _deserialize_instance(config, inner, custom_objects)


def _check_strings(config, name, module, registered):
    if not isinstance(name, str) or not all(
        isinstance(x, (str, types.NoneType)) for x in (module, registered)
    ):
        raise SavingError(
            "`class_name`, `module` and `registered_name` of a config are strings. "
            + received(class_name=name, module=module, registered_name=registered)
        )


def _deserialize_instance(config, inner, custom_objects):
    name, key = config["class_name"], config.get("shared_object_id")
    inner = {} if inner is None else inner
    if not isinstance(inner, dict):
        raise SavingError(f"The config of class {name} must be a dict. {received(config=inner)}")
    shared = _sharing.objects if isinstance(key, int) else None
    if shared is not None and key in shared:
        return shared[key]
    if is_operation(config.get("module")):
        return deserialize_operation(name, deserialize_keras_object(inner, custom_objects))
    cls = find_class(name, config.get("module"), config.get("registered_name"), custom_objects)
    if isinstance(cls, types.FunctionType):
        return cls
    if not hasattr(cls, "from_config"):
        raise SavingError(f"A class needs `from_config` to be loaded. {received(class_name=name)}")
    try:
        with CustomObjectScope(custom_objects):
            obj = _make(cls, config, dict(inner))
    except _UNFIT as error:
        raise SavingError(
            f"Class {name} could not be made from its config: {type(error).__name__}: {error}. "
            "What `get_config` returns must be what `from_config` takes, with the objects in it "
            f"deserialized there. {received(config=_short(inner))}"
        ) from error
    if shared is not None:
        shared[key] = obj
    return obj


def _make(cls, config, inner):
    obj = cls.from_config(inner)
    build = config.get("build_config")
    if build and hasattr(obj, "build_from_config") and not getattr(obj, "built", False):
        obj.build_from_config(build)
        obj.built = True
    settings = config.get("compile_config")
    if settings and hasattr(obj, "compile_from_config"):
        obj.compile_from_config(settings)
    return obj


def _short(config):
    text = repr(config)
    return config if len(text) <= 500 else text[:500] + "..."


def _deserialize_value(name, config):
    try:
        match name:
            case "__keras_tensor__":
                x = KerasTensor(config["shape"], config["dtype"])
                history = config.get("keras_history")
                if history is not None:
                    x._pre_serialization_keras_history = history  # type: ignore[attr-defined]
                return x
            case "__tensor__":
                return tensor(config["value"], config["dtype"])
            case "__numpy__":
                return np.array(config["value"], dtype=numpy_dtype(config["dtype"]))
            case "__bytes__":
                return config["value"].encode("utf-8")
            case "__slice__":
                parts = (config[key] for key in ("start", "stop", "step"))
                return slice(*(deserialize_keras_object(part) for part in parts))
            case "__ellipsis__":
                return Ellipsis
            case "__tuple__":
                return tuple(deserialize_keras_object(x) for x in config["value"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise SavingError(
            f"A config of {name} is damaged: {type(error).__name__}: {error}. "
            + received(config=_short(config))
        ) from error
    raise SavingError(
        "The config holds code or an unknown kind of value. gpunet does not load it, also with "
        f"`safe_mode=False`: register a named function instead. {received(class_name=name)}"
    )
