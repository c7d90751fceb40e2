"""Recurrent layers over whole sequences, with the default activations of Keras.

One product computes the input part of all steps; `lstm_sequence` and `gru_sequence` do the rest.
"""

import numpy as np

from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.errors import ShapeError, received
from gpunet.ops.elementwise import cast_to, floating
from gpunet.ops.index import get_item
from gpunet.ops.normalization import constant_vector
from gpunet.ops.products import matmul
from gpunet.ops.recurrent_gru import gru_sequence
from gpunet.ops.recurrent_lstm import column, lstm_sequence
from gpunet.ops.shape import expand_dims, reshape, transpose

__all__ = ["gru", "lstm"]


def _time_major(inputs, mask, go_backwards):
    """Returns inputs as (steps, batch, features) and the mask as (steps, batch) or nothing."""
    x = floating(inputs)
    if x.ndim != 3:
        raise ShapeError(
            "Recurrent ops take inputs of shape (batch, steps, features). "
            + received(shape=x.shape)
        )
    x = transpose(x, (1, 0, 2))
    masks = []
    if mask is not None:
        mask = cast_to(as_tensor(mask, device=x.device), np.dtype(bool))
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = reshape(mask, mask.shape[:2])
        if mask.shape != (x.shape[1], x.shape[0]):
            raise ShapeError(
                "`mask` needs one bool for each step: shape (batch, steps). "
                + received(mask=mask.shape, inputs=(x.shape[1], x.shape[0], x.shape[2]))
            )
        masks.append(transpose(mask, (1, 0)))
    if go_backwards:
        x = get_item(x, slice(None, None, -1))
        masks = [get_item(m, slice(None, None, -1)) for m in masks]
    return x, masks


def _results(h, masks, return_sequences, zero_output_for_mask):
    """The last output, and all outputs (or the last one as a sequence), batch-major."""
    if not h.shape[0]:
        raise ShapeError(f"Recurrent ops need at least one step. {received(steps=0)}")
    last = get_item(h, -1)
    if masks and zero_output_for_mask:
        if return_sequences:
            h = h * expand_dims(cast_to(masks[0], h.dtype), -1)
        last = last * column(get_item(masks[0], -1), h.dtype)
    return last, transpose(h, (1, 0, 2)) if return_sequences else expand_dims(last, 1)


@public
def lstm(
    inputs,
    initial_state_h,
    initial_state_c,
    kernel,
    recurrent_kernel,
    bias=None,
    mask=None,
    go_backwards=False,
    return_sequences=True,
    zero_output_for_mask=False,
):
    """Runs an LSTM with sigmoid gates and tanh over a batch of sequences.

    `i, f, o = sigmoid(...)`, `g = tanh(...)`, `c = f * c + i * g`, `h = o * tanh(c)`.

    Source: Hochreiter, Schmidhuber, 1997.

    Args:
        inputs: Tensor of shape `(batch, steps, features)`.
        initial_state_h: Tensor of shape `(batch, units)`.
        initial_state_c: Tensor of shape `(batch, units)`.
        kernel: Tensor of shape `(features, 4 * units)`: input, forget, candidate, output.
        recurrent_kernel: Tensor of shape `(units, 4 * units)`.
        bias: Tensor of shape `(4 * units,)`; default none.
        mask: Bool tensor of shape `(batch, steps)`; where it is false the states stay.
        go_backwards: Whether the steps are taken from the last to the first; the outputs are in
            the order of the steps taken.
        return_sequences: Whether all outputs are wanted.
        zero_output_for_mask: Whether the output is 0, not the last one, where the mask is false.

    Returns:
        `(last_output, outputs, [h, c])`: tensors of shapes `(batch, units)`,
        `(batch, steps, units)` (one step without `return_sequences`), and the last states.

    Raises:
        ShapeError: If the shapes do not go together.

    Example:
        >>> import gpunet
        >>> zeros = gpunet.ops.zeros
        >>> last, outputs, states = gpunet.ops.lstm(
        ...     zeros((2, 5, 3)), zeros((2, 4)), zeros((2, 4)), zeros((3, 16)), zeros((4, 16))
        ... )
        >>> last.shape, outputs.shape
        ((2, 4), (2, 5, 4))
    """
    x, masks = _time_major(inputs, mask, go_backwards)
    z = matmul(x, kernel)
    if bias is not None:
        z = z + as_tensor(bias, device=x.device)
    states = [
        cast_to(as_tensor(s, device=x.device), z.dtype) for s in (initial_state_h, initial_state_c)
    ]
    weight = cast_to(as_tensor(recurrent_kernel, device=x.device), z.dtype)
    h, c, _ = lstm_sequence(z, *states, weight, *masks)
    last, outputs = _results(h, masks, return_sequences, zero_output_for_mask)
    return last, outputs, [get_item(h, -1), get_item(c, -1)]


