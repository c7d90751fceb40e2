"""GRU, with the whole sequence in one op where that is possible."""

from typing import Any

from gpunet import ops
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import documented
from gpunet.layers.rnn import SEQUENCE_ARGS, CellLayer, checked_use_cudnn, of_cell
from gpunet.layers.rnn_cells import CELL_OPTIONS, RESET, GRUCell, cell_args
from gpunet.saving import serializable


@serializable("keras.layers")
@documented(cell_args(last=RESET, layer=True) + SEQUENCE_ARGS)
class GRU(CellLayer):
    """Gated recurrent unit: a recurrent layer with an update gate and a reset gate.

    `z, r = sigmoid(...)`, `h = z * h + (1 - z) * tanh(...)`, where each `...` is
    `x @ kernel + h @ recurrent_kernel + bias`, and in the last one `r` scales the second term.

    Args:
        units: Length of the output and the state.
        activation: Activation of the candidate.
        recurrent_activation: Activation of the gates.
        use_bias: Whether there is a bias.
    <arguments>
        use_cudnn: Accepted for Keras.
        **kwargs: Arguments of `RNN` and `Layer`.

    Reference: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.

    Example:
        >>> import gpunet
        >>> gpunet.layers.GRU(4)(gpunet.ops.ones((2, 5, 3))).shape
        (2, 4)
    """

    recurrent_activation = of_cell("recurrent_activation")
    reset_after = of_cell("reset_after")

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ):
        given = {name: value for name, value in locals().items() if name in CELL_OPTIONS}
        cell = GRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            reset_after=reset_after,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="gru_cell",
            seed=seed,
            implementation=kwargs.pop("implementation", 2),
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
        self.use_cudnn = checked_use_cudnn(use_cudnn)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False):
        """Steps through sequences, in one op if cell and dropout are the usual ones."""
        if not self._is_usual():
            return super().inner_loop(sequences, initial_state, mask, training)
        cell = self.cell
        return ops.gru(
            self._dropped(sequences, training),
            initial_state[0],
            cell.kernel,
            cell.recurrent_kernel,
            cell.bias,
            mask=mask[0] if isinstance(mask, (list, tuple)) else mask,
            reset_after=cell.reset_after,
            go_backwards=self.go_backwards,
            return_sequences=self.return_sequences,
            zero_output_for_mask=self.zero_output_for_mask,
        )
