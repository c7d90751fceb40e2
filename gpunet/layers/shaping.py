"""Layers that change the shape: Flatten, Reshape, Permute, RepeatVector."""

import math
from typing import Any

from gpunet import ops
from gpunet.config import standardize_data_format
from gpunet.core.symbolic import KerasTensor
from gpunet.errors import ArgumentError, DTypeError, ShapeError, received
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import positive_int
from gpunet.saving import serializable


class _Reshaping(Layer):
    """A layer without weights that keeps the dtype, also that of integers."""

    treats_examples_alone = True

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        """Returns the output's shape, with the dtype of the input."""
        return KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)


@serializable("keras.layers")
class Flatten(_Reshaping):
    """Makes one axis of all axes but the batch.

    Args:
        data_format: `"channels_first"` puts the channels last before flattening, so that weights
            after it fit both formats.
        **kwargs: Arguments of `Layer`.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Flatten()(gpunet.ops.ones((2, 3, 4))).shape
        (2, 12)
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)
        self._channels_first = self.data_format == "channels_first"

    def call(self, inputs: Any) -> Any:
        """Returns the inputs with two axes."""
        shape = inputs.shape
        if self._channels_first and len(shape) > 1:
            inputs = ops.transpose(inputs, (0, *range(2, len(shape)), 1))
        return ops.reshape(inputs, (shape[0], math.prod(shape[1:])))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns `(batch, product of the other lengths)`."""
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "data_format": self.data_format}


@serializable("keras.layers")
class Reshape(_Reshaping):
    """Changes the shape of each example.

    Args:
        target_shape: New shape without the batch; one length may be -1, which is found.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If there is more than one -1.
        ShapeError: If the number of elements differs.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Reshape((-1, 2))(gpunet.ops.ones((5, 6))).shape
        (5, 3, 2)
    """

    def __init__(self, target_shape: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)
        if any(d < -1 for d in self.target_shape) or self.target_shape.count(-1) > 1:
            raise ArgumentError(
                "`target_shape` holds lengths, and at most one -1 for a length to be found. "
                + received(target_shape=target_shape)
            )
        self._build_at_init()

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the batch and the target shape."""
        rest, target = tuple(input_shape[1:]), self.target_shape
        if None in rest:
            return (input_shape[0], *(None if d == -1 else d for d in target))
        size, known = math.prod(rest), math.prod(d for d in target if d != -1)
        fits = size == known if -1 not in target else known and size % known == 0
        if not fits:
            raise ShapeError(
                "The total size of the tensor must be unchanged. "
                + received(input_shape=rest, target_shape=target)
            )
        return (input_shape[0], *(size // known if d == -1 else d for d in target))

    def call(self, inputs: Any) -> Any:
        """Returns the inputs in the new shape."""
        return ops.reshape(inputs, self.compute_output_shape(inputs.shape))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "target_shape": self.target_shape}


@serializable("keras.layers")
class Permute(_Reshaping):
    """Changes the order of the axes of each example.

    Args:
        dims: The axes in their new order; the first after the batch is 1.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If `dims` is no permutation of 1, 2, ...

    Example:
        >>> import gpunet
        >>> gpunet.layers.Permute((2, 1))(gpunet.ops.ones((5, 10, 64))).shape
        (5, 64, 10)
    """

    def __init__(self, dims: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError(
                "Invalid permutation argument `dims`: the axes must be consecutive and start from "
                f"1. {received(dims=dims)}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the lengths in their new order."""
        return (input_shape[0], *(input_shape[d] for d in self.dims))

    def call(self, inputs: Any) -> Any:
        """Returns the inputs with their axes in the new order."""
        return ops.transpose(inputs, (0, *self.dims))

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "dims": self.dims}


@serializable("keras.layers")
class RepeatVector(_Reshaping):
    """Repeats each example: `(batch, length)` becomes `(batch, n, length)`.

    Args:
        n: How often, positive.
        **kwargs: Arguments of `Layer`.

    Raises:
        DTypeError: If `n` is no integer.
        ArgumentError: If it is not positive.
    """

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(n, int) or isinstance(n, bool):
            raise DTypeError(f"Expected an integer value for `n`. {received(n=n)}")
        self.n = positive_int("n", n)
        self.input_spec = InputSpec(ndim=2)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns `(batch, n, length)`."""
        return (input_shape[0], self.n, input_shape[1])

    def call(self, inputs: Any) -> Any:
        """Returns the inputs repeated along a new axis 1."""
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "n": self.n}
