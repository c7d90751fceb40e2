"""Rows for `gpunet/ops/softmax.py`."""

from tests.ops.case import array, case, normal

_INF = float("inf")
_ROWS = [
    case(normal(5, 7), axis=1),
    case(normal(2, 3, 5), axis=2),
    case(normal(2, 3, 5), axis=0),
    case(normal(2, 3, 5), axis=1),
    case(normal(3, 40), axis=1),
    case(normal(2, 300), axis=1),
    case(normal(0, 3), axis=1),
    case(normal(3, 0), axis=1),
]

CASES = {
    "softmax": [*_ROWS, case(array([[-_INF, 0, 1], [-_INF] * 3]), axis=1, _grad=False)],
    "log_softmax": [*_ROWS, case(array([[-_INF, 0, 1], [-_INF] * 3]), axis=1, _grad=False)],
    "softmax_grad": [
        case(normal(5, 7), normal(5, 7), axis=1),
        case(normal(2, 3, 5), normal(2, 3, 5), axis=1),
        case(normal(0, 3), normal(0, 3), axis=1),
    ],
    "log_softmax_grad": [
        case(normal(5, 7), normal(5, 7), axis=1),
        case(normal(2, 3, 5), normal(2, 3, 5), axis=1),
        case(normal(0, 3), normal(0, 3), axis=1),
    ],
}
