"""1,797 handwritten digits of 8x8 pixels: real data, 46 KB, shipped with gpunet.

The data are the test part (`optdigits.tes`) of *Optical Recognition of Handwritten Digits* by
E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, under the licence CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/). Thirteen people filled in a form; their bitmaps
of 32x32 pixels were divided into blocks of 4x4, and each block became the count of its black
pixels. Nothing was changed here but the storage, one byte a value. scikit-learn's `load_digits`
gives the same images in the same order.
"""

import math
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from gpunet.errors import ArgumentError, received

_FILE = Path(__file__).with_name("digits.npz")

_Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def load_data(test_size: float = 0.2, seed: int = 0) -> _Split:
    """Loads the digits, split into a training and a test part.

    The split is drawn at random, class by class, and is the same on every machine and with every
    version of NumPy. Both parts contain every writer, so this measures how well a model knows
    these thirteen hands; for unknown hands expect a few per cent less.

    Args:
        test_size: Share of the images to hold out, between 0 and 1. The default makes 1,437
            training and 360 test images.
        seed: Which of the possible splits to draw, an integer of 0 or more.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `(N, 8, 8)` uint8 with values 0..16 (white
        to black), labels `(N,)` uint8 with values 0..9. New arrays at every call.

    Raises:
        ArgumentError: If `test_size` or `seed` is out of range.

    Example:
        >>> from gpunet.datasets import digits
        >>> (x_train, y_train), (x_test, y_test) = digits.load_data()
        >>> x_train.shape, x_test.shape
        ((1437, 8, 8), (360, 8, 8))
    """
    if isinstance(test_size, bool) or not isinstance(test_size, Real) or not 0 < test_size < 1:
        raise ArgumentError(
            f"`test_size` must be a number between 0 and 1, the share of images to hold out. "
            f"{received(test_size=test_size)}"
        )
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ArgumentError(f"`seed` must be an integer of 0 or more. {received(seed=seed)}")
    with np.load(_FILE, allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    test, train = _stratified_split(y, math.ceil(test_size * len(y)), int(seed))
    return (x[train], y[train]), (x[test], y[test])


def _stratified_split(y: np.ndarray, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of the test and of the training part, both shuffled.

    Raw bits are sorted because NumPy promises their values for ever, but not those of `shuffle`.
    """
    order = np.argsort(np.random.PCG64(seed).random_raw(len(y)), kind="stable")
    # The k-th of the n shuffled members of a class stands at (k + 1/2) / n. Cutting the line of
    # all members by that place takes the same share of each class, to within one image.
    place = np.empty(len(y))
    for label in np.unique(y):
        members = order[y[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    in_test = np.zeros(len(y), dtype=bool)
    in_test[order[np.argsort(place[order], kind="stable")[:n_test]]] = True
    return order[in_test[order]], order[~in_test[order]]
