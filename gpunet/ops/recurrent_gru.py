"""GRU: the gates of one step, and a whole sequence as one primitive.

Gate order as in Keras: update, reset, candidate. With `reset_after` the reset gate works on the
product with the recurrent kernel (as cuDNN has it), without it on the state before the product. A
sequence is time-major, and its input part was computed before, in one product for all steps.

Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
"""

from gpunet.core.primitive import Primitive
from gpunet.core.trace import Symbol
from gpunet.errors import ShapeError
from gpunet.ops.activation import sigmoid
from gpunet.ops.elementwise import tanh
from gpunet.ops.index import get_item
from gpunet.ops.parts import split
from gpunet.ops.precision import widened, widened_composite
from gpunet.ops.products import matmul
from gpunet.ops.recurrent_launch import (
    gru_gates_grad_rule,
    gru_gates_rule,
    gru_sequence_grad_rule,
    gru_sequence_rule,
)
from gpunet.ops.recurrent_lstm import column, masks_of, previous, sequence_cost
from gpunet.ops.recurrent_native import (
    gru_gates_grad_native,
    gru_gates_native,
    gru_sequence_grad_native,
    gru_sequence_native,
)
from gpunet.ops.reduce import sum
from gpunet.ops.shape import concatenate, stack, transpose

__all__: list[str] = []


def _sigmoid(xp, x):
    return xp.tanh(x * 0.5) * 0.5 + 0.5


# -- one step, reset after the product ----------------------------------------------------------

gru_gates = Primitive("gru_gates(x, r, h) -> h_new, gates")
gru_gates_grad = Primitive("gru_gates_grad(g_h, g_gates, r, h, gates) -> dx, dr, dh")
gru_gates.cuda(gru_gates_rule)
gru_gates.native(gru_gates_native)
gru_gates_grad.cuda(gru_gates_grad_rule)
gru_gates_grad.native(gru_gates_grad_native)


@gru_gates.infer
def _(x, r, h):
    if not x.shape == r.shape == (*h.shape[:-1], 3 * h.shape[-1]):
        raise ShapeError("x and r hold three gates for each unit of h")
    return Symbol(h.shape, x.dtype), Symbol(x.shape, x.dtype)


@gru_gates_grad.infer
def _(g_h, g_gates, r, h, gates):
    return tuple(Symbol(a.shape, a.dtype) for a in (gates, r, h))


@gru_gates.vjp
def _(g, r, h, gates):
    return gru_gates_grad(*g, r, h, gates)


@gru_gates.array
@widened
def _(xp, x, r, h):
    units = h.shape[-1]
    both, last = slice(0, 2 * units), slice(2 * units, None)
    gates = xp.empty_like(x)
    gates[..., both] = _sigmoid(xp, x[..., both] + r[..., both])
    gates[..., last] = xp.tanh(x[..., last] + gates[..., units : 2 * units] * r[..., last])
    update, candidate = gates[..., :units], gates[..., last]
    return candidate + update * (h - candidate), gates


@gru_gates_grad.array
@widened
def _(xp, g_h, g_gates, r, h, gates):
    units = h.shape[-1]
    update, reset, candidate = (gates[..., i * units : (i + 1) * units] for i in range(3))
    g_update, g_reset, g_candidate = (g_gates[..., i * units : (i + 1) * units] for i in range(3))
    d = (g_h * (1 - update) + g_candidate) * (1 - candidate * candidate)
    d_reset = (d * r[..., 2 * units :] + g_reset) * reset * (1 - reset)
    d_update = (g_h * (h - candidate) + g_update) * update * (1 - update)
    dx = xp.concatenate([d_update, d_reset, d], -1)
    return dx, xp.concatenate([d_update, d_reset, d * reset], -1), g_h * update


@gru_gates_grad.composite
@widened_composite
def _(g_h, g_gates, r, h, gates):
    update, reset, candidate = split(gates, 3, axis=-1)
    g_update, g_reset, g_candidate = split(g_gates, 3, axis=-1)
    d = (g_h * (1 - update) + g_candidate) * (1 - candidate * candidate)
    d_reset = (d * split(r, 3, axis=-1)[2] + g_reset) * reset * (1 - reset)
    d_update = (g_h * (h - candidate) + g_update) * update * (1 - update)
    dx = concatenate([d_update, d_reset, d], -1)
    return dx, concatenate([d_update, d_reset, d * reset], -1), g_h * update


# -- a whole sequence ---------------------------------------------------------------------------

