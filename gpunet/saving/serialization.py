"""Objects to JSON-able configs and back, in the format of Keras 3."""

import inspect
import types
from typing import Any

import numpy as np

from gpunet.core.symbolic import KerasTensor
from gpunet.core.tensor import Tensor, tensor
from gpunet.core.variable import Variable
from gpunet.errors import SavingError, received
from gpunet.saving.registry import CustomObjectScope, builtin_home, find, get_registered_name

_PLAIN = (str, int, float, bool, types.NoneType)


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
        return _entry(obj, obj.__name__, obj.__name__)
    if not hasattr(obj, "get_config"):
        raise SavingError(
            f"An object needs `get_config` to be saved. {received(type=type(obj).__name__)}"
        )
    config = _entry(type(obj), type(obj).__name__, obj.get_config())
    for name in ("build", "compile"):
        getter = getattr(obj, f"get_{name}_config", None)
        extra = getter() if getter else None
        if extra is not None:
            config[f"{name}_config"] = serialize_keras_object(extra)
    return config


def _entry(cls, name, config):
    home = builtin_home(cls)
    return {
        "module": home or cls.__module__,
        "class_name": name,
        "config": config,
        "registered_name": None if home else get_registered_name(cls),
    }


def _serialize_function(f):
    if f.__name__ == "<lambda>":
        raise SavingError(
            "A lambda cannot be saved: gpunet stores no code. Use a named function registered with "
            "`saving.register_keras_serializable`."
        )
    return _entry(f, "function", f.__name__) | {
        "registered_name": None if builtin_home(f) else get_registered_name(f)
    }


def _serialize_value(obj):
    if isinstance(obj, np.dtype):
        return obj.name
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, KerasTensor):
        return _special("__keras_tensor__", shape=obj.shape, dtype=obj.dtype, **_history(obj))
    if isinstance(obj, (Tensor, Variable)):
        return _special("__tensor__", value=obj.numpy().tolist(), dtype=str(obj.dtype))
    if isinstance(obj, np.ndarray):
        return _special("__numpy__", value=obj.tolist(), dtype=obj.dtype.name)
    if isinstance(obj, bytes):
        return _special("__bytes__", value=obj.decode("utf-8"))
    if isinstance(obj, slice):
        parts = {
            key: serialize_keras_object(getattr(obj, key)) for key in ("start", "stop", "step")
        }
        return _special("__slice__", **parts)
    return {"class_name": "__ellipsis__", "config": {}} if obj is Ellipsis else None


def _special(class_name, **config):
    return {"class_name": class_name, "config": config}


def _history(x):
    if x._keras_history is None:
        return {}
    operation, node, index = x._keras_history
    return {"keras_history": [operation.name, node, index]}


def deserialize_keras_object(
    config: Any, custom_objects: dict[str, Any] | None = None, safe_mode: bool = True
) -> Any:
    """Returns the object that a config of `serialize_keras_object` describes.

    Args:
        config: Config, or nest of configs.
        custom_objects: The user's classes and functions by name.
        safe_mode: Accepted for Keras. gpunet never runs code from a config, whatever this says.

    Raises:
        SavingError: If the config names something unknown, or holds code.
    """
    if isinstance(config, list):
        return [deserialize_keras_object(x, custom_objects) for x in config]
    if isinstance(config, tuple):
        return tuple(deserialize_keras_object(x, custom_objects) for x in config)
    if isinstance(config, str) and custom_objects and config in custom_objects:
        return custom_objects[config]
    if not isinstance(config, dict):
        return config
    if not isinstance(config.get("class_name"), str) or "config" not in config:
        return {k: deserialize_keras_object(v, custom_objects) for k, v in config.items()}
    name, inner = config["class_name"], config["config"]
    if name.startswith("__") and name.endswith("__"):
        return _deserialize_value(name, inner)
    module, registered = config.get("module"), config.get("registered_name")
    if name == "function":
        return find(inner, module, registered, custom_objects)
    if isinstance(inner, str) and inner == name:
        return find(name, module, registered, custom_objects)
    return _build(find(name, module, registered, custom_objects), config, custom_objects)


def _build(cls, config, custom_objects):
    if not hasattr(cls, "from_config"):
        raise SavingError(f"A class needs `from_config` to be loaded. {received(cls=cls)}")
    with CustomObjectScope(custom_objects or {}):
        obj = cls.from_config(config["config"])
        for name in ("build", "compile"):
            extra = config.get(f"{name}_config")
            if extra and hasattr(obj, f"{name}_from_config"):
                getattr(obj, f"{name}_from_config")(extra)
    return obj


def _deserialize_value(name, config):
    if name == "__keras_tensor__":
        return KerasTensor(config["shape"], config["dtype"])
    if name == "__tensor__":
        return tensor(config["value"], config["dtype"])
    if name == "__numpy__":
        return np.array(config["value"], dtype=config["dtype"])
    if name == "__bytes__":
        return config["value"].encode("utf-8")
    if name == "__slice__":
        return slice(*(deserialize_keras_object(config[k]) for k in ("start", "stop", "step")))
    if name == "__ellipsis__":
        return Ellipsis
    if name == "__tuple__":
        return tuple(deserialize_keras_object(x) for x in config["value"])
    raise SavingError(
        "The config holds code or an unknown kind of value, which gpunet does not load. "
        + received(class_name=name)
    )
