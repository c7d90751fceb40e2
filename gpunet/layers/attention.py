"""Attention without projections: Attention and AdditiveAttention."""

from typing import Any

from gpunet import ops, random
from gpunet.core.symbolic import KerasTensor
from gpunet.errors import ArgumentError, received
from gpunet.layers.base import Layer
from gpunet.layers.signature import is_shape
from gpunet.saving import serializable


@serializable("keras.layers")
class Attention(Layer):
    """`softmax(scores) @ value`, with scores of queries and keys.

    Args:
        use_scale: Whether the scores are multiplied by a learned number.
        score_mode: `"dot"`: `query @ key^T`; `"concat"`: the sum of `tanh(query + key)`, times a
            learned number.
        dropout: Share of the weights dropped in training.
        seed: Seed of the dropout.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs`, a list of `query` of shape `(batch, T, features)`, `value` and
    optionally `key` of shape `(batch, S, features)`; `mask`, a list of the masks of query and
    value; `training`; `return_attention_scores`; `use_causal_mask`.

    Raises:
        ArgumentError: If `score_mode` is unknown, or the inputs are no list of two or three.

    Reference: Luong et al., "Effective Approaches to Attention-based NMT", 2015.
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ArgumentError(
                "Invalid value for argument score_mode. Expected 'dot' or 'concat'. "
                + received(score_mode=score_mode)
            )
        self.use_scale, self.score_mode = use_scale, score_mode
        self.dropout, self.seed = dropout, seed
        if dropout > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        """Makes the learned numbers."""
        self._check_inputs_list(input_shape)
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def _scores(self, query, key):
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else scores * self.scale
        both = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        both = both if self.scale is None else both * self.scale
        return self.concat_score_weight * ops.sum(ops.tanh(both), axis=-1)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Returns the output, and the attention weights if asked for."""
        self._check_inputs_list(inputs, mask)
        query, value = inputs[0], inputs[1]
        query_mask, value_mask = (mask[0], mask[1]) if mask else (None, None)
        scores = self._scores(query, inputs[2] if len(inputs) > 2 else value)
        kept = _allowed(scores, value_mask, use_causal_mask)
        if kept is not None:
            low = 65504.0 if scores.dtype == "float16" else 1e9
            scores = ops.where(kept, scores, scores - low)
        weights = ops.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
        output = ops.matmul(weights, value)
        if query_mask is not None:
            query_mask = ops.expand_dims(ops.cast(query_mask, "bool"), -1)
            output = ops.where(query_mask, output, ops.zeros_like(output))
        return (output, weights) if return_attention_scores else output

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the query."""
        self._check_inputs_list(inputs, mask)
        return mask[0] if mask else None

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the output."""
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_output_spec(
        self,
        inputs: Any,
        mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Returns the results as KerasTensors."""
        self._check_inputs_list(inputs, mask)
        shapes = [x.shape for x in inputs]
        output = KerasTensor(self.compute_output_shape(shapes), self.compute_dtype)
        if not return_attention_scores:
            return output
        return output, KerasTensor((*shapes[0][:-1], shapes[-1][-2]), self.compute_dtype)

    def _check_inputs_list(self, inputs, mask=None):
        name = type(self).__name__
        if not isinstance(inputs, (list, tuple)) or is_shape(inputs) or len(inputs) not in (2, 3):
            raise ArgumentError(
                f"{name} layer must be called on a list of inputs, namely [query, value] or "
                f"[query, value, key]. {received(inputs=inputs)}"
            )
        if mask is not None and (not isinstance(mask, (list, tuple)) or len(mask) not in (2, 3)):
            raise ArgumentError(
                f"{name} layer mask must be a list, namely [query_mask, value_mask]. "
                + received(mask=mask)
            )

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        names = ("use_scale", "score_mode", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _allowed(scores, value_mask, causal):
    """Which keys each query may look at, or `None`: at all."""
    kept = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
    if not causal:
        return kept
    rows, columns = (ops.arange(n, dtype="int32") for n in scores.shape[-2:])
    before = ops.greater_equal(ops.expand_dims(rows, 1), ops.expand_dims(columns, 0))
    before = ops.expand_dims(before, 0)
    return before if kept is None else ops.logical_and(kept, before)


@serializable("keras.layers")
class AdditiveAttention(Attention):
    """Attention with the scores `sum(scale * tanh(query + key))`.

    Args:
        use_scale: Whether `scale` is learned, one number for each feature; else it is 1.
        dropout: Share of the weights dropped in training.
        **kwargs: Arguments of `Attention` and `Layer`.

    Reference: Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align", 2014.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes the scale."""
        self._check_inputs_list(input_shape)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale")

    def _scores(self, query, key):
        both = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(both if self.scale is None else self.scale * both, axis=-1)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["score_mode"]
        return config
