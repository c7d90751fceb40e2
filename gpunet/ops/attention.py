"""Scaled dot-product attention in Keras's layout `(batch, length, heads, width)`.

Keys and values may have fewer heads than queries: each then serves a group of query heads
(Ainslie et al., "GQA", 2023). A query that no key is allowed for attends to all keys alike.

Source: Vaswani et al., "Attention Is All You Need", 2017; the gradient recomputes the weights from
the log-sum-exp of each row, as in Dao et al., "FlashAttention", 2022.
"""

import math

import numpy as np

from gpunet.backend import rng
from gpunet.backend.device import Device
from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import numpy_dtype, result_type
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.attention_launch import attention_grad_rule, attention_rule, has_kernel
from gpunet.ops.attention_native import attention_grad_native, attention_native
from gpunet.ops.elementwise import absolute, cast_to, exp, floating, logical_and, not_equal, where
from gpunet.ops.norm import wide, wide_tensor
from gpunet.ops.precision import statistics_dtype
from gpunet.ops.products import matmul
from gpunet.ops.random import dropout as drop
from gpunet.ops.reduce import sum
from gpunet.ops.rows import row_dot, shifted_exp
from gpunet.ops.shape import expand_dims, reshape, transpose
from gpunet.ops.softmax import softmax

__all__ = ["dot_product_attention"]

_AT_ONCE = 1 << 17  # scores in memory at once

# `others` are masks, and with a `dropout` rate above 0 last a seed of shape (2,), [seed, draw]: the
# weight of a pair is kept if its draw, numbered by its place in (batch, heads, length, keys), is
# not below the rate. The gradient draws again.
attention = Primitive("attention(q, k, v, *others, scale, causal, dropout) -> y, lse")
attention_grad = Primitive(
    "attention_grad(g, g_lse, q, k, v, y, lse, *others, scale, causal, dropout) -> dq, dk, dv"
)
attention.native(attention_native)
attention_grad.native(attention_grad_native)


def _split(others, rate):
    """Returns the masks and the seed, or None."""
    return (others[:-1], others[-1]) if rate else (others, None)


@attention.infer
def _(q, k, v, *others, scale, causal, dropout=0.0):
    batch, length, heads, _ = q.shape
    _check_shapes(q, k, v, *_split(others, dropout))
    row = Symbol((batch, heads, length), statistics_dtype(q.dtype))
    return Symbol((batch, length, heads, v.shape[3]), q.dtype), row


def _nbytes(*symbols):
    return int(np.sum([s.nbytes for s in symbols]))


def _flops(q, k, v, causal):
    """Of one product of scores with values and one of queries with keys."""
    batch, length, heads, width = q.shape
    return batch * heads * length * k.shape[1] * 2 * (width + v.shape[3]) // (1 + causal)


@attention.cost
def _(q, k, v, *others, causal, **attributes):
    y, lse = attention.rules["infer"](q, k, v, *others, causal=causal, **attributes)
    return _nbytes(q, k, v, *others, y, lse), _flops(q, k, v, causal)


@attention_grad.infer
def _(g, g_lse, q, k, v, y, lse, *others, scale, causal, dropout=0.0):
    return tuple(Symbol(x.shape, x.dtype) for x in (q, k, v))


@attention_grad.cost
def _(g, g_lse, q, k, v, *others, causal, **attributes):  # scores again, and four products
    nbytes = _nbytes(g, g_lse, q, k, v, *others, q, k, v)
    return nbytes, 5 * _flops(q, k, v, causal) // 2


@attention.vjp
def _(g, q, k, v, y, lse, others, **attributes):
    grads = attention_grad(*g, q, k, v, y, lse, *others, **attributes)
    return (*grads, *[None] * len(others))


def _check_shapes(q, k, v, mask, seed=None):
    batch, length, heads, width = q.shape
    if k.shape[:3] != v.shape[:3] or k.shape[0] != batch or k.shape[3] != width:
        raise ShapeError(
            "key needs the batch and width of query, value the batch, length and heads of key. "
            + received(query=q.shape, key=k.shape, value=v.shape)
        )
    if not k.shape[2] or heads % k.shape[2]:
        raise ShapeError(
            "the heads of query must be a multiple of the heads of key. "
            + received(query=q.shape, key=k.shape)
        )
    if seed is not None and seed.shape != (2,):
        raise ShapeError(f"A seed has the shape (2,): [seed, draw]. {received(seed=seed.shape)}")
    full = (batch, heads, length, k.shape[1])
    for m in mask:
        if len(m.shape) != 4 or any(d not in (1, n) for d, n in zip(m.shape, full, strict=True)):
            raise ShapeError(
                f"mask must broadcast to (batch, heads, query length, key length) = {full}. "
                + received(mask=m.shape)
            )


