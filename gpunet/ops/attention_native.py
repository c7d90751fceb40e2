"""Plans the C++ kernels of attention, `cpu_kernels/attention.cpp`, in float32."""

import numpy as np

from gpunet.backend.native import Launch, Operand, contiguous, runtime

_QUERIES, _SCORES = 64, 64 * 272  # rows at a time, and their scores with the room beside them
_PANEL = 64  # at most, see `cpu_kernels/panels.h`


def attention_native(
    inputs: list[Operand],
    outputs: list[Operand],
    scale: float,
    causal: bool,
    dropout: float = 0.0,
) -> Launch | None:
    """The `native` rule of `attention`."""
    q, k, v, *mask = inputs
    if not _fits((q, k, v), mask, dropout):
        return None
    values, keys = _padded(v.shape[3]), k.shape[1]
    floats = _packed(k) + keys * values + _SCORES + _QUERIES * values
    return _launch("attention.attention", inputs, (0, 1, 2), (q, k, v), mask, scale, causal, floats)


def attention_grad_native(
    inputs: list[Operand],
    outputs: list[Operand],
    scale: float,
    causal: bool,
    dropout: float = 0.0,
) -> Launch | None:
    """The `native` rule of `attention_grad`."""
    q, k, v = inputs[2:5]
    mask = inputs[7:]
    if not _fits(inputs[:7], mask, dropout):
        return None
    width, values, keys = _padded(q.shape[3]), _padded(v.shape[3]), k.shape[1]
    packed = _packed(k) + _packed(v)
    sums = keys * (2 * width + values) + values
    floats = packed + sums + 2 * _SCORES + _QUERIES * (2 * width + values)
    tensors = (0, 2, 3, 4, 5)
    return _launch(
        "attention.attention_grad", inputs, tensors, (q, k, v), mask, scale, causal, floats
    )


def _fits(floats, mask, dropout) -> bool:
    """Whether there is something to do that the kernels can do."""
    wide = all(x.dtype == np.float32 and x.size for x in floats)
    return wide and not dropout and len(mask) <= 1 and all(m.size for m in mask)


def _padded(n: int) -> int:
    return -(-n // 16) * 16


def _packed(x: Operand) -> int:
    """Floats of the rows of a head as panels."""
    return x.shape[3] * (-(-x.shape[1] // _PANEL) * _PANEL)


def _launch(kernel, inputs, tensors, operands, mask, scale, causal, floats):
    """The launch, by the strides of the tensors where rows lie without gaps."""
    q, k, v = operands
    others = [x for i, x in enumerate(inputs) if i not in tensors and x.dtype == np.float32]
    strided = all(inputs[i].strides[3] == 1 or inputs[i].shape[3] == 1 for i in tensors)
    strided = strided and all(x.contiguous for x in others)
    laid = inputs if strided else [contiguous(x.shape, x.dtype) for x in inputs]
    batch, queries, heads, width = q.shape
    masks = laid[len(inputs) - 1] if mask else None
    steps = [0] * 4
    if masks is not None:
        steps = [s if n > 1 else 0 for s, n in zip(masks.strides, masks.shape, strict=True)]
    floats += 16 * 16  # each piece is rounded up
    sizes = (batch, queries, k.shape[1], heads, k.shape[2], width, v.shape[3], causal, len(mask))
    strides = [s for i in tensors for s in laid[i].strides[:3]]
    return Launch(
        kernel,
        (*sizes, floats, *steps, *strides),
        (scale,),
        scratch=4 * floats * runtime().threads,
        strided=strided,
    )
