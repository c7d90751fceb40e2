"""Cells: one step of a recurrent layer."""

from collections.abc import Sequence
from typing import Any, Self

from gpunet import initializers, ops, random
from gpunet.core.symbolic import flatten
from gpunet.errors import ArgumentError, received
from gpunet.layers.base import Layer
from gpunet.layers.options import documented, options_config, positive_int, set_options
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object

CELL_OPTIONS = (
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
)
_CELL_ARGS = """
        kernel_initializer: Initializer of the kernel, which the inputs are multiplied by.
        recurrent_initializer: Initializer of the kernel that the state is multiplied by.
        bias_initializer: Initializer of the bias.
        {more}
        kernel_regularizer: Regularizer of the kernel.
        recurrent_regularizer: Regularizer of the recurrent kernel.
        bias_regularizer: Regularizer of the bias.
        {activity}
        kernel_constraint: Constraint of the kernel.
        recurrent_constraint: Constraint of the recurrent kernel.
        bias_constraint: Constraint of the bias.
        dropout: Share of the inputs dropped in training, the same at every step.
        recurrent_dropout: Share of the state dropped in training, the same at every step.
        {last}
        seed: Seed of the dropout masks; default a random one.
"""
FORGET = "unit_forget_bias: Whether the bias of the forget gate begins at 1."
RESET = "reset_after: Whether the reset gate acts after the multiplication."


def cell_args(more: str = "", last: str = "", layer: bool = False) -> str:
    """Returns the arguments that the docstrings of cells (or of their layers) share."""
    activity = "activity_regularizer: Regularizer of the output." if layer else ""
    text = _CELL_ARGS.format(more=more, last=last, activity=activity)
    return "\n".join(line for line in text.splitlines() if line.strip())


class DropoutRNNCell:
    """Dropout masks that stay the same for all steps of a sequence.

    A cell with `dropout`, `recurrent_dropout` and `seed_generator` derives from it. The layer that
    steps through a sequence resets the masks after it. With `dropout_mask_count` there are that
    many masks, in a list.
    """

    dropout: float
    recurrent_dropout: float
    seed_generator: Any
    dropout_mask_count: int | None = None
    _dropout_mask: Any = None
    _recurrent_dropout_mask: Any = None

    def _create_dropout_mask(self, x, rate):
        ones, seed = ops.ones_like(x), self.seed_generator
        if self.dropout_mask_count is None:
            return random.dropout(ones, rate, seed=seed)
        return [random.dropout(ones, rate, seed=seed) for _ in range(self.dropout_mask_count)]

    def get_dropout_mask(self, step_input: Any) -> Any:
        """Returns the mask of the inputs, or `None`."""
        if self._dropout_mask is None and self.dropout > 0:
            mask = self._create_dropout_mask(step_input, self.dropout)
            self.__dict__["_dropout_mask"] = mask
        return self._dropout_mask

    def get_recurrent_dropout_mask(self, step_input: Any) -> Any:
        """Returns the mask of the state, or `None`."""
        if self._recurrent_dropout_mask is None and self.recurrent_dropout > 0:
            mask = self._create_dropout_mask(step_input, self.recurrent_dropout)
            self.__dict__["_recurrent_dropout_mask"] = mask
        return self._recurrent_dropout_mask

    def reset_dropout_mask(self) -> None:
        """Forgets the mask of the inputs."""
        self.__dict__["_dropout_mask"] = None

    def reset_recurrent_dropout_mask(self) -> None:
        """Forgets the mask of the state."""
        self.__dict__["_recurrent_dropout_mask"] = None


