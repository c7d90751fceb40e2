"""`einsum`: any sum of products, planned once for its shapes and run as BLAS matrix products.

An equation is brought to a plain form first: no ellipsis, no label twice in one operand, no axis of
length one that broadcasts. The primitive knows only that form. Its gradient is another einsum, in
which the cotangent takes the place of the operand.
"""

import functools
import math
import string
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.elementwise import cast_to
from gpunet.ops.matmul_launch import gpu_matmul, on_cublaslt, xp_of
from gpunet.ops.precision import widened
from gpunet.ops.products_native import einsum_plan
from gpunet.ops.shape import broadcast_to, reshape, same_dtype

__all__ = ["einsum"]

_INT8, _INT32 = np.dtype(np.int8), np.dtype(np.int32)

einsum_primitive = Primitive("einsum(*xs, equation) -> y")


# -- planning -----------------------------------------------------------------------------------


class _Operand(NamedTuple):
    """What is done to an operand before a product: sum axes, order them, merge them."""

    total: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]


class _Pair(NamedTuple):
    """How two operands, named by their places in the list, become one at its end."""

    places: tuple[int, int]
    first: _Operand
    second: _Operand
    kind: str  # "matmul", "multiply", or an equation: sums that are no matrix product
    shape: tuple[int, ...]


class _Plan(NamedTuple):
    """All pairs, and what is left to do with the last operand."""

    pairs: tuple[_Pair, ...]
    total: tuple[int, ...]
    order: tuple[int, ...]


@functools.lru_cache(maxsize=4096)
def _plan(equation: str, shapes: tuple[tuple[int, ...], ...]) -> _Plan:
    inputs, out = _split(equation)
    lengths = _lengths(inputs, shapes)
    pairs = []
    for i, j in _path(equation, shapes):
        others = [labels for k, labels in enumerate(inputs) if k not in (i, j)]
        if _backwards(inputs[i], inputs[j], out):
            i, j = j, i
        target = out if not others else ""
        pair, labels = _pair((i, j), inputs[i], inputs[j], set(out).union(*others), target, lengths)
        pairs.append(pair)
        inputs = [*others, labels]
    total = tuple([i for i, a in enumerate(inputs[0]) if a not in out])
    left = [a for a in inputs[0] if a in out]
    order = tuple([left.index(a) for a in out])
    return _Plan(tuple(pairs), total, order if order != tuple(range(len(order))) else ())


def _split(equation: str) -> tuple[list[str], str]:
    left, out = equation.split("->")
    return left.split(","), out


