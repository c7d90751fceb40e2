"""Rows for `gpunet/ops/shape.py`."""

from tests.ops.case import bools, case, integers, normal

CASES = {
    "reshape": [
        case(normal(3, 4), shape=(2, 6)),
        case(normal(3, 4), shape=(12,)),
        case(normal(), shape=(1, 1)),
        case(normal(1, 1), shape=()),
        case(normal(0, 3), shape=(5, 0)),
        case(integers(0, 9, 6), shape=(3, 2)),
    ],
    "transpose": [
        case(normal(3, 4), axes=(1, 0)),
        case(normal(2, 3, 5), axes=(2, 0, 1)),
        case(normal(2, 3, 5, 2), axes=(0, 3, 1, 2)),
        case(normal(), axes=()),
        case(normal(0, 3), axes=(1, 0)),
        case(bools(2, 3), axes=(1, 0)),
    ],
    "broadcast_to": [
        case(normal(4), shape=(3, 4)),
        case(normal(3, 1), shape=(3, 4)),
        case(normal(1, 3, 1), shape=(2, 2, 3, 4)),
        case(normal(), shape=(2, 3)),
        case(normal(1), shape=(0,)),
        case(integers(0, 9, 2), shape=(3, 2)),
    ],
    "sum_to": [
        case(normal(3, 4), shape=(4,)),
        case(normal(3, 4), shape=(3, 1)),
        case(normal(2, 5, 3, 4), shape=(5, 1, 4)),
        case(normal(300, 4), shape=(4,), _tol=4),
        case(normal(7, 300), shape=(7, 1), _tol=4),
        case(normal(3, 4), shape=()),
        case(normal(3, 4), shape=(3, 4)),
        case(normal(1, 1), shape=(1,)),
        case(normal(0, 3), shape=(3,)),
    ],
    "concatenate": [
        case(normal(3, 4), normal(3, 2), axis=1),
        case(normal(3, 4), axis=0),
        case(normal(2, 3), normal(0, 3), normal(5, 3), axis=0),
        case(integers(0, 9, 2, 2), integers(0, 9, 2, 1), axis=1),
    ],
    "stack": [
        case(normal(3, 4), normal(3, 4), axis=0),
        case(normal(3, 4), normal(3, 4), normal(3, 4), axis=2),
        case(normal(), axis=0),
        case(normal(0, 2), normal(0, 2), axis=1),
        case(integers(0, 9, 2), integers(0, 9, 2), axis=1),
    ],
    "unstack": [
        case(normal(3, 4), axis=0),
        case(normal(3, 1), axis=1),
        case(normal(2, 3, 2), axis=1),
        case(normal(3), axis=0),
        case(integers(0, 9, 2, 2), axis=1),
    ],
    "split": [
        case(normal(5, 4), axis=0, sizes=(2, 3)),
        case(normal(5, 4), axis=1, sizes=(4,)),
        case(normal(2, 5, 3), axis=1, sizes=(1, 0, 4)),
        case(integers(0, 9, 4), axis=0, sizes=(1, 1, 1, 1)),
    ],
}
