"""What may be wrong with a drawing: too little ink, too much, or the same as another.

    faults = quality.by_ink(images)             # {"blank": bool[n], ...}
    prints = quality.fingerprints(images)       # uint64[n]
    first = quality.first_alike(prints, read)   # int64[n]; first[5] == 2: 5 is the same as 2

Ink is a drawing's mean pixel / 255: the share of the page that is covered. In Google's
bitmaps (28 pixels a side) one straight line across the page is 4.6 % and a dot 0.2 %.
"""

from collections.abc import Callable
from hashlib import blake2b

import numpy as np

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


def ink(images: np.ndarray) -> np.ndarray:
    """The share of the page that is covered, float64[n], of uint8[n, pixels]."""
    return images.sum(axis=1, dtype=np.uint32) / (255 * images.shape[1])


def by_ink(shares: np.ndarray) -> dict[str, np.ndarray]:
    """Which drawings have too little or too much ink; bool[n] by kind, at most one of each.

    Args:
      shares: float[n], as from `ink`.
    """
    blank = shares == 0
    return {
        "blank": blank,
        "nearly_blank": ~blank & (shares < NEARLY_BLANK),
        "overfull": shares > OVERFULL,
    }


def fingerprints(images: np.ndarray) -> np.ndarray:
    """A hash of each drawing, uint64[n], of uint8[n, pixels]."""
    hashes = b"".join(blake2b(image, digest_size=_HASH_BYTES).digest() for image in images)
    return np.frombuffer(hashes, np.uint64)


def first_alike(prints: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Finds drawings that are the same, pixel for pixel.

    Drawings of one fingerprint are compared, so that a collision is not taken for a twin.

    Args:
      prints: uint64[n], their fingerprints.
      read: Gives the drawings of int64[m], ascending and each once, as uint8[m, ...].

    Returns:
      int64[n], for each drawing the first that is the same: itself, if none before it is.
    """
    first = np.arange(len(prints))
    pending = np.argsort(prints, kind="stable")
    while len(pending):
        values = prints[pending]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        heads = np.repeat(pending[starts], np.diff(np.r_[starts, len(pending)]))
        followers = heads != pending
        heads, pending = heads[followers], pending[followers]
        same = _same(heads, pending, read)
        first[pending[same]] = heads[same]
        pending = pending[~same]  # collisions, whose own twins may be among them
    return first


def _same(
    left: np.ndarray, right: np.ndarray, read: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Which pairs of drawings are the same, bool[n]; a bounded number is read at a time."""
    same = np.empty(len(left), bool)
    for start in range(0, len(left), _PAIRS):
        pairs = np.stack([left[start : start + _PAIRS], right[start : start + _PAIRS]])
        needed, places = np.unique(pairs, return_inverse=True)
        images = read(needed).reshape(len(needed), -1)
        a, b = places.reshape(pairs.shape)
        same[start : start + _PAIRS] = (images[a] == images[b]).all(axis=1)
    return same
