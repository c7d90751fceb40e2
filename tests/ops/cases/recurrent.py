"""Rows for `gpunet/ops/recurrent_lstm.py` and `gpunet/ops/recurrent_gru.py`."""

from tests.ops.case import array, bools, case, normal, uniform

T, B, U = 4, 3, 2
WIDE = 8  # units that fill 16-byte accesses
# More than a register, a tile and a panel of the C++ kernels hold, and no multiple of them.
MANY, ROWS = 70, 11
_UNEVEN = array([[1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 1, 1]], "bool")


def _lstm(steps, *mask, u=U, b=B):
    return normal(steps, b, 4 * u), normal(b, u), normal(b, u), normal(u, 4 * u), *mask


def _lstm_grad(steps, *mask, u=U, b=B):
    states = normal(steps, b, u), normal(steps, b, u)
    gates = uniform(0.1, 0.9, steps, b, 4 * u)
    start = normal(b, u), normal(b, u), normal(u, 4 * u)
    return *states, normal(steps, b, 4 * u), *start, *states, gates, *mask


def _gru(steps, *mask, u=U, b=B):
    return normal(steps, b, 3 * u), normal(b, u), normal(u, 3 * u), normal(3 * u), *mask


def _gru_grad(steps, *mask, u=U, b=B):
    start = normal(b, u), normal(u, 3 * u), normal(3 * u)
    state, gates = normal(steps, b, u), uniform(0.1, 0.9, steps, b, 3 * u)
    return state, normal(steps, b, 3 * u), *start, state, gates, *mask


_MANY = {"u": MANY, "b": ROWS}
_LONG = {"_grad": False, "_dtypes": ("float32",), "_tol": 4}


CASES = {
    "lstm_gates": [case(normal(B, 4 * U), normal(B, U)), case(normal(0, 4 * U), normal(0, U))],
    "lstm_gates_grad": [
        case(
            normal(B, U),
            normal(B, U),
            normal(B, 4 * U),
            normal(B, U),
            normal(B, U),
            uniform(0.1, 0.9, B, 4 * U),
        )
    ],
    "lstm_sequence": [
        case(*_lstm(T)),
        case(*_lstm(T, _UNEVEN)),
        case(*_lstm(1, bools(1, B))),
        case(*_lstm(2, bools(2, B), u=WIDE), _grad=False),
        case(*_lstm(3, **_MANY), **_LONG),
        case(*_lstm(3, bools(3, ROWS), **_MANY), **_LONG),
    ],
    "lstm_sequence_grad": [
        case(*_lstm_grad(T), _tol=4),
        case(*_lstm_grad(T, _UNEVEN), _tol=4),
        case(*_lstm_grad(2, bools(2, B), u=WIDE), _grad=False, _tol=4),
        case(*_lstm_grad(3, **_MANY), **_LONG),
        case(*_lstm_grad(3, bools(3, ROWS), **_MANY), **_LONG),
    ],
    "gru_gates": [
        case(normal(B, 3 * U), normal(B, 3 * U), normal(B, U)),
        case(normal(0, 3 * U), normal(0, 3 * U), normal(0, U)),
    ],
    "gru_gates_grad": [
        case(
            normal(B, U),
            normal(B, 3 * U),
            normal(B, 3 * U),
            normal(B, U),
            uniform(0.1, 0.9, B, 3 * U),
        )
    ],
    "gru_sequence": [
        case(*_gru(steps, *mask), reset_after=after)
        for after in (True, False)
        for steps, mask in ((T, ()), (T, (_UNEVEN,)), (1, (bools(1, B),)))
    ]
    + [
        case(*_gru(2, bools(2, B), u=WIDE), reset_after=after, _grad=False)
        for after in (True, False)
    ]
    + [
        case(*_gru(3, *mask, **_MANY), reset_after=after, **_LONG)
        for after in (True, False)
        for mask in ((), (bools(3, ROWS),))
    ],
    "gru_sequence_grad": [
        case(*_gru_grad(T, *mask), reset_after=after, _tol=4)
        for after in (True, False)
        for mask in ((), (_UNEVEN,))
    ]
    + [
        case(*_gru_grad(2, bools(2, B), u=WIDE), reset_after=after, _grad=False, _tol=4)
        for after in (True, False)
    ]
    + [
        case(*_gru_grad(3, *mask, **_MANY), reset_after=after, **_LONG)
        for after in (True, False)
        for mask in ((), (bools(3, ROWS),))
    ],
}
