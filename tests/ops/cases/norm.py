"""Rows for `gpunet/ops/norm.py` and `gpunet/ops/batch_norm.py`."""

from tests.ops.case import case, normal, uniform

_EPS = {"epsilon": 1e-3}


def _scale(n):
    return uniform(0.5, 1.5, n)


_SMALL = ((5, 7), (2, 3, 5), (4,), (0, 3))
_GRAD_SMALL = ((5, 7), (2, 3, 5), (0, 3), (40, 16))
# A warp of vectors, odd rows, a block of 256, a block of 1024.
_LARGE = ((9, 1024), (2, 1025), (3, 1032), (1, 8200))


def _row_norm(*names):
    """Rows of a forward primitive, whose other inputs are named."""
    vectors = {"scale": _scale, "offset": normal}

    def one(shape, **settings):
        others = [vectors[n](shape[-1]) if n in vectors else normal(*shape) for n in names]
        return case(normal(*shape), *others, **_EPS, **settings)

    return [one(shape) for shape in _SMALL] + [one(shape, _grad=False) for shape in _LARGE]


def _row_norm_grad(*names):
    """Rows of its gradient; `rows` names inputs with a number for each row."""

    def one(shape, **settings):
        kinds = {
            "x": normal(*shape),
            "rows": normal(*shape[:-1]),
            "scale": _scale(shape[-1]),
            "rstd": uniform(0.5, 1.5, *shape[:-1]),
        }
        return case(*[kinds[n] for n in names], **settings)

    small = [one(shape, _tol=2) for shape in _GRAD_SMALL]
    # The last one: so many rows that a warp adds up several.
    return small + [one(shape, _grad=False, _tol=4) for shape in (*_LARGE, (1700, 4))]


CASES = {
    "layer_norm": [
        *_row_norm("scale", "offset"),
        case(normal(40, 33), _scale(33), normal(33), epsilon=1e-6),
        case(normal(1, 32776), _scale(32776), normal(32776), **_EPS, _grad=False),
    ],
    "layer_norm_grad": _row_norm_grad("x", "rows", "rows", "x", "scale", "rows", "rstd"),
    "residual_layer_norm": _row_norm("residual", "scale", "offset"),
    "residual_layer_norm_grad": _row_norm_grad(
        "x", "x", "rows", "rows", "x", "scale", "rows", "rstd"
    ),
    "rms_norm": _row_norm("scale"),
    "rms_norm_grad": _row_norm_grad("x", "rows", "x", "scale", "rstd"),
    "residual_rms_norm": _row_norm("residual", "scale"),
    "residual_rms_norm_grad": _row_norm_grad("x", "x", "rows", "x", "scale", "rstd"),
}
