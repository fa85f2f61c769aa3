"""Shard files: their names, what the manifest says of them, and reading them checked."""

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c, os_reason
from quickdraw_tfrecords.base.stores import Location, Store

_BLOCKS = 8  # that a new shard is checked and streamed in

_NAME = re.compile(r"quickdraw-(?P<split>\w+)\.tfrecord-(?P<index>\d{5})-of-(?P<count>\d{5})")

RESTORE = "restore it from a copy, or convert again with --overwrite"
_MISSING = f"missing, but the manifest lists it; {RESTORE}"


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """What the manifest says of a shard.

    Attributes:
      name: The file's name.
      records: How many records it holds.
      bytes: The file's length.
      prefix_crc32c: CRC32C of the file up to the end of each of its equal blocks. Since a CRC
        can be extended, each block can be checked on its own by starting from the CRC before
        it; and the last is that of the whole file.
      class_counts: How many records of each class, by label.
    """

    name: str
    records: int
    bytes: int
    prefix_crc32c: tuple[int, ...]
    class_counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, matrix: np.ndarray, class_counts: Iterable[int]) -> "ShardInfo":
        """What is to be said of a shard whose bytes are `matrix`, uint8[records, stride]."""
        crcs = prefix_crc32c(matrix)
        return cls(name, len(matrix), matrix.nbytes, crcs, tuple(map(int, class_counts)))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "ShardInfo":
        """The inverse of `dataclasses.asdict`."""
        lists = {name: tuple(fields[name]) for name in ("prefix_crc32c", "class_counts")}
        return cls(**{**fields, **lists})

    @property
    def crc32c(self) -> int:
        """CRC32C of the whole file."""
        return self.prefix_crc32c[-1]

    @functools.cached_property
    def block_bounds(self) -> tuple[int, ...]:
        """The first record of each block, and the one after the last."""
        return _block_bounds(self.records, len(self.prefix_crc32c))


def shard_name(split: str, index: int, count: int) -> str:
    """The name TFDS gives to a shard: `quickdraw-train.tfrecord-00000-of-00064`."""
    return f"quickdraw-{split}.tfrecord-{index:05d}-of-{count:05d}"


def parse_shard_name(name: str) -> tuple[str, int, int] | None:
    """The split, index and count of a shard's name; None if it is not one."""
    match = _NAME.fullmatch(name)
    return (match["split"], int(match["index"]), int(match["count"])) if match else None


def prefix_crc32c(matrix: np.ndarray) -> tuple[int, ...]:
    """CRC32C of uint8[records, stride] up to the end of each block."""
    crcs, crc = [], 0
    for start, stop in itertools.pairwise(_block_bounds(len(matrix), _BLOCKS)):
        crc = crc32c(matrix[start:stop], crc)
        crcs.append(crc)
    return tuple(crcs)


def block_borders(records: int) -> tuple[int, ...]:
    """Where the blocks of a new shard meet: the first record of each but the first."""
    return _block_bounds(records, _BLOCKS)[1:-1]


