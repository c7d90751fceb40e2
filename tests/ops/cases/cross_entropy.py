"""Rows for `gpunet/ops/cross_entropy.py` and `cross_entropy_labels.py`."""

from tests.ops.case import array, case, integers, normal, uniform

_SMOOTH = {"ignore_index": None, "label_smoothing": 0.1}
_IGNORE = {"ignore_index": -1, "label_smoothing": 0.0}
_BOTH = {"ignore_index": 2, "label_smoothing": 0.2}
_SOME = array([2, -1, 0, 2, -1], "int32")


def _sparse_grad(shape, labels=None, **settings):
    labels = labels or integers(0, shape[-1], *shape[:-1])
    rows = shape[:-1]
    lse = uniform(6, 8, *rows) if shape[-1] > 1000 else uniform(1, 3, *rows)
    return case(normal(*rows), normal(*rows), normal(*shape), labels, lse, _tol=4, **settings)


def _dense_grad(shape, **settings):
    rows = shape[:-1]
    target, lse = uniform(0, 1, *shape), uniform(1, 3, *rows)
    return case(normal(*rows), normal(*rows), normal(*shape), target, lse, _tol=4, **settings)


CASES = {
    "pick": [
        case(normal(5, 7), integers(0, 7, 5)),
        case(normal(2, 3, 4), integers(0, 4, 2, 3, dtype="int64")),
        case(normal(4), integers(0, 4)),
        case(normal(0, 3), integers(0, 3, 0)),
    ],
    "place": [
        case(normal(5), integers(0, 7, 5), classes=7),
        case(normal(2, 3), integers(0, 4, 2, 3, dtype="uint8"), classes=4),
        case(normal(), integers(0, 4), classes=4),
        case(normal(0), integers(0, 3, 0), classes=3),
    ],
    "softmax_cross_entropy": [
        case(normal(5, 7), integers(0, 7, 5)),
        case(normal(2, 3, 4), integers(0, 4, 2, 3, dtype="int64")),
        case(normal(4), integers(0, 4)),
        case(normal(2, 40), integers(0, 40, 2, dtype="uint8")),
        case(normal(0, 3), integers(0, 3, 0)),
        case(normal(5, 7), integers(0, 7, 5), **_SMOOTH),
        case(normal(5, 3), _SOME, **_IGNORE),
        case(normal(5, 8), integers(0, 4, 5), **_BOTH),
        case(normal(2, 1025), integers(0, 1025, 2), _grad=False),
        case(normal(2, 4104), integers(0, 4104, 2), _grad=False, **_BOTH),
    ],
    "softmax_cross_entropy_grad": [
        *(_sparse_grad(shape) for shape in ((5, 7), (2, 3, 4), (0, 3))),
        _sparse_grad((5, 7), **_SMOOTH),
        _sparse_grad((5, 3), _SOME, **_IGNORE, _dtypes=("float32",)),
        _sparse_grad((5, 8), integers(0, 4, 5, dtype="int64"), **_BOTH),
        _sparse_grad((2, 1025), _grad=False),
        _sparse_grad((2, 4104), integers(0, 5, 2), _grad=False, **_BOTH),
    ],
    "softmax_cross_entropy_with_grad": [
        case(normal(5, 7), integers(0, 7, 5), normal()),
        case(normal(2, 3, 4), integers(0, 4, 2, 3, dtype="int64"), array(0.5)),
        case(normal(4), integers(0, 4), normal()),
        case(normal(0, 3), integers(0, 3, 0), normal()),
        case(normal(6, 40), integers(0, 40, 6, dtype="uint8"), array(0.25), _grad=False),
        case(normal(5, 7), integers(0, 7, 5), array(-2.0), **_SMOOTH),
        case(normal(5, 3), _SOME, normal(), **_IGNORE, _dtypes=("float32",)),
        case(normal(5, 8), integers(0, 4, 5), array(0.5), **_BOTH),
        case(normal(2, 1025), integers(0, 1025, 2), array(0.5), _grad=False),
        case(normal(2, 4104), integers(0, 4104, 2), array(1.5), _grad=False, **_BOTH),
        # More than a block keeps in shared memory.
        case(normal(1, 50440), integers(0, 50440, 1), array(9.0), _grad=False),
    ],
    "dense_cross_entropy": [
        case(normal(5, 7), uniform(0, 1, 5, 7)),
        case(normal(2, 3, 4), uniform(0, 1, 2, 3, 4)),
        case(normal(4), uniform(0, 1, 4)),
        case(normal(0, 3), uniform(0, 1, 0, 3)),
        case(normal(5, 8), uniform(0, 1, 5, 8), label_smoothing=0.1),
        case(normal(2, 1025), uniform(0, 1, 2, 1025), _grad=False),
        case(normal(2, 2056), uniform(0, 1, 2, 2056), _grad=False, label_smoothing=0.5),
    ],
    "dense_cross_entropy_grad": [
        *(_dense_grad(shape) for shape in ((5, 7), (2, 3, 4), (0, 3))),
        _dense_grad((5, 8), label_smoothing=0.1),
        _dense_grad((2, 1025), _grad=False),
        _dense_grad((2, 2056), _grad=False, label_smoothing=0.5),
    ],
    "sigmoid_cross_entropy": [
        case(normal(5, 7), uniform(0, 1, 5, 7)),
        case(normal(4, 300), uniform(0, 1, 4, 300), _grad=False),
        case(normal(), uniform(0, 1)),
        case(normal(0, 3), uniform(0, 1, 0, 3)),
    ],
}
