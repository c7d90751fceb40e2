"""What a batch is: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""

from typing import Any

import numpy as np

from gpunet.config import floatx
from gpunet.data.adapter import to_numpy
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ArgumentError, received


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Returns a batch as `(x, y, sample_weight)`, with `None` for what it lacks.

    Args:
        data: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        ArgumentError: If it is a tuple or list of another length.

    Example:
        >>> unpack_x_y_sample_weight(("features", "labels"))
        ('features', 'labels', None)
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ArgumentError(
            "Data is expected to be in format `x`, `(x,)`, `(x, y)`, or `(x, y, sample_weight)`. "
            + received(length=len(data))
        )
    x, y, sample_weight = (*data, None, None)[:3]
    return x, y, sample_weight


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Returns `x`, `(x, y)` or `(x, y, sample_weight)`: what `fit` passes to `train_step`.

    A tuple or list `x` alone becomes `(x,)`, so that it is not taken for `(x, y)`.

    Example:
        >>> pack_x_y_sample_weight("features", "labels")
        ('features', 'labels')
    """
    if y is None and sample_weight is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def class_weight_to_sample_weights(y: Any, class_weight: dict) -> np.ndarray:
    """Returns one weight a sample, chosen by its label.

    Args:
        y: Integer labels of shape `(n,)` or `(n, 1)`, or one-hot rows `(n, classes)`.
        class_weight: Weights by label; labels that are not in it weigh 1.

    Returns:
        Array of shape `(n,)` (with more axes, one weight for each label) and dtype `floatx()`.

    Raises:
        ArgumentError: If `class_weight` is no dict from integers to numbers.

    Example:
        >>> class_weight_to_sample_weights([0, 1, 1], {1: 3.0}).tolist()
        [1.0, 3.0, 3.0]
    """
    try:
        weights = {int(label): float(weight) for label, weight in class_weight.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentError(
            "`class_weight` must be a dict from integer labels to numbers. "
            + received(class_weight=class_weight)
        ) from error
    labels = to_numpy(y)
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
    found, inverse = np.unique(np.rint(labels).astype(np.int64), return_inverse=True)
    table = np.array([weights.get(int(label), 1.0) for label in found], numpy_dtype(floatx()))
    return table[inverse.reshape(labels.shape)]
