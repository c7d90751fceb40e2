"""Rows for `gpunet/ops/bias_activation.py`."""

from tests.ops.case import case, normal

_FROM_OUTPUT = ("linear", "relu", "tanh", "sigmoid")
_FROM_INPUT = ("silu", "gelu", "gelu_tanh")
# A whole vector a thread, several slabs and parts of the rows; odd columns; nothing.
_WIDE, _PARTS, _ODD, _EMPTY = (3, 8), (300, 40), (2, 3, 33), (0, 4)


def _rows(shapes, names, one):
    """Every activation on the first shape, the first one on the others."""
    rows = [case(*one(shapes[0]), activation=name) for name in names]
    return rows + [
        case(*one(shape), activation=names[1], _grad=shape != _PARTS) for shape in shapes[1:]
    ]


def _forward(shape):
    return normal(*shape), normal(shape[-1])


def _pair(shape):
    return normal(*shape), normal(*shape)


def _triple(shape):
    return normal(*shape), normal(*shape), normal(shape[-1])


CASES = {
    "bias_activation": [
        *_rows((_WIDE, _PARTS, _ODD, _EMPTY, (4,), (3, 1)), _FROM_OUTPUT, _forward),
    ],
    "bias_activation_grad": [
        *_rows((_WIDE, _PARTS, _ODD, _EMPTY, (4,), (70, 8)), _FROM_OUTPUT, _pair),
    ],
    "bias_smooth_activation": [
        *_rows((_WIDE, _PARTS, _ODD, _EMPTY), _FROM_INPUT, _forward),
    ],
    "bias_smooth_activation_grad": [
        *_rows((_WIDE, _PARTS, _ODD, _EMPTY), _FROM_INPUT, _triple),
    ],
}
