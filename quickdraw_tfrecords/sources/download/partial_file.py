"""A class file while it is being fetched: `<class>.npy.part` and a journal.

The journal, `<class>.rows.jsonl`, says in its first line which rows of which file are wanted,
and in each further line that a piece of them has been written, and its CRC32C. A piece counts as
fetched only if the bytes on disk have that CRC. So neither file needs to reach the disk before
the other, and nothing that a crash leaves behind is taken on trust.

Once all is there, the file becomes `<class>.npy`. The journal stays beside it and says where its
drawings come from.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import open_regular, sync_to_disk
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
        first = next(_read_lines(_journal_path(path)))
        runs = tuple((start, stop) for start, stop in first["runs"])
        provenance = Provenance(RemoteFile(**first["source"]), first["drawings"], runs)
    except (StopIteration, TypeError, KeyError, ValueError):
        return None
    return provenance if provenance.is_sound() else None


@dataclasses.dataclass(frozen=True)
class PartialFile:
    """A class file being fetched. Threads may write different pieces at the same time.

    Attributes:
      path: `<class>.npy`, which appears when all rows are there.
      provenance: Which rows these are.
      source_header: The bytes of the source file's `.npy` header.
    """

    path: Path
    provenance: Provenance
    source_header: bytes

    @functools.cached_property
    def part(self) -> Path:
        """The file until it is complete."""
        return self.path.with_name(f"{self.path.name}.part")

    @functools.cached_property
    def _journal(self) -> Path:
        return _journal_path(self.path)

    @functools.cached_property
    def header(self) -> bytes:
        """The bytes of the `.npy` header.

        With all rows taken it is the source's own, so that the file equals the source.
        """
        count = self.provenance.count
        if count == self.provenance.drawings:
            return self.source_header
        form = {"descr": "|u1", "fortran_order": False, "shape": (count, ROW_BYTES)}
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, form)
        return header.getvalue()

    @property
    def present_bytes(self) -> int:
        """How much of the file's rows is there at most; what there is is not checked."""
        if not self.part.exists():
            return 0
        allocated = self.part.stat().st_blocks * 512  # the part has its full size from the start
        return min(allocated, self.provenance.count * ROW_BYTES)

    def resume(self) -> list[Piece]:
        """Prepares the files, and returns the pieces still to be written, in order.

        Keeps nothing of another version of the source file, nor of other rows of it.
        """
        present = self._verified() if read_provenance(self.path) == self.provenance else {}
        temporary = self._journal.with_suffix(".tmp")
        temporary.write_text(
            _line(dataclasses.asdict(self.provenance)) + "".join(map(_line, present.items()))
        )
        os.replace(temporary, self._journal)
        with open(self.part, "ab") as file:
            file.truncate(len(self.header) + self.provenance.count * ROW_BYTES)
        with open(self.part, "r+b") as file:
            file.write(self.header)
        return [piece for piece in self.provenance.pieces() if piece.source_row not in present]

    @contextlib.contextmanager
    def writer(self) -> Iterator[Callable[[Piece, bytes], None]]:
        """A function that writes a piece, uint8[piece.count, 784], and journals it.

        Raises:
          OSError: The disk is full or cannot be written to.
        """
        with (
            open(self.part, "r+b", buffering=0) as part,
            open(self._journal, "ab", buffering=0) as journal,
        ):

            def write(piece: Piece, data: bytes) -> None:
                try:
                    _write_at(part.fileno(), self._offset(piece), data)
                    journal.write(_line([piece.source_row, google_crc32c.value(data)]).encode())
                except OSError as error:
                    error.filename = self.part  # the error of a full disk names no file
                    raise

            yield write

    def publish(self, sha256: str | None) -> None:
        """Gives the file its final name; all pieces must have been written.

        Raises:
          DataError: It does not have the given SHA-256; it has been deleted.
        """
        if sha256 is not None:
            with open(self.part, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                self.part.unlink()
                raise DataError(
                    f"{self.provenance.source.url}: SHA-256 is {found}, must be {sha256}; what "
                    "came was deleted: run the same command again, or name another --base_url"
                )
        for path in (self.part, self._journal):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        os.replace(self.part, self.path)
        sync_to_disk(self.path.parent)

    def _offset(self, piece: Piece) -> int:
        return len(self.header) + piece.row * ROW_BYTES

    def _verified(self) -> dict[int, int]:
        """The CRC of each piece that is in place, by its first row in the source."""
        if not self.part.exists():
            return {}
        lines = itertools.islice(_read_lines(self._journal), 1, None)
        written = dict(line for line in lines if _is_entry(line))
        verified = {}
        with open(self.part, "rb") as file:
            for piece in self.provenance.pieces():
                file.seek(self._offset(piece))
                crc = google_crc32c.value(file.read(piece.count * ROW_BYTES))
                if written.get(piece.source_row) == crc:
                    verified[piece.source_row] = crc
        return verified


def _journal_path(path: Path) -> Path:
    return path.with_suffix(".rows.jsonl")


def _line(value: object) -> str:
    return json.dumps(value) + "\n"


def _read_lines(path: Path) -> Iterator[Any]:
    """The journal's lines, except those that a crash has torn."""
    if path.exists():
        with open_regular(path) as file:
            while line := file.readline(_LONGEST_LINE_BYTES):
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                yield value


def _is_entry(line: Any) -> bool:
    """Whether a line says of a piece, by its first row in the source, which CRC it has."""
    is_pair = isinstance(line, list) and len(line) == 2
    return is_pair and all(type(number) is int for number in line)


def _write_at(descriptor: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
