"""Takes drawings from a source, but none with faults; runs in the worker processes.

The drawings of a class are examined one after the other, in a seeded order, until there are
as many good ones as are wanted. A drawing with a fault is dropped, and so is one that equals,
pixel for pixel, one before it. The order begins with the drawings that would be taken without
a filter, by ascending row: where nothing is dropped, the same are taken; and where all of a
class is wanted, the duplicate with the lowest row stays.

Equal drawings of different classes all stay: neither label is wrong, so dropping one would
skew the classes, and hide from the test that people draw both alike.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from quickdraw_tfrecords.base import progress, tables, workers
from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.sources.files import temporary_directory
from quickdraw_tfrecords.writing import planning
from quickdraw_tfrecords.writing.planning import Selection

_CHUNK_BYTES = 8 * 2**20  # of drawings that a worker holds at once
_LEAST_MORE = 64  # drawings to look at when some are missing


def select(
    source: Source,
    selection: Selection,
    *,
    drop: Sequence[str],
    pool: futures.Executor,
) -> tuple[Selection, dict[str, list[int]]]:
    """Chooses drawings without faults of every class.

    Args:
      source: Where the drawings come from.
      selection: What would be taken with faults.
      drop: What to drop, of `quality.MEANINGS`; a drawing with several faults counts as the
        first.
      pool: Worker processes.

    Returns:
      What is taken: fewer drawings of a class than wanted if it has no more. And for each of
      `drop` how many were dropped of each class.

    Raises:
      DataError: A drawing cannot be read.
    """
    folder = temporary_directory()
    taken: dict[int, tuple[int, dict[str, int]]] = {}
    total = sum(selection.takes)
    with progress.bar("filtering", total=total, unit="drawings") as bar:
        drawing_filter = DrawingFilter(source, tuple(drop), selection.seed, folder)
        wanted = enumerate(selection.takes)
        for label, count, dropped in workers.bounded_map(pool, drawing_filter.save, wanted):
            taken[label] = count, dropped
            bar.update(selection.takes[label])
    by_class = [taken[label] for label in range(len(taken))]
    dropped_counts = {kind: [dropped[kind] for _, dropped in by_class] for kind in drop}
    takes = tuple(count for count, _ in by_class)
    return dataclasses.replace(selection, takes=takes, folder=folder), dropped_counts


def describe(manifest: Manifest) -> str:
    """What was dropped for a data set, of each class and in all, as a table of several lines."""
    kinds, counts = zip(*manifest.request["drop"].items(), strict=True)
    of_class = zip(manifest.class_names, zip(*counts, strict=True), strict=True)
    rows = [(name, dropped) for name, dropped in of_class if any(dropped)]
    rows.append(("in all", tuple(map(sum, counts))))
    cells = [(name, *(f"{count:,}" for count in dropped)) for name, dropped in rows]
    return tables.to_text([("dropped", *kinds), *cells])


@dataclasses.dataclass(frozen=True)
class DrawingFilter:
    """Takes drawings of one class; small enough to be sent along with every task.

    Attributes:
      source: Where the drawings come from.
      drop: As for `select`.
      seed: Decides which are taken.
      folder: Where the rows of each class go, as `Selection` wants them.
    """

    source: Source
    drop: tuple[str, ...]
    seed: int
    folder: Path

    def save(self, wanted_of: tuple[int, int]) -> tuple[int, int, dict[str, int]]:
        """Saves the rows that `take` takes; returns their number in place of them."""
        label, rows, dropped = self.take(wanted_of)
        np.save(self.folder / f"{label}.npy", rows.astype(np.int32))
        return label, len(rows), dropped

    def take(self, wanted_of: tuple[int, int]) -> tuple[int, np.ndarray, dict[str, int]]:
        """Takes drawings of one class, given its label and how many are wanted.

        Returns:
          The label, the rows int64[n] in ascending order, and how many of each kind were
          dropped.
        """
        label, wanted = wanted_of
        name, count = self.source.class_names[label], self.source.counts[label]
        order = planning.drawing_order(name, count, wanted, seed=self.seed)
        ink, prints, more = np.empty(0), np.empty(0, np.uint64), wanted
        while True:
            examined = self._examine(label, order[len(prints) :][:more])
            ink, prints = map(np.append, (ink, prints), examined)
            faults = self._faults(ink, prints, lambda at: self._read(label, order[at]))
            good = np.flatnonzero(faults < 0)[:wanted]
            if len(good) == wanted or len(prints) == count:
                break
            # At least twice as many each time, so that few rounds do, whatever the class is like.
            more = max(_LEAST_MORE, 2 * (wanted - len(good)), len(prints) - wanted)
        end = good[-1] + 1 if len(good) == wanted else count
        dropped = {k: int((faults[:end] == index).sum()) for index, k in enumerate(self.drop)}
        return label, np.sort(order[good]), dropped

    def _examine(self, label: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ink float64[n] and the fingerprints uint64[n] of drawings."""
        parts = math.ceil(len(rows) * self.source.side**2 / _CHUNK_BYTES)
        images = (self._read(label, part) for part in np.array_split(rows, parts))
        pairs = [(quality.ink(some), quality.fingerprints(some)) for some in images]
        ink, prints = map(np.concatenate, zip(*pairs, strict=True))
        return ink, prints

    def _faults(
        self,
        ink: np.ndarray,
        prints: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """What is wrong with each drawing: an index into `drop`, or -1; int8[n]."""
        found = quality.by_ink(ink)
        if "duplicates" in self.drop:
            found["duplicates"] = quality.first_alike(prints, read) != np.arange(len(prints))
        faults = np.full(len(prints), -1, np.int8)
        # Backwards, so that of several faults the first is what remains.
        for index, kind in reversed(list(enumerate(self.drop))):
            faults[found[kind]] = index
        return faults

    def _read(self, label: int, rows: np.ndarray) -> np.ndarray:
        """Drawings of rows in any order, uint8[n, side * side]."""
        ascending = np.argsort(rows)
        images = np.empty((len(rows), self.source.side**2), np.uint8)
        images[ascending] = self.source.read(label, rows[ascending])
        return images
