"""How a layer is called: everything between a user's call and the layer's `call`.

There are two ways. The slow one converts the arguments, checks them, builds the layer and handles
masks. When it went through once, and nothing needed to be done to the input, later calls with a
tensor of the same shape and dtype take the fast one.
"""

import warnings
from collections.abc import Callable
from typing import Any

from gpunet.compile.function import CIRCUMSTANCES
from gpunet.core.state import state
from gpunet.core.symbolic import (
    CallNode,
    KerasTensor,
    SymbolicArgument,
    flatten,
    map_structure,
)
from gpunet.core.tensor import FUNCTIONS, Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import is_float, numpy_dtype, standardize_dtype
from gpunet.errors import ArgumentError, DTypeError, GpunetError, StateError, received
from gpunet.layers.input_spec import assert_input_compatibility
from gpunet.layers.signature import Arguments, CallSignature, is_symbolic, is_tensor
from gpunet.layers.state import StatefulOperation, calls
from gpunet.ops.checkpoint import RematMode, checkpoint, checkpoint_larger, is_recomputed

CIRCUMSTANCES.append(lambda: calls.training)  # layers inside of a graph act by it
_MAX_SEEN = 64
_PLAIN_ERRORS = (ValueError, TypeError, RuntimeError)


class _Plan:
    """What the fast way of calling a built layer needs to know.

    Attributes:
        seen: Shapes and dtypes of inputs that passed the checks as they were.
        training: Whether `call` takes `training`; `training_default` is its default.
        cast: Dtype that variables are read in by themselves; `inner_cast` within another layer.
        masks: Whether `compute_mask` has something to do without an incoming mask.
    """

    __slots__ = ("cast", "inner_cast", "masks", "seen", "training", "training_default")

    def __init__(self, layer):
        facts = layer._call_facts
        self.seen: set = set()
        self.training, self.training_default = facts.training, facts.training_default
        compute = layer.compute_dtype
        self.cast = compute if compute != layer.variable_dtype else None
        self.inner_cast = compute if layer.autocast and is_float(compute) else None
        self.masks = layer._supports_masking and not is_default(type(layer).compute_mask)


def default(method: Callable) -> Callable:
    """Marks a method of `Layer` that subclasses may replace."""
    method._is_default = True  # type: ignore[attr-defined]
    return method


def is_default(method: Callable) -> bool:
    """Tells whether a method is the one of `Layer`, not replaced by a subclass."""
    return getattr(method, "_is_default", False)


