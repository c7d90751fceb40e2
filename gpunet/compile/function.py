"""`function`: Python traced once for each signature of its arguments, then run as a graph."""

import functools
import linecache
import traceback
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optree

from gpunet import config
from gpunet.backend import native
from gpunet.backend.device import current_device
from gpunet.compile.effects import Effects, effects
from gpunet.compile.executable import Executable
from gpunet.compile.graph import Graph
from gpunet.compile.inputs import Pending
from gpunet.compile.interpreter import run_step_by_step
from gpunet.compile.passes import optimize
from gpunet.compile.program import Program
from gpunet.core import trace
from gpunet.core.state import mode, state
from gpunet.core.tensor import Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, DeviceError, KernelError, TraceError
from gpunet.ops.control_graph import Inner
from gpunet.origin import is_users

# Rooms above add what else a trace depends on, such as whether a layer is in training.
CIRCUMSTANCES: list[Callable[[], Any]] = []

_MOST_GRAPHS = 32  # of one function; the one that was not used for longest goes
_MANY_TRACES = 8  # after so many a warning tells the reason


class _Signature(NamedTuple):
    """What a graph was traced for."""

    structure: Any
    arguments: tuple  # for each leaf: ("tensor", shape, dtype), or ("value", ...)
    circumstances: tuple


class _Traced(NamedTuple):
    executable: Any  # what `executable` returned
    trainable: tuple[bool, ...]  # of the Variables it uses: a tape watches the trainable ones


class Function:
    """A Python function that runs as a graph; `gpunet.function` makes it.

    Attributes:
        trace_count: How often the Python function was traced.
    """

    def __init__(self, f: Callable):
        functools.update_wrapper(self, f)
        self.__name__: str = getattr(f, "__name__", type(f).__name__)
        self._f = f
        self._traced: OrderedDict[_Signature, _Traced] = OrderedDict()
        self._reasons: list[str] = []
        self.trace_count = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph of these arguments, traced first if there is none.

        Inside of another trace, and while a tape outside records, Python runs as it stands: the ops
        land in that trace or on that tape.

        Raises:
            TraceError: If Python asks for the value of a tensor.
        """
        if state.graph is not None or state.tape is not None or state.scope is not None:
            return self._f(*args, **kwargs)
        signature, tensors = self._signature(args, kwargs)
        found = self._traced.get(signature)
        if found is None or found.trainable != _trainable(found.executable.graph):
            found = self._trace(signature, args, kwargs)
        self._traced.move_to_end(signature)
        executable = found.executable
        if config.is_debug_enabled() and executable.graph.device.kind == "cpu":
            out = run_step_by_step(executable.graph, tensors)
        else:
            out = executable(*tensors)
        return optree.tree_unflatten(executable.graph.structure, out)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Makes a method: each object has graphs of its own."""
        if instance is None:
            return self
        name = self._f.__name__
        bound = instance.__dict__.get(name)
        if bound is None:
            bound = Function(functools.partial(self._f, instance))
            functools.update_wrapper(bound, self._f)
            instance.__dict__[name] = bound
        return bound

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """Returns the Graph of these arguments, traced if need be; nothing is computed."""
        signature, _ = self._signature(args, kwargs)
        found = self._traced.get(signature) or self._trace(signature, args, kwargs)
        return found.executable.graph

    def effects(self, *args: Any, **kwargs: Any) -> Effects:
        """Returns what each pass does to the graph of these arguments; it prints as a table.

        Example:
            >>> import gpunet
            >>> f = gpunet.function(lambda x: x * 1 + x * 1)
            >>> effects = f.effects(gpunet.tensor([1.0, 2.0]))
            >>> effects[0]
            Effect(name='traced', equations=3, bytes=64, peak=24)
            >>> effects[-1]
            Effect(name='fuse_elementwise', equations=1, bytes=24, peak=8)
        """
        return effects(self._graph(args, kwargs))

    def explain(self) -> str:
        """Tells why the function was traced, each time: what had changed."""
        return "\n".join(f"{i}. {reason}" for i, reason in enumerate(self._reasons, 1))

    def _signature(self, args, kwargs):
        signature, tensors = _signature(args, kwargs)
        try:
            hash(signature)
        except TypeError as error:
            raise ArgumentError(
                f"`{self.__name__}` cannot tell calls apart by an argument that is neither a "
                f"tensor nor hashable: {error}. Pass a tensor, a tuple or a number."
            ) from error
        return signature, tensors

    def _trace(self, signature, args, kwargs):
        reason = self._reason(signature)
        graph = self._graph(args, kwargs)
        traced = _Traced(executable(optimize(graph)), _trainable(graph))
        self._traced[signature] = traced
        if len(self._traced) > _MOST_GRAPHS:
            self._traced.popitem(last=False)
        self._reasons.append(reason)
        self.trace_count += 1
        if self.trace_count == _MANY_TRACES:
            warnings.warn(
                f"`{self.__name__}` was traced {_MANY_TRACES} times, which costs more than it "
                f"saves. The last time: {reason}. Pass what changes as a tensor, in few shapes: "
                "batches of one size.",
                stacklevel=4,
            )
        return traced

    def _graph(self, args, kwargs):
        leaves, structure = _flatten(args, kwargs)
        places = [i for i, leaf in enumerate(leaves) if _is_array(leaf)]

        def call(*tensors):
            for i, x in zip(places, tensors, strict=True):
                leaves[i] = x
            args, kwargs = optree.tree_unflatten(structure, leaves)
            return self._f(*args, **kwargs)

        try:
            with mode(tape=None):
                return Graph.of(trace.trace(call, *[leaves[i] for i in places]))
        except TraceError as error:
            place = _users_line(error)
            raise type(error)(f"{error}{place}") from error

    def _reason(self, signature):
        if not self._traced:
            return "the first call"
        last = next(reversed(self._traced))
        if last.structure != signature.structure:
            return "arguments are nested differently"
        for i, (old, new) in enumerate(zip(last.arguments, signature.arguments, strict=True)):
            if old != new:
                return f"argument {i + 1} was {_shown(old)} and is {_shown(new)}"
        if last.circumstances != signature.circumstances:
            return "it was called in other circumstances (device, training)"
        return "a Variable was made trainable, or no longer is"