gru_sequence = Primitive("gru_sequence(x, h0, kernel, bias, *mask, reset_after) -> h, gates")
gru_sequence_grad = Primitive(
    "gru_sequence_grad(g_h, g_gates, h0, kernel, bias, h, gates, *mask, reset_after)"
    " -> dx, dh0, dkernel, dbias"
)
gru_sequence.cuda(gru_sequence_rule)
gru_sequence.native(gru_sequence_native)
gru_sequence_grad.cuda(gru_sequence_grad_rule)
gru_sequence_grad.native(gru_sequence_grad_native)


@gru_sequence.infer
def _(x, h0, kernel, bias, *mask, reset_after):
    steps, batch, _ = x.shape
    units = h0.shape[-1]
    shapes = ((steps, batch, 3 * units), (batch, units), (units, 3 * units), (3 * units,))
    if (x.shape, h0.shape, kernel.shape, bias.shape) != shapes:
        raise ShapeError(f"x, h0, kernel and bias should have shapes {shapes}")
    if any(m.shape != (steps, batch) for m in mask):
        raise ShapeError(f"mask should have shape {(steps, batch)}")
    return Symbol((steps, batch, units), x.dtype), Symbol(x.shape, x.dtype)


@gru_sequence.cost
def _(*inputs, **attributes):
    return sequence_cost(gru_sequence, inputs, attributes)


@gru_sequence_grad.infer
def _(g_h, g_gates, h0, kernel, bias, h, gates, *mask, reset_after):
    return tuple(Symbol(a.shape, a.dtype) for a in (gates, h0, kernel, bias))


@gru_sequence_grad.cost
def _(*inputs, **attributes):
    return sequence_cost(gru_sequence_grad, inputs, attributes)


@gru_sequence.vjp
def _(g, h0, kernel, bias, h, gates, mask, reset_after):
    grads = gru_sequence_grad(*g, h0, kernel, bias, h, gates, *mask, reset_after=reset_after)
    return *grads, *[None] * len(mask)


@gru_sequence.array
@widened
def _(xp, x, h0, kernel, bias, *mask, reset_after):
    (steps, _, _), units = x.shape, h0.shape[-1]
    two = 2 * units
    h, gates, keep = xp.empty((*x.shape[:2], units), x.dtype), x.copy(), masks_of(mask, x.dtype)
    kernel, first = xp.ascontiguousarray(kernel), xp.ascontiguousarray(kernel[:, :two])
    last, before = xp.ascontiguousarray(kernel[:, two:]), xp.ascontiguousarray(h0)
    for t in range(steps):
        a = gates[t]
        both, candidate = a[:, :two], a[:, two:]
        r = xp.dot(before, kernel if reset_after else first)
        r += bias if reset_after else bias[:two]
        both += r[:, :two]
        both *= 0.5
        xp.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        reset = a[:, units:two]
        if reset_after:
            candidate += reset * r[:, two:]
        else:
            candidate += xp.dot(reset * before, last)
            candidate += bias[two:]
        xp.tanh(candidate, out=candidate)
        new = xp.subtract(before, candidate, out=h[t])
        new *= a[:, :units]
        new += candidate
        if keep:
            new *= keep[0][t]
            new += before * keep[1][t]
        before = new
    return h, gates


@gru_sequence.composite
def _(x, h0, kernel, bias, *mask, reset_after):
    units, h, states, gates = h0.shape[-1], h0, [], []
    for t in range(x.shape[0]):
        x_t = get_item(x, t)
        if reset_after:
            h_new, a = gru_gates(x_t, matmul(h, kernel) + bias, h)
        else:
            h_new, a = _reset_before(x_t, h, kernel, bias, units)
        if mask:
            keep = column(get_item(mask[0], t), x.dtype)
            h_new = keep * h_new + (1 - keep) * h
        h = h_new
        states.append(h)
        gates.append(a)
    return stack(states, 0), stack(gates, 0)


def _reset_before(x, h, kernel, bias, units):
    first, last = get_item(kernel, _columns(0, 2 * units)), get_item(kernel, _columns(2 * units))
    pre = (
        get_item(x, _columns(0, 2 * units)) + matmul(h, first) + get_item(bias, slice(0, 2 * units))
    )
    update, reset = split(sigmoid(pre), 2, axis=-1)
    pre = get_item(x, _columns(2 * units)) + matmul(reset * h, last)
    candidate = tanh(pre + get_item(bias, slice(2 * units, None)))
    gates = concatenate([update, reset, candidate], -1)
    return candidate + update * (h - candidate), gates


def _columns(start, stop=None):
    return slice(None), slice(start, stop)


