"""BackupAndRestore: goes on with a training that was interrupted."""

import json
import os
import shutil
from typing import Any

import numpy as np

from gpunet.callbacks.callback import Callback
from gpunet.errors import ArgumentError, StateError, received


class BackupAndRestore(Callback):
    """Saves the state of the training, and starts the next `fit` from it if this one did not end.

    The weights, the optimizer's state, the epoch and the order of shuffling are restored, so that
    an interrupted training ends like one that was not. What was saved in the middle of an epoch
    (`save_freq` an integer) starts from the beginning of that epoch.

    Args:
        backup_dir: Folder for this training alone.
        save_freq: `"epoch"`, or a number of batches.
        double_checkpoint: Whether to keep the state before the last one too.
        delete_checkpoint: Whether to delete the folder when `fit` ends.

    Raises:
        ArgumentError: If `backup_dir` is empty or `save_freq` is not valid.
    """

    def __init__(
        self,
        backup_dir: Any,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        if not backup_dir:
            raise ArgumentError("Empty `backup_dir` argument passed")
        if save_freq != "epoch" and (isinstance(save_freq, str) or not isinstance(save_freq, int)):
            raise ArgumentError(
                "Invalid value for argument `save_freq`. Expected either 'epoch' or an integer "
                f"value. {received(save_freq=save_freq)}"
            )
        self.backup_dir, self.save_freq = os.fspath(backup_dir), save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        self._weights_path = os.path.join(self.backup_dir, "latest.weights.h5")
        self._training_metadata_path = os.path.join(self.backup_dir, "training_metadata.json")
        self._prev_weights_path = f"{self._weights_path}.bkp"
        self._prev_training_metadata_path = f"{self._training_metadata_path}.bkp"
        self._batches_seen_since_last_saving = 0
        self._last_batch_seen = self._current_epoch = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Restores what an interrupted training left.

        Raises:
            StateError: If the model is not built.
        """
        if not self.model.built:
            raise StateError(
                "To use the BackupAndRestore callback, the model must be built before you call "
                f"`fit()`. Call it on a batch of data first. {received(model=self.model.name)}"
            )
        try:
            self._load()
        except (OSError, ValueError):  # a damaged file: take the one before
            if not os.path.exists(self._prev_weights_path):
                raise
            shutil.copy(self._prev_weights_path, self._weights_path)
            shutil.copy(self._prev_training_metadata_path, self._training_metadata_path)
            self._load()

    def _load(self):
        if not os.path.exists(self._weights_path):
            return
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(self._weights_path)
        if not os.path.exists(self._training_metadata_path):
            return
        with open(self._training_metadata_path, encoding="utf-8") as file:
            saved = json.load(file)
        self.model._initial_epoch = self._current_epoch = saved["epoch"]
        if "shuffle_state" in saved:
            name, keys, *rest = saved["shuffle_state"]
            np.random.set_state((name, np.array(keys, np.uint32), *rest))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves."""
        self._current_epoch, self._last_batch_seen = epoch + 1, 0
        if self.save_freq == "epoch":
            self._save()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves every `save_freq` batches."""
        if self._should_save_on_batch(batch):
            self._save()

    def _should_save_on_batch(self, batch):
        if self.save_freq == "epoch":
            return False
        new_epoch = batch <= self._last_batch_seen
        self._batches_seen_since_last_saving += (
            batch + 1 if new_epoch else batch - self._last_batch_seen
        )
        self._last_batch_seen = batch
        if self._batches_seen_since_last_saving < int(self.save_freq):
            return False
        self._batches_seen_since_last_saving = 0
        return True

    def _save(self):
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint and os.path.exists(self._weights_path):
            shutil.copy(self._weights_path, self._prev_weights_path)
            shutil.copy(self._training_metadata_path, self._prev_training_metadata_path)
        self.model.save_weights(self._weights_path, overwrite=True)
        name, keys, *rest = np.random.get_state()
        saved = {
            "epoch": self._current_epoch,
            "batch": self._last_batch_seen,
            "shuffle_state": [name, [int(k) for k in keys], *rest],
        }
        partial = f"{self._training_metadata_path}.new"
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(saved, file)
        os.replace(partial, self._training_metadata_path)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Deletes the folder, unless told to keep it."""
        if self.delete_checkpoint and os.path.exists(self.backup_dir):
            shutil.rmtree(self.backup_dir)
