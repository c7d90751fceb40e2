"""Arrays that are in memory as a whole, in any nest: sliced, shuffled and split."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import optree

from gpunet.backend import memory
from gpunet.backend.device import Device, cupy
from gpunet.compile.inputs import HostArray, Rows
from gpunet.config import floatx
from gpunet.core.symbolic import flatten, map_structure
from gpunet.core.tensor import Tensor
from gpunet.data.adapter import DataAdapter, plain
from gpunet.data.batches import class_weight_to_sample_weights, pack_x_y_sample_weight
from gpunet.dtypes import is_float, numpy_dtype
from gpunet.errors import ArgumentError, DTypeError, ShapeError, received

# Arrays that take less than this are moved to a GPU once, not batch by batch.
_RESIDENT_BYTES = 1 << 29


class ArrayDataAdapter(DataAdapter):
    """Batches of arrays: NumPy, CuPy, torch, pandas, polars, tensors, lists, and nests of these.

    Args:
        x: Inputs, `(samples, ...)` each.
        y: Targets.
        sample_weight: Weights `(samples,)`, or one such array for each array in `y`.
        batch_size: Samples in a batch; default 32, or `samples / steps` if `steps` is given.
        steps: Batches in an epoch.
        shuffle: `True` draws a new order each epoch, `"batch"` shuffles inside of each batch.
        class_weight: Dict from labels to weights.

    Raises:
        ArgumentError: If there are no samples, lengths differ, or settings do not go together.
        DTypeError: If an array holds no numbers.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool | str = False,
        class_weight: dict | None = None,
    ):
        if x is None or not can_convert_arrays((x, y, sample_weight)):
            raise ArgumentError(
                f"Expected all elements of `x` to be array-like. {received(type=type(x).__name__)}"
            )
        if shuffle not in (True, False, None, "batch"):
            raise ArgumentError(
                f'`shuffle` must be True, False or "batch". {received(shuffle=shuffle)}'
            )
        x, y = as_arrays(x, "x"), as_arrays(y, "y")
        sample_weight = as_arrays(sample_weight, "sample_weight")
        if class_weight is not None:
            sample_weight = _weights_of_classes(y, sample_weight, class_weight)
        elif sample_weight is not None:
            sample_weight = _weights_of_outputs(y, sample_weight)
        self._num_samples = check_cardinality(x, y, sample_weight)
        packed = pack_x_y_sample_weight(x, y, sample_weight)
        self._arrays, self._structure = optree.tree_flatten(packed)
        if batch_size is None:
            batch_size = math.ceil(self._num_samples / steps) if steps else 32
        self._batch_size = _check_batch_size(batch_size)
        self._shuffle = shuffle
        self._moved: tuple[Device, list] | None = None

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self._num_samples / self._batch_size)

    @property
    def batch_size(self) -> int:
        """Samples in a batch, except perhaps the last one."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch is smaller."""
        return self.partial_batch_size is not None

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch, if it is smaller."""
        return self._num_samples % self._batch_size or None

    def first_batch(self) -> Any:
        """Returns the first rows; no order is drawn for it."""
        return self._structure.unflatten([a[: self._batch_size] for a in self._arrays])

    def batches(self) -> Iterator[Any]:
        """Yields the batches of one epoch, as arrays where the data are."""
        structure = self._structure
        for leaves in self._slices(self._arrays):
            yield structure.unflatten(leaves)

    def get_tensor_iterator(self, device: Device) -> Iterator[Any]:
        """Yields the batches of one epoch as Tensors on a device."""
        structure, arrays = self._structure, self._on(device)
        host = device.kind == "cuda" and any(isinstance(a, np.ndarray) for a in arrays)
        for leaves in self._slices(arrays):
            if host:
                leaves = [memory.as_array(a, None, device, copy=False) for a in leaves]
            yield structure.unflatten([Tensor(a, device) for a in leaves])

    def get_input_iterator(self, device: Device) -> Iterator[Any]:
        """Yields the batches of one epoch as inputs of graphs.

        Of data that are on the GPU, graphs gather the rows of a batch themselves.
        """
        if device.kind == "cpu":
            yield from self.get_tensor_iterator(device)
            return
        arrays, order = self._on(device), self._order()
        on_host = [device.kind == "cuda" and isinstance(a, np.ndarray) for a in arrays]
        orders: list[Any] = [None] * len(arrays)
        if order is not None:
            moved = None if all(on_host) else memory.as_array(order, None, device, copy=False)
            orders = [order if host else moved for host in on_host]
        size = self._batch_size
        for start in range(0, self._num_samples, size):
            stop = min(start + size, self._num_samples)
            leaves = [
                _input(array, rows, start, stop, device, host)
                for array, rows, host in zip(arrays, orders, on_host, strict=True)
            ]
            yield self._structure.unflatten(leaves)

    def _on(self, device):
        """The arrays where batches are cut from: on the GPU if they fit there easily."""
        if self._moved is None or self._moved[0] is not device:
            arrays = self._arrays
            if device.kind != "cuda":
                arrays = [memory.to_numpy(a) for a in arrays]
            elif sum(a.nbytes for a in arrays) <= _RESIDENT_BYTES:
                arrays = [memory.as_array(a, None, device, copy=False) for a in arrays]
            self._moved = device, arrays
        return self._moved[1]

    def _slices(self, arrays):
        """Yields lists of slices; the order is drawn when an epoch begins."""
        size, count, order = self._batch_size, self._num_samples, self._order()
        if order is None:
            for start in range(0, count, size):
                yield [a[start : start + size] for a in arrays]
            return
        orders = _orders(order, arrays)
        for start in range(0, count, size):
            stop = start + size
            yield [a.take(o[start:stop], axis=0) for a, o in zip(arrays, orders, strict=True)]

    def _order(self):
        """Draws the order of an epoch; `None` if it is that of the data."""
        size, count = self._batch_size, self._num_samples
        if not self._shuffle:
            return None
        if self._shuffle is True:
            return np.random.permutation(count)
        order = [
            start + np.random.permutation(min(size, count - start))
            for start in range(0, count, size)
        ]
        return np.concatenate(order)


def _input(array, rows, start, stop, device, host):
    """The rows of a batch as an input of a graph: on the host, or somewhere on the GPU."""
    if host:
        return HostArray(
            np.ascontiguousarray(array[start:stop] if rows is None else array[rows[start:stop]]),
            device,
        )
    if rows is None:
        return Tensor(array[start:stop], device)
    return Rows(array, rows, start, stop, device)


def _orders(order, arrays):
    """The order as an index array beside each array: in host memory, or on its GPU."""
    if all(isinstance(a, np.ndarray) for a in arrays):
        return [order] * len(arrays)
    on_gpu = cupy().asarray(order)
    return [order if isinstance(a, np.ndarray) else on_gpu for a in arrays]


def _check_batch_size(batch_size):
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise ArgumentError(f"`batch_size` must be an integer. {received(batch_size=batch_size)}")
    if batch_size < 1:
        raise ArgumentError(f"`batch_size` must be at least 1. {received(batch_size=batch_size)}")
    return int(batch_size)


def _weights_of_classes(y, sample_weight, class_weight):
    if sample_weight is not None:
        raise ArgumentError(
            "You cannot pass `class_weight` and `sample_weight` at the same time; multiply the "
            "class weights into `sample_weight`."
        )
    if y is None or isinstance(y, (list, tuple, dict)):
        raise ArgumentError(
            "`class_weight` is only supported for Models with a single output. "
            + received(y=type(y).__name__)
        )
    return class_weight_to_sample_weights(y, class_weight)


def _weights_of_outputs(y, sample_weight):
    """One weight array for each output."""
    nested = isinstance(y, (list, tuple, dict))
    if not nested:
        return sample_weight
    if isinstance(sample_weight, (list, tuple, dict)):
        nests: Any = (y, sample_weight)
        wanted, given = map(optree.tree_structure, nests)
        if given != wanted:
            raise ArgumentError(
                "You should provide one `sample_weight` array per output in `y`. The two "
                f"structures did not match. {received(y=wanted, sample_weight=given)}"
            )
        return sample_weight
    shape = sample_weight.shape
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise ShapeError(
            "For a model with multiple outputs, when providing a single `sample_weight` array, it "
            "should only have one scalar score per sample. " + received(sample_weight_shape=shape)
        )
    return map_structure(lambda _: sample_weight, y)


def as_arrays(nest: Any, name: str) -> Any:
    """Returns a nest of array-likes as NumPy or CuPy arrays; floats become `floatx()`.

    Raises:
        DTypeError: If one holds no numbers.
        ShapeError: If one has no axis of samples.
    """
    if nest is None:
        return None
    if isinstance(nest, dict):
        return type(nest)((key, as_arrays(v, f"{name}[{key!r}]")) for key, v in nest.items())
    if isinstance(nest, (list, tuple)) and not _is_number_list(nest):
        items = [as_arrays(v, f"{name}[{i}]") for i, v in enumerate(nest)]
        return type(nest)(*items) if hasattr(nest, "_fields") else type(nest)(items)
    try:
        array = _as_array(plain(nest))
    except DTypeError as error:
        raise DTypeError(f"`{name}`: {error}") from error
    if array.ndim == 0:
        raise ShapeError(f"`{name}` must have an axis of samples. {received(shape=array.shape)}")
    return array


def _as_array(value):
    if isinstance(value, Tensor):
        array = value.data
    elif hasattr(value, "__cuda_array_interface__"):
        array = cupy().asarray(value)
    elif isinstance(value, np.ndarray):
        array = memory.to_numpy(value)
    else:
        array = memory.as_array(value, None, Device("cpu"), copy=False)
    if is_float(array.dtype) and array.dtype != floatx():
        array = array.astype(numpy_dtype(floatx()))
    return array


def _is_number_list(values):
    while isinstance(values, (list, tuple)):
        if not values:
            return False
        values = values[0]
    return isinstance(values, (int, float, np.generic))


def can_convert_arrays(nest: Any) -> bool:
    """Tells whether every leaf of a nest is array-like, so that it can be sliced in memory."""
    if nest is None:
        return True
    if isinstance(nest, dict):
        return all(map(can_convert_arrays, nest.values()))
    if isinstance(nest, (list, tuple)):
        return _is_number_list(nest) or all(map(can_convert_arrays, nest))
    return hasattr(nest, "shape") and hasattr(nest, "__getitem__")


def check_cardinality(*parts: Any) -> int:
    """Returns how many samples `(x, y, sample_weight)` hold.

    Raises:
        ArgumentError: If there are none, or lengths differ.
    """
    names = ("x", "y", "sample_weight")
    sizes = {
        name: [int(a.shape[0]) for a in flatten(part)]
        for name, part in zip(names, parts, strict=True)
        if part is not None
    }
    counts = {size for found in sizes.values() for size in found}
    if len(counts) > 1:
        shown = ", ".join(f"'{name}' sizes: {', '.join(map(str, s))}" for name, s in sizes.items())
        raise ArgumentError(
            "Data cardinality is ambiguous. Make sure all arrays contain the same number of "
            f"samples. Received: {shown}"
        )
    if not counts or counts == {0}:
        raise ArgumentError(f"`x` holds no samples. {received(sizes=sizes)}")
    return counts.pop()


def train_validation_split(arrays: Any, validation_split: float) -> tuple[Any, Any]:
    """Splits nests of arrays in two: all but the last part for training, the rest for validation.

    Args:
        arrays: Tuple `(x, y, sample_weight)` of nests; `None` where there is none.
        validation_split: Part to hold out, between 0 and 1.

    Returns:
        Two tuples like `arrays`.

    Raises:
        ArgumentError: If these are no arrays, or one of the parts would be empty.

    Example:
        >>> train, validation = train_validation_split(([1, 2, 3, 4], None), 0.25)
        >>> train[0].tolist(), validation[0].tolist()
        ([1, 2, 3], [4])
    """
    if not isinstance(validation_split, (int, float)) or not 0 <= validation_split < 1:
        raise ArgumentError(
            "`validation_split` must be at least 0 and less than 1. "
            + received(validation_split=validation_split)
        )
    if not can_convert_arrays(arrays) or arrays[0] is None:
        raise ArgumentError(
            "Argument `validation_split` is only supported for tensors or NumPy arrays; pass "
            f"`validation_data` instead. {received(x=type(arrays[0]).__name__)}"
        )
    names = ("x", "y", "sample_weight")
    arrays = tuple(as_arrays(a, name) for a, name in zip(arrays, names, strict=False))
    count = check_cardinality(*(*arrays, None, None)[:3])
    split_at = math.floor(count * (1 - validation_split))
    if split_at in (0, count):
        raise ArgumentError(
            f"The data hold {count} samples, which is not sufficient to split them by "
            f"`validation_split`. {received(validation_split=validation_split)}"
        )
    return (
        map_structure(lambda a: a[:split_at], arrays),
        map_structure(lambda a: a[split_at:], arrays),
    )
