"""Plans the C++ kernels of LSTM and GRU, `cpu_kernels/lstm.cpp` and `gru.cpp`, in float32."""

import math

import numpy as np

from gpunet.backend.native import Launch, Operand

_PAD = 64  # columns of a panel at most (`cpu_kernels/panels.h`), and of a group of units


def _fits(inputs: list[Operand]) -> bool:
    """Whether there is something to do, in float32; masks are bools."""
    wide = all(x.dtype in (np.float32, np.bool_) for x in inputs)
    return wide and all(x.size for x in inputs)


def _bytes(*floats: int) -> int:
    return 4 * sum(floats)


def _padded(n: int) -> int:
    return -(-n // _PAD) * _PAD


def _rows(x: Operand) -> tuple[int, int]:
    return math.prod(x.shape[:-1]), x.shape[-1]


def lstm_gates_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `lstm_gates`."""
    return Launch("lstm.lstm_gates", _rows(inputs[1])) if _fits(inputs) else None


def lstm_gates_grad_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `lstm_gates_grad`."""
    if not _fits(inputs):
        return None
    return Launch("lstm.lstm_gates_grad", _rows(inputs[3]), scratch=_bytes(inputs[3].size))


def lstm_sequence_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `lstm_sequence`."""
    if not _fits(inputs):
        return None
    steps, batch, units = outputs[0].shape
    return Launch(
        "lstm.lstm_sequence",
        (steps, batch, units, len(inputs) > 4),
        scratch=_bytes(units * 4 * _padded(units)),
        in_place=((2, 0),),
    )


def lstm_sequence_grad_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `lstm_sequence_grad`."""
    if not _fits(inputs):
        return None
    steps, batch, units = inputs[6].shape
    packed, states = 4 * units * _padded(units), batch * _padded(units)
    return Launch(
        "lstm.lstm_sequence_grad",
        (steps, batch, units, len(inputs) > 9),
        scratch=_bytes(packed, states),
        in_place=((0, 8), (0, 2)),
    )


def gru_gates_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `gru_gates`."""
    return Launch("gru.gru_gates", _rows(inputs[2])) if _fits(inputs) else None


def gru_gates_grad_native(inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """The `native` rule of `gru_gates_grad`."""
    return Launch("gru.gru_gates_grad", _rows(inputs[3])) if _fits(inputs) else None


def gru_sequence_native(inputs: list[Operand], outputs: list[Operand], reset_after: bool):
    """The `native` rule of `gru_sequence`."""
    if not _fits(inputs):
        return None
    steps, batch, units = outputs[0].shape
    return Launch(
        "gru.gru_sequence",
        (steps, batch, units, len(inputs) > 4, reset_after),
        scratch=_bytes(3 * units * _padded(units), batch * units),
        in_place=((1, 0),),
    )


def gru_sequence_grad_native(inputs: list[Operand], outputs: list[Operand], reset_after: bool):
    """The `native` rule of `gru_sequence_grad`."""
    if not _fits(inputs):
        return None
    steps, batch, units = inputs[5].shape
    packed, states = 4 * units * _padded(units), (steps + 2) * batch * _padded(units)
    return Launch(
        "gru.gru_sequence_grad",
        (steps, batch, units, len(inputs) > 7, reset_after),
        scratch=_bytes(packed, states),
    )
