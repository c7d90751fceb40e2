"""Cross-entropies, fused with softmax and sigmoid where the model gives logits.

The gradient of a fused loss is one subtraction: `softmax(logits) - target`. Integer labels are in
`cross_entropy_labels.py`.
"""

from typing import Any

import numpy as np

from gpunet.config import epsilon
from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.errors import DTypeError, ShapeError, received
from gpunet.ops.activation import sigmoid
from gpunet.ops.cross_entropy_labels import pick, softmax_cross_entropy, wide
from gpunet.ops.cross_entropy_launch import dense_grad_rule, dense_rule, sigmoid_rule
from gpunet.ops.cross_entropy_native import dense_native, sigmoid_native
from gpunet.ops.elementwise import cast_to, clip, exp, floating, log
from gpunet.ops.precision import statistics_dtype, widened
from gpunet.ops.reduce import sum
from gpunet.ops.rows import as_rows, row_dot, row_sum, shifted_exp
from gpunet.ops.shape import expand_dims, moveaxis, one_axis, squeeze
from gpunet.ops.softmax import shifted

__all__ = ["binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"]


# -- softmax and probabilities --------------------------------------------------------------------

# With `label_smoothing` s the target is (1 - s) target + s / classes.
dense_cross_entropy = Primitive(
    "dense_cross_entropy(logits, target, *, label_smoothing) -> loss, lse"
)
dense_cross_entropy_grad = Primitive(
    "dense_cross_entropy_grad(g, g_lse, logits, target, lse, *, label_smoothing) -> dlogits"
)

dense_cross_entropy.cuda(dense_rule)
dense_cross_entropy_grad.cuda(dense_grad_rule)
dense_cross_entropy.native(dense_native("dense", 0))
dense_cross_entropy_grad.native(dense_native("dense_grad", 2, ((0, 2), (0, 3))))


def _smooth(target, amount):
    """Smoothed targets, of arrays and tensors."""
    return target * (1.0 - amount) + amount / max(target.shape[-1], 1) if amount else target


@dense_cross_entropy.infer
def _(logits, target, label_smoothing=0.0):
    if target.shape != logits.shape:
        raise ShapeError("target and logits must have one shape")
    shape = logits.shape[:-1]
    return Symbol(shape, logits.dtype), Symbol(shape, statistics_dtype(logits.dtype))


@dense_cross_entropy.vjp
def _(g, logits, target, lse, needs, label_smoothing=0.0):
    dx = None
    if needs[0]:
        dx = dense_cross_entropy_grad(*g, logits, target, lse, label_smoothing=label_smoothing)
    if not needs[1]:
        return dx, None
    log_p = cast_to(logits, lse.dtype) - expand_dims(lse, -1)
    slope = cast_to(g[0], lse.dtype) * (label_smoothing - 1.0)
    return dx, cast_to(expand_dims(slope, -1) * log_p, target.dtype)


@dense_cross_entropy.array
def _(xp, logits, target, label_smoothing=0.0):
    x, goal = wide(logits), _smooth(wide(target), label_smoothing)
    _, total, top = shifted(xp, x, -1)
    height = xp.log(total)
    loss = xp.sum(goal * (height - (x - top)), -1)
    return loss.astype(logits.dtype), (height + top)[..., 0]


@dense_cross_entropy.cpu
def _(logits, target, label_smoothing=0.0):
    shape, columns = logits.shape[:-1], logits.shape[-1]
    if not logits.size:
        return np.zeros(shape, logits.dtype), np.zeros(shape, statistics_dtype(logits.dtype))
    x, goal = as_rows(wide(logits), columns), as_rows(wide(target), columns)
    _, total, top = shifted_exp(x)
    lse = np.log(total) + top
    loss = row_dot(_smooth(goal, label_smoothing), lse - x)
    return loss.astype(logits.dtype, copy=False).reshape(shape), lse.reshape(shape)


@dense_cross_entropy_grad.infer
def _(g, g_lse, x, target, lse, label_smoothing=0.0):
    return Symbol(x.shape, x.dtype)


