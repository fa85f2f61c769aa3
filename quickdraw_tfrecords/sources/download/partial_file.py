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

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import sync_to_disk
from quickdraw_tfrecords.sources.download.provenance import (
    ROW_BYTES,
    Piece,
    Provenance,
    journal_path,
    read_lines,
    read_provenance,
)


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
        return journal_path(self.path)

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
        # Written anew, so that it never grows beyond one line per piece however often we resume.
        temporary = self._journal.with_suffix(".tmp")
        temporary.write_text(
            _line(dataclasses.asdict(self.provenance)) + "".join(map(_line, present.items()))
        )
        os.replace(temporary, self._journal)
        # The full size from the start, as a sparse file: threads then write anywhere in it.
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
        # On disk before the name, or a power failure could leave a complete name on torn bytes.
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
        lines = itertools.islice(read_lines(self._journal), 1, None)
        written = dict(line for line in lines if _is_entry(line))
        verified = {}
        with open(self.part, "rb") as file:
            for piece in self.provenance.pieces():
                file.seek(self._offset(piece))
                crc = google_crc32c.value(file.read(piece.count * ROW_BYTES))
                if written.get(piece.source_row) == crc:
                    verified[piece.source_row] = crc
        return verified


def _line(value: object) -> str:
    return json.dumps(value) + "\n"


def _is_entry(line: Any) -> bool:
    """Whether a line says of a piece, by its first row in the source, which CRC it has."""
    is_pair = isinstance(line, list) and len(line) == 2
    return is_pair and all(type(number) is int for number in line)


def _write_at(descriptor: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
