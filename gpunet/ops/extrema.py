"""Largest and smallest elements, where they are, and logical reductions."""

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ShapeError, received
from gpunet.ops.elementwise import cast_to, equal, maximum, minimum
from gpunet.ops.reduce import (
    axis_tuple,
    documented,
    kept,
    reduced_count,
    reduced_shape,
    reduction,
    same,
    same_type,
    sum_primitive,
)
from gpunet.ops.reduce_launch import on_arrays, reduction_rule
from gpunet.ops.reduce_native import along_native, fold_native
from gpunet.ops.rows import as_rows, row_max
from gpunet.ops.shape import broadcast_to, one_axis

__all__ = ["all", "amax", "amin", "any", "argmax", "argmin", "max", "min"]

# -- largest, smallest, logical -----------------------------------------------------------------


def _comparable(x):
    """CuPy and NumPy know bfloat16 in some functions only; every value of it is a float32."""
    return x.astype(np.float32) if x.dtype == BFLOAT16 else x


def _extremum(name):
    primitive = Primitive(f"{name}(x, *, axis, keepdims) -> y")
    primitive.array(
        lambda xp, x, axis, keepdims: getattr(xp, name)(
            _comparable(x), axis, keepdims=keepdims
        ).astype(x.dtype)
    )
    primitive.infer(same_type)
    primitive.vjp(_extremum_vjp)
    return primitive


def _extremum_vjp(g, x, y, axis, keepdims):
    hit = cast_to(equal(x, kept(y, x.shape, axis, keepdims)), g.dtype)
    share = kept(g, x.shape, axis, keepdims) / sum_primitive(hit, axis=axis, keepdims=True)
    return hit * share


_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
max_primitive, min_primitive = _extremum("max"), _extremum("min")
max_primitive.cuda(on_arrays(reduction_rule("Max", same), max_primitive.rules["array"]))
min_primitive.cuda(on_arrays(reduction_rule("Min", same), min_primitive.rules["array"]))
max_primitive.native(fold_native("max"))
min_primitive.native(fold_native("min"))


def _on_cpu(reduce, rows):
    def run(x, axis, keepdims):
        dtype, shape = x.dtype, x.shape
        if dtype in _FLOATS:
            if axis is not None and x.size >= 256 and axis == (len(shape) - 1,) and shape[-1] > 1:
                y = rows(as_rows(x, shape[-1]), shape[-1])
                return y.reshape((*shape[:-1], 1) if keepdims else shape[:-1])
        elif dtype == BFLOAT16:
            return reduce(x.astype(np.float32), axis, None, None, keepdims).astype(BFLOAT16)
        return reduce(x, axis, None, None, keepdims)

    return run


def _at(find, x, n):
    """The elements at the positions found: NumPy finds positions several times faster."""
    return x.reshape(-1)[find(x, 1) + np.arange(0, x.size, n)]


# Measured on 2 cores, float32: (512, 10) takes 4 instead of 29 us, (512, 128) 15 instead of 52.
max_primitive.cpu(
    _on_cpu(np.maximum.reduce, lambda x, n: row_max(x) if n < 48 else _at(np.argmax, x, n))
)
min_primitive.cpu(
    _on_cpu(np.minimum.reduce, lambda x, n: -row_max(-x) if n < 48 else _at(np.argmin, x, n))
)


def _logical(name):
    primitive = Primitive(f"{name}(x, *, axis, keepdims) -> y")
    primitive.array(
        lambda xp, x, axis, keepdims: getattr(xp, name)(
            x if x.dtype == bool else x != 0, axis, keepdims=keepdims
        )
    )
    primitive.infer(lambda x, axis, keepdims: Symbol(reduced_shape(x.shape, axis, keepdims), bool))
    return primitive


any_primitive, all_primitive = _logical("any"), _logical("all")
for _primitive, _operation in ((any_primitive, "Any"), (all_primitive, "All")):
    _rule = reduction_rule(_operation, lambda dtype: np.dtype(bool))
    _primitive.cuda(on_arrays(_rule, _primitive.rules["array"]))
    _primitive.native(fold_native(_primitive.name))


