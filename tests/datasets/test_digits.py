"""The digits are those of the UCI repository, and the split is fair and always the same."""

import hashlib

import numpy as np
import pytest

from gpunet.datasets import digits
from gpunet.errors import ArgumentError


def joined(split):
    """All images with their labels as sorted rows: equal for equal sets in any order."""
    (x_train, y_train), (x_test, y_test) = split
    images = np.concatenate([x_train, x_test]).reshape(-1, 64)
    labels = np.concatenate([y_train, y_test])
    rows = np.column_stack([images, labels])
    return rows[np.lexsort(rows.T)]


def test_shapes_dtypes_and_ranges():
    for x, y in digits.load_data():
        assert x.shape == (len(y), 8, 8)
        assert x.dtype == y.dtype == np.uint8
        assert (x.min(), x.max(), y.min(), y.max()) == (0, 16, 0, 9)


def test_images_and_labels_equal_scikit_learns():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    rows = np.column_stack([theirs.data, theirs.target]).astype(np.uint8)
    np.testing.assert_array_equal(joined(digits.load_data()), rows[np.lexsort(rows.T)])


def test_the_default_split_is_the_same_everywhere():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert (len(y_train), len(y_test)) == (1437, 360)
    parts = b"".join(part.tobytes() for part in (x_train, y_train, x_test, y_test))
    assert hashlib.sha256(parts).hexdigest()[:16] == "fdb54c66268e8be2"


@pytest.mark.parametrize("test_size", [0.01, 0.2, 0.5, 0.77])
def test_every_class_gives_its_share(test_size):
    (_, y_train), (_, y_test) = digits.load_data(test_size)
    assert len(y_test) == np.ceil(test_size * 1797)
    members = np.bincount(np.concatenate([y_train, y_test]))
    assert np.abs(np.bincount(y_test, minlength=10) - test_size * members).max() <= 1


@pytest.mark.parametrize("test_size", [0.0005, 0.2, 0.9999])
def test_every_image_is_in_exactly_one_part(test_size):
    np.testing.assert_array_equal(joined(digits.load_data(test_size)), joined(digits.load_data()))


def test_seeds_draw_different_splits():
    first, second = (digits.load_data(seed=seed)[1][0] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_callers_cannot_change_what_others_load():
    (x, _), _ = digits.load_data()
    x[:] = 99
    assert digits.load_data()[0][0].max() == 16


@pytest.mark.parametrize("test_size", [0, 1, -0.1, 1.5, float("nan"), True, "0.2", None])
def test_bad_test_size_is_refused(test_size):
    with pytest.raises(ArgumentError, match=r"`test_size` must be .* Received: test_size="):
        digits.load_data(test_size)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
def test_bad_seed_is_refused(seed):
    with pytest.raises(ArgumentError, match=r"`seed` must be .* Received: seed="):
        digits.load_data(seed=seed)