class _Cell(Layer, DropoutRNNCell):
    """What SimpleRNNCell, GRUCell and LSTMCell share."""

    gates: int

    def _start(self, units, use_bias, dropout, recurrent_dropout, seed, **options):
        self.units, self.use_bias = positive_int("units", units), use_bias
        set_options(self, **options)
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed)
        self.state_size: Any = units
        self.output_size = units
        self.reset_dropout_mask()
        self.reset_recurrent_dropout_mask()

    def _weight(self, name, shape, kind, initializer=None):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer or getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
        )

    def build(self, input_shape: Any) -> None:
        """Makes the kernels and the bias."""
        width = self.gates * self.units
        self.kernel = self._weight("kernel", (input_shape[-1], width), "kernel")
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, width), "recurrent")
        self.bias = self._add_bias(width) if self.use_bias else None

    def _add_bias(self, width):
        return self._weight("bias", (width,), "bias")

    def _masks(self, inputs, state, training):
        """Returns the dropout masks of a step: of the inputs and of the state."""
        on = training and 0 < self.dropout < 1
        recurrent_on = training and 0 < self.recurrent_dropout < 1
        return (
            self.get_dropout_mask(inputs) if on else None,
            self.get_recurrent_dropout_mask(state) if recurrent_on else None,
        )

    def _project(self, x, kernel, masks):
        """`x @ kernel`; with a list of masks each gate sees `x` through its own."""
        if masks is None:
            return ops.matmul(x, kernel)
        if not isinstance(masks, list):
            return ops.matmul(x * masks, kernel)
        kernels = ops.split(kernel, kernel.shape[-1] // self.units, axis=1)
        return ops.concatenate(
            [ops.matmul(x * m, k) for m, k in zip(masks, kernels, strict=False)], axis=-1
        )

    def get_initial_state(self, batch_size: int | None = None) -> list:
        """Returns zeros."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]

    def _cell_config(self) -> dict:
        names = ("units", "use_bias", "dropout", "recurrent_dropout", "seed")
        config = {name: getattr(self, name) for name in names}
        return {**config, **options_config(self, "activation", *CELL_OPTIONS)}

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **self._cell_config()}


@serializable("keras.layers")
@documented(cell_args())
class SimpleRNNCell(_Cell):
    """One step of `SimpleRNN`: `state = activation(x @ kernel + state @ recurrent + bias)`.

    Args:
        units: Length of the output and the state.
        activation: Activation.
        use_bias: Whether there is a bias.
    <arguments>
        **kwargs: Arguments of `Layer`.

    Call arguments: `sequence` of shape `(batch, features)`; `states`, a list of one tensor.
    """

    gates = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._start(
            units,
            use_bias,
            dropout,
            recurrent_dropout,
            seed,
            activation=activation,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
        )

    def call(self, sequence: Any, states: Any, training: bool = False) -> tuple:
        """Returns the output and the new state."""
        state = states[0] if isinstance(states, (list, tuple)) else states
        mask, recurrent_mask = self._masks(sequence, state, training)
        h = self._project(sequence, self.kernel, mask)
        if self.bias is not None:
            h = h + self.bias
        y = self.activation(h + self._project(state, self.recurrent_kernel, recurrent_mask))
        return y, [y] if isinstance(states, (list, tuple)) else y


class _GatedCell(_Cell):
    """A cell with gates, whose dropout masks differ from gate to gate with recurrent dropout."""

    def _start(self, *args, implementation=2, **options):
        super()._start(*args, **options)
        self.implementation = 1 if self.recurrent_dropout else implementation
        if self.implementation == 1:
            self.dropout_mask_count = self.gates

    def _cell_config(self) -> dict:
        return {**super()._cell_config(), **options_config(self, "recurrent_activation")}


@serializable("keras.layers")
@documented(cell_args(last=RESET))
class GRUCell(_GatedCell):
    """One step of `GRU`: update gate, reset gate and candidate, in this order in the kernels.

    Args:
        units: Length of the output and the state.
        activation: Activation of the candidate.
        recurrent_activation: Activation of the gates.
        use_bias: Whether there is a bias.
    <arguments>
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs` of shape `(batch, features)`; `states`, a list of one tensor.

    Reference: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: Any = None,
        **kwargs: Any,
    ):
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self.reset_after = reset_after
        self._start(
            units,
            use_bias,
            dropout,
            recurrent_dropout,
            seed,
            implementation=implementation,
            activation=activation,
            recurrent_activation=recurrent_activation,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
        )

    def _add_bias(self, width):
        return self._weight("bias", (2, width) if self.reset_after else (width,), "bias")

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        """Returns the output and the new state."""
        nested = isinstance(states, (list, tuple))
        h = states[0] if nested else states
        mask, recurrent_mask = self._masks(inputs, h, training)
        x = self._project(inputs, self.kernel, mask)
        n, kernel = self.units, self.recurrent_kernel.value
        masks = recurrent_mask if isinstance(recurrent_mask, list) else [recurrent_mask] * 3
        bias = None if self.bias is None else self.bias.value
        if bias is not None:
            x = x + (bias[0] if self.reset_after else bias)
        if self.reset_after:
            inner = self._project(h, kernel, recurrent_mask)
            inner = inner if bias is None else inner + bias[1]
        else:
            gates = recurrent_mask[:2] if isinstance(recurrent_mask, list) else recurrent_mask
            inner = self._project(h, kernel[:, : 2 * n], gates)
        z = self.recurrent_activation(x[:, :n] + inner[:, :n])
        r = self.recurrent_activation(x[:, n : 2 * n] + inner[:, n : 2 * n])
        if self.reset_after:
            candidate = r * inner[:, 2 * n :]
        else:
            seen = h if masks[2] is None else h * masks[2]
            candidate = ops.matmul(r * seen, kernel[:, 2 * n :])
        candidate = self.activation(x[:, 2 * n :] + candidate)
        y = z * h + (1 - z) * candidate
        return y, [y] if nested else y

    def _cell_config(self) -> dict:
        return {**super()._cell_config(), "reset_after": self.reset_after}


@serializable("keras.layers")
@documented(cell_args(FORGET))
class LSTMCell(_GatedCell):
    """One step of `LSTM`: input gate, forget gate, candidate, output gate, in this order.

    Args:
        units: Length of the output and of each state.
        activation: Activation of the candidate and of the carry.
        recurrent_activation: Activation of the gates.
        use_bias: Whether there is a bias.
    <arguments>
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs` of shape `(batch, features)`; `states`, a list of hidden state and
    carry.

    Reference: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.
    """

    gates = 4

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        **kwargs: Any,
    ):
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self.unit_forget_bias = unit_forget_bias
        self._start(
            units,
            use_bias,
            dropout,
            recurrent_dropout,
            seed,
            implementation=implementation,
            activation=activation,
            recurrent_activation=recurrent_activation,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
        )
        self.state_size = [units, units]

    def _add_bias(self, width):
        if not self.unit_forget_bias:
            return super()._add_bias(width)
        n, given = self.units, self.bias_initializer

        def initializer(shape, dtype=None):
            ones = initializers.get("ones")((n,), dtype=dtype)
            return ops.concatenate([given((n,), dtype=dtype), ones, given((2 * n,), dtype=dtype)])

        return self._weight("bias", (width,), "bias", initializer)

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        """Returns the output and the new states."""
        h, c = states[0], states[1]
        mask, recurrent_mask = self._masks(inputs, h, training)
        z = self._project(inputs, self.kernel, mask)
        z = z + self._project(h, self.recurrent_kernel, recurrent_mask)
        if self.bias is not None:
            z = z + self.bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        i, f = self.recurrent_activation(i), self.recurrent_activation(f)
        c = f * c + i * self.activation(g)
        h = self.recurrent_activation(o) * self.activation(c)
        return h, [h, c]

    def _cell_config(self) -> dict:
        return {**super()._cell_config(), "unit_forget_bias": self.unit_forget_bias}


@serializable("keras.layers")
class StackedRNNCells(Layer):
    """Several cells as one: each gets the output of the one before.

    Args:
        cells: List of cells.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If an object has no `call` or no `state_size`.
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any):
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(cell)
        self.cells = list(cells)

    def _zeros(self, size, batch_size):
        if isinstance(size, int):
            return ops.zeros((batch_size, size), dtype=self.compute_dtype)
        return [self._zeros(n, batch_size) for n in size]

    @property
    def state_size(self) -> list:
        """The state sizes of the cells."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """The output size of the last cell."""
        return _output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int | None = None) -> list:
        """Returns the initial states of the cells."""
        states = []
        for cell in self.cells:
            if hasattr(cell, "get_initial_state"):
                states.append(cell.get_initial_state(batch_size=batch_size))
            else:
                states.append(self._zeros(cell.state_size, batch_size))
        return states

    def build(self, input_shape: Any) -> None:
        """Builds the cells."""
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], _output_size(cell))

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple:
        """Returns the output of the last cell, and the new states of all."""
        new_states = []
        for cell, state in zip(self.cells, states, strict=True):
            nested = isinstance(state, (list, tuple))
            inputs, state = call_cell(cell, inputs, list(state) if nested else [state], training)
            state = list(state) if isinstance(state, (list, tuple)) else [state]
            new_states.append(state if nested else state[0])
        return inputs, new_states

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        cells = [serialize_keras_object(cell) for cell in self.cells]
        return {**super().get_config(), "cells": cells}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Returns the cell of a config."""
        cells = [deserialize_keras_object(cell, custom_objects) for cell in config["cells"]]
        return super().from_config({**config, "cells": cells})


def check_cell(cell: Any) -> None:
    """Checks that an object can be a cell.

    Raises:
        ArgumentError: If it cannot.
    """
    for name in ("call", "state_size"):
        if not hasattr(cell, name):
            raise ArgumentError(
                "A cell of an RNN has a `call` method and a `state_size` attribute. "
                + received(cell=cell, missing=name)
            )


def call_cell(cell: Any, inputs: Any, states: Any, training: bool) -> tuple:
    """Calls a cell, with `training` if it takes that."""
    run: Any = cell if callable(cell) else cell.call
    if isinstance(cell, Layer) and cell._call_facts.training:
        return run(inputs, states, training=bool(training))
    return run(inputs, states)


def _output_size(cell):
    if getattr(cell, "output_size", None) is not None:
        return cell.output_size
    return flatten(cell.state_size)[0]
