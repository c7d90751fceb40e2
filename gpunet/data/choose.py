"""Which adapter serves which kind of data."""

import types
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from gpunet.data.adapter import DataAdapter
from gpunet.data.arrays import ArrayDataAdapter, can_convert_arrays
from gpunet.data.iterables import GeneratorDataAdapter, IterableDataAdapter
from gpunet.data.py_dataset import PyDataset, PyDatasetAdapter
from gpunet.errors import ArgumentError, received


def get_data_adapter(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    shuffle: bool | str = False,
    class_weight: dict | None = None,
) -> DataAdapter:
    """Returns the adapter for the kind of data that `x` is.

    Args:
        x: Arrays (in any nest), a generator, a `PyDataset`, an iterable of batches such as a torch
            `DataLoader`, or a `DataAdapter`.
        y: Targets; only with arrays.
        sample_weight: Weights; only with arrays.
        batch_size: Samples in a batch, for arrays.
        steps_per_epoch: Batches in an epoch.
        shuffle: Whether to shuffle arrays and finite PyDatasets.
        class_weight: Dict from labels to weights; not with generators.

    Raises:
        ArgumentError: If the data is of no such kind, or an argument does not go with it.
    """
    if isinstance(x, DataAdapter):
        return x
    iterable = not (x is None or isinstance(x, (str, bytes))) and not can_convert_arrays(x)
    if not iterable and can_convert_arrays((x, y, sample_weight)):
        return ArrayDataAdapter(
            x, y, sample_weight, batch_size, steps_per_epoch, shuffle, class_weight
        )
    if not isinstance(x, (PyDataset, Iterable)) or isinstance(x, (str, bytes, dict, list, tuple)):
        raise ArgumentError(f"Unrecognized data type: {received(x=type(x).__name__)}")
    kind = _kind(x)
    for name, what, value in (
        ("y", "the targets", y),
        ("sample_weights", "the sample weights", sample_weight),
    ):
        if value is not None:
            raise ArgumentError(
                f"When providing `x` as a {kind}, `{name}` should not be passed. Instead, {what} "
                f"should be included as part of the {kind}."
            )
    if isinstance(x, PyDataset):
        if shuffle and x.num_batches is None:
            _warn_shuffle("an infinite PyDataset")
            shuffle = False
        return PyDatasetAdapter(x, class_weight, bool(shuffle))
    if isinstance(x, Iterator):
        if class_weight is not None:
            raise ArgumentError(
                "Argument `class_weight` is not supported for Python generator inputs: yield "
                f"sample weights instead. {received(class_weight=class_weight)}"
            )
        return GeneratorDataAdapter(x)
    return IterableDataAdapter(x, class_weight)


def _kind(x):
    if isinstance(x, PyDataset):
        return "PyDataset"
    if isinstance(x, types.GeneratorType):
        return "generator"
    return "torch DataLoader" if _is_torch_loader(x) else type(x).__name__


def _is_torch_loader(x):
    return any(
        parent.__name__ == "DataLoader" and "torch.utils.data" in str(parent.__module__)
        for parent in type(x).__mro__
    )


def _warn_shuffle(what):
    warnings.warn(
        "`shuffle=True` was passed, but will be ignored since the data `x` was provided as "
        f"{what}, which is expected to be shuffled already.",
        stacklevel=4,
    )
