"""Rows for `gpunet/ops/sort.py`."""

import numpy as np

from tests.ops.case import array, case, distinct, integers, normal, uniform

_TIES = array([[2.0, 1.0, 2.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])

CASES = {
    "sort": [
        case(distinct(5, 4), axis=0),
        case(distinct(5, 4), axis=1),
        case(distinct(2, 5, 3), axis=1),
        case(_TIES, axis=1, _grad=False),
        case(array([np.nan, 1.0, np.inf, -np.inf]), axis=0, _grad=False),
        case(normal(0, 3), axis=1),
        case(integers(0, 9, 12), axis=0),
    ],
    "argsort": [
        case(distinct(5, 4), axis=0),
        case(distinct(5, 4), axis=1),
        case(_TIES, axis=1),
        case(normal(0, 3), axis=1),
        case(integers(0, 4, 12), axis=0),
    ],
    "argpartition": [  # the order within each part is that of NumPy, and may differ by dtype
        case(distinct(5, 4), kth=2, axis=1, _dtypes=()),
        case(distinct(9), kth=0, axis=0, _dtypes=()),
    ],
    "top_k": [
        case(distinct(5, 4), k=2),
        case(distinct(7), k=7),
        case(distinct(2, 3, 80), k=5),
        case(_TIES, k=3, _grad=False),
        case(integers(0, 4, 3, 100), k=6),
        case(integers(0, 4, 2, 1025), k=64),  # many equal, and several tiles of the kernel
        case(distinct(3, 70), k=65),  # more than the kernel takes
        case(array([np.nan, 1.0, np.inf, np.nan, -np.inf, 0.0, -0.0]), k=5, _grad=False),
        case(distinct(4), k=0),
        case(integers(0, 4, 100, dtype="uint8"), k=3),
    ],
    "searchsorted": [
        case(array([0.0, 1.0, 1.0, 4.0]), uniform(-1.0, 5.0, 3, 4), side="left"),
        case(array([0.0, 1.0, 1.0, 4.0]), array([0.0, 1.0, 4.0, 9.0]), side="right"),
        case(array([]), normal(3), side="left"),
        case(array([1, 5, 9], "int32"), integers(0, 12, 8), side="left"),
    ],
}
