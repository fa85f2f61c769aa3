"""The first pass of a conversion: every file is read once, and its drawings fill the shards.

A worker reads drawings of a class as they stand in the file, makes them into records, and adds
each to the file that becomes its shard, class after class. A shard fits in memory, where
`shard_writer` puts its records into their order. So a data set of any size is shuffled while each
source file is read front to back, and each shard, too (an external shuffle).

Every record has its position in such a file from the beginning, whoever writes it. So the workers
need not agree on anything, and what a conversion that was killed has written can be told from what
it has not: there the file has zeros, or ends.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.buffers import WorkerMatrix
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.writing.dealing import Deal
from quickdraw_tfrecords.writing.planning import Selection

_READ_BYTES = 4 * 2**20  # of pixels, that are read at once and fit a processor's cache
_WRITE_BYTES = 48 * 2**10  # of records, that should be written to a shard at once
_LEAST_PIECE_BYTES, _LARGEST_PIECE_BYTES = 16 * 2**20, 112 * 2**20  # that a worker holds


class Piece(NamedTuple):
    """What a worker reads at once, of one class.

    Attributes:
      label: The class.
      start: The first of its drawings that are taken.
      stop: The one after the last.
      wanted: bool[shards], which of them lack it.
    """

    label: int
    start: int
    stop: int
    wanted: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many drawings it is."""
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class ShardFiller:
    """Fills the files that become shards.

    Attributes:
      source: Where the drawings come from.
      selection: Which of them are taken.
      deal: Which shard each goes to.
      layout: How they are encoded.
      directory: Where the shards are.
    """

    source: Source
    selection: Selection
    deal: Deal
    layout: RecordLayout
    directory: Path

    def path(self, shard: int) -> Path:
        """The file that becomes a shard."""
        return filling_path(self.directory / self.deal.name(shard))

    def begin(self, shards: Iterable[int]) -> None:
        """Makes the files of shards, where they are not there: whoever fills one must find it."""
        for shard in shards:
            os.close(os.open(self._paths[shard], os.O_WRONLY | os.O_CREAT, 0o666))

    def portions(self, wanted: NDArray[np.bool_], num_workers: int) -> Iterator[list[Piece]]:
        """What has to be read, given bool[classes, shards]; some for each worker."""
        piece_bytes = max(_LEAST_PIECE_BYTES, wanted.shape[1] * _WRITE_BYTES)
        size = max(1, min(piece_bytes, _LARGEST_PIECE_BYTES) // self.layout.stride)
        size = min(size, math.ceil(sum(self.selection.takes) / num_workers))
        portion: list[Piece] = []
        for piece in self._pieces(wanted, size):
            if portion and sum(one.size for one in portion) + piece.size > size:
                yield portion
                portion = []
            portion.append(piece)
        if portion:
            yield portion

    def _pieces(self, wanted: NDArray[np.bool_], size: int) -> Iterator[Piece]:
        for label, shards in enumerate(wanted):
            take = self.selection.takes[label] if shards.any() else 0
            for start in range(0, take, size):
                yield Piece(label, start, min(start + size, take), shards)

    def fill(self, portion: Sequence[Piece]) -> int:
        """Reads drawings, and writes them as records into the files of the shards that lack them.

        Returns:
          How many drawings it has looked at.

        Raises:
          DataError: A drawing cannot be read.
          OSError: A shard cannot be written to.
        """
        for piece in portion:
            self._fill(piece)
        return sum(piece.size for piece in portion)

    def _fill(self, piece: Piece) -> None:
        rows, shards, starts = self._dealt(piece.label)
        members = piece.start + np.flatnonzero(piece.wanted[shards[piece.start : piece.stop]])
        order = np.argsort(shards[members], kind="stable")
        matrix = self._encode(piece.label, rows[members], order)
        counts = np.bincount(shards[members], minlength=len(starts))
        stops = np.cumsum(counts)
        firsts = starts + np.bincount(shards[: piece.start], minlength=len(starts))
        for shard in np.flatnonzero(counts).tolist():
            part = matrix[stops[shard] - counts[shard] : stops[shard]]
            _write_at(self._paths[shard], int(firsts[shard]) * self.layout.stride, part)

    def complete_classes(self, shard: int) -> tuple[int, NDArray[np.bool_]]:
        """The shard, and of which classes its file has all records, and sound; bool[classes]."""
        wanted = self.deal.class_counts(shard)
        content, stride = np.fromfile(self.path(shard), np.uint8), self.layout.stride
        matrix = content[: len(content) // stride * stride].reshape(-1, stride)
        labels = self.layout.labels(matrix)[self.layout.is_sound(matrix)]
        return shard, np.bincount(labels, minlength=len(wanted)) == wanted

    def sum_crcs(self, portion: Sequence[Piece]) -> list[tuple[Piece, int]]:
        """The pieces, each with the sum of the masked CRCs of its records, modulo 2^32.

        Raises:
          DataError: A drawing cannot be read.
        """
        return [(piece, self._sum_crcs(piece)) for piece in portion]

    def _sum_crcs(self, piece: Piece) -> int:
        rows = self._dealt(piece.label)[0][piece.start : piece.stop]
        matrix = self._encode(piece.label, rows, np.arange(len(rows)))
        return int(self.layout.masked_crcs(matrix).sum(dtype=np.uint32))

    def _encode(
        self, label: int, rows: NDArray[np.int64], order: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Records of rows, which are read as they ascend, in another order."""
        matrix = _matrix.take(self.layout, len(rows))
        images = self.layout.images(matrix)
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        size = max(1, _READ_BYTES // self.layout.image.width)
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            images[places[some]] = self.source.read(label, rows[some])
        source_rows = self.source.source_rows(label, rows)
        self.layout.seal(matrix, np.array(label), source_rows[order])
        return matrix

    def _dealt(self, label: int) -> "_Dealt":
        """Where the drawings of a class go; kept until another class is asked for."""
        if label not in self._cache:
            self._cache.clear()
            rows, shards = self.selection.rows(label), self.deal.of_class(label)
            self._cache[label] = _Dealt(rows, shards, self.deal.before(label))
        return self._cache[label]

    @functools.cached_property
    def _cache(self) -> dict[int, "_Dealt"]:
        return {}

    @functools.cached_property
    def _paths(self) -> list[str]:
        return [str(self.path(shard)) for shard in range(self.deal.num_shards)]


class _Dealt(NamedTuple):
    """Where the drawings of a class go.

    Attributes:
      rows: int64[n], the rows that are taken, ascending.
      shards: int32[n], the shard of each.
      starts: int64[shards], where in each shard the records of the class begin.
    """

    rows: NDArray[np.int64]
    shards: NDArray[np.int32]
    starts: NDArray[np.int64]


def filling_path(shard: Path) -> Path:
    """What a shard is called as long as it is being filled."""
    return shard.with_name(f".{shard.name}.filling")


def _write_at(path: str, offset: int, data: NDArray[np.uint8]) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    view = data.reshape(-1).data
    try:
        while view:
            count = os.pwrite(descriptor, view, offset)
            view, offset = view[count:], offset + count
    except OSError as error:
        error.filename = path  # a failed write does not say which file it was
        raise
    finally:
        os.close(descriptor)


_matrix = WorkerMatrix(RecordLayout.blank)  # fillers come to it with every task, and leave
