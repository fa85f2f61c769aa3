"""What is wrong with the drawings of a data set, and which of them are the same."""

import dataclasses
import functools

import numpy as np

from quickdraw_tfrecords.audit.catalogue import Catalogue
from quickdraw_tfrecords.bitmaps import quality

# In the order in which they are shown. Each is of a drawing.
MEANINGS = {
    **quality.MEANINGS,
    "ambiguous": "every pixel the same as in a drawing of another class",
    "leaked": "in validation or test, and the same in an earlier split and the same class",
}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an audit found.

    Attributes:
      masks: For each of `MEANINGS` the drawings that it is true of, bool[n].
      seen: For each split after the first, and each split before it and all of these, how
        many of its drawings are there too: in the same class, and in another.
      twins: All drawings that are the same as another.
    """

    masks: dict[str, np.ndarray]
    seen: dict[tuple[str, str], tuple[int, int]]
    twins: "Twins"


@dataclasses.dataclass(frozen=True)
class Twins:
    """Drawings that are the same, pixel for pixel, as another.

    Attributes:
      members: int64[m], their indices, ascending.
      groups: int64[m], a number for each set of drawings that are all the same.
      pairs: int64[m], a number for each group and class.
    """

    members: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray

    @classmethod
    def find(cls, catalogue: Catalogue) -> "Twins":
        """Compares all drawings that may be the same."""
        first = quality.first_alike(catalogue.prints, catalogue.images)
        members = np.flatnonzero(np.bincount(first, minlength=len(first))[first] > 1)
        groups = _numbered(first[members])
        classes = len(catalogue.manifest.class_names)
        return cls(members, groups, _numbered(groups * classes + catalogue.labels[members]))

    def among(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which members are the same as a drawing in `mask`, bool[n].

        Returns:
          bool[m] for those of the same class (they themselves, if in the mask), and bool[m]
          for those of another class.
        """
        # Members of the mask in each group, and in each group and class: a twin in the group that
        # is not in the class is of another class.
        inside = mask[self.members]
        of_group = np.bincount(self.groups[inside], minlength=len(self.members))[self.groups]
        of_pair = np.bincount(self.pairs[inside], minlength=len(self.members))[self.pairs]
        return of_pair > 0, of_group > of_pair

    @functools.cached_property
    def repeated(self) -> np.ndarray:
        """Which members have a twin of the same class before them, bool[m]."""
        repeated = np.ones(len(self.members), bool)
        repeated[np.unique(self.pairs, return_index=True)[1]] = False
        return repeated


def find(catalogue: Catalogue) -> Findings:
    """Looks at every drawing.

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    n, twins = len(catalogue), Twins.find(catalogue)
    masks = quality.by_ink(catalogue.ink)
    masks["duplicates"] = _mask(n, twins.members[twins.repeated])
    masks["ambiguous"] = _mask(n, twins.members[twins.among(np.ones(n, bool))[1]])
    masks["leaked"], seen = np.zeros(n, bool), {}
    names = tuple(catalogue.manifest.splits)
    # Leaked is what a later split shares with an earlier one: the other way round it would count
    # twice.
    for later in range(1, len(names)):
        is_later = catalogue.splits[twins.members] == later
        for earlier in _earlier(later):
            same, other = twins.among(np.isin(catalogue.splits, earlier))
            counts = int((is_later & same).sum()), int((is_later & other).sum())
            seen[names[later], " or ".join(names[split] for split in earlier)] = counts
        masks["leaked"][twins.members[is_later & same]] = True
    return Findings(masks, seen, twins)


def _earlier(split: int) -> list[list[int]]:
    """Each split before, and all of them if they are several."""
    before = list(range(split))
    return [[earlier] for earlier in before] + ([before] if split > 1 else [])


def _numbered(values: np.ndarray) -> np.ndarray:
    """Numbers from 0 for the distinct values, in their order; int64[m]."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _mask(n: int, indices: np.ndarray) -> np.ndarray:
    mask = np.zeros(n, bool)
    mask[indices] = True
    return mask
