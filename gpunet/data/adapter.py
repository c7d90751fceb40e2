"""DataAdapter: one kind of data as batches."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gpunet.backend import memory
from gpunet.backend.device import Device
from gpunet.compile.inputs import HostArray
from gpunet.config import floatx
from gpunet.core.symbolic import map_structure
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.dtypes import is_float, numpy_dtype
from gpunet.errors import ArgumentError, StateError


class DataAdapter:
    """Gives batches `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, once for each epoch.

    Subclasses define `batches`, `num_batches` and `batch_size`; an instance may be passed to `fit`.
    """

    def batches(self) -> Iterable[Any]:
        """Returns the batches of one epoch, their leaves in whatever array type they come."""
        raise StateError(f"{type(self).__name__} does not define `batches`.")

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; `None` where that is not known."""
        raise StateError(f"{type(self).__name__} does not define `num_batches`.")

    @property
    def batch_size(self) -> int | None:
        """Samples in a batch; `None` where that is not known."""
        raise StateError(f"{type(self).__name__} does not define `batch_size`.")

    @property
    def has_partial_batch(self) -> bool | None:
        """Whether the last batch is smaller; `None` where that is not known."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch, if it is smaller."""
        return None

    def first_batch(self) -> Any:
        """Returns a batch from which shapes can be told, if that takes nothing from the data.

        Data that can be read only once, or only by starting an epoch, return `None`.
        """
        return None

    def get_numpy_iterator(self) -> Iterator[Any]:
        """Yields the batches of one epoch as NumPy arrays."""
        for batch in self.batches():
            yield map_structure(to_numpy, batch)

    def get_tensor_iterator(self, device: Device) -> Iterator[Any]:
        """Yields the batches of one epoch as Tensors on a device."""
        for number, batch in enumerate(self.batches()):
            try:
                yield map_structure(lambda leaf: to_tensor(leaf, device), batch)
            except TypeError as error:
                raise ArgumentError(f"Batch {number} holds no numbers: {error}") from error

    def get_input_iterator(self, device: Device) -> Iterator[Any]:
        """Yields the batches of one epoch as inputs of graphs.

        On a GPU these are not there yet: a graph copies them itself, while it works on the batch
        before. They turn into Tensors by `as_tensor`.
        """
        if device.kind == "cpu":
            yield from self.get_tensor_iterator(device)
            return
        for number, batch in enumerate(self.batches()):
            try:
                yield map_structure(lambda leaf: to_input(leaf, device), batch)
            except TypeError as error:
                raise ArgumentError(f"Batch {number} holds no numbers: {error}") from error

    def on_epoch_begin(self) -> None:
        """Called before the batches of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the batches of an epoch."""


def plain(value: Any) -> Any:
    """Returns arrays of other libraries in a form that NumPy or CuPy can take.

    Data frames and series become arrays (a series, a column), torch tensors are detached.
    """
    if isinstance(value, (np.ndarray, Tensor)):
        return value
    if isinstance(value, Variable):
        return value.value
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach()
        return value.float() if str(value.dtype) == "torch.bfloat16" else value
    convert = getattr(value, "to_cupy", None) or getattr(value, "to_numpy", None)
    if convert is not None:  # pandas, polars, cuDF, ...
        array = convert()
        return array[:, None] if array.ndim == 1 else array
    return value


def to_numpy(value: Any) -> np.ndarray:
    """Returns a leaf of a batch as a NumPy array."""
    value = plain(value)
    if isinstance(value, Tensor):
        return value.numpy()
    return memory.to_numpy(value)


def to_input(value: Any, device: Device) -> Any:
    """Returns a leaf of a batch as an input of a graph on a GPU: arrays stay where they are.

    They are copied, as a generator may have only one array that it fills again and again.
    """
    value = plain(value)
    if isinstance(value, Tensor) or not isinstance(value, np.ndarray):
        return to_tensor(value, device)
    array = memory.to_numpy(value)
    wanted = numpy_dtype(floatx()) if is_float(array.dtype) else array.dtype
    return HostArray(np.array(array, wanted, order="C"), device)


def to_tensor(value: Any, device: Device) -> Tensor:
    """Returns a leaf of a batch as a Tensor on a device; float arrays become `floatx()`."""
    value = plain(value)
    if type(value) is Tensor:
        return value.to(device)
    x = as_tensor(value, device=device)
    wanted = numpy_dtype(floatx())
    if x.dtype != wanted and is_float(x.dtype):
        return Tensor(x.data.astype(wanted), device)
    return x
