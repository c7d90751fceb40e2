"""What `compile` sets, and what follows from it: losses, metrics, and the config that is saved."""

import inspect
import math
import warnings
from typing import Any

from gpunet import metrics as metrics_module
from gpunet import optimizers as optimizers_module
from gpunet.config import floatx
from gpunet.core.tensor import FUNCTIONS
from gpunet.dtypes import is_float
from gpunet.errors import ArgumentError, StateError, received
from gpunet.models.compile_loss import CompileLoss
from gpunet.models.compile_metrics import CompileMetrics
from gpunet.saving import deserialize_keras_object, serialize_keras_object


class Compilable:
    """The part of a trainer that knows optimizer, loss and metrics."""

    compiled: bool
    loss: Any
    optimizer: Any
    steps_per_execution: int
    stop_training: bool
    stop_evaluating: bool
    stop_predicting: bool
    train_function: Any
    test_function: Any
    predict_function: Any
    history: Any
    _run_eagerly: bool
    _jit_compile: bool
    _initial_epoch: int | None
    _compile_config: dict[str, Any]
    _compile_loss: CompileLoss | None
    _compile_metrics: CompileMetrics | None
    _loss_tracker: Any
    _compute_loss_has_training_arg: bool

    def __init__(self):
        # Past `__setattr__`: losses and metrics of a training are no part of the layer's state.
        self.__dict__.update(
            compiled=False,
            loss=None,
            optimizer=None,
            steps_per_execution=1,
            stop_training=False,
            stop_evaluating=False,
            stop_predicting=False,
            train_function=None,
            test_function=None,
            predict_function=None,
            _run_eagerly=False,
            _jit_compile=False,
            _initial_epoch=None,
            _compile_config={},
            _compile_loss=None,
            _compile_metrics=None,
            _loss_tracker=None,
            _compute_loss_has_training_arg="training"
            in inspect.signature(self.compute_loss).parameters,
        )

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Sets what `fit` and `evaluate` need.

        Args:
            optimizer: Optimizer, or name of one.
            loss: Loss, name, or function `(y_true, y_pred) -> tensor`; a list or dict of these for
                models with several outputs.
            loss_weights: Numbers that the losses are multiplied with.
            metrics: List of metrics, names and functions; `"accuracy"` means the accuracy that fits
                the shapes of targets and outputs.
            weighted_metrics: The same; these are weighted by `sample_weight` and `class_weight`.
            run_eagerly: Runs every step op by op, for debugging. Else Python runs a step once for
                each shape of batch, and its graph from then on (see `gpunet.function`).
            steps_per_execution: Batches run between two calls of the batch hooks of callbacks.
            jit_compile: `True`: a step that cannot be traced raises `TraceError`. `"auto"` and
                `False`: it runs op by op, with one warning that names the line.
            auto_scale_loss: Whether a `mixed_float16` model gets a `LossScaleOptimizer`.

        Raises:
            ArgumentError: If a name is unknown or an argument is of the wrong kind; the model
                stays as it was.

        Example:
            >>> import gpunet
            >>> model = gpunet.models.Sequential([gpunet.layers.Dense(1)])
            >>> model.compile("sgd", "mse", metrics=["mae"])
        """
        if not isinstance(steps_per_execution, int) or steps_per_execution < 1:
            raise ArgumentError(
                "`steps_per_execution` must be a positive integer. "
                + received(steps_per_execution=steps_per_execution)
            )
        chosen = optimizers_module.get(optimizer)
        policy = getattr(self, "dtype_policy", None)
        mixed = getattr(policy, "name", None) == "mixed_float16"
        scaling = optimizers_module.LossScaleOptimizer
        if auto_scale_loss and mixed and chosen and not isinstance(chosen, scaling):
            chosen = scaling(chosen, name="loss_scale_optimizer")
        names = getattr(self, "output_names", None)
        compile_loss = None if loss is None else CompileLoss(loss, loss_weights, output_names=names)
        compile_metrics = None
        if metrics is not None or weighted_metrics is not None:
            compile_metrics = CompileMetrics(metrics, weighted_metrics, output_names=names)
        if jit_compile is True and run_eagerly:
            warnings.warn(
                "If `run_eagerly` is True, then `jit_compile` cannot also be True. Disabling "
                "`jit_compile`.",
                stacklevel=2,
            )
        config = {
            "optimizer": optimizers_module.get(optimizer) if chosen is None else chosen,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile is True and not run_eagerly,
        }
        if isinstance(chosen, scaling) and mixed:
            config["optimizer"] = chosen.inner_optimizer
        self.__dict__.update(
            optimizer=chosen,
            loss=loss,
            steps_per_execution=steps_per_execution,
            compiled=True,
            stop_training=False,
            train_function=None,
            test_function=None,
            predict_function=None,
            _run_eagerly=bool(run_eagerly),
            _jit_compile=config["jit_compile"],
            _compile_config=config,
            _compile_loss=compile_loss,
            _compile_metrics=compile_metrics,
            _loss_tracker=metrics_module.Mean(name="loss"),
        )

    @property
    def _layer(self) -> Any:
        """This object as the layer that it is too."""
        return self

    @property
    def run_eagerly(self) -> bool:
        """Whether steps run op by op."""
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self.__dict__["_run_eagerly"] = value

    @property
    def jit_compile(self) -> bool:
        """What `compile` was told."""
        return self._jit_compile

    @jit_compile.setter
    def jit_compile(self, value: bool) -> None:
        self.__dict__["_jit_compile"] = value

    # -- losses ---------------------------------------------------------------------------------

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the total loss: of `compile`, of `add_loss`, and of regularizers.

        Override it for a loss that needs more than targets and predictions.

        Args:
            x: Inputs.
            y: Targets.
            y_pred: Predictions.
            sample_weight: Weights.
            training: Whether this is a training step.

        Raises:
            StateError: If there is nothing to compute.
        """
        losses = []
        if self._compile_loss is not None:
            loss = self._compile_loss(y, y_pred, sample_weight)
            if loss is not None:
                losses.append(loss)
        losses += [self._aggregate_additional_loss(loss) for loss in self._layer.losses]
        if not losses:
            raise StateError("No loss to compute. Provide a `loss` argument in `compile()`.")
        total = losses[0]
        for loss in losses[1:]:
            total = FUNCTIONS["add"](total, loss)
        return total

    def _compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Calls `compute_loss`, which in old code takes no `training`."""
        if self._compute_loss_has_training_arg:
            return self.compute_loss(x, y, y_pred, sample_weight, training=training)
        return self.compute_loss(x, y, y_pred, sample_weight)

    def _aggregate_additional_loss(self, loss):
        if not is_float(loss.dtype):
            loss = FUNCTIONS["cast"](loss, floatx())
        return FUNCTIONS["sum"](loss) if loss.ndim else loss

    # -- metrics --------------------------------------------------------------------------------

    def _compile_time_metrics(self):
        found = []
        if self.compiled:
            found += [m for m in (self._loss_tracker, self._compile_metrics) if m is not None]
            if self._compile_loss is not None:
                found += self._compile_loss.metrics
        return [*found, *self._layer._metrics]

    @property
    def metrics(self) -> list[Any]:
        """The mean loss, the metrics of `compile`, and those of the layers."""
        found = self._compile_time_metrics()
        for layer in self._layer._flatten_layers(include_self=False):
            if not isinstance(layer, Compilable):  # what inner models compiled is not ours
                found += layer._metrics
        return found

    @property
    def metrics_names(self) -> list[str]:
        """Names of `metrics`."""
        return [metric.name for metric in self.metrics]

    @property
    def metrics_variables(self) -> list[Any]:
        """The state of the metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def reset_metrics(self) -> None:
        """Starts all metrics anew."""
        for metric in self.metrics:
            metric.reset_state()

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        """Adds a batch to the metrics of `compile` and returns all results.

        Args:
            x: Inputs.
            y: Targets.
            y_pred: Predictions.
            sample_weight: Weights.

        Returns:
            Dict from names to scalar tensors.
        """
        if self._compile_metrics is not None:
            self._compile_metrics.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the results of all metrics by name."""
        results: dict[str, Any] = {}
        for metric in self.metrics:
            result = metric.result()
            results.update(result if isinstance(result, dict) else {metric.name: result})
        return results

    def _flatten_metrics_in_order(self, logs):
        """The results as a list in the order of `metrics`; a number if there is only one."""
        names: list[str] = []
        for metric in self.metrics:
            inner = metric.metrics if isinstance(metric, CompileMetrics) else (metric,)
            names += [m.name for m in inner]
        values = [logs[name] for name in names if name in logs]
        values += [logs[key] for key in sorted(logs) if key not in names]
        return values[0] if len(values) == 1 else values

    def _warn_if_not_finite(self, logs, epoch):
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            batch = self.__dict__.get("_diverged_in")
            since = "" if batch is None else f" (since its batch {batch})"
            warnings.warn(
                f"The loss is {float(loss)} after epoch {epoch + 1}{since}: the training diverged. "
                "Try a lower learning rate or gradient clipping, and look for NaN in the data; "
                "`callbacks.TerminateOnNaN()` stops at the batch where it begins.",
                stacklevel=3,
            )

    # -- configuration --------------------------------------------------------------------------

    def get_compile_config(self) -> dict[str, Any]:
        """Returns the arguments of `compile` as a config; empty if it was not called."""
        return serialize_keras_object(self._compile_config) if self.compiled else {}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Calls `compile` with the arguments of a config made by `get_compile_config`."""
        if type(self).compile is not Compilable.compile:
            warnings.warn(
                "`compile()` was not called as part of model loading because the model's "
                "`compile()` method is custom. Override `get_compile_config()` and "
                "`compile_from_config(config)` too, or call `compile()` after loading.",
                stacklevel=2,
            )
            return
        if not config:
            return
        self.compile(**deserialize_keras_object(config))
        if self.optimizer is not None and self._layer.built:
            self.optimizer.build(self._layer.trainable_variables)

    def _assert_compile_called(self, method_name: str) -> None:
        if not self.compiled:
            raise StateError(
                f"You must call `compile()` before using the model: `{method_name}()` needs an "
                "optimizer and a loss. Call `model.compile(optimizer, loss)` first."
            )
