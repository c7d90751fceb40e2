"""LSTM: the gates of one step, and a whole sequence as one primitive.

Gate order as in Keras: input, forget, candidate, output. A sequence is time-major, and its input
part `z = x @ kernel + bias` was computed before, in one product for all steps; what is left for
each step is the small product with the recurrent kernel. The backward pass also leaves the gradient
of the recurrent kernel to one product at the end.

Source: Hochreiter, Schmidhuber, "Long Short-Term Memory", 1997; forget gate: Gers et al., 2000.
"""

from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError
from gpunet.ops.elementwise import cast_to, tanh
from gpunet.ops.index import get_item
from gpunet.ops.parts import split
from gpunet.ops.precision import widened, widened_composite
from gpunet.ops.products import matmul
from gpunet.ops.recurrent_launch import (
    lstm_gates_grad_rule,
    lstm_gates_rule,
    lstm_sequence_grad_rule,
    lstm_sequence_rule,
)
from gpunet.ops.recurrent_native import (
    lstm_gates_grad_native,
    lstm_gates_native,
    lstm_sequence_grad_native,
    lstm_sequence_native,
)
from gpunet.ops.shape import concatenate, reshape, stack, transpose

__all__: list[str] = []


def _scales(dtype, units):
    """`sigmoid(x) = tanh(x / 2) / 2 + 1 / 2`: one `tanh` serves all four gates."""
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype), units)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], dtype), units)
    return scale, shift


def _cuts(xp, a, units):
    return tuple(a[..., i * units : (i + 1) * units] for i in range(4))


# -- one step -------------------------------------------------------------------------------------

lstm_gates = Primitive("lstm_gates(z, c) -> h, c_new, gates")
lstm_gates_grad = Primitive("lstm_gates_grad(g_h, g_c, g_gates, c, c_new, gates) -> dz, dc")
lstm_gates.cuda(lstm_gates_rule)
lstm_gates.native(lstm_gates_native)
lstm_gates_grad.cuda(lstm_gates_grad_rule)
lstm_gates_grad.native(lstm_gates_grad_native)


@lstm_gates.infer
def _(z, c):
    if z.shape != (*c.shape[:-1], 4 * c.shape[-1]):
        raise ShapeError("z holds four gates for each unit of c")
    return tuple(Symbol(a.shape, z.dtype) for a in (c, c, z))


@lstm_gates_grad.infer
def _(g_h, g_c, g_gates, c, c_new, gates):
    return Symbol(gates.shape, gates.dtype), Symbol(c.shape, c.dtype)


@lstm_gates.vjp
def _(g, c, c_new, gates):
    return lstm_gates_grad(*g, c, c_new, gates)


@lstm_gates.array
@widened
def _(xp, z, c):
    units = c.shape[-1]
    scale, shift = (xp.asarray(v) for v in _scales(z.dtype, units))
    gates = xp.tanh(z * scale) * scale + shift
    i, f, candidate, o = _cuts(xp, gates, units)
    c_new = f * c + i * candidate
    return o * xp.tanh(c_new), c_new, gates


@lstm_gates_grad.array
@widened
def _(xp, g_h, g_c, g_gates, c, c_new, gates):
    i, f, candidate, o = _cuts(xp, gates, c.shape[-1])
    t = xp.tanh(c_new)
    dc = g_c + g_h * o * (1 - t * t)
    d = xp.concatenate([dc * candidate, dc * c, dc * i, g_h * t], -1) + g_gates
    return d * _slopes(xp, gates, c.shape[-1]), dc * f


def _slopes(xp, gates, units):
    """The derivative of the gates: `y (1 - y)` of sigmoids, `1 - y**2` of the candidate."""
    slopes = gates * (1 - gates)
    candidate = gates[..., 2 * units : 3 * units]
    slopes[..., 2 * units : 3 * units] = 1 - candidate * candidate
    return slopes


