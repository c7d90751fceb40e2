"""Rows for `gpunet/ops/cross_entropy.py`."""

from tests.ops.case import case, integers, normal, uniform

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
    ],
    "softmax_cross_entropy_grad": [
        case(
            normal(*shape[:-1]),
            normal(*shape[:-1]),
            normal(*shape),
            integers(0, shape[-1], *shape[:-1]),
            uniform(1, 3, *shape[:-1]),
            _tol=4,
            _dtypes=("float32",),  # statistics of halves are float32
        )
        for shape in ((5, 7), (2, 3, 4), (0, 3))
    ],
    "dense_cross_entropy": [
        case(normal(5, 7), uniform(0, 1, 5, 7)),
        case(normal(2, 3, 4), uniform(0, 1, 2, 3, 4)),
        case(normal(4), uniform(0, 1, 4)),
        case(normal(0, 3), uniform(0, 1, 0, 3)),
    ],
    "dense_cross_entropy_grad": [
        case(
            normal(*shape[:-1]),
            normal(*shape[:-1]),
            normal(*shape),
            uniform(0, 1, *shape),
            uniform(1, 3, *shape[:-1]),
            _tol=4,
        )
        for shape in ((5, 7), (2, 3, 4), (0, 3))
    ],
    "sigmoid_cross_entropy": [
        case(normal(5, 7), uniform(0, 1, 5, 7)),
        case(normal(), uniform(0, 1)),
        case(normal(0, 3), uniform(0, 1, 0, 3)),
    ],
}
