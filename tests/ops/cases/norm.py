"""Rows for `gpunet/ops/norm.py` and `gpunet/ops/batch_norm.py`."""

from tests.ops.case import case, normal, uniform

_EPS = {"epsilon": 1e-3}


def _scale(n):
    return uniform(0.5, 1.5, n)


CASES = {
    "layer_norm": [
        case(normal(5, 7), _scale(7), normal(7), **_EPS),
        case(normal(2, 3, 5), _scale(5), normal(5), **_EPS),
        case(normal(4), _scale(4), normal(4), **_EPS),
        case(normal(0, 3), _scale(3), normal(3), **_EPS),
        case(normal(40, 33), _scale(33), normal(33), epsilon=1e-6),
    ],
    "layer_norm_grad": [
        case(
            normal(*shape),
            normal(*shape[:-1]),
            normal(*shape[:-1]),
            normal(*shape),
            _scale(shape[-1]),
            normal(*shape[:-1]),
            uniform(0.5, 1.5, *shape[:-1]),
            _dtypes=("float32",),  # statistics of halves are float32
        )
        for shape in ((5, 7), (2, 3, 5), (0, 3))
    ],
    "rms_norm": [
        case(normal(5, 7), _scale(7), **_EPS),
        case(normal(2, 3, 5), _scale(5), **_EPS),
        case(normal(4), _scale(4), **_EPS),
        case(normal(0, 3), _scale(3), **_EPS),
    ],
    "rms_norm_grad": [
        case(
            normal(*shape),
            normal(*shape[:-1]),
            normal(*shape),
            _scale(shape[-1]),
            uniform(0.5, 1.5, *shape[:-1]),
        )
        for shape in ((5, 7), (2, 3, 5), (0, 3))
    ],
    "batch_norm_train": [
        case(normal(5, 7), _scale(7), normal(7), **_EPS),
        case(normal(2, 3, 4, 5), _scale(5), normal(5), **_EPS),
        case(normal(16, 3), _scale(3), normal(3), **_EPS),
        case(normal(0, 3), _scale(3), normal(3), **_EPS),
    ],
    "batch_norm_grad": [
        case(
            normal(*shape),
            normal(shape[-1]),
            normal(shape[-1]),
            normal(*shape),
            _scale(shape[-1]),
            normal(shape[-1]),
            uniform(0.5, 1.5, shape[-1]),
            **_EPS,
        )
        for shape in ((5, 7), (16, 3), (2, 3, 4, 5), (0, 3))
    ],
    "batch_norm_inference": [
        case(normal(*shape), normal(n), _scale(n), _scale(n), normal(n), **_EPS)
        for shape, n in (((5, 7), 7), ((2, 3, 4, 5), 5), ((4,), 4), ((0, 3), 3))
    ],
}
