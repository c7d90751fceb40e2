"""Rows for `gpunet/ops/softmax.py`."""

from tests.ops.case import array, case, normal

_INF = float("inf")
_ROWS = [
    case(normal(5, 7), axis=1),
    case(normal(2, 3, 5), axis=2),
    case(normal(2, 3, 5), axis=0),
    case(normal(2, 3, 5), axis=1),
    case(normal(3, 40), axis=1),
    case(normal(2, 1024), axis=1, _grad=False),  # a warp, every register
    case(normal(2, 257), axis=1, _grad=False),  # odd rows, read twice
    case(normal(2, 1032), axis=1, _grad=False),  # a block of 256
    case(normal(1, 8200), axis=1, _grad=False),  # a block of 1024
    case(normal(0, 3), axis=1),
    case(normal(3, 0), axis=1),
]
_WIDE = case(normal(1, 32776), axis=1, _grad=False, _dtypes=("float32", "bfloat16"))
_INFINITE = case(array([[-_INF, 0, 1], [-_INF] * 3]), axis=1, _grad=False)
_GRAD_ROWS = [
    case(normal(5, 7), normal(5, 7), axis=1),
    case(normal(2, 3, 5), normal(2, 3, 5), axis=1),
    case(normal(0, 3), normal(0, 3), axis=1),
    case(normal(9, 40), normal(9, 40), axis=1, _grad=False),
    case(normal(2, 1025), normal(2, 1025), axis=1, _grad=False, _tol=4),
    case(normal(2, 1032), normal(2, 1032), axis=1, _grad=False, _tol=4),
    case(normal(1, 8200), normal(1, 8200), axis=1, _grad=False, _tol=4),
    case(normal(1, 16392), normal(1, 16392), axis=1, _grad=False, _tol=8, _dtypes=("float32",)),
]

CASES = {
    "softmax": [*_ROWS, _WIDE, _INFINITE],
    "log_softmax": [*_ROWS, _INFINITE],
    "softmax_grad": _GRAD_ROWS,
    "log_softmax_grad": _GRAD_ROWS,
}
