"""Between a model and a file: collects the state of a model, and puts one in all at once or not."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gpunet.core.state import mode
from gpunet.core.variable import Variable
from gpunet.dtypes import is_float, is_int
from gpunet.errors import SavingError, received
from gpunet.saving.registry import builtin
from gpunet.saving.walk import walk

Specs = dict[str, tuple[tuple[int, ...], np.dtype]]


class Reader(Protocol):
    """Where state comes from: tells what there is before it reads."""

    kind: str

    def paths(self) -> list[str]:
        """Returns the paths of all parts with variables."""
        ...

    def specs(self, path: str) -> Specs:
        """Returns shape and dtype of the variables at a path, by key."""
        ...

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Returns the variables at a path, by key."""
        ...


def collect(root: Any, skip: Any = ()) -> Iterator[tuple[str, str | None, dict[str, np.ndarray]]]:
    """Yields `(path, name, variables)` of each part of a model that has state of its own.

    Args:
        root: Model, layer or optimizer.
        skip: Parts to leave out.
    """
    for path, part, _ in walk(root, skip=skip):
        if not hasattr(part, "save_own_variables"):
            continue
        store: dict[str, Any] = {}
        part.save_own_variables(store)
        name = getattr(part, "name", None)
        arrays = {str(key): to_numpy(value) for key, value in store.items()}
        yield path, name if isinstance(name, str) else None, arrays


def to_numpy(value: Any) -> np.ndarray:
    """Returns a variable, tensor, array or number as a NumPy array."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def own_variables(part: Any) -> list[Variable] | None:
    """Returns the variables that a part saves as `"0"`, `"1"`, ...; `None` if only it knows.

    That is so for classes of the user that have a `load_own_variables` of their own.
    """
    if not type(part).load_own_variables.__module__.startswith("gpunet."):
        return None
    if hasattr(part, "_non_trainable_variables") and not is_optimizer(part):
        return [*part._trainable_variables, *part._non_trainable_variables]
    variables = getattr(part, "variables", None)
    return list(variables) if isinstance(variables, (list, tuple)) else None


def is_optimizer(part: Any) -> bool:
    """Tells whether a part is an optimizer: its state may be absent, or be left in the file."""
    known = builtin("keras.optimizers", "Optimizer")
    return known is not None and isinstance(part, known)


@dataclass
class _Plan:
    """What to load where; and what speaks against it, as `(path, part, message)`."""

    parts: list[tuple[str, Any]] = field(default_factory=list)
    problems: list[tuple[str, Any, str]] = field(default_factory=list)
    optimizers: list[tuple[str, Any, str]] = field(default_factory=list)


def load(root: Any, reader: Reader, skip_mismatch: bool = False, skip: Any = ()) -> None:
    """Puts the state in a file into a model: all of it, or none if anything does not fit.

    Args:
        root: Model, layer or optimizer.
        reader: The file.
        skip_mismatch: Whether to load what fits and warn about each part that does not.
        skip: Parts to leave as they are.

    Raises:
        SavingError: If something is missing, left over or damaged, or a shape or dtype differs.
    """
    build_optimizer(root, reader)
    plan = _plan(root, reader, skip)
    if plan.problems and not skip_mismatch:
        raise _failure(plan.problems, reader)
    before = [(part, dict(vars(part))) for _, part in plan.parts if hasattr(part, "__dict__")]
    staged, problems = _stage(plan, reader)
    problems = plan.problems + problems
    if problems and not skip_mismatch:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)
        raise _failure(problems, reader)
    for variable, value in staged.values():
        variable.assign(value)
    for path, part, message in problems:
        warnings.warn(f"Skipped {_named(path, part)}: {message}", stacklevel=4)
    for path, part, message in plan.optimizers:
        warnings.warn(
            f"Skipping variable loading for {_named(path, part)}: {message} It keeps its state.",
            stacklevel=4,
        )


def build_optimizer(root: Any, reader: Reader) -> None:
    """Makes the moments of a compiled model's optimizer if the file has values for them."""
    optimizer = getattr(root, "optimizer", None)
    if (
        optimizer is not None
        and is_optimizer(optimizer)
        and not optimizer.built
        and len(reader.specs("optimizer")) > len(optimizer.variables)
    ):
        optimizer.build(root.trainable_variables)


