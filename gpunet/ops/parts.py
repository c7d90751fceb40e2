"""Parts and wholes: split, unstack, hstack, vstack, append."""

import itertools
import operator

from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.shape import (
    concatenate,
    one_axis,
    ravel,
    reshape_primitive,
    same_dtype,
    split_primitive,
    unstack_primitive,
)

__all__ = [
    "append",
    "array_split",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "split",
    "unstack",
    "vsplit",
    "vstack",
]

# -- splitting ----------------------------------------------------------------------------------


def _split(x, sizes, axis):
    return list(split_primitive(x, axis=axis, sizes=sizes)) if sizes else []


def _sizes_at(points, n):
    """The lengths of the parts between cutting points; those beyond the end give empty parts."""
    given = [operator.index(p) for p in points]
    ends = [min(max(p + n if p < 0 else p, 0), n) for p in given]
    if ends != sorted(ends):
        raise ArgumentError(f"Positions to cut at must ascend. {received(indices=given)}")
    return tuple([b - a for a, b in itertools.pairwise([0, *ends, n])])


@public
def split(x, indices_or_sections, axis=0):
    """Returns parts of a tensor along an axis.

    Args:
        x: Tensor.
        indices_or_sections: Number of equal parts, or ascending positions to cut at.
        axis: Integer, default 0.

    Returns:
        List of tensors.

    Raises:
        ShapeError: If the axis has no equal parts of that number.
        ArgumentError: If the positions do not ascend.

    Example:
        >>> import gpunet
        >>> [part.tolist() for part in gpunet.ops.split([1, 2, 3, 4], 2)]
        [[1, 2], [3, 4]]
    """
    x = as_tensor(x)
    axis = one_axis(axis, len(x.shape))
    n = x.shape[axis]
    if hasattr(indices_or_sections, "__len__") and not _is_scalar(indices_or_sections):
        return _split(x, _sizes_at(indices_or_sections, n), axis)
    sections = operator.index(indices_or_sections)
    if sections < 1 or n % sections:
        raise ShapeError(
            f"Axis {axis} of length {n} has no {sections} equal parts; see `array_split`. "
            + received(indices_or_sections=indices_or_sections, shape=x.shape)
        )
    return _split(x, (n // sections,) * sections, axis)


def _is_scalar(value):
    return getattr(value, "shape", None) == ()


@public
def array_split(x, indices_or_sections, axis=0):
    """Returns parts of a tensor along an axis, the first ones longer by 1 where it must be.

    Args:
        x: Tensor.
        indices_or_sections: Number of parts, or ascending positions to cut at.
        axis: Integer, default 0.

    Returns:
        List of tensors.

    Raises:
        ArgumentError: If there is less than one part.

    Example:
        >>> import gpunet
        >>> [part.tolist() for part in gpunet.ops.array_split([1, 2, 3], 2)]
        [[1, 2], [3]]
    """
    x = as_tensor(x)
    if hasattr(indices_or_sections, "__len__") and not _is_scalar(indices_or_sections):
        return split(x, indices_or_sections, axis)
    axis = one_axis(axis, len(x.shape))
    sections = operator.index(indices_or_sections)
    if sections < 1:
        raise ArgumentError(f"At least one part is needed. {received(sections=sections)}")
    each, longer = divmod(x.shape[axis], sections)
    return _split(x, (each + 1,) * longer + (each,) * (sections - longer), axis)


@public
def unstack(x, num=None, axis=0):
    """Returns the slices of a tensor along an axis, which they do not have any more.

    Args:
        x: Tensor.
        num: Number of slices, if it is to be checked.
        axis: Integer, default 0.

    Returns:
        List of tensors.

    Raises:
        ShapeError: If `num` is not the length of the axis.

    Example:
        >>> import gpunet
        >>> [row.tolist() for row in gpunet.ops.unstack([[1, 2], [3, 4]])]
        [[1, 2], [3, 4]]
    """
    x = as_tensor(x)
    axis = one_axis(axis, len(x.shape))
    n = x.shape[axis]
    if num is not None and num != n:
        raise ShapeError(f"Axis {axis} has length {n}, not `num`. {received(num=num)}")
    return list(unstack_primitive(x, axis=axis)) if n else []


@public
def hsplit(x, indices_or_sections):
    """Splits along axis 1 (along axis 0 for one axis); see `split`."""
    x = as_tensor(x)
    return split(x, indices_or_sections, axis=1 if len(x.shape) > 1 else 0)


@public
def vsplit(x, indices_or_sections):
    """Splits along axis 0; see `split`."""
    return split(x, indices_or_sections, axis=0)


@public
def dsplit(x, indices_or_sections):
    """Splits along axis 2; see `split`."""
    return split(x, indices_or_sections, axis=2)


# -- joining ------------------------------------------------------------------------------------


def _with_axes(xs, count):
    tensors = same_dtype(xs)
    return [
        x if len(x.shape) >= count else reshape_primitive(x, shape=_padded_shape(x.shape, count))
        for x in tensors
    ]


def _padded_shape(shape, count):
    if count == 3:
        return {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[len(shape)]
    return (1,) * (count - len(shape)) + shape


@public
def hstack(xs):
    """Returns tensors joined along axis 1, or along axis 0 where they have one axis.

    Args:
        xs: Sequence of tensors.

    Returns:
        Tensor of the promoted dtype.
    """
    tensors = _with_axes(xs, 1)
    return concatenate(tensors, axis=0 if len(tensors[0].shape) == 1 else 1)


@public
def vstack(xs):
    """Returns tensors joined along axis 0; those of one axis count as rows.

    Args:
        xs: Sequence of tensors.

    Returns:
        Tensor of the promoted dtype, with at least two axes.
    """
    return concatenate(_with_axes(xs, 2), axis=0)


@public
def dstack(xs):
    """Returns tensors joined along axis 2, which is added where it is missing.

    Args:
        xs: Sequence of tensors.

    Returns:
        Tensor of the promoted dtype, with at least three axes.
    """
    return concatenate(_with_axes(xs, 3), axis=2)


@public
def append(x1, x2, axis=None):
    """Returns `x2` joined to the end of `x1`.

    Args:
        x1: Tensor.
        x2: Tensor.
        axis: Integer; default: both are flattened first.

    Returns:
        Tensor of the promoted dtype.
    """
    if axis is None:
        return concatenate([ravel(x1), ravel(x2)])
    return concatenate([x1, x2], axis)
