"""Drawings in files of all kinds, as bitmaps: pictures, `.npy` arrays, `.ndjson` strokes."""

import dataclasses
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import pictures, polylines, rasterization


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
      DataError: The file is no picture, or is damaged, or nothing is on it.
      OSError: It cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with Image.open(file) as image:
                bitmap = pictures.to_bitmap(image, side)
        except UnidentifiedImageError:
            raise DataError(f"{path}: not a picture, and not called .npy or .ndjson") from None
        except Exception as error:  # Pillow lets through whatever its decoders raise
            raise DataError(f"{path}: not a picture that can be read ({error})") from None
    if not bitmap.any():
        raise DataError(f"{path}: is blank, nothing on it differs from its paper")
    return bitmap


def read_bitmaps(path: Path, side: int) -> NDArray[np.uint8]:
    """The bitmaps of a `.npy` file, uint8[n, side, side], mapped and not read.

    The array may be flat, as Google's are, uint8[n, side * side]; be one bitmap,
    uint8[side, side]; or have a last axis of 1.

    Raises:
      DataError: It is no such file, or is damaged.
      OSError: It cannot be opened.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"{path}: not a whole .npy file of bitmaps ({error})") from None
    if array.dtype != np.uint8:
        raise DataError(f"{path}: dtype is {array.dtype}, must be uint8")
    single = (side, side)
    if array.shape != single and array.shape[1:] not in {(side * side,), single, (*single, 1)}:
        raise DataError(
            f"{path}: shape is {array.shape}, must be (drawings, {side * side}) or "
            f"(drawings, {side}, {side}), for the run's drawings are {side} x {side}"
        )
    return array.reshape(-1, side, side)


def read_strokes(path: Path, side: int) -> Iterator[NDArray[np.uint8]]:
    """The drawings of an `.ndjson` file, each as uint8[side, side].

    Raises:
      DataError: A line is no drawing; says which, and what is wrong. Or cairo is missing.
      OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
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
