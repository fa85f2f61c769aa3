"""Which split, which shard, and which place in it each drawing gets.

The drawings of a class, in a random order, are dealt to the splits, then to the shards of each
split in turn, as cards are; the next class goes on at the shard where the one before it ended. So
every split has its exact part of each class, and its shards hold the same number of every
class, and of drawings, to within one. The order within a shard is a random permutation.

All of it is a pure function of the counts and the seed, and is worked out anew where it is needed,
for one class or one shard at a time: so it takes no memory that grows with the data set.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.writing.planning import generator

# Of the shards of all splits. The small splits come first, so that they are written first.
_ORDER = ("validation", "test", "train")


@dataclasses.dataclass(frozen=True)
class Deal:
    """How drawings are dealt to shards, which are numbered through all splits.

    Attributes:
      class_names: The classes in label order.
      drawings: For each split how many drawings of each class, as from `split_counts`.
      shards: How many shards each split has.
      seed: Decides who goes where.
    """

    class_names: tuple[str, ...]
    drawings: Mapping[str, list[int]]
    shards: Mapping[str, int]
    seed: int

    @property
    def num_shards(self) -> int:
        """How many shards there are, of all splits."""
        return sum(self.shards.values())

    def of_class(self, label: int) -> NDArray[np.int32]:
        """The shard of each drawing of a class that is taken, int32[n]."""
        sizes = [self.drawings[split][label] for split in _ORDER]
        order = generator(self.seed, f"deal {self.class_names[label]}").permutation(sum(sizes))
        numbers = np.empty(len(order), np.int32)
        for split, members in zip(_ORDER, np.split(order, np.cumsum(sizes)[:-1]), strict=True):
            dealt = np.arange(len(members)) + sum(self.drawings[split][:label])
            numbers[members] = self._first(split) + dealt % self.shards[split]
        return numbers

    def before(self, label: int) -> NDArray[np.int64]:
        """How many drawings of the classes before this one each shard has, int64[shards]."""
        dealt = {split: sum(self.drawings[split][:label]) for split in _ORDER}
        return np.concatenate(
            [_dealt_to(np.arange(self.shards[k]), n, self.shards[k]) for k, n in dealt.items()]
        )

    def class_counts(self, shard: int) -> NDArray[np.int64]:
        """How many drawings of each class a shard has, int64[classes]."""
        split, index = self.find(shard)
        ends = np.cumsum([0, *self.drawings[split]])
        return np.diff(_dealt_to(index, ends, self.shards[split]))

    def order(self, shard: int) -> NDArray[np.int64]:
        """The order of a shard's drawings, of those that stand class after class, int64[n]."""
        split, index = self.find(shard)
        size = int(self.class_counts(shard).sum())
        return generator(self.seed, f"order {split} {index}").permutation(size)

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        split, index = self.find(shard)
        return shards.shard_name(split, index, self.shards[split])

    def find(self, shard: int) -> tuple[str, int]:
        """The split of a shard, and its place in it."""
        split = next(split for split in reversed(_ORDER) if self._first(split) <= shard)
        return split, shard - self._first(split)

    def _first(self, split: str) -> int:
        return sum(self.shards[before] for before in _ORDER[: _ORDER.index(split)])


def _dealt_to(shard: ArrayLike, dealt: ArrayLike, shards: int) -> NDArray[np.int64]:
    """Of so many drawings, how many are dealt to a shard, of so many shards; for arrays, too."""
    counts: NDArray[np.int64] = (np.asarray(dealt) - np.asarray(shard) + shards - 1) // shards
    return counts