@dense_cross_entropy_grad.array
def _(xp, g, g_lse, logits, target, lse, label_smoothing=0.0):
    x, goal = wide(logits), _smooth(wide(target), label_smoothing)
    g, g_lse = wide(xp.asarray(g))[..., None], xp.asarray(g_lse)[..., None]
    p = xp.exp(x - xp.asarray(lse)[..., None])
    dx = p * (g * xp.sum(goal, -1, keepdims=True) + g_lse) - g * goal
    return dx.astype(logits.dtype)


@dense_cross_entropy_grad.cpu
def _(g, g_lse, logits, target, lse, label_smoothing=0.0):
    if not logits.size:
        return np.zeros(logits.shape, logits.dtype)
    columns = logits.shape[-1]
    x, goal = as_rows(wide(logits), columns), as_rows(wide(target), columns)
    goal = _smooth(goal, label_smoothing)
    g = wide(np.asarray(g)).reshape(-1)
    dx = x - np.asarray(lse).reshape(-1, 1)
    np.exp(dx, out=dx)
    dx *= (g * row_sum(goal) + np.asarray(g_lse).reshape(-1))[:, None]
    dx -= goal * g[:, None]
    return dx.astype(logits.dtype, copy=False).reshape(logits.shape)


@dense_cross_entropy_grad.composite
def _(g, g_lse, logits, target, lse, label_smoothing=0.0):
    dtype = logits.dtype
    g, logits, target = (cast_to(x, lse.dtype) for x in (g, logits, target))
    g, target = expand_dims(g, -1), _smooth(target, label_smoothing)
    p = exp(logits - expand_dims(lse, -1))
    weight = g * sum(target, -1, keepdims=True) + expand_dims(g_lse, -1)
    return cast_to(p * weight - g * target, dtype)


# -- sigmoid --------------------------------------------------------------------------------------

sigmoid_cross_entropy = Primitive("sigmoid_cross_entropy(logits, target) -> loss")
sigmoid_cross_entropy.cuda(sigmoid_rule)
sigmoid_cross_entropy.native(sigmoid_native)
sigmoid_cross_entropy.infer(lambda x, target: Symbol(x.shape, x.dtype))
sigmoid_cross_entropy.vjp(
    lambda g, logits, target, needs: (
        g * (sigmoid(logits) - target) if needs[0] else None,
        -g * logits if needs[1] else None,
    )
)


@sigmoid_cross_entropy.array
@widened
def _(xp, logits, target):
    loss = xp.log1p(xp.exp(-xp.abs(logits)))
    loss += xp.maximum(logits, 0)
    loss -= logits * target
    return loss


# -- public ---------------------------------------------------------------------------------------


def _pair(target, output):
    output = floating(output)
    target = cast_to(as_tensor(target, device=output.device), output.dtype)
    if target.shape != output.shape:
        raise ShapeError(
            "`target` and `output` must have the same shape. "
            + received(target=target.shape, output=output.shape)
        )
    return target, output


def _log_probabilities(output, axis):
    """Logarithms as Keras takes them: normalised, then kept `epsilon()` away from 0 and 1."""
    small = epsilon()
    return log(clip(output / sum(output, axis, keepdims=True), small, 1.0 - small))


@public
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """Returns `-sum(target * log(output))` along an axis.

    Probabilities are divided by their sum and kept `epsilon()` away from 0 and 1.

    Args:
        target: Probabilities of the classes; tensor of the shape of `output`.
        output: Predicted probabilities, or logits.
        from_logits: Whether `output` holds logits.
        axis: Axis of the classes.

    Returns:
        Tensor of the shape of `output` without the axis.

    Raises:
        ShapeError: If the shapes differ or have no axis.

    Example:
        >>> import gpunet
        >>> gpunet.ops.categorical_crossentropy([[0.0, 1.0]], [[-100.0, 100.0]], True).tolist()
        [0.0]
    """
    target, output = _pair(target, output)
    axis = one_axis(axis, output.ndim)
    if from_logits:
        return dense_loss(target, output, axis)
    return -sum(target * _log_probabilities(output, axis), axis)


