"""Nests of lists, tuples, named tuples and dicts: flatten, map and rebuild them (on optree).

Everything else, `None` included, is a leaf. Dicts are walked in the order of their sorted keys.
"""

from collections.abc import Callable, Iterable
from typing import Any

import optree

from gpunet.errors import ArgumentError, received

NAMESPACE = "gpunet"
_OPTIONS: dict[str, Any] = {"none_is_leaf": True, "namespace": NAMESPACE}


class MAP_TO_NONE:
    """What a function given to `traverse` returns where `None` itself is the new value."""


def register_tree_node(
    cls: type,
    flatten_func: Callable[[Any], tuple] | None = None,
    unflatten_func: Callable[[Any, Any], Any] | None = None,
) -> type:
    """Makes the objects of a class inner nodes of nests, for every function in this module.

    Args:
        cls: The class. Without the functions below it is taken for a list.
        flatten_func: Returns the children and what is needed to make the object again.
        unflatten_func: Makes an object from the latter and new children.

    Returns:
        The class, so that this can decorate it.
    """
    optree.register_pytree_node(
        cls,
        flatten_func or (lambda x: (list(x), None)),
        unflatten_func or (lambda _, children: cls(children)),
        namespace=NAMESPACE,
    )
    return cls


def is_nested(structure: Any) -> bool:
    """Tells whether a value is a list, tuple or dict rather than a leaf.

    Example:
        >>> is_nested([1]), is_nested(1)
        (True, False)
    """
    return not optree.tree_is_leaf(structure, **_OPTIONS)


def flatten(structure: Any) -> list:
    """Returns the leaves of a nest.

    Example:
        >>> flatten({"b": [1, (2,)], "a": None})
        [None, 1, 2]
    """
    return optree.tree_leaves(structure, **_OPTIONS)


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """Returns pairs of each leaf's path (keys and indices) and the leaf.

    Example:
        >>> flatten_with_path({"a": [5]})
        [(('a', 0), 5)]
    """
    paths, leaves, _ = optree.tree_flatten_with_path(structure, **_OPTIONS)
    return list(zip(paths, leaves, strict=True))


def pack_sequence_as(structure: Any, flat_sequence: Iterable) -> Any:
    """Returns a nest of the same structure, with other leaves.

    Args:
        structure: Nest that shows the structure.
        flat_sequence: As many leaves as it has.

    Raises:
        ArgumentError: If the number of leaves differs.

    Example:
        >>> pack_sequence_as([0, {"x": 0}], [1, 2])
        [1, {'x': 2}]
    """
    if not isinstance(flat_sequence, Iterable):
        raise ArgumentError(f"The leaves must be a sequence. {received(leaves=flat_sequence)}")
    leaves = list(flat_sequence)
    _, treespec = optree.tree_flatten(structure, **_OPTIONS)
    if len(leaves) != treespec.num_leaves:
        raise ArgumentError(
            f"This structure has {treespec.num_leaves} leaves. {received(leaves=len(leaves))}"
        )
    return optree.tree_unflatten(treespec, leaves)


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """Applies a function to the leaves of one or more nests of the same structure.

    Args:
        func: Takes one leaf of each nest.
        *structures: The nests.
        none_is_leaf: Whether `None` is given to the function too.

    Raises:
        ArgumentError: If there is no nest, or the structures differ.

    Example:
        >>> map_structure(lambda x, y: x + y, [1, (2,)], [10, (20,)])
        [11, (22,)]
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable. {received(func=func)}")
    if not structures:
        raise ArgumentError("Must provide at least one structure")
    options = {**_OPTIONS, "none_is_leaf": none_is_leaf}
    if len(structures) == 1:
        return optree.tree_map(func, structures[0], **options)

    def checked(*leaves):
        if not all(optree.tree_is_leaf(x, **options) for x in leaves):
            raise _different(*structures)
        return func(*leaves)

    return _same(optree.tree_map, checked, structures, options)


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """Applies a function to the parts of nests that stand where another has its leaves.

    Args:
        shallow_structure: Nest that says how deep to go.
        func: Takes one part of each nest.
        *structures: Nests that begin with the structure of `shallow_structure`.

    Raises:
        ArgumentError: If one does not.

    Example:
        >>> map_structure_up_to([0, 0], len, [[1, 2], (3,)])
        [2, 1]
    """
    if not structures:
        raise ArgumentError("Must provide at least one structure")

    def above(_, *parts):
        return func(*parts)

    return _same(optree.tree_map, above, (shallow_structure, *structures), _OPTIONS)


def _same(tree_map, func, structures, options):
    """Maps, and rewords optree's complaint about structures that differ."""
    failed: list[Exception] = []

    def guarded(*leaves):
        try:
            return func(*leaves)
        except Exception as error:
            failed.append(error)
            raise

    try:
        return tree_map(guarded, *structures, **options)
    except ValueError as error:
        if failed:
            raise
        raise _different(*structures) from error