def function(f: Callable | None = None) -> Any:
    """Makes a Python function run as a graph: traced once, replayed fast from then on.

    Tensors and arrays among the arguments, in any nest, are inputs of the graph: each shape and
    dtype has a graph of its own. All other arguments are part of the signature: a number, a text or
    an object with another value is another graph, so pass what changes as a tensor. Variables that
    the function reads and writes are inputs and outputs, too. Python runs while tracing only: its
    `print` prints once, and its `if` may not depend on the values of tensors.

    All Variables are written when the whole graph has run; where it fails, none is.

    Args:
        f: The function; also a method, whose objects have graphs of their own.

    Returns:
        A `Function` with the signature of `f`.

    Raises:
        TraceError: When called, if Python needs the value of a tensor; with the line.

    Example:
        >>> import gpunet
        >>> @gpunet.function
        ... def power(x, n):
        ...     return x**n
        >>> power(gpunet.tensor([1.0, 2.0]), 3).tolist()
        [1.0, 8.0]
        >>> print(power.graph(gpunet.tensor([1.0, 2.0]), 3))
        { graph a:float32[2]
          b:float32[] = constant 3.0
          c:float32[2] = power a b
          return c:float32[2] }
        >>> power(gpunet.tensor([1.0, 2.0]), 2).tolist()
        [1.0, 4.0]
        >>> print(power.explain())
        1. the first call
        2. argument 2 was 3 and is 2
    """
    return function if f is None else Function(f)


def executable(graph: trace.Graph) -> Any:
    """Returns what runs a graph fastest here.

    That is a `CudaExecutable` on a GPU; on the CPU a `Program` of C++ kernels, or an `Executable`.
    """
    if graph.device.kind != "cpu":
        from gpunet.compile.cuda_executable import CudaExecutable  # the CPU can do without it

        return CudaExecutable(graph)
    if native.wanted() and any("native" in eq.op.rules for eq in graph.equations):
        try:
            return Program(graph)
        except (DeviceError, KernelError, OSError) as error:
            warnings.warn(f"A graph runs on NumPy, slower: {error}", stacklevel=2)
    return Executable(graph)


def _compiled(graph):
    """Runs a graph inside of an equation, written out as a function of arrays."""
    run = Executable(optimize(graph))
    device = graph.device
    return lambda *arrays: [y.data for y in run(*[Tensor(x, device) for x in arrays])]


Inner.compiled = staticmethod(_compiled)


# -- signatures -----------------------------------------------------------------------------------


def _signature(args, kwargs):
    """Returns what the graph depends on, and the tensors that go into it."""
    leaves, structure = _flatten(args, kwargs)
    arguments, tensors = [], []
    for leaf in leaves:
        if _is_array(leaf):
            x = leaf if type(leaf) is Tensor or isinstance(leaf, Pending) else as_tensor(leaf)
            tensors.append(x)
            arguments.append(("tensor", x.shape, x.dtype, x.device))
        else:
            arguments.append(("value", type(leaf), _key(leaf)))
    circumstances = (current_device(), config.cpu_kernels(), config.passes(), state.autocast)
    circumstances += tuple([ask() for ask in CIRCUMSTANCES])
    return _Signature(structure, tuple(arguments), circumstances), tensors


def _flatten(args, kwargs):
    nest: Any = (args, kwargs)
    return optree.tree_flatten(nest, is_leaf=_is_leaf)


def _is_leaf(x):
    return isinstance(x, Operators)


def _is_array(x):
    """Tells whether an argument is an input of the graph; a Variable is one by itself."""
    if isinstance(x, Variable):
        return False
    if isinstance(x, Pending):
        return True
    return type(x) is Tensor or isinstance(x, (np.ndarray, np.generic)) or hasattr(x, "__dlpack__")


def _key(leaf):
    """What stands for an argument that is no tensor: its value, or the object itself."""
    if type(leaf).__hash__ is object.__hash__ or isinstance(leaf, Variable):
        return weakref.ref(leaf)
    return leaf


def _trainable(graph):
    return tuple([variable.trainable for variable, _, _ in graph.cells.values()])


def _shown(argument):
    if argument[0] == "tensor":
        return f"{argument[2].name}{list(argument[1])}"
    value = argument[2]
    return repr(value() if isinstance(value, weakref.ref) else value)


def _users_line(error):
    """Where in the user's code a trace stopped: the last line outside of gpunet."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_users(frame.filename)]
    if not own:
        return ""
    last = own[-1]
    text = linecache.getline(last.filename, last.lineno or 0).strip()
    return f". In {last.filename}, line {last.lineno}: `{text}`"
