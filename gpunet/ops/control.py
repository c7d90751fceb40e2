"""Control flow, run by Python: loops are unrolled in a trace, choices need values.

While tracing, a choice or a number of turns that depends on a tensor raises `TraceError`; `scan`,
`map` and `fori_loop` with numbers known to Python unroll.
"""

import operator
from typing import Any

import optree

from gpunet.core.symbolic import public
from gpunet.core.tensor import Operators, as_tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.ops.index import concrete
from gpunet.ops.parts import unstack
from gpunet.ops.shape import stack

__all__ = [
    "associative_scan",
    "cond",
    "fori_loop",
    "map",
    "scan",
    "switch",
    "vectorized_map",
    "while_loop",
]


def _leaves(nest):
    return optree.tree_leaves(nest, is_leaf=_is_leaf)


def _tree_map(f, *nests):
    return optree.tree_map(f, *nests, is_leaf=_is_leaf)


def _is_leaf(x):
    return isinstance(x, Operators)


def _number(value, what):
    """A Python number; a tensor gives its value, unless it is only being traced."""
    if not isinstance(value, Operators):
        return value
    x = as_tensor(value)
    concrete(x, what)
    return x.item()


@public
def cond(pred, true_fn, false_fn):
    """Returns the result of one of two functions.

    Args:
        pred: Bool, or tensor of one element.
        true_fn: Function without arguments, called if it is true.
        false_fn: Function without arguments, called if it is false.

    Returns:
        What the function called returns.

    Raises:
        TraceError: While tracing, if `pred` is only being traced; use `ops.where` then.

    Example:
        >>> import gpunet
        >>> gpunet.ops.cond(gpunet.tensor(3) > 2, lambda: "large", lambda: "small")
        'large'
    """
    return true_fn() if _number(pred, "cond") else false_fn()


@public
def switch(index, branches, *operands):
    """Returns the result of one of several functions.

    Args:
        index: Integer or integer tensor; limited to `[0, len(branches))`.
        branches: Functions of the operands.
        *operands: What they are called with.

    Returns:
        What the function called returns.

    Raises:
        TraceError: While tracing, if `index` is only being traced.
        ArgumentError: If there are no branches.

    Example:
        >>> import gpunet
        >>> gpunet.ops.switch(1, [lambda x: x + 1, lambda x: x * 10], 4)
        40
    """
    if not branches:
        raise ArgumentError(f"At least one branch is needed. {received(branches=branches)}")
    i = int(_number(index, "switch"))
    return branches[min(max(i, 0), len(branches) - 1)](*operands)


@public
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """Calls a function with its own results as long as a condition holds.

    Args:
        cond: `cond(*loop_vars) -> bool`.
        body: `body(*loop_vars) -> loop_vars`.
        loop_vars: Tuple or list of what the loop starts with, or one value.
        maximum_iterations: Stops after so many turns.

    Returns:
        The last `loop_vars`.

    Raises:
        TraceError: While tracing, if the condition is only being traced.

    Example:
        >>> import gpunet
        >>> gpunet.ops.while_loop(lambda i: i < 10, lambda i: i * 3, [1])
        [27]
    """
    several = isinstance(loop_vars, (tuple, list))
    values = tuple(loop_vars) if several else (loop_vars,)
    turns = 0
    while maximum_iterations is None or turns < maximum_iterations:
        if not _number(cond(*values), "while_loop"):
            break
        values = body(*values)
        values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
        turns += 1
    return type(loop_vars)(values) if several else values[0]


@public
def fori_loop(lower, upper, body_fun, init_val):
    """Calls `value = body_fun(i, value)` for all `i` in `[lower, upper)`.

    Args:
        lower: First number.
        upper: End, not reached.
        body_fun: Function of the number and the value.
        init_val: Value to start with.

    Returns:
        The last value.

    Raises:
        TraceError: While tracing, if a limit is only being traced.

    Example:
        >>> import gpunet
        >>> gpunet.ops.fori_loop(0, 4, lambda i, x: x + i, 0)
        6
    """
    value = init_val
    for i in range(int(_number(lower, "fori_loop")), int(_number(upper, "fori_loop"))):
        value = body_fun(i, value)
    return value


