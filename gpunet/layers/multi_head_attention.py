"""MultiHeadAttention: several attentions side by side, each in a projection of its own."""

import math
import string
from typing import Any

from gpunet import ops
from gpunet.core.symbolic import KerasTensor
from gpunet.core.tensor import Tensor
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers.activation import Softmax
from gpunet.layers.base import Layer
from gpunet.layers.dense import EinsumDense
from gpunet.layers.dropout import Dropout
from gpunet.layers.options import options_config, positive_int, set_options
from gpunet.random.seed_generator import draw_seed
from gpunet.saving import serializable

_OPTIONS = (
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
)


@serializable("keras.layers")
class MultiHeadAttention(Layer):
    """`softmax(q k^T / sqrt(key_dim)) v` for each head, projected back to the input's length.

    Args:
        num_heads: How many heads.
        key_dim: Length of each head's queries and keys.
        value_dim: Length of each head's values; default `key_dim`.
        dropout: Share of the attention weights dropped in training.
        use_bias: Whether the projections have biases.
        output_shape: Lengths of the output's last axes; default those of the query.
        attention_axes: Axes that attention is over; default all but the batch and the last.
        sliding_window: How far a query may look in both directions; default everywhere.
        flash_attention: Accepted for Keras; gpunet chooses the way to compute by itself.
        kernel_initializer: Initializer of the projections.
        bias_initializer: Initializer of their biases.
        kernel_regularizer: Regularizer of the projections.
        bias_regularizer: Regularizer of their biases.
        activity_regularizer: Regularizer of the projections' outputs.
        kernel_constraint: Constraint of the projections.
        bias_constraint: Constraint of their biases.
        use_gate: Whether the heads are multiplied by `sigmoid` of another projection of the query.
        seed: Seed of the dropout.
        **kwargs: Arguments of `Layer`.

    Call arguments: `query` of shape `(batch, T, features)`; `value` and `key` (default `value`) of
    shape `(batch, S, features)`; `query_mask`, `value_mask` and `key_mask`, true where a step
    counts; `attention_mask` that broadcasts to `(batch, T, S)`; `return_attention_scores`;
    `use_causal_mask`: no step sees later ones; `training`.

    Raises:
        ArgumentError: If an argument is out of range.

    Reference: Vaswani et al., "Attention Is All You Need", 2017.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.ones((2, 5, 16))
        >>> gpunet.layers.MultiHeadAttention(num_heads=2, key_dim=8)(x, x).shape
        (2, 5, 16)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ):
        positive_int("num_heads", num_heads)
        positive_int("key_dim", key_dim)
        if value_dim is not None:
            positive_int("value_dim", value_dim)
        if sliding_window is not None:
            positive_int("sliding_window", sliding_window)
        super().__init__(**kwargs)
        self.supports_masking = True
        self._num_heads, self._key_dim = num_heads, key_dim
        self._value_dim = value_dim or key_dim
        self._dropout, self._use_bias, self._use_gate = dropout, use_bias, use_gate
        self._output_shape = _checked_output_shape(output_shape)
        if flash_attention and dropout > 0:
            raise ArgumentError(
                "Dropout is not supported with flash attention. "
                + received(flash_attention=flash_attention, dropout=dropout)
            )
        self._flash_attention = flash_attention
        if isinstance(attention_axes, int):
            attention_axes = (attention_axes,)
        self._attention_axes: Any = tuple(attention_axes) if attention_axes else None
        self._sliding_window, self.seed = sliding_window, seed
        set_options(
            self,
            _kernel_initializer=kernel_initializer,
            _bias_initializer=bias_initializer,
            _kernel_regularizer=kernel_regularizer,
            _bias_regularizer=bias_regularizer,
            _activity_regularizer=activity_regularizer,
            _kernel_constraint=kernel_constraint,
            _bias_constraint=bias_constraint,
        )
        self._inverse_sqrt_key_dim = 1 / math.sqrt(key_dim)

    num_heads = property(lambda self: self._num_heads, doc="How many heads.")
    key_dim = property(lambda self: self._key_dim, doc="Length of each head's keys.")
    value_dim = property(lambda self: self._value_dim, doc="Length of each head's values.")
    dropout = property(lambda self: self._dropout, doc="Share of the weights dropped.")
    use_bias = property(lambda self: self._use_bias, doc="Whether there are biases.")
    attention_axes = property(lambda self: self._attention_axes, doc="Axes of the attention.")
    query_dense = property(lambda self: self._query_dense, doc="The projection of the query.")
    key_dense = property(lambda self: self._key_dense, doc="The projection of the key.")
    value_dense = property(lambda self: self._value_dense, doc="The projection of the value.")
    output_dense = property(lambda self: self._output_dense, doc="The last projection.")

    # -- building -------------------------------------------------------------------------------

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Makes the projections."""
        key_shape = value_shape if key_shape is None else key_shape
        _check_lengths(value_shape, key_shape)
        heads = self._num_heads
        self._query_dense = self._projection("query", query_shape, (heads, self._key_dim))
        self._key_dense = self._projection("key", key_shape, (heads, self._key_dim))
        if self._use_gate:
            sizes = (heads, self._value_dim)
            self._gate_dense = self._projection("gate", query_shape, sizes, activation="sigmoid")
        self._value_dense = self._projection("value", value_shape, (heads, self._value_dim))
        self._plan_attention(len(value_shape) + 1)
        merged = (*query_shape[:-1], heads, self._value_dim)
        last = self._output_shape or (query_shape[-1],)
        self._output_dense = self._projection("attention_output", merged, last, bound=2)

    def _projection(self, name, input_shape, sizes, bound=1, activation=None):
        """A dense layer from the last `bound` axes of the input to new ones of the given sizes."""
        free = len(input_shape) - bound
        letters = string.ascii_lowercase
        kept, summed = letters[:free], letters[free : free + bound]
        new = letters[free + bound : free + bound + len(sizes)]
        options = {n: getattr(self, f"_{n}") for n in (*_OPTIONS, "activity_regularizer")}
        for kind in ("kernel_initializer", "bias_initializer"):
            given = options[kind]
            options[kind] = type(given).from_config(given.get_config())
        layer = EinsumDense(
            f"{kept}{summed},{summed}{new}->{kept}{new}",
            output_shape=(None,) * (free - 1) + tuple(sizes),
            bias_axes=new if self._use_bias else None,
            activation=activation,
            name=name,
            dtype=self.dtype_policy,
            **options,
        )
        layer.build(tuple(input_shape))
        return layer

    def _plan_attention(self, rank):
        """Finds the einsum equations of attention over tensors of this rank, heads included."""
        axes = self._attention_axes or tuple(range(1, rank - 2))
        axes = tuple(axis if axis >= 0 else rank - 1 + axis for axis in axes)
        self._attention_axes = axes
        letters = string.ascii_lowercase
        target = letters[:rank]
        batch = [i for i in range(rank - 1) if i not in axes]
        source, fresh = "", iter(letters[rank:])
        for i in range(rank):
            source += next(fresh) if i in axes else target[i]
        scores = "".join(
            [*(target[i] for i in batch), *(target[i] for i in axes), *(source[i] for i in axes)]
        )
        self._dot_product_equation = f"{source},{target}->{scores}"
        self._combine_equation = f"{scores},{source}->{target}"
        last = tuple(range(len(scores) - len(axes), len(scores)))
        self._softmax = Softmax(axis=last, dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self._dropout, dtype=self.dtype_policy, seed=self.seed)

    # -- computation ----------------------------------------------------------------------------

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Returns the output, and the attention weights if asked for."""
        key = value if key is None else key
        masks = (query_mask, value_mask, key_mask)
        unmasked = attention_mask is None and all(m is None for m in masks)
        fused_causal = use_causal_mask and unmasked and self._sliding_window is None
        if type(self)._compute_attention is not MultiHeadAttention._compute_attention:
            fused_causal = False  # a subclass may not know of it
        if not fused_causal:
            attention_mask = self._whole_mask(query, value, masks, attention_mask, use_causal_mask)
        # The projections see no masks: these are used above.
        query, value, key = _without_mask(query), _without_mask(value), _without_mask(key)
        gate = self._gate_dense(query) if self._use_gate else None
        q, k, v = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        causal = {"use_causal_mask": True} if fused_causal else {}
        output, scores = self._compute_attention(
            q, k, v, attention_mask, training, return_attention_scores, **causal
        )
        output = self._output_dense(output if gate is None else output * gate)
        return (output, scores) if return_attention_scores else output

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple:
        """Returns the output of all heads and the weights, or `None`; may be replaced."""
        if self._flash_attention and return_attention_scores:
            raise ArgumentError(
                "Flash attention does not store scores: leave out `flash_attention` or "
                "`return_attention_scores`. " + received(flash_attention=True)
            )
        dropping = self._dropout > 0 and training
        keeps_none = dropping and self._dropout == 1  # which `dot_product_attention` does not do
        if len(query.shape) == 4 and not (keeps_none or return_attention_scores):
            mask = attention_mask
            if mask is not None:
                mask = self._with_head_axis(ops.cast(mask, "bool"), 4)
            dropout = {}
            if dropping:
                seed = draw_seed(self._dropout_layer.seed_generator, query.device)
                dropout = {"dropout": self._dropout, "seed": seed}
            scale, causal = self._inverse_sqrt_key_dim, use_causal_mask
            return ops.dot_product_attention(
                query, key, value, mask=mask, scale=scale, is_causal=causal, **dropout
            ), None
        if use_causal_mask:
            before = _causal_mask(query.shape[1], value.shape[1])
            both = attention_mask is not None
            attention_mask = ops.logical_and(attention_mask, before) if both else before
        scores = ops.einsum(self._dot_product_equation, key, query * self._inverse_sqrt_key_dim)
        if attention_mask is not None:
            attention_mask = self._with_head_axis(attention_mask, len(scores.shape))
        scores = self._softmax(scores, mask=attention_mask)
        dropped = self._dropout_layer(scores, training=training) if dropping else scores
        return ops.einsum(self._combine_equation, dropped, value), scores

    def _with_head_axis(self, mask, rank):
        axis = -2 * len(self._attention_axes) - 1
        while len(mask.shape) < rank:
            mask = ops.expand_dims(mask, axis)
        return mask

    def _whole_mask(self, query, value, masks, given, causal):
        """Returns all masks together, or `None`."""
        found = [] if given is None else [ops.cast(given, "bool")]
        for mask, axis in zip(masks, (-1, -2, -2), strict=True):
            if mask is not None:
                found.append(ops.expand_dims(ops.cast(mask, "bool"), axis))
        lengths = query.shape[1], value.shape[1]
        if causal:
            found.append(_causal_mask(*lengths))
        if self._sliding_window is not None:
            rows, columns = _places(*lengths)
            found.append(ops.less(ops.abs(rows - columns), self._sliding_window))
        whole = None
        for mask in found:
            whole = mask if whole is None else ops.logical_and(whole, mask)
        return whole

    def compute_output_shape(
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> tuple:
        """Returns the shape of the output."""
        _check_lengths(value_shape, value_shape if key_shape is None else key_shape)
        if self._output_shape:
            return (*query_shape[:-1], *self._output_shape)
        return tuple(query_shape)

    def compute_output_spec(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Returns the results as KerasTensors."""
        key_shape = None if key is None else key.shape
        shape = self.compute_output_shape(query.shape, value.shape, key_shape)
        output = KerasTensor(shape, self.compute_dtype)
        if not return_attention_scores:
            return output
        lengths = query.shape[1], value.shape[1]
        scores = (query.shape[0], self._num_heads, *lengths)
        return output, KerasTensor(scores, self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        names = (
            "num_heads", "key_dim", "value_dim", "dropout", "use_bias", "use_gate",
            "output_shape", "attention_axes", "sliding_window",
        )  # fmt: skip
        config = {name: getattr(self, f"_{name}") for name in names}
        return {**super().get_config(), **config, **self._options_config(), "seed": self.seed}

    def _options_config(self):
        names = [f"_{name}" for name in (*_OPTIONS, "activity_regularizer")]
        return {name[1:]: value for name, value in options_config(self, *names).items()}


def _checked_output_shape(shape):
    if not shape:
        return None
    if isinstance(shape, int):
        return (shape,)
    if not isinstance(shape, (list, tuple)):
        raise ArgumentError(
            "Invalid `output_shape`: it should be an int, tuple or list. "
            + received(output_shape=shape)
        )
    return tuple(shape)


def _without_mask(x):
    if getattr(x, "_keras_mask", None) is None:
        return x
    return Tensor(x.data, x.device, x.node, x.slot)


def _check_lengths(value_shape, key_shape):
    if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
        raise ShapeError(
            "All dimensions of `value` and `key`, except the last one, must be equal. "
            + received(value_shape=value_shape, key_shape=key_shape)
        )


def _places(queries, keys):
    rows = ops.reshape(ops.arange(queries, dtype="int32"), (1, queries, 1))
    return rows, ops.reshape(ops.arange(keys, dtype="int32"), (1, 1, keys))


def _causal_mask(queries, keys):
    rows, columns = _places(queries, keys)
    return ops.greater_equal(rows, columns)
