"""RNN: a cell applied step by step to sequences."""

from typing import Any, Self

from gpunet import activations, ops
from gpunet.core.symbolic import flatten, map_structure
from gpunet.core.variable import Variable
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import documented
from gpunet.layers.rnn_cells import (
    CELL_OPTIONS,
    DropoutRNNCell,
    SimpleRNNCell,
    StackedRNNCells,
    call_cell,
    cell_args,
    check_cell,
)
from gpunet.saving import deserialize_keras_object, serializable, serialize_keras_object

SEQUENCE_ARGS = """
        return_sequences: Whether to return the outputs of all steps.
        return_state: Whether to return the last states too.
        go_backwards: Whether to begin with the last step.
        stateful: Whether the states of one batch are the initial ones of the next.
        unroll: Accepted for Keras."""


@serializable("keras.layers")
class RNN(Layer):
    """Applies a cell to every step of sequences.

    Args:
        cell: A cell, or a list of cells that are stacked. It has `call(inputs, states)`, which
            returns the output and the new states, and `state_size`.
        return_sequences: Whether to return the outputs of all steps.
        return_state: Whether to return the last states too.
        go_backwards: Whether to begin with the last step.
        stateful: Whether the states of one batch are the initial ones of the next.
        unroll: Accepted for Keras.
        zero_output_for_mask: Whether masked steps give 0, instead of the output before.
        **kwargs: Arguments of `Layer`.

    Call arguments: `sequences` of shape `(batch, steps, ...)`; `initial_state`, a list; `mask` of
    shape `(batch, steps)`: where it is false the state stays; `training`.

    Raises:
        ArgumentError: If `cell` is no cell.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.RNN(gpunet.layers.SimpleRNNCell(4), return_sequences=True)
        >>> layer(gpunet.ops.ones((2, 5, 3))).shape
        (2, 5, 4)
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        check_cell(cell)
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.states: Any = None
        size = cell.state_size
        self.single_state = isinstance(size, int)
        self.state_size = [size] if isinstance(size, int) else list(size)

    # -- shapes and states ----------------------------------------------------------------------

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Returns the shape of the output, and those of the states if they are returned."""
        batch, steps = sequences_shape[:2]
        size = getattr(self.cell, "output_size", None) or flatten(list(self.state_size))[0]
        output = (batch, steps, size) if self.return_sequences else (batch, size)
        if not self.return_state:
            return output
        return (output, *_state_shapes(self.state_size, batch))

    def compute_mask(self, _: Any, mask: Any) -> Any:
        """Returns the mask of the input if all outputs are returned."""
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        output = mask if self.return_sequences else None
        return [output, *[None] * len(self.state_size)] if self.return_state else output

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds the cell, and makes the states of a stateful layer."""
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
        if self.stateful and self.states is None:
            if sequences_shape[0] is None:
                raise ShapeError(
                    "When using `stateful=True` in a RNN, the batch size must be static: give it "
                    f"in `Input(batch_size=...)`. {received(sequences_shape=sequences_shape)}"
                )
            self._make_states(sequences_shape[0])

    def _make_states(self, batch_size):
        """Makes the Variables of the states; these are not weights."""

        def make(value):
            dtype = self.variable_dtype
            return Variable(value, trainable=False, dtype=dtype, name="rnn_state")

        with self._name_scope():
            self.__dict__["states"] = map_structure(make, self.get_initial_state(batch_size))

    def get_initial_state(self, batch_size: int) -> list:
        """Returns the states that a sequence begins with, by default zeros."""
        make = getattr(self.cell, "get_initial_state", None)
        if make is None:
            dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
            return [ops.zeros((batch_size, n), dtype=dtype) for n in self.state_size]
        states = make(batch_size=batch_size)
        return list(states) if isinstance(states, (list, tuple)) else [states]

    def reset_state(self) -> None:
        """Sets the states of a stateful layer to 0."""
        for state in flatten(self.states if self.states is not None else []):
            state.assign(ops.zeros(state.shape, dtype=state.dtype))

    reset_states = reset_state

    # -- computation ----------------------------------------------------------------------------

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Returns the outputs of the cell."""
        if initial_state is None:
            initial_state = self._first_states(sequences)
        elif not isinstance(initial_state, (list, tuple)):
            initial_state = [initial_state]
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        states = map_structure(lambda s: ops.cast(s, dtype), list(initial_state))
        try:
            last, outputs, states = self.inner_loop(sequences, states, mask, training)
        finally:
            reset_masks(self.cell)
        if self.stateful:
            for variable, state in zip(flatten(self.states), flatten(states), strict=True):
                variable.assign(state)
        output = ops.cast(outputs if self.return_sequences else last, self.compute_dtype)
        if not self.return_state:
            return output
        return (output, *map_structure(lambda s: ops.cast(s, self.compute_dtype), list(states)))

    def _first_states(self, sequences):
        batch = sequences.shape[0]
        if not self.stateful:
            return self.get_initial_state(batch_size=batch)
        expected = flatten(self.states)[0].shape[0]
        if batch != expected:
            raise ShapeError(
                "If an RNN is stateful, the batch size of the input must always be the same. "
                + received(expected=expected, batch_size=batch)
            )
        return map_structure(lambda v: v.value, self.states)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False):
        """Steps through sequences; returns the last output, all outputs, and the last states.

        Masked steps keep the state, and repeat the output (or give 0).
        """
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        steps = range(sequences.shape[1])
        states, output, outputs = initial_state, None, []
        for t in reversed(steps) if self.go_backwards else steps:
            new, new_states = call_cell(self.cell, sequences[:, t], states, training)
            if not isinstance(new_states, (list, tuple)):
                new_states = [new_states]
            if mask is not None:
                kept = mask[:, t]
                before = ops.zeros_like(new) if output is None else output
                new_states = map_structure(
                    lambda a, b, kept=kept: _choose(kept, a, b), list(new_states), list(states)
                )
                shown = ops.zeros_like(new) if self.zero_output_for_mask else before
                outputs.append(_choose(kept, new, shown))
                output = _choose(kept, new, before)
            else:
                output = new
                outputs.append(new)
            states = new_states
        if output is None:
            raise ShapeError(
                f"Layer '{self.name}' needs sequences of at least one step. "
                + received(shape=sequences.shape)
            )
        everything = ops.stack(outputs, axis=1) if self.return_sequences else None
        return (outputs[-1] if mask is not None else output), everything, states

    # -- configuration --------------------------------------------------------------------------

    def _sequence_config(self) -> dict:
        names = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")
        config = {name: getattr(self, name) for name in names}
        return {**config, "zero_output_for_mask": self.zero_output_for_mask}

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {**self._sequence_config(), "cell": serialize_keras_object(self.cell)}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Returns the layer of a config."""
        if "cell" not in config:
            return super().from_config(config)
        cell = deserialize_keras_object(config["cell"], custom_objects)
        return super().from_config({**config, "cell": cell})


def _state_shapes(sizes, batch):
    return [(batch, n) if isinstance(n, int) else _state_shapes(n, batch) for n in sizes]


def _choose(kept, a, b):
    shape = (kept.shape[0], *(1,) * (a.ndim - 1))
    return ops.where(ops.reshape(ops.cast(kept, "bool"), shape), a, b)


def reset_masks(cell: Any) -> None:
    """Forgets the dropout masks of a cell, or of the cells stacked in it."""
    if isinstance(cell, DropoutRNNCell):
        cell.reset_dropout_mask()
        cell.reset_recurrent_dropout_mask()
    if isinstance(cell, StackedRNNCells):
        for inner in cell.cells:
            reset_masks(inner)


def of_cell(name: str) -> Any:
    """A property that is one of the cell."""
    return property(lambda self: getattr(self.cell, name), doc=f"`{name}` of the cell.")


class CellLayer(RNN):
    """An RNN with one cell, whose arguments are its own."""

    units, activation, use_bias = of_cell("units"), of_cell("activation"), of_cell("use_bias")
    kernel_initializer = of_cell("kernel_initializer")
    recurrent_initializer = of_cell("recurrent_initializer")
    bias_initializer = of_cell("bias_initializer")
    kernel_regularizer = of_cell("kernel_regularizer")
    recurrent_regularizer = of_cell("recurrent_regularizer")
    bias_regularizer = of_cell("bias_regularizer")
    kernel_constraint = of_cell("kernel_constraint")
    recurrent_constraint = of_cell("recurrent_constraint")
    bias_constraint = of_cell("bias_constraint")
    dropout, recurrent_dropout = of_cell("dropout"), of_cell("recurrent_dropout")

    def _is_usual(self):
        """Whether the cell is one that a fused op computes."""
        cell = self.cell
        return (
            cell.activation is activations.tanh
            and cell.recurrent_activation is activations.sigmoid
            and not cell.recurrent_dropout
        )

    def _dropped(self, sequences, training):
        """The sequences, in training with the same inputs dropped at every step."""
        if not training or not self.cell.dropout:
            return sequences
        mask = self.cell.get_dropout_mask(sequences[:, 0])
        if isinstance(mask, list):  # `implementation=1`: a mask for each gate
            mask = mask[0]
        return sequences * ops.expand_dims(mask, 1)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["cell"]
        if self.activity_regularizer is None:
            config["activity_regularizer"] = None
        return {**config, **self.cell._cell_config()}


@serializable("keras.layers")
@documented(cell_args(layer=True) + SEQUENCE_ARGS)
class SimpleRNN(CellLayer):
    """A fully connected recurrent layer: `h = activation(x @ kernel + h @ recurrent + bias)`.

    Args:
        units: Length of the output and the state.
        activation: Activation.
        use_bias: Whether there is a bias.
    <arguments>
        **kwargs: Arguments of `RNN` and `Layer`.

    Example:
        >>> import gpunet
        >>> gpunet.layers.SimpleRNN(4)(gpunet.ops.ones((2, 5, 3))).shape
        (2, 4)
    """

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ):
        given = {name: value for name, value in locals().items() if name in CELL_OPTIONS}
        cell = SimpleRNNCell(
            units,
            activation=activation,
            use_bias=use_bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="simple_rnn_cell",
            **given,
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.input_spec = InputSpec(ndim=3)


def checked_use_cudnn(use_cudnn: Any) -> Any:
    """Returns the argument, which only Keras's files need.

    Raises:
        ArgumentError: If it is not `"auto"`, true or false.
    """
    if use_cudnn not in ("auto", True, False):
        raise ArgumentError(
            "`use_cudnn` must be 'auto', True or False (gpunet does not use cuDNN). "
            + received(use_cudnn=use_cudnn)
        )
    return use_cudnn
