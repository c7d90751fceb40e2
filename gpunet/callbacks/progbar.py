"""Progress bars in a terminal, a notebook, or a file."""

import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any

from gpunet.callbacks.callback import Callback
from gpunet.errors import ArgumentError

_FILE_INTERVAL = 30.0  # seconds between lines where lines cannot be overwritten


def print_message(message: str, end: str = "\n") -> None:
    """Writes to standard output, at once; signs that its encoding lacks become plain ones."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = (message + end).replace("━", "━" if _can_encode("━", encoding) else "=")
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _can_encode(text, encoding):
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Progbar:
    """A progress bar: `45/45 ━━━━ 1s 3ms/step - accuracy: 0.9371 - loss: 0.2146`.

    In a terminal or notebook the line is rewritten; in a file there is a line at the end, and one
    every half a minute.

    Args:
        target: Number of steps; `None` if unknown.
        width: Width of the bar.
        verbose: 0 (silent), 1 (bar) or 2 (one line at the end).
        interval: Seconds between updates of the screen.
        stateful_metrics: Names of values that are shown as they are, not averaged over steps.
        stateless_metrics: Names of values that are averaged, instead of `stateful_metrics`.
        unit_name: What is counted.

    Raises:
        ArgumentError: If both kinds of names are given.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ArgumentError(
                "Only one of `stateful_metrics` or `stateless_metrics` can be provided."
            )
        self.target, self.width, self.verbose = target, width, verbose
        self.unit_name = unit_name
        self.stateful_metrics = (
            None if stateless_metrics is not None else set(stateful_metrics or ())
        )
        self.stateless_metrics = set(stateless_metrics or ())
        self._rewrites = _rewrites()
        self.interval = interval if self._rewrites else max(interval, _FILE_INTERVAL)
        self._values: dict[str, tuple[Any, int]] = {}  # sum and count
        self._seen_so_far = 0
        self._start = time.time()
        self._last_update = 0.0 if self._rewrites else self._start
        self._first_step_end: float | None = None
        self._shown = 0

    def due(self) -> bool:
        """Tells whether the next update would show on the screen."""
        return self.verbose == 1 and time.time() - self._last_update >= self.interval

    def tick(self, current: int) -> None:
        """Notes the end of the first step, which often takes longer than the others."""
        if current == 1 and self._first_step_end is None:
            self._first_step_end = time.time()
        self._seen_so_far = current

    def update(
        self, current: int, values: Iterable[tuple[str, Any]] | None = None, finalize: Any = None
    ) -> None:
        """Shows that `current` steps are done.

        Args:
            current: Number of steps.
            values: Pairs `(name, value)` of the last step.
            finalize: Whether this is the last update; default if `target` is reached.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            self._add(name, value, current, finalize)
        now = time.time()
        self.tick(current)
        if self.verbose == 1 and (finalize or now - self._last_update >= self.interval):
            self._show(current, now, finalize)
        elif self.verbose == 2 and finalize:
            print_message(self._text(current, now, True))
        self._last_update = now if finalize or self.due() else self._last_update

    def add(self, n: int, values: Iterable[tuple[str, Any]] | None = None) -> None:
        """Shows that `n` more steps are done."""
        self.update(self._seen_so_far + n, values)

    def _add(self, name, value, current, finalize):
        averaged = (
            name in self.stateless_metrics
            if self.stateful_metrics is None
            else name not in self.stateful_metrics
        )
        count = max(current - self._seen_so_far, 1)
        if averaged and not finalize:
            total, before = self._values.get(name, (0.0, 0))
            self._values[name] = total + value * count, before + count
        else:
            self._values[name] = value, 1

    def _show(self, current, now, finalize):
        text = self._text(current, now, finalize)
        if not self._rewrites:
            print_message(text)
            return
        if not finalize:  # a line that wraps could not be rewritten
            text = text[: max(shutil.get_terminal_size().columns - 1, 20)]
        padding = " " * (self._shown - len(text))
        self._shown = len(text)
        print_message("\r" + _colored(text, self.width) + padding, "\n" if finalize else "")

    def _text(self, current, now, finalize):
        parts = []
        if self.target:
            digits = len(str(self.target))
            parts.append(f"{current:{digits}d}/{self.target}")
            if self.verbose == 1:
                done = int(self.width * min(current / self.target, 1))
                bar = "━" * self.width if finalize else "━" * done + "╺" * (self.width - done)
                parts.append(bar)
        else:
            parts.append(f"{current:7d}/Unknown")
        step = self._step_seconds(current, now)
        if self.target and not finalize:
            parts.append(_clock(step * (self.target - current)))
        else:
            parts.append(f"{now - self._start:.0f}s")
        parts.append(f"{_duration(step)}/{self.unit_name}")
        values = [f" - {name}: {_number(*pair)}" for name, pair in self._values.items()]
        return (" - " if self.verbose == 2 else " ").join(parts) + "".join(values)

    def _step_seconds(self, current, now):
        if not current:
            return 0.0
        if self._first_step_end is not None and current > 1:
            return (now - self._first_step_end) / (current - 1)
        return (now - self._start) / current


def _rewrites():
    isatty = getattr(sys.stdout, "isatty", None)
    return bool(isatty and isatty()) or "ipykernel" in sys.modules or "PYCHARM_HOSTED" in os.environ


def _colored(text, width):
    """Done is green, to do is grey; both are drawn with the same sign."""
    done, todo = "━" * text.count("━"), "━" * text.count("╺")
    bar = (f"\x1b[32m{done}" if done else "") + (f"\x1b[37m{todo}" if todo else "") + "\x1b[0m"
    return text.replace("━" * text.count("━") + "╺" * text.count("╺"), bar, 1) if width else text


def _clock(seconds):
    seconds = int(seconds)
    if seconds > 3600:
        return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
    return f"{seconds // 60}:{seconds % 60:02d}" if seconds > 60 else f"{seconds}s"


def _duration(seconds):
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


def _number(total, count):
    try:
        value = float(total) / count
    except (TypeError, ValueError):  # several values: show their mean, or the text
        mean = getattr(total, "mean", None)
        if mean is None:
            return str(total)
        value = float(mean()) / count
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


class ProgbarLogger(Callback):
    """Shows the progress of `fit`, `evaluate` and `predict`; added unless `verbose=0`."""

    reads_logs_later = True  # the list may pass logs that are not computed yet

    def __init__(self):
        self.seen, self.verbose, self.epochs = 0, 1, 1
        self.target: int | None = None
        self.progbar: Any = None
        self._called_in_fit = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes `verbose`, `epochs` and `steps`."""
        self.params = params
        verbose = params.get("verbose", 1)
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs, self.target = params.get("epochs", 1), params.get("steps")

    def on_train_begin(self, logs: Any = None) -> None:
        """From here on validation is silent."""
        self._called_in_fit = True

    def on_test_begin(self, logs: Any = None) -> None:
        """Starts a bar."""
        if not self._called_in_fit:
            self._new_bar()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Starts a bar."""
        self._new_bar()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts a bar."""
        self._new_bar()
        if self.verbose and self.epochs > 1:
            print_message(f"Epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves the bar on."""
        self._update(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves the bar on."""
        if not self._called_in_fit:
            self._update(batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves the bar on."""
        self._update(batch, None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Completes the bar."""
        self._finalize(logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Completes the bar."""
        if not self._called_in_fit:
            self._finalize(logs)

    def on_predict_end(self, logs: Any = None) -> None:
        """Completes the bar."""
        self._finalize(None)

    def _new_bar(self):
        self.seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose, stateless_metrics=())

    def _update(self, batch, logs: Any):
        self.seen = batch + 1
        if self.progbar is None:
            self._new_bar()
        bar: Any = self.progbar
        if bar.due():
            logs = logs() if callable(logs) else logs
            bar.update(self.seen, list((logs or {}).items()), finalize=False)
        else:
            bar.tick(self.seen)

    def _finalize(self, logs: Any):
        if self.progbar is None:
            return
        if self.target is None:
            self.target = self.progbar.target = self.seen
        logs = logs() if callable(logs) else logs
        self.progbar.update(self.target, list((logs or {}).items()), finalize=True)