@lstm_gates_grad.composite
@widened_composite
def _(g_h, g_c, g_gates, c, c_new, gates):
    i, f, candidate, o = split(gates, 4, axis=-1)
    t = tanh(c_new)
    dc = g_c + g_h * o * (1 - t * t)
    di, df, dg, do = split(g_gates, 4, axis=-1)
    dz = [
        (dc * candidate + di) * i * (1 - i),
        (dc * c + df) * f * (1 - f),
        (dc * i + dg) * (1 - candidate * candidate),
        (g_h * t + do) * o * (1 - o),
    ]
    return concatenate(dz, -1), dc * f


def sequence_cost(op: Primitive, inputs: tuple, attributes: dict) -> tuple[int, int]:
    """The `cost` rule of whole sequences: their products with the recurrent kernel."""
    steps, batch, _ = inputs[0].shape
    kernel = inputs[op.inputs.index("kernel")]
    products = 2 if op.name.endswith("_grad") else 1  # for the states, and for the kernel
    outputs = op.rules["infer"](*inputs, **attributes)
    nbytes = sum(x.nbytes for x in (*inputs, *outputs))
    return nbytes, products * 2 * steps * batch * kernel.size


# -- a whole sequence -----------------------------------------------------------------------------

lstm_sequence = Primitive("lstm_sequence(z, h0, c0, kernel, *mask) -> h, c, gates")
lstm_sequence_grad = Primitive(
    "lstm_sequence_grad(g_h, g_c, g_gates, h0, c0, kernel, h, c, gates, *mask)"
    " -> dz, dh0, dc0, dkernel"
)
lstm_sequence.cuda(lstm_sequence_rule)
lstm_sequence.native(lstm_sequence_native)
lstm_sequence_grad.cuda(lstm_sequence_grad_rule)
lstm_sequence_grad.native(lstm_sequence_grad_native)


@lstm_sequence.infer
def _(z, h0, c0, kernel, *mask):
    steps, batch, _ = z.shape
    units = h0.shape[-1]
    shapes = ((steps, batch, 4 * units), (batch, units), (batch, units), (units, 4 * units))
    if (z.shape, h0.shape, c0.shape, kernel.shape) != shapes:
        raise ShapeError(f"z, h0, c0 and kernel should have shapes {shapes}")
    if any(m.shape != (steps, batch) for m in mask):
        raise ShapeError(f"mask should have shape {(steps, batch)}")
    state = (steps, batch, units)
    return tuple(Symbol(shape, z.dtype) for shape in (state, state, z.shape))


@lstm_sequence.cost
def _(*inputs, **attributes):
    return sequence_cost(lstm_sequence, inputs, attributes)


@lstm_sequence_grad.infer
def _(g_h, g_c, g_gates, h0, c0, kernel, h, c, gates, *mask):
    return tuple(Symbol(x.shape, x.dtype) for x in (gates, h0, c0, kernel))


@lstm_sequence_grad.cost
def _(*inputs, **attributes):
    return sequence_cost(lstm_sequence_grad, inputs, attributes)


@lstm_sequence.vjp
def _(g, h0, c0, kernel, h, c, gates, mask):
    return *lstm_sequence_grad(*g, h0, c0, kernel, h, c, gates, *mask), *[None] * len(mask)


def masks_of(mask: tuple, dtype: Any) -> list:
    """Returns the mask and its complement as numbers of shape `(steps, batch, 1)`, or nothing."""
    if not mask:
        return []
    keep = mask[0].astype(dtype)[:, :, None]
    return [keep, 1 - keep]


@lstm_sequence.array
@widened
def _(xp, z, h0, c0, kernel, *mask):
    (steps, batch, _), units = z.shape, h0.shape[-1]
    scale, shift = (xp.asarray(v) for v in _scales(z.dtype, units))
    gates, kernel = z * scale, xp.ascontiguousarray(kernel * scale)
    h, c = xp.empty((steps, batch, units), z.dtype), xp.empty((steps, batch, units), z.dtype)
    keep = masks_of(mask, z.dtype)
    h_last, c_last = xp.ascontiguousarray(h0), c0
    for t in range(steps):
        a = gates[t]
        a += xp.dot(h_last, kernel)
        xp.tanh(a, out=a)
        a *= scale
        a += shift
        i, f, candidate, o = _cuts(xp, a, units)
        c_new, h_new = xp.multiply(f, c_last, out=c[t]), h[t]
        c_new += i * candidate
        xp.tanh(c_new, out=h_new)
        h_new *= o
        if keep:
            c_new *= keep[0][t]
            c_new += c_last * keep[1][t]
            h_new *= keep[0][t]
            h_new += h_last * keep[1][t]
        h_last, c_last = h_new, c_new
    return h, c, gates


