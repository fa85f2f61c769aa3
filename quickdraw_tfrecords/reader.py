"""The drawings one worker reads, in which order, and reading them checked."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from quickdraw_tfrecords.manifest import Manifest
from quickdraw_tfrecords.records import RecordLayout
from quickdraw_tfrecords.shards import ShardFile, ShardInfo

if TYPE_CHECKING:
    import tensorflow as tf

_MAX_OPEN = 256  # files; many systems allow a process 1,024


@dataclasses.dataclass(frozen=True)
class Share:
    """One worker's share of a split: its drawings [start, stop) of `total` in disk order.

    Shares are equal to within one drawing, however many shards there are.
    """

    total: int
    workers: int
    worker: int

    @classmethod
    def of(cls, total: int, context: "tf.distribute.InputContext | None") -> "Share":
        """The share of the worker that `context` names; the whole split, if None."""
        if context is None:
            return cls(total, workers=1, worker=0)
        return cls(total, context.num_input_pipelines, context.input_pipeline_id)

    @property
    def start(self) -> int:
        """The first drawing."""
        return self.total * self.worker // self.workers

    @property
    def stop(self) -> int:
        """The drawing after the last."""
        return self.total * (self.worker + 1) // self.workers

    def __len__(self) -> int:
        return self.stop - self.start

    def num_steps(self, batch_size: int, *, drop_remainder: bool) -> int:
        """Batches of an epoch, the same for every worker.

        With `drop_remainder` those that the smallest share fills, else those that hold the
        largest.
        """
        if drop_remainder:
            return self.total // self.workers // batch_size
        return -(-self.total // (self.workers * batch_size))


@dataclasses.dataclass(frozen=True)
class Order:
    """Which drawings of an epoch to give, and in which order.

    Attributes:
      start: The first drawing to give, by its place in the epoch.
      stop: The one after the last to give.
      seed: Decides the order, with the epoch; None: the order on disk.
      epoch: The epoch.
    """

    start: int
    stop: int
    seed: int | None
    epoch: int

    def permutation(self, n: int, *, stream: int) -> np.ndarray:
        """int64[n], a pure function of seed, epoch and `stream`, or 0 to n - 1 as on disk."""
        return np.arange(n) if self.seed is None else self.generator(stream).permutation(n)

    def generator(self, stream: int) -> np.random.Generator:
        """Random numbers of their own for each stream of the epoch."""
        return np.random.default_rng((self.seed, self.epoch, stream))


class Window(NamedTuple):
    """Drawings in memory, and which of them come next in what order.

    Attributes:
      matrix: uint8[n, width], a row for each drawing.
      pixels: The columns that are its pixels.
      labels: int32[n].
      order: int64[m].
    """

    matrix: np.ndarray
    pixels: slice
    labels: np.ndarray
    order: np.ndarray


@dataclasses.dataclass(frozen=True)
class Block:
    """Records [start, stop) of a shard, all in its block `index`."""

    shard: ShardInfo
    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class Part:
    """What one worker reads of a split: records [start, stop) in the order on disk.

    Attributes:
      directory: Where the shards are.
      layout: How their records are laid out.
      shards: Those of the split.
      start: The first record.
      stop: The one after the last.
    """

    directory: Path
    layout: RecordLayout
    shards: tuple[ShardInfo, ...]
    start: int
    stop: int

    @classmethod
    def of(cls, directory: Path, manifest: Manifest, split: str, share: Share) -> "Part":
        """A worker's share of a split."""
        return cls(directory, manifest.layout, manifest.splits[split], share.start, share.stop)

    def __len__(self) -> int:
        return self.stop - self.start

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """What to read, in the order on disk; none is empty."""
        return tuple(self._cut_blocks())

    def _cut_blocks(self) -> Iterator[Block]:
        first = 0
        for shard in self.shards:
            for index, (start, stop) in enumerate(itertools.pairwise(shard.block_bounds)):
                begin, end = max(start, self.start - first), min(stop, self.stop - first)
                if begin < end:
                    yield Block(shard, index, begin, end)
            first += shard.records


class BlockReader:
    """Reads blocks of a part, keeping open the files it used last.

    The first touch of a block in a process checks its CRC32C against the manifest.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._open = functools.lru_cache(_MAX_OPEN)(functools.partial(ShardFile, part.directory))

    def read(self, block: Block, out: np.ndarray) -> None:
        """Reads a block into `out`, uint8[len(block), stride].

        Raises:
          DataError: The shard is missing, of another length, or changed; names it.
        """
        start, stop = block.shard.block_bounds[block.index : block.index + 2]
        whole = len(block) == stop - start
        matrix = out if whole else np.empty((stop - start, out.shape[1]), np.uint8)
        key = (self._part.directory, block.shard.name, block.shard.crc32c, block.index)
        self._open(block.shard).read_block(block.index, matrix, check_crc=key not in _checked)
        _checked.add(key)
        if not whole:
            out[:] = matrix[block.start - start : block.stop - start]

    def read_all(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Reads the whole part, in the order on disk.

        Args:
          images: Takes the pixels, uint8[len(part), side * side].
          labels: Takes the class indices, int32[len(part)].

        Raises:
          DataError: As `read`.
        """
        layout, blocks = self._part.layout, self._part.blocks
        scratch = np.empty((max(map(len, blocks), default=0), layout.stride), np.uint8)
        start = 0
        for block in blocks:
            matrix, rows = scratch[: len(block)], slice(start, start + len(block))
            self.read(block, matrix)
            images[rows], labels[rows] = layout.images(matrix), layout.labels(matrix)
            start = rows.stop


_checked: set[tuple[Path, str, int, int]] = set()
