"""ModelCheckpoint: saves the model while it trains."""

import os
import warnings
from typing import Any

import numpy as np

from gpunet.callbacks.monitor_callback import MonitorCallback
from gpunet.callbacks.progbar import print_message
from gpunet.errors import ArgumentError, SavingError, received


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after epochs or after a number of batches.

    Args:
        filepath: Where to; ends in `.keras`, or in `.weights.h5` with `save_weights_only`. May hold
            `{epoch:02d}`, `{batch}` and names of logs, such as `{val_loss:.2f}`.
        monitor: Name of the log that says which model is best.
        verbose: 1 prints when it saves.
        save_best_only: Saves only models better than all before.
        save_weights_only: Saves weights (and the optimizer's state) without the model's config.
        mode: `"min"`, `"max"`, or `"auto"`.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: First value to beat.

    Raises:
        ArgumentError: If the file name's ending or `save_freq` is not valid.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq = save_freq
        self._batches_seen_since_last_saving = 0
        self._last_batch_seen: int | None = None
        self._current_epoch = 0
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ArgumentError(
                f"Unrecognized save_freq: {save_freq}. Expected save_freq are 'epoch' or integer "
                "values"
            )
        self._check_ending()

    def _check_ending(self):
        if self.save_weights_only and not self.filepath.endswith(".weights.h5"):
            raise ArgumentError(
                "When using `save_weights_only=True` in `ModelCheckpoint`, the filepath provided "
                "must end in `.weights.h5` (Keras weights format). "
                + received(filepath=self.filepath)
            )
        if not self.save_weights_only and not self.filepath.endswith((".keras", ".h5")):
            raise ArgumentError(
                "The filepath provided must end in `.keras` (Keras model format). "
                + received(filepath=self.filepath)
            )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Notes the epoch."""
        self._current_epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves every `save_freq` batches."""
        if self._should_save_on_batch(batch):
            self._save_model(self._current_epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves after the epoch."""
        if self.monitor_op is None and self.save_best_only:
            self._set_monitor_op()
        if self.save_freq == "epoch":
            self._save_model(epoch, None, logs)

    def _should_save_on_batch(self, batch):
        if self.save_freq == "epoch":
            return False
        last = self._last_batch_seen
        new_epoch = last is None or batch <= last
        self._batches_seen_since_last_saving += batch + 1 if new_epoch else batch - last
        self._last_batch_seen = batch
        if self._batches_seen_since_last_saving < int(self.save_freq):
            return False
        self._batches_seen_since_last_saving = 0
        return True

    def _save_model(self, epoch, batch, logs):
        path = self._get_file_path(epoch, batch, logs or {})
        if not self._should_save_model(epoch, logs or {}, path):
            return
        if os.path.isdir(path):
            raise SavingError(
                "Please specify a non-directory filepath for ModelCheckpoint. "
                + received(filepath=path)
            )
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(path, overwrite=True)
        if self.verbose > 0:
            print_message(f"\nEpoch {epoch + 1}: finished saving model to {path}")

    def _should_save_model(self, epoch, logs, path):
        if not self.save_best_only:
            if self.verbose > 0:
                print_message(f"\nEpoch {epoch + 1}: saving model to {path}")
            return True
        current = logs.get(self.monitor)
        if current is None:
            warnings.warn(f"Can save best model only with {self.monitor} available.", stacklevel=4)
            return True
        if np.ndim(current) > 0:
            warnings.warn(
                f"Can save best model only when `monitor` is a scalar value. Received: {current}. "
                "Falling back to `save_best_only=False`.",
                stacklevel=4,
            )
            return True
        return self._is_best(epoch, current, path)

    def _is_best(self, epoch, current, path):
        before = "None" if self.best is None else f"{self.best:.5f}"
        better = self._is_improvement(current, self.best)
        if better:
            self.best = current
        if self.verbose > 0 and better:
            print_message(
                f"\nEpoch {epoch + 1}: {self.monitor} improved from {before} to {current:.5f}, "
                f"saving model to {path}"
            )
        elif self.verbose > 0:
            print_message(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {before}")
        return better

    def _get_file_path(self, epoch, batch, logs):
        names = {"epoch": epoch + 1, **logs}
        if batch is not None:
            names.setdefault("batch", batch + 1)
        try:
            return self.filepath.format(**names)
        except KeyError as error:
            raise KeyError(
                f'Failed to format this callback filepath: "{self.filepath}". Reason: {error}; '
                f"there are {', '.join(names)}."
            ) from error