def _block_bounds(records: int, blocks: int) -> tuple[int, ...]:
    return tuple(records * index // blocks for index in range(blocks + 1))


def require_length(directory: Path, shard: ShardInfo) -> None:
    """Checks that a shard is there and has its length.

    Raises:
      DataError: It is missing, or of another length.
    """
    path = directory / shard.name
    with _named_errors(path):
        _require_length(path, path.stat().st_size, shard)


def require_lengths(store: Store, members: Iterable[ShardInfo]) -> dict[str, str]:
    """Checks that shards are in a store and have their lengths.

    Returns:
      The tag of each object, by name.

    Raises:
      DataError: One is missing, or of another length, or there is no way to them.
    """
    members = list(members)
    found = store.find([shard.name for shard in members])
    for shard in members:
        if shard.name not in found:
            raise DataError(f"{store / shard.name}: {_MISSING}")
        _require_length(store / shard.name, found[shard.name].size, shard)
    return {name: entry.tag for name, entry in found.items()}


def read_shard(
    directory: Location, shard: ShardInfo, *, check_crc: bool = True, tag: str = ""
) -> np.ndarray:
    """Reads all of a shard.

    Args:
      directory: Where it is.
      shard: What it is to be.
      check_crc: Compare its bytes with the manifest; leave it to the caller otherwise.
      tag: That it is to have in a store.

    Returns:
      uint8[records, stride].

    Raises:
      DataError: It is missing, of another length, or (`check_crc`) changed.
    """
    stride = shard.bytes // max(1, shard.records)
    if isinstance(directory, Store):
        matrix = np.frombuffer(directory.read(shard.name, 0, shard.bytes, tag=tag), np.uint8)
        if check_crc and crc32c(matrix) != shard.crc32c:
            raise changed(directory / shard.name)
        return matrix.reshape(-1, stride)
    matrix = np.empty((shard.records, stride), np.uint8)
    ShardFile(directory, shard).read(matrix, check_crc=check_crc)
    return matrix


class ShardFile:
    """A shard opened for reading; it is closed when nothing refers to it anymore.

    Args:
      directory: Where it is.
      shard: What it is to be.
      remedy: What to do if it is damaged.

    Raises:
      DataError: The file is missing, or of another length.
    """

    def __init__(self, directory: Path, shard: ShardInfo, *, remedy: str = RESTORE) -> None:
        self._path, self._shard, self._remedy = directory / shard.name, shard, remedy
        with _named_errors(self._path):
            self._descriptor = os.open(self._path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)
            _require_length(self._path, os.fstat(self._descriptor).st_size, shard)

    def read(self, out: np.ndarray, *, check_crc: bool) -> None:
        """Reads all of it into `out`, contiguous uint8 of as many bytes.

        Raises:
          DataError: It was cut short, or (`check_crc`) changed.
        """
        self._read(0, out)
        if check_crc and crc32c(out) != self._shard.crc32c:
            raise self.changed()

    def records(self, start: int, stop: int, scratch: np.ndarray) -> Iterator[np.ndarray]:
        """Reads records [start, stop), as many at a time as `scratch` holds.

        Args:
          start: The first.
          stop: The one after the last.
          scratch: uint8[some, stride], to read into.

        Yields:
          uint8[n, stride], valid until the next is asked for.

        Raises:
          DataError: The file was cut short.
        """
        for first in range(start, stop, len(scratch)):
            piece = scratch[: stop - first]
            self._read(first * scratch.shape[1], piece)
            yield piece

    def expect(self, start: int, stop: int, stride: int) -> None:
        """Lets the system begin to read records [start, stop), and waits for nothing.

        Linux reads a file ahead, too, of somebody who does not want to wait for it.
        """
        if hasattr(os, "RWF_NOWAIT"):
            unused = np.empty((stop - start) * stride, np.uint8)
            with contextlib.suppress(OSError):
                os.preadv(self._descriptor, [unused.data], start * stride, os.RWF_NOWAIT)

    def checked_block(self, index: int, scratch: np.ndarray) -> Iterator[np.ndarray]:
        """Reads one of its blocks as `records` does, and compares it with the manifest.

        Raises:
          DataError: The file was cut short, or, after the last record, it has changed there.
        """
        start, stop = self._shard.block_bounds[index : index + 2]
        crc = self._shard.prefix_crc32c[index - 1] if index else 0
        for piece in self.records(start, stop, scratch):
            crc = crc32c(piece, crc)
            yield piece
        if crc != self._shard.prefix_crc32c[index]:
            raise self.changed()

    def _read(self, start: int, out: np.ndarray) -> None:
        view = out.reshape(-1).data
        with _named_errors(self._path):
            while view:
                count = os.preadv(self._descriptor, [view], start)
                if not count:
                    raise DataError(
                        f"{self._path}: ended {len(view):,} bytes early; {self._remedy}"
                    )
                view, start = view[count:], start + count

    def changed(self) -> DataError:
        """The error for bytes that differ from what was written."""
        return changed(self._path, self._remedy)


def changed(path: Location, remedy: str = RESTORE) -> DataError:
    """The error for a file or object with other bytes than were written."""
    return DataError(f"{path}: its bytes differ from what was written (CRC32C); {remedy}")


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: {_MISSING}") from None
    except OSError as error:
        raise DataError(f"{path}: {os_reason(error)}") from None


def _require_length(path: Location, size: int, shard: ShardInfo) -> None:
    if size != shard.bytes:
        raise DataError(f"{path}: {size:,} bytes, the manifest says {shard.bytes:,}; {RESTORE}")
