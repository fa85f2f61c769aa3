"""Tests of quickdraw_tfrecords.bitmaps.quality, against numpy.unique."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.bitmaps import quality


def drawings(seed: int, count: int, distinct: int) -> np.ndarray:
    """Drawings of 4 pixels, uint8[count, 4], of which many are the same."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (distinct, 4), np.uint8)[random.integers(0, distinct, count)]


def first_by_numpy(images: np.ndarray) -> np.ndarray:
    _, first, group = np.unique(images, axis=0, return_index=True, return_inverse=True)
    return first[group.reshape(-1)]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 60), distinct=st.integers(1, 60))
def test_the_first_alike_is_numpys(seed, count, distinct):
    images = drawings(seed, count, distinct)
    found = quality.first_alike(quality.fingerprints(images), images.__getitem__)
    np.testing.assert_array_equal(found, first_by_numpy(images))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    distinct=st.integers(1, 60),
    hashes=st.integers(1, 5),
    pairs=st.integers(1, 9),
)
def test_collisions_are_not_taken_for_twins(seed, distinct, hashes, pairs):
    images = drawings(seed, 60, distinct)
    prints = images.sum(axis=1, dtype=np.uint64) % np.uint64(hashes)
    asked = []

    def read(indices: np.ndarray) -> np.ndarray:
        asked.append(indices)
        return images[indices]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "_PAIRS", pairs)
        found = quality.first_alike(prints, read)
    np.testing.assert_array_equal(found, first_by_numpy(images))
    assert all(len(indices) <= 2 * pairs and (np.diff(indices) > 0).all() for indices in asked)


def test_nothing_is_read_where_no_two_are_alike():
    images = np.arange(400, dtype=np.uint16).view(np.uint8).reshape(100, 8)
    found = quality.first_alike(quality.fingerprints(images), pytest.fail)
    np.testing.assert_array_equal(found, np.arange(100))


@pytest.mark.parametrize("pixels", [1, 9, 784])
def test_a_fingerprint_depends_on_every_pixel_and_on_nothing_else(pixels):
    images = np.tile(np.arange(pixels, dtype=np.uint8), (pixels + 1, 1))
    images[np.arange(pixels), np.arange(pixels)] ^= 1
    prints = quality.fingerprints(images)
    assert len(np.unique(prints)) == pixels + 1
    inside_records = np.pad(images, ((0, 0), (3, 5)), constant_values=7)[:, 3 : 3 + pixels]
    np.testing.assert_array_equal(quality.fingerprints(inside_records), prints)


def test_ink_is_the_mean_pixel():
    images = np.random.default_rng(0).integers(0, 256, (50, 784), np.uint8)
    images[0], images[1] = 0, 255
    np.testing.assert_allclose(quality.ink(images), images.mean(axis=1) / 255)


@pytest.mark.parametrize(
    ("share", "kind"),
    [
        (0, "blank"),
        (1 / 255 / 784, "nearly_blank"),  # one pixel of the faintest ink
        (0.0199, "nearly_blank"),
        (0.02, None),
        (0.5, None),
        (0.501, "overfull"),
        (1, "overfull"),
    ],
)
def test_ink_decides_the_kind(share, kind):
    found = [name for name, mask in quality.by_ink(np.array([share])).items() if mask[0]]
    assert found == ([kind] if kind else [])
