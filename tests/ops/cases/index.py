"""Rows for `gpunet/ops/index.py` and `scatter.py`."""

import numpy as np

from tests.ops.case import array, case, distinct, integers, normal, uniform

_ALL = (None, None, None)


def _ids(high, *shape):
    return integers(-high, high, *shape)


def _places(values):
    return array(values, "int32")


_UNIQUE = _places([[2, 0], [0, 1], [1, 3]])
_TWICE = _places([[2, 0], [0, 1], [2, 0]])
_THRICE = integers(0, 3, 200, 1)  # runs of equal places over several tiles of 64
_GATHERS = [
    # shape of x, indices, key
    ((5, 4), [_ids(5, 3)], ("array",)),
    ((5, 4), [_ids(4, 2, 3)], (_ALL, "array")),
    ((5, 4), [_ids(5, 3), _ids(4, 3)], ("array", "array")),
    ((5, 4), [_ids(5, 3, 1), _ids(4, 2)], ("array", "array")),
    ((5, 4, 3), [_ids(5, 2), _ids(3, 2)], ("array", (1, None, 2), "array")),
    ((5, 4, 3), [_ids(4, 2)], (0, "array")),
    ((5, 4, 3), [_ids(4, 2)], (None, _ALL, "array", (None, None, -1))),
    ((5, 4), [_ids(5)], ("array", (1, 3, None))),
    ((5, 4), [_ids(5, 0)], ("array",)),
    ((3, 2), [integers(0, 3, 200)], ("array",)),  # runs of equal places over several tiles of 64
]


def _scattered(shape, indices, key):
    """The shape of what is gathered, from NumPy."""
    arrays = iter([np.zeros(r.shape, int) for r in indices])
    plain = [slice(*k) if type(k) is tuple else next(arrays) if k == "array" else k for k in key]
    return np.zeros(shape)[tuple(plain)].shape


