"""Names of one Keras namespace: what `serialize`, `deserialize` and `get` of each module share."""

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

from gpunet.errors import ArgumentError, received
from gpunet.naming import to_snake_case
from gpunet.saving.registry import get_registered_object
from gpunet.saving.serialization import deserialize_keras_object


class Names:
    """The classes and functions that strings and configs may name in one namespace.

    Args:
        kind: What they are, for error messages: `"loss"`.
        home: The Keras namespace, such as `"keras.losses"`.
        objects: Classes and functions; classes are known by their name in snake case too.
        aliases: More names.
    """

    def __init__(self, kind: str, home: str, objects: Iterable, aliases: dict | None = None):
        self.kind, self.home = kind, home
        self.objects: dict[str, Any] = {}
        for obj in objects:
            if inspect.isclass(obj):
                self.objects[to_snake_case(obj.__name__)] = obj
            self.objects[obj.__name__] = obj
        for obj in objects:  # a function comes before the snake-case name of a class
            if not inspect.isclass(obj):
                self.objects[obj.__name__] = obj
        self.objects.update(aliases or {})

    def get(self, identifier: Any) -> Any:
        """Returns the object that a name, config, class or callable stands for."""
        if isinstance(identifier, (str, dict)):
            return self.deserialize(identifier)
        if callable(identifier):
            return identifier() if inspect.isclass(identifier) else identifier
        raise self.unknown(identifier)

    def deserialize(self, config: Any, custom_objects: dict | None = None) -> Any:
        """Returns the object of a config or name; configs without a module mean this one."""
        if isinstance(config, str):
            obj = self.find(config, custom_objects)
            if obj is None:
                raise self.unknown(config)
            return obj() if inspect.isclass(obj) else obj
        if not isinstance(config, dict):
            raise self.unknown(config)
        named = config.get("class_name")
        if isinstance(named, str) and not config.get("module"):
            known = self.objects.get(named)
            if known is not None and self.find(named, custom_objects) is known:
                config = {**config, "module": self.home, "class_name": known.__name__}
        return deserialize_keras_object(config, custom_objects)

    def find(self, name: str, custom_objects: dict | None = None) -> Any:
        """Returns the class or function of a name, or `None`; the user's own come first."""
        own = get_registered_object(name, custom_objects)
        return own if own is not None else self.objects.get(name)

    def unknown(self, identifier: Any) -> ArgumentError:
        """Returns the error for an identifier that means nothing here."""
        near = difflib.get_close_matches(str(identifier), self.objects, n=3)
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        return ArgumentError(
            f"Could not interpret {self.kind} identifier: {identifier}.{hint} "
            + received(identifier=identifier)
        )
