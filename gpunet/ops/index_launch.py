"""How gathers are launched: the `cuda` rules of `gpunet/ops/index.py` and of one-hot encodings."""

import math
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.dtypes import numpy_dtype
from gpunet.errors import ShapeError, received
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for, vector_width

ARRAY = "array"  # stands in the key of `gather_item` for the next index array
_MAX_BLOCKS = 65535
_WARP = 32
_SLAB = 8  # accesses of a thread to a row; longer rows are shared by several blocks
_MOST_PLACES = 2**32  # kernels number elements with 32 bits
_WORDS = {size: np.dtype(f"uint{8 * size}") for size in (1, 2, 4, 8)}


def index_array(indices: Any) -> Any:
    """Returns indices as contiguous int32 or int64, the dtypes that kernels know."""
    indices = contiguous(indices)
    return indices if indices.dtype in (np.int32, np.int64) else indices.astype(np.int64)


def row_block(columns: int) -> tuple[int, int]:
    """Returns a block of `BLOCK` threads: (threads that share a row, a warp at most; rows)."""
    across = 1
    while across < min(columns, _WARP):
        across *= 2
    return across, BLOCK // across


def _as_words(*arrays: Any) -> tuple[int, list[Any]]:
    """Returns how many words are one access, and arrays of one dtype as arrays of words.

    Rows of whole, aligned 16 bytes are moved so; others word by word.
    """
    itemsize = arrays[0].dtype.itemsize
    columns = min(x.shape[-1] for x in arrays)
    wide = columns * itemsize % 16 == 0 and all(vector_width(x) * itemsize == 16 for x in arrays)
    word = _WORDS[4 if wide else itemsize]
    return 4 if wide else 1, [x.view(word) for x in arrays]


def _check_source(x, length, count):
    if count and not length:
        raise ShapeError(f"nothing can be taken from an axis of length 0. {received(x=x.shape)}")


# -- rows -----------------------------------------------------------------------------------------


def gather(x: Any, ids: Any, lead: int, axes: int, shape: tuple[int, ...]) -> Any:
    """Returns the slices of `x` that flat indices name.

    Args:
        x: Contiguous array.
        ids: Flat index array of int32, int64 or uint32.
        lead: Number of axes before those that are indexed.
        axes: Number of axes that are indexed together, as one.
        shape: Shape of the result.
    """
    outer, inner = math.prod(x.shape[:lead]), math.prod(x.shape[lead + axes :])
    length, count = math.prod(x.shape[lead : lead + axes]), ids.size
    y = empty(shape, x.dtype, like=x)
    if not y.size:
        return y
    _check_source(x, length, count)
    rows = outer * count
    vector, (source, target) = _as_words(x.reshape(outer * length, inner), y.reshape(rows, inner))
    words = target.shape[1]
    accesses = ceil_div(words, vector)
    block = row_block(accesses)
    types = (cuda_type(source.dtype), vector, cuda_type(ids.dtype))
    args = (source, ids, target, rows, count, length, words)
    slabs = min(ceil_div(accesses, block[0] * _SLAB), _MAX_BLOCKS)
    grid = (min(ceil_div(rows, block[1]), _MAX_BLOCKS), slabs)
    launch("index.cu", "gather_rows", types, grid=grid, block=block, args=args)
    return y


def take_rule(x: Any, indices: Any, axis: int) -> Any:
    """The `cuda` rule of `take`."""
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return gather(contiguous(x), index_array(indices), axis, 1, shape)


def row_places(indices: list[tuple[Any, int, int]], lengths: tuple[int, ...], count: int) -> Any:
    """Returns row-major numbers of places, from one index array for each axis.

    Args:
        indices: For each axis (array, step, offset): its indices are `array[i * step + offset]`.
        lengths: Of the axes.
        count: Number of places.

    Raises:
        ShapeError: If there are more than 2**32 places.
    """
    _check_places(math.prod(lengths))
    like = indices[0][0]
    places = empty((count,), np.uint32, like=like)
    if count:
        _check_source(like, math.prod(lengths), count)
    for k, ((array, step, offset), length) in enumerate(zip(indices, lengths, strict=True)):
        args = (array, places, count, step, offset, length, k == 0)
        types, grid = (cuda_type(array.dtype), BLOCK), grid_for(count)
        launch("index.cu", "row_places", types, grid=grid, block=BLOCK, args=args)
    return places


def _check_places(count):
    if count > _MOST_PLACES:
        raise ShapeError(
            "at most 2**32 places can be indexed together; index fewer axes. "
            + received(count=count)
        )


def tuple_places(indices: Any, shape: tuple[int, ...]) -> Any:
    """Returns the places that the rows of `indices`, of shape `(..., k)`, name in `shape`."""
    indices, k = index_array(indices), indices.shape[-1]
    count = math.prod(indices.shape[:-1])
    return row_places([(indices, k, axis) for axis in range(k)], shape[:k], count)


def gather_rows_rule(x: Any, indices: Any) -> Any:
    """The `cuda` rule of `gather_rows`."""
    k = indices.shape[-1]
    shape = (*indices.shape[:-1], *x.shape[k:])
    return gather(contiguous(x), tuple_places(indices, x.shape), 0, k, shape)


