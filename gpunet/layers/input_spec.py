"""InputSpec: what a layer asks of the shape and dtype of its inputs."""

from typing import Any

from gpunet.core.symbolic import flatten
from gpunet.core.variable import standardize_shape
from gpunet.dtypes import standardize_dtype
from gpunet.errors import ArgumentError, DTypeError, ShapeError, received


class InputSpec:
    """What is asked of one input of a layer; `layer.input_spec` holds one, or a nest of them.

    Args:
        dtype: Dtype the input must have.
        shape: Shape, `None` for any length.
        ndim: How many axes.
        max_ndim: How many axes at most.
        min_ndim: How many axes at least.
        axes: Dict from axis numbers to the lengths they must have.
        allow_last_axis_squeeze: Whether a last axis of length 1 may be there or not.
        name: Key of the input, for layers called on a dict.
        optional: Whether `None` is accepted.

    Raises:
        ArgumentError: If `axes` is no dict with integer keys, or names an axis that is not there.

    Example:
        >>> InputSpec(ndim=3, axes={-1: 8})
        InputSpec(ndim=3, axes={-1: 8})
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype = None if dtype is None else standardize_dtype(dtype)
        self.shape = None if shape is None else standardize_shape(shape, allow_none=True)
        self.ndim = ndim if self.shape is None else len(self.shape)
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name, self.optional = name, optional
        try:
            self.axes = {int(axis): length for axis, length in (axes or {}).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise DTypeError(
                f"`axes` must be a dict with integer keys. {received(axes=axes)}"
            ) from error
        limit = self.ndim or self.max_ndim
        if self.axes and limit and max(self.axes) >= limit:
            raise ArgumentError(
                f"Axis {max(self.axes)} is greater than the maximum allowed value: {limit - 1}. "
                + received(axes=axes)
            )

    def __repr__(self) -> str:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        shown = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name)]
        return f"InputSpec({', '.join(shown)})"

    def get_config(self) -> dict:
        """Returns what `from_config` needs."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "optional")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict) -> "InputSpec":
        """Returns the spec of a config."""
        return cls(**config)

    def problem(self, shape: tuple, dtype: Any) -> str | None:
        """Returns in words how an input of this shape and dtype fails, `None` where it does not."""
        ndim, squeeze = len(shape), self.allow_last_axis_squeeze
        if self.ndim is not None and ndim != self.ndim and not squeeze:
            return f"expected ndim={self.ndim}, found ndim={ndim}"
        if self.max_ndim is not None and ndim > self.max_ndim:
            return f"expected max_ndim={self.max_ndim}, found ndim={ndim}"
        if self.min_ndim is not None and ndim < self.min_ndim:
            return f"expected min_ndim={self.min_ndim}, found ndim={ndim}"
        if self.dtype is not None and standardize_dtype(dtype) != self.dtype:
            return f"expected dtype={self.dtype}, found dtype={standardize_dtype(dtype)}"
        for axis, length in self.axes.items():
            if length is not None and (
                not -ndim <= axis < ndim or shape[axis] not in (length, None)
            ):
                return f"expected axis {axis} of input shape to have value {length}"
        if self.shape is not None:
            return self._shape_problem(shape)
        return None

    def _shape_problem(self, shape):
        wanted: Any = self.shape
        if self.allow_last_axis_squeeze:
            wanted, shape = (s[:-1] if s and s[-1] == 1 else s for s in (wanted, shape))
        same = len(wanted) == len(shape) or self.allow_last_axis_squeeze
        pairs = zip(wanted, shape, strict=False)
        if same and all(a is None or b is None or a == b for a, b in pairs):
            return None
        return f"expected shape={self.shape}, found shape={shape}"


def assert_input_compatibility(input_spec: Any, inputs: Any, layer_name: str) -> None:
    """Checks inputs against the specs of a layer.

    Args:
        input_spec: An `InputSpec`, a nest of them, or `None`.
        inputs: A tensor, or nest of tensors.
        layer_name: For the message.

    Raises:
        ShapeError: If an input does not fit.
    """
    specs = [input_spec] if isinstance(input_spec, InputSpec) else _flat_specs(input_spec)
    if isinstance(inputs, dict):
        inputs = _by_name(specs, inputs, layer_name)
    missing = isinstance(inputs, list) and any(x is None for x in inputs)
    values: list[Any] = list(inputs) if missing else flatten(inputs)
    if len(values) != len(specs):
        raise ShapeError(
            f'Layer "{layer_name}" expects {len(specs)} input(s), but it received {len(values)} '
            f"input tensors. {received(inputs=inputs)}"
        )
    x: Any
    for i, (x, spec) in enumerate(zip(values, specs, strict=True)):
        if spec is None or (x is None and spec.optional):
            continue
        if x is None or not hasattr(x, "shape"):
            raise ArgumentError(
                f"Inputs to a layer should be tensors. Layer: '{layer_name}'. "
                + received(input=x, type=type(x).__name__)
            )
        problem = spec.problem(tuple(x.shape), x.dtype)
        if problem is not None:
            name = f" with name '{spec.name}'" if spec.name else ""
            raise ShapeError(
                f"Input {i}{name} of layer '{layer_name}' is incompatible with the layer: "
                f"{problem}. {received(shape=tuple(x.shape))}"
            )


def _flat_specs(specs):
    if isinstance(specs, dict):
        return [spec for key in sorted(specs) for spec in _flat_specs(specs[key])]
    if isinstance(specs, (list, tuple)):
        return [spec for item in specs for spec in _flat_specs(item)]
    return [specs]


def _by_name(specs, inputs, layer_name):
    names = [spec.name for spec in specs if spec is not None]
    if len(names) < len(specs) or not all(names):
        return inputs
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ArgumentError(
            f'Missing data for input "{missing[0]}" of layer "{layer_name}", which expects the '
            f"keys {names}. {received(keys=list(inputs))}"
        )
    return [inputs[name] for name in names]
