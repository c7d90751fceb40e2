"""Plans of the C++ kernel that copies: a list of fills and of blocks that are moved."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gpunet.backend.native import Launch, Operand, contiguous
from gpunet.ops.copy_launch import pad_value
from gpunet.ops.elementwise_native import broadcast_strides, collapsed

_MAX_AXES = 16  # MAX_AXES of `copy.cpp`
_TURN = 4  # from this length of both axes on, blocks are transposed tile by tile


class Block(NamedTuple):
    """Elements of an array: the first one, and the steps along each axis."""

    array: int
    first: int
    steps: tuple[int, ...]


def strided_copy(source: Operand, target: Operand) -> Launch:
    """Copies an array of any layout into a contiguous one."""
    steps = broadcast_strides(source, target.shape)
    move = (target.shape, Block(0, 0, steps), Block(1, 0, target.strides))
    return _launch(target.dtype, [move])


def _launch(dtype, moves, fills=(), value=None):
    """Plans fills of outputs (array, elements) with a value, then moves (shape, from, to)."""
    bits = 0
    if value is not None:
        bits = int.from_bytes(pad_value(value, dtype).tobytes().ljust(8, b"\0"), "little")
        bits -= (bits >> 63) << 64
    sizes = [dtype.itemsize, len(fills)]
    for array, n in fills:
        sizes += [array, n, bits]
    moves = [move for move in moves if 0 not in move[0]]
    sizes.append(len(moves))
    for move in moves:
        sizes += _block(*move)
    return Launch("copy.moves", tuple(sizes), strided=True)


def _block(shape, source, target):
    """The numbers that tell the kernel of one block."""
    shape, (to_steps, from_steps) = collapsed(shape, [target.steps, source.steps])
    axes = list(range(len(shape)))
    turned = _axis_to_turn(shape, to_steps, from_steps)
    if turned is not None:
        axes.insert(len(axes) - 2, axes.pop(turned))
    numbers = [source.array, source.first, target.array, target.first, len(axes)]
    numbers.append(int(turned is not None))
    for values in (shape, to_steps, from_steps):
        numbers += [values[a] for a in axes]
    return numbers


def _axis_to_turn(shape, to_steps, from_steps):
    """The axis along which the source is contiguous where that is not the last, else `None`."""
    if not shape or to_steps[-1] != 1 or from_steps[-1] in (0, 1) or shape[-1] < _TURN:
        return None
    for a, (n, step) in enumerate(zip(shape, from_steps, strict=True)):
        if step == 1 and n >= _TURN:
            return a
    return None


def _dense(x):
    return x.dtype.itemsize <= 8 and x.ndim <= _MAX_AXES


# -- the rules ------------------------------------------------------------------------------------


def broadcast_native(
    inputs: list[Operand], outputs: list[Operand], shape: tuple[int, ...]
) -> Launch | None:
    """The `native` rule of `broadcast_to`, where it has to be written out."""
    return strided_copy(inputs[0], outputs[0]) if _dense(outputs[0]) else None


def transpose_native(
    inputs: list[Operand], outputs: list[Operand], axes: tuple[int, ...]
) -> Launch | None:
    """The `native` rule of `transpose`, where it has to be written out."""
    x = inputs[0]
    if not _dense(x):
        return None
    turned = Operand(outputs[0].shape, x.dtype, tuple([x.strides[a] for a in axes]))
    return strided_copy(turned, outputs[0])


def concatenate_native(inputs: list[Operand], outputs: list[Operand], axis: int) -> Launch | None:
    """The `native` rule of `concatenate`."""
    y, moves, start = outputs[0], [], 0
    if not _dense(y):
        return None
    for i, x in enumerate(inputs):
        target = Block(len(inputs), start * y.strides[axis], y.strides)
        moves.append((x.shape, Block(i, 0, x.strides), target))
        start += x.shape[axis]
    return _launch(y.dtype, moves)


def stack_native(inputs: list[Operand], outputs: list[Operand], axis: int) -> Launch | None:
    """The `native` rule of `stack`."""
    y = outputs[0]
    if not _dense(y):
        return None
    steps = (*y.strides[:axis], *y.strides[axis + 1 :])
    moves = [
        (x.shape, Block(i, 0, x.strides), Block(len(inputs), i * y.strides[axis], steps))
        for i, x in enumerate(inputs)
    ]
    return _launch(y.dtype, moves)


def split_native(
    inputs: list[Operand], outputs: list[Operand], axis: int, sizes: tuple[int, ...]
) -> Launch | None:
    """The `native` rule of `split`, where parts have to be contiguous."""
    x, moves, start = inputs[0], [], 0
    if not _dense(x):
        return None
    for i, (y, n) in enumerate(zip(outputs, sizes, strict=True)):
        source = Block(0, start * x.strides[axis], x.strides)
        moves.append((y.shape, source, Block(1 + i, 0, y.strides)))
        start += n
    return _launch(x.dtype, moves)


def unstack_native(inputs: list[Operand], outputs: list[Operand], axis: int) -> Launch | None:
    """The `native` rule of `unstack`, where parts have to be contiguous."""
    x = inputs[0]
    if not _dense(x):
        return None
    steps = (*x.strides[:axis], *x.strides[axis + 1 :])
    moves = [
        (y.shape, Block(0, i * x.strides[axis], steps), Block(1 + i, 0, y.strides))
        for i, y in enumerate(outputs)
    ]
    return _launch(x.dtype, moves)


def pad_native(
    inputs: list[Operand], outputs: list[Operand], widths: Sequence[tuple[int, int]], value: Any
) -> Launch | None:
    """The `native` rule of `pad`."""
    x, y = inputs[0], outputs[0]
    if not _dense(y) or y.dtype.kind not in "fiub":
        return None
    first = sum(before * step for (before, _), step in zip(widths, y.strides, strict=True))
    moves = [(x.shape, Block(0, 0, x.strides), Block(1, first, y.strides))]
    return _launch(y.dtype, moves, [(1, y.size)], value)


def item_view(x: Operand, key: tuple[Any, ...]) -> tuple[int, Operand]:
    """Returns the first element of `x[key]` and its layout; see `get_item` for keys."""
    first, axis, shape, strides = 0, 0, [], []
    for k in key:
        if k is None:
            shape.append(1)
            strides.append(0)
            continue
        n, step = x.shape[axis], x.strides[axis]
        axis += 1
        if type(k) is tuple:
            places = range(*slice(*k).indices(n))
            first += (places.start if places else 0) * step
            shape.append(len(places))
            strides.append(places.step * step)
        else:
            first += k % n * step
    return first, Operand((*shape, *x.shape[axis:]), x.dtype, (*strides, *x.strides[axis:]))


def get_item_native(
    inputs: list[Operand], outputs: list[Operand], key: tuple[Any, ...]
) -> Launch | None:
    """The `native` rule of `get_item`, where the result has to be contiguous."""
    x, y = inputs[0], outputs[0]
    if not _dense(x) or not _dense(y):
        return None
    first, view = item_view(x, key)
    return _launch(x.dtype, [(y.shape, Block(0, first, view.strides), Block(1, 0, y.strides))])


def put_item_native(
    inputs: list[Operand], outputs: list[Operand], key: tuple[Any, ...], shape: tuple[int, ...]
) -> Launch | None:
    """The `native` rule of `put_item`."""
    x, y = inputs[0], outputs[0]
    if not _dense(x) or not _dense(y):
        return None
    first, view = item_view(contiguous(shape, y.dtype), key)
    steps = broadcast_strides(x, view.shape)
    moves = [(view.shape, Block(0, 0, steps), Block(1, first, view.strides))]
    return _launch(y.dtype, moves, [(1, y.size)], 0)
