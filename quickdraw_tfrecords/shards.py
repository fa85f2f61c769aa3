"""Shard files: their names, writing them whole or not at all, and reading them checked."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from quickdraw_tfrecords.errors import DataError

_CHUNK_BYTES = 128 * 1024

_NAME = re.compile(r"quickdraw-(?P<split>\w+)\.tfrecord-(?P<index>\d{5})-of-(?P<count>\d{5})")


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """What the manifest says of a shard.

    Attributes:
      name: The file's name.
      records: How many records it holds.
      bytes: The file's length.
      crc32c: CRC32C of the whole file.
      class_counts: How many records of each class, by label.
    """

    name: str
    records: int
    bytes: int
    crc32c: int
    class_counts: tuple[int, ...]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "ShardInfo":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**fields, "class_counts": tuple(fields["class_counts"])})


def shard_name(split: str, index: int, count: int) -> str:
    """The name TFDS gives to a shard: `quickdraw-train.tfrecord-00000-of-00064`."""
    return f"quickdraw-{split}.tfrecord-{index:05d}-of-{count:05d}"


def parse_shard_name(name: str) -> tuple[str, int, int] | None:
    """The split, index and count of a shard's name; None if it is not one."""
    match = _NAME.fullmatch(name)
    return match and (match["split"], int(match["index"]), int(match["count"]))


@contextlib.contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name only when it is whole.

    Args:
      path: The file.
      sync: Also put it on disk before it appears, so that it survives a power failure.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            sync_to_disk(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)  # a write that fails does not say of what
        raise


def write_in_chunks(file: BinaryIO, data: np.ndarray) -> None:
    """Writes contiguous bytes in pieces that a processor's cache holds.

    The page cache takes many small writes several times faster than one of many megabytes.
    """
    view = memoryview(data).cast("B")
    for start in range(0, len(view), _CHUNK_BYTES):
        file.write(view[start : start + _CHUNK_BYTES])


def sync_to_disk(path: Path) -> None:
    """Puts a file's bytes, or a directory's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def crc32c(data: np.ndarray | bytes) -> int:
    """CRC32C of contiguous bytes."""
    return google_crc32c.value(data)


def require_length(directory: Path, shard: ShardInfo) -> None:
    """Checks that a shard is there and has its length.

    Raises:
      DataError: It is missing, or of another length.
    """
    path = directory / shard.name
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: missing, but the manifest lists it; {_RESTORE}") from None
    if length != shard.bytes:
        raise DataError(f"{path}: {length:,} bytes, the manifest says {shard.bytes:,}; {_RESTORE}")


def read_shard(directory: Path, shard: ShardInfo, *, out: np.ndarray, check_crc: bool) -> None:
    """Reads a shard into `out`, uint8[shard.bytes].

    Raises:
      DataError: The file is missing, of another length, or (`check_crc`) changed.
    """
    require_length(directory, shard)
    path = directory / shard.name
    try:
        with open(path, "rb", buffering=0) as file:
            read_exactly(file, out)
    except OSError as error:
        raise DataError(f"{path}: {os.strerror(error.errno)}") from None
    if check_crc and crc32c(out) != shard.crc32c:
        raise DataError(f"{path}: its bytes differ from what was written (CRC32C); {_RESTORE}")


def read_exactly(file: BinaryIO, out: np.ndarray) -> None:
    """Fills uint8[n] from the file's position; a read may return less than asked for.

    Raises:
      DataError: The file ends before.
    """
    view = memoryview(out)
    while view:
        count = file.readinto(view)
        if not count:
            raise DataError(f"{file.name}: ended {len(view):,} bytes early; {_RESTORE}")
        view = view[count:]


_RESTORE = "restore it from a copy, or convert again with --overwrite"