# -- integer-array indexing -----------------------------------------------------------------------


def arranged(x: Any, key: tuple) -> tuple[Any, int, int]:
    """Returns a view of `x` whose first axes are those that index arrays choose from.

    Returns:
        The view; how many axes are chosen from; before which of the other axes the axes of the
        index arrays belong in the result.
    """
    chosen = [i for i, k in enumerate(key) if k == ARRAY or type(k) is int]
    together = chosen[-1] - chosen[0] == len(chosen) - 1
    everything = (None, None, None)
    basic = tuple([slice(*(everything if k == ARRAY else k)) if k == ARRAY or type(k) is tuple
                   else k for k in key])  # fmt: skip
    view = x[basic]
    axes = [k for k in key if type(k) is not int]  # one for each axis of the view, or fewer
    first = [i for i, k in enumerate(axes) if k == ARRAY]
    rest = [i for i in range(view.ndim) if i not in first]
    return view.transpose(first + rest), len(first), chosen[0] if together else 0


def joint_places(x: Any, indices: tuple, axes: int) -> tuple[Any, tuple[int, ...]]:
    """Returns the places that broadcast index arrays name in the first axes, and their shape."""
    joint = np.broadcast_shapes(*[i.shape for i in indices])
    xp = np if isinstance(x, np.ndarray) else Device("cuda").xp
    spread = [index_array(i if i.shape == joint else xp.broadcast_to(i, joint)) for i in indices]
    places = row_places([(i, 1, 0) for i in spread], x.shape[:axes], math.prod(joint))
    return places, joint


def gather_item_rule(x: Any, *indices: Any, key: tuple) -> Any:
    """The `cuda` rule of `gather_item`."""
    view, axes, lead = arranged(x, key)
    places, joint = joint_places(view, indices, axes)
    y = gather(contiguous(view), places, 0, axes, (*joint, *view.shape[axes:]))
    n = len(joint)
    order = [*range(n, n + lead), *range(n), *range(n + lead, y.ndim)]
    return contiguous(y.transpose(order))


# -- along an axis --------------------------------------------------------------------------------


def _sizes(shape, axis):
    return shape[axis], math.prod(shape[axis + 1 :])


def take_along_rule(x: Any, indices: Any, axis: int) -> Any:
    """The `cuda` rule of `take_along_axis`."""
    x, ids = contiguous(x), index_array(indices)
    y = empty(ids.shape, x.dtype, like=x)
    if y.size:
        _check_source(x, x.shape[axis], y.size)
    word = _WORDS[x.dtype.itemsize]
    types = (cuda_type(word), cuda_type(ids.dtype), BLOCK)
    args = (x.reshape(-1).view(word), ids, y.reshape(-1).view(word), y.size)
    args = (*args, *_sizes(ids.shape, axis), x.shape[axis])
    launch("index.cu", "gather_along", types, grid=grid_for(y.size), block=BLOCK, args=args)
    return y


def along_places(indices: Any, axis: int, length: int) -> Any:
    """Returns the number of each element that `take_along_axis` would take, as a flat array."""
    ids = index_array(indices)
    outer, (rows, inner) = math.prod(ids.shape[:axis]), _sizes(ids.shape, axis)
    _check_places(outer * length * inner)
    places = empty((ids.size,), np.uint32, like=ids)
    if ids.size:
        _check_source(ids, length, ids.size)
    types, args = (cuda_type(ids.dtype), BLOCK), (ids, places, ids.size, rows, inner, length)
    launch("index.cu", "along_places", types, grid=grid_for(ids.size), block=BLOCK, args=args)
    return places


# -- labels ---------------------------------------------------------------------------------------


def pick_rule(x: Any, labels: Any) -> Any:
    """The `cuda` rule of `pick`."""
    x, labels = contiguous(x), index_array(labels)
    y = empty(labels.shape, x.dtype, like=x)
    types = (cuda_type(x.dtype), cuda_type(labels.dtype), BLOCK)
    args = (x, labels, y, y.size, x.shape[-1])
    launch("index.cu", "pick", types, grid=grid_for(y.size), block=BLOCK, args=args)
    return y


def _one_hot(ids, values, shape, dtype, classes, inner):
    y = empty(shape, dtype, like=ids)
    types = (cuda_type(dtype), cuda_type(ids.dtype), BLOCK)
    grid = grid_for(y.size, 16 // y.dtype.itemsize)
    args = (ids, values, y, y.size, classes, inner)
    launch("index.cu", "one_hot", types, grid=grid, block=BLOCK, args=args)
    return y


def place_rule(y: Any, labels: Any, classes: int) -> Any:
    """The `cuda` rule of `place`."""
    y, labels = contiguous(y), index_array(labels)
    return _one_hot(labels, y, (*y.shape, classes), y.dtype, classes, 1)


def one_hot_rule(x: Any, num_classes: int, axis: int, dtype: Any) -> Any:
    """The `cuda` rule of `one_hot`."""
    ids = index_array(x)
    shape = (*ids.shape[:axis], num_classes, *ids.shape[axis:])
    inner = math.prod(ids.shape[axis:])
    return _one_hot(ids, None, shape, numpy_dtype(dtype), num_classes, inner)
