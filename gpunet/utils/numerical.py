"""Small array helpers of Keras's `utils`: one-hot classes, unit vectors, padded sequences."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet.core.tensor import Tensor
from gpunet.errors import ArgumentError, DTypeError, received
from gpunet.ops import convert_to_numpy, one_hot


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Returns integer classes as rows with a one at the class.

    Args:
        x: Integers from 0, of any shape; a last axis of length 1 is dropped.
        num_classes: Length of the rows; default the greatest class + 1.

    Returns:
        float array of shape `(..., num_classes)`: a Tensor for a Tensor, else a NumPy array.

    Raises:
        ArgumentError: If a class is negative or not below `num_classes`.

    Example:
        >>> import gpunet
        >>> gpunet.utils.to_categorical([0, 2], 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    classes = np.asarray(convert_to_numpy(x)).astype(np.int64)
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes[..., 0]
    count = int(classes.max(initial=-1)) + 1 if num_classes is None else int(num_classes)
    if classes.size and not (classes.min() >= 0 and classes.max() < count):
        raise ArgumentError(
            f"Classes must be from 0 to {count - 1}. "
            + received(smallest=int(classes.min()), greatest=int(classes.max()))
        )
    if isinstance(x, Tensor):
        return one_hot(x[..., 0] if x.ndim > 1 and x.shape[-1] == 1 else x, count)
    return np.eye(count, dtype=np.float32)[classes]


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """Returns a NumPy array divided by its norms along an axis; zero vectors stay zero.

    Args:
        x: Array.
        axis: The axis of the vectors.
        order: Order of the norm, such as 2.

    Example:
        >>> normalize([[0.0, 4.0]]).tolist()
        [[0.0, 1.0]]
    """
    x = np.asarray(convert_to_numpy(x))
    norms = np.atleast_1d(np.linalg.norm(x, order, axis))
    norms[norms == 0] = 1
    return x / np.expand_dims(norms, axis)


def pad_sequences(
    sequences: Sequence[Sequence],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> np.ndarray:
    """Returns sequences of different lengths as the rows of one NumPy array.

    Args:
        sequences: Sequences of numbers, or of arrays of one shape.
        maxlen: Length of the rows; default that of the longest.
        dtype: Dtype of the result.
        padding: `"pre"` or `"post"`: on which side short ones are filled up.
        truncating: `"pre"` or `"post"`: on which side long ones are cut.
        value: What they are filled up with.

    Raises:
        ArgumentError: If `padding` or `truncating` is neither.
        DTypeError: If an element is no sequence.

    Example:
        >>> pad_sequences([[1], [2, 3, 4]], maxlen=2).tolist()
        [[0, 1], [3, 4]]
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ArgumentError(f'`{name}` must be "pre" or "post". {received(**{name: side})}')
    for sequence in sequences:
        if not hasattr(sequence, "__len__"):
            raise DTypeError(f"`sequences` must hold sequences. {received(element=sequence)}")
    length = max(map(len, sequences), default=0) if maxlen is None else maxlen
    inner = next((np.shape(s)[1:] for s in sequences if len(s)), ())
    rows = np.full((len(sequences), length, *inner), value, dtype)
    for row, sequence in zip(rows, sequences, strict=True):
        kept = np.asarray(sequence, dtype)
        kept = kept[-length:] if truncating == "pre" else kept[:length]
        if length and len(kept):
            row[slice(-len(kept), None) if padding == "pre" else slice(len(kept))] = kept
    return rows
