"""Choices and loops that depend on values, as equations of the graph that is being traced.

All branches of a choice, or the body of a loop, are traced into graphs of their own, which are
attributes of one equation. What is computed is decided when it runs: the device is asked for the
predicate, so a GPU has to be waited for, and such a step cannot be captured.
"""

from collections.abc import Callable, Sequence
from typing import Any

import optree

from gpunet.backend.kernels import hooks
from gpunet.core.autograd import Tape, backpropagate, fresh_leaf, full
from gpunet.core.primitive import Primitive
from gpunet.core.state import mode, state
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.errors import GradientError, ShapeError, TraceError, received
from gpunet.ops.control_graph import (
    Inner,
    Outside,
    as_like,
    check_alike,
    check_structure,
    flatten,
    replay,
)
from gpunet.ops.declare import cast_to
from gpunet.ops.elementwise import not_equal
from gpunet.ops.shape import broadcast_to, reshape
from gpunet.ops.tape import attach, dependencies

_NUMBERS = (bool, int, float)


class LoopGradientError(GradientError, TraceError):
    """A gradient was asked for through a loop whose number of turns only the device knows."""


def flag(x: Any, what: str) -> Tensor:
    """Returns a predicate as a bool tensor of no axes.

    Raises:
        ShapeError: If it has not one element.
    """
    x = as_tensor(x)
    if x.size != 1:
        raise ShapeError(f"{what} needs one element to decide by. {received(shape=x.shape)}")
    x = x if x.shape == () else reshape(x, ())
    return x if x.dtype == bool else not_equal(x, 0)


def _like(symbols):
    return tuple([Symbol(s.shape, s.dtype) for s in symbols])


def _check_fit(found, expected):
    """Checks what goes into or out of a graph: one may have come from a file."""
    if [(s.shape, s.dtype) for s in found] != [(s.shape, s.dtype) for s in expected]:
        raise ShapeError(
            "A graph inside of an equation takes or returns something else. "
            + received(expected=list(expected), found=list(found))
        )


# -- choices --------------------------------------------------------------------------------------

cond_primitive = Primitive("cond(index, *inputs, branches) -> results")


@cond_primitive.infer
def _(index, *inputs, branches):
    for branch in branches:
        _check_fit(inputs, branch.inputs)
        _check_fit(branch.outputs, branches[0].outputs)
    return _like(branches[0].outputs)


@cond_primitive.array
def _(xp, index, *inputs, branches):
    if hooks.launch is not None:  # a rehearsal: all kernels are wanted, and values mean nothing
        for branch in branches[1:]:
            branch.evaluate(inputs)
        return branches[0].evaluate(inputs)
    return branches[min(max(int(index), 0), len(branches) - 1)].evaluate(inputs)


@cond_primitive.vjp
def _(g, index, inputs, branches):
    """For graphs that are replayed; while tracing, `choose` does better."""
    gs = g if isinstance(g, tuple) else (g,)
    wanted = [x.dtype.kind not in "biu" for x in inputs]

    def back(branch):
        with mode(tape=state.tape or Tape()):
            leaves = [fresh_leaf(x) for x in inputs]
            ys = replay(branch, leaves)
        sources = [(x.node, x.slot) for x, want in zip(leaves, wanted, strict=True) if want]
        found = iter(backpropagate(ys, gs, sources))
        return [next(found) if want else None for want in wanted]

    def pull(branch):
        found = zip(back(branch), inputs, wanted, strict=True)
        return [_given(g, x.shape, x.dtype, x.device) for g, x, want in found if want]

    pulls = [lambda branch=branch: pull(branch) for branch in branches]
    if type(index.data) is Symbol:
        results = iter(choose(index, pulls, "cond"))
    else:
        results = iter(pulls[min(max(index.item(), 0), len(pulls) - 1)]())
    return (None, *[next(results) if want else None for want in wanted])


def _given(g, shape, dtype, device):
    """A cotangent, or zeros, of which there is one in memory."""
    if g is None:
        return broadcast_to(full((), dtype, 0, device), shape)
    return cast_to(g, dtype)


