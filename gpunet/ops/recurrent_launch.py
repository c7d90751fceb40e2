"""How LSTM and GRU are launched: for each step one product and one kernel for all the rest.

The steps write into arrays of the whole sequence. The gradient of the recurrent kernel is one
product at the end. States are stored, and multiplied, in the dtype of the inputs; the gradients
that are carried from step to step are kept in the accumulation dtype.
"""

import math
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import cuda_type, empty, empty_like, launch
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for, vector_width
from gpunet.ops.products import matmul_primitive
from gpunet.ops.reduce_launch import accumulate_dtype, reduction_rule
from gpunet.ops.scatter_launch import zeros


def _product(x1, x2, transpose1=False, transpose2=False):
    """A product of matrices, by the rule that `matmul` has on the device of the arrays."""
    flags = {"transpose1": transpose1, "transpose2": transpose2}
    if "cuda" in matmul_primitive.rules:
        return contiguous(matmul_primitive.rules["cuda"](x1, x2, **flags))
    xp = np if isinstance(x1, np.ndarray) else Device("cuda").xp
    return contiguous(matmul_primitive.rules["array"](xp, x1, x2, **flags))


def _step(kernel, arrays, batch, units):
    """Launches the kernel of one step; `None` stands for what is not there."""
    floats = [x for x in arrays if x is not None and x.dtype != bool]
    dtype = next(x for x in floats).dtype
    vector = vector_width(*[x for x in floats if x.dtype == dtype])
    vector = vector if units % vector == 0 else 1
    grid, args = grid_for(batch * units, vector), (*arrays, batch, units)
    launch("recurrent.cu", kernel, (cuda_type(dtype), vector), grid=grid, block=BLOCK, args=args)


def _carry(shape, like):
    """Zeros in the accumulation dtype, for gradients that go from step to step."""
    return zeros(shape, accumulate_dtype(like.dtype), like)


def _before(first, states):
    """The state before each step."""
    before = empty_like(states)
    if len(states):
        before[0] = first
        before[1:] = states[:-1]
    return before


def _masks(mask, steps):
    return list(contiguous(mask[0])) if mask else [None] * steps


def _batch(x):
    return math.prod(x.shape[:-1])


# -- LSTM -----------------------------------------------------------------------------------------


def lstm_gates_rule(z: Any, c: Any) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `lstm_gates`."""
    z, c = contiguous(z), contiguous(c)
    h, c_new, gates = empty_like(c), empty_like(c), empty_like(z)
    arrays = (z, None, None, c, None, h, c_new, gates)
    _step("lstm_step", arrays, _batch(c), c.shape[-1])
    return h, c_new, gates


def lstm_gates_grad_rule(g_h, g_c, g_gates, c, c_new, gates) -> tuple[Any, Any]:
    """The `cuda` rule of `lstm_gates_grad`."""
    g_h, g_c, g_gates, c, c_new, gates = map(contiguous, (g_h, g_c, g_gates, c, c_new, gates))
    dz, dc = empty_like(gates), _carry(c.shape, c)
    arrays = (g_h, g_c, g_gates, None, None, c, c_new, gates, None, dc, dz)
    _step("lstm_step_backward", arrays, _batch(c), c.shape[-1])
    return dz, dc.astype(c.dtype, copy=False)


def lstm_sequence_rule(z, h0, c0, kernel, *mask) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `lstm_sequence`."""
    z, h0, c0, kernel = map(contiguous, (z, h0, c0, kernel))
    (steps, batch, _), units = z.shape, h0.shape[-1]
    h, c = (empty((steps, batch, units), z.dtype, like=z) for _ in range(2))
    gates, keep, before = empty_like(z), _masks(mask, steps), (h0, c0)
    for t in range(steps):
        r = _product(before[0], kernel)
        _step("lstm_step", (z[t], r, *before, keep[t], h[t], c[t], gates[t]), batch, units)
        before = h[t], c[t]
    return h, c, gates


def lstm_sequence_grad_rule(g_h, g_c, g_gates, h0, c0, kernel, h, c, gates, *mask) -> tuple:
    """The `cuda` rule of `lstm_sequence_grad`."""
    g_h, g_c, g_gates, c, gates = map(contiguous, (g_h, g_c, g_gates, c, gates))
    h0, c0, kernel = map(contiguous, (h0, c0, kernel))
    (steps, batch, units), keep = h.shape, _masks(mask, len(h))
    dz, product = empty_like(gates), None
    dc, skipped = _carry(c0.shape, c0), _carry(h0.shape, h0) if mask else None
    for t in range(steps - 1, -1, -1):
        states = c[t - 1] if t else c0, c[t], gates[t]
        arrays = (g_h[t], g_c[t], g_gates[t], product, keep[t], *states, skipped, dc, dz[t])
        _step("lstm_step_backward", arrays, batch, units)
        product = _product(dz[t], kernel, transpose2=True)
    rows = steps * batch
    before = _before(h0, h).reshape(rows, units)
    dkernel = _product(before, dz.reshape(rows, 4 * units), transpose1=True)
    return dz, _total(product, skipped, h0), dc.astype(c0.dtype, copy=False), dkernel


def _total(product, skipped, like):
    """The gradient of the first state: through the product, and past all steps."""
    if product is None:
        return _carry(like.shape, like).astype(like.dtype, copy=False)
    if skipped is None:
        return product
    return (product.astype(skipped.dtype) + skipped).astype(like.dtype, copy=False)


