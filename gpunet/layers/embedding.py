"""Embedding: integers to vectors."""

import warnings
from typing import Any

import numpy as np

from gpunet import ops
from gpunet.core.symbolic import KerasTensor
from gpunet.layers.base import Layer
from gpunet.layers.options import options_config, positive_int, set_options, unsupported
from gpunet.saving import serializable

_OPTIONS = ("embeddings_initializer", "embeddings_regularizer", "embeddings_constraint")


@serializable("keras.layers")
class Embedding(Layer):
    """A table of vectors, looked up by integers.

    Args:
        input_dim: How many vectors; the inputs are at least 0 and smaller.
        output_dim: Length of each vector.
        embeddings_initializer: Initializer of the table, of shape `(input_dim, output_dim)`.
        embeddings_regularizer: Regularizer of the table.
        embeddings_constraint: Constraint of the table.
        mask_zero: Whether the input 0 stands for padding, which the output's mask says.
        weights: Initial values of the table, a 2-D array.
        lora_rank: Not supported; must be `None`.
        lora_alpha: Not supported; must be `None`.
        quantization_config: Not supported; must be `None`.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs`, integers of any shape; returns `(*shape, output_dim)`.

    Raises:
        ArgumentError: If a size is not a positive integer.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Embedding(10, 4)(gpunet.tensor([[1, 2, 3]])).shape
        (1, 3, 4)
    """

    treats_examples_alone = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        unsupported(lora_rank=lora_rank, lora_alpha=lora_alpha)
        unsupported(quantization_config=quantization_config)
        positive_int("input_dim", input_dim)
        positive_int("output_dim", output_dim)
        if kwargs.pop("input_length", None) is not None:
            warnings.warn("`input_length` does nothing: leave it out.", stacklevel=2)
        super().__init__(**kwargs)
        self.input_dim, self.output_dim = input_dim, output_dim
        set_options(
            self,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
        )
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False
        if weights is not None:
            self.build()
            one = isinstance(weights, list) and len(weights) == 1 and np.ndim(weights[0]) == 2
            self.set_weights(weights if one else [weights])

    def build(self, input_shape: Any = None) -> None:
        """Makes the table."""
        if self.built:
            return
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )

    def call(self, inputs: Any) -> Any:
        """Returns the vectors of the inputs."""
        if inputs.dtype.kind not in "iu":
            inputs = ops.cast(inputs, "int32")
        return ops.cast(ops.take(self.embeddings, inputs, axis=0), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns which inputs are not 0, if `mask_zero`."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the input's shape and `output_dim`."""
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        """Returns the result as a KerasTensor."""
        return KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
        }
        options = options_config(self, *_OPTIONS, "activity_regularizer")
        return {**super().get_config(), **config, **options}