def dense_loss(target: Tensor, output: Tensor, axis: int, label_smoothing: float = 0.0) -> Tensor:
    """Returns `-sum(t * log_softmax(output))` along an axis, of smoothed targets `t`.

    Args:
        target: Tensor of the shape and dtype of `output`.
        output: Logits.
        axis: Axis of the classes.
        label_smoothing: How far targets are moved towards `1 / classes`, 0 to 1.
    """
    if axis % output.ndim != output.ndim - 1:
        target, output = moveaxis(target, axis, -1), moveaxis(output, axis, -1)
    return dense_cross_entropy(output, target, label_smoothing=float(label_smoothing))[0]


@public
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """Returns `-log(output)` of the class that each label names.

    Probabilities are divided by their sum and kept `epsilon()` away from 0 and 1.

    Args:
        target: Integer labels, of the shape of `output` without its axis of classes; that axis may
            stay with length 1.
        output: Predicted probabilities, or logits.
        from_logits: Whether `output` holds logits.
        axis: Axis of the classes.

    Returns:
        Tensor of the shape of the labels.

    Raises:
        ArgumentError: If a label is not one of the classes (NaN on a CUDA device, which must not
            wait to look).
        ShapeError: If the shapes do not match.
        DTypeError: If the labels cannot be integers.

    Example:
        >>> import gpunet
        >>> gpunet.ops.sparse_categorical_crossentropy([1], [[-100.0, 100.0]], True).tolist()
        [0.0]
    """
    return sparse_loss(target, output, from_logits, axis)


def sparse_loss(
    target: Any, output: Any, from_logits: bool, axis: int, ignore_index: int | None = None
) -> Tensor:
    """The same, with loss 0 where the label is `ignore_index`: for logits only."""
    output = floating(output)
    labels = _labels(as_tensor(target, device=output.device))
    axis = one_axis(axis, output.ndim)
    if labels.ndim == output.ndim and labels.shape[-1] == 1:
        labels = squeeze(labels, -1)
    if labels.shape != output.shape[:axis] + output.shape[axis + 1 :]:
        raise ShapeError(
            "`target` and `output` must have the same shape, except for the axis of the classes, "
            "which labels do not have. "
            + received(target=labels.shape, output=output.shape, axis=axis)
        )
    if axis != output.ndim - 1:
        output = moveaxis(output, axis, -1)
    if from_logits:
        settings = {"ignore_index": ignore_index, "label_smoothing": 0.0}
        return softmax_cross_entropy(output, labels, **settings)[0]
    small = epsilon()
    picked = pick(output, labels) / sum(output, -1)
    return -log(clip(picked, small, 1.0 - small))


def _labels(target):
    if target.dtype.kind in "iu":
        return target
    if target.dtype.kind == "c":
        raise DTypeError(f"Labels are integers. {received(dtype=target.dtype)}")
    return cast_to(target, np.dtype(np.int32))


@public
def binary_crossentropy(target, output, from_logits=False):
    """Returns `-(target * log(output) + (1 - target) * log(1 - output))` of each element.

    Probabilities are kept `epsilon()` away from 0 and 1.

    Args:
        target: Numbers from 0 to 1; tensor of the shape of `output`.
        output: Predicted probabilities, or logits.
        from_logits: Whether `output` holds logits.

    Returns:
        Tensor of the shape of `output`.

    Raises:
        ShapeError: If the shapes differ.

    Example:
        >>> import gpunet
        >>> gpunet.ops.binary_crossentropy([0.0, 1.0], [-1000.0, 1000.0], True).tolist()
        [0.0, 0.0]
    """
    target, output = _pair(target, output)
    if from_logits:
        return sigmoid_cross_entropy(output, target)
    small = epsilon()
    output = clip(output, small, 1.0 - small)
    return -(target * log(output) + (1 - target) * log(1 - output))
