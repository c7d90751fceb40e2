"""Matrix products: `matmul` on BLAS, and the NumPy products that come down to it or to `einsum`."""

import math
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.contraction import contract
from gpunet.ops.elementwise import cast_to, operands
from gpunet.ops.matmul_launch import gpu_matmul, on_cublaslt, xp_of
from gpunet.ops.precision import widened
from gpunet.ops.products_native import matmul_plan
from gpunet.ops.shape import many_axes, stack

__all__ = ["cross", "dot", "inner", "kron", "matmul", "outer", "tensordot", "vdot"]

_INT8 = np.dtype(np.int8)
_INT32 = np.dtype(np.int32)

# The flags spare the tape two transposes a layer, and are what BLAS takes anyway.
matmul_primitive = Primitive("matmul(x1, x2, *, transpose1, transpose2) -> y")


def _matmul(xp, x1, x2, transpose1, transpose2):
    rows, batch = x1.shape[:-1], x1.ndim > 2
    if transpose1:
        x1 = x1.swapaxes(-1, -2)
    if transpose2:
        x2 = x2.swapaxes(-1, -2)
    if batch and x2.ndim == 2 and not transpose1:  # one large product instead of many small ones
        flat = x1.reshape(math.prod(rows), x1.shape[-1])
        return xp.matmul(flat, x2).reshape(*rows, x2.shape[1])
    return xp.matmul(x1, x2)


_matmul_wide = widened(_matmul)


@matmul_primitive.array
def _(xp, x1, x2, transpose1, transpose2):
    return _matmul_wide(xp, x1, x2, transpose1=transpose1, transpose2=transpose2)


@matmul_primitive.cpu
def _(x1, x2, transpose1, transpose2):
    if x1.ndim == 2 and x2.ndim == 2 and x1.dtype.itemsize > 2:
        return (x1.T if transpose1 else x1).dot(x2.T if transpose2 else x2)
    return _matmul_wide(np, x1, x2, transpose1=transpose1, transpose2=transpose2)


@matmul_primitive.cuda
def _(x1, x2, transpose1, transpose2):
    if not on_cublaslt(x1):  # the emulator; float64 and integers on a GPU
        return matmul_primitive.rules["array"](xp_of(x1), x1, x2, transpose1, transpose2)
    return gpu_matmul(x1, x2, transpose1, transpose2)


matmul_primitive.native(matmul_plan)


@matmul_primitive.infer
def _(x1, x2, transpose1, transpose2):
    *batch1, m, k1 = x1.shape
    *batch2, k2, n = x2.shape
    m, k1 = (k1, m) if transpose1 else (m, k1)
    k2, n = (n, k2) if transpose2 else (k2, n)
    if k1 != k2:
        raise ShapeError(_UNEQUAL + received(x1=x1.shape, x2=x2.shape))
    return Symbol((*np.broadcast_shapes(tuple(batch1), tuple(batch2)), m, n), x1.dtype)


@matmul_primitive.cost
def _(x1, x2, transpose1, transpose2):
    y = matmul_primitive.rules["infer"](x1, x2, transpose1, transpose2)
    return x1.nbytes + x2.nbytes + y.nbytes, 2 * y.size * x1.shape[-2 if transpose1 else -1]


@matmul_primitive.vjp
def _(g, x1, x2, needs, transpose1, transpose2):
    g1 = g2 = None
    if needs[0]:
        g1 = _mm(x2, g, transpose2, True) if transpose1 else _mm(g, x2, False, not transpose2)
    if needs[1]:
        if len(x2.shape) == 2 and len(x1.shape) > 2 and not transpose1:
            # The sum over the batch is part of one product over all rows.
            rows = math.prod(x1.shape[:-1])
            x1, g = x1.reshape((rows, x1.shape[-1])), g.reshape((rows, g.shape[-1]))
        g2 = _mm(g, x1, True, transpose1) if transpose2 else _mm(x1, g, not transpose1, False)
    return g1, g2


def _mm(x1, x2, transpose1, transpose2):
    return matmul_primitive(x1, x2, transpose1=transpose1, transpose2=transpose2)


_UNEQUAL = "The last length of `x1` must equal the one of `x2` that is summed over. "


def _product_operands(x1, x2):
    """One dtype for both; products of int8 are int32, as in Keras."""
    x1, x2 = operands(x1, x2)
    if x1.data.dtype == _INT8:
        return cast_to(x1, _INT32), cast_to(x2, _INT32)
    return x1, x2


