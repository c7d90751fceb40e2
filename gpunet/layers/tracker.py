"""Tracking: what is assigned to a layer's attributes, also in lists and dicts, is its state."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import optree

from gpunet.core.variable import Variable
from gpunet.errors import StateError
from gpunet.random import SeedGenerator

LOCKED = (
    "This layer is built: no more variables or layers can be added to it. Make all of its state in "
    "`__init__` or in `build`."
)
_PLAIN = (type(None), bool, int, float, str, bytes, type)


class Version:
    """Counts the changes of any layer's structure, so that lists of weights can be kept."""

    number = 0


def _counting(name: str) -> Any:
    method = getattr(list, name)

    def change(self, *args):
        Version.number += 1
        return method(self, *args)

    return change


class Store(list):
    """A list that counts its changes as changes of the structure."""

    append, extend, insert = _counting("append"), _counting("extend"), _counting("insert")
    remove, pop, clear = _counting("remove"), _counting("pop"), _counting("clear")
    __setitem__, __delitem__ = _counting("__setitem__"), _counting("__delitem__")
    __iadd__ = _counting("__iadd__")


class Tracker:
    """Finds variables, layers, metrics and seed generators among the values it is shown.

    Attributes:
        trainable: Variables that were trainable when they were made, in order.
        non_trainable: The other variables.
        layers: Layers.
        metrics: Metrics (objects whose class has a true `_is_metric`).
        seed_generators: Generators of seeds; each has one variable that is no weight.
        locked: Whether new state is refused.
    """

    def __init__(self) -> None:
        self.trainable: list = Store()
        self.non_trainable: list = Store()
        self.layers: list = Store()
        self.metrics: list = Store()
        self.seed_generators: list = Store()
        self.locked = False
        self.message = LOCKED

    def lock(self, message: str = LOCKED) -> None:
        """Refuses new state from now on."""
        self.locked, self.message = True, message

    def unlock(self) -> None:
        """Accepts new state again."""
        self.locked = False

    def track(self, value: Any) -> Any:
        """Adds what is found in a value; returns the value, collections as tracked ones.

        Raises:
            StateError: If there is new state in it and the tracker is locked.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, Variable):
            stored = any(v is value for v in (*self.trainable, *self.non_trainable))
            if not stored:
                self._add(self.trainable if value.trainable else self.non_trainable, value)
        elif (store := self._store(value)) is not None:
            if not any(x is value for x in store):
                self._add(store, value)
        elif isinstance(value, tuple):
            items = [self.track(item) for item in value]
            return kind(*items) if hasattr(value, "_fields") else kind(items)
        elif isinstance(value, (list, dict, set)):
            return self._wrap(value)
        return value

    def add(self, variable: Variable) -> None:
        """Adds a variable."""
        self.track(variable)

    def untrack(self, value: Any) -> None:
        """Removes a value."""
        for store in (self.trainable, self.non_trainable, *self._stores()):
            store[:] = [x for x in store if x is not value]

    def snapshot(self) -> list[list]:
        """Returns what is tracked now."""
        return [list(s) for s in (self.trainable, self.non_trainable, *self._stores())]

    def restore(self, snapshot: list[list]) -> None:
        """Goes back to what was tracked at a snapshot."""
        stores = (self.trainable, self.non_trainable, *self._stores())
        for store, before in zip(stores, snapshot, strict=True):
            store[:] = before

    def _stores(self):
        return self.layers, self.metrics, self.seed_generators

    def _store(self, value):
        kind = type(value)
        if getattr(kind, "_is_metric", False):
            return self.metrics
        if getattr(kind, "_is_layer", False):
            return self.layers
        return self.seed_generators if isinstance(value, SeedGenerator) else None

    def _add(self, store, value):
        if self.locked:
            raise StateError(self.message)
        store.append(value)

    def _wrap(self, value):
        Version.number += 1
        if isinstance(value, list):
            return TrackedList(value, self)
        if isinstance(value, OrderedDict):
            return TrackedOrderedDict(value, self)
        if isinstance(value, dict):
            return TrackedDict(value, self)
        return TrackedSet(value, self)


class _Tracked:
    """What the tracked collections share: state comes and goes with their items."""

    tracker: Tracker | None = None

    def _in(self, value: Any) -> Any:
        return value if self.tracker is None else self.tracker.track(value)

    def _out(self, value: Any) -> None:
        if self.tracker is not None:
            self.tracker.untrack(value)


class TrackedList(_Tracked, list):
    """A list in a layer's attribute: layers and variables appended to it belong to the layer."""

    def __init__(self, values: Iterable = (), tracker: Tracker | None = None):
        self.tracker = tracker
        super().__init__([self._in(value) for value in values or ()])

    def append(self, value: Any) -> None:
        """Adds a value at the end."""
        super().append(self._in(value))

    def insert(self, index: Any, value: Any) -> None:
        """Adds a value at a place."""
        super().insert(index, self._in(value))

    def extend(self, values: Iterable) -> None:
        """Adds values at the end."""
        super().extend([self._in(value) for value in values])

    def __iadd__(self, values: Iterable) -> Any:
        self.extend(values)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            for old in self[index]:
                self._out(old)
            super().__setitem__(index, [self._in(new) for new in value])
        else:
            self._out(self[index])
            super().__setitem__(index, self._in(value))

    def __delitem__(self, index: Any) -> None:
        for old in self[index] if isinstance(index, slice) else [self[index]]:
            self._out(old)
        super().__delitem__(index)

    def remove(self, value: Any) -> None:
        """Removes the first item that is this object, or else equals it."""
        places = [i for i, item in enumerate(self) if item is value]
        del self[places[0] if places else self.index(value)]

    def pop(self, index: Any = -1) -> Any:
        """Removes and returns an item."""
        value = self[index]
        del self[index]
        return value

    def clear(self) -> None:
        """Removes all items."""
        del self[:]