def choose(index: Tensor, functions: Sequence[Callable], what: str) -> Any:
    """Records a choice: returns what the function with a traced number returns.

    Args:
        index: Number of the function, limited to those there are.
        functions: Without arguments. They may use all that is there, and write Variables.
        what: Name of the op, for messages.

    Raises:
        TraceError: If they do not return the same nests, shapes and dtypes.
    """
    outside = Outside(index.device)
    graphs = [Inner(index.device, outside) for _ in functions]
    nests = [
        flatten(outside.trace(graph, _converted, f, what))
        for graph, f in zip(graphs, functions, strict=True)
    ]
    for _, structure in nests[1:]:
        check_structure(f"All branches of {what} must return the same nest", structure, nests[0][1])
    results = _unified([leaves for leaves, _ in nests], what)
    variables = {key: v for graph in graphs for key, (v, _) in graph.writes.items()}
    for graph, found in zip(graphs, results, strict=True):
        found += [graph.read(v) for v in variables.values()]
    outs = _record_choice(index, graphs, results, outside)
    count = len(outs) - len(variables)
    for variable, value in zip(variables.values(), outs[count:], strict=True):
        variable.assign(value)
    return optree.tree_unflatten(nests[0][1], outs[:count])


def _converted(f, what):
    """The result of a branch; leaves are tensors or numbers, for Variables may change later."""
    leaves, structure = flatten(f())
    for x in leaves:
        if isinstance(x, str) or not (isinstance(x, _NUMBERS) or _is_array(x)):
            raise TraceError(
                f"While tracing, the branches of {what} return tensors, for both are in the graph. "
                + received(result=x)
            )
    leaves = [x if type(x) in _NUMBERS else as_tensor(x) for x in leaves]
    return optree.tree_unflatten(structure, leaves)


def _is_array(x):
    return hasattr(x, "__gpunet_tensor__") or hasattr(x, "shape")


def _unified(nests, what):
    """Numbers as tensors of the dtypes that other branches have there; checks that all agree."""
    likes = []
    for leaves in zip(*nests, strict=True):
        tensors = [x for x in leaves if type(x) is Tensor]
        likes.append(tensors[0] if tensors else as_tensor(max(leaves, key=_width)))
    results = [[as_like(x, like) for x, like in zip(nest, likes, strict=True)] for nest in nests]
    for found in results:
        check_alike(f"All branches of {what} must return the same shapes and dtypes", found, likes)
    return results


def _width(number):
    return _NUMBERS.index(type(number))


def _record_choice(index, graphs, results, outside):
    """Records the equation, and its node on the tape."""
    tape = state.tape
    for graph, found in zip(graphs, results, strict=True):
        graph.outputs = [graph.symbol(y.data) for y in found]
    if not results[0]:
        return []
    inputs = outside.close(graphs)
    with mode(tape=None):
        outs = list(cond_primitive(index, *inputs, branches=tuple(graphs)))
    if tape is None:
        return outs
    places = dependencies([y for found in results for y in found], tape, outside.holds)

    def pull(gs):
        return _pull_choice(index, graphs, results, outside, places, gs)

    if places:
        attach("cond", outs, tape, places, pull)
    return outs


def _pull_choice(index, graphs, results, outside, places, gs):
    """The gradient of a choice: a choice among graphs that go forward again, and back."""
    outside, sources = outside.again(), [place[:2] for place in places]
    backs = [graph.extended(outside) for graph in graphs]
    found = [
        outside.trace(back, backpropagate, ys, gs, sources, False, outside.holds)
        for back, ys in zip(backs, results, strict=True)
    ]
    used = [any(column) for column in _columns(found)]
    cotangents = [
        outside.trace(back, _filled, row, places, used, index.device)
        for back, row in zip(backs, found, strict=True)
    ]
    outs = iter(_record_choice(index, backs, cotangents, outside))
    return [next(outs) if use else None for use in used]


def _columns(rows):
    return [[x is not None for x in column] for column in zip(*rows, strict=True)]


def _filled(row, places, used, device):
    triples = zip(row, places, used, strict=True)
    return [_given(g, place.shape, place.dtype, device) for g, place, use in triples if use]


# -- loops ----------------------------------------------------------------------------------------

while_primitive = Primitive("while_loop(flag, *inputs, body, count, limit) -> results")


@while_primitive.infer
def _(flag, *inputs, body, count, limit):
    _check_fit(inputs, body.inputs)
    _check_fit(body.outputs, [Symbol((), bool), *inputs[:count]])
    return _like(inputs[:count])


