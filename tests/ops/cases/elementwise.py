"""Rows for `gpunet/ops/elementwise.py`."""

from tests.ops.case import case, normal

CASES = {
    "exp": [case(normal(3, 4)), case(normal()), case(normal(0, 3))],
    "add": [case(normal(3, 4), normal(4)), case(normal(2, 1, 3), normal(5, 1))],
}
