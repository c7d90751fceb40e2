"""Layer: attributes that are tracked, building, shapes and configuration.

The rest of it is below: `state.py` (weights and losses) and `calling.py` (`__call__`).
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Self

from gpunet import dtype_policies, regularizers
from gpunet.core.state import state
from gpunet.core.symbolic import KerasTensor, Operation, compute_output_spec
from gpunet.core.variable import StatelessScope, Variable
from gpunet.errors import ArgumentError, StateError, received
from gpunet.layers.calling import CalledOperation, default, is_default
from gpunet.layers.signature import (
    Arguments,
    arrange_shapes,
    call_signature,
    is_shape,
    map_shapes,
)
from gpunet.ops.checkpoint import current_remat_mode
from gpunet.saving.registry import serializable

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
class Layer(CalledOperation):
    """The class that all layers derive from: weights, and a computation on tensors.

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

    treats_examples_alone = False  # whether each example's output depends on that example only
    _building = False
    _convert_input_args = True
    _allow_non_tensor_positional_args = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not getattr(cls.build, "_wraps_build", False):
            cls.build = _wrap_build(cls.build)  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Prepares tracking, and notes the arguments for `get_config`."""
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
        self.__dict__["_remat_mode"] = current_remat_mode()
        self.built = False
        self.autocast = autocast
        self._input_spec: Any = None
        self._called = False
        self.supports_jit = True
        self._trainable = trainable
        self._call_facts = call_signature(type(self).call)
        self._supports_masking = not is_default(type(self).compute_mask)
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
        policy = dtype_policies.get(value)
        policies = self._dtype_policy
        if isinstance(policies, dtype_policies.DTypePolicyMap) and self.path:
            if self.path in policies:
                del policies[self.path]
            policies[self.path] = policy
            policy = policies
        self._dtype_policy = policy

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

    @default
    def build(self, input_shape: Any) -> None:
        """Makes the weights; called once, with the shape of the first argument of `call`."""
        if is_default(type(self).build) and _has_unbuilt_state(self):
            warnings.warn(
                f"Layer '{self.name}' has sublayers that are not built and no `build()` method, so "
                "`build()` cannot create their weights. Call the layer on data, or write a "
                "`build()` that builds the sublayers.",
                stacklevel=3,
            )

    def _build_at_init(self) -> None:
        """Marks a layer without weights as built, unless a subclass has a `build` of its own."""
        if is_default(type(self).build):
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
        if not is_default(build):
            self.build(**arrange_shapes(build, type(self).__name__, shapes, arguments.all))
            self._check_inputs(arguments.first)
        elif not _has_unbuilt_state(self) or self._build_by_tracing(arguments):
            self.build(next(iter(shapes.values()), None))
        else:  # the sublayers are built where `call` calls them
            self._path, self.built = "/".join(state.names), True

    def _build_by_tracing(self, arguments):
        """Builds sublayers by running `call` for its shapes; tells whether that worked.

        What goes wrong here goes wrong again in the call itself, or has to do with tracing only.
        """
        inputs = {k: v for k, v in arguments.all.items() if k not in self._call_facts.variadic}
        try:
            compute_output_spec(self.call, **inputs)
        except Exception:
            return False
        return not _has_unbuilt_state(self)

    def _undo_build(self) -> None:
        """After a failed first call: without weights of its own the layer is as it was before."""
        if is_default(type(self).build) and self.built:
            self.built = False
            self._tracker.unlock()

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs; every layer defines it."""
        raise NotImplementedError(f"Layer {type(self).__name__} does not define `call`.")

    # -- shapes and functional use --------------------------------------------------------------

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the results for KerasTensors; `__call__` records the node."""
        return self.compute_output_spec(*args, **kwargs)

    @default
    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the shape of the outputs; layers define it, or it is found by tracing `call`."""
        raise NotImplementedError(
            f"Layer {type(self).__name__} does not define `compute_output_shape(input_shape)`."
        )

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the results for KerasTensors as KerasTensors, without recording a call."""
        method = type(self).compute_output_shape
        if is_default(method):
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

    @default
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
        if not is_default(type(self).get_config):
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
    def from_config(cls, config: dict) -> Self:
        """Returns a layer made from what `get_config` returned."""
        if isinstance(config.get("dtype"), dict):
            config = {**config, "dtype": dtype_policies.deserialize(config["dtype"])}
        try:
            return cls(**config)
        except Exception as error:
            error.add_note(f"{cls.__name__} could not be made from its config: {config}")
            raise


Layer.build = _wrap_build(Layer.build)  # type: ignore[method-assign]


def _has_unbuilt_state(layer):
    return any(not sublayer.built for sublayer in layer._layers)


def _as_shapes(value):
    """JSON has no tuples: makes the lists of a stored shape tuples again."""
    return map_shapes(tuple, value) if not is_shape(value) else tuple(value)


def _automatic_config(cls, args, kwargs):
    """Returns the arguments of `__init__` as a config if all of them are plain values."""
    if not is_default(cls.get_config):
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
    for name in ("name", "trainable", "dtype", "activity_regularizer"):  # `get_config` has them
        config.pop(name, None)
    return config if _is_plain(config) else None


def _is_plain(value):
    if isinstance(value, dict):
        return all(_is_plain(x) for x in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(x) for x in value)
    return isinstance(value, _PLAIN)
