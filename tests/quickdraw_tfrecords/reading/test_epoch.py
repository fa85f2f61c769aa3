"""The order of an epoch in memory: a permutation, known piece by piece."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quickdraw_tfrecords.reading import epoch as epochs
from quickdraw_tfrecords.reading.epoch import EpochOrder, LazyPermutation


def permutation(n: int, *, seed: int = 0, epoch: int = 0) -> LazyPermutation:
    return LazyPermutation(n, EpochOrder(0, n, seed, epoch))


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(epochs, "_BUCKET_DRAWINGS", 16)


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(0, 2**32), st.data())
def test_any_piece_is_that_of_the_whole(n, seed, data):
    whole = permutation(n, seed=seed)[0:n]
    np.testing.assert_array_equal(np.sort(whole), np.arange(n))
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    np.testing.assert_array_equal(permutation(n, seed=seed)[start:stop], whole[start:stop])


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [permutation(500, seed=s, epoch=e)[0:500] for s in (0, 1) for e in (0, 1)]
    for index, order in enumerate(orders):
        assert not any(np.array_equal(order, other) for other in orders[:index])


def test_every_place_is_equally_likely():
    """Where each of 128 numbers comes, in 8 buckets, over 4,000 epochs."""
    counts = np.zeros((128, 128), int)
    for epoch in range(4000):
        counts[permutation(128, epoch=epoch)[0:128], np.arange(128)] += 1
    # Rows and columns of the table sum up to 4,000 each.
    chi_square = (np.square(counts - 4000 / 128) / (4000 / 128)).sum()
    assert 0.001 < stats.chi2.sf(chi_square, 127**2) < 0.999


def test_neighbors_are_independent():
    """What follows a number is no more often its successor than chance has it."""
    pairs = [np.diff(permutation(128, epoch=epoch)[0:128]) for epoch in range(4000)]
    expected = 4000 * 127 * 127 / (128 * 127)
    assert abs((np.concatenate(pairs) == 1).sum() - expected) < 5 * np.sqrt(expected)