@public
def gru(
    inputs,
    initial_state,
    kernel,
    recurrent_kernel,
    bias=None,
    mask=None,
    reset_after=True,
    go_backwards=False,
    return_sequences=True,
    zero_output_for_mask=False,
):
    """Runs a GRU with sigmoid gates and tanh over a batch of sequences.

    `z, r = sigmoid(...)`, `g = tanh(x_g + r * (h @ R_g + b_g))` with `reset_after`, else
    `g = tanh(x_g + (r * h) @ R_g)`, and `h = z * h + (1 - z) * g`.

    Source: Cho et al., 2014.

    Args:
        inputs: Tensor of shape `(batch, steps, features)`.
        initial_state: Tensor of shape `(batch, units)`.
        kernel: Tensor of shape `(features, 3 * units)`: update, reset, candidate.
        recurrent_kernel: Tensor of shape `(units, 3 * units)`.
        bias: With `reset_after` a tensor of shape `(2, 3 * units)` (input and recurrent bias), else
            `(3 * units,)`; default none.
        mask: Bool tensor of shape `(batch, steps)`; where it is false the state stays.
        reset_after: Whether the reset gate works after the product with the recurrent kernel.
        go_backwards: Whether the steps are taken from the last to the first; the outputs are in
            the order of the steps taken.
        return_sequences: Whether all outputs are wanted.
        zero_output_for_mask: Whether the output is 0, not the last one, where the mask is false.

    Returns:
        `(last_output, outputs, [h])`: tensors of shapes `(batch, units)`, `(batch, steps, units)`
        (one step without `return_sequences`), and the last state.

    Raises:
        ShapeError: If the shapes do not go together.

    Example:
        >>> import gpunet
        >>> zeros = gpunet.ops.zeros
        >>> last, outputs, states = gpunet.ops.gru(
        ...     zeros((2, 5, 3)), zeros((2, 4)), zeros((3, 12)), zeros((4, 12))
        ... )
        >>> last.shape, outputs.shape
        ((2, 4), (2, 5, 4))
    """
    x, masks = _time_major(inputs, mask, go_backwards)
    z = matmul(x, kernel)
    h0 = cast_to(as_tensor(initial_state, device=x.device), z.dtype)
    recurrent_bias = constant_vector(0.0, z.shape[-1], z)
    if bias is not None:
        bias = cast_to(as_tensor(bias, device=x.device), z.dtype)
        expected = (2, z.shape[-1]) if reset_after else (z.shape[-1],)
        if bias.shape != expected:
            raise ShapeError(f"`bias` should have shape {expected}. {received(shape=bias.shape)}")
        if reset_after:
            bias, recurrent_bias = get_item(bias, 0), get_item(bias, 1)
        z = z + bias
    weight = cast_to(as_tensor(recurrent_kernel, device=x.device), z.dtype)
    h, _ = gru_sequence(z, h0, weight, recurrent_bias, *masks, reset_after=bool(reset_after))
    last, outputs = _results(h, masks, return_sequences, zero_output_for_mask)
    return last, outputs, [get_item(h, -1)]