def _different(*structures):
    return ArgumentError(
        f"Structures don't have the same nested structure. {received(structures=structures)}"
    )


def assert_same_structure(a: Any, b: Any) -> None:
    """Checks that two nests have the same structure; leaves may differ.

    Raises:
        ArgumentError: If they have not.
    """
    map_structure(lambda x, y: None, a, b)


def assert_same_paths(a: Any, b: Any) -> None:
    """Checks that two nests have leaves at the same paths; lists and tuples count as equal.

    Raises:
        ArgumentError: If one has a path that the other has not.
    """
    a_paths, b_paths = ({path for path, _ in flatten_with_path(x)} for x in (a, b))
    if a_paths != b_paths:
        raise ArgumentError(
            "`a` and `b` don't have the same paths. "
            + received(only_in_a=sorted(a_paths - b_paths), only_in_b=sorted(b_paths - a_paths))
        )


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """Rebuilds a nest, giving every inner node and leaf to a function.

    Args:
        func: Returns what replaces the node, or `None` to keep it (and, going down, to enter it);
            `MAP_TO_NONE` puts `None`.
        structure: The nest.
        top_down: Whether a node comes before its children.

    Example:
        >>> traverse(lambda x: tuple(x) if isinstance(x, list) else None, [1, [2]], top_down=False)
        (1, (2,))
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable. {received(func=func)}")

    def children_of(node):
        children, treespec = optree.tree_flatten(node, is_leaf=lambda x: x is not node, **_OPTIONS)
        if treespec.num_nodes == 1 and treespec.num_leaves == 1:
            return node
        replaced = [traverse(func, child, top_down) for child in children]
        return optree.tree_unflatten(treespec, replaced)

    if top_down:
        result = func(structure)
        if result is None:
            return children_of(structure)
    else:
        rebuilt = children_of(structure)
        result = func(rebuilt)
        if result is None:
            return rebuilt
    return None if result is MAP_TO_NONE or isinstance(result, MAP_TO_NONE) else result


def lists_to_tuples(structure: Any) -> Any:
    """Returns the nest with tuples in the place of lists.

    Example:
        >>> lists_to_tuples([1, {"a": [2]}])
        (1, {'a': (2,)})
    """
    return traverse(lambda x: tuple(x) if isinstance(x, list) else None, structure, top_down=False)


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """Applies a function to the shapes in a nest; tuples and lists of integers are its leaves.

    Args:
        func: Takes a shape.
        structure: Nest of shapes, whose lengths may be `None`.

    Example:
        >>> map_shape_structure(len, {"image": (None, 8, 8), "label": [4]})
        {'image': 3, 'label': 1}
    """
    if not callable(func):
        raise TypeError(f"`func` must be callable. {received(func=func)}")

    def is_shape(x):
        return isinstance(x, (list, tuple)) and all(d is None or isinstance(d, int) for d in x)

    return optree.tree_map(func, structure, is_leaf=is_shape, **_OPTIONS)
