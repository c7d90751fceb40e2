"""Where a functional model begins: Input and InputLayer."""

import warnings
from typing import Any

from gpunet.core.symbolic import CallNode, KerasTensor
from gpunet.core.variable import standardize_shape
from gpunet.dtypes import standardize_dtype
from gpunet.errors import ArgumentError, received
from gpunet.layers.base import Layer
from gpunet.saving import serializable


@serializable("keras.layers")
class InputLayer(Layer):
    """The node of a functional model that stands for its input; `Input` makes one.

    Args:
        shape: Shape without the batch; `None` for unknown lengths.
        batch_size: Length of the batch; default unknown.
        dtype: Dtype; default `floatx()`.
        sparse: Must be false: gpunet has dense tensors only.
        ragged: Must be false.
        batch_shape: Shape with the batch, instead of `shape`.
        input_tensor: KerasTensor to use, instead of a new one.
        optional: Whether the model accepts `None` for it.
        name: Name; default an automatic one.
        **kwargs: Old names of `shape` and `batch_shape`.

    Raises:
        ArgumentError: If the arguments contradict each other.
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Any = None,
        input_tensor: KerasTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name)
        if "input_shape" in kwargs:
            warnings.warn("`input_shape` is an old name of `shape`.", stacklevel=2)
            shape = kwargs.pop("input_shape")
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        if kwargs:
            raise ArgumentError(f"InputLayer has no such arguments. {received(**kwargs)}")
        if input_tensor is None:
            batch_shape = _batch_shape(shape, batch_size, batch_shape)
            input_tensor = KerasTensor(
                batch_shape, dtype, sparse=bool(sparse), ragged=bool(ragged), name=name
            )
        else:
            _check_tensor(input_tensor, shape, batch_size, batch_shape, dtype, sparse, ragged)
        self._batch_shape: tuple = input_tensor.shape
        self._dtype = standardize_dtype(input_tensor.dtype)
        self.sparse, self.ragged, self.optional = False, False, optional
        self._input_tensor = input_tensor
        CallNode(self, (), {}, input_tensor)
        self.built = True

    def call(self) -> None:
        """Computes nothing."""

    @property
    def batch_shape(self) -> tuple:
        """The shape, with the batch."""
        return self._batch_shape

    @property
    def dtype(self) -> str:
        """The dtype of the input."""
        return self._dtype

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def _batch_shape(shape, batch_size, batch_shape):
    if shape is not None and batch_shape is not None:
        raise ArgumentError(
            "You cannot pass both `shape` and `batch_shape` at the same time. "
            + received(shape=shape, batch_shape=batch_shape)
        )
    if batch_size is not None and batch_shape is not None:
        raise ArgumentError(
            "You cannot pass both `batch_size` and `batch_shape` at the same time. "
            + received(batch_size=batch_size, batch_shape=batch_shape)
        )
    if batch_shape is not None:
        return standardize_shape(batch_shape, allow_none=True)
    if shape is None:
        raise ArgumentError(f"You must pass a `shape` argument. {received(shape=shape)}")
    return (batch_size, *standardize_shape(shape, allow_none=True))


def _check_tensor(tensor, shape, batch_size, batch_shape, dtype, sparse, ragged):
    if not isinstance(tensor, KerasTensor):
        raise ArgumentError(
            f"`input_tensor` must be a KerasTensor. {received(input_tensor=tensor)}"
        )
    wrong = {
        "batch_size": batch_size is not None and tensor.shape[:1] != (batch_size,),
        "shape": shape is not None and tensor.shape[1:] != tuple(shape),
        "batch_shape": batch_shape is not None and tensor.shape != tuple(batch_shape),
        "dtype": dtype is not None and tensor.dtype != standardize_dtype(dtype),
        "sparse": bool(sparse),
        "ragged": bool(ragged),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ArgumentError(
                f"With `input_tensor` you cannot provide an incompatible `{name}` argument. "
                + received(input_tensor=tensor)
            )


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: KerasTensor | None = None,
    optional: bool = False,
) -> KerasTensor:
    """Returns a KerasTensor that stands for an input of a functional model.

    Args:
        shape: Shape without the batch; `None` for unknown lengths.
        batch_size: Length of the batch; default unknown.
        dtype: Dtype; default `floatx()`.
        sparse: Must be false: gpunet has dense tensors only.
        ragged: Must be false.
        batch_shape: Shape with the batch, instead of `shape`.
        name: Name of the input; default an automatic one.
        tensor: KerasTensor to use, instead of a new one.
        optional: Whether the model accepts `None` for it.

    Raises:
        ArgumentError: If the arguments contradict each other.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Input((8, 8, 1)).shape
        (None, 8, 8, 1)
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        optional=optional,
        name=name,
    )
    return layer._input_tensor
