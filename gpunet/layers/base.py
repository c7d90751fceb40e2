"""Layer: weights and a `call`, with everything between a user's call and it.

`Layer.__call__` has two ways. The slow one converts the arguments, checks them, builds the layer
and handles masks. When it went through once, and nothing needed to be done to the input, later
calls with a tensor of the same shape and dtype take the fast one.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from gpunet import constraints as constraints
from gpunet import dtype_policies, regularizers
from gpunet.core.state import State, state
from gpunet.core.symbolic import (
    CallNode,
    KerasTensor,
    Operation,
    SymbolicArgument,
    compute_output_spec,
    flatten,
    map_structure,
)
from gpunet.core.tensor import FUNCTIONS, Operators, Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import is_float, numpy_dtype, standardize_dtype
from gpunet.errors import ArgumentError, DTypeError, GpunetError, StateError, received
from gpunet.layers.input_spec import InputSpec, assert_input_compatibility
from gpunet.layers.signature import (
    Arguments,
    arrange_shapes,
    call_signature,
    is_shape,
    is_symbolic,
    is_tensor,
    map_shapes,
)
from gpunet.layers.state import StatefulOperation
from gpunet.saving.registry import serializable

State.calling = False  # whether a layer is being called in this thread
State.training = None  # the `training` argument of the layer being called
State.context = None  # the other arguments that reach sublayers, by name

_PLANNED = {
    "_dtype_policy",
    "_input_spec",
    "_path",
    "_supports_masking",
    "activity_regularizer",
    "autocast",
    "built",
    "_call_context_args",
}
_PLAIN = (str, int, float, bool, type(None))
_MAX_SEEN = 64


class _Plan:
    """What the fast way of calling a built layer needs to know.

    Attributes:
        seen: The (shape, dtype) pairs of inputs that passed the checks as they were.
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
        self.masks = layer._supports_masking and not _is_default(type(layer).compute_mask)


def _default(method: Callable) -> Callable:
    """Marks a method of `Layer` that subclasses may replace."""
    method._is_default = True  # type: ignore[attr-defined]
    return method


def _is_default(method: Callable) -> bool:
    return getattr(method, "_is_default", False)


def _wrap_build(build: Callable) -> Callable:
    """Makes a class's `build` open the name scope, mark the layer as built and lock it."""

    @functools.wraps(build)
    def wrapped(self, *args, **kwargs):
        if self._building:  # called by a subclass's `build` through super()
            return build(self, *args, **kwargs)
        self._check_super_called()
        before = self._tracker.snapshot()
        self.__dict__["_building"] = True
        try:
            with self._name_scope():
                self._path = "/".join(state.names)
                build(self, *args, **kwargs)
        except BaseException:
            self._tracker.restore(before)
            raise
        finally:
            self.__dict__["_building"] = False
        bound = inspect.signature(build).bind(self, *args, **kwargs).arguments
        shapes = dict(list(bound.items())[1:])
        self.__dict__["_build_shapes_dict"] = shapes
        self.built = True
        self._post_build()
        self._lock_state()
        return None

    wrapped._wraps_build = True  # type: ignore[attr-defined]
    return wrapped


