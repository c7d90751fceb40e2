"""Rows for `gpunet/ops/elementwise.py`."""

import numpy as np

from tests.ops.case import array, bools, case, distinct, integers, normal, uniform


def _unary(low, high, **settings):
    """A matrix of odd sizes, one long row, a number, and nothing at all."""
    shapes = ((3, 7), (1031,), (), (0, 3))
    return [case(uniform(low, high, *shape), **settings) for shape in shapes]


def _binary(first, second, **settings):
    """Equal shapes, all ways to broadcast, numbers, and nothing at all."""
    pairs = [
        ((3, 7), (3, 7)),
        ((2, 1, 5), (4, 1)),
        ((), (5,)),
        ((3, 1), ()),
        ((), ()),
        ((0, 3), (3,)),
    ]
    return [case(first(*a), second(*b), **settings) for a, b in pairs]


# Shapes for all forms of the kernels, which functors share: rows of whole 16-byte groups and
# others, several blocks, row and column vectors, three and four changes between shared and
# repeated axes, and more than kernels take.
_FORMS = [
    ((33, 16), (16,)),
    ((16, 33), (16, 1)),
    ((5, 31), (5, 1)),
    ((1023,), (1023,)),
    ((3, 1, 1030), (2, 1)),
    ((2, 3, 8), (2, 1, 8)),
    ((2, 3, 5), (2, 1, 5)),
    ((2, 1, 3, 16), (2, 3, 1)),
    ((3, 2, 2, 8), (3, 1, 2, 1)),
    ((2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2)),
]


def _positive(*shape):
    return uniform(0.3, 3.0, *shape)


def _whole(*shape):
    return integers(-7, 8, *shape)


def _counts(*shape):
    return integers(1, 9, *shape)


def _apart(*shape):
    """Numbers that are no integers and far from them: away from the kinks of mod and floor."""
    return uniform(0.55, 0.95, *shape)


def _signed(*shape):
    return uniform(-3.0, 3.0, *shape)


_COLUMN = np.linspace(0.03, 3.03, 33)[:, None]
_SPECIAL = array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.0])

_ANYWHERE = [
    "negative",
    "square",
    "exp",
    "expm1",
    "sin",
    "cos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "deg2rad",
    "rad2deg",
    "exp2",
]
_INSIDE = {
    "log": (0.2, 4.0),
    "log2": (0.2, 4.0),
    "log10": (0.2, 4.0),
    "log1p": (-0.7, 4.0),
    "sqrt": (0.2, 4.0),
    "rsqrt": (0.2, 4.0),
    "reciprocal": (0.4, 4.0),
    "cbrt": (0.4, 4.0),
    "tan": (-1.2, 1.2),
    "arcsin": (-0.8, 0.8),
    "arccos": (-0.8, 0.8),
    "arctanh": (-0.8, 0.8),
    "arccosh": (1.3, 4.0),
    "absolute": (0.2, 3.0),
    "sign": (0.2, 3.0),
    "floor": (1.1, 1.9),
    "ceil": (-1.9, -1.1),
    "trunc": (-1.9, -1.1),
}
_COMPARISONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
_TESTS = ["isnan", "isinf", "isfinite", "signbit"]

