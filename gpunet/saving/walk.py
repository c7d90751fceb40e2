"""Where in a file the state of each part of a model is: the paths that Keras 3 gives them.

A part is found by walking attributes in alphabetical order, private ones last; `layers` comes first
in sequential and functional models. Items of lists and dicts are named by their class and counted.
A part that can be reached in several ways belongs to the first of them.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from gpunet.naming import to_snake_case
from gpunet.saving.registry import builtin

# The classes whose own attributes are machinery, not places where users keep layers.
_ROOTS = (
    ("keras.layers", "Layer"),
    ("keras.optimizers", "Optimizer"),
    ("keras.metrics", "Metric"),
    ("keras.losses", "Loss"),
    ("keras", "Operation"),
)
_WITH_LAYERS_FIRST = {
    ("keras", "Sequential"): {"_functional"},
    ("keras.src.models.functional", "Functional"): {"operations", "_operations"},
}
_MARKS = ("save_own_variables", "_obj_type", "_is_layer", "_is_metric")


def is_saveable(obj: Any) -> bool:
    """Tells whether an object has state of its own or may hold objects that have."""
    return any(hasattr(type(obj), mark) for mark in _MARKS)


@functools.cache
def _machinery(cls: type) -> frozenset[str]:
    """Attributes that every object of a root class has."""
    names = set(dir(cls))
    if cls is builtin("keras.layers", "Layer"):
        names.update(dir(cls(name="layer")))
    return frozenset(names)


@functools.cache
def _skipped(cls: type) -> tuple[frozenset[str], bool]:
    """Attributes not to walk in objects of a class, and whether `layers` comes first in them."""
    roots = [root for key in _ROOTS if (root := builtin(*key)) is not None]
    skipped = {name for root in roots if issubclass(cls, root) for name in _machinery(root)}
    layers_first = False
    for key, names in _WITH_LAYERS_FIRST.items():
        known = builtin(*key)
        if known is not None and issubclass(cls, known):
            skipped |= names
            layers_first = True
    return frozenset(skipped), layers_first


def _attributes(obj):
    """Yields (name, value) in the order in which Keras walks them."""
    skipped, layers_first = _skipped(type(obj))
    if layers_first:
        yield "layers", obj.layers
    for name in sorted(dir(obj), key=lambda name: f"~{name}" if name.startswith("_") else name):
        if name.startswith("__") or name in skipped:
            continue
        try:
            value = getattr(obj, name)
        except Exception:
            continue
        yield name, value


def _children(obj):
    """Yields (path below the object, part)."""
    for name, value in _attributes(obj):
        if is_saveable(value):
            yield name, value
        elif isinstance(value, (list, tuple, dict)):
            yield from _items(value, name, set())


def _items(container, path, seen):
    if id(container) in seen:
        return
    seen.add(id(container))
    used: dict[str, int] = {}
    for item in list(container.values()) if isinstance(container, dict) else container:
        if is_saveable(item):
            yield f"{path}/{_unique(to_snake_case(type(item).__name__), used)}", item
        elif isinstance(item, (list, tuple, dict)):
            yield from _items(item, f"{path}/{_unique('container', used)}", seen)


def _unique(name, used):
    if name not in used:
        used[name] = 0
        return name
    used[name] += 1
    return f"{name}_{used[name]}"


def walk(
    root: Any, accept: Callable[[str, Any], bool] | None = None, skip: Any = ()
) -> Iterator[tuple[str, Any, bool]]:
    """Yields `(path, part, accepted)` for a model and all of its parts.

    Args:
        root: Model, layer or optimizer; its own path is `""`.
        accept: Called as `accept(path, part)`. A part that is not accepted at one path is offered
            again at the other paths that lead to it; default: everything is accepted.
        skip: Parts to leave out, with what is below them.
    """
    done = {id(part) for part in skip}
    active: set[int] = set()

    def visit(path, part):
        if id(part) in done or id(part) in active:
            return
        accepted = accept is None or accept(path, part)
        if accepted:
            done.add(id(part))
        yield path, part, accepted
        active.add(id(part))
        for below, child in _children(part):
            yield from visit(f"{path}/{below}" if path else below, child)
        active.discard(id(part))

    yield from visit("", root)
