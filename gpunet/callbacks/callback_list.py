"""CallbackList: calls the hooks of many callbacks, and converts logs only for those who look."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from gpunet.callbacks.callback import Callback, overrides
from gpunet.callbacks.history import History
from gpunet.callbacks.progbar import ProgbarLogger
from gpunet.config import is_interactive_logging_enabled
from gpunet.errors import ArgumentError, received

_BATCH_HOOKS = [
    f"on_{part}batch_{when}"
    for part in ("", "train_", "test_", "predict_")
    for when in ("begin", "end")
]


class CallbackList(Callback):
    """Calls many callbacks in order.

    Batch hooks that no callback overrides cost nothing; their logs are read from the device only
    if a callback looks at them.

    Args:
        callbacks: Callback, or list of them.
        add_history: Adds a `History` unless there is one.
        add_progbar: Adds a `ProgbarLogger` unless there is one.
        model: The model that is trained.
        **params: Passed to each callback: `verbose`, `epochs`, `steps`.

    Raises:
        ArgumentError: If one is no callback.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        self.callbacks: list[Any] = optree.tree_leaves(callbacks) if callbacks else []
        for i, callback in enumerate(self.callbacks):
            _check(i, callback)
        if params.get("verbose") == "auto":
            params["verbose"] = 1 if is_interactive_logging_enabled() else 2
        self._progbar = self._first(ProgbarLogger)
        self._history = self._first(History)
        if self._history is None and add_history:
            self._history = History()
            self.callbacks.append(self._history)
        if self._progbar is None and add_progbar:
            self._progbar = ProgbarLogger()
            self.callbacks.append(self._progbar)
        self.set_model(model)
        self.set_params(params)

    def _first(self, kind):
        return next((c for c in self.callbacks if isinstance(c, kind)), None)

    def append(self, callback: Any) -> None:
        """Adds a callback at the end."""
        _check(len(self.callbacks), callback)
        self.callbacks.append(callback)

    def set_params(self, params: dict[str, Any]) -> None:
        """Gives the settings of the run to all callbacks."""
        self.params = params
        if params:
            for callback in self.callbacks:
                callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Gives the model to all callbacks, and the history to the model."""
        if model is None:
            return
        super().set_model(model)
        if self._history is not None:
            model.history = self._history
        for callback in self.callbacks:
            callback.set_model(model)

    def batch_hook(self, hook: str) -> Callable[..., None] | None:
        """Returns the function that calls a batch hook, or `None` if no callback overrides it."""
        wanting = [c for c in self.callbacks if overrides(c, hook)]
        if not wanting:
            return None
        return lambda batch, logs=None: _call_on_batch(wanting, hook, batch, logs)


def _call_on_batch(callbacks, hook, batch, logs):
    """Those who read logs later get them as they are; the others share one dict of floats."""
    plain = None
    for callback in callbacks:
        if "reads_logs_later" in vars(type(callback)):
            getattr(callback, hook)(batch, logs)
            continue
        if plain is None:
            plain = pythonify_logs(logs)
        getattr(callback, hook)(batch, logs=plain)


def _check(i, callback):
    if isinstance(callback, type):
        raise ArgumentError(
            f"`callbacks[{i}]` is a class; pass an instance: {callback.__name__}(...)."
        )
    if not all(hasattr(callback, name) for name in ("set_model", "set_params", "on_epoch_end")):
        raise ArgumentError(
            f"`callbacks[{i}]` must be a `callbacks.Callback`. "
            + received(type=type(callback).__name__)
        )


def _on_batch(hook):
    def call(self, batch, logs=None):
        _call_on_batch(self.callbacks, hook, batch, logs)

    return call


def _on_epoch(hook):
    def call(self, epoch, logs=None):
        logs = pythonify_logs(logs)  # shared: what one callback adds, the next ones see
        for callback in self.callbacks:
            getattr(callback, hook)(epoch, logs)

    return call


def _on_run(hook):
    def call(self, logs=None):
        logs = pythonify_logs(logs)
        for callback in self.callbacks:
            getattr(callback, hook)(logs)

    return call


for _name in _BATCH_HOOKS:
    setattr(CallbackList, _name, _on_batch(_name))
for _name in ("on_epoch_begin", "on_epoch_end"):
    setattr(CallbackList, _name, _on_epoch(_name))
for _part in ("train", "test", "predict"):
    for _when in ("begin", "end"):
        setattr(CallbackList, f"on_{_part}_{_when}", _on_run(f"on_{_part}_{_when}"))


def read_logs(logs: Any) -> dict[str, Any]:
    """Returns logs as a dict; a function stands for logs that are computed when they are read."""
    found: Any = logs() if callable(logs) else logs
    return found or {}


def pythonify_logs(logs: Any) -> dict[str, Any]:
    """Returns logs with floats in place of scalar tensors, sorted by name; nested dicts are merged.

    Example:
        >>> pythonify_logs({"loss": np.float32(0.5), "accuracy": 1})
        {'accuracy': 1.0, 'loss': 0.5}
    """
    result: dict[str, Any] = {}
    for key, value in sorted(read_logs(logs).items()):
        if isinstance(value, dict):
            result.update(pythonify_logs(value))
            continue
        try:
            result[key] = float(value)
        except (TypeError, ValueError):  # several values, or text: as they are
            result[key] = np.asarray(value) if hasattr(value, "__array__") else value
    return result
