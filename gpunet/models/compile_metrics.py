"""CompileMetrics: the `metrics` and `weighted_metrics` of `compile`, matched with the outputs."""

from collections import OrderedDict
from typing import Any

from gpunet import metrics as metrics_module
from gpunet import tree
from gpunet.errors import ArgumentError, StateError, received
from gpunet.models.compile_loss import kind_of_targets, object_name


class MetricsList:
    """The metrics of one output.

    Attributes:
        metrics: The metrics.
        output_name: Put before their names in the logs, if there are several outputs.
    """

    def __init__(self, metrics: list[Any], output_name: str | None = None):
        self.metrics, self.output_name = metrics, output_name

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch to all of them."""
        for metric in self.metrics:
            metric.update_state(y_true, y_pred, sample_weight=sample_weight)


class CompileMetrics:
    """All metrics given to `compile`, as one.

    Args:
        metrics: List or dict of metrics, names and functions that matches the outputs.
        weighted_metrics: The same; these are weighted by `sample_weight`.
        name: Name.
        output_names: Names of the outputs, in flattening order.

    Raises:
        ArgumentError: If they are no list, tuple or dict.
    """

    def __init__(
        self,
        metrics: Any,
        weighted_metrics: Any,
        name: str = "compile_metrics",
        output_names: list[str] | None = None,
    ):
        for argument, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value and not isinstance(value, (list, tuple, dict)):
                raise ArgumentError(
                    f"Expected `{argument}` argument to be a list, tuple, or dict. "
                    f"Received instead: {argument}={value} of type {type(value)}"
                )
        self.name, self.output_names = "compile_metrics", output_names
        self._user_metrics, self._user_weighted_metrics = metrics, weighted_metrics
        self.built = False
        self._flat_metrics: list[MetricsList | None] = []
        self._flat_weighted_metrics: list[MetricsList | None] = []
        self._names: list[tuple[str, Any]] = []
        self._output_order: list[str] | None = None

    @property
    def metrics(self) -> list[Any]:
        """The metrics; none until built."""
        groups = self._flat_metrics + self._flat_weighted_metrics
        return [metric for group in groups if group for metric in group.metrics]

    @property
    def variables(self) -> list[Any]:
        """The state of the metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def build(self, y_true: Any, y_pred: Any) -> None:
        """Matches metrics and outputs, and chooses those whose names depend on shapes.

        Raises:
            ArgumentError: If they do not match.
        """
        flat = tree.flatten(y_pred)
        shallow = tree.is_nested(y_pred) and len(y_pred) == len(flat)
        names = self._names_of(y_pred, shallow)
        self._output_order = names if len(flat) > 1 and shallow else None
        found: list[Any] = [
            self._match(given, argument, names, y_true, y_pred, shallow)
            for given, argument in (
                (self._user_metrics, "metrics"),
                (self._user_weighted_metrics, "weighted_metrics"),
            )
        ]
        self._flat_metrics, self._flat_weighted_metrics = found
        self._names = _unique_names(*found)
        self.built = True

    def _names_of(self, y_pred, shallow):
        if not (shallow and isinstance(y_pred, dict)):
            return self.output_names
        if self.output_names and set(y_pred) == set(self.output_names):
            return self.output_names
        return list(y_pred) if isinstance(y_pred, OrderedDict) else sorted(y_pred)

    def _match(self, given, argument, names, y_true, y_pred, shallow):
        """One MetricsList (or `None`) for each output."""
        count = len(tree.flatten(y_pred))
        if not given:
            return [None] * count
        targets, predictions = self._flatten(y_true), self._flatten(y_pred)
        if count == 1:
            return [_group(tree.flatten(given), targets[0], predictions[0], None)]
        parts = None
        if shallow and isinstance(given, (list, tuple)) and len(given) == count:
            parts = list(given)
        elif shallow and isinstance(given, dict) and names and set(given) <= set(names):
            parts = [given.get(name) for name in names]
        elif not shallow:
            parts = _parts_of_nest(given, y_pred)
        if parts is None or len(parts) != count or len(targets) != count:
            raise self._mismatch(argument, given, y_pred)
        labels = names or [None] * count
        try:
            return [
                _group(part, t, p, label)
                for part, t, p, label in zip(parts, targets, predictions, labels, strict=True)
            ]
        except ValueError as error:
            raise ArgumentError(f"{error}\nReceived: {argument}={given}") from error

    def _mismatch(self, argument, given, y_pred):
        structure = tree.map_structure(lambda _: "X", y_pred)
        names = f"the output names of the functional model {self.output_names} or "
        return ArgumentError(
            f"Invalid `{argument}`. `{argument}` should contain metrics objects and either be a "
            f"dict or a list matching {names if self.output_names else ''}match the output "
            f"structure of the model: {structure}.\nReceived: {argument}={given}"
        )

    def _flatten(self, y):
        if isinstance(y, dict) and self._output_order is not None:
            return [y.get(name) for name in self._output_order]
        return tree.flatten(y)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch to all metrics."""
        if not self.built:
            self.build(y_true, y_pred)
        if len(self._flat_metrics) == 1 and not isinstance(y_true, (list, tuple, dict)):
            targets, predictions = (y_true,), tree.flatten(y_pred)
        else:
            targets, predictions = self._flatten(y_true), self._flatten(y_pred)
        for group, y, p in zip(self._flat_metrics, targets, predictions, strict=False):
            if group is not None:
                group.update_state(y, p)
        weights = [None] if sample_weight is None else self._flatten(sample_weight)
        if len(weights) < len(targets):
            weights = [weights[0]] * len(targets)
        for group, y, p, w in zip(
            self._flat_weighted_metrics, targets, predictions, weights, strict=False
        ):
            if group is not None:
                group.update_state(y, p, w)

    def reset_state(self) -> None:
        """Forgets all batches."""
        for metric in self.metrics:
            metric.reset_state()

    def result(self) -> dict[str, Any]:
        """Returns the results by name.

        Raises:
            StateError: If no batch was ever added.
        """
        if not self.built:
            raise StateError("Cannot get result() since the metric has not yet been built.")
        return {name: metric.result() for name, metric in self._names}


def _group(metrics, y_true, y_pred, output_name):
    if metrics is None:
        return None
    metrics = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
    return MetricsList([get_metric(m, y_true, y_pred) for m in metrics], output_name)


def _parts_of_nest(given, y_pred):
    """The metrics for each output of a nest in a nest; `None` where the structures differ."""

    def parts(spec, outputs):
        if not tree.is_nested(outputs):
            return [spec]
        if isinstance(outputs, dict):
            if not isinstance(spec, dict) or set(spec) != set(outputs):
                raise KeyError
            return [part for key in sorted(outputs) for part in parts(spec[key], outputs[key])]
        if not isinstance(spec, (list, tuple)) or len(spec) != len(outputs):
            raise KeyError
        return [p for s, o in zip(spec, outputs, strict=True) for p in parts(s, o)]

    try:
        return parts(given, y_pred)
    except KeyError:
        return None


def _unique_names(groups, weighted_groups):
    """Pairs `(name in the logs, metric)`; names that occur twice get a prefix or a number."""
    used: dict[str, int] = {}
    pairs = []

    def add(name, metric):
        number = used.get(name, 0)
        used[name] = number + 1
        pairs.append((f"{name}_{number}" if number else name, metric))

    for group in filter(None, groups):
        for metric in group.metrics:
            add(_prefixed(group, metric.name), metric)
    for group in filter(None, weighted_groups):
        for metric in group.metrics:
            name = _prefixed(group, metric.name)
            add(name if name not in used else _prefixed(group, f"weighted_{metric.name}"), metric)
    return pairs


def _prefixed(group, name):
    return f"{group.output_name}_{name}" if group.output_name else name


def get_metric(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """Returns the Metric for what the user gave; `"accuracy"` is chosen by the shapes.

    Raises:
        ArgumentError: If it is unknown or `None`.
    """
    if identifier is None:
        raise ArgumentError(f"Expected metric, received `None`. {received(metric=None)}")
    suffix = {"accuracy": "Accuracy", "acc": "Accuracy", "crossentropy": "Crossentropy"}
    suffix["ce"] = "Crossentropy"
    kind = suffix.get(str(identifier).lower())
    if kind is not None:
        prefixes = {"binary": "Binary", "sparse": "SparseCategorical", "categorical": "Categorical"}
        prefix = prefixes[kind_of_targets(y_true, y_pred)]
        return getattr(metrics_module, prefix + kind)(name=str(identifier))
    metric = metrics_module.get(identifier)
    name = identifier if isinstance(identifier, str) else object_name(metric)
    if not isinstance(metric, metrics_module.Metric):
        metric = metrics_module.MeanMetricWrapper(metric)
    metric.name = name
    return metric
