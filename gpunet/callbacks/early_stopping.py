"""EarlyStopping: ends a training that does not get better."""

import warnings
from typing import Any

from gpunet.callbacks.monitor_callback import MonitorCallback
from gpunet.callbacks.progbar import print_message


class EarlyStopping(MonitorCallback):
    """Stops training when one of the logs has not improved for some epochs.

    Args:
        monitor: Name of the log, such as `"val_loss"`.
        min_delta: Changes smaller than this are no improvement.
        patience: Epochs without improvement after which training stops.
        verbose: 1 prints when it acts.
        mode: `"min"`, `"max"`, or `"auto"`.
        baseline: Value to beat within `patience` epochs.
        restore_best_weights: Whether to go back to the weights of the best epoch.
        start_from_epoch: Epochs before this one do not count.

    Example:
        >>> import gpunet
        >>> stop = gpunet.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self):
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compares, and stops the training when patience is at its end."""
        if self.monitor_op is None:
            self._set_monitor_op()
        current = self.get_monitor_value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._remember(epoch)
        self.wait += 1
        if self._is_improvement(current, self.best):
            self.best = current
            self._remember(epoch)
            if self.baseline is None or self._is_improvement(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _remember(self, epoch):
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Goes back to the best weights, if asked to."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            print_message(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print_message(f"Restoring the weights of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def get_monitor_value(self, logs: dict | None) -> Any:
        """Returns the watched value; warns and returns `None` where there is none."""
        logs = logs or {}
        if self.monitor not in logs:
            warnings.warn(
                f"Early stopping conditioned on metric `{self.monitor}` which is not available. "
                f"Available metrics are: {','.join(logs)}",
                stacklevel=2,
            )
        return logs.get(self.monitor)
