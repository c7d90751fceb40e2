"""How users ask for gradients: `GradientTape`, `grad`, `value_and_grad`, `custom_gradient`."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optree

from gpunet.core.autograd import Tape, backpropagate, fresh_leaf, full
from gpunet.core.state import mode, state
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, GradientError, ShapeError, received


class GradientTape:
    """Records ops in a `with` block so that `gradient` can differentiate through them.

    Tapes nest, for gradients of gradients. Outside of every tape nothing is recorded.

    Args:
        persistent: Whether `gradient` may be called more than once.
        watch_accessed_variables: Whether reading a trainable Variable watches it.

    Example:
        >>> import gpunet
        >>> x = gpunet.tensor(3.0)
        >>> with gpunet.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.gradient(y, x).item()
        6.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._tape: Tape | None = None
        self._used = False
        self._mode: Any = None
        self._outermost = False

    def __enter__(self) -> "GradientTape":
        if self._mode is not None:
            raise GradientError("This GradientTape is recording already.")
        self._outermost = state.tape is None
        self._tape, self._used = state.tape or Tape(), False
        self._mode = mode(tape=self._tape, watching=self.watch_accessed_variables)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
        self._mode = None

    def watch(self, tensors: Any) -> None:
        """Makes tensors (or a nest of them) sources of gradients.

        Raises:
            DTypeError: If one is not a float tensor.
            GradientError: Outside of the `with` block.
        """
        if self._mode is None or self._tape is None:
            raise GradientError("watch() works inside of the `with` block of its tape.")
        for x in _leaves(tensors):
            if isinstance(x, Variable):
                x.watch(self._tape)
            else:
                self._tape.watch(x)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Records nothing for a block."""
        with mode(tape=None):
            yield

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: str = "none",
    ) -> Any:
        """Returns the gradient of `target` (summed over its elements) for each source.

        Args:
            target: Tensor or nest of tensors computed while recording.
            sources: Tensor, Variable, or nest of them.
            output_gradients: Cotangents of the targets, of their shapes; default ones.
            unconnected_gradients: `"none"` or `"zero"`: what a source without a part in the target
                gets.

        Returns:
            Tensors (or `None`) in the structure of `sources`.

        Raises:
            GradientError: If the tape was used before and is not persistent.
            ShapeError: If an output gradient has not the shape of its target.
        """
        if self._tape is None:
            raise GradientError("gradient() needs ops recorded in a `with` block first.")
        if self._used and not self.persistent:
            raise GradientError(
                "A GradientTape gives gradients once; use GradientTape(persistent=True) for more."
            )
        if unconnected_gradients not in ("none", "zero"):
            raise ArgumentError(
                '`unconnected_gradients` must be "none" or "zero". '
                + received(unconnected_gradients=unconnected_gradients)
            )
        targets = [as_tensor(y) for y in _leaves(target)]
        cotangents = _cotangents(targets, output_gradients, not isinstance(target, Operators))
        found_leaves, structure = optree.tree_flatten(sources, is_leaf=_is_leaf)
        places = [_place(x, self._tape) for x in found_leaves]
        alone = self._outermost and not self.persistent
        release = alone and state.graph is None
        with mode(tape=None if alone and state.tape is self._tape else state.tape):
            found = backpropagate(targets, cotangents, places, release)
            if unconnected_gradients == "zero":
                found = _filled(found, found_leaves)
        self._used = True
        return optree.tree_unflatten(structure, found)


def _is_leaf(x):
    return isinstance(x, Operators)


def _leaves(nest):
    return optree.tree_leaves(nest, is_leaf=_is_leaf)


def _filled(found, sources):
    """Puts zeros where a source has no part in the target."""
    pairs = zip(found, sources, strict=True)
    return [full(x.shape, x.dtype, 0, x.device) if g is None else g for g, x in pairs]


def _place(x, tape):
    if isinstance(x, Variable):
        return x.place(tape)
    if not isinstance(x, Tensor):
        raise GradientError(f"A source must be a Tensor or Variable. {received(type=type(x))}")
    on_tape = x.node is not None and x.node.tape is tape
    return (x.node, x.slot) if on_tape else (None, 0)


def _cotangents(targets, given, nested):
    if given is None:
        return [None] * len(targets)
    # A target that is no nest takes anything that makes a tensor, such as a list of numbers.
    given = _leaves(given) if nested else [given]
    cotangents = [None if g is None else as_tensor(g) for g in given]
    for y, g in zip(targets, cotangents, strict=True):
        if g is not None and g.shape != y.shape:
            raise ShapeError(
                "An output gradient must have the shape of its target. "
                + received(target=y.shape, output_gradient=g.shape)
            )
    return cotangents


def value_and_grad(f: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Returns a function that computes `f` and its gradient.

    Args:
        f: Function of nests of tensors or Variables with a scalar tensor as its result.
        argnums: Which positional arguments to differentiate by.

    Returns:
        A function `(*args) -> (value, gradient)`; the gradient has the structure of the argument,
        and is a tuple of such where `argnums` is a tuple.

    Raises:
        ShapeError: If the result of `f` is no scalar.

    Example:
        >>> import gpunet
        >>> value, gradient = gpunet.value_and_grad(lambda x: (x * x).sum())([1.0, 2.0])
        >>> value.item(), gradient.tolist()
        (5.0, [2.0, 4.0])
    """
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)

    @functools.wraps(f)
    def differentiated(*args, **kwargs):
        outer = state.tape
        args = list(args)
        with mode(tape=outer or Tape()):
            tape = state.tape
            for i in numbers:
                args[i] = _as_sources(args[i], tape)
            y = as_tensor(f(*args, **kwargs))
        if y.shape != ():
            raise ShapeError(f"The function must return a scalar. {received(shape=y.shape)}")
        chosen: Any = [args[i] for i in numbers]
        leaves, structure = optree.tree_flatten(chosen, is_leaf=_is_leaf)
        places = [_place(x, tape) for x in leaves]
        found = backpropagate([y], [None], places, release=outer is None and state.graph is None)
        gradients = optree.tree_unflatten(structure, _filled(found, leaves))
        return y, (tuple(gradients) if isinstance(argnums, tuple) else gradients[0])

    return differentiated