CASES = {
    **{name: _unary(-2.0, 2.0) for name in _ANYWHERE},
    **{name: _unary(*limits) for name, limits in _INSIDE.items()},
    **{name: [*_unary(-2.0, 2.0), case(_SPECIAL)] for name in _TESTS},
    **{
        name: [
            *_binary(normal, normal),
            case(_SPECIAL, array([0.0] * 7)),
            case(_whole(4, 3), _whole(3)),
            case(bools(6), bools(6)),
        ]
        for name in _COMPARISONS
    },
    **{
        name: [*_binary(bools, bools), case(normal(3, 2), array([0.0, 1.0]))]
        for name in ("logical_and", "logical_or", "logical_xor")
    },
    "logical_not": [case(bools(3, 4)), case(array([0.0, 2.0])), case(bools()), case(bools(0))],
    "add": [
        *_binary(normal, normal),
        *[case(normal(*a), normal(*b)) for a, b in _FORMS],
        case(_whole(5), _whole(2, 1)),
    ],
    "subtract": [*_binary(normal, normal), case(_whole(5), _whole(2, 1))],
    "multiply": [*_binary(normal, normal), case(_whole(5), _whole(2, 1))],
    "true_divide": _binary(normal, _positive),
    "floor_divide": [
        *_binary(lambda *s: uniform(2.1, 2.9, *s), lambda *s: array(np.ones(s)), _grad=False),
        case(_whole(4, 3), _counts(3)),
    ],
    "mod": [
        *_binary(lambda *s: uniform(2.1, 2.4, *s), _apart),
        case(_whole(4, 3), _counts(3)),
        case(array([-7.3, 7.3, -7.3, 7.3]), array([2.0, 2.0, -2.0, -2.0])),
    ],
    "fmod": [
        *_binary(lambda *s: uniform(2.1, 2.4, *s), lambda *s: uniform(1.5, 1.9, *s)),
        case(array([-7.3, 7.3, -7.3, 7.3]), array([2.0, 2.0, -2.0, -2.0])),
    ],
    "power": [
        *_binary(_positive, _signed, _tol=3),
        case(_counts(5), integers(0, 4, 5)),
        case(array([-2.0, 0.0, 3.0]), array([2.0, 2.0, 2.0]), _grad=False),
    ],
    "maximum": [
        *_binary(distinct, normal),
        case(_whole(4), _whole(3, 1)),
        case(_SPECIAL, _SPECIAL, _grad=False),
    ],
    "minimum": [
        *_binary(distinct, normal),
        case(_whole(4), _whole(3, 1)),
        case(_SPECIAL, _SPECIAL, _grad=False),
    ],
    "fmax": [*_binary(distinct, normal), case(_SPECIAL, array([1.0] * 7), _grad=False)],
    "fmin": [*_binary(distinct, normal), case(_SPECIAL, array([1.0] * 7), _grad=False)],
    "arctan2": _binary(normal, _positive),
    "logaddexp": _binary(_signed, _signed),
    "hypot": _binary(_positive, _positive),
    "ldexp": _binary(normal, lambda *s: array(np.full(s, 3.0)), _grad=False),
    "nextafter": [
        case(array([1.0, -1.0, 0.5]), array([2.0, -2.0, 0.5]), _dtypes=()),
        case(normal(3, 1), normal(4), _dtypes=()),
        # The step from 1 is the precision of each dtype; that from 0 is next to nothing.
        case(array([0.0, 1.0, -1.0]), array([1.0, 2.0, 0.0]), _tol=0.1),
    ],
    "heaviside": [case(array([-1.0, 0.0, 2.0]), array([0.5, 0.25, 7.0])), *_binary(normal, normal)],
    "gcd": _binary(_whole, _whole),
    "lcm": _binary(_whole, _counts),
    **{
        name: [*_binary(_whole, _whole), case(bools(6), bools(6))]
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
    },
    "bitwise_left_shift": _binary(_whole, lambda *s: integers(0, 5, *s)),
    "bitwise_right_shift": _binary(_whole, lambda *s: integers(0, 5, *s)),
    "bitwise_not": [case(_whole(5)), case(bools(4)), case(_whole())],
    "round": [
        case(uniform(-1.45, -1.05, 3, 7), decimals=0),
        case(normal(5), decimals=1, _grad=False, _tol=100),
        case(uniform(12.0, 14.0, 4), decimals=-1),
        case(normal(0), decimals=0),
        case(_whole(4), decimals=0),
    ],
    "where": [
        case(bools(3, 4), normal(3, 4), normal(3, 4)),
        case(bools(3, 1), normal(4), normal()),
        case(bools(4), normal(3, 1), normal(3, 4)),
        case(bools(), normal(), normal(2)),
        *[case(bools(*a), normal(*b), normal(*a)) for a, b in _FORMS[:7]],
        case(bools(0), normal(0), normal(0)),
        case(bools(3), _whole(3), _whole(3)),
    ],
    "clip": [
        case(distinct(3, 7), array(-0.52), array(0.61)),
        case(distinct(3, 7), distinct(7), array(np.full((3, 1), 1.03)), _grad=False),
        case(_whole(3, 7), _whole(), integers(9, 12, 7)),
        case(distinct(33, 16), array(np.full(16, -0.52)), array(_COLUMN), _grad=False),
        case(normal(0), normal(), normal()),
    ],
    "cast": [
        case(normal(3, 4), dtype=np.dtype("float64")),
        case(uniform(-9.0, 9.0, 3, 4), dtype=np.dtype("int32"), _grad=False),
        case(_whole(5), dtype=np.dtype("float32"), _grad=False),
        case(bools(5), dtype=np.dtype("int8"), _grad=False),
    ],
    "identity": [case(normal(3, 4)), case(normal()), case(_whole(0, 2), _grad=False)],
}
