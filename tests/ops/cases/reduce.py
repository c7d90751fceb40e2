"""Rows for `gpunet/ops/reduce.py`, `extrema.py` and `cumulative.py`."""

import numpy as np

from tests.ops.case import array, bools, case, distinct, integers, normal, uniform

_AXES = [(None, False), ((0,), False), ((1,), True), ((0, 2), False), ((1, 2), True), (None, True)]


def _over(recipe, *rest, **settings):
    """All kinds of axes, a row, a number, and lengths that take the fast ways on the CPU."""
    rows = [case(recipe(3, 4, 5), axis=a, keepdims=k, **settings) for a, k in _AXES]
    rows += [
        case(recipe(7), axis=None, keepdims=False, **settings),
        case(recipe(), axis=None, keepdims=False, **settings),
        case(recipe(3, 4), axis=(), keepdims=False, **settings),
    ]
    return [*rows, *rest]


def _long(recipe, **settings):
    """Shapes beyond the limit below which the plain way is faster."""
    return [
        case(recipe(300, 9), axis=(0,), keepdims=False, **settings),
        case(recipe(300, 9), axis=(1,), keepdims=True, **settings),
        case(recipe(5, 7, 130), axis=(0, 1), keepdims=True, **settings),
        case(recipe(5, 7, 130), axis=(1, 2), keepdims=False, **settings),
        case(recipe(5, 60, 7), axis=(1,), keepdims=False, **settings),
        case(recipe(1, 2100), axis=None, keepdims=False, **settings),  # in chunks, on a GPU
        case(recipe(70000, 2), axis=(0,), keepdims=False, _grad=False, **settings),
    ]


def _shared(recipe, **settings):
    """What several blocks of a GPU share: long rows, long and narrow columns."""
    return [
        case(recipe(9001), axis=None, keepdims=False, _grad=False, **settings),
        case(recipe(2, 9000), axis=(1,), keepdims=False, _grad=False, **settings),
        case(recipe(4200, 8), axis=(0,), keepdims=True, _grad=False, **settings),
        case(recipe(2, 300, 33), axis=(1,), keepdims=False, _grad=False, **settings),
    ]


def _empty(**settings):
    return [
        case(normal(0, 3), axis=(0,), keepdims=False, **settings),
        case(normal(0, 3), axis=(1,), keepdims=True, **settings),
    ]


def _small(*shape):
    return uniform(0.7, 1.4, *shape)


def _whole(*shape):
    return integers(-9, 10, *shape)


def _positions(recipe):
    shapes = [(3, 5), (2, 3, 4)]
    rows = [
        case(recipe(*s), axis=a, keepdims=k) for s in shapes for a in (None, 0, 1) for k in (0, 1)
    ]
    return [
        *rows,
        case(recipe(7), axis=0, keepdims=False),
        case(recipe(0, 3), axis=1, keepdims=False),
    ]


def _found(recipe):
    """With many equal ones, found by several blocks."""
    return [
        case(recipe(9001), axis=None, keepdims=False),
        case(recipe(1031), axis=0, keepdims=False),
        case(recipe(600, 5), axis=0, keepdims=False),
        case(recipe(2, 300, 8), axis=1, keepdims=True),
    ]


def _running(recipe, **settings):
    return [
        case(recipe(4, 5), axis=0, **settings),
        case(recipe(4, 5), axis=1, **settings),
        case(recipe(2, 3, 4), axis=1, **settings),
        case(recipe(9), axis=0, **settings),
        case(recipe(1), axis=0, **settings),
        case(recipe(0, 3), axis=0, **settings),
        case(recipe(2, 31, 33), axis=1, **settings),
        case(recipe(3, 129), axis=1, **settings),
        case(recipe(65, 9), axis=0, _grad=False, **settings),
        case(_whole(6), axis=0),
    ]


def _small_integers(dtype):
    return case(integers(0, 100, 5, 4, dtype=dtype), axis=(0,), keepdims=False)


_INTEGERS = [_small_integers(d) for d in ("int8", "uint8", "int16", "uint16", "int32", "int64")]
_BOOLS = case(bools(3, 4), axis=(1,), keepdims=False)

CASES = {
    "sum": [
        *_over(normal),
        *_long(normal, _tol=4),
        *_shared(normal, _tol=4),
        case(normal(5, 33, 17), axis=(0, 2), keepdims=False, _tol=4),  # kept axes in between
        case(normal(2, 3, 33, 9), axis=(0, 2), keepdims=False, _tol=4),
        *_empty(),
        *_INTEGERS,
        _BOOLS,
    ],
    "mean": [
        *_over(normal),
        *_long(normal, _tol=4),
        *_shared(normal, _tol=4)[:1],
        case(normal(0, 3), axis=(0,), keepdims=False, _grad=False),
    ],
    "var": [
        *_over(normal),
        *_long(normal, _tol=4),
        *_shared(normal, _tol=4),
        case(normal(0, 3), axis=(0,), keepdims=False, _grad=False),
    ],
    "prod": [
        *_over(_small),
        *_empty(),
        case(array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.5], [4.0, 5.0, 0.5]]), axis=(1,), keepdims=False),
        case(_whole(3, 4), axis=(1,), keepdims=False),
    ],
    "logsumexp": [
        *_over(normal),
        case(array([[1000.0, 1000.0], [-1000.0, -999.0]]), axis=(1,), keepdims=False, _grad=False),
        case(array([[-np.inf, 0.0], [np.inf, 0.0]]), axis=(1,), keepdims=True, _grad=False),
        case(array([[-1e4, -np.inf], [np.nan, 0.0]]), axis=(1,), keepdims=True, _grad=False),
        *_shared(normal),
        case(normal(0, 3), axis=(1,), keepdims=False),
    ],
    **{
        name: [
            *_over(distinct),
            *_long(distinct),
            *_shared(distinct)[:2],
            case(array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), axis=(1,), keepdims=False, _grad=False),
            case(array([[1.0, np.nan, 3.0]]), axis=(1,), keepdims=False, _grad=False),
            case(normal(0, 3), axis=(1,), keepdims=False),
            _BOOLS,
            *_INTEGERS,
        ]
        for name in ("max", "min")
    },
    **{
        name: [
            *_over(bools),
            case(array([[0.0, 2.0], [1.0, 3.0]]), axis=(1,), keepdims=False),
            *_empty(),
        ]
        for name in ("any", "all")
    },
    "argmax": [
        *_positions(distinct),
        *_found(lambda *s: integers(0, 50, *s)),
        case(array([1.0, 3.0, 3.0]), axis=None, keepdims=False),
        case(array([[1.0, np.nan, np.nan], [np.nan, 9.0, 9.0]]), axis=1, keepdims=False),
    ],
    "argmin": [
        *_positions(distinct),
        *_found(lambda *s: integers(0, 50, *s)),
        case(array([1.0, 1.0, 3.0]), axis=None, keepdims=False),
        case(array([[1.0, np.nan, np.nan], [np.nan, 0.0, 0.0]]), axis=1, keepdims=False),
    ],
    "cumsum": [
        *_running(normal, _tol=4),
        case(normal(2, 1025), axis=1, _grad=False, _tol=4),
        case(normal(2, 9000), axis=1, _grad=False, _tol=8),  # in pieces, on a GPU
        case(normal(20001), axis=0, _grad=False, _tol=8),
    ],
    "cumprod": [
        *_running(_small, _tol=2),
        case(array([[2.0, 0.0, 3.0, 0.0, 5.0]]), axis=1),
    ],
}