def _plan(root, reader, skip):
    plan, missing, used = _Plan(), {}, set()

    def accept(path, part):
        return bool(reader.specs(path)) or not _needs_state(part)

    for path, part, accepted in walk(root, accept, skip):
        if not hasattr(part, "load_own_variables"):
            continue
        if not accepted:
            missing.setdefault(id(part), (path, part))
            continue
        missing.pop(id(part), None)
        used.add(path)
        _compare(plan, path, part, reader.specs(path))
    for path, part in missing.values():
        _compare(plan, path, part, {})
    plan.problems.extend(
        (path, None, f"the {reader.kind} holds {_listed(reader.specs(path))} for a part that the "
         "model does not have.")
        for path in reader.paths()
        if path not in used and not _may_be_left(path, root, skip)
    )  # fmt: skip
    return plan


def _needs_state(part):
    if not hasattr(part, "load_own_variables"):
        return False
    variables = own_variables(part)
    if variables is None:
        store: dict[str, Any] = {}
        part.save_own_variables(store)
        return bool(store)
    return bool(variables)


def _may_be_left(path, root, skip):
    """A file may hold an optimizer's state for a model that was not compiled."""
    optimizer = getattr(root, "optimizer", None)
    return path.split("/")[0] == "optimizer" and (
        optimizer is None or any(part is optimizer for part in skip)
    )


def _compare(plan, path, part, specs):
    """Notes that a part can be loaded, or why it cannot."""
    variables = own_variables(part)
    if variables is None:
        plan.parts.append((path, part))
        return
    if len(specs) != len(variables):
        message = (
            f"it has {len(variables)} variables ({', '.join(v.name for v in variables)}). "
            + received(variables=len(specs))
        )
        if is_optimizer(part):
            plan.optimizers.append((path, part, message))
        else:
            plan.problems.append((path, part, message + _hint(part, variables)))
        return
    message = _difference(variables, specs)
    if message is None:
        plan.parts.append((path, part))
    else:
        plan.problems.append((path, part, message))


def _hint(part, variables):
    if variables or getattr(part, "built", True):
        return ""
    return (
        " The layer was never built: the `build` of the layer that owns it must build it too, or "
        "`get_build_config` and `build_from_config` must."
    )


def _difference(variables, specs):
    """Returns what does not fit, or `None`."""
    for i, variable in enumerate(variables):
        if str(i) not in specs:
            return f"variable {i} ({variable.name}) is missing. {received(keys=sorted(specs))}"
        shape, dtype = specs[str(i)]
        if tuple(shape) != tuple(variable.shape) or not _fits(dtype, variable.dtype):
            return (
                f"variable {variable.name} needs shape {tuple(variable.shape)} and dtype "
                f"{variable.dtype}. {received(shape=tuple(shape), dtype=str(dtype))}"
            )
    return None


def _fits(stored, wanted):
    """Floats may be stored in other precisions, integers in other widths; nothing else changes."""
    return (
        stored == wanted
        or (is_float(stored) and is_float(wanted))
        or (is_int(stored) and is_int(wanted))
    )


class _Staging:
    """Keeps what Variables are assigned, apart from them, until all of it is known to be right."""

    def __init__(self):
        self.values: dict[int, tuple[Variable, Any]] = {}

    def read(self, variable):
        """Called by Variables; `None` stands for their own value."""
        return self.values.get(id(variable), (None, None))[1]

    def write(self, variable, value):
        """Called by Variables."""
        self.values[id(variable)] = variable, value


def _stage(plan, reader):
    """Runs every part's `load_own_variables` without changing a Variable."""
    staging, problems = _Staging(), []
    with mode(scope=staging, tape=None, graph=None, autocast=None):
        for path, part in plan.parts:
            before = dict(staging.values)
            try:
                values = reader.read(path)
                _check_integers(own_variables(part) or (), values)
                part.load_own_variables(values)
            except Exception as error:
                staging.values = before
                problems.append((path, part, f"{error}"))
    return staging.values, problems


def _check_integers(variables, values):
    for i, variable in enumerate(variables):
        value, wanted = values[str(i)], variable.dtype
        if is_int(value.dtype) and not np.array_equal(value.astype(wanted), value):
            raise SavingError(
                f"variable {variable.name} is of dtype {wanted}, which cannot hold the values. "
                + received(dtype=str(value.dtype))
            )


def _named(path, part):
    name = getattr(part, "name", None)
    return f"{path or 'the model'} ({type(part).__name__} '{name}')" if part is not None else path


def _listed(specs):
    return ", ".join(f"{key}: {tuple(shape)} {dtype}" for key, (shape, dtype) in specs.items())


def _failure(problems, reader):
    first, *rest = (f"{_named(path, part)}: {message}" for path, part, message in problems)
    others = [_named(path, part) for path, part, _ in problems[1:]]
    also = f" {len(rest)} more do not fit: {', '.join(others[:20])}." if rest else ""
    return SavingError(
        f"The {reader.kind} does not fit the model, which was left as it was. {first}{also}"
    )
