"""Rows for `gpunet/ops/recurrent_lstm.py` and `gpunet/ops/recurrent_gru.py`."""

from tests.ops.case import array, bools, case, normal, uniform

T, B, U = 4, 3, 2
_UNEVEN = array([[1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 1, 1]], "bool")


def _lstm(steps, *mask):
    return normal(steps, B, 4 * U), normal(B, U), normal(B, U), normal(U, 4 * U), *mask


def _lstm_grad(steps, *mask):
    states = normal(steps, B, U), normal(steps, B, U)
    gates = uniform(0.1, 0.9, steps, B, 4 * U)
    start = normal(B, U), normal(B, U), normal(U, 4 * U)
    return *states, normal(steps, B, 4 * U), *start, *states, gates, *mask


def _gru(steps, *mask):
    return normal(steps, B, 3 * U), normal(B, U), normal(U, 3 * U), normal(3 * U), *mask


def _gru_grad(steps, *mask):
    start = normal(B, U), normal(U, 3 * U), normal(3 * U)
    state, gates = normal(steps, B, U), uniform(0.1, 0.9, steps, B, 3 * U)
    return state, normal(steps, B, 3 * U), *start, state, gates, *mask


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
    ],
    "lstm_sequence_grad": [
        case(*_lstm_grad(T), _tol=4),
        case(*_lstm_grad(T, _UNEVEN), _tol=4),
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
    ],
    "gru_sequence_grad": [
        case(*_gru_grad(T, *mask), reset_after=after, _tol=4)
        for after in (True, False)
        for mask in ((), (_UNEVEN,))
    ],
}
