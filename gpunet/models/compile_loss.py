"""CompileLoss: the `loss` and `loss_weights` of `compile`, matched with the model's outputs."""

from typing import Any, NamedTuple

from gpunet import losses as losses_module
from gpunet import metrics as metrics_module
from gpunet import tree
from gpunet.config import floatx
from gpunet.core.symbolic import KerasTensor
from gpunet.core.tensor import FUNCTIONS
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, received
from gpunet.naming import to_snake_case


class LossPathError(ArgumentError, KeyError):
    """The losses name an output that the model does not have."""


class _Part(NamedTuple):
    """One loss of one output, or of several that it takes together.

    Attributes:
        output: Number of the output in flattening order, or the path to a nest of outputs.
        loss: The loss object.
        weight: What it is multiplied with, or `None`.
        name: Name of the output in the logs.
    """

    output: int | tuple
    loss: Any
    weight: float | None
    name: str


class _Weighted:
    """A loss as the user gave it, with its weight; a leaf of the nest of losses."""

    def __init__(self, loss: Any, weight: float | None = None):
        self.loss, self.weight = loss, weight


class CompileLoss:
    """The loss of a model: the weighted sum of the losses of its outputs.

    Args:
        loss: Loss, name or function; or a list or dict of these that matches the outputs.
        loss_weights: Number, or as many numbers as there are losses.
        reduction: Accepted for Keras.
        output_names: Names of the outputs, in flattening order.

    Raises:
        ArgumentError: If `loss_weights` is no number, list, tuple or dict.
    """

    def __init__(
        self,
        loss: Any,
        loss_weights: Any = None,
        reduction: str = "sum_over_batch_size",
        output_names: list[str] | None = None,
    ):
        if loss_weights is not None and not isinstance(
            loss_weights, (list, tuple, dict, float, int)
        ):
            raise ArgumentError(
                "Expected `loss_weights` argument to be a float (single output case) or a list, "
                "tuple, or dict (multiple output case). "
                + received(loss_weights=loss_weights, type=type(loss_weights).__name__)
            )
        self.name, self.reduction, self.dtype = "compile_loss", reduction, floatx()
        self._user_loss, self._user_loss_weights = loss, loss_weights
        self.output_names = output_names
        self.built = False
        self._parts: list[_Part] = []
        self._metrics: list[Any] = []
        self._single: _Part | None = None

    @property
    def metrics(self) -> list[Any]:
        """A running mean for each loss, if there are several."""
        return self._metrics

    @property
    def variables(self) -> list[Any]:
        """The state of the metrics."""
        return [v for metric in self._metrics for v in metric.variables]

    def build(self, y_true: Any, y_pred: Any) -> None:
        """Matches losses and outputs, and chooses the losses whose names depend on shapes.

        Raises:
            LossPathError: If a loss is for an output that does not exist.
            ArgumentError: If the losses do not match the outputs in another way.
        """
        predictions = tree.flatten(y_pred)
        targets = self._targets(y_true, y_pred)
        names = self._names(y_pred, predictions)
        parts = []
        for path, output, weighted in _spread(
            self._weighted(), _numbered(y_pred), names, self.output_names
        ):
            if weighted.loss is None:
                continue
            numbers = tree.flatten(output)
            if any(targets[i] is None for i in numbers):
                raise _no_such_output(path)
            first = numbers[0]
            loss = get_loss(weighted.loss, targets[first], predictions[first])
            if tree.is_nested(output):
                parts_of_name = output if isinstance(output, dict) else [names[i] for i in numbers]
                name = "/".join(map(str, path)) or "_".join(map(str, parts_of_name))
                part = _Part(path, loss, weighted.weight, name)
            else:
                part = _Part(output, loss, weighted.weight, _name(path, names[output], loss))
            parts.append((first, part))
        parts = [part for _, part in sorted(parts, key=lambda pair: pair[0])]
        if len(parts) > 1:
            self._metrics = [metrics_module.Mean(name=f"{part.name}_loss") for part in parts]
        leaf = not tree.is_nested(y_pred)
        self._single = parts[0] if leaf and len(parts) == 1 else None
        self._parts, self.built = parts, True

    def _weighted(self):
        """The user's losses, each with its weight."""
        loss: Any = self._user_loss
        weights: Any = self._user_loss_weights
        if weights is None:
            return tree.map_structure(_Weighted, loss)
        if not tree.is_nested(weights) and not tree.is_nested(loss):
            return _Weighted(loss, weights)
        by_name = isinstance(weights, dict) and isinstance(loss, (list, tuple))
        if by_name and self.output_names and set(weights) <= set(self.output_names):
            weights = [weights.get(name) for name in self.output_names]
        flat_losses, flat_weights = tree.flatten(loss), tree.flatten(weights)
        if len(flat_losses) != len(flat_weights):
            raise ArgumentError(
                f"`loss_weights` must match the number of losses, got {len(flat_losses)} losses "
                f"and {len(flat_weights)} weights. {received(loss_weights=weights)}"
            )
        names = self.output_names or []
        if (
            isinstance(loss, dict)
            and isinstance(weights, (list, tuple))
            and set(loss) == set(names)
        ):
            flat_weights = [weights[names.index(key)] for key in sorted(loss)]
        return tree.map_structure(_Weighted, loss, tree.pack_sequence_as(loss, flat_weights))

    def _names(self, y_pred, predictions):
        """One name for each output; `None` where there is none."""
        if self.output_names and len(self.output_names) == len(predictions):
            return list(self.output_names)
        if all(isinstance(y, KerasTensor) and y._keras_history for y in predictions):
            return [y._keras_history.operation.name for y in predictions]
        return [None] * len(predictions)

    def _targets(self, y_true, y_pred):
        """The targets in the order of the outputs; `None` for outputs without a loss.

        Raises:
            ArgumentError: If they do not match.
        """
        count = len(tree.flatten(y_pred))
        if not tree.is_nested(y_pred) and not tree.is_nested(y_true):
            return [y_true]
        if isinstance(y_true, dict) and not isinstance(y_pred, dict):
            names = self.output_names or []
            if set(names) == set(y_true):
                return [y_true[name] for name in names]
        both = isinstance(y_pred, dict) and isinstance(y_true, dict)
        if both and count == len(y_pred) and set(y_true) <= set(y_pred):
            return [y_true.get(key) for key in sorted(y_pred)]
        flat = tree.flatten(y_true)
        if len(flat) == count:
            return flat
        user = tree.flatten(self._user_loss)
        with_loss = [i for i, loss in enumerate(user) if loss is not None]
        if len(user) == count and len(flat) == len(with_loss):
            targets: list[Any] = [None] * count
            for i, y in zip(with_loss, flat, strict=True):
                targets[i] = y
            return targets
        stars = [tree.map_structure(lambda _: "*", y) for y in (y_true, y_pred)]
        raise ArgumentError(
            f"y_true and y_pred have different structures.\ny_true: {stars[0]}\n"
            f"y_pred: {stars[1]}\n"
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the total loss as a scalar tensor; `None` if no output has a loss."""
        return self.call(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the total loss as a scalar tensor; `None` if no output has a loss."""
        if not self.built:
            self.build(y_true, y_pred)
        part = self._single
        if part is not None and not isinstance(y_true, (list, tuple, dict)):
            return self._value(part, y_true, y_pred, _first(sample_weight))
        predictions, targets = tree.flatten(y_pred), self._targets(y_true, y_pred)
        weights = self._sample_weights(sample_weight, y_pred, len(predictions))
        total = None
        for i, part in enumerate(self._parts):
            k = part.output
            if isinstance(k, tuple):
                nests = [tree.pack_sequence_as(y_pred, flat) for flat in (targets, weights)]
                target, weight = (_at(k, nest) for nest in nests)
                prediction = _at(k, y_pred)
                weight = None if sample_weight is None else weight
            else:
                target, prediction, weight = targets[k], predictions[k], weights[k]
            value = self._loss(part, target, prediction, weight)
            if self._metrics:
                samples = tree.flatten(prediction)[0].shape[0]
                self._metrics[i].update_state(value, sample_weight=samples)
            if part.weight is not None:
                value = FUNCTIONS["multiply"](value, part.weight)
            total = value if total is None else FUNCTIONS["add"](total, value)
        return total

    def _value(self, part, target, prediction, weight):
        value = self._loss(part, target, prediction, weight)
        return value if part.weight is None else FUNCTIONS["multiply"](value, part.weight)

    def _loss(self, part, target, prediction, weight):
        value = part.loss(target, prediction, weight)
        if value.dtype != numpy_dtype(self.dtype):
            value = FUNCTIONS["cast"](value, self.dtype)
        return value

    def _sample_weights(self, sample_weight, y_pred, count):
        if sample_weight is None:
            return [None] * count
        if not tree.is_nested(sample_weight):
            return [sample_weight] * count
        if isinstance(sample_weight, dict) and not isinstance(y_pred, dict):
            return [sample_weight.get(name) for name in self.output_names or []]
        if isinstance(sample_weight, dict) and count == len(y_pred):
            return [sample_weight.get(key) for key in sorted(y_pred)]
        flat = tree.flatten(sample_weight)
        if len(flat) not in (1, count):
            raise ArgumentError(
                "`sample_weight` must be one array, or one for each output. "
                + received(arrays=len(flat), outputs=count)
            )
        return flat * count if len(flat) == 1 else flat


def _at(path, nest):
    for key in path:
        nest = nest[key]
    return nest


def _first(sample_weight):
    if isinstance(sample_weight, (list, tuple, dict)):
        return tree.flatten(sample_weight)[0]
    return sample_weight


def _numbered(y_pred):
    """The nest of outputs with their numbers in place of the tensors."""
    return tree.pack_sequence_as(y_pred, list(range(len(tree.flatten(y_pred)))))


def _spread(spec, outputs, names, output_names, path=None):
    """Yields `(path, numbers of the outputs, weighted loss)` for a nest of losses.

    A single loss for all serves each output; one inside of a list or dict takes what it stands for
    as a whole.
    """
    if isinstance(spec, _Weighted):
        if path is not None:
            yield path, outputs, spec
            return
        for inner, output in tree.flatten_with_path(outputs):
            yield inner, output, spec
        return
    path = path or ()
    if isinstance(outputs, dict) and isinstance(spec, dict):
        for key, part in spec.items():
            if key not in outputs:
                raise _no_such_output((*path, key))
            yield from _spread(part, outputs[key], names, output_names, (*path, key))
    elif isinstance(spec, dict):
        yield from _spread_by_name(spec, outputs, names, output_names, path)
    elif isinstance(outputs, (list, tuple)) and _one_each(spec, outputs):
        for i, part in enumerate(spec):
            if i >= len(outputs):
                raise _no_such_output((*path, i))
            yield from _spread(part, outputs[i], names, output_names, (*path, i))
    elif tree.is_nested(outputs) and _are_leaves(spec) and len(spec) == len(tree.flatten(outputs)):
        for (inner, output), part in zip(tree.flatten_with_path(outputs), spec, strict=True):
            yield (*path, *inner), output, part
    else:  # several losses for the same outputs
        for part in spec:
            yield from _spread(part, outputs, names, output_names, path)


def _are_leaves(spec):
    return not any(tree.is_nested(part) for part in spec)


def _one_each(spec, outputs):
    """Whether a list of losses has one for each item of a list of outputs."""
    return type(spec) is type(outputs) or (_are_leaves(spec) and len(spec) == len(outputs))


def _spread_by_name(spec, outputs, names, output_names, path):
    """A dict of losses for a list of outputs, or for one: its keys are names of outputs."""
    if not path and output_names and set(spec) != set(output_names):
        raise ArgumentError(
            f"Expected keys {output_names} in loss dict, but found loss.keys()={list(spec)}"
        )
    flat = tree.flatten(outputs)
    for key, part in spec.items():
        i = names.index(key) if key in names else None
        if i not in flat:
            raise _no_such_output((*path, key), labels=False)
        yield from _spread(part, i, names, output_names, (*path, key))


def _no_such_output(path, labels=True):
    where = "either the model's output (`y_pred`) or in the labels (`y_true`)"
    where = where if labels else "the model's output (`y_pred`)"
    return LossPathError(f"The path: {path} in the `loss` argument, can't be found in {where}.")


def _name(path, output_name, loss):
    """The path of an output with its name at the end in place of a number."""
    if not path:
        return output_name or loss.name
    if isinstance(path[-1], int):
        path = (*path[:-1], output_name or loss.name)
    return "/".join(map(str, path))


def kind_of_targets(y_true: Any, y_pred: Any) -> str:
    """Returns `"binary"`, `"sparse"` or `"categorical"`, by the shapes of targets and outputs."""
    true, pred = y_true.shape, y_pred.shape
    if pred and pred[-1] == 1:
        return "binary"
    sparse = len(true) < len(pred) or (true[-1] == 1 and (pred[-1] or 0) > 1)
    return "sparse" if sparse else "categorical"


def get_loss(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """Returns the Loss for what the user gave; `"crossentropy"` is chosen by the shapes.

    Raises:
        ArgumentError: If it is unknown.
    """
    if str(identifier).lower() in ("crossentropy", "ce"):
        prefix = {"binary": "binary", "sparse": "sparse_categorical", "categorical": "categorical"}
        found = losses_module.get(f"{prefix[kind_of_targets(y_true, y_pred)]}_crossentropy")
    else:
        found = losses_module.get(identifier)
    if isinstance(found, losses_module.Loss) or not callable(found):
        return found
    name = identifier if isinstance(identifier, str) else object_name(found)
    return losses_module.LossFunctionWrapper(found, name=name)


def object_name(obj: Any) -> str:
    """Returns the name of an object: its own, its function's, or its class's in snake case."""
    if hasattr(obj, "name"):
        return obj.name
    if hasattr(obj, "__name__"):
        return obj.__name__
    return to_snake_case(type(obj).__name__)
