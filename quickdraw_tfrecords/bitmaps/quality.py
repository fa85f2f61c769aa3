"""What may be wrong with a drawing: too little ink, too much, or the same as another.

    >>> images = np.zeros((3, 784), np.uint8)
    >>> images[[0, 2], 150:250] = 255                       # a bar on 100 of 784 pixels, twice
    >>> faults = by_ink(ink(images))
    >>> faults["blank"]
    array([False,  True, False])
    >>> first_alike(fingerprints(images), images.__getitem__)   # drawing 2 is the same as 0
    array([0, 1, 0])

Ink is a drawing's mean pixel / 255: the fraction of the page that is covered. In Google's
bitmaps (28 pixels a side) one straight line across the page is 4.6 % and a dot 0.2 %.
"""

from collections.abc import Callable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

NEARLY_BLANK, OVERFULL = 0.02, 0.5

# The kinds of fault, as both the audit and the converter's --drop name them.
MEANINGS = {
    "blank": "no ink at all",
    "nearly_blank": f"ink on less than {NEARLY_BLANK:.0%} of the page",
    "overfull": f"ink on more than {OVERFULL:.0%} of the page",
    "duplicates": "every pixel the same as in an earlier drawing of the class",
}

_HASH_BYTES = 8
_PAIRS = 1 << 14  # compared at once: 50 MB of drawings of 28 pixels a side


def ink(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The fraction of the page that is covered, float64[n], of uint8[n, pixels]."""
    fractions: NDArray[np.float64] = images.sum(axis=1, dtype=np.uint32) / (255 * images.shape[1])
    return fractions


def by_ink(fractions: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Which drawings have too little or too much ink; bool[n] by kind, at most one of each.

    Args:
      fractions: float64[n], as from `ink`.
    """
    blank = fractions == 0
    return {
        "blank": blank,
        "nearly_blank": ~blank & (fractions < NEARLY_BLANK),
        "overfull": fractions > OVERFULL,
    }


def fingerprints(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A hash of each drawing, uint64[n], of uint8[n, pixels]."""
    hashes = b"".join(blake2b(image, digest_size=_HASH_BYTES).digest() for image in images)
    return np.frombuffer(hashes, np.uint64)


def first_alike(
    prints: NDArray[np.uint64], read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
) -> NDArray[np.int64]:
    """Finds drawings that are the same, pixel for pixel.

    Drawings with the same fingerprint are compared, so a collision is not taken for a twin.
    Each round compares every group with its first drawing, its head. Say drawings 0 to 4 all
    have one fingerprint, and are really A B A B C:

        round 1: head 0 (A)   1 differs, 2 is the same, 3 and 4 differ   ->  first[2] = 0
        round 2: head 1 (B)   3 is the same, 4 differs                   ->  first[3] = 1
        round 3: head 4 (C)   no one is left to compare with it

    Args:
      prints: uint64[n], their fingerprints.
      read: Returns the drawings of int64[m], ascending and each once, as uint8[m, ...].

    Returns:
      int64[n], for each drawing the first that is the same: itself, if none before it is.
    """
    first = np.arange(len(prints))
    pending = np.argsort(prints, kind="stable")  # by fingerprint, and within one in order
    while len(pending):
        values = prints[pending]
        # Where one fingerprint ends and the next begins; there each group has its head.
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        heads = np.repeat(pending[starts], np.diff(np.r_[starts, len(pending)]))
        followers = heads != pending
        heads, pending = heads[followers], pending[followers]
        same = _are_same(heads, pending, read)
        first[pending[same]] = heads[same]
        pending = pending[~same]  # collisions, which may have twins of their own among them
    return first


def _are_same(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
) -> NDArray[np.bool_]:
    """Which pairs of drawings are the same, bool[n]; reads a bounded number at a time."""
    same = np.empty(len(left), bool)
    for start in range(0, len(left), _PAIRS):
        pairs = np.stack([left[start : start + _PAIRS], right[start : start + _PAIRS]])
        needed, places = np.unique(pairs, return_inverse=True)
        images = read(needed).reshape(len(needed), -1)
        a, b = places.reshape(pairs.shape)
        same[start : start + _PAIRS] = (images[a] == images[b]).all(axis=1)
    return same