class _TrackedMapping(_Tracked):
    def __setitem__(self, key: Any, value: Any) -> None:
        if self.tracker is not None and key in self:  # type: ignore[operator]
            self._out(self[key])  # type: ignore[index]
        super().__setitem__(key, self._in(value))  # type: ignore[misc]

    def __delitem__(self, key: Any) -> None:
        self._out(self[key])  # type: ignore[index]
        super().__delitem__(key)  # type: ignore[misc]

    def update(self, *mappings: Any, **values: Any) -> None:
        """Sets many items."""
        for key, value in dict(*mappings, **values).items():
            self[key] = value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the item of a key, after setting it where there is none."""
        if key not in self:  # type: ignore[operator]
            self[key] = default
        return self[key]  # type: ignore[index]

    def pop(self, key: Any, *default: Any) -> Any:
        """Removes and returns the item of a key."""
        if key not in self:  # type: ignore[operator]
            return super().pop(key, *default)  # type: ignore[misc]
        value = self[key]  # type: ignore[index]
        del self[key]
        return value

    def popitem(self) -> Any:
        """Removes and returns the last pair."""
        key, value = super().popitem()  # type: ignore[misc]
        self._out(value)
        return key, value

    def clear(self) -> None:
        """Removes all items."""
        for value in list(self.values()):  # type: ignore[attr-defined]
            self._out(value)
        super().clear()  # type: ignore[misc]


class TrackedDict(_TrackedMapping, dict):
    """A dict in a layer's attribute: layers and variables among its values belong to the layer."""

    def __init__(self, values: Any = (), tracker: Tracker | None = None):
        self.tracker = tracker
        super().__init__({key: self._in(value) for key, value in dict(values or ()).items()})


class TrackedOrderedDict(_TrackedMapping, OrderedDict):  # type: ignore[misc]
    """An OrderedDict in a layer's attribute."""

    def __init__(self, values: Any = (), tracker: Tracker | None = None):
        self.tracker = tracker
        super().__init__([(key, self._in(value)) for key, value in dict(values or ()).items()])


class TrackedSet(_Tracked, set):
    """A set in a layer's attribute."""

    def __init__(self, values: Iterable = (), tracker: Tracker | None = None):
        self.tracker = tracker
        super().__init__([self._in(value) for value in values or ()])

    def add(self, value: Any) -> None:
        """Adds a value."""
        super().add(self._in(value))

    def update(self, *values: Iterable) -> None:
        """Adds values."""
        for value in [item for group in values for item in group]:
            self.add(value)

    def remove(self, value: Any) -> None:
        """Removes a value that is there."""
        super().remove(value)
        self._out(value)

    def discard(self, value: Any) -> None:
        """Removes a value if it is there."""
        if value in self:
            self.remove(value)

    def pop(self) -> Any:
        """Removes and returns some value."""
        value = super().pop()
        self._out(value)
        return value

    def clear(self) -> None:
        """Removes all values."""
        for value in list(self):
            self._out(value)
        super().clear()


def _flatten_dict(values):
    keys = sorted(values)
    return [values[key] for key in keys], keys, keys


# For every user of optree: Keras code maps over the attributes of layers.
_GLOBAL: Any = optree.registry.__GLOBAL_NAMESPACE  # pyright: ignore[reportAttributeAccessIssue]
_register: Any = optree.register_pytree_node
_register(TrackedList, lambda x: (list(x), None, None), lambda _, x: list(x), namespace=_GLOBAL)
_register(
    TrackedDict,
    _flatten_dict,
    lambda keys, x: dict(zip(keys, x, strict=True)),
    namespace=_GLOBAL,
)
_register(
    TrackedOrderedDict,
    lambda x: (list(x.values()), list(x), list(x)),
    lambda keys, x: OrderedDict(zip(keys, x, strict=True)),
    namespace=_GLOBAL,
)