# -- GRU ------------------------------------------------------------------------------------------


def gru_gates_rule(x: Any, r: Any, h: Any) -> tuple[Any, Any]:
    """The `cuda` rule of `gru_gates`."""
    x, r, h = contiguous(x), contiguous(r), contiguous(h)
    h_new, gates = empty_like(h), empty_like(x)
    _step("gru_step", (x, r, None, h, None, h_new, gates), _batch(h), h.shape[-1])
    return h_new, gates


def gru_gates_grad_rule(g_h, g_gates, r, h, gates) -> tuple[Any, Any, Any]:
    """The `cuda` rule of `gru_gates_grad`."""
    g_h, g_gates, h, gates = map(contiguous, (g_h, g_gates, h, gates))
    units = h.shape[-1]
    q = contiguous(r[..., 2 * units :])
    dx, dr, dh = empty_like(gates), empty_like(gates), _carry(h.shape, h)
    arrays = (g_h, g_gates, None, None, q, None, h, gates, dh, dx, dr)
    _step("gru_step_backward", arrays, _batch(h), units)
    return dx, dr, dh.astype(h.dtype, copy=False)


def gru_sequence_rule(x, h0, kernel, bias, *mask, reset_after: bool) -> tuple[Any, Any]:
    """The `cuda` rule of `gru_sequence`."""
    x, before, kernel, bias = map(contiguous, (x, h0, kernel, bias))
    (steps, batch, _), units = x.shape, h0.shape[-1]
    h, gates = empty((steps, batch, units), x.dtype, like=x), empty_like(x)
    keep = _masks(mask, steps)
    first, last = contiguous(kernel[:, : 2 * units]), contiguous(kernel[:, 2 * units :])
    for t in range(steps):
        if reset_after:
            r = _product(before, kernel)
            _step("gru_step", (x[t], r, bias, before, keep[t], h[t], gates[t]), batch, units)
        else:
            scaled = empty_like(before)
            r = _product(before, first)
            _step("gru_reset", (x[t], r, bias, before, gates[t], scaled), batch, units)
            r = _product(scaled, last)
            _step("gru_candidate", (x[t], r, bias, before, keep[t], h[t], gates[t]), batch, units)
        before = h[t]
    return h, gates


def gru_sequence_grad_rule(g_h, g_gates, h0, kernel, bias, h, gates, *mask, reset_after) -> tuple:
    """The `cuda` rule of `gru_sequence_grad`."""
    g_h, g_gates, h0, kernel, bias, h, gates = map(
        contiguous, (g_h, g_gates, h0, kernel, bias, h, gates)
    )
    pull = _pull_after if reset_after else _pull_before
    return pull(g_h, g_gates, kernel, bias, _before(h0, h), gates, _masks(mask, len(h)), h0)


def _pull_after(g_h, g_gates, kernel, bias, before, gates, keep, h0):
    steps, batch, units = g_h.shape
    rows, product, carry = steps * batch, None, _carry(h0.shape, h0)
    flat, bias = before.reshape(rows, units), contiguous(bias[2 * units :])
    # What the reset gate multiplied is computed again, by one product for all steps.
    q = _product(flat, contiguous(kernel[:, 2 * units :])).reshape(g_h.shape)
    dx, dr = empty_like(gates), empty_like(gates)
    for t in range(steps - 1, -1, -1):
        states = q[t], bias, before[t], gates[t]
        arrays = (g_h[t], g_gates[t], product, keep[t], *states, carry, dx[t], dr[t])
        _step("gru_step_backward", arrays, batch, units)
        product = _product(dr[t], kernel, transpose2=True)
    dr = dr.reshape(rows, 3 * units)
    dkernel = _product(flat, dr, transpose1=True)
    return dx, _total(product, carry, h0), dkernel, _column_sums(dr)


def _pull_before(g_h, g_gates, kernel, bias, before, gates, keep, h0):
    steps, batch, units = g_h.shape
    rows, product, carry = steps * batch, None, _carry(h0.shape, h0)
    first, last = contiguous(kernel[:, : 2 * units]), contiguous(kernel[:, 2 * units :])
    both = empty((steps, batch, 2 * units), gates.dtype, like=gates)
    d = empty_like(g_h)
    for t in range(steps - 1, -1, -1):
        states = before[t], gates[t], carry, both[t]
        arrays = (g_h[t], g_gates[t], product, keep[t], *states, d[t])
        _step("gru_candidate_backward", arrays, batch, units)
        into = _product(d[t], last, transpose2=True)
        _step("gru_reset_backward", (g_gates[t], into, *states), batch, units)
        product = _product(both[t], first, transpose2=True)
    scaled = contiguous(gates[:, :, units : 2 * units]) * before
    dx, dkernel = empty_like(gates), empty_like(kernel)
    dx[..., : 2 * units], dx[..., 2 * units :] = both, d
    for columns, state, part in (
        (slice(0, 2 * units), before, both),
        (slice(2 * units, None), scaled, d),
    ):
        pair = state.reshape(rows, units), part.reshape(rows, part.shape[-1])
        dkernel[:, columns] = _product(*pair, transpose1=True)
    return dx, _total(product, carry, h0), dkernel, _column_sums(dx.reshape(rows, 3 * units))


def _column_sums(x):
    return reduction_rule("Sum", lambda dtype: dtype)(x, (0,), False)
