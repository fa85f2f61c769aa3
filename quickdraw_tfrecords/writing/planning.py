"""What a data set is made of: how many drawings of each class, which, and in how many shards.

Everything is decided before a byte is written, from the class names, the counts and the
seed alone. So it does not depend on the number of workers, and a conversion can be resumed.
"""

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import UsageError

SPLITS = ("train", "validation", "test")
MAX_SHARDS = 99_999  # of a split; a shard's name has five digits for each number
VERSION = 2  # of what a seed means: to be raised when the same seed gives another data set

_RUN = 16  # rows that are taken together: four pages of a file of bitmaps


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which drawings are taken; worked out class by class, since there may be 50 million.

    Attributes:
      class_names: The classes in label order.
      counts: How many drawings there are of each class.
      takes: How many are taken of each.
      seed: Decides which.
      folder: Where `<label>.npy` holds the rows of each class, if they were chosen otherwise.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    takes: tuple[int, ...]
    seed: int
    folder: Path | None = None

    def rows(self, label: int) -> NDArray[np.int64]:
        """The rows of a class that are taken, int64[takes[label]], ascending."""
        if self.folder:
            rows: NDArray[np.int64] = np.load(self.folder / f"{label}.npy").astype(np.int64)
            return rows
        name, count, wanted = self.class_names[label], self.counts[label], self.takes[label]
        return draw(name, count, wanted, seed=self.seed)


def how_many(
    class_names: Sequence[str],
    counts: Sequence[int],
    *,
    per_class: int | None,
    allow_fewer: bool,
    what: str = "drawings",
) -> list[int]:
    """How many drawings to take of each class; all, if `per_class` is None.

    Args:
      class_names: The classes in label order.
      counts: How many drawings there are of each.
      per_class: How many are wanted of each.
      allow_fewer: Take all of a class that has fewer.
      what: What the counts are of, for the error.

    Raises:
      UsageError: A class is empty, or has fewer than `per_class` and that is not allowed.
    """
    least, smallest = min(zip(counts, class_names, strict=True), key=lambda pair: pair[0])
    if least == 0:
        raise UsageError(f"class {smallest!r} has no {what}; leave it out with --classes")
    if per_class and least < per_class and not allow_fewer:
        short = sum(count < per_class for count in counts)
        raise UsageError(
            f"--per_class={per_class} is more than {short:,} of {len(counts):,} classes have; the "
            f"smallest, {smallest!r}, has {least:,} {what}: ask for fewer or pass --allow_fewer"
        )
    return [min(per_class or count, count) for count in counts]


def draw(name: str, count: int, wanted: int, *, seed: int) -> NDArray[np.int64]:
    """Draws rows of a class without replacement; every row is as likely to be drawn.

    They are drawn in runs of 16 neighbors, since a disk reads a page of 5 rows no slower than
    one row. What is drawn of a class depends on its name, not on the other classes.

    Args:
      name: The class.
      count: How many drawings there are of it.
      wanted: How many to draw.
      seed: Decides which.

    Returns:
      int64[wanted], ascending.
    """
    rng = generator(seed, f"take {name}")
    # The rows are a ring that begins anywhere, so that none is more often at the end of a run.
    start = rng.integers(count)
    runs = rng.permutation(-(-count // _RUN))[: wanted // _RUN + 2]  # one may be shorter
    rows = (runs[:, None] * _RUN + np.arange(_RUN)).reshape(-1)
    drawn: NDArray[np.int64] = np.sort((rows[rows < count][:wanted] + start) % count)
    return drawn


def drawing_order(name: str, count: int, wanted: int, *, seed: int) -> NDArray[np.int64]:
    """All rows of a class, int64[count]: those that `draw` draws, then their replacements.

    Args:
      name: The class.
      count: How many drawings there are of it.
      wanted: How many are to be taken.
      seed: Decides the order.
    """
    taken = draw(name, count, wanted, seed=seed)
    # Taken rows stay ascending, so that without faults nothing changes.
    others = np.delete(np.arange(count), taken)
    return np.append(taken, generator(seed, f"replace {name}").permutation(others))


def split_counts(
    class_names: Sequence[str],
    takes: Sequence[int],
    *,
    test_fraction: float,
    validation_fraction: float,
) -> dict[str, list[int]]:
    """How many drawings of each class go to each split.

    Test is a fraction of all, validation of the others, and train what remains: 6450 at 0.2
    and 0.1 give the study's 4644 / 516 / 1290.

    Raises:
      UsageError: A split would be left without a class; names the first that is too small.
    """
    counts: dict[str, list[int]] = {split: [] for split in SPLITS}
    for name, take in zip(class_names, takes, strict=True):
        test = round(take * test_fraction)
        validation = round((take - test) * validation_fraction)
        parts = {"train": take - test - validation, "validation": validation, "test": test}
        for split, count in parts.items():
            if count < 1:
                raise UsageError(
                    f"the {split} split would be left without class {name!r}, of which there are "
                    f"{take}: take more drawings of each class (--per_class), leave it out "
                    "(--classes), or change --test_fraction and --validation_fraction"
                )
            counts[split].append(count)
    return counts


def shard_counts(
    sizes: Mapping[str, int], *, stride: int, shards: int | None, shard_mib: float
) -> dict[str, int]:
    """How many shards each split gets, all of about the same size.

    Args:
      sizes: Number of drawings of each split.
      stride: Bytes of a record.
      shards: Number of shards of the training split; None: by size.
      shard_mib: Size of a shard in MiB where `shards` is None.

    Raises:
      UsageError: More training shards than drawings to put in, or more than a name can count.
    """
    if shards is not None and shards > sizes["train"]:
        raise UsageError(f"--shards={shards} is more than the {sizes['train']} training drawings")
    per_shard = sizes["train"] / shards if shards else max(1, shard_mib * 2**20 / stride)
    counts = {
        split: shards if shards and split == "train" else max(1, math.ceil(size / per_shard))
        for split, size in sizes.items()
    }
    if max(counts.values()) > MAX_SHARDS:
        raise UsageError(
            f"a split would have {max(counts.values()):,} shards, and a shard's name has room for "
            f"{MAX_SHARDS:,}; ask for a larger --shard_mib or fewer --shards"
        )
    return counts


def generator(seed: int, purpose: str) -> np.random.Generator:
    """An independent random stream for each purpose."""
    # Not hash(), which differs from process to process.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])
