"""Cross-entropy of softmax with integer labels: the loss, its gradient, and both at once.

The gradient is one subtraction: `softmax(logits) - [c == label]`.
"""

import functools
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.creation import zeros_like
from gpunet.ops.cross_entropy_launch import sparse_grad_rule, sparse_rule, sparse_with_grad_rule
from gpunet.ops.cross_entropy_native import labels_native, pick_native, place_native
from gpunet.ops.elementwise import cast_to, equal, exp, not_equal
from gpunet.ops.index_launch import pick_rule, place_rule
from gpunet.ops.precision import is_half, statistics_dtype
from gpunet.ops.rows import as_rows, row_sum, shifted_exp
from gpunet.ops.shape import broadcast_to, expand_dims
from gpunet.ops.softmax import shifted


@functools.lru_cache(maxsize=64)
def _count(n):
    return np.arange(n)


def wide(x: Any) -> Any:
    """Returns an array with halves as float32."""
    return x.astype(np.float32) if is_half(x.dtype) else x


def checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns labels as indices, or raises ArgumentError naming the first that is out of range."""
    labels = labels.astype(np.intp)
    wrong = labels.view(np.uintp) >= classes  # negative ones are huge here
    if wrong.any():
        label = int(labels[wrong].flat[0])
        raise ArgumentError(
            f"Labels of {classes} classes are integers from 0 to {classes - 1}. "
            + received(label=label, count=int(wrong.sum()))
        )
    return labels


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    xp = labels.device.xp
    with labels.device.activate():
        each = Tensor(xp.arange(classes, dtype=labels.dtype), labels.device)
    return equal(expand_dims(labels, -1), each)


# -- the element of each row that its label names -------------------------------------------------

pick = Primitive("pick(x, labels) -> y")
pick.infer(lambda x, labels: Symbol(labels.shape, x.dtype))
pick.cuda(pick_rule)
pick.native(pick_native)
pick.vjp(lambda g, x_shape, labels: (place(g, labels, classes=x_shape[-1]), None))

place = Primitive("place(y, labels, *, classes) -> x")
place.infer(lambda y, labels, classes: Symbol((*y.shape, classes), y.dtype))
place.cuda(place_rule)
place.native(place_native)
place.vjp(lambda g, labels, classes: (pick(g, labels), None))
place.composite(
    lambda y, labels, classes: expand_dims(y, -1) * cast_to(_one_hot(labels, classes), y.dtype)
)


@pick.array
def _(xp, x, labels):
    if xp is np:
        index = checked_labels(np.asarray(labels), x.shape[-1])
        return np.take_along_axis(x, index[..., None], -1)[..., 0]
    wrong = (labels < 0) | (labels >= x.shape[-1])
    picked = xp.take_along_axis(x, xp.where(wrong, 0, labels)[..., None], -1)[..., 0]
    return xp.where(wrong, np.nan, picked).astype(x.dtype)


@place.array
def _(xp, y, labels, classes):
    hot = xp.asarray(labels)[..., None] == xp.arange(classes, dtype=labels.dtype)
    return xp.where(hot, xp.asarray(y)[..., None], xp.zeros((), y.dtype))


# -- softmax and integer labels -------------------------------------------------------------------

# A row whose label is `ignore_index` has loss 0. With `label_smoothing` s the target is 1 - s at
# the label plus s / classes everywhere.
softmax_cross_entropy = Primitive(
    "softmax_cross_entropy(logits, labels, *, ignore_index, label_smoothing) -> loss, lse"
)
softmax_cross_entropy_grad = Primitive(
    "softmax_cross_entropy_grad(g, g_lse, logits, labels, lse, *, ignore_index, label_smoothing)"
    " -> dlogits"
)

softmax_cross_entropy.cuda(sparse_rule)
softmax_cross_entropy_grad.cuda(sparse_grad_rule)
softmax_cross_entropy.native(labels_native("sparse", 0))
softmax_cross_entropy_grad.native(labels_native("sparse_grad", 2, ((0, 2),)))


def _without_ignored(xp, labels, ignore_index):
    """Returns labels with those to be ignored replaced by 0, and where the others are."""
    labels = xp.asarray(labels)
    if ignore_index is None:
        return labels, None
    counted = labels != ignore_index
    return xp.where(counted, labels, xp.zeros((), labels.dtype)), counted


@softmax_cross_entropy.infer
def _(logits, labels, ignore_index=None, label_smoothing=0.0):
    if labels.shape != logits.shape[:-1]:
        raise ShapeError("one label for each row of logits")
    shape = labels.shape
    return Symbol(shape, logits.dtype), Symbol(shape, statistics_dtype(logits.dtype))


@softmax_cross_entropy.vjp
def _(g, logits, labels, lse, ignore_index=None, label_smoothing=0.0):
    settings = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    return softmax_cross_entropy_grad(*g, logits, labels, lse, **settings), None


@softmax_cross_entropy.array
def _(xp, logits, labels, ignore_index=None, label_smoothing=0.0):
    labels, counted = _without_ignored(xp, labels, ignore_index)
    x = wide(logits)
    _, total, top = shifted(xp, x, -1)
    height = xp.log(total)[..., 0]
    loss = height - _smoothed(xp, x - top, labels, label_smoothing)
    if counted is not None:
        loss = xp.where(counted, loss, 0)
    return loss.astype(logits.dtype), height + top[..., 0]


def _smoothed(xp, x, labels, amount):
    """The mean of each row of `x` under its smoothed target."""
    picked = pick.rules["array"](xp, x, labels)
    if not amount:
        return picked
    return (1 - amount) * picked + amount * xp.mean(x, -1)


@softmax_cross_entropy.cpu
def _(logits, labels, ignore_index=None, label_smoothing=0.0):
    shape = logits.shape[:-1]
    if not logits.size:
        return np.zeros(shape, logits.dtype), np.zeros(shape, statistics_dtype(logits.dtype))
    return _rows(logits, labels, ignore_index, label_smoothing)[:2]


def _rows(logits, labels, ignore_index, label_smoothing):
    """The losses of all rows, and what their gradient starts from.

    Returns:
        loss, lse, the labels as indices, which rows count (None: all), and as rows and columns:
        `exp(logits - max)` and its sums.
    """
    shape, columns = logits.shape[:-1], logits.shape[-1]
    labels, counted = _without_ignored(np, labels, ignore_index)
    x = as_rows(wide(logits), columns)
    index = checked_labels(labels, columns).reshape(-1)
    power, total, top = shifted_exp(x)
    height, top = np.log(total[:, 0]), top[:, 0]
    picked = x[_count(len(x)), index] - top
    if label_smoothing:
        picked *= 1 - label_smoothing
        picked += label_smoothing * (row_sum(x) / columns - top)
    loss = (height - picked).astype(logits.dtype, copy=False).reshape(shape)
    if counted is not None:
        loss = np.where(counted, loss, np.zeros((), loss.dtype))
    return loss, (height + top).reshape(shape), index, counted, power, total


@softmax_cross_entropy_grad.infer
def _(g, g_lse, x, labels, lse, ignore_index=None, label_smoothing=0.0):
    return Symbol(x.shape, x.dtype)


@softmax_cross_entropy_grad.array
def _(xp, g, g_lse, logits, labels, lse, ignore_index=None, label_smoothing=0.0):
    labels, counted = _without_ignored(xp, labels, ignore_index)
    g, labels = wide(xp.asarray(g)), labels[..., None]
    if counted is not None:
        g = xp.where(counted, g, xp.zeros((), g.dtype))
    p = xp.exp(wide(logits) - xp.asarray(lse)[..., None]) * (g + g_lse)[..., None]
    hot = labels == xp.arange(logits.shape[-1], dtype=labels.dtype)
    dx = p - xp.where(hot, g[..., None] * (1 - label_smoothing), 0)
    if label_smoothing:
        dx -= g[..., None] * (label_smoothing / max(logits.shape[-1], 1))
    if xp is not np:  # labels that do not exist: NumPy's rule of the loss has refused them
        dx = xp.where((labels < 0) | (labels >= logits.shape[-1]), np.nan, dx)
    return dx.astype(logits.dtype)


@softmax_cross_entropy_grad.cpu
def _(g, g_lse, logits, labels, lse, ignore_index=None, label_smoothing=0.0):
    if not logits.size:
        return np.zeros(logits.shape, logits.dtype)
    labels, counted = _without_ignored(np, labels, ignore_index)
    g = wide(np.asarray(g)).reshape(-1)
    if counted is not None:
        g = g * counted.reshape(-1)
    x = as_rows(wide(logits), logits.shape[-1])
    dx = x - np.asarray(lse).reshape(-1, 1)
    np.exp(dx, out=dx)
    dx *= (g + np.asarray(g_lse).reshape(-1))[:, None]
    if label_smoothing:
        dx -= (g * (label_smoothing / logits.shape[-1]))[:, None]
        g = g * (1 - label_smoothing)
    dx[_count(len(x)), labels.reshape(-1)] -= g
    return dx.astype(logits.dtype, copy=False).reshape(logits.shape)


@softmax_cross_entropy_grad.composite
def _(g, g_lse, logits, labels, lse, ignore_index=None, label_smoothing=0.0):
    dtype, classes = logits.dtype, logits.shape[-1]
    g, logits = cast_to(g, lse.dtype), cast_to(logits, lse.dtype)
    if ignore_index is not None:
        counted = not_equal(labels, ignore_index)
        g, labels = g * cast_to(counted, lse.dtype), labels * cast_to(counted, labels.dtype)
    p = exp(logits - expand_dims(lse, -1)) * expand_dims(g + g_lse, -1)
    if label_smoothing:
        p = p - expand_dims(g * (label_smoothing / max(classes, 1)), -1)
        g = g * (1 - label_smoothing)
    return cast_to(p - place(g, labels, classes=classes), dtype)


# -- both at once ---------------------------------------------------------------------------------

# `dlogits` is that of `sum(loss) * scale`: `scale` is a number in an array without axes, as the
# mean of a batch has it, in any float dtype. `gpunet.compile` puts it where both are asked for.
softmax_cross_entropy_with_grad = Primitive(
    "softmax_cross_entropy_with_grad(logits, labels, scale, *, ignore_index, label_smoothing)"
    " -> loss, lse, dlogits"
)
softmax_cross_entropy_with_grad.cuda(sparse_with_grad_rule)
softmax_cross_entropy_with_grad.native(labels_native("sparse_with_grad", 0))


@softmax_cross_entropy_with_grad.infer
def _(logits, labels, scale, ignore_index=None, label_smoothing=0.0):
    if scale.shape != ():
        raise ShapeError("`scale` is one number, without axes")
    losses = softmax_cross_entropy.rules["infer"](logits, labels)
    return *losses, Symbol(logits.shape, logits.dtype)


@softmax_cross_entropy_with_grad.composite
def _(logits, labels, scale, **settings):
    loss, lse = softmax_cross_entropy(logits, labels, **settings)
    g = broadcast_to(cast_to(scale, loss.dtype), loss.shape)
    dx = softmax_cross_entropy_grad(g, zeros_like(lse), logits, labels, lse, **settings)
    return loss, lse, dx


@softmax_cross_entropy_with_grad.cpu
def _(logits, labels, scale, ignore_index=None, label_smoothing=0.0):
    if not logits.size:
        losses = softmax_cross_entropy.rules["cpu"](logits, labels)
        return *losses, np.zeros(logits.shape, logits.dtype)
    rows = _rows(logits, labels, ignore_index, label_smoothing)
    loss, lse, index, counted, dx, total = rows  # one exp gives the losses and the gradient
    g = np.full(len(dx), scale, dx.dtype)
    if counted is not None:
        g *= counted.reshape(-1)
    dx *= g[:, None] / total
    if label_smoothing:
        dx -= (g * (label_smoothing / dx.shape[1]))[:, None]
        g *= 1 - label_smoothing
    dx[_count(len(dx)), index] -= g
    return loss, lse, dx.astype(logits.dtype, copy=False).reshape(logits.shape)
