"""Every drawing of a data set at a glance: what it is, where it is, what it looks like."""

import dataclasses
import functools
from typing import Any

import numpy as np

from quickdraw_tfrecords.base import progress
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.reading import blocks
from quickdraw_tfrecords.reading.remote_shards import open_reader

_COLUMNS = {"labels": np.int32, "source_rows": np.int64, "ink": np.float64, "prints": np.uint64}


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All drawings of a data set, split after split, each in the order on disk.

    It takes 28 bytes per drawing; the drawings themselves stay on disk.

    Attributes:
      directory: Where the shards are.
      manifest: What is in them.
      labels: int32[n], the class of each drawing.
      source_rows: int64[n], its row in the source.
      ink: float64[n], as from `quality.ink`.
      prints: uint64[n], as from `quality.fingerprints`.
    """

    directory: Location
    manifest: Manifest
    labels: np.ndarray
    source_rows: np.ndarray
    ink: np.ndarray
    prints: np.ndarray

    @classmethod
    def read(cls, directory: Location, manifest: Manifest) -> "Catalogue":
        """Reads every shard once, and checks it.

        Raises:
          DataError: A shard is missing or damaged; names it.
        """
        members = manifest.shards
        total = sum(shard.records for shard in members)
        columns = {name: np.empty(total, dtype) for name, dtype in _COLUMNS.items()}
        start = 0
        with progress.bar("reading", total=total, unit="drawings") as bar:
            for shard in members:
                rows = slice(start, start + shard.records)
                for name, values in _describe(directory, manifest, shard).items():
                    columns[name][rows] = values
                start = rows.stop
                bar.update(shard.records)
        return cls(directory, manifest, **columns)

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def splits(self) -> np.ndarray:
        """The split of each drawing, as an index; int8[n]."""
        return np.repeat(np.arange(len(self._sizes), dtype=np.int8), self._sizes)

    @functools.cached_property
    def positions(self) -> np.ndarray:
        """The place of each drawing in its split, int64[n]."""
        return np.concatenate([np.arange(size) for size in self._sizes])

    @property
    def _sizes(self) -> list[int]:
        return [sum(s.records for s in members) for members in self.manifest.splits.values()]

    def entry(self, index: int) -> dict[str, Any]:
        """A drawing as JSON values: class, split, position, source_row and ink."""
        return {
            "class": self.manifest.class_names[self.labels[index]],
            "split": list(self.manifest.splits)[self.splits[index]],
            "position": int(self.positions[index]),
            "source_row": int(self.source_rows[index]),
            "ink": round(float(self.ink[index]), 4),
        }

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Reads some drawings, uint8[m, side, side].

        Args:
          indices: int64[m], ascending.
        """
        layout, members = self.manifest.layout, self.manifest.shards
        reader = open_reader(self.directory, layout, members, blocks.ReadState())
        found = blocks.records_at(reader, members, indices)
        images = [layout.images(records) for records in found]
        return np.concatenate(images).reshape(-1, layout.side, layout.side)


def _describe(directory: Location, manifest: Manifest, shard: ShardInfo) -> dict[str, np.ndarray]:
    """The columns of a shard's drawings."""
    matrix = shards.read_shard(directory, shard)
    images = manifest.layout.images(matrix)
    return {
        "labels": manifest.layout.labels(matrix),
        "source_rows": manifest.layout.source_rows(matrix),
        "ink": quality.ink(images),
        "prints": quality.fingerprints(images),
    }
