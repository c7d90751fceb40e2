"""Rows for `gpunet/ops/batch_norm.py`."""

from tests.ops.case import case, normal, uniform

_EPS = {"epsilon": 1e-3}
_SMALL = ((5, 7), (16, 3), (2, 3, 4, 5), (0, 3))
# Vectors; several parts of the rows and two slabs, odd; several groups of rows; many channels.
_LARGE = ((70, 8), (2, 150, 33), (300, 24), (40, 264))


def _scale(n):
    return uniform(0.5, 1.5, n)


def _train(*names):
    """Rows of a forward primitive, whose other inputs are named."""

    def one(shape, **settings):
        n = shape[-1]
        kinds = {"residual": normal(*shape), "scale": _scale(n), "offset": normal(n)}
        return case(normal(*shape), *[kinds[name] for name in names], **_EPS, **settings)

    small = [one(shape) for shape in _SMALL]
    return small + [one(shape, _grad=False) for shape in _LARGE]


def _train_grad(*names):
    """Rows of its gradient."""

    def one(shape, **settings):
        n = shape[-1]
        kinds = {
            "x": normal(*shape),
            "c": normal(n),
            "scale": _scale(n),
            "variance": uniform(0.5, 1.5, n),
        }
        return case(*[kinds[name] for name in names], **_EPS, **settings)

    small = [one(shape) for shape in _SMALL]
    return small + [one(shape, _grad=False, _tol=4) for shape in _LARGE]


CASES = {
    "batch_norm_train": _train("scale", "offset"),
    "batch_norm_grad": _train_grad("x", "c", "c", "x", "scale", "c", "variance"),
    "batch_norm_relu": _train("scale", "offset"),
    "batch_norm_relu_grad": _train_grad("x", "c", "c", "x", "scale", "c", "c", "variance"),
    "batch_norm_add_relu": _train("residual", "scale", "offset"),
    "batch_norm_add_relu_grad": _train_grad("x", "c", "c", "x", "x", "scale", "c", "variance"),
    "batch_norm_inference": [
        case(normal(*shape), normal(n), _scale(n), _scale(n), normal(n), **_EPS)
        for shape, n in (((5, 7), 7), ((2, 3, 4, 5), 5), ((4,), 4), ((0, 3), 3), ((70, 8), 8))
    ],
}
