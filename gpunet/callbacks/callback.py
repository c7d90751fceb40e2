"""Callback: the hooks that `fit`, `evaluate` and `predict` call."""

from typing import Any


class Callback:
    """Base of all callbacks: override the hooks you want.

    Every hook gets `logs`, a dict of floats (metric names to values). Epochs and batches count
    from 0.

    Attributes:
        params: Dict with `verbose`, `epochs` and `steps`.
        model: The model that is trained; set `model.stop_training = True` to end the training.

    Example:
        >>> import gpunet
        >>> class PrintLoss(gpunet.callbacks.Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         print(epoch, logs["loss"])
    """

    params: dict[str, Any] | None = None
    _model: Any = None

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self._model

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes the settings of the run."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Takes the model."""
        self._model = model

    def on_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Same as `on_train_batch_begin`, kept for old code."""

    def on_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Same as `on_train_batch_end`, kept for old code."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Called before an epoch of `fit`."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Called after an epoch of `fit` and its validation; `val_` names come from it."""

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Called before a step of `fit`."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Called after a step of `fit`; `logs` are the averages of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Called before a step of `evaluate`, also of validation in `fit`."""

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Called after a step of `evaluate`, also of validation in `fit`."""

    def on_predict_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Called before a step of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Called after a step of `predict`; `logs["outputs"]` are the predictions."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Called when `fit` begins."""

    def on_train_end(self, logs: dict | None = None) -> None:
        """Called when `fit` ends, with the logs of the last epoch."""

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Called when `evaluate` or a validation begins."""

    def on_test_end(self, logs: dict | None = None) -> None:
        """Called when `evaluate` or a validation ends, with its results."""

    def on_predict_begin(self, logs: dict | None = None) -> None:
        """Called when `predict` begins."""

    def on_predict_end(self, logs: dict | None = None) -> None:
        """Called when `predict` ends."""


def overrides(callback: Any, hook: str) -> bool:
    """Tells whether a callback does anything in a hook, `on_batch_*` standing for training."""
    if hook in ("on_train_batch_begin", "on_train_batch_end") and overrides(
        callback, hook.replace("train_", "")
    ):
        return True
    own = getattr(callback, hook, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(Callback, hook)