def _lengths(inputs, shapes):
    lengths: dict[str, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        lengths.update(zip(labels, shape, strict=True))
    return lengths


def _path(equation, shapes) -> Iterator[tuple[int, int]]:
    """Places of two operands at a time, in the order of contraction; the result goes last."""
    if len(shapes) == 2:
        yield 0, 1
    if len(shapes) <= 2:
        return
    stand_ins = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    strategy = "optimal" if len(shapes) <= 5 else "greedy"
    count = len(shapes)
    for step in np.einsum_path(equation, *stand_ins, optimize=strategy)[0][1:]:
        places = sorted(step)
        later = places.pop()
        while places:  # NumPy leaves a step of several operands where the order does not matter
            yield places.pop(), later
            count -= 1
            later = count - 1


def _backwards(first, second, out):
    """Whether the result needs no transpose if the operands change places."""
    free1 = [out.index(a) for a in first if a in out and a not in second]
    free2 = [out.index(a) for a in second if a in out and a not in first]
    return bool(free1 and free2) and min(free2) < min(free1)


def _pair(places, first, second, kept, target, lengths):
    total1, one = _summed(first, second, kept)
    total2, two = _summed(second, first, kept)
    shared = [a for a in one if a in two]
    batch = [a for a in target or one if a in shared and a in kept]
    inner = [a for a in shared if a not in kept]
    free1, free2 = [[a for a in side if a not in shared] for side in (one, two)]

    def operand(total, labels, groups):
        order = tuple([labels.index(a) for group in groups for a in group if a in labels])
        shape = [math.prod([lengths[a] for a in group if a in labels]) for group in groups]
        return _Operand(total, order, tuple(shape))

    if not inner:  # an outer product: align the axes, then multiply
        labels = list(target) or [*batch, *free1, *free2]
        sides = operand(total1, one, labels), operand(total2, two, labels)
        return _Pair(places, *sides, "multiply", ()), labels
    if not free1 and not free2:
        equation = f"{''.join(one)},{''.join(two)}->{''.join(batch)}"
        sides = _Operand(total1, (), ()), _Operand(total2, (), ())
        return _Pair(places, *sides, equation, ()), batch
    # The axes summed over merge without a copy in one of the operands: let it be the larger.
    if math.prod([lengths[a] for a in two]) > math.prod([lengths[a] for a in one]):
        inner = [a for a in two if a in inner]
    sides = (
        operand(total1, one, [*batch, free1, inner]),
        operand(total2, two, [*batch, inner, free2]),
    )
    labels = [*batch, *free1, *free2]
    return _Pair(places, *sides, "matmul", tuple([lengths[a] for a in labels])), labels


def _summed(labels, other, kept):
    """Axes that only this operand has and nobody needs, and the labels that are left."""
    alone = [a not in other and a not in kept for a in labels]
    total = tuple([i for i, gone in enumerate(alone) if gone])
    return total, [a for a, gone in zip(labels, alone, strict=True) if not gone]


# -- the primitive ------------------------------------------------------------------------------


def _einsum(xp, *xs, equation):
    plan = _plan(equation, tuple([x.shape for x in xs]))
    operands = list(xs)
    for pair in plan.pairs:
        i, j = pair.places
        y = _multiplied(xp, pair, operands[i], operands[j])
        operands = [x for k, x in enumerate(operands) if k != i and k != j]
        operands.append(y)
    y = operands[0]
    if plan.total:
        y = y.sum(plan.total, y.dtype)
    return y.transpose(plan.order) if plan.order else y


_einsum_wide = widened(_einsum)
einsum_primitive.array(_einsum_wide)
einsum_primitive.native(einsum_plan)


@einsum_primitive.cuda
def _(*xs, equation):
    pairs = _plan(equation, tuple([x.shape for x in xs])).pairs
    if on_cublaslt(xs[0]) and all(pair.kind == "matmul" for pair in pairs):
        return _einsum(xp_of(xs[0]), *xs, equation=equation)
    return _einsum_wide(xp_of(xs[0]), *xs, equation=equation)


def _multiplied(xp, pair, x1, x2):
    if pair.first.total:
        x1 = x1.sum(pair.first.total, x1.dtype)
    if pair.second.total:
        x2 = x2.sum(pair.second.total, x2.dtype)
    if pair.kind not in ("matmul", "multiply"):
        return xp.einsum(pair.kind, x1, x2)
    x1 = x1.transpose(pair.first.order).reshape(pair.first.shape)
    x2 = x2.transpose(pair.second.order).reshape(pair.second.shape)
    if pair.kind == "multiply":
        return x1 * x2
    if on_cublaslt(x1):
        return gpu_matmul(x1, x2).reshape(pair.shape)
    y = x1.dot(x2) if x1.ndim == 2 else xp.matmul(x1, x2)
    return y.reshape(pair.shape)


@einsum_primitive.infer
def _(*xs, equation):
    inputs, out = _split(equation)
    lengths = _lengths(inputs, [x.shape for x in xs])
    return Symbol([lengths[a] for a in out], xs[0].dtype)


@einsum_primitive.cost
def _(*xs, equation):
    y = einsum_primitive.rules["infer"](*xs, equation=equation)
    inputs, _ = _split(equation)
    products = math.prod(_lengths(inputs, [x.shape for x in xs]).values())
    return sum(x.nbytes for x in (*xs, y)), len(xs) * products


@einsum_primitive.vjp
def _(g, xs, needs, equation):
    inputs, out = _split(equation)
    return tuple([_pull(g, xs, i, inputs, out) if needs[i] else None for i in range(len(xs))])


def _pull(g, xs, i, inputs, out):
    others, labels = inputs[:i] + inputs[i + 1 :], inputs[i]
    present = set(out).union(*others)
    found = "".join([a for a in labels if a in present])
    equation = f"{','.join([out, *others])}->{found}"
    y = einsum_primitive(g, *xs[:i], *xs[i + 1 :], equation=equation)
    if found == labels:
        return y
    # Axes that were only summed over: each element has the same cotangent.
    shape = xs[i].shape
    lengths = [n if a in present else 1 for a, n in zip(labels, shape, strict=True)]
    return broadcast_to(reshape(y, lengths), shape)


def contract(x1: Tensor, x2: Tensor, axes1: tuple[int, ...], axes2: tuple[int, ...]) -> Tensor:
    """Returns the sums of products of two tensors of one dtype over pairs of axes.

    Raises:
        ShapeError: If the lengths of a pair differ.
    """
    lengths1, lengths2 = [x1.shape[a] for a in axes1], [x2.shape[a] for a in axes2]
    if lengths1 != lengths2:
        raise ShapeError(
            "The axes that are summed over must have equal lengths. "
            + received(x1=x1.shape, axes1=axes1, x2=x2.shape, axes2=axes2)
        )
    letters = iter(string.ascii_letters)
    first = [next(letters) for _ in x1.shape]
    second = [next(letters) for _ in x2.shape]
    for a, b in zip(axes1, axes2, strict=True):
        second[b] = first[a]
    out = [a for i, a in enumerate(first) if i not in axes1]
    out += [a for i, a in enumerate(second) if i not in axes2]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(out)}"
    return einsum_primitive(x1, x2, equation=equation)


# -- the public op ------------------------------------------------------------------------------


