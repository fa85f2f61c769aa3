"""Drawings in files of all kinds, as bitmaps: pictures, `.npy` arrays, `.ndjson` strokes."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.bitmaps import pictures, polylines, rasterization
from quickdraw_tfrecords.sources.files import FileVersion, open_unchanged
from quickdraw_tfrecords.sources.ndjson import LONGEST_LINE_BYTES
from quickdraw_tfrecords.sources.npy_header import read_header

_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A drawing in a file.

    Attributes:
      file: The file's name as it was given.
      row: Which drawing of the file, from 0; None if a file of its kind has but one.
      bitmap: uint8[side, side], ink high on 0.
    """

    file: str
    row: int | None
    bitmap: NDArray[np.uint8]


def read_all(files: Iterable[str], side: int, warn: Callable[[str], None]) -> Iterator[Drawing]:
    """The drawings of files, as bitmaps.

    Args:
      files: Their names.
      side: Height and width of a bitmap in pixels.
      warn: Called with a line for each file that cannot be read to its end.
    """
    for file in files:
        try:
            yield from _read_file(file, side)
        except DataError as error:
            warn(str(error))
        except OSError as error:
            warn(cli.describe_os_error(error))


def _read_file(file: str, side: int) -> Iterator[Drawing]:
    path = Path(file)
    if path.suffix not in _READERS_OF_ROWS:
        yield Drawing(file, None, read_picture(path, side))
        return
    for row, bitmap in enumerate(_READERS_OF_ROWS[path.suffix](path, side)):
        yield Drawing(file, row, bitmap)


def read_picture(path: Path, side: int) -> NDArray[np.uint8]:
    """The drawing on a picture, uint8[side, side].

    Raises:
      DataError: The file is no PNG or JPEG picture, or is damaged, or nothing is on it.
      OSError: It cannot be opened.
    """
    with open_regular(path) as file:
        try:
            bitmap = pictures.read_picture(file, side)
        except DataError as error:
            raise DataError(
                f"{path}: not a picture that can be read ({error}), and not called .npy or .ndjson"
            ) from None
    if not bitmap.any():
        raise DataError(f"{path}: is blank, nothing on it differs from its paper")
    return bitmap


def read_bitmaps(path: Path, side: int) -> Iterator[NDArray[np.uint8]]:
    """The bitmaps of a `.npy` file, each uint8[side, side], read some at a time.

    The array may be flat, as Google's are, uint8[n, side * side]; be one bitmap,
    uint8[side, side]; or have a last axis of 1.

    Raises:
      DataError: It is no such file, is damaged, or changes while it is read.
      OSError: It cannot be opened.
    """
    with open_unchanged(path) as file:
        version, header = FileVersion.of(file), read_header(str(path), file)
    if header.dtype.hasobject:
        raise DataError(f"{path}: not a whole .npy file of bitmaps: it holds objects")
    if header.dtype != np.uint8:
        raise DataError(f"{path}: dtype is {header.dtype}, must be uint8")
    shape, single = header.shape, (side, side)
    if shape != single and shape[1:] not in {(side * side,), single, (*single, 1)}:
        raise DataError(
            f"{path}: shape is {shape}, must be (drawings, {side * side}) or "
            f"(drawings, {side}, {side}), for the run's drawings are {side} x {side}"
        )
    if header.fortran_order:
        raise DataError(f"{path}: is in Fortran order, must be in C order")
    promised = header.size_bytes + math.prod(shape)
    if version.size_bytes != promised:
        raise DataError(
            f"{path}: not a whole .npy file of bitmaps: {version.size_bytes:,} bytes, its header "
            f"promises {promised:,}"
        )
    return _read_rows(path, version, header.size_bytes, side)


def _read_rows(
    path: Path, version: FileVersion, offset: int, side: int
) -> Iterator[NDArray[np.uint8]]:
    # Not memory-mapped: to touch what was cut off meanwhile would kill the process (SIGBUS).
    with open_unchanged(path, version) as file:
        file.seek(offset)
        while data := file.read(_ROWS_AT_ONCE * side * side):
            whole = len(data) - len(data) % (side * side)
            yield from np.frombuffer(data[:whole], np.uint8).reshape(-1, side, side)


def read_strokes(path: Path, side: int) -> Iterator[NDArray[np.uint8]]:
    """The drawings of an `.ndjson` file, each as uint8[side, side].

    Raises:
      DataError: A line is no drawing; says which, and what is wrong. Or cairo is missing.
      OSError: The file cannot be read.
    """
    with open_regular(path) as file:
        lines = iter(lambda: file.readline(LONGEST_LINE_BYTES), b"")
        for number, line in enumerate(lines, 1):
            try:
                if len(line) == LONGEST_LINE_BYTES:
                    raise DataError("it is longer than any drawing's")
                drawing = rasterization.parse(line)["drawing"]
                polylines.check(drawing)
                is_raw = len(drawing[0]) == 3  # x, y and the time, which simplified ones lack
                bitmaps = rasterization.rasterize([drawing], side, raw=is_raw)
            except DataError as error:
                raise DataError(f"{path}: line {number}: {error}") from None
            yield bitmaps.reshape(side, side)


_READERS_OF_ROWS: dict[str, Callable[[Path, int], Iterable[NDArray[np.uint8]]]] = {
    ".npy": read_bitmaps,
    ".ndjson": read_strokes,
}
