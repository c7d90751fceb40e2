"""Rows for convolutions: one for each rank, stride, dilation, padding and kind of groups.

A row is written once, as a convolution; the rows of the two gradients follow from it.
"""

from gpunet.ops.spatial import places
from tests.ops.case import case, normal


def settings(rank, strides=1, padding=(0, 0), dilation=1, groups=1):
    return {
        "strides": (strides,) * rank,
        "padding": (padding,) * rank,
        "dilation": (dilation,) * rank,
        "groups": groups,
    }


# Shapes of the inputs and of the kernel, and what `settings` takes.
ROWS = [
    ((2, 7, 3), (3, 3, 4), {}),
    ((2, 8, 3), (3, 3, 4), {"strides": 2, "padding": (1, 1)}),
    ((2, 8, 3), (3, 3, 4), {"dilation": 2, "padding": (4, 0)}),
    ((2, 6, 5, 3), (3, 2, 3, 4), {}),
    ((2, 6, 5, 3), (3, 3, 3, 4), {"padding": (1, 1)}),
    ((2, 7, 8, 3), (3, 3, 3, 8), {"strides": 2, "padding": (0, 1)}),
    ((1, 7, 8, 2), (2, 3, 2, 5), {"strides": 3, "dilation": 2, "padding": (1, 2)}),
    ((2, 5, 5, 3), (1, 1, 3, 4), {}),
    ((2, 5, 5, 3), (1, 1, 3, 4), {"strides": 2}),
    ((2, 5, 6, 2), (2, 2, 2, 3), {"strides": 3, "padding": (0, -1)}),
    ((2, 5, 5, 1), (3, 3, 1, 2), {}),
    ((2, 5, 5, 4), (3, 3, 2, 6), {"groups": 2, "padding": (1, 1)}),
    ((2, 5, 5, 4), (3, 3, 2, 6), {"groups": 2, "strides": 2}),
    ((2, 5, 5, 3), (3, 3, 1, 3), {"groups": 3, "padding": (1, 1)}),
    ((2, 6, 5, 3), (2, 3, 1, 6), {"groups": 3, "strides": 2, "padding": (1, 0)}),
    ((2, 6, 5, 3), (2, 2, 1, 9), {"groups": 3, "dilation": 2}),
    ((2, 4, 5, 4, 2), (2, 3, 2, 2, 3), {}),
    ((1, 5, 4, 5, 2), (2, 2, 3, 2, 3), {"strides": 2, "padding": (1, 1)}),
    ((0, 5, 5, 3), (3, 3, 3, 4), {}),
    ((0, 5, 5, 3), (3, 3, 1, 3), {"groups": 3}),
]


def rows():
    """For each row: shapes of the inputs, the kernel and the results, and the attributes."""
    for x, kernel, options in ROWS:
        attributes = settings(len(x) - 2, **options)
        around = [attributes[name] for name in ("strides", "padding", "dilation")]
        yield x, kernel, (x[0], *places(x[1:-1], kernel[:-2], *around), kernel[-1]), attributes


CASES = {
    "conv": [case(normal(*x), normal(*k), **a) for x, k, _, a in rows()],
    "conv_input_grad": [case(normal(*y), normal(*k), sizes=x[1:-1], **a) for x, k, y, a in rows()],
    "conv_kernel_grad": [case(normal(*x), normal(*y), window=k[:-2], **a) for x, k, y, a in rows()],
}
