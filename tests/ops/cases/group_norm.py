"""Rows for `gpunet/ops/group_norm.py`."""

from tests.ops.case import case, normal, uniform

# Shapes and groups: odd; one channel a group; one group; no positions; vectors; many channels;
# several parts of the rows.
_SMALL = (((2, 3, 6), 3), ((2, 2, 2, 4), 4), ((3, 5, 4), 1), ((3, 8), 2), ((0, 3, 4), 2))
_LARGE = (((2, 70, 16), 4), ((1, 3, 264), 33), ((2, 150, 33), 11))


def _forward(shape, groups, **settings):
    n = shape[-1]
    vectors = uniform(0.5, 1.5, n), normal(n)
    return case(normal(*shape), *vectors, groups=groups, epsilon=1e-3, **settings)


def _grad(shape, groups, **settings):
    s = (shape[0], groups)
    return case(
        *(normal(*shape), normal(*s), normal(*s), normal(*shape), uniform(0.5, 1.5, shape[-1])),
        *(normal(*s), uniform(0.5, 1.5, *s)),
        groups=groups,
        **settings,
    )


CASES = {
    "group_norm": [
        *(_forward(*row) for row in _SMALL),
        *(_forward(*row, _grad=False) for row in _LARGE),
    ],
    "group_norm_grad": [
        *(_grad(*row) for row in _SMALL),
        *(_grad(*row, _grad=False, _tol=4) for row in _LARGE),
    ],
}