CASES = {
    "get_item": [
        case(normal(5, 4), key=(2,)),
        case(normal(5, 4), key=((1, None, 2), -1)),
        case(normal(5, 4), key=((None, None, -1), (None, 3, None))),
        case(normal(5, 4, 3), key=(0, None, _ALL, (2, 1, None))),
        case(normal(), key=(None,)),
        case(normal(0, 4), key=(_ALL, 1)),
        case(integers(0, 9, 5), key=((1, 4, None),)),
    ],
    "put_item": [
        case(normal(4), key=(2,), shape=(5, 4)),
        case(normal(2, 3), key=((1, None, 2), (3, 0, -1)), shape=(5, 4)),
        case(normal(1, 3), key=(None, _ALL), shape=(3,)),
    ],
    "gather_item": [case(normal(*shape), *ids, key=key) for shape, ids, key in _GATHERS],
    "scatter_item": [
        case(normal(*_scattered(shape, ids, key)), *ids, key=key, shape=shape)
        for shape, ids, key in _GATHERS
    ],
    "take": [
        case(normal(5, 4), _ids(5, 3), axis=0),
        case(normal(5, 4), _ids(4, 2, 3), axis=1),
        case(normal(2, 5, 3), _ids(5), axis=1),
        case(normal(5, 4), _ids(5, 0), axis=0),
        case(integers(0, 9, 6), _ids(6, 4), axis=0),
        case(normal(5, 8), integers(-5, 5, 33, dtype="int64"), axis=0),  # rows of 16-byte accesses
        case(normal(2, 3, 1032), _ids(3, 2), axis=1),  # more than a block's width
        case(normal(3, 1025), _ids(3, 2), axis=0),
        case(normal(7, 3), integers(0, 7, 5, dtype="uint8"), axis=0),
        case(normal(3, 65, 130), _ids(65, 200), axis=1, _grad=False),  # parts for threads
        case(normal(9), _ids(9, 40000), axis=0, _grad=False),
    ],
    "index_add": [
        case(normal(3, 4), _ids(5, 3), axis=0, length=5),
        case(normal(5, 2, 3), _ids(4, 2, 3), axis=1, length=4),
        case(normal(2, 3), _ids(5), axis=1, length=5),
        case(normal(40, 3), integers(0, 2, 40), axis=0, length=2),  # more than 32 rows an index
        case(normal(40, 3), integers(0, 20, 40), axis=0, length=30),
        case(normal(40), integers(0, 20, 40), axis=0, length=30),
        case(normal(0, 4), _ids(5, 0), axis=0, length=5),
        case(integers(0, 9, 6), _ids(4, 6), axis=0, length=4),
        case(normal(200, 8), integers(0, 3, 200), axis=0, length=4),  # runs over tiles of 64 rows
        case(normal(2, 130, 132), integers(0, 2, 130), axis=1, length=3, _grad=False),
        case(normal(64, 33), integers(0, 1, 64), axis=0, length=1, _grad=False),
        case(normal(1100), integers(0, 2, 1100), axis=0, length=2, _grad=False),  # over eight tiles
        case(normal(129, 1), integers(0, 65, 129, dtype="int64"), axis=0, length=65),
        # Keys of one, two and three bytes, sorted by several blocks.
        case(normal(1025), integers(0, 256, 1025), axis=0, length=256, _grad=False),
        case(normal(2500), integers(0, 70000, 2500), axis=0, length=70000, _grad=False),
        case(normal(1100, 2), integers(-700, 700, 1100), axis=0, length=700, _grad=False),
        case(normal(300, 130), _ids(50, 300), axis=0, length=50, _grad=False),
    ],
    "take_along_axis": [
        case(normal(5, 4), _ids(4, 5, 2), axis=1),
        case(normal(5, 4), _ids(5, 7, 4), axis=0),
        case(normal(2, 5, 3), _ids(5, 2, 2, 3), axis=1),
        case(normal(6), _ids(6, 3), axis=0),
        case(normal(0, 4), _ids(4, 0, 2), axis=1),
        case(normal(300, 65), _ids(65, 300, 70), axis=1, _grad=False),
    ],
    "add_along_axis": [
        case(normal(5, 2), _ids(4, 5, 2), axis=1, length=4),
        case(normal(7, 4), _ids(5, 7, 4), axis=0, length=5),
        case(normal(2, 2, 3), _ids(5, 2, 2, 3), axis=1, length=5),
        case(normal(0, 2), _ids(4, 0, 2), axis=1, length=4),
        case(normal(3, 300), integers(0, 2, 3, 300), axis=1, length=2, _grad=False),
    ],
    "scatter_update": [
        case(normal(3, 4), _UNIQUE, normal(3), reduction=None),
        case(normal(3, 4), _TWICE, normal(3), reduction=None),
        case(normal(3, 4), _places([[1], [0]]), normal(2, 4), reduction=None),
        case(normal(3, 4), _TWICE, normal(3), reduction="add"),
        case(normal(3, 4), _ids(3, 2, 5, 1), normal(2, 5, 4), reduction="add"),
        case(distinct(3, 4), _UNIQUE, normal(3), reduction="max"),
        case(distinct(3, 4), _TWICE, distinct(3), reduction="min"),
        case(normal(3, 4), _TWICE, uniform(0.5, 2.0, 3), reduction="mul"),
        case(integers(0, 9, 5), _places([[1], [3]]), integers(0, 9, 2), reduction=None),
        *[
            case(uniform(0.9, 1.1, 3, 4), _THRICE, uniform(0.99, 1.01, 200, 4), reduction=name)
            for name in ("add", "mul")
        ],
        *[
            case(normal(3, 4), _THRICE, normal(200, 4), reduction=name, _grad=False)
            for name in (None, "max", "min")
        ],
    ],
    "gather_rows": [
        case(normal(3, 4), _TWICE),
        case(normal(3, 4), _ids(3, 2, 5, 1)),
        case(normal(2, 3, 4), _places([[1, 2, 3]])),
    ],
    "dynamic_slice": [
        case(normal(5, 4), _places([1, 2]), shape=(2, 2)),
        case(normal(5, 4), _places([4, -3]), shape=(3, 4)),
        case(normal(6), _places([2]), shape=(0,)),
    ],
    "dynamic_update_slice": [
        case(normal(5, 4), normal(2, 2), _places([1, 2])),
        case(normal(5, 4), normal(3, 4), _places([4, -3])),
        case(normal(6), normal(0), _places([2])),
    ],
    "one_hot": [
        case(integers(-1, 6, 4), num_classes=5, axis=1, dtype=np.dtype("float32")),
        case(integers(0, 5, 2, 3), num_classes=5, axis=0, dtype=np.dtype("int32")),
        case(integers(0, 5, 2, 3), num_classes=5, axis=1, dtype=np.dtype("bool")),
        case(integers(0, 5), num_classes=5, axis=0, dtype=np.dtype("float64")),
        case(integers(0, 5, 0), num_classes=5, axis=1, dtype=np.dtype("float32")),
        case(integers(0, 17, 33, dtype="int64"), num_classes=17, axis=1, dtype=np.dtype("bool")),
        case(integers(0, 3, 5, 7), num_classes=3, axis=0, dtype=np.dtype("float16")),
    ],
}