@public
def einsum(subscripts, *operands, optimize=True):
    """Returns the sum of products that an equation in Einstein's notation describes.

    Axes with the same letter are multiplied along each other, and letters that are not in the
    result are summed over: `einsum("ij,jk->ik", a, b)` is the matrix product. A letter twice in one
    operand takes its diagonal; `...` stands for any axes that broadcast; without `->` the result
    has the letters that occur once, sorted. The order of the products is planned once for each
    equation and shapes.

    Args:
        subscripts: The equation.
        *operands: A tensor for each part of the left side.
        optimize: Accepted for NumPy and JAX; the order is always planned.

    Returns:
        Tensor of the operands' promoted dtype; int32 where all are int8.

    Raises:
        ArgumentError: If the equation is not understood.
        ShapeError: If an operand has not the axes it says, or lengths differ.

    Example:
        >>> import gpunet
        >>> gpunet.ops.einsum("ij,jk->ik", [[1.0, 2.0]], [[3.0], [4.0]]).tolist()
        [[11.0]]
        >>> gpunet.ops.einsum("ii", [[1.0, 2.0], [3.0, 4.0]]).item()
        5.0
    """
    if not isinstance(subscripts, str) or not operands:
        raise ArgumentError(
            "`einsum` needs an equation such as 'ij,jk->ik', and then its operands. "
            + received(subscripts=subscripts, operands=len(operands))
        )
    xs = same_dtype(operands)
    if xs[0].dtype == _INT8:
        xs = [cast_to(x, _INT32) for x in xs]
    equation, shapes, diagonals = _plain(subscripts, tuple([x.shape for x in xs]))
    xs = [x if s is None else reshape(x, s) for x, s in zip(xs, shapes, strict=True)]
    xs += [_unit_matrix(n, xs[0]) for n in diagonals]
    return einsum_primitive(*xs, equation=equation)


def _unit_matrix(n, like):
    with like.device.activate():
        return Tensor(like.device.xp.eye(n, dtype=like.dtype), like.device)


@functools.lru_cache(maxsize=4096)
def _plain(subscripts: str, shapes: tuple[tuple[int, ...], ...]):
    """The equation in its plain form, new shapes (or `None`), and lengths of unit matrices.

    A diagonal `"ii->i"` is written as a product with the unit matrix: `"ij,ij->i"`.
    """
    inputs, out, spare = _expanded(subscripts, shapes)
    lengths = _checked_lengths(subscripts, inputs, shapes)
    plain, reshaped, extra, diagonals = [], [], [], []
    for labels, shape in zip(inputs, shapes, strict=True):
        kept = [i for i, a in enumerate(labels) if shape[i] == lengths[a]]
        reshaped.append(tuple([shape[i] for i in kept]) if len(kept) < len(shape) else None)
        seen: list[str] = []
        for a in [labels[i] for i in kept]:
            if a in seen:
                extra.append(a + spare.pop())
                diagonals.append(lengths[a])
                a = extra[-1][1]
            seen.append(a)
        plain.append("".join(seen))
    return f"{','.join(plain + extra)}->{out}", reshaped, diagonals


def _expanded(subscripts, shapes):
    """The operands' labels and the result's, with letters for each `...`, and unused letters."""
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    letters = set(text.replace("...", "").replace("->", "").replace(",", ""))
    spare = [a for a in reversed(string.ascii_letters) if a not in letters]
    if not letters <= set(string.ascii_letters) or len(terms) != len(shapes):
        raise ArgumentError(
            "An equation has letters, commas, '...' and one '->', and a part for each operand. "
            + received(subscripts=subscripts, operands=len(shapes))
        )
    counts = [_ellipsis_axes(subscripts, t, s) for t, s in zip(terms, shapes, strict=True)]
    wild = "".join([spare.pop() for _ in range(max(counts))])
    inputs = [t.replace("...", wild[len(wild) - n :]) for t, n in zip(terms, counts, strict=True)]
    if arrow:
        out = out.replace("...", wild)
    else:
        every = "".join(terms).replace("...", "")
        out = wild + "".join(sorted(a for a in letters if every.count(a) == 1))
    if len(set(out)) < len(out) or not set(wild) <= set(out) <= set("".join(inputs)):
        raise ArgumentError(
            "The result of an equation has each letter once, only letters of the operands, and "
            f"'...' if they have axes for it. {received(subscripts=subscripts)}"
        )
    return inputs, out, spare


def _ellipsis_axes(subscripts: str, term: str, shape: Sequence[int]) -> int:
    named = len(term.replace("...", ""))
    if named > len(shape) or ("..." not in term and named < len(shape)):
        raise ShapeError(
            f"The part {term!r} of the equation does not fit its operand. "
            + received(subscripts=subscripts, shape=shape)
        )
    return len(shape) - named


def _checked_lengths(subscripts, inputs, shapes):
    lengths: dict[str, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for a, n in zip(labels, shape, strict=True):
            before = lengths.setdefault(a, n)
            if n != before and 1 not in (n, before):
                raise ShapeError(
                    "Axes of one letter must have one length (or 1). "
                    + received(subscripts=subscripts, shapes=shapes)
                )
            lengths[a] = n if before == 1 else before
    return lengths
