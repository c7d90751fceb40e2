"""Rows for `gpunet/ops/confusion.py`."""

from tests.ops.case import array, case, uniform

_EVEN = (0.0, 0.25, 0.5, 0.75, 1.0)
_SCORES = [0.0, 0.1, 0.3, 0.6, 0.8, 0.9, 1.1, -0.2]

CASES = {
    "threshold_counts": [
        case(array(_SCORES), uniform(0, 1, 8), uniform(0, 1, 8), thresholds=_EVEN),
        case(array(_SCORES), uniform(0, 1, 8), uniform(0, 1, 8), thresholds=(0.7, 0.2)),
        case(
            array([_SCORES[:4], _SCORES[4:], _SCORES[2:6]]),
            uniform(0, 1, 3, 4),
            uniform(0, 1, 3, 4),
            thresholds=(0.5,),
        ),
        case(uniform(0, 1, 0), uniform(0, 1, 0), uniform(0, 1, 0), thresholds=(0.5, 0.7)),
    ]
}
