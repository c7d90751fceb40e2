"""Rows for `gpunet/ops/control_trace.py` and `checkpoint.py`: graphs inside of equations."""

from gpunet import ops
from gpunet.core.trace import Symbol, trace
from tests.ops.case import array, case, integers, normal


def _traced(f, *symbols):
    """The attributes of the one choice or loop in a function."""
    (eq,) = [eq for eq in trace(f, *symbols).equations if eq.op.name in ("cond", "while_loop")]
    return eq.attributes


_X, _Y, _I = Symbol((2, 3), "float64"), Symbol((3,), "float64"), Symbol((), "int32")
_TWO = _traced(lambda i, x: ops.cond(i > 0, lambda: ops.sin(x) * 2, lambda: x), _I, _X)
_THREE = _traced(
    lambda i, x, y: ops.switch(i, [lambda: (x * y, y), lambda: (x + y, y * y), lambda: (x, y)]),
    _I,
    _X,
    _Y,
)
_LOOP = _traced(
    lambda x, y: ops.while_loop(lambda x: ops.sum(x * x) < 9, lambda x: x + ops.abs(y), x), _X, _Y
)
_LIMITED = _traced(
    lambda x, y: ops.while_loop(lambda x: ops.sum(x) < 1e9, lambda x: x * y, x, 3), _X, _Y
)


def _bool(value):
    return array(value, "bool")


CASES = {
    "cond": [
        case(_bool(True), normal(2, 3), **_TWO, _dtypes=()),
        case(_bool(False), normal(2, 3), **_TWO, _dtypes=()),
        *[
            case(array(i, "int32"), normal(2, 3), normal(3), **_THREE, _dtypes=())
            for i in (0, 1, 2, 7, -1)
        ],
    ],
    "while_loop": [
        case(_bool(True), normal(2, 3), normal(3), **_LOOP, _grad=False, _dtypes=()),
        case(_bool(False), normal(2, 3), normal(3), **_LOOP, _grad=False, _dtypes=()),
        case(_bool(True), normal(2, 3), normal(3), **_LIMITED, _grad=False, _dtypes=()),
    ],
    "barrier": [case(normal(2, 3)), case(normal()), case(normal(0, 2)), case(integers(0, 9, 4))],
}
