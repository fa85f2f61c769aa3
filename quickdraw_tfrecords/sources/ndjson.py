"""Strokes, one drawing per line: `<class>.ndjson`, simplified or raw, rasterized to any side.

https://github.com/googlecreativelab/quickdraw-dataset#the-raw-moderated-dataset

Opening the source reads all files once, to check every line and to note where each begins.
"""

import dataclasses
import functools
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.bitmaps.polylines import Polylines
from quickdraw_tfrecords.bitmaps.simplification import simplify
from quickdraw_tfrecords.sources.files import find_files, open_unchanged
from quickdraw_tfrecords.sources.indexed import IndexedFile, IndexedSource, index_files

FORMATS = ("simplified", "raw")
LONGEST_LINE_BYTES = 1 << 22  # the longest raw drawings of the game have some 100 kB

_BATCH = 256  # drawings read and drawn at once
_BATCH_BYTES = 1 << 22  # of lines; parsed, they take up to 20 times as much
_BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class NdjsonSource(IndexedSource):
    """A folder of `<class>.ndjson` files. See `Source` for the other attributes and methods.

    Attributes:
      stroke_format: One of `FORMATS`.
      recognized: Whether it holds only the drawings that the game recognized.
    """

    stroke_format: str
    recognized: bool

    @classmethod
    def open(
        cls,
        directory: Path,
        classes: Sequence[str] | None = None,
        *,
        pool: futures.Executor,
        side: int = 28,
        stroke_format: str = "simplified",
        recognized: bool = False,
        max_bad: int = 0,
    ) -> "NdjsonSource":
        """Checks and indexes the files of the wanted classes (all, if None).

        Args:
          directory: Folder of `<class>.ndjson` files.
          classes: Class names.
          pool: Worker processes, which take one file each.
          side: Height and width of the bitmaps to draw.
          stroke_format: One of `FORMATS`; raw drawings are simplified first.
          recognized: Leave out the drawings that the game did not recognize.
          max_bad: How many broken lines, over all files, to skip.

        Raises:
          UsageError: The folder does not exist or holds no such file; a wanted class is
            unknown or listed twice.
          DataError: More lines than `max_bad` are broken; names the first by file and line.
        """
        rasterization.load_cairo()  # fail now, not after reading all files
        available = find_files(directory, ".ndjson")
        chosen = names.select(available, classes)
        index = functools.partial(_index, raw=stroke_format == "raw", recognized=recognized)
        paths = [available[name] for name in chosen]
        files = index_files(index, paths, pool=pool, max_bad=max_bad)
        return cls(chosen, side, files, stroke_format, recognized)

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source.read`."""
        images = np.empty((len(rows), self.side**2), np.uint8)
        offsets, numbers = self.files[label].load("offsets"), self.files[label].load("rows")
        with open_unchanged(self.files[label].path, self.files[label].version) as file:
            lines = (_read_line(file, offset) for offset in offsets[rows].tolist())
            start = 0
            for batch in _batches(lines):
                stop = start + len(batch)
                polylines = self._outline(file.name, batch, numbers[rows[start:stop]])
                images[start:stop] = rasterization.draw(polylines, self.side)
                start = stop
        return images

    def _outline(self, path: str, lines: list[bytes], numbers: NDArray[np.int32]) -> Polylines:
        raw = self.stroke_format == "raw"
        try:
            outlines = rasterization.outline(
                [rasterization.parse(line)["drawing"] for line in lines], raw=raw
            )
        except DataError:
            # All lines were sound when the source was opened, so name the one that is not now.
            for number, verdict in zip(numbers, _judge(lines, raw=raw), strict=True):
                if isinstance(verdict, str):
                    raise DataError(
                        f"{path}: line {number + 1}: {verdict}; the file was changed meanwhile"
                    ) from None
            raise
        return simplify(outlines) if raw else outlines

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`."""
        return {
            "kind": "strokes",
            "side": self.side,
            "stroke_format": self.stroke_format,
            "recognized": self.recognized,
            "files": self.describe_files(),
        }


def _read_line(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.readline(LONGEST_LINE_BYTES)


def _batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Groups lines, of which a long one may take as much memory as many others."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _index(path: Path, index: Path, *, raw: bool, recognized: bool) -> IndexedFile:
    """Notes where the wanted drawings of a file begin, and their line numbers from 0."""
    offsets, lines = array("q"), array("i")
    broken: list[str] = []
    offset = number = 0
    with open_unchanged(path, buffering=_BUFFER_BYTES) as file:
        for batch in _batches(iter(lambda: file.readline(LONGEST_LINE_BYTES), b"")):
            for line, verdict in zip(
                batch, _judge(batch, raw=raw, recognized=recognized), strict=True
            ):
                if verdict is True:
                    offsets.append(offset)
                    lines.append(number)
                elif isinstance(verdict, str):
                    broken.append(f"{path}: line {number + 1}: {verdict}")
                if len(line) == LONGEST_LINE_BYTES:
                    raise DataError(f"{path}: line {number + 1} is not a drawing: it has no end")
                offset, number = offset + len(line), number + 1
        arrays = {"offsets": np.array(offsets), "rows": np.array(lines, np.int32)}
        return IndexedFile.save(file, index, broken, **arrays)


def _judge(lines: list[bytes], *, raw: bool, recognized: bool = False) -> list[bool | str]:
    """For each line whether its drawing is wanted, or what is wrong with it."""
    try:
        records = [rasterization.parse(line) for line in lines]
        rasterization.outline([record["drawing"] for record in records], raw=raw)
        return [not recognized or _is_recognized(record) for record in records]
    except DataError as error:
        if len(lines) == 1:
            # A blank line is no drawing, and no broken one.
            return [False if lines[0].isspace() else str(error)]
        # One of them is broken, and only one line by itself tells which.
        singly = (_judge([line], raw=raw, recognized=recognized) for line in lines)
        return list(itertools.chain.from_iterable(singly))


def _is_recognized(record: dict[str, Any]) -> bool:
    recognized = record.get("recognized")
    if not isinstance(recognized, bool):
        raise DataError("has no true or false 'recognized', which --recognized goes by")
    return recognized