@public
def matmul(x1, x2):
    """Returns the matrix product of two tensors, broadcasting over leading axes.

    `y[..., i, j] = sum_k x1[..., i, k] * x2[..., k, j]`. A 1-D `x1` is a row and a 1-D `x2` a
    column, and that axis is dropped from the result. float16 and bfloat16 are summed in float32
    and rounded once; two int8 operands give int32.

    Args:
        x1: Tensor of shape `(..., m, k)` or `(k,)`.
        x2: Tensor of shape `(..., k, n)` or `(k,)`.

    Returns:
        Tensor of shape `(..., m, n)`.

    Raises:
        ShapeError: If an operand is a scalar, or the lengths do not match.

    Example:
        >>> import gpunet
        >>> gpunet.ops.matmul([[1.0, 2.0]], [[3.0], [4.0]]).tolist()
        [[11.0]]
    """
    x1, x2 = _product_operands(x1, x2)
    shape1, shape2 = x1.data.shape, x2.data.shape
    if not shape1 or not shape2:
        raise ShapeError(
            "`matmul` has no scalars; use `multiply`. " + received(x1=shape1, x2=shape2)
        )
    if shape1[-1] != shape2[-2 if len(shape2) > 1 else 0]:
        raise ShapeError(_UNEQUAL + received(x1=shape1, x2=shape2))
    if len(shape1) > 1 and len(shape2) > 1:
        return matmul_primitive(x1, x2, transpose1=False, transpose2=False)
    return _matmul_vectors(x1, x2, shape1, shape2)


def _matmul_vectors(x1, x2, shape1, shape2):
    row, column = len(shape1) == 1, len(shape2) == 1
    x1 = x1.reshape((1, *shape1)) if row else x1
    x2 = x2.reshape((*shape2, 1)) if column else x2
    y = _mm(x1, x2, False, False)
    shape = y.shape[: -2 if row else -1]
    return y.reshape(shape if column else (*shape, y.shape[-1]))


@public
def dot(x1, x2):
    """Returns NumPy's dot product: sums over the last axis of `x1` and the last but one of `x2`.

    Args:
        x1: Tensor; a scalar multiplies.
        x2: Tensor; a 1-D one is summed over its only axis.

    Returns:
        Tensor of shape `x1.shape[:-1] + x2.shape[:-2] + x2.shape[-1:]`.

    Raises:
        ShapeError: If the lengths do not match.

    Example:
        >>> import gpunet
        >>> gpunet.ops.dot([1.0, 2.0], [3.0, 4.0]).item()
        11.0
    """
    x1, x2 = operands(x1, x2)
    if not x1.shape or not x2.shape:
        return x1 * x2
    return contract(x1, x2, (x1.ndim - 1,), (max(x2.ndim - 2, 0),))


@public
def vdot(x1, x2):
    """Returns the sum of the products of all elements.

    Args:
        x1: Tensor of any shape.
        x2: Tensor with as many elements.

    Returns:
        Scalar tensor.

    Raises:
        ShapeError: If the numbers of elements differ.
    """
    x1, x2 = operands(x1, x2)
    return contract(x1.flatten(), x2.flatten(), (0,), (0,))


@public
def inner(x1, x2):
    """Returns the sums of products over the last axes of both tensors.

    Args:
        x1: Tensor of shape `(..., k)`; a scalar multiplies.
        x2: Tensor of shape `(..., k)`.

    Returns:
        Tensor of shape `x1.shape[:-1] + x2.shape[:-1]`.

    Raises:
        ShapeError: If the last lengths differ.
    """
    x1, x2 = operands(x1, x2)
    if not x1.shape or not x2.shape:
        return x1 * x2
    return contract(x1, x2, (x1.ndim - 1,), (x2.ndim - 1,))


@public
def outer(x1, x2):
    """Returns the products of each element of `x1` with each of `x2`, as a matrix.

    Args:
        x1: Tensor of any shape; it is flattened.
        x2: Tensor of any shape; it is flattened.

    Returns:
        Tensor of shape `(x1.size, x2.size)`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.outer([1, 2], [3, 4]).tolist()
        [[3, 4], [6, 8]]
    """
    x1, x2 = operands(x1, x2)
    return x1.reshape((x1.size, 1)) * x2.reshape((1, x2.size))