def _position(name):
    primitive = Primitive(f"{name}(x, *, axis, keepdims) -> y")

    @primitive.array
    def _(xp, x, axis, keepdims):
        y = getattr(xp, name)(_comparable(x), axis).astype(np.int32)
        axes = None if axis is None else (axis,)
        return y.reshape(reduced_shape(x.shape, axes, True)) if keepdims else y

    @primitive.infer
    def _(x, axis, keepdims):
        axes = None if axis is None else (axis,)
        return Symbol(reduced_shape(x.shape, axes, keepdims), np.int32)

    return primitive


argmax_primitive, argmin_primitive = _position("argmax"), _position("argmin")
for _primitive, _operation in ((argmax_primitive, "Argmax"), (argmin_primitive, "Argmin")):
    _rule = reduction_rule(_operation, lambda dtype: np.dtype(np.int32))
    _primitive.cuda(on_arrays(_rule, _primitive.rules["array"]))
    _primitive.native(along_native(_primitive.name))

# -- the public functions -----------------------------------------------------------------------


def _not_empty(x, axes):
    if reduced_count(x.shape, axes) == 0 and 0 not in reduced_shape(x.shape, axes, False):
        raise ShapeError(
            f"An empty set has no largest or smallest element. {received(shape=x.shape, axis=axes)}"
        )


def _position_op(name, doc, primitive, example, returns):
    def op(x, axis=None, keepdims=False):
        x = as_tensor(x)
        axis = None if axis is None else one_axis(axis, len(x.shape))
        if 0 in x.shape:
            _not_empty(x, None if axis is None else (axis,))
        return primitive(x, axis=axis, keepdims=bool(keepdims))

    return documented(op, name, doc, example, "Integer", returns)


any = reduction(
    "any",
    "Returns whether any element along the axes is true (not zero).",
    any_primitive,
    "any([[True, False], [False, False]], axis=1).tolist()\n        [True, False]",
    returns=" of dtype bool",
)
all = reduction(
    "all",
    "Returns whether every element along the axes is true (not zero).",
    all_primitive,
    "all([[True, False], [True, True]], axis=1).tolist()\n        [False, True]",
    returns=" of dtype bool",
)
argmax = _position_op(
    "argmax",
    "Returns where the largest element is; the first one of equals.",
    argmax_primitive,
    "argmax([[1, 5, 3], [9, 2, 9]], axis=-1).tolist()\n        [1, 0]",
    returns=" of dtype int32; without `axis`, the position in the flattened tensor",
)
argmin = _position_op(
    "argmin",
    "Returns where the smallest element is; the first one of equals.",
    argmin_primitive,
    "argmin([[1, 5, 3], [9, 2, 9]], axis=-1).tolist()\n        [0, 1]",
    returns=" of dtype int32; without `axis`, the position in the flattened tensor",
)


@public
def max(x, axis=None, keepdims=False, initial=None):
    """Returns the largest element along axes; equal ones share the gradient.

    Args:
        x: Tensor of any shape.
        axis: Integer or tuple of integers; default all axes.
        keepdims: Whether the reduced axes stay, with length 1.
        initial: A number that takes part; needed where there may be no elements.

    Returns:
        Tensor of the dtype of `x`.

    Raises:
        ShapeError: If there are no elements and no `initial`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.max([[1, 5], [9, 2]], axis=1).tolist()
        [5, 9]
    """
    return _largest(x, axis, keepdims, initial, max_primitive, maximum)


@public
def min(x, axis=None, keepdims=False, initial=None):
    """Returns the smallest element along axes; see `max`."""
    return _largest(x, axis, keepdims, initial, min_primitive, minimum)


def _largest(x, axis, keepdims, initial, primitive, pairwise):
    x = as_tensor(x)
    axes = axis_tuple(axis, len(x.shape))
    if initial is None:
        if 0 in x.shape:
            _not_empty(x, axes)
        return primitive(x, axis=axes, keepdims=bool(keepdims))
    initial = cast_to(as_tensor(initial, device=x.device), x.dtype)
    if reduced_count(x.shape, axes) == 0:
        return broadcast_to(initial, reduced_shape(x.shape, axes, keepdims))
    return pairwise(primitive(x, axis=axes, keepdims=bool(keepdims)), initial)


@public
def amax(x, axis=None, keepdims=False):
    """Same as `max`, under its other name."""
    return max(x, axis, keepdims)


@public
def amin(x, axis=None, keepdims=False):
    """Same as `min`, under its other name."""
    return min(x, axis, keepdims)
