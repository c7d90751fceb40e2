"""Rows for pooling; as for convolutions, the rows of the gradients follow from those forwards."""

import numpy as np

from gpunet.core.primitive import REGISTRY
from gpunet.ops.spatial import places
from tests.ops.case import array, case, distinct, normal

NONE, SAME = (0, 0), (1, 1)

# Shape of the inputs, window, strides, padding of each spatial axis.
ROWS = [
    ((2, 7, 3), (2,), (2,), (NONE,)),
    ((2, 7, 3), (3,), (1,), (SAME,)),
    ((2, 6, 4, 3), (2, 2), (2, 2), (NONE, NONE)),
    ((2, 6, 5, 3), (3, 2), (2, 1), (NONE, NONE)),
    ((2, 5, 6, 3), (3, 3), (2, 2), (SAME, (0, 1))),
    ((2, 5, 6, 3), (2, 2), (3, 3), (NONE, NONE)),
    ((2, 5, 6, 3), (1, 1), (1, 1), (NONE, NONE)),
    ((2, 5, 6, 3), (1, 1), (2, 2), (NONE, NONE)),
    ((1, 4, 4, 2), (4, 4), (4, 4), (NONE, NONE)),
    ((2, 4, 5, 4, 2), (2, 3, 2), (2, 2, 1), (NONE, SAME, (0, 1))),
    ((0, 4, 4, 2), (2, 2), (2, 2), (NONE, NONE)),
    ((2, 5, 6, 8), (3, 3), (2, 2), (SAME, (0, 1))),  # rows of whole 16-byte pieces, in every dtype
    ((1, 7, 16), (3,), (2,), (SAME,)),
    ((1, 33, 33), (2,), (2,), ((0, 1),)),  # more elements in a row than threads in a block
    ((1, 17, 16, 1), (16, 16), (1, 1), (NONE, NONE)),  # more taps than a byte can name
    ((1, 1, 1), (1,), (1,), (NONE,)),
    ((4, 16, 16, 40), (2, 2), (2, 2), (NONE, NONE)),  # what C++ kernels divide between threads
    ((4, 16, 16, 40), (3, 3), (2, 2), (SAME, (0, 1))),
]


def rows():
    """For each row: shapes of the inputs and results, window, strides and padding."""
    for x, window, strides, padding in ROWS:
        counts = places(x[1:-1], window, strides, padding, (1,) * len(window))
        attributes = {"window": window, "strides": strides, "padding": padding}
        yield x, (x[0], *counts, x[-1]), attributes


def maxima(x, attributes, distinct=None):
    """Recipes of inputs, and of the results that belong to them; few distinct numbers make ties."""
    values = np.random.default_rng(0).permutation(int(np.prod(x))).reshape(x) * 0.125
    values = values % distinct if distinct else values
    largest = REGISTRY["max_pool"].rules["array"](np, values, **attributes)
    return array(values), array(largest)


TIES = [(x, y, a) for x, y, a in rows() if x in [(2, 6, 5, 3), (2, 5, 6, 8)]]

# NaN is the largest wherever it is in a window; with channels for a vector and some more.
WITH_NAN = np.where(np.arange(80).reshape(4, 20) % 7 == 3, np.nan, 0.5).reshape(1, 4, 20)

# The gradients of the two ops in the middle are checked through those of max_pool, to second order:
# moving their `x` without its `y` would leave no largest element.
CASES = {
    "max_pool": [
        *[case(distinct(*x), **a) for x, _, a in rows()],
        case(
            array(WITH_NAN),
            window=(2,),
            strides=(2,),
            padding=(NONE,),
            _grad=False,
            _dtypes=("float32",),
        ),
    ],
    "max_pool_grad": [
        *[case(normal(*y), *maxima(x, a), **a, _grad=False) for x, y, a in rows()],
        *[case(normal(*y), *maxima(x, a, distinct=0.5), **a, _grad=False) for x, y, a in TIES],
    ],
    "max_pool_take": [
        *[case(normal(*x), *maxima(x, a), **a, _grad=False) for x, y, a in rows()],
        *[case(normal(*x), *maxima(x, a, distinct=0.5), **a, _grad=False) for x, y, a in TIES],
    ],
    "average_pool": [case(normal(*x), **a) for x, _, a in rows()],
    "average_pool_grad": [case(normal(*y), sizes=x[1:-1], **a) for x, y, a in rows()],
}
