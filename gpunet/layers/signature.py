"""What is known of a layer's `call` before it is called: names, defaults, masks, shapes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gpunet.core.symbolic import KerasTensor, flatten
from gpunet.core.tensor import Operators, Tensor
from gpunet.errors import ArgumentError, received

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class CallSignature:
    """Facts of one `call` function, computed once.

    Attributes:
        names: Parameter names, in order.
        training: Whether there is a parameter `training`.
        training_default: Its default.
        masks: Whether there is a parameter `mask` or one ending with `_mask`.
    """

    def __init__(self, function: Callable, bound: bool = False):
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[0 if bound else 1 :]
        self.signature = signature.replace(parameters=parameters)
        self.names = [p.name for p in parameters]
        self.variadic = {p.name for p in parameters if p.kind in _VARIADIC}
        self.training = "training" in self.names
        default = self.signature.parameters["training"].default if self.training else None
        self.training_default = None if default is inspect.Parameter.empty else default
        self.masks = any(name == "mask" or name.endswith("_mask") for name in self.names)


@functools.lru_cache(maxsize=4096)
def call_signature(function: Callable) -> CallSignature:
    """Returns the facts of an unbound `call`."""
    return CallSignature(function)


class Arguments:
    """The arguments of one call, by name.

    Attributes:
        given: What the caller passed.
        all: The same with the defaults.
        tensors: Those that are tensors, or non-empty nests of tensors.
        first: The first argument.
    """

    __slots__ = ("all", "first", "given", "nested", "tensors")

    def __init__(self, signature: CallSignature, args: tuple, kwargs: dict):
        bound = signature.signature.bind(*args, **kwargs)
        self.given = dict(bound.arguments)
        bound.apply_defaults()
        self.all = bound.arguments
        self.tensors: dict[str, Any] = {}
        self.nested: set[str] = set()
        for name, value in self.all.items():
            if is_tensor(value):
                self.tensors[name] = value
            elif isinstance(value, (list, tuple, dict)) and value:
                self._add_nest(name, value)
        self.first = next(iter(self.all.values()), None)

    def _add_nest(self, name, value):
        found = [is_tensor(x) for x in flatten(value)]
        if found and all(found):
            self.tensors[name] = value
            self.nested.add(name)
        elif any(found):
            raise ArgumentError(
                "A nested argument of a layer holds tensors or other values, not both. "
                + received(**{name: value})
            )

    def shapes(self, variadic: set[str]) -> dict[str, Any]:
        """Returns the shapes of the tensor arguments, as `<name>_shape`; masks have none."""
        return {
            f"{name}_shape": shapes_of(value)
            for name, value in self.tensors.items()
            if name != "mask" and name not in variadic
        }


def is_tensor(x: Any) -> bool:
    """Tells whether `x` is a Tensor, Variable or KerasTensor."""
    return type(x) is Tensor or isinstance(x, Operators)


def is_symbolic(nest: Any) -> bool:
    """Tells whether there is a KerasTensor in a nest."""
    return any(isinstance(x, KerasTensor) for x in flatten(nest))


def shapes_of(nest: Any) -> Any:
    """Returns a nest of tensors as the nest of their shapes."""
    if nest is None:
        return None
    if isinstance(nest, dict):
        return {key: shapes_of(value) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [shapes_of(x) for x in nest]
    return tuple(nest.shape)


def is_shape(value: Any) -> bool:
    """Tells whether a value is one shape: a list or tuple of ints and `None`."""
    return isinstance(value, (list, tuple)) and all(
        d is None or (isinstance(d, int) and not isinstance(d, bool)) for d in value
    )


def map_shapes(f: Callable, shapes: Any) -> Any:
    """Applies `f` to every shape in a nest of shapes."""
    if shapes is None:
        return None
    if is_shape(shapes):
        return f(tuple(shapes))
    if isinstance(shapes, dict):
        return {key: map_shapes(f, value) for key, value in shapes.items()}
    return type(shapes)([map_shapes(f, value) for value in shapes])


@functools.lru_cache(maxsize=4096)
def _shape_parameters(function):
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [p.name for p in parameters if p.kind not in _VARIADIC]


def arrange_shapes(
    function: Callable, owner: str, shapes: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Returns the shapes that a `build` or `compute_output_shape` asks for, by parameter name.

    A function with one parameter gets the first shape. One with more gets `<name>_shape` for every
    argument `<name>` of `call`.

    Raises:
        ArgumentError: If a parameter's name does not tell which argument it means.
    """
    names = _shape_parameters(function)
    if len(names) == 1:
        return {names[0]: next(iter(shapes.values()), None)}
    for name in names:
        if not name.endswith("_shape") or name.removesuffix("_shape") not in arguments:
            raise ArgumentError(
                f"{owner}: a `{function.__name__}()` method with more than one argument names them "
                "after the arguments of `call()` with a `_shape` suffix, such as `inputs_shape`. "
                + received(argument=name, call_arguments=list(arguments))
            )
    return {name: shapes[name] for name in names if name in shapes}
