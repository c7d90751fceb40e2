"""The variables of a model by path: what goes into other programs' checkpoints."""

from typing import Any

from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, received

_GROUPS = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)


def _variables(model: Any, group: str) -> list[Variable]:
    if group == "optimizer_variables":
        return list(model.optimizer.variables) if model.optimizer is not None else []
    return list(getattr(model, group))


def _by_path(variables: list[Variable]) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for variable in variables:
        if variable.path in found:
            raise ArgumentError(
                "The following variable path is found twice in the model: "
                f"'{variable.path}'. Give unique names to your layers and other objects."
            )
        found[variable.path] = variable
    return found


def get_state_tree(model: Any, value_format: str = "backend_tensor") -> dict[str, Any]:
    """Returns the values of a model's variables as nested dicts; see `Model.get_state_tree`.

    Raises:
        ArgumentError: If two variables have the same path, or the format is unknown.
    """
    if value_format not in ("backend_tensor", "numpy_array"):
        raise ArgumentError(
            'Invalid `value_format` argument. Expected "backend_tensor" or "numpy_array". '
            + received(value_format=value_format)
        )
    state: dict[str, Any] = {}
    for group in _GROUPS:
        nest = state[group] = {}
        for path, variable in _by_path(_variables(model, group)).items():
            *names, last = path.split("/")
            inner = nest
            for name in names:
                inner = inner.setdefault(name, {})
            inner[last] = variable.value if value_format == "backend_tensor" else variable.numpy()
    return state


def set_state_tree(model: Any, state_tree: dict[str, Any]) -> None:
    """Sets the variables that a nest of dicts names; see `Model.set_state_tree`.

    Raises:
        ArgumentError: If it names a variable that there is not.
    """
    pairs = []
    for group, nest in state_tree.items():
        if group not in _GROUPS:
            raise ArgumentError(f"Unknown variable name: {group}. It must be one of {_GROUPS}.")
        known = _by_path(_variables(model, group))
        for path, value in _flat(nest):
            if path not in known:
                raise ArgumentError(
                    f"The model has no such variable among its {group}. {received(path=path)}"
                )
            pairs.append((known[path], value))
    for variable, value in pairs:
        variable.assign(value)


def _flat(nest, prefix=""):
    for name, value in nest.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def variable_map(model: Any) -> dict[str, Variable]:
    """Returns all variables of a model and its optimizer by path.

    Raises:
        ArgumentError: If two have the same path.
    """
    optimizer = _variables(model, "optimizer_variables")
    return _by_path([*model.variables, *optimizer])
