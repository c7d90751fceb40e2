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
    ((2, 5, 5, 8), (3, 3, 1, 8), {"groups": 8, "padding": (1, 1)}),  # rows of 16-byte pieces
    ((1, 33, 33), (3, 1, 33), {"groups": 33, "padding": (2, -1)}),  # rows longer than a block
    ((2, 9, 4), (3, 2, 4), {"groups": 2, "strides": 2, "dilation": 2, "padding": (2, 2)}),
    ((1, 4, 3, 5, 16), (2, 2, 3, 1, 16), {"groups": 16, "strides": 2, "padding": (1, 0)}),
    ((1, 1, 1, 2), (1, 1, 1, 2), {"groups": 2}),
    ((2, 4, 5, 4, 2), (2, 3, 2, 2, 3), {}),
    ((1, 5, 4, 5, 2), (2, 2, 3, 2, 3), {"strides": 2, "padding": (1, 1)}),
    # What the kernels divide into tiles of 64, and copy 16 bytes at a time or one element.
    ((2, 7, 8, 16), (3, 3, 16, 72), {"padding": (1, 1)}),
    ((2, 9, 7, 40), (3, 2, 40, 8), {"strides": 2, "padding": (1, 1)}),
    ((1, 5, 4, 33), (2, 2, 33, 65), {"padding": (0, 1)}),
    ((2, 6, 5, 12), (3, 3, 12, 4), {"dilation": 2, "padding": (2, 1)}),
    ((1, 67, 31), (4, 31, 32), {"strides": 3}),
    # Strides and dilation with a common divisor; a phase of the gradient that no tap hits.
    ((1, 11, 9, 2), (3, 2, 2, 3), {"strides": 4, "dilation": 2, "padding": (1, 0)}),
    ((1, 4, 7, 6, 8), (2, 3, 2, 8, 8), {"strides": 2, "padding": (1, 0)}),
    # So many places that the gradient by the kernel sums them in slices.
    ((2, 17, 17, 8), (3, 3, 8, 8), {"padding": (1, 1)}),
    ((1, 1025, 1), (3, 1, 2), {}),
    # What C++ kernels do in the domain of Winograd, with tiles that overhang; and on two threads.
    ((2, 9, 10, 16), (3, 3, 16, 16), {"padding": (1, 1)}),
    ((1, 16, 15, 16), (3, 3, 16, 48), {"padding": (0, 1)}),
    ((4, 12, 12, 16), (3, 3, 16, 32), {"strides": 2, "padding": (0, 1)}),
    ((2, 14, 14, 20), (3, 3, 1, 40), {"groups": 20, "padding": (1, 1)}),
    ((2, 12, 11, 24), (3, 3, 8, 48), {"groups": 3, "padding": (1, 0)}),
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
