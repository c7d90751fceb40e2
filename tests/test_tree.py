"""Nests: every function against Keras's."""

import collections

import keras
import optree
import pytest

import gpunet
from gpunet import tree

Point = collections.namedtuple("Point", ["x", "y"])
NESTS = [
    1,
    None,
    [],
    [1, [2, (3, None)], {"b": 4, "a": [5]}],
    (1, 2),
    {"z": 1, "a": {"c": 2, "b": 3}},
    Point(1, [2, 3]),
    collections.OrderedDict([("b", 1), ("a", 2)]),
]
nests = pytest.mark.parametrize("nest", NESTS, ids=repr)


@nests
def test_one_nest(nest):
    assert tree.flatten(nest) == keras.tree.flatten(nest)
    assert tree.is_nested(nest) == keras.tree.is_nested(nest)
    assert tree.flatten_with_path(nest) == keras.tree.flatten_with_path(nest)
    assert tree.lists_to_tuples(nest) == keras.tree.lists_to_tuples(nest)
    leaves = [str(i) for i in range(len(tree.flatten(nest)))]
    assert tree.pack_sequence_as(nest, leaves) == keras.tree.pack_sequence_as(nest, leaves)
    assert tree.map_structure(repr, nest) == keras.tree.map_structure(repr, nest)
    tree.assert_same_structure(nest, nest)
    tree.assert_same_paths(nest, nest)


@nests
@pytest.mark.parametrize("top_down", [True, False])
def test_traverse(nest, top_down):
    def double(x):
        if x == 2:
            return keras.tree.MAP_TO_NONE
        return x * 2 if isinstance(x, (int, tuple)) else None

    def ours(x):
        y = double(x)
        return tree.MAP_TO_NONE if y is keras.tree.MAP_TO_NONE else y

    wanted = keras.tree.traverse(double, nest, top_down=top_down)
    assert tree.traverse(ours, nest, top_down=top_down) == wanted


def test_several_nests():
    a, b = [1, {"x": (2, 3)}], [10, {"x": (20, 30)}]
    assert tree.map_structure(lambda x, y: x + y, a, b) == [11, {"x": (22, 33)}]
    assert tree.map_structure_up_to([0, 0], lambda x: repr(x), [[1], {"a": 2}]) == [
        "[1]",
        "{'a': 2}",
    ]
    assert tree.map_structure(lambda x: x + 1, [1, None], none_is_leaf=False) == [2, None]
    shapes = {"a": (None, 3), "b": [(1,), [2, 2]]}
    assert tree.map_shape_structure(len, shapes) == keras.tree.map_shape_structure(len, shapes)


def test_tensors_are_leaves():
    x, v = gpunet.tensor([1.0, 2.0]), gpunet.Variable(3.0)
    k = gpunet.KerasTensor((None, 2))
    found = tree.flatten([x, {"v": v}, (k,)])
    assert [id(leaf) for leaf in found] == [id(x), id(v), id(k)]


@pytest.mark.parametrize(
    ("a", "b"), [([1], (1,)), ([1, 2], [1]), ({"a": 1}, {"b": 1}), ([1], [[1]]), (1, [1])]
)
def test_other_structures_are_refused(a, b):
    with pytest.raises(gpunet.errors.ArgumentError, match="same nested structure"):
        tree.assert_same_structure(a, b)
    with pytest.raises(ValueError):
        keras.tree.assert_same_structure(a, b)


def test_other_paths_are_refused():
    tree.assert_same_paths([1, 2], (1, 2))
    with pytest.raises(gpunet.errors.ArgumentError, match=r"paths.*Received"):
        tree.assert_same_paths({"a": 1}, {"b": 1})


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: tree.map_structure(abs), ValueError),
        (lambda: tree.map_structure_up_to([1], abs), ValueError),
        (lambda: tree.map_structure(3, [1]), TypeError),
        (lambda: tree.traverse(3, [1]), TypeError),
        (lambda: tree.map_shape_structure(3, [1]), TypeError),
        (lambda: tree.pack_sequence_as([1, 2], [1]), ValueError),
        (lambda: tree.pack_sequence_as([1, 2], 1), ValueError),
        (lambda: tree.map_structure_up_to([0, 0], repr, [1]), ValueError),
    ],
)
def test_bad_arguments(call, error):
    with pytest.raises(error):
        call()


def test_errors_of_the_function_are_its_own():
    with pytest.raises(ValueError, match="mine"):
        tree.map_structure(lambda x, y: int("mine"), [1], [2])


def test_registered_classes_are_nests():
    class Box(list):
        pass

    tree.register_tree_node(Box)
    try:
        nest = Box([1, [2]])
        assert tree.flatten(nest) == [1, 2]
        assert type(tree.map_structure(lambda x: x, nest)) is Box
    finally:
        optree.unregister_pytree_node(Box, namespace=tree.NAMESPACE)