@while_primitive.array
def _(xp, flag, *inputs, body, count, limit):
    values, rest, turns = inputs[:count], inputs[count:], 0
    rehearsal = hooks.launch is not None  # then values mean nothing, and one turn shows all
    while turns == 0 if rehearsal else (limit is None or turns < limit) and bool(flag):
        flag, *values = body.evaluate((*values, *rest))
        turns += 1
    return tuple(values)


def _no_gradient(*_, **attributes):
    raise LoopGradientError(
        "A loop whose number of turns depends on values cannot be differentiated while tracing: "
        "the graph would have to keep an unknown number of results. Use `fori_loop` or `scan` with "
        "a number that Python knows, and `where` or `cond` inside; or run it outside of a graph."
    )


while_primitive.vjp(_no_gradient, names=())


def repeat(
    test: Callable, body: Callable, values: tuple, going: Tensor, limit: int | None, what: str
) -> Any:
    """Records a loop; returns the last values, as a tuple.

    Args:
        test: `test(*values) -> predicate`.
        body: `body(*values) -> values`.
        values: What the loop starts with.
        going: The predicate for these.
        limit: The most turns, or `None`.
        what: Name of the op, for messages.

    Raises:
        TraceError: If a turn changes the nest, a shape or a dtype.
    """
    leaves, structure = flatten(values)
    start = _started(body, leaves, structure, what)
    device = start[0].device if start else going.device
    outside, symbols = Outside(device), [Symbol(x.shape, x.dtype) for x in start]
    graph = Inner(device, outside)

    def turn():
        out, new = _turned(body, [Tensor(s, device) for s in symbols], structure, what)
        check_alike(f"Each turn of {what} must keep shapes and dtypes", new, start)
        written = [id(value) for _, value in graph.writes.values()]
        again = flag(test(*out), what)
        if limit is not None and written != [id(value) for _, value in graph.writes.values()]:
            raise TraceError(
                f"While tracing, the condition of {what} must not write Variables where the number "
                "of turns is limited: do that in the body."
            )
        return again, new

    again, new = outside.trace(graph, turn)
    graph.outputs = [graph.symbol(y.data) for y in (again, *new)]
    outs = _record_loop(going, start, graph, symbols, outside, limit, new)
    return optree.tree_unflatten(structure, outs)


def _turned(body, values, structure, what):
    """What a turn returns, and its leaves as tensors; numbers take the dtypes of before."""
    out = body(*optree.tree_unflatten(structure, values))
    out = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    leaves, found = flatten(out)
    check_structure(f"The body of {what} must return what it takes", found, structure)
    return out, [as_like(x, like) for x, like in zip(leaves, values, strict=True)]


def _started(body, leaves, structure, what):
    """What a loop starts with, as tensors; a number takes the dtype that the body makes of it."""
    start = [as_tensor(x) for x in leaves]
    if not any(type(x) in _NUMBERS for x in leaves):
        return start
    device = start[0].device
    outside, symbols = Outside(device), [Tensor(Symbol(x.shape, x.dtype), device) for x in start]
    with mode(tape=None):
        _, new = outside.trace(Inner(device, outside), _turned, body, symbols, structure, what)
    triples = zip(leaves, start, new, strict=True)
    return [as_like(x, y) if type(x) in _NUMBERS else s for x, s, y in triples]


def _record_loop(going, start, graph, symbols, outside, limit, new):
    """Records the equation; Variables that the body writes go from turn to turn, too."""
    tape = state.tape
    carried = [(v, outside.read(v), value) for v, value in graph.writes.values()]
    symbols = [*symbols, *[before.data for _, before, _ in carried]]
    graph.outputs += [graph.symbol(value.data) for _, _, value in carried]
    start = [*start, *[outside.value(before.data) for _, before, _ in carried]]
    rest = outside.close([graph], symbols)
    with mode(tape=None):
        outs = while_primitive(going, *start, *rest, body=graph, count=len(start), limit=limit)
    outs = list(outs)
    if tape is not None:
        depend = dependencies([*new, *start], tape, outside.holds)
        if depend:
            attach("while_loop", outs, tape, depend, _no_gradient)
    count = len(outs) - len(carried)
    for (variable, _, _), value in zip(carried, outs[count:], strict=True):
        variable.assign(value)
    return outs[:count]