@gru_sequence_grad.array
@widened
def _(xp, g_h, g_gates, h0, kernel, bias, h, gates, *mask, reset_after):
    (steps, batch, units), keep = h.shape, masks_of(mask, h.dtype)
    two, rows = 2 * units, steps * batch
    before = previous(xp, h0, h)
    product = None
    if reset_after:  # what the reset gate multiplied: the same product again, for all steps
        product = before.reshape(rows, units) @ xp.ascontiguousarray(kernel[:, two:])
        product = (product + bias[two:]).reshape(h.shape)
    back, back_last = xp.ascontiguousarray(kernel.T), xp.ascontiguousarray(kernel[:, two:].T)
    back_first = xp.ascontiguousarray(kernel[:, :two].T)
    dx, dr, dh = xp.empty_like(gates), xp.empty_like(gates), xp.zeros_like(h0)
    for t in range(steps - 1, -1, -1):
        dh += g_h[t]
        skipped = None
        if keep:
            skipped = dh * keep[1][t]
            dh *= keep[0][t]
        update, reset, candidate = (gates[t][:, i * units : (i + 1) * units] for i in range(3))
        g_t, d = g_gates[t], dx[t]
        d_last = d[:, two:]
        d_last[...] = (dh * (1 - update) + g_t[:, two:]) * (1 - candidate * candidate)
        d[:, :units] = (dh * (before[t] - candidate) + g_t[:, :units]) * update * (1 - update)
        into = None if reset_after else xp.dot(d_last, back_last)
        reached = d_last * product[t] if product is not None else into * before[t]
        d[:, units:two] = (reached + g_t[:, units:two]) * reset * (1 - reset)
        dh *= update
        if reset_after:
            dr[t, :, :two] = d[:, :two]
            dr[t, :, two:] = d_last * reset
            dh += xp.dot(dr[t], back)
        else:
            dh += into * reset
            dh += xp.dot(xp.ascontiguousarray(d[:, :two]), back_first)
        if keep:
            dh += skipped
    if reset_after:
        flat = dr.reshape(rows, 3 * units)
        return dx, dh, before.reshape(rows, units).T @ flat, flat.sum(0)
    flat = dx.reshape(rows, 3 * units)
    state = before.reshape(rows, units)
    scaled = (gates[:, :, units:two] * before).reshape(rows, units)
    dkernel = xp.concatenate([state.T @ flat[:, :two], scaled.T @ flat[:, two:]], 1)
    return dx, dh, dkernel, flat.sum(0)


@gru_sequence_grad.composite
@widened_composite
def _(g_h, g_gates, h0, kernel, bias, h, gates, *mask, reset_after):
    steps, dx = h.shape[0], [None] * h.shape[0]
    dh, dkernel, dbias = h0 * 0, kernel * 0, bias * 0
    step = _pull_after if reset_after else _pull_before
    for t in range(steps - 1, -1, -1):
        before = get_item(h, t - 1) if t else h0
        dh, skipped = dh + get_item(g_h, t), None
        if mask:
            keep = column(get_item(mask[0], t), h.dtype)
            dh, skipped = dh * keep, dh * (1 - keep)
        here = (get_item(g_gates, t), kernel, bias, before, get_item(gates, t))
        dx[t], dh, dk, db = step(dh, *here)
        dkernel, dbias = dkernel + dk, dbias + db
        if mask:
            dh = dh + skipped
    return stack(dx, 0), dh, dkernel, dbias


def _pull_after(dh, g_gates, kernel, bias, before, gates):
    dx, dr, dh = gru_gates_grad(dh, g_gates, matmul(before, kernel) + bias, before, gates)
    return dx, dh + matmul(dr, transpose(kernel)), matmul(transpose(before), dr), sum(dr, 0)


def _pull_before(dh, g_gates, kernel, bias, before, gates):
    units = before.shape[-1]
    update, reset, candidate = split(gates, 3, axis=-1)
    g_update, g_reset, g_candidate = split(g_gates, 3, axis=-1)
    first, last = get_item(kernel, _columns(0, 2 * units)), get_item(kernel, _columns(2 * units))
    d = (dh * (1 - update) + g_candidate) * (1 - candidate * candidate)
    into = matmul(d, transpose(last))
    d_reset = (into * before + g_reset) * reset * (1 - reset)
    d_update = (dh * (before - candidate) + g_update) * update * (1 - update)
    both = concatenate([d_update, d_reset], -1)
    dx = concatenate([both, d], -1)
    dh = dh * update + into * reset + matmul(both, transpose(first))
    dk = [matmul(transpose(before), both), matmul(transpose(reset * before), d)]
    return dx, dh, concatenate(dk, 1), sum(dx, 0)
