"""What a contender of the input benchmark is, and what it reads."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from importlib import util
from pathlib import Path
from typing import Any, Literal

import numpy as np

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading.dataset import DatasetInfo

BATCH_SIZE = 1024
SHUFFLE_BUFFER = 16 * BATCH_SIZE  # drawings, for those that shuffle through a buffer
WORKERS = 2  # processes, for those that read with worker processes

Batch = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Split:
    """A training split, as it is and as copies for those that cannot read TFRecords.

    Attributes:
      directory: The TFRecord data set, which TFDS can read as well.
      shards: The split's files there, in order.
      examples: How many drawings it has.
      side: Height and width of a drawing in pixels.
      copies: A folder with `images.npy` (uint8[examples, side * side]), `labels.npy`
        (int32[examples]), both in the order on disk, and a folder for each contender's copy.
      window_mib: The window of our streaming reader.
    """

    directory: Path
    shards: tuple[str, ...]
    examples: int
    side: int
    copies: Path
    window_mib: float

    @classmethod
    def create(cls, info: DatasetInfo, copies: Path, *, window_mib: float) -> "Split":
        """Describes the training split of a data set, and writes `images.npy` and `labels.npy`.

        Raises:
          UsageError: The data set is in an object store.
          DataError: A shard is missing or damaged.
        """
        info.require_manifest()
        if not isinstance(info.directory, Path):
            raise UsageError(
                f"--data_dir={info.directory}: must be a folder, as most contenders read files "
                "only; tools.benchmark_store times data in an object store"
            )
        split_slice, examples = info.split_slice("train"), info.num_examples["train"]
        copies.mkdir(parents=True)
        images = _new_array(copies / "images.npy", np.uint8, (examples, info.side**2))
        labels = _new_array(copies / "labels.npy", np.int32, (examples,))
        split_slice.open_reader().read(split_slice.blocks, (images, labels))
        names = tuple(shard.name for shard in split_slice.shards)
        return cls(info.directory, names, examples, info.side, copies, window_mib)

    @property
    def paths(self) -> list[str]:
        """The split's files."""
        return [str(self.directory / name) for name in self.shards]

    def arrays(self, mode: Literal["r"] | None = "r") -> tuple[np.ndarray, np.ndarray]:
        """Images and labels; memory-mapped, or with mode None in memory."""
        images, labels = (
            np.load(self.copies / f"{name}.npy", mode) for name in ("images", "labels")
        )
        return images, labels

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images and labels in as many equal parts as there are shards."""
        images, labels = self.arrays()
        bounds = np.linspace(0, self.examples, len(self.shards) + 1).astype(int)
        for start, stop in itertools.pairwise(bounds):
            yield images[start:stop], labels[start:stop]


@dataclasses.dataclass(frozen=True)
class Contender:
    """An input pipeline that delivers shuffled batches without end, epoch after epoch.

    Attributes:
      title: What it is called in tables.
      open: Imports and opens what it needs, and returns an iterator over batches of
        `BATCH_SIZE`: images uint8[batch, ...] and integer labels[batch], NumPy or tensors.
        Only the iterator reads, so that reading can be timed apart from importing.
      prepare: Writes its own copy of the split, if it cannot read what is there.
      requires: Packages of the `bench` extra that it needs.
      epoch: Opens what it needs and returns what begins an epoch of a number, where the time
        to its first batch is to be measured.
      shuffles: Whether it does.
    """

    title: str
    open: Callable[[Split], Iterator[Batch]]
    prepare: Callable[[Split], None] | None = None
    requires: tuple[str, ...] = ()
    epoch: Callable[[Split], Callable[[int], Iterable[Batch]]] | None = None
    shuffles: bool = True

    @property
    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.requires if util.find_spec(name) is None]


def _new_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
