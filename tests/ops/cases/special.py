"""Rows for `gpunet/ops/special.py`."""

from tests.ops.case import case, normal, uniform

CASES = {
    "erf": [case(normal(5, 7)), case(uniform(-5, 5, 40)), case(normal()), case(normal(0, 3))],
    "erfc": [case(normal(5, 7)), case(uniform(-5, 5, 40)), case(normal()), case(normal(0, 3))],
    "erfinv": [case(uniform(-0.9, 0.9, 5, 7)), case(uniform(-0.5, 0.5)), case(normal(0, 3))],
    "logit": [case(uniform(0.1, 0.9, 5, 7), _tol=3), case(uniform(0.2, 0.4)), case(normal(0, 3))],
}