class CalledOperation(StatefulOperation):
    """The calling side of `Layer`."""

    _plan: _Plan | None
    _call_facts: CallSignature
    _call_context_args: set[str]
    _convert_input_args: bool
    _allow_non_tensor_positional_args: bool
    _called: bool
    _input_spec: Any
    _path: str | None
    _recomputed_as_a_whole = True  # in a `RematScope`
    _remat_mode: RematMode | None = None
    _supports_masking: bool
    activity_regularizer: Any
    autocast: bool
    built: bool

    # -- calling --------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs; every layer defines it."""
        raise NotImplementedError(f"Layer {type(self).__name__} does not define `call`.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer on tensors, arrays or KerasTensors, and nests of them."""
        plan = self._plan
        if plan is not None and calls.context is None:
            if len(args) == 1 and type(x := args[0]) is Tensor:
                plain = getattr(x, "_keras_mask", None) is None
                key = (x.data.shape, x.data.dtype) if plain else None
            else:
                key = _plain_key(args)
            if key in plan.seen:
                if not kwargs:
                    return self._fast_call(plan, args, calls.training, plan.training_default)
                if len(kwargs) == 1 and kwargs.get("training") is not None:
                    return self._fast_call(plan, args, kwargs["training"], None)
        return self._slow_call(args, kwargs)

    def _fast_call(self, plan, args, training, default):
        """Calls `call` on tensors that need no conversion, check or mask."""
        cast, top, outer = state.autocast, not calls.calling, calls.training
        around, state.layer = state.layer, self._path or self.name
        if top:
            calls.calling = True
            self._clear_losses()
        state.autocast = plan.cast if cast is None else plan.inner_cast
        if training is None:
            training = default
        calls.training = training
        try:
            if plan.training and training is not None:
                y = self.call(*args, training=training)
            else:
                y = self.call(*args)
        except Exception as error:
            self._name_error(error)
            raise
        finally:
            state.autocast, calls.training, state.layer = cast, outer, around
            if top:
                calls.calling = False
        if plan.masks:
            self._set_masks(args[0], y, _masks_of(args[0]))
        return y

    def _slow_call(self, args, kwargs):
        self._check_super_called()
        given, symbolic = (args, dict(kwargs)), is_symbolic((args, kwargs))
        top, before = not calls.calling, (calls.training, calls.context)
        was_built, calls.calling = self.built, True
        around, state.layer = state.layer, self._path or self.name
        try:
            if self._convert_input_args:
                args, kwargs = self._convert((args, kwargs))
            self._check_positional(args)
            context = self._take_context(kwargs)
            arguments = self._bind(args, kwargs)
            self._check_inputs(arguments.first)
            if top:
                self._clear_losses()
            with self._name_scope():
                self._maybe_build(arguments)
                self._enter_context(arguments, context, kwargs)
                mask = self._fill_masks(arguments, kwargs)
                outputs = self._run(args, kwargs, symbolic)
            self._after(arguments, outputs, mask)
        except Exception as error:
            if not was_built:
                self._undo_build()
            self._name_error(error)
            raise
        finally:
            calls.training, calls.context = before
            state.layer = around
            if top:
                calls.calling = False
        if symbolic:
            CallNode(self, *given, outputs)
        else:
            self._remember(given[0], args)
        return outputs

    def _remember(self, given, used):
        """Lets later calls like this one take the fast way, if nothing was converted."""
        if not self._called:
            self._called = True
        if self.activity_regularizer is not None or not self.built or state.symbolic:
            return
        if self._remat_mode is not None:
            return
        alone = len(given) == 1 and type(given[0]) is Tensor
        key = _plain_key(given)
        if key is None or any(a is not b for a, b in zip(_items(given), _items(used), strict=True)):
            return
        plan = self._plan
        if plan is None:
            plan = self.__dict__["_plan"] = _Plan(self)
        seen = plan.seen
        if len(seen) >= _MAX_SEEN:
            seen.clear()
        seen.add(key[1:] if alone else key)

    def _convert(self, nest):
        """Arrays become tensors; floats are cast to the compute dtype."""
        dtype = self.input_dtype
        cast = self.autocast and is_float(dtype)

        def convert(x: Any) -> Any:
            y: Any = x
            if isinstance(x, Variable):
                y = x.value
            elif not isinstance(x, Operators):
                if not hasattr(x, "__array__") and not hasattr(x, "__dlpack__"):
                    return x
                y = as_tensor(x)
            if cast and standardize_dtype(y.dtype) != dtype and is_float(y.dtype):
                y = _cast(y, dtype)
            mask = getattr(x, "_keras_mask", None)
            if mask is not None and y is not x:
                y._keras_mask = mask
            return y

        return map_structure(convert, nest)

    def _check_positional(self, args):
        if self._allow_non_tensor_positional_args:
            return
        for x in flatten(args):
            if not is_tensor(x):
                raise ArgumentError(
                    "Only input tensors may be passed as positional arguments; pass other values "
                    f"by keyword. {received(argument=x, type=type(x).__name__)}"
                )

    def _take_context(self, kwargs):
        """Removes the arguments that only sublayers take, such as `training`."""
        names = self._call_context_args | set(calls.context or ())
        accepted = self._call_facts.signature.parameters
        return {n: kwargs.pop(n) for n in names if n in kwargs and n not in accepted}

    def _bind(self, args, kwargs):
        try:
            return Arguments(self._call_facts, args, kwargs)
        except TypeError as error:
            raise DTypeError(
                f"{error}. `call` takes {self._call_facts.signature}. "
                + received(positional=len(args), keywords=list(kwargs))
            ) from error

    def _enter_context(self, arguments, taken, kwargs):
        """Finds `training` (given, or from outside, or the default) and hands it on."""
        outside = {"training": calls.training, **(calls.context or {})}
        inside = dict(outside)
        for name in self._call_context_args:
            value = taken.get(name, arguments.given.get(name))
            if value is None:
                value = outside.get(name)
            if value is None:
                value = arguments.all.get(name)
            inside[name] = value
            if value is not None and name in self._call_facts.signature.parameters:
                kwargs[name] = value
        calls.training = inside.pop("training")
        calls.context = inside or None

    def _register_call_context_args(self, *names: str) -> None:
        """Makes arguments of `call` reach sublayers by themselves, as `training` does."""
        if self._called:
            raise StateError(f"Layer '{self.name}' was called already; register names before.")
        self._call_context_args = self._call_context_args | set(names)

    def _fill_masks(self, arguments, kwargs):
        """Sets the mask arguments not given from the masks of the inputs; returns the first one."""
        tensors = arguments.tensors
        if self._call_facts.masks:
            if len(tensors) == 1:
                wanted = {"mask": next(iter(tensors.values()))}
            else:
                wanted = {f"{name}_mask": value for name, value in tensors.items()}
            for name, value in wanted.items():
                if name in arguments.all and arguments.all[name] is None:
                    kwargs[name] = _masks_of(value)
        if kwargs.get("mask") is not None:
            return kwargs["mask"]
        return _masks_of(arguments.first)

    def _run(self, args, kwargs, symbolic):
        """Runs `call`, or its shape inference, with variables read in the compute dtype."""
        cast = state.autocast
        compute = self.compute_dtype
        if cast is None:
            state.autocast = compute if compute != self.variable_dtype else None
        else:
            state.autocast = compute if self.autocast and is_float(compute) else None
        try:
            if symbolic:
                return self.compute_output_spec(*args, **kwargs)
            return self.rematerialized_call(self.call, *args, **kwargs)(*args, **kwargs)
        finally:
            state.autocast = cast

    def rematerialized_call(self, layer_call: Callable, *args: Any, **kwargs: Any) -> Callable:
        """Returns the function to call: in a `RematScope` one that is computed again for gradients.

        Args:
            layer_call: What the layer computes.
            *args: What it will be called with.
            **kwargs: Likewise.
        """
        remat = self._remat_mode
        if remat is None or is_recomputed():
            return layer_call
        if remat.mode == "activations":
            return self._with_recomputed_activation(layer_call)
        if remat.mode == "list_of_layers":
            return checkpoint(layer_call) if self.name in remat.layer_names else layer_call
        if not self._recomputed_as_a_whole:
            return layer_call
        if remat.mode == "full":
            return checkpoint(layer_call)
        return checkpoint_larger(layer_call, remat.output_size_threshold)

    def _with_recomputed_activation(self, layer_call):
        activation = self.__dict__.get("activation")
        if activation is None:
            return layer_call

        def call(*args, **kwargs):
            self.__dict__["activation"] = checkpoint(activation)
            try:
                return layer_call(*args, **kwargs)
            finally:
                self.__dict__["activation"] = activation

        return call

    def _after(self, arguments, outputs, mask):
        if not self.built:
            self.built = True
        if self.activity_regularizer is not None:
            self._penalize(outputs)
        if self._supports_masking:
            self._set_masks(arguments.first, outputs, mask)
        elif any(m is not None for m in _flat_masks(mask)):
            warnings.warn(
                f"Layer '{self.name}' (of type {type(self).__name__}) was given an input with a "
                "mask, which it does not support: layers after it will not see the mask.",
                stacklevel=4,
            )

    def _penalize(self, outputs):
        for y in flatten(outputs):
            if type(y) is Tensor:
                loss = self.activity_regularizer(y)
                self.add_loss(loss / y.shape[0] if y.ndim and y.shape[0] else loss)

    def _set_masks(self, inputs, outputs, previous):
        found = flatten(outputs)
        if all(getattr(y, "_keras_mask", None) is not None for y in found):
            return
        masks = self.compute_mask(inputs, previous)
        if masks is None:
            return
        for y, mask in zip(found, _flat_masks(masks), strict=False):
            if mask is not None and getattr(y, "_keras_mask", None) is None:
                y._keras_mask = mask

    @default
    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the mask of the outputs; by default that of the inputs."""
        return previous_mask

    def _check_inputs(self, first):
        if self._input_spec is not None:
            assert_input_compatibility(self._input_spec, first, self.name)

    def _name_error(self, error: Exception) -> None:
        """Says in an error in which layer it happened; the innermost one counts."""
        if isinstance(error, SymbolicArgument) or getattr(error, "_layer", None) is not None:
            return
        where = f"Layer '{self._path or self.name}' ({type(self).__name__}): "
        text = error.args[0] if len(error.args) == 1 else None
        error._layer = self.name  # type: ignore[attr-defined]
        known = isinstance(error, GpunetError) or type(error) in _PLAIN_ERRORS
        if known and isinstance(text, str):
            error.args = (where + text,)
        else:
            error.add_note(f"This error happened in the call of {where.removesuffix(': ')}.")


def _items(args):
    """The tensors of the positional arguments, or of the list that is the only one."""
    return args[0] if len(args) == 1 and type(args[0]) in (list, tuple) else args


def _plain_key(args):
    """What decides how to call on tensors without masks: shapes and dtypes; else `None`."""
    items = _items(args)
    key: list[Any] = [len(args) == 1]
    for x in items:
        if type(x) is not Tensor or getattr(x, "_keras_mask", None) is not None:
            return None
        key += (x.data.shape, x.data.dtype)
    return tuple(key) if len(key) > 1 else None


def _cast(x, dtype):
    if isinstance(x, KerasTensor):
        return KerasTensor(x.shape, dtype)
    if x.data.dtype == numpy_dtype(dtype):
        return x
    return FUNCTIONS["cast"](x, dtype)


def _masks_of(nest):
    """Returns a nest of tensors as the nest of their masks (`None` where there is none)."""
    if isinstance(nest, dict):
        return {key: _masks_of(value) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        masks = [_masks_of(x) for x in nest]
        return tuple(masks) if isinstance(nest, tuple) else masks
    return getattr(nest, "_keras_mask", None)


def _flat_masks(nest):
    if isinstance(nest, dict):
        return [m for key in sorted(nest) for m in _flat_masks(nest[key])]
    if isinstance(nest, (list, tuple)):
        return [m for item in nest for m in _flat_masks(item)]
    return [nest]