def _as_sources(argument: Any, tape: Tape) -> Any:
    found, is_dict = _leaves(argument), type(argument) is dict
    if found and not is_dict and not any(map(_is_leaf, found)):
        return fresh_leaf(as_tensor(argument))  # numbers, in lists or not

    def source(x):
        if isinstance(x, Variable):
            x.watch(tape)
            return x
        return fresh_leaf(as_tensor(x))

    return optree.tree_map(source, argument, is_leaf=_is_leaf)


def grad(f: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Returns a function that computes the gradient of `f`; see `value_and_grad`.

    Example:
        >>> import gpunet
        >>> gpunet.grad(gpunet.grad(lambda x: x**3))(2.0).item()
        12.0
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*args, **kwargs):
        return both(*args, **kwargs)[1]

    return gradient


class _CustomOp:
    """Stands for a primitive on the tape: a function with a gradient written by the user."""

    name = "custom_gradient"
    keeps: tuple = ()
    differentiable = True

    def __init__(self, pull):
        self.rules = {"vjp": pull}


def custom_gradient(f: Callable) -> Callable:
    """Decorates a function that returns its result and its own gradient function.

    Args:
        f: `f(*tensors) -> (y, grad)`, where `grad(*upstream)` gets the cotangents of the results
            and returns one cotangent for each tensor argument.

    Returns:
        A function `(*tensors) -> y`.

    Example:
        >>> import gpunet
        >>> @gpunet.custom_gradient
        ... def double_with_unit_gradient(x):
        ...     return 2 * x, lambda upstream: upstream
        >>> gpunet.grad(double_with_unit_gradient)(5.0).item()
        1.0
    """

    @functools.wraps(f)
    def wrapped(*args, **kwargs):
        inputs = [as_tensor(x) for x in args]
        with mode(tape=None):
            y, pull = f(*inputs, **kwargs)
        flat, structure = optree.tree_flatten(y, is_leaf=_is_leaf)
        outs = tuple([Tensor(as_tensor(t).data, as_tensor(t).device) for t in flat])

        def vjp(g):
            result = pull(*(g if isinstance(g, tuple) else (g,)))
            result = list(result) if isinstance(result, (list, tuple)) else [result]
            if len(result) != len(inputs):
                raise GradientError(
                    f"The gradient of {f.__name__} must return one cotangent an argument "
                    f"({len(inputs)}). {received(count=len(result))}"
                )
            return result

        tape = state.tape
        if tape is not None and any(x.node is not None and x.node.tape is tape for x in inputs):
            tape.record(_CustomOp(vjp), {}, inputs, outs)
        return optree.tree_unflatten(structure, outs)

    return wrapped


def stop_gradient(x: Any) -> Any:
    """Returns the tensor (or nest of tensors) as a constant: no gradient flows back through it.

    Example:
        >>> import gpunet
        >>> gpunet.grad(lambda x: x * gpunet.stop_gradient(x))(3.0).item()
        3.0
    """

    def stop(t):
        t = as_tensor(t)
        return Tensor(t.data, t.device)

    return optree.tree_map(stop, x, is_leaf=_is_leaf)


def no_grad() -> Any:
    """Returns a context in which nothing is recorded for gradients.

    Example:
        >>> import gpunet
        >>> with gpunet.no_grad():
        ...     y = gpunet.tensor(2.0) * 3
    """
    return mode(tape=None)
