"""History: what `fit` returns."""

from typing import Any

from gpunet.callbacks.callback import Callback


class History(Callback):
    """The logs of all epochs; `fit` adds one to every training and returns it.

    Attributes:
        history: Dict from metric names to lists with one value an epoch.
        epoch: Numbers of the epochs.
    """

    def __init__(self):
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts counting epochs."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Notes the logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self

    def plot(self, ax: Any = None) -> Any:
        """Draws the learning curves with matplotlib.

        Args:
            ax: Axes to draw on; default new ones.

        Returns:
            The axes.

        Raises:
            ImportError: If matplotlib is not installed: `pip install "gpunet[viz]"`.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots()
        for name, values in self.history.items():
            ax.plot(self.epoch[-len(values) :], values, label=name)
        ax.set_xlabel("epoch")
        ax.legend()
        return ax