@public
def tensordot(x1, x2, axes=2):
    """Returns the sums of products over chosen axes.

    Args:
        x1: Tensor.
        x2: Tensor.
        axes: How many of the last axes of `x1` to sum with the first of `x2` (0: the outer
            product), or a pair: the axes of `x1`, and in the same order those of `x2`.

    Returns:
        Tensor with the axes left of `x1`, then those of `x2`.

    Raises:
        ShapeError: If the lengths of the axes do not match.
        ArgumentError: If `axes` names an axis that is not there, or one twice.

    Example:
        >>> import gpunet
        >>> gpunet.ops.tensordot([[1.0, 2.0]], [[3.0], [4.0]], axes=1).tolist()
        [[11.0]]
    """
    x1, x2 = operands(x1, x2)
    axes1, axes2 = _contracted(axes, x1.ndim, x2.ndim)
    return contract(x1, x2, axes1, axes2)


def _contracted(axes, ndim1, ndim2):
    if hasattr(axes, "__index__"):
        count = int(axes)
        pair = tuple(range(ndim1 - count, ndim1)), tuple(range(count))
        if not 0 <= count <= min(ndim1, ndim2):
            raise ArgumentError(
                "`axes` must be from 0 to the number of axes of both tensors. "
                + received(axes=axes, ndim1=ndim1, ndim2=ndim2)
            )
        return pair
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise ArgumentError(
            "`axes` must be an integer, or a pair of axes or lists of axes. " + received(axes=axes)
        )
    return many_axes(axes[0], ndim1, "axes"), many_axes(axes[1], ndim2, "axes")


@public
def kron(x1, x2):
    """Returns the Kronecker product: `x2` scaled by each element of `x1`, in blocks.

    Args:
        x1: Tensor.
        x2: Tensor; the one with fewer axes gets leading ones.

    Returns:
        Tensor whose lengths are the products of those of the operands.

    Example:
        >>> import gpunet
        >>> gpunet.ops.kron([1, 10], [1, 2]).tolist()
        [1, 2, 10, 20]
    """
    x1, x2 = operands(x1, x2)
    ndim = max(x1.ndim, x2.ndim)
    shape1 = (1,) * (ndim - x1.ndim) + tuple(x1.shape)
    shape2 = (1,) * (ndim - x2.ndim) + tuple(x2.shape)
    blocks = x1.reshape([d for n in shape1 for d in (n, 1)])
    inside = x2.reshape([d for n in shape2 for d in (1, n)])
    return (blocks * inside).reshape([a * b for a, b in zip(shape1, shape2, strict=True)])


@public
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Returns the cross product of 3-vectors; a 2-vector has a third component 0.

    Args:
        x1: Tensor with length 2 or 3 along `axisa`.
        x2: Tensor with length 2 or 3 along `axisb`; the other axes broadcast.
        axisa: Axis of the vectors in `x1`.
        axisb: Axis of the vectors in `x2`.
        axisc: Axis of the vectors in the result.
        axis: All three axes at once.

    Returns:
        Tensor of 3-vectors; of numbers (the third component) if both operands hold 2-vectors.

    Raises:
        ShapeError: If the vectors have not 2 or 3 components.

    Example:
        >>> import gpunet
        >>> gpunet.ops.cross([1, 0, 0], [0, 1, 0]).tolist()
        [0, 0, 1]
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = operands(x1, x2)
    parts = []
    for x, place, name in ((x1, axisa, "x1"), (x2, axisb, "x2")):
        if not -x.ndim <= place < x.ndim or x.shape[place] not in (2, 3):
            raise ShapeError(
                f"`{name}` must have length 2 or 3 along the axis of the vectors. "
                + received(shape=x.shape, axis=place)
            )
        parts.append(_components(x, place))
    (a0, a1, a2), (b0, b1, b2) = parts
    third = a0 * b1 - a1 * b0
    if a2 is None and b2 is None:
        return third
    first = _difference(a1, b2, a2, b1)
    second = _difference(a2, b0, a0, b2)
    return stack([_like(first, third), _like(second, third), third], axis=axisc)


def _components(x: Tensor, axis: int) -> list[Any]:
    index = (slice(None),) * (axis % x.ndim)
    parts: list[Any] = [x[(*index, i)] for i in range(x.shape[axis])]
    return parts if len(parts) == 3 else [*parts, None]


def _difference(a, b, c, d):
    """`a * b - c * d`, where a missing factor makes its product 0."""
    if a is None or b is None:
        return -(c * d)
    return a * b if c is None or d is None else a * b - c * d


def _like(x, other):
    return x if x.shape == other.shape else x + other * 0
