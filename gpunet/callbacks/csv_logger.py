"""CSVLogger: one line an epoch in a file."""

import csv
import os
from typing import Any

import numpy as np

from gpunet.callbacks.callback import Callback


class CSVLogger(Callback):
    """Writes the logs of every epoch to a CSV file.

    Args:
        filename: Path of the file.
        separator: Between the columns.
        append: Whether to go on with a file that exists.
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        self.filename, self.sep, self.append = os.fspath(filename), separator, append
        self.writer: Any = None
        self.csv_file: Any = None
        self.keys: list[str] | None = None
        self.append_header = True

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the file."""
        self._close()
        self.append_header = not (
            self.append and os.path.exists(self.filename) and os.path.getsize(self.filename)
        )
        mode = "a" if self.append else "w"
        self.csv_file = open(self.filename, mode, newline="", encoding="utf-8")  # noqa: SIM115
        self.writer = self.keys = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes a line; columns are those of the first epoch."""
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]
        if self.writer is None:
            names = ["epoch", *self.keys]
            self.writer = csv.DictWriter(self.csv_file, names, delimiter=self.sep)
            if self.append_header:
                self.writer.writeheader()
        row = {key: _cell(logs.get(key, "NA")) for key in self.keys}
        self.writer.writerow({"epoch": epoch, **row})
        self.csv_file.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the file."""
        self._close()
        self.writer = None

    def _close(self):
        if self.csv_file is not None and not self.csv_file.closed:
            self.csv_file.close()


def _cell(value):
    if isinstance(value, str) or np.ndim(value) == 0:
        return value
    return f'"[{", ".join(map(str, value))}]"'
