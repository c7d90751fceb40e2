"""How scatters are launched: places are sorted, then the rows of each place are combined.

The result is the same in every run: the rows of a place are combined in their order. The atomic
kernel, which is not, runs only for those who call `index_add_rule(..., atomic=True)`.
"""

import math
from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.backend.kernels import ceil_div, cuda_type, empty, launch
from gpunet.errors import ShapeError, received
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for, vector_width
from gpunet.ops.index_launch import (
    along_places,
    arranged,
    index_array,
    joint_places,
    row_block,
    row_places,
    tuple_places,
)
from gpunet.ops.reduce_launch import accumulate_dtype

TILE = 64  # sorted rows that one thread group combines: kTile in scatter.cu
_KEYS_A_BLOCK = 1024
_MOST_BLOCKS = 256
_MAX_GRID_Y = 65535


def sort_places(places: Any, length: int, order: Any = None) -> tuple[Any, Any]:
    """Returns places in order, and for each the number of its row; equal ones keep their order.

    Args:
        places: uint32 array of shape `(n,)`, which is kept.
        length: All places are smaller.
        order: The number of each row, kept as well; default 0, 1, 2, ...
    """
    n = places.size
    if n >= 2**32:
        raise ShapeError(f"at most 2**32 - 1 rows can be combined at once. {received(rows=n)}")
    blocks = max(1, min(ceil_div(n, _KEYS_A_BLOCK), _MOST_BLOCKS))
    tile = ceil_div(ceil_div(n, blocks), BLOCK) * BLOCK
    counts = empty((256 * blocks,), np.uint32, like=places)
    pairs = [[empty((n,), np.uint32, like=places) for _ in range(2)] for _ in range(2)]
    keys = places
    for turn in range(max(1, ceil_div((length - 1).bit_length(), 8))):
        shift, (new_keys, new_order) = np.int32(8 * turn), pairs[turn % 2]
        for kernel, args in (
            ("count_digits", (keys, counts, n, tile, shift)),
            ("scan_counts", (counts, counts.size)),
            ("move_by_digit", (keys, order, counts, new_keys, new_order, n, tile, shift)),
        ):
            grid, block = blocks, BLOCK
            if kernel == "scan_counts":
                grid, block = 1, BLOCK if counts.size <= 4096 else 1024
            launch("scatter.cu", kernel, (block,), grid=grid, block=block, args=args)
        keys, order = new_keys, new_order
    return keys, order


def combine(
    x: Any, places: Any, y: Any, sizes: tuple[int, int, int], operation: str, onto: bool
) -> None:
    """Combines the rows `x[o, j, :]` of each place into `y[o, place, :]`.

    Args:
        x: Contiguous array of `outer * n * inner` elements.
        places: uint32 array of shape `(n,)`.
        y: Contiguous array of `outer * length * inner` elements; places not named stay.
        sizes: `(outer, length, inner)`.
        operation: `"Sum"`, `"Prod"`, `"Max"`, `"Min"` or `"Last"`, as in `scatter.cu`.
        onto: Whether what stands in `y` comes first; else it is replaced.
    """
    (outer, length, inner), n = sizes, places.size
    if not x.size:
        return
    keys, order = sort_places(places, length)
    items = outer * ceil_div(n, TILE)
    partial = empty((items, 2, inner), accumulate_dtype(x.dtype), like=x)
    vector = vector_width(x, y)
    vector = vector if inner % vector == 0 else 1
    for kernel, width, types, source in (
        ("combine_runs", vector, (vector,), (keys, order, x, y, partial)),
        ("combine_tiles", 1, (), (keys, partial, y)),
    ):
        across = ceil_div(inner, width)
        block = row_block(across)
        grid = (ceil_div(across, block[0]), min(ceil_div(items, block[1]), _MAX_GRID_Y))
        args = (*source, n, outer, length, inner, onto)
        types = (cuda_type(x.dtype), operation, *types)
        launch("scatter.cu", kernel, types, grid=grid, block=block, args=args)


def zeros(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Returns zeros where `like` is: on a GPU a `memset`, which needs no kernel."""
    xp = np if isinstance(like, np.ndarray) else Device("cuda").xp
    return xp.zeros(shape, dtype)


# -- the rules ------------------------------------------------------------------------------------


def index_add_rule(x: Any, indices: Any, axis: int, length: int, *, atomic: bool = False) -> Any:
    """The `cuda` rule of `index_add`.

    Args:
        x: Array of shape `lead + indices.shape + rest`.
        indices: Integer array.
        axis: Number of axes in `lead`.
        length: Length of the axis in the result, which the indices name.
        atomic: Whether to add with atomic operations: faster where most rows go to places of
            their own, but the last bits differ from run to run. Floats only.
    """
    x, ids = contiguous(x), index_array(indices)
    rest = x.shape[axis + indices.ndim :]
    shape = (*x.shape[:axis], length, *rest)
    sizes = (math.prod(x.shape[:axis]), length, math.prod(rest))
    if not x.size:
        return zeros(shape, x.dtype, x)
    places = row_places([(ids, 1, 0)], (length,), ids.size)
    if atomic:
        return _add_atomically(x, places, shape, sizes)
    y = zeros(shape, x.dtype, x)
    combine(x, places, y, sizes, "Sum", onto=False)
    return y


def _add_atomically(x, places, shape, sizes):
    y = zeros(shape, accumulate_dtype(x.dtype), x)
    types, args = (cuda_type(x.dtype), BLOCK), (places, x, y, places.size, *sizes)
    launch("scatter.cu", "add_rows_atomic", types, grid=grid_for(x.size), block=BLOCK, args=args)
    return y.astype(x.dtype, copy=False)


def add_along_rule(x: Any, indices: Any, axis: int, length: int) -> Any:
    """The `cuda` rule of `add_along_axis`: every element is a row of its own."""
    x = contiguous(x)
    y = zeros((*x.shape[:axis], length, *x.shape[axis + 1 :]), x.dtype, x)
    if x.size:
        combine(x, along_places(indices, axis, length), y, (1, y.size, 1), "Sum", onto=False)
    return y


def scatter_item_rule(x: Any, *indices: Any, key: tuple, shape: tuple[int, ...]) -> Any:
    """The `cuda` rule of `scatter_item`."""
    y = zeros(shape, x.dtype, x)
    target, axes, lead = arranged(y, key)
    places, joint = joint_places(target, indices, axes)
    n = len(joint)
    order = [*range(lead, lead + n), *range(lead), *range(lead + n, x.ndim)]
    rows = contiguous(x.transpose(order))
    length, inner = math.prod(target.shape[:axes]), math.prod(target.shape[axes:])
    whole = target.flags.c_contiguous and target.size == y.size
    sums = y if whole else zeros(target.shape, x.dtype, x)
    combine(rows, places, sums, (1, length, inner), "Sum", onto=False)
    if not whole:
        target[...] = sums
    return y


_OPERATIONS = {None: "Last", "add": "Sum", "mul": "Prod", "max": "Max", "min": "Min"}


def scatter_update_rule(x: Any, indices: Any, updates: Any, reduction: str | None) -> Any:
    """The `cuda` rule of `scatter_update`."""
    k, updates = indices.shape[-1], contiguous(updates)
    y = x.copy(order="C")
    if updates.size:
        sizes = (1, math.prod(x.shape[:k]), math.prod(x.shape[k:]))
        places = tuple_places(indices, x.shape)
        combine(updates, places, y, sizes, _OPERATIONS[reduction], onto=reduction is not None)
    return y
