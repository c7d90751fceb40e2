"""Trainer: `fit`, `evaluate` and `predict`."""

import math
import warnings
from typing import Any

import numpy as np

from gpunet import tree
from gpunet.callbacks import CallbackList
from gpunet.callbacks.callback_list import pythonify_logs, read_logs
from gpunet.config import max_epochs
from gpunet.core.state import mode
from gpunet.data import (
    TensorEpochIterator,
    class_weight_to_sample_weights,
    train_validation_split,
    unpack_x_y_sample_weight,
)
from gpunet.errors import ArgumentError, received
from gpunet.models.steps import Steps

_KEPT_ON_DEVICE = 16  # batches of predictions that are collected before they are copied away


class Trainer(Steps):
    """What makes a layer trainable: `compile`, `fit`, `evaluate`, `predict` and their steps.

    `Model` has it. A class of yours gets it by deriving from it and a layer class:
    `class Trainable(Trainer, layers.Dense)`, calling both constructors.
    """

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: dict | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> Any:
        """Trains the model.

        Args:
            x: Inputs: arrays (NumPy, CuPy, torch, pandas, lists, nests of these), or all data as a
                generator, a `PyDataset`, a torch `DataLoader` or any iterable of batches
                `(x, y)` or `(x, y, sample_weight)`.
            y: Targets, with arrays only.
            batch_size: Samples in a batch; default 32.
            epochs: Epoch at which to stop.
            verbose: 0 (silent), 1 (progress bar), 2 (one line an epoch) or `"auto"`.
            callbacks: List of callbacks.
            validation_split: Part of the arrays, from their end, that is held out for validation.
            validation_data: What to evaluate after each epoch: `(x, y)`, `(x, y, sample_weight)`,
                or data of another kind that `x` may have.
            shuffle: Whether arrays come in a new order each epoch (from NumPy's random state);
                `"batch"` shuffles inside of each batch.
            class_weight: Dict from labels to weights of the loss.
            sample_weight: Weights of the loss, `(samples,)` or as the targets.
            initial_epoch: Epoch at which to start.
            steps_per_epoch: Batches in an epoch; needed with endless data.
            validation_steps: Batches in a validation.
            validation_batch_size: Samples in a batch of validation; default `batch_size`.
            validation_freq: Validates every so many epochs, or after the epochs in this list.

        Returns:
            A `History`: `history.history["loss"]` lists the loss of every epoch.

        Raises:
            StateError: If `compile` was not called.
            ArgumentError: If an argument is not valid; nothing has changed then.
            ShapeError: If shapes of data and model do not go together.
        """
        self._assert_compile_called("fit")
        epochs = _check_epochs(epochs, initial_epoch)
        _check_validation_freq(validation_freq)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = train_validation_split(
                (x, y, sample_weight), validation_split
            )
        else:
            _check_split(validation_split)
        device = self._device()
        iterator = TensorEpochIterator(
            x=x,
            y=y,
            sample_weight=sample_weight,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            class_weight=class_weight,
            steps_per_execution=self.steps_per_execution,
            device=device,
            for_graphs=self._is_own("make_train_function"),
        )
        validation = None
        if validation_data is not None:
            val_x, val_y, val_weight = unpack_x_y_sample_weight(validation_data)
            validation = {
                "x": val_x,
                "y": val_y,
                "sample_weight": val_weight,
                "batch_size": validation_batch_size or batch_size,
            }
            self.__dict__["_eval_epoch_iterator"] = TensorEpochIterator(
                **validation,
                steps_per_epoch=validation_steps,
                steps_per_execution=self.steps_per_execution,
                device=device,
                for_graphs=self._is_own("make_test_function"),
            )
            validation["steps"] = validation_steps
        callbacks = self._callback_list(
            callbacks, verbose, epochs, iterator.num_batches, add_history=True
        )
        try:
            self._symbolic_build(iterator=iterator)
            callbacks.set_model(self)
            self._run_epochs(
                iterator, callbacks, range(initial_epoch, epochs), validation, validation_freq
            )
        finally:
            self.__dict__.pop("_eval_epoch_iterator", None)
        return self.history

    def _run_epochs(self, iterator, callbacks, epochs, validation, validation_freq):
        self.__dict__["stop_training"] = False
        train = self.make_train_function()
        logs: dict[str, Any] = {}
        callbacks.on_train_begin()
        if self._initial_epoch is not None:  # a callback restored an interrupted training
            epochs = range(self._initial_epoch, epochs.stop)
            self.__dict__["_initial_epoch"] = None
        for epoch in epochs:
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            steps = self._run_steps(iterator, callbacks, train, "train", f"epoch {epoch + 1}")
            logs = dict(read_logs(steps))
            if validation is not None and _should_validate(epoch, validation_freq):
                found = self.evaluate(
                    **validation,
                    callbacks=callbacks,
                    return_dict=True,
                    _use_cached_eval_dataset=True,
                )
                logs.update({f"val_{name}": value for name, value in found.items()})
            logs = pythonify_logs(logs)
            self._warn_if_not_finite(logs, epoch)
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        if epochs and hasattr(self.optimizer, "finalize_variable_values"):
            self.optimizer.finalize_variable_values(self._layer.trainable_weights)
        callbacks.on_train_end(logs=logs)

    def _run_steps(self, iterator, callbacks, run, kind, where):
        """Runs all batches of an epoch; returns the logs of the last one."""
        before = _batch_hook(callbacks, f"on_{kind}_batch_begin")
        after = _batch_hook(callbacks, f"on_{kind}_batch_end")
        stop = "stop_training" if kind == "train" else "stop_evaluating"
        logs: Any = {}
        watched = self._host_loss() if kind == "train" else None
        self.__dict__["_diverged_in"] = None
        for first, last, batches in iterator:
            if before is not None:
                before(first)
            try:
                logs = run(batches)
            except Exception as error:
                error.add_note(f"This happened in batch {first} of {where}.")
                raise
            if watched is not None and not math.isfinite(watched.value.data):
                self.__dict__["_diverged_in"], watched = first, None
            if after is not None:
                after(last, logs)
            if getattr(self, stop):
                break
        return logs

    def _host_loss(self):
        """The running sum of the loss where reading it costs nothing: not on a GPU, which waits."""
        total = None if self._loss_tracker is None else self._loss_tracker.total
        return None if total is None or total.device.kind == "cuda" else total

    def _callback_list(self, callbacks, verbose, epochs, steps, add_history=False):
        if isinstance(callbacks, CallbackList):
            return callbacks
        if verbose not in (0, 1, 2, "auto", True, False):
            raise ArgumentError(f'`verbose` must be 0, 1, 2 or "auto". {received(verbose=verbose)}')
        return CallbackList(
            callbacks,
            add_history=add_history,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Returns the loss and the metrics of the model on data.

        Args:
            x: Inputs, or data of any kind that `fit` takes.
            y: Targets, with arrays only.
            batch_size: Samples in a batch; default 32.
            verbose: 0 (silent), 1 (progress bar), 2 (one line) or `"auto"`.
            sample_weight: Weights, `(samples,)` or as the targets.
            steps: Batches; needed with endless data.
            callbacks: List of callbacks.
            return_dict: Whether to return a dict by name.
            **kwargs: None.

        Returns:
            The loss as a float, or a list with the loss and the metrics, or a dict.

        Raises:
            StateError: If `compile` was not called.
            ArgumentError: If an argument is not valid.
        """
        self._assert_compile_called("evaluate")
        cached = kwargs.pop("_use_cached_eval_dataset", False)
        if kwargs:
            raise ArgumentError(f"Arguments not recognized: {kwargs}")
        iterator = self.__dict__.get("_eval_epoch_iterator") if cached else None
        if iterator is None:
            iterator = TensorEpochIterator(
                x=x,
                y=y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                steps_per_epoch=steps,
                steps_per_execution=self.steps_per_execution,
                device=self._device(),
                for_graphs=self._is_own("make_test_function"),
            )
        callbacks = self._callback_list(callbacks, verbose, 1, iterator.num_batches)
        self._symbolic_build(iterator=iterator)
        iterator.reset()
        if callbacks.model is not self:
            callbacks.set_model(self)
        run = self.make_test_function()
        self.__dict__["stop_evaluating"] = False
        callbacks.on_test_begin()
        self.reset_metrics()
        with mode(tape=None):
            logs = self._run_steps(iterator, callbacks, run, "test", "the evaluation")
        logs = pythonify_logs(logs)
        callbacks.on_test_end(logs)
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Returns the outputs of the model for data.

        Args:
            x: Inputs, or data of any kind that `fit` takes.
            batch_size: Samples in a batch; default 32.
            verbose: 0 (silent), 1 (progress bar), 2 (one line) or `"auto"`.
            steps: Batches; needed with endless data.
            callbacks: List of callbacks.

        Returns:
            NumPy array of all outputs, or a nest of them.

        Raises:
            ArgumentError: If an argument is not valid.
        """
        iterator = TensorEpochIterator(
            x=x,
            batch_size=batch_size,
            steps_per_epoch=steps,
            steps_per_execution=self.steps_per_execution,
            device=self._device(),
            for_graphs=self._is_own("make_predict_function"),
        )
        callbacks = self._callback_list(callbacks, verbose, 1, iterator.num_batches)
        callbacks.set_model(self)
        run = self.make_predict_function()
        self.__dict__["stop_predicting"] = False
        callbacks.on_predict_begin()
        before = _batch_hook(callbacks, "on_predict_batch_begin")
        after = _batch_hook(callbacks, "on_predict_batch_end")
        collected = _Predictions()
        with mode(tape=None):
            for first, last, batches in iterator:
                if before is not None:
                    before(first)
                outputs = run(batches)
                collected.add(outputs)
                if after is not None:
                    after(last, {"outputs": outputs})
                if self.stop_predicting:
                    break
        callbacks.on_predict_end()
        return collected.joined()

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Trains on one batch.

        Args:
            x: Inputs.
            y: Targets.
            sample_weight: Weights.
            class_weight: Dict from labels to weights, instead of `sample_weight`.
            return_dict: Whether to return a dict by name.

        Returns:
            The loss as a float, or a list with the loss and the metrics, or a dict.

        Raises:
            StateError: If `compile` was not called.
            ArgumentError: If both kinds of weights are given.
        """
        self._assert_compile_called("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ArgumentError(
                    "Arguments `sample_weight` and `class_weight` cannot be specified at the same "
                    f"time. {received(class_weight=class_weight)}"
                )
            sample_weight = class_weight_to_sample_weights(y, class_weight)
        data = self._tensors((x, y, sample_weight))
        self._symbolic_build(data_batch=data)
        run = self.make_train_function()
        self.reset_metrics()
        return self._logs_of_batch(run([data]), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Evaluates one batch.

        Args:
            x: Inputs.
            y: Targets.
            sample_weight: Weights.
            return_dict: Whether to return a dict by name.

        Returns:
            The loss as a float, or a list with the loss and the metrics, or a dict.

        Raises:
            StateError: If `compile` was not called.
        """
        self._assert_compile_called("test_on_batch")
        data = self._tensors((x, y, sample_weight))
        self._symbolic_build(data_batch=data)
        run = self.make_test_function()
        self.reset_metrics()
        with mode(tape=None):
            return self._logs_of_batch(run([data]), return_dict)

    def _logs_of_batch(self, logs, return_dict):
        logs = pythonify_logs(logs)
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for one batch, as NumPy arrays.

        Args:
            x: Inputs.
        """
        run = self.make_predict_function()
        with mode(tape=None):
            return tree.map_structure(_numpy, run([(self._tensors(x),)]))


class _Predictions:
    """Collects the outputs of batches, and copies them to the host now and then."""

    def __init__(self):
        self.batches: list[Any] = []
        self.copied = 0

    def add(self, outputs):
        self.batches.append(outputs)
        if len(self.batches) - self.copied >= _KEPT_ON_DEVICE:
            self._copy()

    def _copy(self):
        for i in range(self.copied, len(self.batches)):
            self.batches[i] = tree.map_structure(_numpy, self.batches[i])
        self.copied = len(self.batches)

    def joined(self):
        if not self.batches:
            raise ArgumentError("`x` has no batches to predict.")
        self._copy()
        return tree.map_structure_up_to(
            self.batches[0], lambda *arrays: np.concatenate(arrays), *self.batches
        )


def _numpy(y):
    return y.numpy().copy() if hasattr(y, "numpy") else np.asarray(y)


def _batch_hook(callbacks, name):
    if type(callbacks) is CallbackList:
        return callbacks.batch_hook(name)
    return getattr(callbacks, name)


def _check_epochs(epochs, initial_epoch):
    for name, value, least in (("epochs", epochs, 1), ("initial_epoch", initial_epoch, 0)):
        integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not integer or value < least:
            raise ArgumentError(
                f"`{name}` must be an integer of at least {least}. {received(**{name: value})}"
            )
    limit = max_epochs()
    if limit and limit < epochs:
        warnings.warn(f"Limiting epochs to {limit}", stacklevel=3)
        return limit
    return int(epochs)


def _check_split(validation_split):
    number = isinstance(validation_split, (int, float, np.floating))
    if not number or not 0 <= validation_split < 1:
        raise ArgumentError(
            "`validation_split` must be at least 0 and less than 1. "
            + received(validation_split=validation_split)
        )


def _check_validation_freq(validation_freq):
    integer = isinstance(validation_freq, int) and validation_freq > 0
    if not integer and not isinstance(validation_freq, (list, tuple, set, range)):
        raise ArgumentError(
            "Expected `validation_freq` to be a list or a positive int. "
            + received(validation_freq=validation_freq, type=type(validation_freq).__name__)
        )


def _should_validate(epoch, validation_freq):
    """Epochs count from 1 here, as users see them."""
    if isinstance(validation_freq, int):
        return (epoch + 1) % validation_freq == 0
    return epoch + 1 in validation_freq
