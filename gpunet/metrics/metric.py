"""What every metric shares: variables that a batch updates, and a result made from them."""

from collections.abc import Sequence
from typing import Any

from gpunet import dtype_policies, initializers, ops
from gpunet.config import floatx
from gpunet.core.naming import name_scope
from gpunet.core.variable import StatelessScope, Variable
from gpunet.errors import ArgumentError, StateError, received
from gpunet.naming import auto_name
from gpunet.saving import serializable


@serializable("keras.metrics")
class Metric:
    """Base class of metrics: subclasses define `update_state` and `result`.

    Args:
        dtype: Dtype of the result, or a dtype policy; default `floatx()`.
        name: Name; default one made from the class.

    Example:
        >>> import gpunet
        >>> class Largest(Metric):
        ...     def __init__(self, name="largest", dtype=None):
        ...         super().__init__(name=name, dtype=dtype)
        ...         self.value = self.add_weight(shape=(), initializer="zeros", name="value")
        ...
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.value.assign(gpunet.ops.maximum(self.value, gpunet.ops.max(y_pred)))
        ...
        ...     def result(self):
        ...         return self.value.value
        >>> Largest()([0.0], [7.0]).item()
        7.0
    """

    _is_metric = True  # how layers, which do not know this module, find metrics to track

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or auto_name(type(self).__name__)
        self._dtype_policy = dtype_policies.get(dtype or floatx())
        self._dtype = self._dtype_policy.compute_dtype
        self._metrics: list[Metric] = []
        self._variables: list[Variable] = []

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return self._dtype

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Takes one more batch into account; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define `update_state`.")

    def result(self) -> Any:
        """Returns the metric of all batches so far; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define `result`.")

    def reset_state(self) -> None:
        """Sets all variables to 0."""
        for variable in self.variables:
            variable.assign(ops.zeros(variable.shape, dtype=variable.dtype))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Takes one more batch into account and returns the result."""
        self._check_super_called()
        self.update_state(*args, **kwargs)
        return self.result()

    # -- variables ------------------------------------------------------------------------------

    @property
    def variables(self) -> list[Variable]:
        """The variables of this metric, and of metrics that are its attributes."""
        nested = [v for metric in self._metrics for v in metric.variables]
        return [*self._variables, *nested]

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any,
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Makes a variable of the metric's state.

        Args:
            shape: Shape.
            initializer: Initializer or its name.
            dtype: Default `floatx()`.
            aggregation: Accepted for Keras.
            name: Name.
        """
        self._check_super_called()
        with name_scope(self.name):
            variable = Variable(
                initializers.get("zeros" if initializer is None else initializer),
                shape=shape,
                dtype=dtype,
                trainable=False,
                aggregation=aggregation,
                synchronization="on_read",
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Same as `add_variable`, with Keras's older name."""
        return self.add_variable(shape=shape, initializer=initializer, dtype=dtype, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Metrics and variables that are attributes belong to the state."""
        if isinstance(value, Metric):
            self._check_super_called()
            self._metrics.append(value)
        elif isinstance(value, (list, tuple)) and name not in ("_metrics", "_variables"):
            self.__dict__.get("_metrics", []).extend(m for m in value if isinstance(m, Metric))
        elif isinstance(value, Variable) and not any(value is v for v in self._variables):
            self._variables.append(value)
        object.__setattr__(self, name, value)

    def _check_super_called(self):
        if "_variables" not in self.__dict__:
            raise StateError(
                "You forgot to call `super().__init__()` in the `__init__()` method of "
                f"{type(self).__name__}. Go add it!"
            )

    # -- without changing state -----------------------------------------------------------------

    def _mapping(self, metric_variables):
        if len(metric_variables) != len(self.variables):
            raise ArgumentError(
                "Argument `metric_variables` must be a list of tensors corresponding 1:1 to "
                f"{type(self).__name__}().variables, {len(self.variables)} of them. "
                + received(metric_variables=len(metric_variables))
            )
        return list(zip(self.variables, metric_variables, strict=True))

    def stateless_update_state(self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any):
        """Returns the values of `variables` after an update from the values given.

        Args:
            metric_variables: Values of `variables`.
            *args: Arguments of `update_state`.
            **kwargs: Arguments of `update_state`.

        Raises:
            ArgumentError: If there are not as many values as variables.
        """
        with StatelessScope(state_mapping=self._mapping(metric_variables)) as scope:
            self.update_state(*args, **kwargs)
        return _values(scope, self.variables)

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """Returns the result for given values of `variables`.

        Raises:
            ArgumentError: If there are not as many values as variables.
        """
        with StatelessScope(state_mapping=self._mapping(metric_variables)):
            return self.result()

    def stateless_reset_state(self) -> list:
        """Returns the values of `variables` after a reset."""
        with StatelessScope() as scope:
            self.reset_state()
        return _values(scope, self.variables)

    # -- saving ---------------------------------------------------------------------------------

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict) -> "Metric":
        """Makes a metric from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def _values(scope, variables):
    found = [scope.get_current_value(v) for v in variables]
    return [v.value if x is None else x for x, v in zip(found, variables, strict=True)]
