"""The `.npz` files that the trainer writes, read without trusting them.

A file may have been damaged on disk, or come from a stranger. Nothing in it makes the reader take
more memory than the file has bytes: members are stored and never compressed, as `np.savez` writes
them, and an array is as long as its member.
"""

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.sources.npy_header import read_header


def read(path: Path, only: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file by name; they cannot be written to.

    Args:
      path: The file.
      only: Name of the only array that is wanted.

    Raises:
      DataError: It is damaged, or not a file of the trainer's; says why, not which.
      OSError: It cannot be opened.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _require_sound(file, archive.infolist())
                # Reads members whole, which is when zipfile checks their CRC; np.load does not.
                return {
                    name.removesuffix(".npy"): _to_array(archive.read(name))
                    for name in archive.namelist()
                    if only in (None, name.removesuffix(".npy"))
                }
        except DataError:
            raise
        except Exception as error:  # zipfile does not wrap what its parts raise
            raise DataError(str(error) or type(error).__name__) from None


def _require_sound(file: BinaryIO, members: list[zipfile.ZipInfo]) -> None:
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise DataError("an array is listed twice")
    # zipfile does not compare: a damaged length in its directory swallows the members after it.
    file_bytes = file.seek(-12, os.SEEK_END) + 12
    listed = int.from_bytes(file.read(2), "little")
    if len(members) != listed:
        raise DataError(f"{len(members)} arrays are listed of {listed}")
    for member in members:
        is_stored = member.compress_type == zipfile.ZIP_STORED
        if not is_stored or member.file_size != member.compress_size:
            raise DataError(f"{member.filename!r:.60} is compressed")
    if sum(member.file_size for member in members) > file_bytes:
        raise DataError("its arrays have more bytes than it has itself")


def _to_array(data: bytes) -> NDArray[Any]:
    """The array of a `.npy` file, over the same memory."""
    header = read_header("an array", io.BytesIO(data))
    if header.dtype.hasobject or not header.dtype.itemsize:
        raise DataError(f"an array has the dtype {header.dtype!s:.60}")
    if header.size_bytes + math.prod(header.shape) * header.dtype.itemsize != len(data):
        raise DataError(f"an array of shape {header.shape!s:.60} has {len(data):,} bytes")
    flat = np.frombuffer(data, header.dtype, offset=header.size_bytes)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")
