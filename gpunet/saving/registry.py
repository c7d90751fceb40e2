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
_BY_NAME: dict[str, Any] = {}
_CUSTOM: dict[str, Any] = {}  # "package>name" -> the user's class or function


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
        _BY_NAME.setdefault(obj.__name__, obj)
        if inspect.isclass(obj):
            obj._keras_home = home
        return obj

    return register


def builtin_home(obj: Any) -> str | None:
    """Returns the Keras namespace of one of gpunet's own classes or functions, else `None`."""
    if inspect.isclass(obj):
        return obj.__dict__.get("_keras_home")
    for (home, _), known in _BUILTINS.items():
        if known is obj:
            return home
    return None


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
                f"A class needs `get_config` to be saved. {received(obj=obj.__name__)}"
            )
        registered = f"{package}>{name or obj.__name__}"
        _CUSTOM[registered] = obj
        return obj

    return register


def get_registered_name(obj: Any) -> str:
    """Returns the name a class or function was registered under, else its own name."""
    for name, known in _CUSTOM.items():
        if known is obj:
            return name
    return obj.__name__


def get_registered_object(
    name: str, custom_objects: dict | None = None, module_objects: dict | None = None
) -> Any:
    """Returns the class or function of a name, or `None`.

    Args:
        name: Registered name, such as `"my_package>Swish"`.
        custom_objects: Names to look in first.
        module_objects: Names to look in last.
    """
    for objects in (
        custom_objects or {},
        *reversed(_scopes.objects),
        _CUSTOM,
        module_objects or {},
    ):
        if name in objects:
            return objects[name]
    return None


def get_custom_objects() -> dict[str, Any]:
    """Returns the registered names and what they stand for; may be changed in place."""
    return _CUSTOM


class CustomObjectScope:
    """A block in which configs may name the user's own classes and functions.

    Args:
        custom_objects: Dict from names to classes and functions.

    Raises:
        ArgumentError: If `custom_objects` is not a dict.
    """

    def __init__(self, custom_objects: dict[str, Any]):
        if not isinstance(custom_objects, dict):
            raise ArgumentError(
                "CustomObjectScope needs a dict from names to objects. "
                + received(type=type(custom_objects).__name__)
            )
        self.custom_objects = custom_objects

    def __enter__(self) -> "CustomObjectScope":
        self._before = _scopes.objects
        _scopes.objects = (*self._before, self.custom_objects)
        return self

    def __exit__(self, *error: Any) -> None:
        _scopes.objects = self._before


custom_object_scope = CustomObjectScope


def find(name: str, module: str | None, registered: str | None, custom: dict | None) -> Any:
    """Returns the class or function that a config names.

    Args:
        name: Class or function name.
        module: Namespace in the config, such as `"keras.layers"`.
        registered: Registered name in the config, or `None`.
        custom: Names the caller allows.

    Raises:
        SavingError: If the name is on no list.
    """
    for candidate in (registered, name):
        obj = get_registered_object(candidate, custom) if candidate else None
        if obj is not None:
            return obj
    namespace = module or ""
    if namespace.startswith("keras.src."):  # files name private modules too
        namespace = "keras." + namespace.split(".")[2]
    obj = _BUILTINS.get((namespace, name))
    if obj is None and (not module or module.startswith(("keras", "gpunet", "builtins"))):
        obj = _BY_NAME.get(name)
    if obj is None:
        raise SavingError(
            f"The config names {name!r}, which gpunet does not know. Pass "
            "`custom_objects={name: class}`, or register the class with "
            f"`saving.register_keras_serializable`. {received(module=module, registered=registered)}"
        )
    return obj