@serializable("keras.layers")
class Layer(StatefulOperation):
    """The class that all layers derive from: state, made by `add_weight`, and a computation, `call`.

    Subclasses define `call(self, inputs, ...)`; `build(self, input_shape)` for weights whose shapes
    depend on the input; and `get_config`, unless all arguments of `__init__` are plain values.
    Variables, layers and metrics assigned to attributes are tracked. Two arguments of `call` have a
    meaning: `training` reaches sublayers by itself, and `mask` gets the mask of the input.

    Args:
        activity_regularizer: Regularizer of the output; its penalty, divided by the batch size, is
            added to `losses`.
        trainable: Whether optimizers change the weights.
        dtype: Dtype or policy of weights and computation, such as `"float16"` or
            `"mixed_float16"`; default the global policy.
        autocast: Whether float inputs are cast to the compute dtype.
        name: Name; default an automatic one.

    Raises:
        ArgumentError: If an argument is unknown.

    Example:
        >>> import gpunet
        >>> class Scale(gpunet.layers.Layer):
        ...     def build(self, input_shape):
        ...         self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")
        ...
        ...     def call(self, inputs):
        ...         return inputs * self.scale
        >>> layer = Scale()
        >>> layer(gpunet.ops.ones((2, 3))).shape, len(layer.weights)
        ((2, 3), 1)
    """

    _building = False
    _plan: _Plan | None = None
    _convert_input_args = True
    _allow_non_tensor_positional_args = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not getattr(cls.build, "_wraps_build", False):
            cls.build = _wrap_build(cls.build)  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Layer":
        self = object.__new__(cls)
        self._start_tracking()
        self.__dict__.update(
            _lock=True,
            _plan=None,
            _building=False,
            _auto_config=_automatic_config(cls, args, kwargs),
        )
        return self

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        self.__dict__["_lock"] = False
        Operation.__init__(self, name=name)
        if not isinstance(self.name, str) or "/" in self.name:
            raise ArgumentError(f"A layer's name is a string without `/`. {received(name=name)}")
        self._dtype_policy = dtype_policies.get(dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self._accept_input_shape(kwargs)
        if kwargs:
            raise ArgumentError(
                f"{type(self).__name__} has no such keyword arguments: {sorted(kwargs)}. "
                + received(**kwargs)
            )
        if not isinstance(trainable, bool):
            raise ArgumentError(f"`trainable` must be a bool. {received(trainable=trainable)}")
        self._path: str | None = None
        self.built = False
        self.autocast = autocast
        self._input_spec: Any = None
        self._called = False
        self.supports_jit = True
        self._trainable = trainable
        self._call_facts = call_signature(type(self).call)
        self._supports_masking = not _is_default(type(self).compute_mask)
        self._build_shapes_dict: dict | None = None
        self._call_context_args = {"training"}

    def _accept_input_shape(self, kwargs):
        shape = kwargs.pop("input_shape", None)
        dim = kwargs.pop("input_dim", None)
        shape = (dim,) if dim is not None else shape
        if shape is not None:
            warnings.warn(
                "`input_shape` and `input_dim` are old: put an `Input(shape=...)` first in the "
                "model instead.",
                stacklevel=4,
            )
            self._input_shape_arg = tuple(shape)

    # -- attributes -----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) not in _PLAIN:
            value = self._tracker.track(value)
        if name in _PLANNED:
            self.__dict__["_plan"] = None
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        value = getattr(self, name)
        object.__delattr__(self, name)
        if isinstance(value, (Variable, Layer)):
            self._tracker.untrack(value)

    def _check_super_called(self):
        if self._lock:
            raise StateError(
                f"In layer '{type(self).__name__}', `super().__init__()` must be called before "
                "anything else in `__init__()`."
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    @property
    def path(self) -> str | None:
        """Where the layer is: its name after those of the layers around it; `None` until built."""
        return self._path

    @property
    def input_spec(self) -> Any:
        """An `InputSpec`, or nest of them, that inputs are checked against."""
        return self._input_spec

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        self._input_spec = value

    @property
    def supports_masking(self) -> bool:
        """Whether masks of the inputs go on to the outputs."""
        return self._supports_masking

    @supports_masking.setter
    def supports_masking(self, value: bool) -> None:
        self._supports_masking = value

    # -- dtypes ---------------------------------------------------------------------------------

    @property
    def dtype_policy(self) -> Any:
        """The policy that says which dtypes weights and computation have."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        self._dtype_policy = dtype_policies.get(value)

    def _policy(self):
        policy = self._dtype_policy
        if isinstance(policy, dtype_policies.DTypePolicyMap) and self.path:
            return policy[self.path]
        return policy

    @property
    def dtype(self) -> str:
        """Same as `variable_dtype`."""
        return self.variable_dtype

    @property
    def compute_dtype(self) -> str:
        """Dtype of the computation; float inputs are cast to it."""
        return self._policy().compute_dtype

    @property
    def variable_dtype(self) -> str:
        """Dtype of the weights."""
        return self._policy().variable_dtype

    @property
    def input_dtype(self) -> str:
        """Dtype that float inputs are cast to."""
        return self.compute_dtype

    @property
    def quantization_mode(self) -> None:
        """Always `None`: gpunet does not quantize."""
        return None

    # -- building -------------------------------------------------------------------------------

    @_default
    def build(self, input_shape: Any) -> None:
        """Makes the weights; called once, with the shape of the first argument of `call`."""
        if _is_default(type(self).build) and _has_unbuilt_state(self):
            warnings.warn(
                f"Layer '{self.name}' has sublayers that are not built and no `build()` method, so "
                "`build()` cannot create their weights. Call the layer on data, or write a "
                "`build()` that builds the sublayers.",
                stacklevel=3,
            )

    def _build_at_init(self) -> None:
        """Marks a layer without weights as built, unless a subclass has a `build` of its own."""
        if _is_default(type(self).build):
            self.built = True
            self._post_build()
            self._lock_state()

    def _post_build(self) -> None:
        """Called after `build`; subclasses may define it."""

    def get_build_config(self) -> dict | None:
        """Returns what `build_from_config` needs to make the weights; `None` if not built."""
        shapes = self._build_shapes_dict
        if shapes is None:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": shapes}

    def build_from_config(self, config: dict | None) -> None:
        """Makes the weights from what `get_build_config` returned."""
        if config and "input_shape" in config:
            self.build(_as_shapes(config["input_shape"]))
        elif config and "shapes_dict" in config:
            self.build(**{k: _as_shapes(v) for k, v in config["shapes_dict"].items()})

    def _maybe_build(self, arguments: Arguments) -> None:
        if self.built:
            return
        shapes = arguments.shapes(self._call_facts.variadic)
        build = type(self).build
        if not _is_default(build):
            self.build(**arrange_shapes(build, type(self).__name__, shapes, arguments.all))
            self._check_inputs(arguments.first)
            return
        if _has_unbuilt_state(self) and self._build_by_tracing(arguments):
            return
        self.build(next(iter(shapes.values()), None))

    def _build_by_tracing(self, arguments):
        """Builds sublayers by running `call` for its shapes; tells whether that worked."""
        try:
            compute_output_spec(self.call, **_spread(arguments, self._call_facts))
        except Exception as error:
            if not any(_is_symbolic_failure(error, layer) for layer in self._layers):
                raise
            return False
        self.built = not _has_unbuilt_state(self)
        return self.built

    # -- calling --------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs; every layer defines it."""
        raise NotImplementedError(f"Layer {type(self).__name__} does not define `call`.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer on tensors, arrays or KerasTensors, and nests of them."""
        plan = self._plan
        if plan is not None and len(args) == 1:
            x = args[0]
            if (
                type(x) is Tensor
                and (x.data.shape, x.data.dtype) in plan.seen
                and getattr(x, "_keras_mask", None) is None
                and state.context is None
            ):
                if not kwargs:
                    return self._fast_call(plan, x, state.training, plan.training_default)
                if len(kwargs) == 1 and kwargs.get("training") is not None:
                    return self._fast_call(plan, x, kwargs["training"], None)
        return self._slow_call(args, kwargs)

    def _fast_call(self, plan, x, training, default):
        """Calls `call` on a tensor that needs no conversion, check or mask."""
        cast, top, outer = state.autocast, not state.calling, state.training
        if top:
            state.calling = True
            self._clear_losses()
        state.autocast = plan.cast if cast is None else plan.inner_cast
        if training is None:
            training = default
        state.training = training
        try:
            if plan.training and training is not None:
                y = self.call(x, training=training)
            else:
                y = self.call(x)
        except Exception as error:
            raise self._named_error(error)
        finally:
            state.autocast, state.training = cast, outer
            if top:
                state.calling = False
        if plan.masks:
            self._set_masks(x, y, None)
        return y

    def _slow_call(self, args, kwargs):
        self._check_super_called()
        given, symbolic = (args, dict(kwargs)), is_symbolic((args, kwargs))
        top, before = not state.calling, (state.training, state.context)
        state.calling = True
        try:
            if self._convert_input_args:
                args, kwargs = self._convert((args, kwargs))
            self._check_positional(args)
            kwargs = dict(kwargs)
            context = self._take_context(kwargs)
            arguments = self._bind(args, kwargs)
            self._check_inputs(arguments.first)
            with self._name_scope():
                self._maybe_build(arguments)
                if top:
                    self._clear_losses()
                self._enter_context(arguments, context, kwargs)
                mask = self._fill_masks(arguments, kwargs)
                outputs = self._run(args, kwargs, symbolic)
            self._after(arguments, outputs, mask)
        except Exception as error:
            raise self._named_error(error)
        finally:
            state.training, state.context = before
            if top:
                state.calling = False
        if symbolic:
            CallNode(self, *given, outputs)
        else:
            self._remember(given[0], args)
        return outputs

    def _remember(self, given, used):
        """Lets later calls like this one take the fast way."""
        if not self._called:
            self._called = True
        if len(given) != 1 or type(given[0]) is not Tensor or used[0] is not given[0]:
            return
        if self.activity_regularizer is None and self.built and not state.symbolic:
            if self._plan is None:
                self.__dict__["_plan"] = _Plan(self)
            seen = self._plan.seen
            if len(seen) >= _MAX_SEEN:
                seen.clear()
            seen.add((given[0].data.shape, given[0].data.dtype))

    def _convert(self, nest):
        """Arrays become tensors; floats are cast to the compute dtype."""
        dtype = self.input_dtype
        cast = self.autocast and is_float(dtype)

        def convert(x):
            if not isinstance(x, Operators):
                if not hasattr(x, "__array__") and not hasattr(x, "__dlpack__"):
                    return x
                y = as_tensor(x)
            elif isinstance(x, Variable):
                y = x.value
            else:
                y = x
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
        names = self._call_context_args | set(state.context or ())
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
        outside = {"training": state.training, **(state.context or {})}
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
        state.training = inside.pop("training")
        state.context = inside or None

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
            run = self.compute_output_spec if symbolic else self.call
            return run(*args, **kwargs)
        finally:
            state.autocast = cast

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

    @_default
    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the mask of the outputs; by default that of the inputs."""
        return previous_mask

    def _check_inputs(self, first):
        if self._input_spec is not None:
            assert_input_compatibility(self._input_spec, first, self.name)

    def _named_error(self, error: Exception) -> Exception:
        """Returns the same error, saying in which layer it happened; the innermost one counts."""
        if isinstance(error, SymbolicArgument) or getattr(error, "_layer", None) is not None:
            return error
        where = f"Layer '{self._path or self.name}' ({type(self).__name__}): "
        text = error.args[0] if error.args else ""
        try:
            error._layer = self.name  # type: ignore[attr-defined]
        except AttributeError:  # an exception class with slots
            return error
        known = isinstance(error, GpunetError) or type(error) in (
            ValueError,
            TypeError,
            RuntimeError,
        )
        if known and isinstance(text, str) and len(error.args) == 1:
            error.args = (where + text,)
        else:
            error.add_note(where + "this error happened in its call.")
        return error

    # -- shapes and functional use --------------------------------------------------------------

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the results for KerasTensors; `__call__` records the node."""
        return self.compute_output_spec(*args, **kwargs)

    @_default
    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the shape of the outputs; layers define it, or it is found by tracing `call`."""
        raise NotImplementedError(
            f"Layer {type(self).__name__} does not define `compute_output_shape(input_shape)`."
        )

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the results for KerasTensors as KerasTensors, without recording a call."""
        method = type(self).compute_output_shape
        if _is_default(method):
            return compute_output_spec(self.call, *args, **kwargs)
        arguments = Arguments(self._call_facts, args, kwargs)
        shapes = arguments.shapes(self._call_facts.variadic)
        arranged = arrange_shapes(method, type(self).__name__, shapes, arguments.all)
        shape = self.compute_output_shape(**arranged)
        if not isinstance(shape, (list, tuple, dict)):
            raise ArgumentError(
                f"compute_output_shape() of {type(self).__name__} must return a shape tuple. "
                + received(shape=shape)
            )
        return map_shapes(lambda s: KerasTensor(s, dtype=self.compute_dtype), shape)

    def stateless_call(
        self,
        trainable_variables: list,
        non_trainable_variables: list,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple:
        """Calls the layer with other values of its variables, and changes none.

        Args:
            trainable_variables: Values for `self.trainable_variables`, in order.
            non_trainable_variables: Values for `self.non_trainable_variables`, in order.
            *args: Arguments of the call.
            return_losses: Whether to return the losses too.
            **kwargs: Keyword arguments of the call.

        Returns:
            `(outputs, non_trainable_values)`, and the list of losses if asked for.

        Raises:
            StateError: If the layer is not built.
            ArgumentError: If there are too many or too few values.
        """
        from gpunet.core.variable import StatelessScope

        self._check_super_called()
        if not self.built:
            raise StateError(
                f"To call stateless_call, {type(self).__name__} '{self.name}' must be built: call "
                "it on data first."
            )
        mapping = []
        for name, values in (
            ("trainable_variables", trainable_variables),
            ("non_trainable_variables", non_trainable_variables),
        ):
            mine = getattr(self, name)
            if len(mine) != len(values):
                raise ArgumentError(
                    f"`{name}` must hold one value for each of {type(self).__name__}().{name}, "
                    f"which are {len(mine)}. {received(length=len(values))}"
                )
            mapping += zip(mine, values, strict=True)
        with StatelessScope(mapping, collect_losses=return_losses) as scope:
            outputs = self(*args, **kwargs)
            losses = list(self.losses) if return_losses else None
        after = [scope.get_current_value(v) for v in self.non_trainable_variables]
        return (outputs, after, losses) if return_losses else (outputs, after)

    # -- configuration --------------------------------------------------------------------------

    @_default
    def get_config(self) -> dict:
        """Returns what `from_config` needs to make this layer again, without its weights.

        A subclass whose `__init__` takes only plain values need not define it.

        Raises:
            StateError: If a subclass must define it and does not.
        """
        self._check_super_called()
        base = {"name": self.name, "trainable": self.trainable}
        base["dtype"] = dtype_policies.serialize(self.dtype_policy)
        if self.activity_regularizer is not None:
            base["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        if not _is_default(type(self).get_config):
            return base
        if self._auto_config is None:
            raise StateError(
                f"{type(self).__name__} takes arguments that are no plain values, so it must "
                "define `get_config()`: return {**super().get_config(), 'arg': self.arg}."
            )
        config = {**base, **self._auto_config}
        parameters = inspect.signature(type(self).__init__).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return config
        return {key: value for key, value in config.items() if key in parameters}

    @classmethod
    def from_config(cls, config: dict) -> "Layer":
        """Returns a layer made from what `get_config` returned."""
        if isinstance(config.get("dtype"), dict):
            config = {**config, "dtype": dtype_policies.deserialize(config["dtype"])}
        try:
            return cls(**config)
        except Exception as error:
            error.add_note(f"{cls.__name__} could not be made from its config: {config}")
            raise


Layer.build = _wrap_build(Layer.build)  # type: ignore[method-assign]


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
        return [_masks_of(x) for x in nest]
    return getattr(nest, "_keras_mask", None)


def _flat_masks(nest):
    if isinstance(nest, dict):
        return [m for key in sorted(nest) for m in _flat_masks(nest[key])]
    if isinstance(nest, (list, tuple)):
        return [m for item in nest for m in _flat_masks(item)]
    return [nest]


def _has_unbuilt_state(layer):
    return any(not sublayer.built for sublayer in layer._layers)


def _is_symbolic_failure(error, layer):
    return not layer.built and isinstance(error, (NotImplementedError, GpunetError, TypeError))


def _spread(arguments, facts):
    return {k: v for k, v in arguments.all.items() if k not in facts.variadic}


def _as_shapes(value):
    """JSON has no tuples: makes the lists of a stored shape tuples again."""
    return map_shapes(tuple, value) if not is_shape(value) else tuple(value)


def _automatic_config(cls, args, kwargs):
    """Returns the arguments of `__init__` as a config if all of them are plain values."""
    if not _is_default(cls.get_config):
        return None
    try:
        signature = inspect.signature(cls.__init__)
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    config = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            config.update(value)
        elif kind is inspect.Parameter.VAR_POSITIONAL and not value:
            continue
        elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            return None
        else:
            config[name] = value
    config.pop("name", None)
    return config if _is_plain(config) else None


def _is_plain(value):
    if isinstance(value, dict):
        return all(_is_plain(x) for x in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(x) for x in value)
    return isinstance(value, _PLAIN)


__all__ = ["InputSpec", "Layer"]
