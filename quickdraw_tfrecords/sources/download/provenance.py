"""Which of Google's drawings a fetched file holds, and the journal beside it that says so."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.sources.download.http_ranges import RemoteFile

Runs = tuple[tuple[int, int], ...]

ROW_BYTES = 28 * 28
MAX_DRAWINGS = 10_000_000  # of a class; Google's largest has 340,029
_PIECE_ROWS = 512  # 0.4 MB: what a crash or a reset can cost each connection
_LONGEST_LINE_BYTES = 1 << 16  # of a journal


@dataclasses.dataclass(frozen=True)
class Piece:
    """Consecutive rows that are fetched, written and checked together.

    Attributes:
      source_row: The first row's number in the source file.
      row: The first row's number in the fetched file.
      count: The number of rows.
    """

    source_row: int
    row: int
    count: int


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Which rows of which file a fetched file holds.

    Attributes:
      source: The file that the rows come from.
      drawings: How many rows it has, uint8[784] each.
      runs: The [start, stop) of the rows taken: ascending, without overlap.
    """

    source: RemoteFile
    drawings: int
    runs: Runs

    @property
    def count(self) -> int:
        """The number of rows taken."""
        return sum(stop - start for start, stop in self.runs)

    def is_sound(self) -> bool:
        """Whether the numbers are what they should be, and not just JSON."""
        numbers = [0, *itertools.chain(*self.runs), self.drawings]
        return (
            all(type(number) is int for number in [*numbers, self.source.size_bytes])
            and numbers == sorted(numbers)
            and all(start < stop for start, stop in self.runs)
            and self.drawings <= MAX_DRAWINGS
        )

    def rows(self) -> NDArray[np.int64]:
        """Where each row of the fetched file was in the source file, int64[count]."""
        return np.concatenate([np.arange(*run, dtype=np.int64) for run in self.runs])

    def pieces(self) -> Iterator[Piece]:
        """Cuts the runs into pieces, the same every time."""
        row = 0
        for start, stop in self.runs:
            for source_row in range(start, stop, _PIECE_ROWS):
                count = min(_PIECE_ROWS, stop - source_row)
                yield Piece(source_row, row, count)
                row += count


def read_provenance(path: Path) -> Provenance | None:
    """The provenance of the fetched file `path`; None if it is not known to be fetched."""
    try:
        first = next(read_lines(journal_path(path)))
        runs = tuple((start, stop) for start, stop in first["runs"])
        provenance = Provenance(RemoteFile(**first["source"]), first["drawings"], runs)
    except (StopIteration, TypeError, KeyError, ValueError):
        return None
    return provenance if provenance.is_sound() else None


def journal_path(path: Path) -> Path:
    """The journal of the fetched file `path`."""
    return path.with_suffix(".rows.jsonl")


def read_lines(path: Path) -> Iterator[Any]:
    """The journal's lines, except those that a crash has torn."""
    if path.exists():
        with open_regular(path) as file:
            while line := file.readline(_LONGEST_LINE_BYTES):
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                yield value
