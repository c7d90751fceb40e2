"""Rows for `gpunet/ops/random.py`."""

from tests.ops.case import array, case, normal, uniform

_SEED = array([7, 3], "uint32")
_SHAPES = ((5, 7), (), (0, 3), (33,), (5001,))

CASES = {
    "random_uniform": [
        case(_SEED, shape=shape, dtype=dtype)
        for shape in _SHAPES
        for dtype in ("float32", "float64", "float16", "bfloat16")
    ],
    "random_normal": [
        case(_SEED, shape=shape, dtype=dtype)
        for shape in (*_SHAPES, (32,), (31,), (4, 9))
        for dtype in ("float64", "float32", "float16", "bfloat16")
    ],
    "random_truncated_normal": [
        case(_SEED, shape=shape, dtype=dtype)
        for shape in _SHAPES
        for dtype in ("float64", "float32", "float16", "bfloat16")
    ],
    "random_integers": [
        case(_SEED, shape=shape, dtype=dtype, low=low, high=200)
        for shape in _SHAPES
        for dtype, low in (("int32", -3), ("int64", -3), ("uint8", 3))
    ],
    "random_permutation": [case(_SEED, length=n) for n in (0, 1, 33, 1100)],
    "dropout": [
        case(normal(5, 7), _SEED, rate=0.5, shape=(5, 7)),
        case(normal(5, 7), _SEED, rate=0.25, shape=(5, 1)),
        case(normal(), _SEED, rate=0.5, shape=()),
        case(normal(0, 3), _SEED, rate=0.5, shape=(0, 3)),
        case(normal(1025), _SEED, rate=0.25, shape=(1025,)),
        case(normal(67, 129), _SEED, rate=0.25, shape=(67, 129), _grad=False),
    ],
    "random_variate": [
        case(_SEED, uniform(1, 3, 5), name="standard_gamma", shape=(4, 5), dtype="float32"),
        case(_SEED, uniform(1, 3), uniform(1, 3), name="beta", shape=(3,), dtype="float64"),
    ],
}
