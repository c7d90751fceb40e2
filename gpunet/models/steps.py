"""What happens to one batch: training, test and prediction steps, and building before them."""

import warnings
from typing import Any

from gpunet import ops, tree
from gpunet.backend.device import Device, current_device
from gpunet.compile import function
from gpunet.compile.inputs import Pending
from gpunet.core.gradients import GradientTape
from gpunet.core.symbolic import KerasTensor, compute_output_spec
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.data import unpack_x_y_sample_weight
from gpunet.data.adapter import to_tensor
from gpunet.dtypes import standardize_dtype
from gpunet.errors import GpunetError, TraceError
from gpunet.models.compiling import Compilable

_STEPS_OF_A_GRAPH = 16  # at most: tracing takes time for each


class Steps(Compilable):
    """The part of a trainer that runs one batch."""

    def _forward(self, x, training):
        layer = self._layer
        return layer(x, training=training) if layer._call_facts.training else layer(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Trains on one batch; override it for a training of your own.

        Args:
            data: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` as tensors.

        Returns:
            Dict from names to values, usually of the metrics.

        Example:
            >>> import gpunet
            >>> class Doubled(gpunet.Model):
            ...     def train_step(self, data):
            ...         x, y = data
            ...         with gpunet.GradientTape() as tape:
            ...             loss = 2 * self.compute_loss(y=y, y_pred=self(x, training=True))
            ...         gradients = tape.gradient(loss, self.trainable_variables)
            ...         self.optimizer.apply(gradients, self.trainable_variables)
            ...         return {"loss": loss}
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self._update_weights(x, y, sample_weight)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _update_weights(self, x, y, sample_weight):
        """Forward, backward and optimizer step; returns the predictions."""
        optimizer = self.optimizer
        with GradientTape() as tape:
            y_pred = self._forward(x, True)
            loss = self._compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = loss if optimizer is None else optimizer.scale_loss(loss)
        variables = self._layer.trainable_variables
        self._track_loss(loss, x)
        if optimizer is not None and variables:
            optimizer.apply(tape.gradient(scaled, variables), variables)
        return y_pred

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluates one batch; override it for an evaluation of your own.

        Args:
            data: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` as tensors.

        Returns:
            Dict from names to values, usually of the metrics.
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self._evaluate_batch(x, y, sample_weight)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _evaluate_batch(self, x, y, sample_weight):
        y_pred = self._forward(x, False)
        loss = self._compute_loss(x, y, y_pred, sample_weight, training=False)
        self._track_loss(loss, x)
        return y_pred

    def _track_loss(self, loss, x):
        first = x if type(x) is Tensor else next(v for v in tree.flatten(x) if v is not None)
        self._loss_tracker.update_state(loss, sample_weight=first.shape[0])

    def predict_step(self, data: Any) -> Any:
        """Returns the predictions for one batch.

        Args:
            data: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` as tensors.
        """
        return self._forward(unpack_x_y_sample_weight(data)[0], False)

    # -- functions over one or several batches --------------------------------------------------

    def make_train_function(self, force: bool = False) -> Any:
        """Returns the function that trains on a list of batches; makes it if need be."""
        if self.train_function is None or force:
            steps = self._step("train_step", self._lazy_train_step)
            self.__dict__["train_function"] = steps
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Returns the function that evaluates a list of batches; makes it if need be."""
        if self.test_function is None or force:
            steps = self._step("test_step", self._lazy_test_step)
            self.__dict__["test_function"] = steps
        return self.test_function

    def make_predict_function(self, force: bool = False) -> Any:
        """Returns the function that predicts a list of batches; makes it if need be."""
        if self.predict_function is None or force:
            one = self._as_graph(self.predict_step)
            self.__dict__["predict_function"] = lambda batches: _joined(
                [one([batch]) for batch in batches]
            )
        return self.predict_function

    def _step(self, name, lazy):
        """A step on each batch of a list: the lazy form, unless a subclass changed its parts.

        The lazy form returns `get_metrics_result` itself instead of the results, so that metrics
        are read only when somebody looks at the logs.
        """
        names = (name, "compute_metrics", "get_metrics_result")
        if any(getattr(type(self), n) is not getattr(Steps, n) for n in names):
            return self._as_graph(getattr(self, name))
        update = self._as_graph(lazy)

        def steps(batches):
            update(batches)
            return self.get_metrics_result

        return steps

    def _as_graph(self, step):
        """A function that runs a step on each batch of a list and returns what the last one does.

        Steps run as graphs: op by op if the user wants, or if they cannot be traced. On a GPU
        several steps make one graph, so that the CPU launches them all at once.
        """

        def traced(batches):
            out = None
            for data in batches:
                out = step(data)
                self._layer._clear_losses()  # what `add_loss` got has no value
            return out

        traced.__name__ = f"{step.__name__.removeprefix('_lazy_')} of {self._layer.name}"
        graph = function(traced)

        def run(batches):
            if len(batches) == 1:
                return run_some(batches)
            most = 1 if self._device().kind == "cpu" else _STEPS_OF_A_GRAPH
            out = None
            for start in range(0, len(batches), most):
                out = run_some(batches[start : start + most])
            return out

        def run_some(batches):
            nonlocal graph
            if self.run_eagerly or graph is None:
                return op_by_op(batches)
            try:
                return graph(batches)
            except TraceError as error:
                if self.jit_compile:
                    raise
                graph = None
                warnings.warn(
                    f"`{traced.__name__}` runs op by op, slower: {error} Say "
                    "`compile(run_eagerly=True)` to mean it.",
                    stacklevel=4,
                )
                return op_by_op(batches)

        def op_by_op(batches):
            out = None
            for data in batches:
                out = step(tree.map_structure(_there, data))
            return out

        return run

    def _is_own(self, method):
        """Tells whether a method is the one of this class: what it gets need not be Tensors yet."""
        return getattr(type(self), method) is getattr(Steps, method)

    def _lazy_train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self._update_weights(x, y, sample_weight)
        if self._compile_metrics is not None:
            self._compile_metrics.update_state(y, y_pred, sample_weight)

    def _lazy_test_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self._evaluate_batch(x, y, sample_weight)
        if self._compile_metrics is not None:
            self._compile_metrics.update_state(y, y_pred, sample_weight)

    # -- building -------------------------------------------------------------------------------

    def _device(self) -> Device:
        """Where batches must be: where the weights are."""
        variables = self._layer.variables
        return variables[0].device if variables else current_device()

    def _tensors(self, data):
        device = self._device()
        return tree.map_structure(
            lambda leaf: None if leaf is None else to_tensor(leaf, device), data
        )

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Builds layers, loss, metrics and optimizer from the shapes of a batch.

        Raises:
            ShapeError: If targets and predictions do not go together.
        """
        unbuilt = not all(layer.built for layer in self._layer._flatten_layers())
        loss, metrics = self._compile_loss, self._compile_metrics
        wants_loss = loss is not None and not loss.built
        wants_metrics = metrics is not None and not metrics.built
        if unbuilt or wants_loss or wants_metrics:
            batch = self._tensors(iterator.peek()) if data_batch is None else data_batch
            x, y, sample_weight = unpack_x_y_sample_weight(tree.map_structure(_spec, batch))
            self._build_for(x)
            try:
                y_pred = self._prediction_spec(x)
            except TraceError:  # a model whose `call` needs values, and runs op by op
                if self.jit_compile:
                    raise
                real, _, _ = unpack_x_y_sample_weight(batch)
                y_pred = tree.map_structure(_spec, self._forward(real, False))
            if wants_metrics:
                compute_output_spec(self.compute_metrics, x, y, y_pred, sample_weight)
            if wants_loss:
                compute_output_spec(self._compute_loss, x, y, y_pred, sample_weight, False)
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self._layer.trainable_variables)
        self._layer._post_build()

    def _build_for(self, x: Any) -> None:
        """Called before the model is run for its shapes; models may build themselves here."""

    def _prediction_spec(self, x):
        try:
            return compute_output_spec(self._forward, x, False)
        except (GpunetError, ValueError):
            raise
        except Exception as error:
            raise RuntimeError(
                "Unable to automatically build the model. Please build it yourself before calling "
                "fit/evaluate/predict: call it on a batch of data, so that its variables are "
                f"created. Exception encountered: {error!r}"
            ) from error


def _spec(x):
    """A KerasTensor like an array."""
    return None if x is None else KerasTensor(x.shape, standardize_dtype(x.dtype))


def _there(x):
    """An input as a Tensor, where it is still to become one."""
    return as_tensor(x) if isinstance(x, Pending) else x


def _joined(outputs):
    """The predictions of several batches as those of one."""
    if len(outputs) == 1:
        return outputs[0]
    return tree.map_structure_up_to(outputs[0], lambda *ys: ops.concatenate(ys, axis=0), *outputs)