# -- array code: heads in groups, (batch, key heads, group, length, width) ---------------------


_FLOOR = -(2.0**127)  # the score of a pair that is not allowed: huge, and exact in float32


def _grouped(xp, x, heads):
    """(B, T, N, H) to (B, K, N / K, T, H): a view."""
    batch, length, all_heads, width = x.shape
    x = x.reshape(batch, length, heads, all_heads // heads, width)
    return x.transpose(0, 2, 3, 1, 4)


def _ungrouped(xp, x):
    batch, heads, group, length, width = x.shape
    return xp.ascontiguousarray(x.transpose(0, 3, 1, 2, 4)).reshape(
        batch, length, heads * group, width
    )


def _allowed(xp, mask, causal, heads, group, lengths):
    """Returns which pairs are allowed, broadcasting to grouped scores; `None` for all."""
    allowed = xp.tri(*lengths, dtype=bool) if causal else None
    for m in mask:
        m = m[:, :, None] if m.shape[1] == 1 else m.reshape(m.shape[0], heads, group, *m.shape[2:])
        allowed = m if allowed is None else allowed & m
    return allowed


def _addend(xp, mask, causal, heads, group, lengths, dtype):
    """0 where a pair is allowed, `_FLOOR` where not; `None` where all are.

    Adding is faster than choosing, and scores vanish beside the floor: a row of them is uniform.
    """
    allowed = _allowed(xp, mask, causal, heads, group, lengths)
    return None if allowed is None else xp.where(allowed, dtype.type(0), dtype.type(_FLOOR))


def _scores(xp, q, k, addend, scale):
    scores = xp.matmul(q * scale, k.swapaxes(-1, -2))
    if addend is not None:
        scores += addend
    return scores


@attention.cuda
def _(q, k, v, *others, **attributes):
    mask, seed = _split(others, attributes.get("dropout", 0.0))
    _check_shapes(q, k, v, mask, seed)
    if not has_kernel(q, k, v):  # empty, float64, or a width that no kernel is made for
        return attention.rules["array"](_array_module(q), q, k, v, *others, **attributes)
    return attention_rule(q, k, v, mask, seed, **attributes)


def _array_module(x):
    return np if isinstance(x, np.ndarray) else Device("cuda").xp


@attention.array
def _(xp, q, k, v, *others, scale, causal, dropout=0.0):
    mask, seed = _split(others, dropout)
    _check_shapes(q, k, v, mask, seed)
    heads, group = k.shape[2], q.shape[2] // k.shape[2]
    dtype, shape = q.dtype, (q.shape[0], q.shape[2], q.shape[1])
    qs, ks, vs = (_grouped(xp, wide(x), heads) for x in (q, k, v))
    addend = _addend(xp, mask, causal, heads, group, (q.shape[1], k.shape[1]), qs.dtype)
    if not k.shape[1]:
        y = xp.zeros((*q.shape[:3], v.shape[3]), dtype)
        return y, xp.full(shape, -np.inf, qs.dtype)
    scores = _scores(xp, qs, ks, addend, scale)
    top = xp.max(scores, -1, keepdims=True)
    p = xp.exp(scores - top)
    total = xp.sum(p, -1, keepdims=True)
    p /= total
    lse = (xp.log(total) + top).reshape(shape)
    p = _dropped(xp, p, seed, dropout)
    return _ungrouped(xp, xp.matmul(p, vs)).astype(dtype), lse


def _dropped(xp, p, seed, rate):
    """Dropout of weights, or of their gradients."""
    return p if seed is None else drop.rules["array"](xp, p, seed, rate, p.shape)


@attention.cpu
def _(q, k, v, *others, scale, causal, dropout=0.0):
    mask, seed = _split(others, dropout)
    _check_shapes(q, k, v, mask, seed)
    batch, length, all_heads, _ = q.shape
    heads, group = k.shape[2], all_heads // k.shape[2]
    keys = k.shape[1]
    if not (q.size and k.size and v.size):
        return attention.rules["array"](
            np, q, k, v, *others, scale=scale, causal=causal, dropout=dropout
        )
    kept = _keeper(seed, dropout)
    y = np.empty((batch, length, all_heads, v.shape[3]), q.dtype)
    lse = np.empty((batch, heads, group, length), statistics_dtype(q.dtype))
    for part in _batches(batch, all_heads * length * keys):
        qs, ks, vs = (_grouped(np, wide(x[part]), heads) for x in (q, k, v))
        lengths = (length, keys)
        addend = _addend(np, _masks(mask, part), causal, heads, group, lengths, qs.dtype)
        scores = _scores(np, qs, ks, addend, scale)
        p, total, top = shifted_exp(scores.reshape(-1, keys))
        p = p.reshape(scores.shape)
        if kept is not None:
            p *= kept(p)
        out = np.matmul(p, vs)
        out /= total.reshape(*out.shape[:-1], 1)
        y[part] = _ungrouped(np, out)
        lse[part] = (np.log(total) + top).reshape(lse[part].shape)
    return y, lse.reshape(batch, all_heads, length)


def _keeper(seed, rate):
    """Returns what draws the factors of dropout, for one slice of the batch after the other."""
    if seed is None:
        return None
    draws = rng.generator(int(seed[0]), int(seed[1]))

    def factors(p):
        keep = draws.random(p.shape, np.float32) >= np.float32(rate)
        return keep.astype(p.dtype) * p.dtype.type(1 / (1 - rate))

    return factors


def _batches(batch, scores):
    step = max(1, _AT_ONCE // max(scores, 1))
    return [slice(i, i + step) for i in range(0, batch, step)]


def _masks(mask, part):
    return [m if m.shape[0] == 1 else m[part] for m in mask]


def _pull(xp, g, g_lse, q, k, v, y, lse, mask, scale, causal, factors=None):
    """Returns dq, dk, dv; `factors(p)` are those of dropout."""
    heads, group = k.shape[2], q.shape[2] // k.shape[2]
    gs, qs, ks, vs, ys = (_grouped(xp, wide(x), heads) for x in (g, q, k, v, y))
    addend = _addend(xp, mask, causal, heads, group, (q.shape[1], k.shape[1]), qs.dtype)
    rows = (q.shape[0], heads, group, q.shape[1], 1)
    lse, g_lse = wide(lse).reshape(rows), wide(g_lse).reshape(rows)
    p = _scores(xp, qs, ks, addend, scale)  # the weights again, from the log-sum-exp of each row
    p -= lse
    p = xp.exp(p, out=p)
    lost = None if addend is None else lse < _FLOOR / 2
    if lost is not None:  # where no key was allowed the floor has swallowed log(keys)
        p *= xp.where(lost, lse.dtype.type(1 / k.shape[1]), lse.dtype.type(1))
    factor = None if factors is None else factors(p)
    dropped = p if factor is None else p * factor
    dv = _over_group(xp, xp.matmul(dropped.swapaxes(-1, -2), gs))
    inner = row_dot(gs, ys)[..., None] if xp is np else xp.sum(gs * ys, -1, keepdims=True)
    ds = xp.matmul(gs, vs.swapaxes(-1, -2))
    if factor is not None:
        ds *= factor
    ds -= inner - g_lse
    ds *= p
    ds *= scale if lost is None else xp.where(lost, 0, scale).astype(ds.dtype)
    dq = xp.matmul(ds, ks)
    dk = _over_group(xp, xp.matmul(ds.swapaxes(-1, -2), qs))
    return tuple(
        _ungrouped(xp, d).astype(x.dtype, copy=False)
        for d, x in zip((dq, dk, dv), (q, k, v), strict=True)
    )


def _over_group(xp, d):
    return d if d.shape[2] == 1 else xp.sum(d, 2, keepdims=True)


@attention_grad.cuda
def _(g, g_lse, q, k, v, y, lse, *others, **attributes):
    mask, seed = _split(others, attributes.get("dropout", 0.0))
    if not has_kernel(q, k, v):  # empty, float64, or a width that no kernel is made for
        given = (g, g_lse, q, k, v, y, lse, *others)
        return attention_grad.rules["array"](_array_module(q), *given, **attributes)
    return attention_grad_rule(g, g_lse, q, k, v, y, lse, mask, seed, **attributes)


@attention_grad.array
def _(xp, g, g_lse, q, k, v, y, lse, *others, scale, causal, dropout=0.0):
    mask, seed = _split(others, dropout)
    if not k.shape[1]:
        return tuple(xp.zeros(x.shape, x.dtype) for x in (q, k, v))
    factors = None if seed is None else lambda p: _dropped(xp, xp.ones_like(p), seed, dropout)
    return _pull(xp, g, g_lse, q, k, v, y, lse, mask, scale, causal, factors)


@attention_grad.cpu
def _(g, g_lse, q, k, v, y, lse, *others, scale, causal, dropout=0.0):
    mask, seed = _split(others, dropout)
    if not (q.size and k.size and v.size):
        return tuple(np.zeros(x.shape, x.dtype) for x in (q, k, v))
    dq, dk, dv = np.empty(q.shape, q.dtype), np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype)
    kept = _keeper(seed, dropout)
    for part in _batches(q.shape[0], q.shape[1] * q.shape[2] * k.shape[1]):
        here = tuple(x[part] for x in (g, g_lse, q, k, v, y, lse))
        settings = {"mask": _masks(mask, part), "scale": scale, "causal": causal, "factors": kept}
        pulled = _pull(np, *here, **settings)
        dq[part], dk[part], dv[part] = pulled
    return dq, dk, dv


@attention_grad.composite
def _(g, g_lse, q, k, v, y, lse, *others, scale, causal, dropout=0.0):
    mask, seed = _split(others, dropout)
    heads, group = k.shape[2], q.shape[2] // k.shape[2]
    allowed = _allowed_tensor(mask, causal, heads, group, (q.shape[1], k.shape[1]), q)
    gs, qs, ks, vs, ys = (_grouped_tensor(wide_tensor(x), heads) for x in (g, q, k, v, y))
    rows = (q.shape[0], heads, group, q.shape[1], 1)
    lse, g_lse = reshape(wide_tensor(lse), rows), reshape(wide_tensor(g_lse), rows)
    scores = matmul(qs * scale, _swapped(ks))
    if allowed is None:
        p = exp(scores - lse)
    else:
        lost = lse < _FLOOR / 2
        p = exp(where(allowed, scores, _FLOOR) - where(lost, 0.0, lse))
        p = where(lost, 1 / p.shape[-1], p)
    dp, dropped = matmul(gs, _swapped(vs)), p
    if seed is not None:
        dp, dropped = (drop(x, seed, rate=dropout, shape=p.shape) for x in (dp, p))
    ds = (dp - sum(gs * ys, -1, keepdims=True) + g_lse) * p * scale
    if allowed is not None:
        ds = where(allowed, ds, 0.0)
    dv = sum(matmul(_swapped(dropped), gs), 2, keepdims=True)
    dk = sum(matmul(_swapped(ds), qs), 2, keepdims=True)
    pulled = zip((matmul(ds, ks), dk, dv), (q, k, v), strict=True)
    return tuple(
        cast_to(reshape(transpose(d, (0, 3, 1, 2, 4)), x.shape), x.dtype) for d, x in pulled
    )


def _grouped_tensor(x, heads):
    batch, length, all_heads, width = x.shape
    x = reshape(x, (batch, length, heads, all_heads // heads, width))
    return transpose(x, (0, 2, 3, 1, 4))


def _swapped(x):
    axes = list(range(x.ndim))
    return transpose(x, (*axes[:-2], axes[-1], axes[-2]))


def _causal_tensor(lengths, like: Tensor) -> Tensor:
    with like.device.activate():
        return Tensor(like.device.xp.tri(*lengths, dtype=bool), like.device)


def _allowed_tensor(mask, causal, heads, group, lengths, like):
    allowed = _causal_tensor(lengths, like) if causal else None
    for m in mask:
        one = m.shape[1] == 1
        m = expand_dims(m, 2) if one else reshape(m, (m.shape[0], heads, group, *m.shape[2:]))
        allowed = m if allowed is None else logical_and(allowed, m)
    return allowed


# -- public ---------------------------------------------------------------------------------------


def _four_axes(x, name, heads):
    """A bias or mask as a tensor of four axes."""
    if x.ndim == 3:
        x = expand_dims(x, 2 if x.shape[1] == heads and x.shape[0] != 1 else 1)
    while x.ndim < 4:
        x = expand_dims(x, 0)
    if x.ndim > 4:
        raise ShapeError(f"`{name}` has four axes at most. {received(shape=x.shape)}")
    return x


def _biased(query, key, value, bias, mask, scale, causal, cap, rate, seed):
    """Attention in smaller ops, for scores that are changed before the softmax."""
    heads, group = key.shape[2], query.shape[2] // key.shape[2]
    lengths = (query.shape[1], key.shape[1])
    qs, ks, vs = (_grouped_tensor(wide_tensor(x), heads) for x in (query, key, value))
    scores = matmul(qs, _swapped(ks)) * scale
    if bias is not None:
        bias = wide_tensor(bias)
        one = bias.shape[1] == 1
        shape = (bias.shape[0], heads, group, *bias.shape[2:])
        scores = scores + (expand_dims(bias, 2) if one else reshape(bias, shape))
    if cap is not None:
        scores = scores / (1.0 + absolute(scores) / float(cap))
    allowed = _allowed_tensor(mask, causal, heads, group, lengths, query)
    if allowed is not None:
        scores = where(allowed, scores, _FLOOR)
    p = softmax(scores, axis=-1)
    if rate:
        p = drop(p, seed, rate=rate, shape=p.shape)
    y = matmul(p, vs)
    shape = (*query.shape[:3], value.shape[3])
    return cast_to(reshape(transpose(y, (0, 3, 1, 2, 4)), shape), query.dtype)


def _seeds(rate, seed, device):
    """The seed of dropout as a list of one tensor, or of none."""
    if not 0 <= rate < 1:
        raise ArgumentError(
            f"`dropout` must be a number from 0 to below 1. {received(dropout=rate)}"
        )
    if not rate:
        return []
    if seed is None:
        raise ArgumentError(
            "`dropout` needs a `seed`, a tensor of shape (2,), such as "
            f"`gpunet.random.SeedGenerator(7).next()`. {received(dropout=rate, seed=seed)}"
        )
    return [cast_to(as_tensor(seed, device=device), np.dtype(np.uint32))]


@public
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
    *,
    dropout=0.0,
    seed=None,
):
    """Returns `softmax(query @ key^T * scale + bias) @ value` for each head.

    Scores and softmax are computed in float32 for halves. A query that no key is allowed for
    attends to all keys alike, as in Keras.

    Source: Vaswani et al., "Attention Is All You Need", 2017.

    Args:
        query: Tensor of shape `(batch, query length, heads, width)`.
        key: Tensor of shape `(batch, key length, key heads, width)`; the heads are a multiple of
            the key heads.
        value: Tensor of shape `(batch, key length, key heads, value width)`.
        bias: Added to the scores; broadcasts to `(batch, heads, query length, key length)`.
        mask: Bool tensor that broadcasts likewise: which keys a query may attend to.
        scale: Number; default `1 / sqrt(width)`.
        is_causal: Whether a query may not attend to later keys.
        flash_attention: Whether scores are never stored; `None` chooses. Not with `bias` or
            `attn_logits_soft_cap`.
        attn_logits_soft_cap: Number `c` that turns scores into `s / (1 + abs(s) / c)`.
        dropout: Share of the weights that are set to 0, the others divided by `1 - dropout`; from
            0 to below 1. Nothing is stored for the backward pass.
        seed: Tensor of shape `(2,)`, `[seed, draw]`, that names the numbers dropout draws.

    Returns:
        Tensor of shape `(batch, query length, heads, value width)`.

    Raises:
        ShapeError: If the shapes do not go together.
        ArgumentError: If `flash_attention` is asked for where it cannot be, or `dropout` is out of
            range or has no `seed`.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.ones((1, 2, 1, 4))
        >>> gpunet.ops.dot_product_attention(x, x, x).shape
        (1, 2, 1, 4)
    """
    query, key, value = floating(query), floating(key), floating(value)
    if not query.ndim == key.ndim == value.ndim == 4:
        raise ShapeError(
            "`dot_product_attention` only supports 4D inputs: (batch, length, heads, width). "
            + received(query=query.shape, key=key.shape, value=value.shape)
        )
    dtype = numpy_dtype(result_type(query.dtype, key.dtype, value.dtype))
    query, key, value = (cast_to(x, dtype) for x in (query, key, value))
    scale = 1.0 / math.sqrt(max(query.shape[3], 1)) if scale is None else float(scale)
    seeds = _seeds(dropout, seed, query.device)
    masks = []
    if mask is not None:
        mask = as_tensor(mask, device=query.device)
        mask = mask if mask.dtype == bool else not_equal(mask, 0)
        masks.append(_four_axes(mask, "mask", query.shape[2]))
    composed = bias is not None or attn_logits_soft_cap is not None
    if composed and flash_attention:
        raise ArgumentError(
            "Flash attention has neither a bias nor a soft cap; leave `flash_attention` out. "
            + received(flash_attention=flash_attention)
        )
    causal, rate = bool(is_causal), float(dropout)
    if not composed:
        others = (*masks, *seeds)
        return attention(query, key, value, *others, scale=scale, causal=causal, dropout=rate)[0]
    if bias is not None:
        bias = cast_to(as_tensor(bias, device=query.device), dtype)
        bias = _four_axes(bias, "bias", query.shape[2])
    _check_shapes(query, key, value, [*masks, *([] if bias is None else [bias])])
    cap = attn_logits_soft_cap
    return _biased(query, key, value, bias, masks, scale, causal, cap, rate, *seeds or [None])
