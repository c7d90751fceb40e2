"""Control flow. Python runs it where it knows the values; what depends on a tensor is traced.

While tracing, a choice or a number of turns that depends on a tensor becomes an equation whose
attributes are graphs; `scan`, `map` and `fori_loop` with numbers known to Python unroll.
"""

import functools
import operator
from typing import Any

import optree

from gpunet.core.symbolic import public
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.errors import ArgumentError, ShapeError, TraceError, received
from gpunet.ops.control_trace import choose, flag, repeat
from gpunet.ops.parts import unstack
from gpunet.ops.shape import reshape, stack

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


def _number(value: Any, what: str) -> Any:
    """A Python number, or a tensor that is only being traced."""
    if not isinstance(value, Operators):
        return value
    x = as_tensor(value)
    if type(x.data) is not Symbol:
        return x.item()
    if x.size != 1:
        raise ShapeError(f"{what} needs one element to decide by. {received(shape=x.shape)}")
    return x if x.shape == () else reshape(x, ())


@public
def cond(pred, true_fn, false_fn):
    """Returns the result of one of two functions.

    Where the predicate is only being traced both functions are, into graphs of which one runs. They
    must return the same nest of shapes and dtypes then. They may use all tensors and Variables
    around them, and write Variables. Gradients flow through the one that ran, which is computed
    again for that; what only the other one uses has a gradient of zeros. A GPU has to be waited
    for, and a step with a choice cannot be captured: where both results are cheap, `ops.where` is
    faster.

    Args:
        pred: Bool, or tensor of one element.
        true_fn: Function without arguments, called if it is true.
        false_fn: Function without arguments, called if it is false.

    Returns:
        What the function called returns.

    Raises:
        TraceError: While tracing, if the results differ in nest, shape or dtype.

    Example:
        >>> import gpunet
        >>> gpunet.ops.cond(gpunet.tensor(3) > 2, lambda: "large", lambda: "small")
        'large'
        >>> f = gpunet.function(lambda x: gpunet.ops.cond(x.sum() > 0, lambda: x, lambda: -x))
        >>> f(gpunet.tensor([-1.0, -2.0])).tolist(), f(gpunet.tensor([1.0, 2.0])).tolist()
        ([1.0, 2.0], [1.0, 2.0])
    """
    chosen = _number(pred, "cond")
    if type(chosen) is Tensor:
        return choose(flag(chosen, "cond"), [false_fn, true_fn], "cond")
    return true_fn() if chosen else false_fn()


@public
def switch(index, branches, *operands):
    """Returns the result of one of several functions; see `cond` for what is traced.

    Args:
        index: Integer or integer tensor; limited to `[0, len(branches))`.
        branches: Functions of the operands.
        *operands: What they are called with.

    Returns:
        What the function called returns.

    Raises:
        ArgumentError: If there are no branches.
        TraceError: While tracing, if the results differ in nest, shape or dtype.

    Example:
        >>> import gpunet
        >>> gpunet.ops.switch(1, [lambda x: x + 1, lambda x: x * 10], 4)
        40
    """
    if not branches:
        raise ArgumentError(f"At least one branch is needed. {received(branches=branches)}")
    i = _number(index, "switch")
    if type(i) is Tensor:
        return choose(i, [functools.partial(branch, *operands) for branch in branches], "switch")
    i = int(i)
    return branches[min(max(i, 0), len(branches) - 1)](*operands)


@public
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """Calls a function with its own results as long as a condition holds.

    Where the condition is only being traced, so is the body, once, into a graph that runs as often
    as the values want; it must return what it takes: the same nest, shapes and dtypes. A graph
    cannot be differentiated through such a loop. Variables written go from turn to turn.

    Args:
        cond: `cond(*loop_vars) -> bool`.
        body: `body(*loop_vars) -> loop_vars`.
        loop_vars: Tuple or list of what the loop starts with, or one value.
        maximum_iterations: Stops after so many turns.

    Returns:
        The last `loop_vars`.

    Raises:
        TraceError: While tracing, if a turn changes the nest, a shape or a dtype.
        GradientError: While tracing, if a gradient is asked for through the loop.

    Example:
        >>> import gpunet
        >>> gpunet.ops.while_loop(lambda i: i < 10, lambda i: i * 3, [1])
        [27]
        >>> @gpunet.function
        ... def halved(x):
        ...     return gpunet.ops.while_loop(lambda y: y.sum() > 1, lambda y: y / 2, x)
        >>> halved(gpunet.tensor([4.0, 4.0])).tolist()
        [0.5, 0.5]
    """
    if isinstance(_number(maximum_iterations, "while_loop"), Tensor):
        raise TraceError(
            "While tracing, `maximum_iterations` is a number that Python knows: put what depends "
            f"on values into the condition. {received(maximum_iterations=maximum_iterations)}"
        )
    several = isinstance(loop_vars, (tuple, list))
    values = tuple(loop_vars) if several else (loop_vars,)
    turns = 0
    while maximum_iterations is None or turns < maximum_iterations:
        going = _number(cond(*values), "while_loop")
        if type(going) is Tensor:
            left = None if maximum_iterations is None else int(maximum_iterations) - turns
            going = flag(going, "while_loop")
            values = repeat(cond, body, values, going, left, "while_loop")
            break
        if not going:
            break
        values = body(*values)
        values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
        turns += 1
    return type(loop_vars)(values) if several else values[0]


@public
def fori_loop(lower, upper, body_fun, init_val):
    """Calls `value = body_fun(i, value)` for all `i` in `[lower, upper)`.

    A trace unrolls it if Python knows the limits; else it is a `while_loop`, and the number is a
    tensor.

    Args:
        lower: First number.
        upper: End, not reached.
        body_fun: Function of the number and the value.
        init_val: Value to start with.

    Returns:
        The last value.

    Raises:
        TraceError: While tracing, if a limit is only being traced and a turn changes the nest, a
            shape or a dtype of the value.

    Example:
        >>> import gpunet
        >>> gpunet.ops.fori_loop(0, 4, lambda i, x: x + i, 0)
        6
    """
    first, end = _number(lower, "fori_loop"), _number(upper, "fori_loop")
    if type(first) is Tensor or type(end) is Tensor:
        return while_loop(
            lambda i, value: i < end,
            lambda i, value: (i + 1, body_fun(i, value)),
            (first, init_val),
        )[1]
    value = init_val
    for i in range(int(first), int(end)):
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
