"""MonitorCallback: what callbacks share that watch one of the logs."""

import warnings
from collections.abc import Callable
from typing import Any

from gpunet import ops
from gpunet.callbacks.callback import Callback
from gpunet.errors import ArgumentError, received


class MonitorCallback(Callback):
    """Base of callbacks that compare one of the logs with the best value so far.

    Args:
        monitor: Name of the log, such as `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`: what the metric says of itself.
        baseline: First value to beat; `None` takes the first one seen.
        min_delta: Changes smaller than this are no improvement.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        min_delta: float = 0,
    ):
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"{type(self).__name__} mode '{mode}' is unknown, fallback to auto mode.",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor, self.mode, self.best = monitor, mode, baseline
        self.min_delta = abs(min_delta)
        self.monitor_op: Callable[[Any, Any], Any] | None = None

    def _set_monitor_op(self):
        """Decides what is better; metrics must be built for it."""
        if self.mode == "auto":
            self.monitor_op = self._natural_direction()
        else:
            self.monitor_op = ops.less if self.mode == "min" else ops.greater
        if self.monitor_op is ops.less:
            self.min_delta = -abs(self.min_delta)

    def _natural_direction(self):
        name = self.monitor.removeprefix("val_")
        for metric in _metrics(self.model):
            direction = getattr(metric, "_direction", None)
            if metric.name == name and direction in ("up", "down"):
                return ops.greater if direction == "up" else ops.less
        if name == "loss":
            return ops.less
        raise ArgumentError(
            f"{type(self).__name__} is not able to determine by itself whether "
            f"monitor={self.monitor!r} should be maximized or minimized. Pass `mode='max'` if "
            f"higher is better, or `mode='min'` if lower is. {received(monitor=self.monitor)}"
        )

    def _is_improvement(self, monitor_value: Any, reference_value: Any) -> bool:
        if reference_value is None:
            return True
        if self.monitor_op is None:
            self._set_monitor_op()
        assert self.monitor_op is not None
        return bool(self.monitor_op(monitor_value - self.min_delta, reference_value))


def _metrics(model):
    """The metrics of a model, those inside of containers too."""
    for metric in getattr(model, "metrics", ()):
        inner = getattr(metric, "metrics", None)
        yield from inner if inner is not None else (metric,)
