"""The plan of a data set: which drawings are taken, into which split, and into which shard.

Everything is decided before a byte is written, from the class names, the counts and the
seed alone. So it does not depend on the number of workers, and a conversion can be resumed.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from quickdraw_tfrecords.base.errors import UsageError

SPLITS = ("train", "validation", "test")
MAX_SHARDS = 99_999  # of a split; a shard's name has five digits for each number


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One shard to be written.

    Attributes:
      split: One of `SPLITS`.
      index: Position of the shard in its split.
      count: Number of shards of the split.
      labels: int32[n], the class of each record, in record order.
      rows: int64[n], the row of each record among the source's drawings of its class.
      source_rows: int64[n], the same in the source's original; this is what the record holds.
    """

    split: str
    index: int
    count: int
    labels: np.ndarray
    rows: np.ndarray
    source_rows: np.ndarray


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


def take(
    class_names: Sequence[str], counts: Sequence[int], takes: Sequence[int], *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws rows of every class without replacement.

    What is drawn of a class depends on its name, not on the other classes.

    Args:
      class_names: The classes in label order.
      counts: How many drawings there are of each class.
      takes: How many to draw of each class.
      seed: Decides which.

    Returns:
      labels int32[n] and rows int64[n] of the drawings, in ascending order.
    """
    rows = [
        _draw(name, count, wanted, seed)
        for name, count, wanted in zip(class_names, counts, takes, strict=True)
    ]
    return np.repeat(np.arange(len(takes), dtype=np.int32), takes), np.concatenate(rows)


def drawing_order(name: str, count: int, wanted: int, *, seed: int) -> np.ndarray:
    """All rows of a class, int64[count]: those that `take` takes, then their replacements.

    Args:
      name: The class.
      count: How many drawings there are of it.
      wanted: How many are to be taken.
      seed: Decides the order.
    """
    taken = _draw(name, count, wanted, seed)
    # Taken rows stay ascending, as `take` has them, so that without faults nothing changes.
    others = np.delete(np.arange(count), taken)
    return np.append(taken, _generator(seed, f"replace {name}").permutation(others))


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


def split(
    class_names: Sequence[str], counts: Mapping[str, Sequence[int]], *, seed: int
) -> dict[str, np.ndarray]:
    """Deals the drawings of each class to the splits (scikit-learn).

    This is done class by class: so every split has its exact part of each class, the drawings
    of one class do not depend on the others, and the memory needed is that of the largest class.

    Args:
      class_names: The classes in label order.
      counts: For each split, how many drawings of each class; as from `split_counts`.
      seed: Decides which.

    Returns:
      For each split the indices of its drawings, int64 and ascending, where all drawings are
      numbered class after class.
    """
    from sklearn.model_selection import train_test_split  # takes seconds to import

    members: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    start = 0
    for name, *sizes in zip(class_names, *(counts[split] for split in SPLITS), strict=True):
        train, validation, test = sizes
        state = int(_generator(seed, f"split {name}").integers(2**32))
        rest, test = train_test_split(
            np.arange(start, start + sum(sizes)), test_size=test, random_state=state
        )
        train, validation = train_test_split(rest, test_size=validation, random_state=state)
        for split, chosen in zip(SPLITS, (train, validation, test), strict=True):
            members[split].append(np.sort(chosen))
        start += sum(sizes)
    return {split: np.concatenate(chosen) for split, chosen in members.items()}


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


def plan_shards(
    split: str,
    labels: np.ndarray,
    rows: np.ndarray,
    source_rows: np.ndarray,
    *,
    count: int,
    seed: int,
) -> Iterator[ShardPlan]:
    """Deals a split's drawings to its shards, stratified, in a seeded order.

    The drawings of each class, in random order, are dealt to the shards in turn, as cards are:
    so the shards hold the same number of every class, to within one drawing. The order within
    a shard is a random permutation.

    Args:
      split: One of `SPLITS`.
      labels: int32[n].
      rows: int64[n], the rows among the source's drawings of the class.
      source_rows: int64[n], the same in the source's original.
      count: Number of shards.
      seed: Decides the order.
    """
    # A stable sort by class of a random order: class after class, each in random order. Every
    # count-th of these goes to the same shard.
    shuffled = _generator(seed, f"deal {split}").permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    for index in range(count):
        order = _generator(seed, f"order {split} {index}")
        chosen = order.permutation(by_class[index::count])
        yield ShardPlan(split, index, count, labels[chosen], rows[chosen], source_rows[chosen])


def _draw(name: str, count: int, wanted: int, seed: int) -> np.ndarray:
    return np.sort(_generator(seed, f"take {name}").choice(count, wanted, replace=False))


def _generator(seed: int, purpose: str) -> np.random.Generator:
    """An independent random stream for each purpose."""
    # Not hash(), which differs from process to process.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])