@public
def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """Calls `carry, y = f(carry, x)` for each slice `x` along the first axis, and stacks the `y`.

    Args:
        f: Function of the carry and a slice.
        init: Carry to start with: a nest of tensors.
        xs: Nest of tensors of the same first length; `None` if `length` is given.
        length: Number of turns.
        reverse: Whether to go from the last slice to the first.
        unroll: Accepted for Keras; Python's loop is always unrolled in a trace.

    Returns:
        The last carry, and a nest of the stacked `y` (or `None`).

    Raises:
        ShapeError: If the lengths differ.
        ArgumentError: If neither `xs` nor `length` is given.

    Example:
        >>> import gpunet
        >>> carry, sums = gpunet.ops.scan(lambda c, x: (c + x, c + x), 0, gpunet.ops.arange(4))
        >>> carry.item(), sums.tolist()
        (6, [0, 1, 3, 6])
    """
    leaves = [as_tensor(x) for x in _leaves(xs)]
    lengths = {x.shape[0] for x in leaves} | ({operator.index(length)} if length else set())
    if len(lengths) > 1:
        raise ShapeError(f"All lengths must be equal. {received(lengths=sorted(lengths))}")
    if not lengths and length is None:
        raise ArgumentError("scan needs `xs` or `length`.")
    count = lengths.pop() if lengths else 0
    nest: Any = xs
    structure = optree.tree_structure(nest, is_leaf=_is_leaf)
    slices = [unstack(x) for x in leaves]
    carry, ys = init, []
    for i in reversed(range(count)) if reverse else range(count):
        x = optree.tree_unflatten(structure, [rows[i] for rows in slices])
        carry, y = f(carry, x)
        ys.append(y)
    if reverse:
        ys.reverse()
    return carry, _stacked(ys) if ys else None


def _stacked(results):
    return _tree_map(lambda *rows: stack(list(rows)), *results)


@public
def map(f, xs):
    """Calls a function on each slice along the first axis, and stacks the results.

    Args:
        f: Function of a slice (of a nest of slices).
        xs: Tensor, or nest of tensors of the same first length.

    Returns:
        Nest of tensors.

    Example:
        >>> import gpunet
        >>> gpunet.ops.map(lambda row: row.sum(), [[1, 2], [3, 4]]).tolist()
        [3, 7]
    """
    xs = as_tensor(xs) if isinstance(xs, list) and not _has_tensors(xs) else xs
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def _has_tensors(nest):
    return any(hasattr(x, "shape") for x in _leaves(nest))


@public
def vectorized_map(function, elements):
    """Calls a function on each slice along the first axis, and stacks the results; see `map`.

    Args:
        function: Function of a slice (of a nest of slices).
        elements: Tensor, or nest of tensors of the same first length.

    Returns:
        Nest of tensors.
    """
    return map(function, elements)


@public
def associative_scan(f, elems, reverse=False, axis=0):
    """Returns all prefixes of elements joined by an associative function.

    Args:
        f: Associative function of two nests of slices, elementwise along the axis.
        elems: Tensor, or nest of tensors of the same length along the axis.
        reverse: Whether to begin at the end.
        axis: Axis along which to join.

    Returns:
        Nest of tensors of the shapes of `elems`.

    Example:
        >>> import gpunet
        >>> gpunet.ops.associative_scan(gpunet.ops.add, gpunet.ops.arange(5)).tolist()
        [0, 1, 3, 6, 10]
    """
    rows = [unstack(as_tensor(x), axis=axis) for x in _leaves(elems)]
    structure = optree.tree_structure(elems, is_leaf=_is_leaf)
    slices = [optree.tree_unflatten(structure, list(row)) for row in zip(*rows, strict=True)]
    if reverse:
        slices.reverse()
    results = slices[:1]
    for x in slices[1:]:
        results.append(f(results[-1], x))
    if reverse:
        results.reverse()
    return _tree_map(lambda *parts: stack(list(parts), axis=axis), *results)
