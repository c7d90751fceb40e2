"""SwapEMAWeights: evaluates with the averaged weights."""

from gpunet.callbacks.callback import Callback
from gpunet.errors import StateError, received


class SwapEMAWeights(Callback):
    """Puts the optimizer's moving averages in place of the weights while a model is evaluated.

    The optimizer must have been made with `use_ema=True` (Polyak averaging).

    Args:
        swap_on_epoch: Whether to swap at the ends of epochs too, so that a `ModelCheckpoint` after
            this one saves the averages.
    """

    def __init__(self, swap_on_epoch: bool = False):
        self.swap_on_epoch = swap_on_epoch
        self._ema_weights_in_model = False

    def _pairs(self):
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        averages = getattr(optimizer, "_model_variables_moving_average", None)
        if not getattr(optimizer, "use_ema", False) or averages is None:
            raise StateError(
                "SwapEMAWeights must be used when `use_ema=True` is set on the optimizer. "
                + received(use_ema=getattr(optimizer, "use_ema", None))
            )
        return zip(optimizer._trainable_variables, averages, strict=True)

    def _swap(self, averages_in_model):
        if self._ema_weights_in_model == averages_in_model:
            return
        for variable, average in self._pairs():
            value = variable.value
            variable.assign(average.value)
            average.assign(value)
        self._ema_weights_in_model = averages_in_model

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Trains on with the weights themselves."""
        if self.swap_on_epoch:
            self._swap(False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Shows the averages to the callbacks after this one."""
        if not self.swap_on_epoch:
            return
        self._swap(True)
        if epoch == (self.params or {}).get("epochs", 0) - 1:
            # `fit` ends by writing the averages into the model: keep them there.
            for variable, average in self._pairs():
                average.assign(variable.value)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Evaluates with the averages."""
        self._swap(True)

    def on_test_end(self, logs: dict | None = None) -> None:
        """Goes back to the weights."""
        self._swap(False)

    def on_predict_begin(self, logs: dict | None = None) -> None:
        """Predicts with the averages."""
        self._swap(True)

    def on_predict_end(self, logs: dict | None = None) -> None:
        """Goes back to the weights."""
        self._swap(False)
