"""Which classes and functions a config may name: gpunet's own, and those the user registered.

Loading looks names up here and nowhere else: nothing is imported, no attribute of a module is read,
and there is no switch that changes this.
"""

import inspect
import threading
from collections.abc import Callable
from typing import Any

from gpunet.errors import ArgumentError, SavingError, received

_BUILTINS: dict[tuple[str, str], Any] = {}  # (Keras home, name) -> gpunet's class or function
_BY_NAME: dict[str, list[Any]] = {}
_HOMES: dict[int, str] = {}  # id of a class or function of gpunet -> Keras home
_BASES = ("Initializer", "Layer", "Loss", "Metric", "Optimizer", "Regularizer")  # of `keras` itself
_CUSTOM: dict[str, Any] = {}  # "package>name" -> the user's class or function

# Files name functions without saying where they are from; these are looked through, in this order.
_FUNCTION_HOMES = (
    "activations",
    "constraints",
    "initializers",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
)


class _Scopes(threading.local):
    objects: tuple[dict[str, Any], ...] = ()


_scopes = _Scopes()


def serializable(home: str) -> Callable:
    """Decorates a class or function of gpunet that configs and files may name.

    Args:
        home: The Keras namespace that files say it comes from, such as `"keras.layers"`.
    """

    def register(obj):
        _BUILTINS[home, obj.__name__] = obj
        if obj.__name__ in _BASES:
            _BUILTINS["keras", obj.__name__] = obj
        known = _BY_NAME.setdefault(obj.__name__, [])
        if not any(other is obj for other in known):
            known.append(obj)
        _HOMES[id(obj)] = "keras" if obj.__name__ in _BASES else home
        return obj

    return register


def builtin(home: str, name: str) -> Any:
    """Returns one of gpunet's own classes or functions by its Keras name, or `None`."""
    return _BUILTINS.get((home, name))


def builtin_home(obj: Any) -> str | None:
    """Returns the Keras namespace of one of gpunet's own classes or functions, else `None`."""
    return _HOMES.get(id(obj))


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Decorates a class or function of the user so that files which name it can be loaded.

    Args:
        package: Put before the name, with a `>`.
        name: Default: the name of the class or function.

    Raises:
        ArgumentError: If a class has no `get_config`.

    Example:
        >>> import gpunet
        >>> @gpunet.saving.register_keras_serializable("my_package")
        ... class Swish(gpunet.layers.Layer):
        ...     def call(self, x):
        ...         return x * gpunet.ops.sigmoid(x)
        >>> gpunet.saving.get_registered_name(Swish)
        'my_package>Swish'
    """

    def register(obj):
        if inspect.isclass(obj) and not hasattr(obj, "get_config"):
            raise ArgumentError(
                "Cannot register a class that does not have a get_config() method. "
                + received(obj=obj.__name__)
            )
        _CUSTOM[f"{package}>{name or obj.__name__}"] = obj
        return obj

    return register


def get_registered_name(obj: Any) -> str:
    """Returns the name a class or function was registered under, else its own name.

    Args:
        obj: Class or function.
    """
    for name, known in _CUSTOM.items():
        if known is obj:
            return name
    return obj.__name__


def get_registered_object(
    name: str | None, custom_objects: dict | None = None, module_objects: dict | None = None
) -> Any:
    """Returns the class or function of a name, or `None`.

    Args:
        name: Registered name, such as `"my_package>Swish"`.
        custom_objects: Names to look in first.
        module_objects: Names to look in last.

    Example:
        >>> get_registered_object("double", custom_objects={"double": float})
        <class 'float'>
    """
    for objects in (
        custom_objects or {},
        *reversed(_scopes.objects),
        _CUSTOM,
        module_objects or {},
    ):
        if name is not None and name in objects:
            return objects[name]
    return None


def get_custom_objects() -> dict[str, Any]:
    """Returns the registered names and what they stand for; may be changed in place."""
    return _CUSTOM


class CustomObjectScope:
    """A block in which configs may name the user's own classes and functions.

    Args:
        custom_objects: Dict from names to classes and functions; `None` is an empty one.

    Raises:
        ArgumentError: If `custom_objects` is not a dict.

    Example:
        >>> def triple(x):
        ...     return 3 * x
        >>> with CustomObjectScope({"triple": triple}):
        ...     get_registered_object("triple") is triple
        True
    """

    def __init__(self, custom_objects: dict[str, Any] | None):
        if not isinstance(custom_objects, (dict, type(None))):
            raise ArgumentError(
                "CustomObjectScope needs a dict from names to objects. "
                + received(type=type(custom_objects).__name__)
            )
        self.custom_objects = custom_objects or {}

    def __enter__(self) -> "CustomObjectScope":
        self._before = _scopes.objects
        _scopes.objects = (*self._before, self.custom_objects)
        return self

    def __exit__(self, *error: Any) -> None:
        _scopes.objects = self._before


custom_object_scope = CustomObjectScope


def find_class(
    name: str, module: str | None, registered: str | None, custom: dict | None = None
) -> Any:
    """Returns the class that a config names.

    Args:
        name: Class name.
        module: Namespace in the config, such as `"keras.layers"`.
        registered: Registered name in the config, or `None`.
        custom: Names the caller allows.

    Raises:
        SavingError: If the name is on no list.
    """
    obj = get_registered_object(registered, custom) if registered else None
    if obj is None:
        obj = _BUILTINS.get((module or "", name)) or _BUILTINS.get((_public(module), name))
        if obj is not None and registered not in (None, name):
            raise SavingError(
                f"The config names the registered class {registered!r}, which gpunet does not "
                f"know, and the built-in {module}.{name}; it cannot be both. "
                + received(module=module, registered_name=registered)
            )
    if obj is None:
        obj = get_registered_object(name, custom)
    if obj is None and module in (None, "", "keras", "keras.models", "gpunet"):
        obj = _only(name)
    return obj if obj is not None else _unknown(name, module, registered)


def find_function(name: str, module: str | None, custom: dict | None = None) -> Any:
    """Returns the function that a config names; those of the user come first.

    Args:
        name: Function name, with `package>` before it where it was registered.
        module: Namespace in the config; Keras writes `"builtins"` for all functions.
        custom: Names the caller allows.

    Raises:
        SavingError: If the name is on no list.
    """
    obj = get_registered_object(name, custom) or _BUILTINS.get((_public(module), name))
    if obj is None and (module or "builtins").split(".")[0] in ("builtins", "keras", "gpunet"):
        homes = (_BUILTINS.get((f"keras.{home}", name)) for home in _FUNCTION_HOMES)
        obj = next((known for known in homes if known is not None), None) or _only(name)
    return obj if obj is not None else _unknown(name, module, None)


def _public(module):
    """Files of Keras name private modules too, such as `keras.src.layers.core.dense`."""
    parts = (module or "").split(".")
    return f"keras.{parts[2]}" if parts[:2] == ["keras", "src"] and len(parts) > 2 else module or ""


def _only(name):
    known = _BY_NAME.get(name, ())
    return known[0] if len(known) == 1 else None


def _unknown(name, module, registered):
    raise SavingError(
        f"The config names {name!r}, which gpunet does not know. Pass "
        f"`custom_objects={{{name!r}: ...}}`, or register it with "
        "`saving.register_keras_serializable`. Names in files are looked up, never imported. "
        + received(module=module, class_name=name, registered_name=registered)
    )