@lstm_sequence.composite
def _(z, h0, c0, kernel, *mask):
    h, c, states, cells, gates = h0, c0, [], [], []
    for t in range(z.shape[0]):
        h_new, c_new, a = lstm_gates(get_item(z, t) + matmul(h, kernel), c)
        if mask:
            keep = column(get_item(mask[0], t), z.dtype)
            h_new, c_new = keep * h_new + (1 - keep) * h, keep * c_new + (1 - keep) * c
        h, c = h_new, c_new
        states.append(h)
        cells.append(c)
        gates.append(a)
    return stack(states, 0), stack(cells, 0), stack(gates, 0)


def column(mask: Any, dtype: Any) -> Any:
    """Returns a bool vector as a column of numbers."""
    return reshape(cast_to(mask, dtype), (mask.shape[0], 1))


def previous(xp: Any, first: Any, states: Any) -> Any:
    """Returns the state before each step."""
    return xp.concatenate([first[None], states[:-1]], 0) if len(states) else states


@lstm_sequence_grad.array
@widened
def _(xp, g_h, g_c, g_gates, h0, c0, kernel, h, c, gates, *mask):
    (steps, batch, units), keep = h.shape, masks_of(mask, h.dtype)
    h_before, c_before = previous(xp, h0, h), previous(xp, c0, c)
    t_all = xp.tanh(c)
    dz = _slopes(xp, gates, units)
    dh, dc = xp.zeros_like(h0), xp.zeros_like(c0)
    back = xp.ascontiguousarray(kernel.T)
    for t in range(steps - 1, -1, -1):
        dh += g_h[t]
        dc += g_c[t]
        dh_skipped = dc_skipped = None
        if keep:
            dh_skipped, dc_skipped = dh * keep[1][t], dc * keep[1][t]
            dh *= keep[0][t]
            dc *= keep[0][t]
        i, f, candidate, o = _cuts(xp, gates[t], units)
        tanh_c = t_all[t]
        slope = tanh_c * tanh_c
        xp.subtract(1, slope, out=slope)
        slope *= o
        slope *= dh
        dc += slope
        d = g_gates[t].copy()
        di, df, dg, do = _cuts(xp, d, units)
        di += dc * candidate
        df += dc * c_before[t]
        dg += dc * i
        do += dh * tanh_c
        d *= dz[t]
        dz[t] = d
        dc *= f
        dh = xp.dot(d, back)
        if dh_skipped is not None:
            dh += dh_skipped
            dc += dc_skipped
    flat = dz.reshape(steps * batch, 4 * units)
    return dz, dh, dc, h_before.reshape(steps * batch, units).T @ flat


@lstm_sequence_grad.composite
@widened_composite
def _(g_h, g_c, g_gates, h0, c0, kernel, h, c, gates, *mask):
    steps = h.shape[0]
    dz: list[Any] = [None] * steps
    dh, dc, dkernel = h0 * 0, c0 * 0, kernel * 0
    for t in range(steps - 1, -1, -1):
        h_before = get_item(h, t - 1) if t else h0
        c_before = get_item(c, t - 1) if t else c0
        dh, dc = dh + get_item(g_h, t), dc + get_item(g_c, t)
        dh_skipped = dc_skipped = None
        if mask:
            keep = column(get_item(mask[0], t), h.dtype)
            dh_skipped, dc_skipped = dh * (1 - keep), dc * (1 - keep)
            dh, dc = dh * keep, dc * keep
        step = (get_item(g_gates, t), c_before, get_item(c, t), get_item(gates, t))
        dz[t], dc = lstm_gates_grad(dh, dc, *step)
        dkernel = dkernel + matmul(transpose(h_before), dz[t])
        dh = matmul(dz[t], transpose(kernel))
        if mask:
            dh, dc = dh + dh_skipped, dc + dc_skipped
    return stack(dz, 0), dh, dc, dkernel
